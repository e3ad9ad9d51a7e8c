#!/usr/bin/env python3
"""A leader without its quorum, clients and workers inside: it takes nothing in and begins nothing; and what becomes of a commit that was
under way. On real members, each made to happen:

- cut off from the other regions, both of these standing still, synchronous names emptied by hand on every leader: from then on not one
  250 and not one new delivery, until it is over;
- a commit that waits for its quorum is cancelled (a warning), its connection ended (unknown), its leader killed: the client gets no 250
  by that, and the message is settled under its id; a statement that is cancelled before its commit costs the client nothing; what
  nobody can settle in time is taken back, answered 451 and delivered by its repeat alone.

Skipped, saying so, where no network namespace may be made.
"""
import argparse, collections, os, signal, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from lab import *
import sites

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--lasting", type=float, default=25, help="seconds of each fault")
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
sites.enter("cut_off")
# A reply, or a final dot, may have been on its way when the fault began.
MARGIN = 1.5
NEWEST = "SELECT id FROM ledger.message ORDER BY id DESC LIMIT 1"
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name LIKE 'zegel-edge%'"
HELD = "SELECT count(*) FROM pg_locks WHERE relation = 'ledger.message'::regclass AND mode = 'AccessExclusiveLock' AND granted"
BLOCKED = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'zegel-edge%'"


def superuser(z, region, shard):
    """A way into a member as its superuser, as an operator on its machine has it."""
    import yaml
    with open(f"{z.dir}/regions/{region}/{shard}/patroni.yaml") as f:
        settings = yaml.safe_load(f)["postgresql"]
    host, port = settings["listen"].rsplit(":", 1)
    sockets, password = settings["parameters"]["unix_socket_directories"], settings["authentication"]["superuser"]["password"]
    return lambda text, timeout=20: ask(f"host={sockets} port={port} dbname=zegel user=postgres password={password}", text, timeout)


class Stream:
    """Clients of one region's edges alone, one message after the other; what was answered, and when its content was sent."""

    def __init__(self, z, region, rng, first, connections=4, count=100_000):
        self.z, self.region, self.rng = z, region, rng
        self.lock, self.next, self.last = threading.Lock(), first, first + count
        self.ending = threading.Event()
        self.answered, self.refused, self.sent, self.tries = [], [], {}, collections.Counter()
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(connections)]
        for thread in self.threads:
            thread.start()

    def work(self):
        session = None
        while not self.ending.is_set():
            with self.lock:
                if self.next == self.last:
                    return
                number, self.next = self.next, self.next + 1
                content = self.sent[number] = message(number, self.rng)
            while True:
                try:
                    if session is None:
                        session = self.z.smtp(timeout=90, address=self.region["smtp"][0])
                    self.tries[number] += 1
                    session.mail("a@demo.test", ["BODY=8BITMIME"])
                    session.rcpt("b@bar.test")
                    begun = time.monotonic()
                    code, text = session.data(content)
                    if code == 250:
                        with self.lock:
                            self.answered.append((number, text.split()[1].decode(), begun, time.monotonic()))
                        break
                    self.refused.append((number, code, text.decode("utf-8", "replace")))
                except (smtplib.SMTPException, OSError, ValueError):
                    pass
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    session.close() if session else None
                session = None
                if self.ending.wait(0.2) and self.tries[number] > 200:
                    return

    def end(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(120)


with folder() as path:
    report = Report("cut off: a leader without its quorum")
    rng = seed_from(arguments)
    stage = sites.Stage(path)
    all_sites, sink = stage.sites, stage.sink
    settings = [*stage.settings, "delivery.retry=1s", "delivery.final_dot_timeout=10s"]
    with Cluster(path, settings, stage.regions, patience=200) as z:
        report.on_failure = lambda: z.last_logs(25)
        first = z.e["regions"][0]
        numbers, sent, streams = 0, {}, []

        def busy():
            return "451 4.3.0 later"

        def without_quorum(title, begin, end, where):
            """One fault, with clients and a backlog inside; `where`: the addresses whose workers must begin nothing."""
            global numbers
            report.check(f"{title}: the cluster is whole before", z.whole(), z.zegel("shard", "status").stdout)
            # A backlog that could go at any moment: the recipient puts all of it off until the fault is there.
            sink.on_mail = lambda sink, value: busy()
            stream = Stream(z, first, rng, numbers)
            until(lambda: len(stream.answered) >= 40, 30)
            report.check(f"{title}: mail comes in before", len(stream.answered) >= 40, str(len(stream.answered)))
            begin()
            at = time.monotonic()
            sink.on_mail = None
            time.sleep(arguments.lasting)  # the length of the fault itself
            over = time.monotonic()
            taken = [a for a in stream.answered if a[3] > at + MARGIN]
            gone = [o for o in sink.origins if o[0] in where and at + MARGIN < o[1] < over]
            elsewhere = [o for o in sink.origins if o[0] not in where and at < o[1] < over]
            end()
            report.check(f"{title}: not one 250 from then on", not taken, str([(a[0], a[2] - at, a[3] - at) for a in taken[:5]]))
            report.check(f"{title}: not one new delivery from then on", not gone, str([(o[0], o[1] - at) for o in gone[:5]]))
            if elsewhere:
                report.figure(title, f"{len(elsewhere)} left from other regions, the first {elsewhere[0][1] - at:.1f} s after it began")
            back = until(lambda: len([a for a in stream.answered if a[3] > over]) >= 20, 90)
            report.check(f"{title}: intake goes on afterwards by itself", bool(back))
            report.figure(title, f"the first 250 {min(a[3] for a in stream.answered if a[3] > over) - over:.1f} s after it was over")
            stream.end()
            numbers = stream.next
            streams.append(stream)

        r1, r2, r3 = all_sites
        without_quorum("cut off", lambda: sites.cut(r1, [r2, r3]), lambda: sites.heal(all_sites), {r1.address})

        def thaw():
            r2.thaw(), r3.thaw()

        without_quorum("both peers standing still", lambda: (r2.freeze(), r3.freeze()), thaw, {s.address for s in all_sites})

        def names(sql):
            # On every leader: an edge would use another shard.
            leaders = json.loads(z.zegel("shard", "status", "--json").stdout)
            for shard in leaders:
                tell = superuser(z, shard["leader"], shard["name"])
                tell(sql), tell("SELECT pg_reload_conf()")

        without_quorum(
            "names emptied by hand", lambda: names("ALTER SYSTEM SET synchronous_standby_names = ''"),
            lambda: names("ALTER SYSTEM RESET synchronous_standby_names"), {s.address for s in all_sites})

        # What becomes of one commit. The peers stand still, so that it waits.
        def one_commit(title, do):
            global numbers
            report.check(f"{title}: the cluster is whole before", z.whole(), z.zegel("shard", "status").stdout)
            tell = superuser(z, "r1", "a")
            r2.freeze(), r3.freeze()
            stream = Stream(z, first, rng, numbers, connections=1, count=1)
            pid = until(lambda: tell(WAITING), 20, 0.1)
            report.check(f"{title}: a commit waits for its quorum", bool(pid))
            did = do(tell, pid.split()[0])
            # Visible now, though no other region has it: the 250 must be for this one, and not for another.
            kept = until(lambda: tell(NEWEST), 5, 0.2) if title != "leader killed" else None
            time.sleep(3)  # as long as an answer that were wrong would take, and more
            report.check(f"{title}: done ({did}), and no 250 by it", not stream.answered, str(stream.answered))
            thaw()
            until(lambda: stream.answered, 120)
            report.check(f"{title}: the client gets its 250 in the end", bool(stream.answered))
            if kept:
                report.check(f"{title}: it is for the message that was there, submitted again", stream.answered[0][1] == kept,
                             f"{stream.answered[0][1]}, not {kept}")
            stream.end()
            report.figure(title, f"{sum(stream.tries.values())} tries of the client")
            numbers = stream.next
            streams.append(stream)

        one_commit("cancelled", lambda tell, pid: tell(f"SELECT pg_cancel_backend({pid})"))
        one_commit("connection ended", lambda tell, pid: tell(f"SELECT pg_terminate_backend({pid})"))

        def kill(tell, pid):
            leader = tell("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)")
            os.kill(int(leader), signal.SIGKILL)
            return f"postmaster {leader} killed"

        one_commit("leader killed", kill)

        # A statement that is cancelled before its commit is no fault of the message: the batch is repeated.
        report.check("cancelled before its commit: the cluster is whole before", z.whole(), z.zegel("shard", "status").stdout)
        tell = superuser(z, "r1", "a")
        holder = threading.Thread(target=tell, daemon=True, args=(
            "BEGIN; LOCK TABLE ledger.message IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(8); COMMIT",))
        holder.start()
        until(lambda: tell(HELD) == "1", 10, 0.1)
        stream = Stream(z, first, rng, numbers, connections=1, count=1)
        pid = until(lambda: tell(BLOCKED), 6, 0.05)
        report.check("cancelled before its commit: it waits inside the database", bool(pid))
        did = tell(f"SELECT pg_cancel_backend({pid.split()[0]})")
        until(lambda: stream.answered, 60)
        report.check(f"cancelled before its commit ({did}): 250, and nothing else",
                     bool(stream.answered) and not stream.refused and set(stream.tries.values()) == {1},
                     str((stream.answered, stream.refused, stream.tries)))
        holder.join()
        stream.end()
        numbers = stream.next
        streams.append(stream)

        # Nobody can settle it in time: it is taken back, and the client hears 451 and repeats.
        z.down()
        z.settings += ["--set", "edge.settle=5s"]
        z.up(160)
        first = z.e["regions"][0]
        report.check("not settled: the cluster is whole before", z.whole(), z.zegel("shard", "status").stdout)
        tell = superuser(z, "r1", "a")
        # Nor a worker that could claim it: what is claimed stands.
        workers = [pid for region in z.e["regions"] for pid in region["pids"]["worker"]]
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        r2.freeze(), r3.freeze()
        stream = Stream(z, first, rng, numbers, connections=1, count=1)
        begun = time.monotonic()
        waits = until(lambda: tell(WAITING), 20, 0.1)
        report.check("not settled: a commit waits for its quorum", bool(waits))
        kept = None
        while time.monotonic() < begun + 8:
            # Whatever waits is ended, so that its outcome stays unknown until the settle time is over.
            for pid in (tell(WAITING) or "").split():
                tell(f"SELECT pg_terminate_backend({pid})")
            kept = kept or tell(NEWEST)
            time.sleep(0.2)
        report.check("not settled: no 250 meanwhile", not stream.answered, str(stream.answered))
        thaw()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        until(lambda: stream.answered, 120)
        report.check("not settled: the client hears 451, repeats, and gets its 250",
                     bool(stream.answered) and {r[1] for r in stream.refused} == {451} and len(stream.refused) == 1,
                     str((stream.answered, stream.refused, stream.tries)))
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        until(lambda: stream.answered[0][1] in {i for _, _, c in list(sink.got) for i in ids_in(c)}, 60, 0.2)
        copies = [i for _, _, c in list(sink.got) if message_id(c) == f"<m-{numbers}@demo.test>" for i in ids_in(c)]
        report.check("not settled: what was taken back is not delivered, its repeat is, once",
                     copies == [stream.answered[0][1]] and kept != copies[0], str((copies, kept)))
        stream.end()
        streams.append(stream)

        # Nothing is lost, and nothing came twice without its mark.
        answered = {f"<m-{a[0]}@demo.test>": a for s in streams for a in s.answered}
        tries = {f"<m-{n}@demo.test>": s.tries[n] for s in streams for n in s.sent}
        arrived = until(lambda: set(answered) <= {message_id(c) for _, _, c in sink.got}, 120, 0.5)
        report.check(f"0 of {len(answered)} lost", bool(arrived))
        report.check("the cluster is whole afterwards", z.whole(), z.zegel("shard", "status").stdout)
        ended = until(lambda: sites.answers(z, all_sites, 0, "SELECT count(*) FROM ledger.delivery") == ["0"] * 3, 90, 0.5)
        report.check("every delivery ends", bool(ended))
        copies = Copies(sink.got, z.events())
        report.figure("doubles", f"{len(copies.doubles)} of {len(copies.count)}")
        report.check("no double without its mark", not copies.unmarked,
                     str([(n, copies.count[n], tries.get(n)) for n in copies.unmarked[:5]]))
        equal = until(lambda: sites.are_equal(z, all_sites), 30, 0.5)
        report.check("all members of each shard hold the same rows", bool(equal))
print(f"{report.count} passed, 0 failed")
