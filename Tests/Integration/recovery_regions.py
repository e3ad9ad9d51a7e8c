#!/usr/bin/env python3
"""A cluster of three regions is taken back to a second of the past, whoever led then, and is a cluster of three regions again.

Under load a region is lost and comes back: leaders change, and the archive goes on from whoever leads. Then a second before that and one
after it are restored, all shards at once: what is there is what the outside knew. The old cluster stops delivering; told by its members
what happened since, the later one is promoted and comes up under Patroni with a member of every shard in every region. Whatever had not
been delivered is, nothing twice, and the old cluster's rows are what they were.

    recovery_regions.py [--seed S]
"""
import argparse, os, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from past import *

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
PORT, SHARDS = 2698, "abc"

with folder() as path, restored_clusters():
    report = Report("recovery of three regions")
    rng = seed_from(arguments)
    authority = Authority(f"{path}/ca")
    dns = Dns({}, 5398)
    dns.add("bar.test", "127.0.0.98")
    sink = Sink("127.0.0.98", PORT, authority.leaf("mx.bar.test"))
    taken = threading.Event()
    sink.on_rcpt = lambda sink, address: "451 4.2.0 later" if address.startswith("later") and not taken.is_set() else None
    settings = ["dns.forwarders=127.0.0.1@5398", f"delivery.port={PORT}", f"delivery.trust_roots={authority.pem}",
                "delivery.retry=3s", "worker.per_destination=10"]
    with Cluster(path, settings, ["--regions", "3"], patience=200) as z:
        report.on_failure = lambda: z.last_logs(8)
        report.check("the cluster is whole", z.whole(), z.zegel("shard", "status").stdout)
        enabled = z.zegel("recovery", "enable")
        report.check("recovery is switched on, without a restart", enabled.returncode == 0, enabled.stderr)
        outside = Outside(z, sink, rng, 15, Roaming)
        sink.on_dot = lambda sink, content: outside.got.setdefault(int(message_id(content)[3:].split("@")[0]), time.time()) and None
        outside.load()
        until(lambda: len(outside.answered) > 100, 40)
        before = time.time() - rng.uniform(0, 3)
        time.sleep(2)
        lost = z.zegel("local", "kill", "--region", "r1")
        report.check("r1 is lost", lost.returncode == 0, lost.stderr)
        leads = lambda: json.loads(z.zegel("shard", "status", "a", "--json").stdout or "[{}]")[0].get("leader")
        report.check("another leads its shard", bool(until(lambda: leads() in ("r2", "r3"), 90, 0.5)))
        count = len(outside.answered)
        until(lambda: len(outside.answered) > count + 60, 40)
        back = z.zegel("local", "start", "--region", "r1")
        report.check("r1 comes back", back.returncode == 0, back.stderr)
        report.check("and leads again", z.whole(), z.zegel("shard", "status").stdout)
        time.sleep(3)
        after = time.time() - rng.uniform(0, 2)
        until(lambda: len(outside.answered) > count + 200, 40)

        def window():
            points = json.loads(z.zegel("recovery", "list", "--json").stdout or "[]")
            windows = [p.get("window") for p in points]
            return (max(seconds(w["from"]) for w in windows), min(seconds(w["to"]) for w in windows)) if len(points) == 3 and all(windows) else (0, 0)

        there = until(lambda: window()[0] < before and window()[1] > after, 150, 2)
        report.check("both seconds can be restored, of all shards", bool(there), z.zegel("recovery", "list").stdout)
        drill = z.zegel("recovery", "drill", "--json")
        found = json.loads(drill.stdout or "{}")
        report.check("a drill of three shards passes, with the keys of every region", drill.returncode == 0 and len(found["shards"]) == 3
                     and all(s.get("reconciled", {}).get("unknown") == 0 for s in found["shards"]), drill.stdout[-1500:] + drill.stderr)
        report.figure("drill", ", ".join(f"{s['shard']}: RTO {s['rto']:.1f} s, RPO {s['rpo']:.1f} s" for s in found["shards"]))
        outside.end()
        report.figure("load", f"{len(outside.answered)} messages answered, {len(outside.got)} delivered, "
                      f"timelines {[z.sql('SELECT count(*) FROM ledger.incarnation', s) for s in range(3)]}")
        z.down()
        z.arguments = ["--workers", "0", "--edges", "0"]
        z.up(200)
        rows = lambda: [z.sql(ROWS, shard) for shard in range(3)]
        was = rows()
        for what, at in (("before the loss", before), ("after it", after)):
            restored = Restored(f"{path}/{what.split()[0]}")
            began = time.monotonic()
            done = restored.broken_off(rng, 1, "recovery", "restore", "--dir", z.dir, "--to", moment(at), "--into", restored.dir)
            report.check(f"{what}: three shards are restored", done.returncode == 0, done.stderr)
            report.figure("restored", f"in {time.monotonic() - began:.1f} s")
            compare(report, what, [restored.inside(STATES, f"regions/r{n + 1}/{shard}/data") for n, shard in enumerate(SHARDS)], at, outside)
        delivering = lambda: any(z.sql("SELECT count(*) FROM ledger.worker_heartbeat WHERE lease_until > clock_timestamp()", s) != "0" for s in range(3))
        until(lambda: not delivering(), 40, 0.5)
        done = restored.broken_off(rng, 1, "recovery", "reconcile", "--dir", restored.dir, "--from", z.dir)
        report.check("reconciled with its members", done.returncode == 0, done.stderr)
        report.figure("reconciled", done.stdout.strip())
        done = restored.zegel("recovery", "promote", "--yes")
        report.check("promoted", done.returncode == 0, done.stderr)
        report.check("the old cluster's rows are what they were", rows() == was)
        z.down()
        report.on_failure = lambda: restored.last_logs(8)
        taken.set()
        held = carry_on(report, "restored", restored, outside, sink, time.time(), patience=200)
        report.check("nothing is held", held == 0, str(held))
        whole = until(lambda: restored.zegel("shard", "status").returncode == 0, 90, 1)
        report.check("every region has a member of every shard again", bool(whole), restored.zegel("shard", "status").stdout)
        events = restored.events()
        copies = Copies(sink.got, list({e["id"]: e for e in outside.read + events}.values()))
        report.check("nothing came twice", not copies.doubles and not copies.unmarked, str(copies.doubles[:3]))
        report.figure("deliveries", f"{len(copies.doubles)} came twice, {sum(copies.marked.values())} are marked")
        subprocess.run([z.bin, "local", "down", "--dir", restored.dir], capture_output=True, timeout=60)
