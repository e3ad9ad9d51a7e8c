#!/usr/bin/env python3
"""How long a restore takes, by the size of the shard: a table for people. deploy/test runs a short form.

A shard is filled with content to each size, backed up in full, and drilled: RTO is what restoring took, the whole includes reading every
row and every page.

    recovery_sizes.py [--megabytes N ...]
"""
import argparse, os, sys, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from past import *

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--megabytes", type=int, nargs="+", default=[0, 250, 1000, 3000], help="of content that is added, each more than the one before")
arguments = parser.parse_args()
# 8,064 octets that nothing compresses, as sealed frames are.
FILL = ("INSERT INTO ledger.content (message_id, frame_no, sealed) SELECT ledger.uuid_v7(), 0, (SELECT string_agg(sha512(convert_to("
        "{seed} || ' ' || n || ' ' || i, 'UTF8')), '') FROM generate_series(1, 126) AS i) FROM generate_series(1, {rows}) AS n")

with folder() as path, restored_clusters():
    report = Report("restores by size")
    with Cluster(path) as z:
        report.on_failure = z.last_logs
        enabled = z.zegel("recovery", "enable")
        report.check("recovery is switched on", enabled.returncode == 0, enabled.stderr)
        client, there = Client(z), 0
        client.send("a@demo.test", ["b@bar.test"], message(1, random.Random(1), 2000))
        for size in arguments.megabytes:
            for part in range((size - there) // 50):
                z.sql(FILL.format(seed=size * 1000 + part, rows=6200))
            there = size
            made = z.zegel("recovery", "create", "--full", timeout=900)
            report.check(f"{size} MB more: a full backup", made.returncode == 0, made.stderr)
            # A moment behind the backup, so that it is restored from this one.
            time.sleep(2)
            client.send("a@demo.test", ["b@bar.test"], message(2 + size, random.Random(size), 2000))
            mark = time.time()
            report.check(f"{size} MB more: it can be restored", bool(until(lambda: newest(z) >= mark - 0.5, 90, 1)))
            done = z.zegel("recovery", "drill", "--json", timeout=900)
            found = json.loads(done.stdout or "{}")
            report.check(f"{size} MB more: drilled", done.returncode == 0, done.stdout[-1500:] + done.stderr)
            shard = found["shards"][0]
            report.figure("restored", f"{shard['size'] / 1e6:.0f} MB: RTO {shard['rto']:.1f} s, RPO {shard['rpo']:.1f} s, {found['took']:.1f} s with all that is looked at; "
                          f"{shard['size'] / 1e6 / shard['rto']:.0f} MB/s")
