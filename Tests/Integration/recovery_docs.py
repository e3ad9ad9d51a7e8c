#!/usr/bin/env python3
"""Every command of docs/recovery.md, in order, on a cluster that has undelivered mail: what the page promises is what comes of it.

    recovery_docs.py [--seed S]
"""
import argparse, os, shlex, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from past import *

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
PORT = 2704

with folder() as path, restored_clusters():
    report = Report("the commands of docs/recovery.md")
    rng = seed_from(arguments)
    authority = Authority(f"{path}/ca")
    dns = Dns({}, 5404)
    dns.add("example.nl", "127.0.0.104")
    sink = Sink("127.0.0.104", PORT, authority.leaf("mx.example.nl"))
    taken = threading.Event()
    sink.on_rcpt = lambda sink, address: None if taken.is_set() else "451 4.2.0 later"
    settings = ["dns.forwarders=127.0.0.1@5404", f"delivery.port={PORT}", f"delivery.trust_roots={authority.pem}", "delivery.retry=2s"]
    with Cluster(path, settings) as z:
        report.on_failure = z.last_logs
        client = Client(z)
        for number in range(8):
            client.send("a@demo.test", [f"u{number}@example.nl"], message(number, rng, 1500, to="u@example.nl"))
        today, count, at, last = int(time.time()) // 86400, 0, None, None
        for command, comment in documented("docs/recovery.md"):
            if " restore " in command and at is None:
                at = time.time()
                report.check("there is a second to restore", bool(until(lambda: newest(z) > at, 90, 1)))
            if "reconcile" in command and "--from" in command:
                until(lambda: z.sql("SELECT count(*) FROM ledger.worker_heartbeat WHERE lease_until > clock_timestamp()") == "0", 30, 0.5)
            text = command.replace("/mnt/backup/zegel", f"{path}/backup").replace("2026-11-27T17:21:22Z", moment(at or 0)).replace("20784", str(today))
            text = re.sub(r"/var/tmp/zegel(-\w+)?", lambda m: f"{path}/{m[1][1:]}" if m[1] else z.dir, text).replace("kept.json", f"{path}/kept.json")
            words = shlex.split(text)
            if words[1:3] == ["local", "up"]:
                STARTED.append(words[words.index("--dir") + 1])
            done = subprocess.run([z.bin, *words[1:]], capture_output=True, text=True, timeout=200, stdin=subprocess.DEVNULL)
            held = done.returncode != 0 if comment.startswith("refused") else done.returncode == 0
            report.check(f"docs: {command}", held, f"status {done.returncode}: {done.stderr[-800:]}{done.stdout[-400:]}")
            count += 1
            if words[1:3] == ["recovery", "drill"]:
                with open(f"{path}/kept.json", "w") as f:
                    json.dump({"events": z.events(), "next": ""}, f)
            if "--edges 1" in command:
                # What had not been delivered is, by the one that was promoted; then it makes room for the next.
                directory = words[words.index("--dir") + 1]
                restored = Restored(directory)
                taken.set()
                before = len(sink.got)
                report.check("what was undelivered at that second arrives", bool(until(lambda: len(sink.got) >= before + 8, 60, 0.2)), str(len(sink.got) - before))
                last = directory
            if words[1:4] == ["recovery", "held", "return"]:
                subprocess.run([z.bin, "local", "down", "--dir", last], capture_output=True, timeout=60)
                taken.clear()
        report.check("docs/recovery.md has commands", count > 20, str(count))
