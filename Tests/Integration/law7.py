#!/usr/bin/env python3
"""Law 7, each case provoked: a worker is frozen (SIGSTOP) before, during and after the final dot, past its lease, then continued.

Shown: no unmarked double; a late 250 is recorded.
"""
import argparse, os, signal, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from lab import *

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
LEASE, DOT_TIMEOUT, PORT = 5, 14, 2692


class Freeze:
    """Stops the worker that talks to the sink, once, and continues it when told."""

    def __init__(self):
        self.pid, self.lock = None, threading.Lock()

    def now(self):
        with self.lock:
            if self.pid is None:
                self.pid = process_connected_to(PORT)
                if self.pid:
                    os.kill(self.pid, signal.SIGSTOP)

    def over(self):
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)


with folder() as path:
    report = Report("law 7: a worker frozen around the final dot, past its lease")
    rng = seed_from(arguments)
    authority = Authority(f"{path}/ca")
    dns = Dns({}, 5392)
    dns.add("bar.test", "127.0.0.92")
    sink = Sink("127.0.0.92", PORT, authority.leaf("mx.bar.test"))
    settings = ["dns.forwarders=127.0.0.1@5392", f"delivery.port={PORT}", f"delivery.trust_roots={authority.pem}",
                "delivery.retry=1s", f"worker.lease={LEASE}s", f"delivery.final_dot_timeout={DOT_TIMEOUT}s"]
    with Cluster(path, settings, ["--workers", "2"]) as z:
        report.on_failure = z.last_logs

        def run(name, number, arm, frozen_for, size=2000, copies=(1, 1)):
            freeze = Freeze()
            arm(freeze)
            answers, _ = send_all(z, [("a@demo.test", ["b@bar.test"], message(number, rng, size))], 1)
            id = answers[0]
            report.check(f"{name}: the worker is frozen", bool(until(lambda: freeze.pid, 20)))
            time.sleep(frozen_for)  # the length of the fault itself, not a wait for something
            freeze.over()
            sink.on_rcpt = sink.on_content = sink.on_dot = sink.on_data_begin = None
            ended = until(lambda: z.sql(f"SELECT count(*) FROM ledger.delivery WHERE message_id = '{id}'") == "0",
                          DOT_TIMEOUT + 40, 0.3)
            report.check(f"{name}: the delivery ends", bool(ended))
            count = lambda: sum(1 for _, _, c in sink.got if message_id(c) == f"<m-{number}@demo.test>")
            told = lambda: [e for e in z.events() if e["message_id"] == id and e["kind"] in ("delivered", "duplicate")]
            until(lambda: len(told()) >= count(), 20)
            n, events = count(), told()
            marked = [e for e in events if e.get("possible_duplicate") or e["kind"] == "duplicate"]
            report.figure(name, f"{n} copies, events {[e['kind'] for e in events]}, {len(marked)} marked")
            report.check(f"{name}: nothing lost", n >= copies[0])
            report.check(f"{name}: no unmarked double", n == 1 or bool(marked))
            report.check(f"{name}: every 250 is recorded", len(events) >= n, f"{len(events)} events for {n} copies")
            report.check(f"{name}: at most {copies[1]} copies", n <= copies[1])

        def before(freeze):
            def hook(sink, value):
                freeze.now()
            sink.on_rcpt = hook

        def during(freeze):
            def hook(sink, size):
                if size > 200_000:
                    freeze.now()
            sink.on_content = hook

        def after(freeze):
            async def hook(sink, content):
                freeze.now()
                await asyncio.sleep(LEASE + 2)
            sink.on_dot = hook

        def long_after(freeze):
            def hook(sink, content):
                freeze.now()
            sink.on_dot = hook

        run("frozen before the final dot", 1, before, LEASE + 3)
        run("frozen during the content", 2, during, LEASE + 3, size=4_000_000)
        run("frozen after the final dot, its 250 late", 3, after, LEASE + 3)
        run("frozen past the final-dot timeout, another worker sends again", 4, long_after, DOT_TIMEOUT + LEASE + 8, copies=(1, 2))
print(f"{report.count} passed, 0 failed")
