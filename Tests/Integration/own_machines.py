#!/usr/bin/env python3
"""A ledger on machines of its own: from a plan to three regions that run, started from the generated files alone.

Three addresses stand for the machines of three regions; etcd, Patroni, guards and keepers are started as the units of systemd say,
each as the user that its unit names (no systemd runs here: it only looks the units over). Shown: the plan's mistakes are refused
with their line; twice the same plan, the same bytes; a file that was changed stays; members prove themselves by certificate and may do no more than stream and rewind; nothing goes in
clear; checksums are on and the quorum is strict; commands with --config see the cluster, hand a shard over, drain a region; a
member that is lost is named with what mends it, another takes over, and the shard comes home when it is back.
"""
import argparse, json, os, pwd, re, shlex, signal, socket, subprocess, sys, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from lab import *

parser = argparse.ArgumentParser(description=__doc__)
parser.parse_args()
REGIONS = {"ams": "127.0.0.141", "fra": "127.0.0.142", "ber": "127.0.0.143"}
PYTHON = os.path.dirname(sys.executable)
BINDIR = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True).stdout.strip() or "/usr/lib/postgresql/15/bin"
if os.geteuid():
    sys.exit("this run starts programs as several users: run it as root")


def free(address, count):
    """Ports that nobody has on an address."""
    found = []
    while len(found) < count:
        with socket.socket() as s:
            s.bind((address, 0))
            if s.getsockname()[1] not in found:
                found.append(s.getsockname()[1])
    return found


def users():
    """Who runs etcd and PostgreSQL: their own users where they are."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    return ("etcd" if "etcd" in names else "postgres"), "postgres"


class Machines:
    """The processes of the units, by (region, unit)."""

    def __init__(self, out):
        self.out, self.running = out, {}

    def unit(self, region, name):
        with open(f"{self.out}/machines/{region}/systemd/{name}.service") as f:
            lines = dict(line.split("=", 1) for line in f.read().splitlines() if re.match(r"(User|ExecStart)=", line))
        return lines["User"], shlex.split(lines["ExecStart"])

    def start(self, region, name):
        user, command = self.unit(region, name)
        who = pwd.getpwnam(user)
        log = open(f"{self.out}/../logs/{region}-{name}.log", "ab")
        self.running[region, name] = subprocess.Popen(
            command, cwd="/", user=who.pw_uid, group=who.pw_gid, extra_groups=[], umask=0o077, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
            env={"PATH": f"{PYTHON}:/usr/sbin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/", "SWIFT_BACKTRACE": "enable=no"})

    def postmaster(self, region, shard):
        try:
            with open(f"{self.out}/../data/{region}/{shard}/data/postmaster.pid") as f:
                pid = int(f.readline())
            # The file outlives its server: only a process that works in that folder counts.
            return pid if os.path.samefile(f"/proc/{pid}/cwd", f"{self.out}/../data/{region}/{shard}/data") else None
        except (OSError, ValueError):
            return None

    def kill(self, region):
        """All of a region at once, as the loss of its machine would."""
        victims = [p.pid for (r, _), p in self.running.items() if r == region and p.poll() is None]
        for shard in "ab":
            master = self.postmaster(region, shard)
            if master:
                with contextlib.suppress(OSError):
                    with open(f"/proc/{master}/task/{master}/children") as f:
                        victims += [int(pid) for pid in f.read().split()]
                victims.append(master)
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for key in [key for key in self.running if key[0] == region]:
            self.running.pop(key).wait()

    def end(self):
        """Patronis first: they stop their PostgreSQLs in order while their voters are there."""
        for kind in ("zegel-keeper", "zegel-guard", "zegel-patroni", "zegel-etcd"):
            chosen = [p for (_, name), p in self.running.items() if name.startswith(kind)]
            for process in chosen:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            for process in chosen:
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        for region in REGIONS:
            for shard in "ab":
                master = self.postmaster(region, shard)
                if master:
                    os.kill(master, signal.SIGQUIT)

    def logs(self):
        for name in sorted(os.listdir(f"{self.out}/../logs")):
            with open(f"{self.out}/../logs/{name}", errors="replace") as f:
                print(f"--- {name}\n" + "".join(f.readlines()[-12:])[-2500:])


def plan(path):
    etcd_user, user = users()
    lines = ["# Three regions on three addresses of one machine.", "shards:", "  a: {home: ams}", "  b: {home: fra}", "regions:"]
    for name, address in REGIONS.items():
        ports = free(address, 6)
        lines += [f"  {name}:", f"    address: {address}", f"    files: {path}/out/machines/{name}",
                  f"    data: {path}/data/{name}", f"    sockets: {path}/run/{name}",
                  f"    etcd: {{client: {ports[0]}, peer: {ports[1]}}}", "    shards:",
                  f"      a: {{port: {ports[2]}, rest: {ports[3]}}}", f"      b: {{port: {ports[4]}, rest: {ports[5]}}}"]
    lines += ["defaults:", f"  programs: {BINDIR}", f"  patroni: {PYTHON}/patroni", f"  zegel: {binary()}",
              f"  etcd_user: {etcd_user}", f"  user: {user}", "networks: {operators: 127.0.0.0/8}"]
    return "\n".join(lines) + "\n"


def digest(folder):
    return subprocess.run("find . -type f | sort | xargs sha256sum", shell=True, cwd=folder, capture_output=True, text=True).stdout


with folder() as path:
    report = Report("own machines: three regions from a plan")
    out = f"{path}/out"
    for name in ("logs", "run"):
        os.makedirs(f"{path}/{name}", exist_ok=True)

    def zegel(*command, timeout=90, config=True):
        words = [binary(), *command] + (["--config", f"{out}/operator/cluster.yaml"] if config else [])
        return subprocess.run(words, capture_output=True, text=True, timeout=timeout,
                              env={k: v for k, v in os.environ.items() if k != "ZEGEL_DIR"})

    def init(text, *more):
        with open(f"{path}/regions.yaml", "w") as f:
            f.write(text)
        return zegel("region", "init", "--plan", f"{path}/regions.yaml", "--into", out, *more, config=False)

    def said(text, old, new):
        """What init answers to the plan with one thing changed."""
        assert old in text
        changed = text.replace(old, new, 1)
        line = next(n for n, (a, b) in enumerate(zip(text.splitlines(), changed.splitlines()), 1) if a != b)
        answer = init(changed)
        return answer.returncode == 78 and f"regions.yaml:{line}: " in answer.stderr, answer.stderr

    # --- The plan.
    text = plan(path)
    for old, new in (("127.0.0.142", "127.0.0.141"), ("{home: fra}", "{home: par}"), ("    data:", "    date:"),
                     ("127.0.0.143", "ber.example")):
        held, words = said(text, old, new)
        report.check(f"a plan with {new.strip()} is refused with its line", held, words)
    two = init("shards: {a: {home: ams}}\nregions:\n  ams: {address: 127.0.0.141}\n  fra: {address: 127.0.0.142}\n")
    report.check("two regions without a witness are refused, with the way out", two.returncode == 78 and "add witness" in two.stderr,
                 two.stderr)
    first = init(text)
    report.check("a plan becomes files", first.returncode == 0, first.stderr)
    before = digest(out)
    report.check("the same plan, the same bytes", init(text).returncode == 0 and digest(out) == before)
    mine = f"{out}/machines/ber/systemd/zegel-keeper.service"
    with open(mine, "a") as f:
        f.write("# mine\n")
    kept = init(text)
    report.check("a file that somebody changed stays, and it is said", kept.returncode == 1 and "zegel-keeper.service.new" in kept.stderr
                 and open(mine).read().endswith("# mine\n") and os.path.exists(mine + ".new"), kept.stderr)
    report.check("--force writes it anew", init(text, "--force").returncode == 0 and digest(out) == before)
    units = [f"{out}/machines/{r}/systemd/{u}" for r in REGIONS for u in os.listdir(f"{out}/machines/{r}/systemd") if u.endswith(".service")]
    if shutil.which("systemd-analyze"):
        verified = subprocess.run(["systemd-analyze", "verify", *[u for u in units if "/ams/" in u]], capture_output=True, text=True)
        report.check("systemd takes the units", verified.returncode == 0, verified.stderr)
        shut = [subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=20", u], capture_output=True).returncode
                for u in units]
        report.check("and finds each shut in (exposure of 2.0 at most)", not any(shut), str(shut))

    # --- On each machine, as README.md says.
    for region in REGIONS:
        made = subprocess.run(["systemd-tmpfiles", "--create", f"{out}/machines/{region}/systemd/zegel.conf"], capture_output=True, text=True)
        report.check(f"{region}: folders and owners", made.returncode == 0, made.stderr)
    z = Machines(out)
    report.on_failure = z.logs
    try:
        status = lambda: json.loads(zegel("shard", "status", "--json").stdout or "[]")
        leaders = lambda: {s["name"]: s.get("leader") for s in status()}
        began = time.monotonic()
        for region in REGIONS:
            z.start(region, "zegel-etcd")
        for shard, home in (("a", "ams"), ("b", "fra")):
            z.start(home, f"zegel-patroni-{shard}")
            z.start(home, f"zegel-guard-{shard}")
        led = until(lambda: leaders() == {"a": "ams", "b": "fra"}, 60, 0.5)
        report.check("each shard is led from home", bool(led), str(status()))
        for region in REGIONS:
            for shard, home in (("a", "ams"), ("b", "fra")):
                if region != home:
                    z.start(region, f"zegel-patroni-{shard}")
                    z.start(region, f"zegel-guard-{shard}")
        made = zegel("shard", "init")
        report.check("zegel shard init makes the databases", made.returncode == 0 and made.stdout.count("made") == 2, made.stderr)
        again = zegel("shard", "init")
        report.check("and does no harm when repeated", again.returncode == 0 and again.stdout.count("is there") == 2, again.stderr)
        migrated = zegel("migrate")
        report.check("zegel migrate finds them up to date", migrated.stdout.count("up to date") == 2, migrated.stdout + migrated.stderr)
        for region in REGIONS:
            z.start(region, "zegel-keeper")
        fine = until(lambda: zegel("shard", "status").returncode == 0, 60, 0.5)
        report.check("zegel shard status --config: no trouble", bool(fine), zegel("shard", "status").stdout)
        report.figure("from nothing to three regions and two shards", f"{time.monotonic() - began:.0f} s")

        # --- What the members let in.
        place = {(s["name"], m["region"]): (m["host"], m["port"]) for s in status() for m in s["members"]}
        secret = lambda role: open(f"{out}/secrets/{role}.password").read().strip()

        def psql(region, shard, role, sql, database="zegel", tls="verify-full", member=None, password=None, replication=None):
            host, port = place[shard, region]
            words = f"host={host} port={port} dbname={database} user={role} sslmode={tls} connect_timeout=5"
            if tls == "verify-full":
                words += f" sslrootcert={out}/operator/ca.pem"
            if member:
                own = f"{out}/machines/{member}/postgres/member-{member}"
                words += f" sslcert={own}.pem sslkey={own}.key"
            else:
                words += " sslcert=/none sslkey=/none"
            if replication:
                words += " replication=true"
            return subprocess.run(["psql", "-X", "-A", "-t", "-d", words, "-c", sql], capture_output=True, text=True, timeout=30,
                                  env={"PATH": os.environ["PATH"], "PGPASSWORD": password or ""})

        def ask(region, shard, sql, role="postgres", database="zegel"):
            return psql(region, shard, role, sql, database, password=secret(role))

        clear = psql("ams", "a", "postgres", "SELECT 1", tls="disable", password=secret("postgres"))
        report.check("nothing is said in clear", clear.returncode != 0 and "pg_hba" in clear.stderr, clear.stderr)
        own = psql("ams", "a", "zegel_replication", "IDENTIFY_SYSTEM", member="fra", replication=True)
        report.check("a member may stream, by its certificate", own.returncode == 0, own.stderr)
        bare = psql("ams", "a", "zegel_replication", "IDENTIFY_SYSTEM", replication=True, password="x")
        report.check("without one it is refused", bare.returncode != 0 and "certificate" in bare.stderr, bare.stderr)
        for role in ("zegel_replication", "zegel_rewind"):
            read = psql("ams", "a", role, "SELECT count(*) FROM ledger.message", member="fra")
            report.check(f"{role} reads no table: not let into the database", read.returncode != 0 and "rejects" in read.stderr,
                         read.stderr)
        rights = ask("ams", "a", "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication FROM pg_roles "
                     "WHERE rolname IN ('zegel_replication', 'zegel_rewind') ORDER BY 1").stdout.split()
        report.check("of the two one may replicate, and nothing else is granted",
                     rights == ["zegel_replication|f|f|f|f|t", "zegel_rewind|f|f|f|f|f"], str(rights))
        tables = ask("ams", "a", "SELECT count(*) FROM pg_class c, (VALUES ('zegel_replication'), ('zegel_rewind')) r(n) WHERE "
                     "c.relnamespace::regnamespace::text IN ('ledger', 'control') AND c.relkind IN ('r', 'p') AND "
                     "has_table_privilege(n, c.oid, 'SELECT, INSERT, UPDATE, DELETE')").stdout.strip()
        report.check("neither has a right on any table", tables == "0", tables)
        nodes = [ask("ber", "a", "SELECT 1", role).stdout.strip() for role in ("zegel_edge", "zegel_worker", "zegel_api", "zegel_admin")]
        report.check("the nodes' roles log in with the passwords that were made", nodes == ["1"] * 4, str(nodes))
        wrong = psql("ber", "a", "zegel_edge", "SELECT 1", password="wrong")
        report.check("and with no others", wrong.returncode != 0 and "password" in wrong.stderr, wrong.stderr)

        wanted = {"data_checksums": "on", "ssl": "on", "fsync": "on", "max_slot_wal_keep_size": "8GB", "wal_log_hints": "on"}
        shows = "SELECT " + " || ' ' || ".join(f"current_setting('{name}')" for name in wanted)
        values = {f"{shard} in {region}": ask(region, shard, shows).stdout.split() for (shard, region) in sorted(place)}
        report.check("every member: checksums, TLS, fsync, bounded slots",
                     len(values) == 6 and all(value == list(wanted.values()) for value in values.values()), str(values))
        names = ask("ams", "a", "SHOW synchronous_standby_names").stdout.strip()
        report.check("a commit waits for another region", re.fullmatch(r"ANY 1 \((ber|fra),(ber|fra)\)", names.replace('"', "")) is not None, names)
        rest = {(s["name"], m["region"]): m["url"] for s in status() for m in s["members"]}

        def curl(url, *more):
            words = ["curl", "-sS", "--max-time", "10", "--cacert", f"{out}/operator/ca.pem", *more, url]
            return subprocess.run(words, capture_output=True, text=True)

        shared = json.loads(curl(rest["a", "ams"] + "/config").stdout)
        report.check("the quorum is strict in what the members share",
                     (shared["synchronous_mode"], shared["synchronous_mode_strict"]) == ("quorum", True), str(shared))
        change = curl(rest["a", "ams"] + "/config", "-X", "PATCH", "-d", '{"ttl": 60}', "-o", "/dev/null", "-w", "%{http_code}")
        report.check("Patroni is changed by nobody without a certificate", change.stdout == "403", change.stdout + change.stderr)
        with open(f"{path}/regions.yaml") as f:
            client = re.search(r"etcd: \{client: (\d+)", f.read()).group(1)
        bare = curl(f"https://127.0.0.141:{client}/health")
        shown = curl(f"https://127.0.0.141:{client}/health", "--cert", f"{out}/operator/operator.pem", "--key", f"{out}/operator/operator.key")
        report.check("etcd speaks to nobody without a certificate", bare.returncode != 0 and not bare.stdout and '"true"' in shown.stdout,
                     bare.stdout + shown.stdout + shown.stderr)

        # --- Planned changes.
        def write(shard, number):
            """A row on whoever leads, by the operator's own connection text."""
            with open(f"{out}/operator/cluster.yaml") as f:
                dsns = re.search(r'^shard.dsns: "(.*)"$', f.read(), re.M).group(1)
            dsn = dict(part.split("=", 1) for part in dsns.split(";"))[shard]
            return subprocess.run(["psql", "-X", "-A", "-t", "-d", dsn + " connect_timeout=3", "-c",
                                   "CREATE TABLE IF NOT EXISTS public.seen (n int)", "-c",
                                   f"INSERT INTO public.seen VALUES ({number})"], capture_output=True, text=True, timeout=30)

        rows = lambda region, shard: ask(region, shard, "SELECT string_agg(n::text, ',' ORDER BY n) FROM public.seen").stdout.strip()
        report.check("a row is committed with the quorum", write("a", 1).returncode == 0)
        began = time.monotonic()
        moved = zegel("shard", "switchover", "a", "--to", "ber", "--yes")
        report.check("a shard is handed over", moved.returncode == 0 and leaders()["a"] == "ber", moved.stderr)
        report.figure("switchover", f"{time.monotonic() - began:.1f} s")
        refused = zegel("shard", "switchover", "a", "--to", "ber", "--yes")
        report.check("to who leads already it is refused", refused.returncode != 0 and "already" in refused.stderr, refused.stderr)
        # Patroni names a leader a moment before PostgreSQL takes writes.
        tries = []
        until(lambda: tries.append(write("a", 2)) or tries[-1].returncode == 0, 15, 0.3)
        report.check("the new leader has the row and takes the next", rows("ber", "a") == "1,2", rows("ber", "a") + tries[-1].stderr)
        drained = zegel("region", "drain", "fra", "--yes")
        shown = zegel("region", "status")
        report.check("a drained region leads nothing, and status says so", drained.returncode == 0 and leaders()["b"] != "fra"
                     and re.search(r"fra .*leads -.*drained", shown.stdout) is not None, drained.stderr + shown.stdout)
        trouble = zegel("shard", "status", "b")
        report.check("its shard is away, with the command that ends it",
                     trouble.returncode == 1 and "region undrain fra --config" in trouble.stdout, trouble.stdout)
        drained_at = time.monotonic()
        if leaders()["b"] != "ams":
            zegel("shard", "switchover", "b", "--to", "ams", "--yes")

        # --- A machine is lost.
        lost = time.monotonic()
        z.kill("ber")
        other = until(lambda: leaders()["a"] in ("ams", "fra"), 40, 0.3)
        report.check("ber lost, which led a: another region leads it", bool(other), str(status()))
        report.figure("takeover", f"{time.monotonic() - lost:.0f} s")
        named = zegel("shard", "status", "a")
        report.check("the member that is away is named, with what starts it", named.returncode == 1
                     and "in ber: systemctl start zegel-patroni-a" in named.stdout, named.stdout)
        until(lambda: tries.append(write("a", 3)) or tries[-1].returncode == 0, 15, 0.3)
        survivor = leaders()["a"]
        report.check("no committed row is lost, and the next is taken", rows(survivor, "a") == "1,2,3",
                     rows(survivor, "a") + tries[-1].stderr)
        for unit in ("zegel-etcd", "zegel-patroni-a", "zegel-patroni-b", "zegel-guard-a", "zegel-guard-b", "zegel-keeper"):
            z.start("ber", unit)
        # The keeper waits for 20 s of steadiness and looks every five.
        until(lambda: time.monotonic() - drained_at > 27, 30, 0.2)
        report.check("the keeper leaves alone what was drained away", leaders()["b"] == "ams", str(leaders()))
        undrained = zegel("region", "undrain", "fra")
        report.check("undrain is told", undrained.returncode == 0 and "go back" in undrained.stderr, undrained.stderr)
        well = until(lambda: zegel("shard", "status").returncode == 0, 90, 1)
        report.check("ber is back and follows, and keepers brought every shard home", bool(well), zegel("shard", "status").stdout)
        same = until(lambda: {rows(region, "a") for region in REGIONS} == {"1,2,3"}, 10, 0.5)
        report.check("every member holds the same rows", bool(same), str({region: rows(region, "a") for region in REGIONS}))
        report.figure("lost until all is well", f"{time.monotonic() - lost:.0f} s")
        # --- The page's commands, as they stand there.
        for command, _ in documented("docs/regions.md"):
            if "--config" not in command:
                continue
            if "switchover" in command or "drain" in command:
                until(lambda: zegel("shard", "status").returncode == 0, 90, 1)
            words = shlex.split(command.replace("zegel-regions", out))
            done = subprocess.run([binary(), *words[1:]], capture_output=True, text=True, timeout=90)
            report.check(f"docs: {command}", done.returncode in ([0, 1] if "status" in words else [0]), done.stdout + done.stderr)
        failed = [key for key, process in z.running.items() if process.poll() is not None]
        report.check("nothing that was started has ended", not failed, str(failed))
    finally:
        z.end()
    ended = until(lambda: not any(z.postmaster(region, shard) for region in REGIONS for shard in "ab"), 10)
    report.check("all ended", bool(ended))
print(f"{report.count} passed, 0 failed")
