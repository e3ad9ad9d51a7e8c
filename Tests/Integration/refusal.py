#!/usr/bin/env python3
"""Refused when it is not safe, deferred when nobody can know, held when it is damaged: nothing leaves in any of these.

Under `secure` a recipient without TLS, or with a self-signed, expired, not yet valid or wrongly named certificate, or one of an
unknown authority gets nothing; the sender gets a notification that names the reason; the event has the reason code.
"""
import argparse, json, os, signal, subprocess, sys, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from lab import *

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
PORT = 2697
CASES = [  # domain, fault, reason codes that name it (RFC 8460 §4.3)
    ("no-tls.test", "no-tls", {"starttls-not-supported"}),
    ("self-signed.test", "self-signed", {"certificate-not-trusted"}),
    ("expired.test", "expired", {"certificate-expired"}),
    ("early.test", "not-yet-valid", {"certificate-not-yet-valid", "validation-failure", "certificate-not-trusted"}),
    ("wrong-name.test", "wrong-name", {"certificate-host-mismatch"}),
    ("unknown-root.test", "unknown", {"certificate-not-trusted"}),
]

with folder() as path:
    report = Report("refusal, deferral, holding")
    rng = seed_from(arguments)
    authority, stranger = Authority(f"{path}/ca"), Authority(f"{path}/other", "Other CA")
    dns, sinks = Dns({}, 5397), {}
    for n, (domain, fault, _) in enumerate(CASES):
        address = f"127.0.0.{100 + n}"
        dns.add(domain, address)
        context = None if fault == "no-tls" else stranger.leaf(f"mx.{domain}") if fault == "unknown" \
            else authority.leaf(f"mx.{domain}", fault)
        sinks[domain] = Sink(address, PORT, context)
    dns.add("good.test", "127.0.0.98")
    good = Sink("127.0.0.98", PORT, authority.leaf("mx.good.test"))
    dns.add("demo.test", "127.0.0.99")
    sender = Sink("127.0.0.99", PORT, authority.leaf("mx.demo.test"))
    # A domain that nothing was sent to before: its route is in no cache.
    dns.add("damaged.test", "127.0.0.98")
    authority.leaf("mx.damaged.test")
    dns.table[("null.test", "MX")] = ["0 ."]
    settings = ["dns.forwarders=127.0.0.1@5397", f"delivery.port={PORT}", f"delivery.trust_roots={authority.pem}",
                "delivery.retry=1s", "worker.lease=5s"]
    with Cluster(path, settings) as z:
        report.on_failure = z.last_logs

        bodies = {}

        def send(number, to):
            content = message(number, rng)
            bodies[number] = content.split(b"\r\n\r\n", 1)[1].split(b"\r\n")[:-1]
            answers, _ = send_all(z, [("a@demo.test", to, content)], 1)
            return answers[0]

        def event(id, *kinds):
            found = [e for e in z.events() if e["message_id"] == id and e["kind"] in kinds]
            return found[0] if found else None

        def zegel(*command):
            return subprocess.run([binary(), *command], capture_output=True, text=True, timeout=60)

        def proven(id, kind, told, domain):
            """The evidence is exported, verified without a cluster, and worthless once altered; a report on the domain agrees."""
            file = f"{path}/{id}.json"
            exported = zegel("evidence", "export", id, "--dir", z.dir, "--output", file)
            report.check(f"{domain}: evidence is exported", exported.returncode == 0, exported.stderr)
            verified = zegel("evidence", "verify", file, "--json", "--digest", told["detail"]["evidence_digest"])
            report.check(f"{domain}: and verified", verified.returncode == 0, verified.stderr)
            [line] = json.loads(verified.stdout)["deliveries"]
            report.check(f"{domain}: it says what the event says", (line["kind"], line["reason_code"], line["domain"])
                         == (kind, told["reason_code"], domain), line)
            octets = bytearray(open(file, "rb").read())
            octets[rng.randrange(len(octets))] ^= 1 << rng.randrange(8)
            with open(file, "wb") as altered:
                altered.write(octets)
            report.check(f"{domain}: altered by a bit it does not hold", zegel("evidence", "verify", file).returncode == 1)
            judged = z.get(f"/v1/judge?domain={domain}")
            secure = judged["verdicts"]["secure"]
            report.check(f"{domain}: a report on the domain agrees", secure["reason_code"] == told["reason_code"]
                         and secure["outcome"] == ("deliver" if kind == "delivered" else "refuse"), secure)

        for n, (domain, fault, codes) in enumerate(CASES):
            id = send(n, [f"b@{domain}"])
            refused = until(lambda: event(id, "refused"), 30)
            report.check(f"{fault}: refused", bool(refused))
            report.check(f"{fault}: the reason code is its RFC 8460 name", refused["reason_code"] in codes,
                         refused["reason_code"])
            report.check(f"{fault}: the recipient got nothing", not sinks[domain].got
                         and not any(c.startswith(("MAIL", "RCPT")) for c in sinks[domain].commands))
            note = until(lambda: [c for s, r, c in sender.got if f"b@{domain}".encode() in c], 30)
            report.check(f"{fault}: the sender gets a notification", bool(note))
            text = note[0]
            report.check(f"{fault}: it names the reason", refused["reason_code"].encode() in text)
            report.check(f"{fault}: it is a delivery status with the headers", b"message/delivery-status" in text
                         and f"Subject: message {n}".encode() in text)
            report.check(f"{fault}: no line of the body is in it", not any(l in text for l in bodies[n]))
            report.check(f"{fault}: has the event `notified`", bool(until(lambda: event(id, "notified"), 10)))
            proven(id, "refused", refused, domain)
        id = send(20, ["b@null.test"])
        report.check("null MX: ends at once", bool(until(lambda: event(id, "bounced", "refused"), 20)))
        id = send(21, ["b@nowhere.test"])
        report.check("no such domain: ends at once", bool(until(lambda: event(id, "bounced", "refused"), 20)))

        dns.broken.add("good.test")
        id = send(30, ["b@good.test"])
        report.check("DNS fails: deferred", bool(until(lambda: event(id, "deferred"), 30)))
        report.check("DNS fails: nothing sent", not good.got)
        dns.broken.clear()
        report.check("DNS is back: delivered", bool(until(lambda: event(id, "delivered"), 60)))
        proven(id, "delivered", event(id, "delivered"), "good.test")

        [keyring] = z.pids("keyring")
        os.kill(keyring, signal.SIGSTOP)
        try:
            had = len(good.got)
            # Batch keys that the worker has opened stay open for a while: a new tenant batch needs the key service.
            for pid in z.pids("worker"):
                os.kill(pid, signal.SIGKILL)
            ids = [send(40 + n, ["b@good.test"]) for n in range(3)]
            report.check("key service away: intake goes on", all(ids))
            time.sleep(4)  # longer than a delivery takes here
            report.check("key service away: nothing sent", len(good.got) == had)
        finally:
            os.kill(keyring, signal.SIGCONT)
        for id in ids:
            report.check("key service back: delivered", bool(until(lambda: event(id, "delivered"), 90)))

        dns.broken.add("damaged.test")
        had = len(good.got)
        id = send(50, ["b@damaged.test"])
        report.check("a message waits in the queue", bool(until(lambda: event(id, "deferred"), 30)))
        z.sql(f"UPDATE ledger.content SET sealed = set_byte(sealed, 200, get_byte(sealed, 200) # 1) WHERE message_id = '{id}'")
        dns.broken.clear()
        held = until(lambda: event(id, "held"), 60)
        report.check("one bit altered: held", bool(held))
        report.check("one bit altered: reason code integrity-failure", held["reason_code"] == "integrity-failure")
        report.check("one bit altered: nothing partial left", len(good.got) == had)
        report.check("one bit altered: a metric alerts", bool(until(lambda: z.metric("zegel_worker_alerts_total"), 10)))
print(f"{report.count} passed, 0 failed")
