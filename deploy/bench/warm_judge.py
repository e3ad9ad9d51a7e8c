"""What a scan that is known adds to a delivery: CPU time of the worker with and without it, in the same run.

Each message goes to a domain of its own and so over a connection of its own, judged anew; all domains share one host, which was scanned
before. Rounds under a ruleset that requires scans alternate with rounds under the same ruleset without; the difference of the medians is
everything that heeding a scan costs: reading it, holding it against certificate and TLSA records, and keeping it with the evidence.
"""
import os, random, statistics, sys, time

from lab import Authority, Cluster, Dns, Sink, folder, message, send_all, until
from postfix import cpu

PORT, RESOLVER, ADDRESS = 2725, 5395, "127.0.0.125"
RULESETS = "plain: {version: 1}\nheeding: {version: 1, scan: required}\n"


def install(apt):
    apt({"psql": "postgresql-15"})


def counted(z, result):
    return z.metric('zegel_worker_scan_lookups_total{result="%s"}' % result) or 0


def run(arguments, say):
    count, rounds = (200, 3) if arguments.quick else (1000, 7)
    with folder() as path:
        authority = Authority(f"{path}/ca")
        dns = Dns({("mx.sink.test", "A"): [ADDRESS]}, RESOLVER)
        for number in range(count):
            dns.table[(f"d{number}.test", "MX")] = ["10 mx.sink.test."]
        sink = Sink(ADDRESS, PORT, authority.leaf("mx.sink.test"))
        with open(f"{path}/rulesets.yaml", "w") as file:
            file.write(RULESETS)
        settings = [f"dns.forwarders=127.0.0.1@{RESOLVER}", f"delivery.port={PORT}", f"delivery.trust_roots={authority.pem}",
                    f"rulesets.file={path}/rulesets.yaml", "delivery.retry=1s", *arguments.set]
        rng = random.Random(7)
        with Cluster(path, settings) as z:
            def deliver(ruleset, messages):
                """Sends so many messages under a ruleset; answers the CPU time of the worker for each, in microseconds."""
                z.sql(f"UPDATE control.tenant SET default_ruleset = '{ruleset}' WHERE id = 'demo'")
                time.sleep(2.5)  # an edge asks each second
                had, before = len(sink.got), cpu(z.pids("worker"))
                send_all(z, [("a@demo.test", [f"r@d{n}.test"], message(n, rng)) for n in range(messages)])
                if not until(lambda: len(sink.got) - had >= messages, 120, 0.01):
                    sys.exit(f"only {len(sink.got) - had} of {messages} messages came")
                until(lambda: z.sql("SELECT count(*) FROM ledger.delivery") == "0", 30)
                return (cpu(z.pids("worker")) - before) / messages * 1e6

            deliver("heeding", 1)
            deliver("plain", count // 4)
            costs = {"plain": [], "heeding": []}
            for number in range(rounds):
                for ruleset in costs:
                    hits, misses = counted(z, "hit"), counted(z, "miss")
                    costs[ruleset].append(deliver(ruleset, count))
                    if ruleset == "heeding" and (counted(z, "miss") > misses or counted(z, "hit") - hits < count):
                        sys.exit("a delivery met a host that was not known to be scanned")
                say(f"round {number + 1}: {costs['plain'][-1]:.0f} µs a delivery, with a known scan {costs['heeding'][-1]:.0f} µs")
    plain, heeding = statistics.median(costs["plain"]), statistics.median(costs["heeding"])
    return {"delivery_cpu": (plain, "µs/delivery"), "delivery_cpu_scanned": (heeding, "µs/delivery"),
            "scan_adds": (heeding - plain, "µs/delivery")}
