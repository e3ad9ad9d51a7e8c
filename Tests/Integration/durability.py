#!/usr/bin/env python3
"""Law 1 and the promise on doubles, under faults.

With messages in flight, the edge, the worker and PostgreSQL (immediate) are killed in turn. Clients that lost their 250 repeat.
Shown: every message that got 250 is delivered; no double is unmarked; marked ones stay within the final dots in flight plus
the accepts unanswered at the fault.
"""
import argparse, collections, os, signal, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from lab import *

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rounds", type=int, default=20)
parser.add_argument("--messages", type=int, default=200, help="in flight in each round")
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()

TARGETS = [("edge", signal.SIGKILL), ("worker", signal.SIGKILL), ("postgres", signal.SIGQUIT)]
CONNECTIONS = 20

with folder() as path:
    report = Report(f"durability: {arguments.rounds} rounds of {arguments.messages} messages")
    rng = seed_from(arguments)
    authority = Authority(f"{path}/ca")
    dns = Dns({}, 5391)
    dns.add("bar.test", "127.0.0.91")
    sink = Sink("127.0.0.91", 2691, authority.leaf("mx.bar.test"))

    async def slowly(sink, content):
        await asyncio.sleep(0.002)
        return None

    sink.on_dot = slowly
    settings = ["dns.forwarders=127.0.0.1@5391", "delivery.port=2691", f"delivery.trust_roots={authority.pem}",
                "delivery.retry=1s", "worker.lease=5s", "delivery.final_dot_timeout=6s"]
    with Cluster(path, settings, ["--workers", "2"]) as z:
        report.on_failure = z.last_logs
        sent, ids = 0, {}
        for number in range(arguments.rounds):
            target, how = TARGETS[number % len(TARGETS)]
            jobs = [("a@demo.test", ["b@bar.test"], message(sent + i, rng)) for i in range(arguments.messages)]
            delay = rng.uniform(0.05, 0.6)

            def strike():
                time.sleep(delay)
                z.kill(target, how)

            killer = threading.Thread(target=strike)
            killer.start()
            answers, repeats = send_all(z, jobs, CONNECTIONS)
            killer.join()
            unanswered = [i for i, a in answers.items() if a is None]
            report.check(f"round {number + 1}: {target} killed after {delay:.2f} s; every client got its 250 ({repeats} repeats)",
                         not unanswered, f"{len(unanswered)} without")
            for i, answer in answers.items():
                ids[f"<m-{sent + i}@demo.test>"] = answer
            sent += len(jobs)
        # Claims of dead workers come back with their leases, registered dots after the final-dot timeout.
        seen = lambda: {message_id(content) for _, _, content in sink.got}
        until(lambda: len(seen()) >= sent, 120, 0.5)
        lost = set(ids) - seen()
        report.check(f"0 of {sent} lost", not lost, f"{len(lost)} lost: {sorted(lost)[:5]}")
        settled = until(lambda: z.sql("SELECT count(*) FROM ledger.delivery WHERE lane = 'bar.test'") == "0", 60, 0.5)
        report.check("no delivery is left open", bool(settled))
        events = z.events()
        marks = {e["message_id"] for e in events if e.get("possible_duplicate") or e["kind"] == "duplicate"}
        counts = collections.Counter(message_id(content) for _, _, content in sink.got)
        doubles = [m for m, n in counts.items() if n > 1]
        unmarked = [m for m in doubles if ids[m] not in marks]
        report.figure("doubles", f"{len(doubles)}, all marked" if not unmarked else f"{len(doubles)}, unmarked {unmarked}")
        report.check("0 unmarked doubles", not unmarked, str(unmarked[:5]))
        # A round has at most so many connections to the sink (final dots) and of clients (accepts unanswered).
        bound = arguments.rounds * (2 * 20 + CONNECTIONS)
        report.figure("marked", f"{len(marks)} (bound {bound})")
        report.check("marked ones are within the bound", len(marks) <= bound)
        accepted = collections.Counter(e["message_id"] for e in events if e["kind"] == "accepted")
        report.check("each message was accepted once: a repeat made no second one",
                     len(set(ids.values())) == sent and all(accepted[i] == 1 for i in ids.values()),
                     f"{len(set(ids.values()))} ids")
print(f"{report.count} passed, 0 failed")
