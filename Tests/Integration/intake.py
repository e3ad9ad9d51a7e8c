#!/usr/bin/env python3
"""How long intake pauses when a region is lost, and at a planned switchover; and how soon what was accepted a moment before the loss
leaves from elsewhere. At default settings: three regions, three shards, clients that have the edges of two regions.

Shown: every client gets its 250; what was accepted before the loss leaves from elsewhere; at a switchover no client repeats anything;
nothing is lost, and what came twice is marked. The times are printed, and with --bounds held against theirs: while a region is lost 3 s
in which the clients together get no 250, or one of them none for its own; 45 s until what was accepted before the loss, and whose final
dot was not yet under way, has left; at a switchover 1 s of intake and 5 s of the shard itself.

    intake.py [--switchovers N] [--bounds] [--seed S]

Skipped, saying so, where no network namespace may be made.
"""
import argparse, os, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from lab import *
import sites

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--switchovers", type=int, default=2)
parser.add_argument("--bounds", action="store_true", help="fail where a time passes its bound: for a machine that does nothing else")
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
sites.enter("intake")
CONNECTIONS = 12


class Stream:
    """Clients of two regions' edges, one message after the other each, until they are told to end."""

    def __init__(self, z, rng, first, pause=0.05):
        self.z, self.rng, self.next, self.pause = z, rng, first, pause
        self.lock, self.ending = threading.Lock(), threading.Event()
        # number, id, begun, answered, repeats, region
        self.answered = []
        self.unanswered = []
        self.threads = [threading.Thread(target=self.work, args=(i,), daemon=True) for i in range(CONNECTIONS)]
        for thread in self.threads:
            thread.start()

    def work(self, index):
        client = Roaming(self.z, index)
        client.regions = client.regions[:2]
        while not self.ending.is_set():
            with self.lock:
                number, self.next = self.next, self.next + 1
                content = message(number, self.rng)
            begun, before = time.monotonic(), client.repeats
            identity = client.send("a@demo.test", ["b@bar.test"], content)
            with self.lock:
                if identity:
                    region = self.z.e["regions"][(client.at - 1) % 2]["name"]
                    self.answered.append((number, identity, begun, time.monotonic(), client.repeats - before, region))
                else:
                    self.unanswered.append(number)
            self.ending.wait(self.pause)
        client.quit()

    def end(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(150)

    def pause_of_all(self, after, before, region=None):
        """The longest time between two 250s, whoever got them; or those of one region's edges."""
        times = [after] + sorted(a[3] for a in self.answered if after < a[3] < before and region in (None, a[5])) + [before]
        return max(later - earlier for earlier, later in zip(times, times[1:]))

    def pauses_of_each(self, after, before):
        return ", ".join(f"{r['name']}'s edges {self.pause_of_all(after, before, r['name']):.2f} s" for r in self.z.e["regions"][:2])

    def longest_of_one(self, after, before):
        """The longest that a client waited for a 250, from the beginning of its message."""
        return max((a[3] - a[2] for a in self.answered if a[3] > after and a[2] < before), default=0.0)


class Probe:
    """One row after the other is made durable in a shard, by whichever member leads it: the shard's own pause."""

    def __init__(self, z, shard):
        import psycopg, yaml
        hosts, ports = [], []
        for region in z.e["regions"]:
            with open(f"{z.dir}/regions/{region['name']}/{shard}/patroni.yaml") as f:
                settings = yaml.safe_load(f)["postgresql"]
            hosts.append(settings["parameters"]["unix_socket_directories"])
            ports.append(settings["listen"].rsplit(":", 1)[1])
        way = (f"host={','.join(hosts)} port={','.join(ports)} dbname=zegel user=postgres connect_timeout=2 "
               f"password={settings['authentication']['superuser']['password']} target_session_attrs=read-write")
        self.times, self.ending = [], threading.Event()

        def work():
            connection = None
            while not self.ending.is_set():
                try:
                    if connection is None:
                        connection = psycopg.connect(way, autocommit=True)
                    connection.execute("SELECT pg_logical_emit_message(true, 'probe', '')")
                    self.times.append(time.monotonic())
                except psycopg.Error:
                    with contextlib.suppress(Exception):
                        connection.close()
                    connection = None
                self.ending.wait(0.01)

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def end(self):
        self.ending.set()
        self.thread.join(20)

    def pause(self, after, before):
        times = [after] + [t for t in self.times if after < t < before] + [before]
        return max(later - earlier for earlier, later in zip(times, times[1:]))


def fate(z, all_sites, ids):
    """What has become of some messages, for whoever looks for the cause."""
    some = ",".join(f"'{i}'" for i in sorted(ids)[:5])
    texts = ("SELECT message_id, kind, at, reason_code FROM ledger.event WHERE message_id IN ({})",
             "SELECT now(), message_id, state, due, attempts, worker, lane FROM ledger.delivery WHERE message_id IN ({})",
             "SELECT * FROM ledger.dot_in_flight", "SELECT now(), * FROM ledger.worker_heartbeat")
    return "\n".join(str(sites.answers(z, all_sites, 1, text.format(some))) for text in texts)


def bound(what, seconds, limit):
    """A time that is held against its bound where that is asked for."""
    if arguments.bounds:
        report.check(f"{what}: {limit} s at most", seconds <= limit, f"{seconds:.1f} s")


with folder() as path:
    report = Report("intake over three regions, at default settings")
    rng = seed_from(arguments)
    stage = sites.Stage(path)
    all_sites, sink = stage.sites, stage.sink
    # Until the loss the recipient greets nobody: what was claimed is not yet under way, so that none is in doubt.
    greets = threading.Event()

    async def wait_for_the_loss(sink, _):
        while not greets.is_set():
            await asyncio.sleep(0.02)

    sink.on_connect = wait_for_the_loss
    # When each message came first.
    came = {}

    def note(sink, content):
        came.setdefault(message_id(content), time.monotonic())

    sink.on_dot = note
    settings = stage.settings
    with Cluster(path, settings, stage.regions, patience=200) as z:
        report.on_failure = lambda: z.last_logs(25)
        report.check("the cluster is whole", z.whole(), z.zegel("shard", "status").stdout)

        # A region is lost.
        stream = Stream(z, rng, 0)
        until(lambda: len(stream.answered) > 50, 30)
        time.sleep(rng.uniform(2, 4))  # the moment is random
        at = time.monotonic()
        killed = z.zegel("local", "kill", "--region", "r1")
        lost_at = time.monotonic()
        report.check("r1 is lost", killed.returncode == 0, killed.stderr)
        greets.set()
        before = {f"<m-{a[0]}@demo.test>" for a in list(stream.answered) if a[3] < at}
        until(lambda: before <= came.keys(), 150, 0.2)
        missing = before - came.keys()
        gone = max([came.get(name, time.monotonic()) for name in before]) - lost_at
        fates = fate(z, all_sites, {a[1] for a in list(stream.answered) if f"<m-{a[0]}@demo.test>" in missing}) if missing else ""
        until(lambda: time.monotonic() - lost_at > 35, 40, 0.2)
        over = time.monotonic()
        pause, longest = stream.pause_of_all(at, over), stream.longest_of_one(at, over)
        stream.end()
        repeats = sum(a[4] for a in stream.answered)
        report.figure("while r1 was lost", f"longest pause of intake {pause:.2f} s, longest wait of one client {longest:.2f} s, "
                      f"{len([a for a in stream.answered if a[3] > at])} messages in {over - at:.0f} s, {repeats} repeats")
        report.figure(f"{len(before)} messages accepted before the loss", f"had left {gone:.1f} s after it"
                      + (f", but for {len(missing)}:\n{fates}" if missing else ""))
        bound("intake pauses", pause, 3)
        bound("the longest wait of a client", longest, 3)
        report.check("what was accepted before the loss leaves from elsewhere", not missing, f"{len(missing)} have not left")
        bound("until what was accepted before the loss had left", gone, 45)
        report.check("every client got its 250", not stream.unanswered, str(stream.unanswered[:5]))
        streams = [stream]
        back = z.zegel("local", "start", "--region", "r1")
        report.check("r1 comes back", back.returncode == 0, back.stderr[-500:])

        # Planned changes.
        for number in range(arguments.switchovers):
            report.check("the cluster is whole before a switchover", z.whole(), z.zegel("shard", "status").stdout)
            shard = "abc"[number % 2]
            home, other = ("r1", "r2") if shard == "a" else ("r2", "r1")
            stream, probe = Stream(z, rng, stream.next), Probe(z, shard)
            streams.append(stream)
            until(lambda: len(stream.answered) > 100 and len(probe.times) > 20, 30)
            at = time.monotonic()
            change = z.zegel("shard", "switchover", shard, "--to", other, "--yes")
            report.check(f"shard {shard} goes from {home} to {other}", change.returncode == 0, change.stderr)
            time.sleep(6)  # what comes after belongs to it
            over = time.monotonic()
            own, pause, longest = probe.pause(at, over), stream.pause_of_all(at, over), stream.longest_of_one(at, over)
            stream.end()
            probe.end()
            report.figure(f"switchover of shard {shard}", f"longest pause of intake {pause:.2f} s, longest wait of one client "
                          f"{longest:.2f} s, the shard's own pause {own:.2f} s; {stream.pauses_of_each(at, over)}")
            report.check("no client repeats anything, and each gets its 250",
                         not stream.unanswered and not [a for a in stream.answered if a[4]],
                         str([a for a in stream.answered if a[4]][:5]))
            bound("intake pauses", pause, 1)
            bound("the shard pauses", own, 5)

        # A region is emptied of leaders, and filled again.
        report.check("the cluster is whole before a drain", z.whole(), z.zegel("shard", "status").stdout)
        stream = Stream(z, rng, stream.next)
        streams.append(stream)
        until(lambda: len(stream.answered) > 100, 30)
        at = time.monotonic()
        drained = z.zegel("region", "drain", "r1", "--yes")
        report.check("r1 is drained", drained.returncode == 0, drained.stderr)
        undrained = z.zegel("region", "undrain", "r1")
        report.check("its leaders come home", undrained.returncode == 0 and z.whole(), z.zegel("shard", "status").stdout)
        over = time.monotonic()
        pause, longest = stream.pause_of_all(at, over), stream.longest_of_one(at, over)
        stream.end()
        report.figure("drained and home again", f"longest pause of intake {pause:.2f} s, longest wait of one client {longest:.2f} s")
        report.check("no client repeats anything, and each gets its 250",
                     not stream.unanswered and not [a for a in stream.answered if a[4]], str([a for a in stream.answered if a[4]][:5]))
        bound("intake pauses", pause, 1)

        answered = {f"<m-{a[0]}@demo.test>": a for s in streams for a in s.answered}
        until(lambda: set(answered) <= came.keys(), 120, 0.5)
        missing = set(answered) - came.keys()
        report.check(f"0 of {len(answered)} lost", not missing, str(sorted(missing)[:5]))
        copies = Copies(sink.got, z.events())
        report.figure("doubles", f"{len(copies.doubles)}, all marked")
        report.check("no double without its mark", not copies.unmarked,
                     str([(n, copies.count[n], answered.get(n)) for n in copies.unmarked[:5]]))
print(f"{report.count} passed, 0 failed")
