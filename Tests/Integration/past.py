"""What the outside knew of a cluster at any moment, and a cluster that was restored to one: for the runs that try recovery."""
import hashlib, time
from lab import *

CLIENTS = 8
# What each message of a shard is to its recipient.
STATES = ("SELECT json_object_agg(m.id, r.state) FROM ledger.message m JOIN ledger.recipient r ON r.message_id = m.id "
          "WHERE m.reports_on IS NULL")


# Folders of restored clusters that were started.
STARTED = []


@contextlib.contextmanager
def restored_clusters():
    """Ends every restored cluster that was started, also when a check fails."""
    try:
        yield
    finally:
        for started in STARTED:
            subprocess.run([binary(), "local", "down", "--dir", started], capture_output=True, timeout=60)


def moment(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def newest(z):
    """The newest point that can be restored of a cluster of one shard; 1970 while there is none."""
    points = json.loads(z.zegel("recovery", "list", "--json").stdout or "[{}]")
    return seconds((points[0].get("window") or {"to": "1970-01-01T00:00:00Z"})["to"])


def lose(z):
    """Everything of the cluster ends at once."""
    supervisor = z.pids("supervisor")[0]
    victims = tree(supervisor)
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(os.path.exists(f"/proc/{p}") for p in victims), 10)


class Outside:
    """What the outside knows, each with the time of the clock."""

    def __init__(self, z, sink, rng, rate, client=Client):
        self.z, self.sink, self.rng, self.lock, self.pace, self.client = z, sink, rng, threading.Lock(), CLIENTS / rate, client
        self.begun, self.answered, self.names, self.got, self.seen = {}, {}, {}, {}, {}
        self.next, self.ending, self.cursor, self.read = 0, threading.Event(), "", []

    def load(self):
        def work(index):
            client = self.client(self.z, index)
            while not self.ending.is_set():
                with self.lock:
                    number, self.next = self.next, self.next + 1
                    content = message(number, self.rng, 1500)
                # A third is not taken before later.
                recipient = f"later{number}@bar.test" if number % 3 == 0 else f"u{number}@bar.test"
                began = time.time()
                self.begun[number] = began
                with contextlib.suppress(Exception):
                    client.give_up = 3
                    identity = client.send("a@demo.test", [recipient], content)
                    if identity:
                        self.answered[number], self.names[number] = time.time(), identity
                self.ending.wait(max(0, self.pace - (time.time() - began)))

        def read():
            while not self.ending.is_set():
                with contextlib.suppress(Exception):
                    page = self.z.get(f"/v1/events?limit=1000&after={urllib.parse.quote(self.cursor)}")
                    now = time.time()
                    for event in page["events"]:
                        self.seen.setdefault(event["id"], (now, event))
                        self.read.append(event)
                    self.cursor = page["next"]
                self.ending.wait(0.1)

        self.threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(CLIENTS)] + [threading.Thread(target=read, daemon=True)]
        for thread in self.threads:
            thread.start()

    def end(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(20)


def digest(folder):
    """Every file below a folder, by its content."""
    files = {}
    for at, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(at, name), "rb") as f:
                files[os.path.relpath(os.path.join(at, name), folder)] = hashlib.sha256(f.read()).hexdigest()
    return files


class Restored:
    """A restored cluster, as `Cluster` knows one."""
    get, events, sql, smtp, context, pids, e, zegel, last_logs = (
        Cluster.get, Cluster.events, Cluster.sql, Cluster.smtp, Cluster.context, Cluster.pids, Cluster.e, Cluster.zegel, Cluster.last_logs)

    def __init__(self, path):
        self.dir, self.bin = path, binary()

    def broken_off(self, rng, times, *command):
        """A command that is killed at random moments, and then given to its end."""
        for _ in range(times):
            process = subprocess.Popen([self.bin, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(rng.uniform(0.1, 1.6))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        return subprocess.run([self.bin, *command], capture_output=True, text=True, timeout=200)

    def at_every_step(self, *command):
        """A command that is killed at the first thing that it says, given again and killed at the second, and so on, until it comes to its
        end. Returns that, and how often it was killed."""
        kills = 0
        while True:
            with tempfile.TemporaryFile("w+") as out:
                process = subprocess.Popen([self.bin, *command], stdout=out, stderr=subprocess.PIPE, text=True)
                timer = threading.Timer(200, process.kill)
                timer.start()
                said = []
                for line in process.stderr:
                    said.append(line)
                    if len(said) > kills:
                        process.kill()
                        break
                rest = process.stderr.read()
                process.wait(30)
                timer.cancel()
                if len(said) <= kills:
                    out.seek(0)
                    return subprocess.CompletedProcess(command, process.returncode, out.read(), "".join(said) + rest), kills
            kills += 1

    def inside(self, text, data="postgres"):
        """One answer of a restored shard, whose server runs for this question alone."""
        data, sockets = f"{self.dir}/{data}", f"{self.dir}/ask"
        os.makedirs(sockets, exist_ok=True)
        shutil.chown(sockets, "postgres")
        command = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", POSTGRES, "-D", data, "-k", sockets]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return until(lambda: ask(f"host={sockets} port=5432 dbname=zegel user=postgres", text), 30, 0.1)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)


POSTGRES = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True).stdout.strip() or "/usr/lib/postgresql/15/bin"
POSTGRES += "/postgres"
if not os.path.exists(POSTGRES):
    POSTGRES = "/usr/lib/postgresql/15/bin/postgres"


def compare(report, what, rows, at, outside):
    """What is there, of each shard, is what the outside knew at that moment: nothing that was answered is missing, nothing is there that was not begun."""
    there = {}
    for shard in rows:
        there.update(json.loads(shard or "{}"))
    number = {identity: n for n, identity in outside.names.items()}
    answered = {i for n, i in outside.names.items() if outside.answered[n] < at}
    early = [i for i in there if i in number and outside.begun[number[i]] > at]
    report.check(f"{what}: all that was answered by then is there", answered <= set(there), str(sorted(answered - set(there))[:3]))
    report.check(f"{what}: nothing is there that came later", not early, str(early[:3]))
    seen = {e["message_id"] for when, e in outside.seen.values() if e["kind"] == "delivered" and when < at}
    wrong = [i for i in seen if there.get(i) != "delivered"]
    report.check(f"{what}: what was seen delivered by then is", not wrong, str(wrong[:3]))
    wrong = [i for i, state in there.items() if state == "delivered" and i in number and outside.got.get(number[i], at + 1) > at]
    report.check(f"{what}: and nothing else is", not wrong, str(wrong[:3]))
    report.figure("rows", f"{len(there)} messages, {sum(s == 'delivered' for s in there.values())} delivered, "
                  f"{sum(s == 'open' for s in there.values())} open")


def goes_on(report, what, restored, cursor, read, got, doubles=None):
    """A reader of the old feed goes on with its cursor and misses no event; no double that came is without its mark, and there are at most
    so many."""
    both = {e["id"]: e for e in read + restored.events(cursor)}
    whole = {e["id"] for e in restored.events()}
    report.check(f"{what}: the reader of the old feed misses no event", whole <= set(both), str(len(whole - set(both))))
    # What comes again has its id, and is the same; nothing comes again under another.
    first = {e["id"]: e for e in read}
    changed = [e["id"] for e in restored.events() if e["id"] in first and any(e[k] != first[e["id"]][k] for k in ("kind", "message_id", "at", "reason_code"))]
    report.check(f"{what}: what comes again is what it was", not changed, str(changed[:3]))
    told = collections.Counter((e["message_id"], e["kind"], e["at"], e["recipient"]) for e in both.values() if e["kind"] != "assessed")
    report.check(f"{what}: and comes under its own id", not [k for k, count in told.items() if count > 1])
    copies = Copies(got, list(both.values()))
    report.figure("deliveries", f"{len(copies.doubles)} came twice, {sum(copies.marked.values())} are marked")
    report.check(f"{what}: no double without its mark", not copies.unmarked, str(copies.unmarked[:3]))
    if doubles is not None:
        report.check(f"{what}: and none but of what was in doubt", len(copies.doubles) <= doubles, f"{len(copies.doubles)} doubles, {doubles} in doubt")
    return both


def carry_on(report, what, restored, outside, sink, complete_until, patience=120):
    """The restored cluster delivers what was not: all of it, and no double without its mark."""
    STARTED.append(restored.dir)
    up = subprocess.run([restored.bin, "local", "up", "--dir", restored.dir, "--detach", "--workers", "1", "--edges", "1"], capture_output=True, text=True,
                        timeout=patience)
    report.check(f"{what}: it comes up", up.returncode == 0, up.stderr[-1500:])
    known = {n for n, when in outside.answered.items() if when < complete_until}
    wanted = {f"<m-{n}@demo.test>" for n in known}
    arrived = lambda: {message_id(c) for _, _, c in sink.got}
    count = lambda which: sum(int(restored.sql(f"SELECT count(*) FROM ledger.delivery WHERE {which}", shard))
                              for shard in range(len(restored.e["regions"][0]["postgres"])))
    report.check(f"{what}: no delivery is left open", bool(until(lambda: count("state <> 'held'") == 0, 90, 0.3)))
    held = count("state = 'held'")
    missing = wanted - arrived()
    report.check(f"{what}: what was undelivered arrives, or is held", len(missing) <= held,
                 f"{len(missing)} have not, {held} are held: {sorted(missing)[:3]}")
    return held
