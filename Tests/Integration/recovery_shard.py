#!/usr/bin/env python3
"""One shard of three regions is restored alone, while the others go on delivering.

Under load every member of shard b is lost for good. The cluster goes on with a and c. A second of the past of b is restored beside it, with
tenants and credentials from shard a, told by the end of b's archive, promoted, and comes up as a cluster of its own. What b held and had
not been delivered is, no double is without its mark; whoever was revoked at the old cluster is revoked here; a reader of the feed goes on at
both with the cursor that it has; and mail came in and went out at the old cluster all the time.

    recovery_shard.py [--seed S]
"""
import argparse, os, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from past import *

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
PORT = 2700


class OfShard:
    """What the outside knew of one shard's messages."""

    def __init__(self, outside, shard):
        ids = {e["message_id"] for e in outside.read if e["shard"] == shard}
        self.names = {n: i for n, i in outside.names.items() if i in ids}
        self.answered = {n: outside.answered[n] for n in self.names}
        self.begun, self.got = outside.begun, outside.got
        self.seen = {k: (when, e) for k, (when, e) in outside.seen.items() if e["shard"] == shard}


with folder() as path, restored_clusters():
    report = Report("recovery of one shard")
    rng = seed_from(arguments)
    authority = Authority(f"{path}/ca")
    dns = Dns({}, 5400)
    dns.add("bar.test", "127.0.0.100")
    sink = Sink("127.0.0.100", PORT, authority.leaf("mx.bar.test"))
    taken = threading.Event()
    sink.on_rcpt = lambda sink, address: "451 4.2.0 later" if address.startswith("later") and not taken.is_set() else None
    settings = ["dns.forwarders=127.0.0.1@5400", f"delivery.port={PORT}", f"delivery.trust_roots={authority.pem}",
                "delivery.retry=3s", "worker.per_destination=10"]
    with Cluster(path, settings, ["--regions", "3", "--workers", "1", "--edges", "1"], patience=200) as z:
        report.on_failure = lambda: z.last_logs(8)
        report.check("the cluster is whole", z.whole(), z.zegel("shard", "status").stdout)
        enabled = z.zegel("recovery", "enable")
        report.check("recovery is switched on", enabled.returncode == 0, enabled.stderr)
        z.sql("INSERT INTO control.tenant (id, name, default_ruleset) VALUES ('other', 'other', 'secure'), ('late', 'late', 'secure')")
        outside = Outside(z, sink, rng, 12, Roaming)
        sink.on_dot = lambda sink, content: outside.got.setdefault(int(message_id(content)[3:].split("@")[0]), time.time()) and None
        outside.load()
        began = time.time()
        until(lambda: len(outside.answered) > 150, 60)
        at = rng.uniform(began + 6, time.time())
        count = len(outside.answered)
        until(lambda: len(outside.answered) > count + 80, 40)
        # What is taken away after that second stays away.
        z.sql("UPDATE control.tenant SET disabled_at = now() WHERE id = 'other'")
        until(lambda: len(outside.answered) > count + 120, 40)

        def window():
            points = {p["shard"]: p.get("window") for p in json.loads(z.zegel("recovery", "list", "--json").stdout or "[]")}
            return points.get("a") and points.get("b") and min(seconds(points[s]["to"]) for s in "ab")

        report.check("the second can be restored", bool(until(lambda: (window() or 0) > at + 1, 150, 2)), z.zegel("recovery", "list").stdout)
        # Every member of b is lost, and its Patronis cannot bring them back.
        stopped = [p for r in z.e["regions"] for p in r["pids"]["patroni"] if b"/b/patroni.yaml" in open(f"/proc/{p}/cmdline", "rb").read()]
        report.check("b has three Patronis", len(stopped) == 3, str(stopped))
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        for n in range(1, 4):
            with open(f"{z.dir}/regions/r{n}/b/data/postmaster.pid") as f:
                os.kill(int(f.readline()), signal.SIGQUIT)
        lost_at = time.time()
        report.figure("load", f"{len(outside.answered)} messages answered, {len(outside.got)} delivered")
        answered = len(outside.answered)
        report.check("the others take mail in", bool(until(lambda: len(outside.answered) > answered + 30, 60)), str(len(outside.answered) - answered))

        own = OfShard(outside, "b")
        restored = Restored(f"{path}/b")
        started = time.time()
        done = restored.broken_off(rng, 2, "recovery", "restore", "--dir", z.dir, "--to", moment(at), "--shard", "b", "--into", restored.dir)
        report.check("b is restored alone, killed on the way or not", done.returncode == 0, done.stderr)
        report.figure("restored", f"in {time.time() - started:.1f} s with what was killed")
        compare(report, "b", [restored.inside(STATES, "regions/r2/b/data")], at, own)
        done = restored.broken_off(rng, 2, "recovery", "reconcile", "--dir", restored.dir, "--archive", "--json")
        report.check("b is told by the end of its archive", done.returncode == 0, done.stderr)
        told = json.loads(done.stdout)[0]
        report.figure("told", f"{told['deliveries']}, {told['control']}")
        # Shard a lives: until the last moment.
        z.sql("UPDATE control.tenant SET disabled_at = now() WHERE id = 'late'")
        done = restored.broken_off(rng, 1, "recovery", "promote", "--dir", restored.dir, "--yes")
        report.check("b is promoted", done.returncode == 0 or "is promoted" in done.stderr, done.stderr)
        STARTED.append(restored.dir)
        up = subprocess.run([z.bin, "local", "up", "--dir", restored.dir, "--detach", "--workers", "1", "--edges", "1"], capture_output=True, text=True,
                            timeout=200)
        report.check("b comes up as a cluster of its own", up.returncode == 0, up.stderr[-1500:])
        report.on_failure = lambda: restored.last_logs(8)
        report.check("who was disabled since is, also a moment before it was promoted",
                     restored.sql("SELECT count(*) FROM control.tenant WHERE disabled_at IS NOT NULL AND id IN ('other', 'late')") == "2")
        s = restored.smtp()
        s.sendmail("a@demo.test", ["u999999@bar.test"], message(999999, rng, 1500))
        s.quit()
        report.check("it takes mail in and sends it, with the tenant and the password from shard a",
                     bool(until(lambda: 999999 in outside.got, 60, 0.2)))
        taken.set()
        # Shards a and c never stopped.
        during = [n for n, when in outside.answered.items() if lost_at + 5 < when < time.time() - 5]
        report.check("the others took mail in all the time", len(during) > 60, str(len(during)))
        wanted = [n for n in during if n % 3]
        report.check("and delivered it", bool(until(lambda: all(n in outside.got for n in wanted), 60, 0.5)), str([n for n in wanted if n not in outside.got][:5]))
        under_way = lambda some: max((outside.got[n] - outside.answered[n] for n in some), default=0)
        # Whether b holds the same bytes is asked for 45 s; then what comes in waits for nothing.
        report.figure("meanwhile", f"{len(during)} messages of a and c answered; under way at most {under_way(wanted):.1f} s, "
                      f"and {under_way([n for n in wanted if outside.answered[n] > lost_at + 55]):.1f} s of those after the first minute")
        outside.end()
        held = until(lambda: restored.sql("SELECT count(*) FROM ledger.delivery WHERE state <> 'held'") == "0", 90, 0.5)
        report.check("no delivery of b is left open", bool(held))
        open_ = lambda: sum(int(z.sql("SELECT count(*) FROM ledger.delivery", s)) for s in (0, 2))
        report.check("nor one of a and c", bool(until(lambda: open_() == 0, 90, 0.5)))
        arrived = {message_id(c) for _, _, c in sink.got}
        known = OfShard(outside, "b")
        missing = [n for n, when in known.answered.items() if when < at and f"<m-{n}@demo.test>" not in arrived]
        report.check("all that b held arrives", not missing, str(missing[:5]))
        others = [n for n, i in outside.names.items() if n not in known.names and outside.answered[n] > lost_at + 5 and f"<m-{n}@demo.test>" not in arrived]
        report.check("and all that the others took in since", not others, str(others[:5]))
        # The reader's cursor has places in all three; b is elsewhere now.
        new = restored.events(outside.cursor)
        both = {e["id"]: e for e in outside.read + new}
        report.check("the reader misses no event of b", {e["id"] for e in restored.events()} <= set(both))
        rest = z.events(outside.cursor)
        report.check("nor of the others", not {e["id"] for e in z.events() if e["shard"] != "b"} - {e["id"] for e in outside.read + rest})
        copies = Copies(sink.got, list(both.values()) + rest)
        report.figure("deliveries", f"{len(copies.doubles)} came twice, {sum(copies.marked.values())} are marked")
        report.check("no double without its mark", not copies.unmarked, str(copies.unmarked[:3]))
        subprocess.run([z.bin, "local", "down", "--dir", restored.dir], capture_output=True, timeout=60)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
