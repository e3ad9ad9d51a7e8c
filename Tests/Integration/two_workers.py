#!/usr/bin/env python3
"""Two workers at once make no delivery twice; one more worker raises throughput against a slow recipient.

Messages go to several recipients at several domains, of which some are refused for ever and some at first.
"""
import argparse, collections, os, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from lab import *

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--messages", type=int, default=20_000)
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
PORT, DOMAINS = 2693, ["one.test", "two.test", "three.test"]

with folder() as path:
    report = Report(f"two workers, {arguments.messages} messages")
    rng = seed_from(arguments)
    authority = Authority(f"{path}/ca")
    dns, sinks = Dns({}, 5393), []
    deferred, lock = set(), threading.Lock()

    def on_rcpt(sink, address):
        if address.startswith("gone"):
            return "550 5.1.1 no such user"
        if address.startswith("later"):
            with lock:
                if address not in deferred:
                    deferred.add(address)
                    return "451 4.2.0 come again"
        return None

    for n, domain in enumerate(DOMAINS):
        dns.add(domain, f"127.0.0.{93 + n}")
        sinks.append(Sink(f"127.0.0.{93 + n}", PORT, authority.leaf(f"mx.{domain}")))
        sinks[-1].on_rcpt = on_rcpt
    dns.add("slow.test", "127.0.0.96")
    slow = Sink("127.0.0.96", PORT, authority.leaf("mx.slow.test"))

    async def slowly(sink, content):
        await asyncio.sleep(0.25)

    slow.on_dot = slowly
    settings = ["dns.forwarders=127.0.0.1@5393", f"delivery.port={PORT}", f"delivery.trust_roots={authority.pem}",
                "delivery.retry=1s", "worker.per_destination=10"]
    jobs, expected, gone = [], {}, 0
    for number in range(arguments.messages):
        recipients = []
        if number % 10 == 0:
            for domain in DOMAINS:
                recipients += [f"u{number}@{domain}", f"gone{number}@{domain}", f"later{number}@{domain}"]
        else:
            recipients = [f"u{number}@{DOMAINS[number % 3]}"]
        gone += sum(r.startswith("gone") for r in recipients)
        jobs.append(("a@demo.test", recipients, message(number, rng, 1000)))
        expected[number] = {r for r in recipients if not r.startswith("gone")}

    with Cluster(path, settings, ["--workers", "2"]) as z:
        report.on_failure = z.last_logs
        start = time.monotonic()
        answers, _ = send_all(z, jobs, 16)
        report.check("every message was taken", all(answers.values()))
        total = sum(len(e) for e in expected.values())
        arrived = lambda: sum(len(r) for s in sinks for _, r, _ in s.got)
        until(lambda: arrived() >= total, 240, 0.5)
        open_ = lambda: z.sql("SELECT count(*) FROM ledger.delivery WHERE lane = ANY ('{one.test,two.test,three.test}')")
        report.check("every delivery ends", bool(until(lambda: open_() == "0", 60, 0.5)), open_())
        report.figure("messages/s, one Python client and sink", round(len(jobs) / (time.monotonic() - start)))
        counts = collections.Counter()
        for s in sinks:
            for _, recipients, content in s.got:
                number = int(message_id(content)[3:].split("@")[0])
                for recipient in recipients:
                    counts[(number, recipient)] += 1
        wanted = {(n, r) for n, rs in expected.items() for r in rs}
        report.check("every good recipient got it", wanted <= set(counts), str(sorted(wanted - set(counts))[:3]))
        report.check("nobody got it twice", max(counts.values()) == 1,
                     str([k for k, n in counts.items() if n > 1][:3]))
        report.check("and nobody else got it", set(counts) <= wanted)
        bounced = sum(1 for e in z.events() if e["kind"] == "bounced")
        report.check(f"the other {gone} recipients have a `bounced` event each", bounced == gone, str(bounced))
    seconds = {}
    for workers in (1, 2):
        with Cluster(path, settings, ["--workers", str(workers)]) as z:
            report.on_failure = z.last_logs
            had = len(slow.got)
            jobs = [("a@demo.test", [f"s{n}@slow.test"], message(n, rng, 1000)) for n in range(400)]
            start = time.monotonic()
            send_all(z, jobs, 16)
            report.check(f"{workers} worker(s) deliver to a slow recipient",
                         bool(until(lambda: len(slow.got) >= had + len(jobs), 120)))
            seconds[workers] = time.monotonic() - start
    ratio = seconds[1] / seconds[2]
    report.figure("throughput of two workers / one, slow recipient", f"{ratio:.2f}")
    report.check("one more worker raises throughput", ratio > 1.2)
print(f"{report.count} passed, 0 failed")
