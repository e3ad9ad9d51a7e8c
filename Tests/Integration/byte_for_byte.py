#!/usr/bin/env python3
"""Byte for byte: what a client sends arrives as it was sent, after our Received line, at Postfix and at an independent server.

Messages come from a seeded generator: 8-bit octets, lines up to the limit, dots at line starts, empty, header only, BDAT chunks
of any size, 50 MB. Then 50 connections send a large message each while the edge's resident memory is watched.
"""
import argparse, os, re, socket, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from lab import *
from postfix_instance import Postfix
from aiosmtpd.controller import Controller

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--messages", type=int, default=60, help="generated messages for each recipient")
parser.add_argument("--large", type=int, default=50, help="MB of the large messages")
parser.add_argument("--connections", type=int, default=50, help="that send a large message each at once")
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
PORT, LIMIT_MB = 2698, 150


def generate(rng, number):
    """One content, ending in CRLF, without bare CR or LF."""
    def line():
        kind = rng.randrange(7)
        if kind == 0: return b""
        if kind == 1: return b"." * rng.randrange(1, 5)
        if kind == 2: return b"." + bytes(rng.choice(b"abc.\xe9\xff\x80\x01\t ") for _ in range(rng.randrange(60)))
        if kind == 3: return bytes(rng.choice(range(1, 256)) for _ in range(998)).replace(b"\r", b"x").replace(b"\n", b"y")
        if kind == 4: return b"x" * rng.choice([1, 2, 996, 997, 998])
        return bytes(rng.choice(range(32, 256)) for _ in range(rng.randrange(1, 200)))
    head = b"From: a@demo.test\r\nMessage-ID: <m-%d@demo.test>\r\n" % number
    shape = rng.randrange(6)
    if shape == 0: return head                                    # header only, no empty line
    if shape == 1: return head + b"\r\n"                          # empty body
    if shape == 2: return head + b"\r\n\r\n\r\n"
    return head + b"\r\n" + b"\r\n".join(line() for _ in range(rng.randrange(1, 60))) + b"\r\n"


class Bdat(Client):
    """Sends content in BDAT chunks of random sizes (RFC 3030)."""

    def chunks(self, rng, sender, recipient, content):
        s = self.cluster.smtp()
        s.mail(sender, ["BODY=8BITMIME"])
        s.rcpt(recipient)
        at = 0
        while True:
            size = min(rng.choice([0, 1, 2, 3, 100, 1000, 5000, 70000, 300000]), len(content) - at)
            last = at + size == len(content) and rng.random() < 0.7
            s.sock.sendall(b"BDAT %d%s\r\n" % (size, b" LAST" if last else b"") + content[at:at + size])
            at += size
            code, text = s.getreply()
            assert code == 250, (code, text)
            if last:
                s.quit()
                return text.split()[1].decode()


class Kept:
    """aiosmtpd's own idea of what came."""

    def __init__(self): self.got = []

    async def handle_DATA(self, server, session, envelope):
        self.got.append(envelope.content)
        return "250 2.0.0 kept"


with folder() as path:
    report = Report("byte for byte, and bounded memory")
    rng = seed_from(arguments)
    authority = Authority(f"{path}/ca")
    dns = Dns({}, 5398)
    dns.add("independent.test", "127.0.0.110")
    dns.add("postfix.test", "127.0.0.111")
    dns.add("down.test", "127.0.0.112")
    kept = Kept()
    controller = Controller(kept, hostname="127.0.0.110", port=PORT, tls_context=authority.leaf("mx.independent.test"),
                            require_starttls=True, data_size_limit=200_000_000, decode_data=False, enable_SMTPUTF8=True)
    controller.start()
    authority.leaf("mx.postfix.test")
    mail = f"{path}/mail"
    os.makedirs(mail)
    import pwd
    nobody = pwd.getpwnam("nobody")
    os.chown(mail, nobody.pw_uid, nobody.pw_gid)
    pem = f"{path}/ca/mx.postfix.test-good.pem"
    postfix = Postfix(f"{path}/postfix", "127.0.0.111", PORT, {
        "smtpd_tls_security_level": "encrypt", "smtpd_tls_chain_files": pem, "virtual_mailbox_domains": "postfix.test",
        "virtual_mailbox_base": mail, "virtual_mailbox_maps": "static:box/", "virtual_uid_maps": f"static:{nobody.pw_uid}",
        "virtual_gid_maps": f"static:{nobody.pw_gid}", "virtual_transport": "virtual",
        "smtpd_relay_restrictions": "reject_unauth_destination"})
    try:
        settings = ["dns.forwarders=127.0.0.1@5398", f"delivery.port={PORT}", f"delivery.trust_roots={authority.pem}",
                    "delivery.retry=1s", "edge.max_message_size=100MB"]
        with Cluster(path, settings) as z:
            report.on_failure = lambda: (z.last_logs(), print(open(f"{path}/postfix/log").read()[-3000:]))

            def big(number):
                line = b"%069d.\r\n" % 0
                return b"From: a@demo.test\r\nMessage-ID: <m-%d@demo.test>\r\n\r\n" % number + line * (arguments.large * 1_000_000 // 72)

            for domain in ("independent.test", "postfix.test"):
                contents = {n: generate(rng, n) for n in range(arguments.messages)}
                contents[9999] = big(9999)
                jobs = [("a@demo.test", [f"b@{domain}"], c) for n, c in contents.items() if n % 2 == 0 or n == 9999]
                answers, _ = send_all(z, jobs, 8)
                report.check(f"{domain}: DATA taken", all(answers.values()))
                bdat = Bdat(z)
                for n, content in contents.items():
                    if n % 2 == 1 and n != 9999:
                        bdat.chunks(rng, "a@demo.test", f"b@{domain}", content)
                report.check(f"{domain}: BDAT taken", True)
                if domain == "independent.test":
                    received = lambda: list(kept.got)
                    wanted = contents
                else:
                    new = f"{mail}/box/new"
                    def received():
                        if not os.path.isdir(new): return []
                        return [open(f"{new}/{f}", "rb").read() for f in sorted(os.listdir(new))]
                    wanted = {n: c.replace(b"\r\n", b"\n") for n, c in contents.items()}
                # Cheap while waiting: numbers only; contents are compared once.
                count = (lambda: len(kept.got)) if domain == "independent.test" else \
                    (lambda: len(os.listdir(new)) if os.path.isdir(new) else 0)
                until(lambda: count() >= len(contents), 120)
                texts = {}
                for text in received():
                    found = re.search(rb"^Message-ID: <m-(\d+)@demo.test>", text, re.M)
                    if found: texts[int(found.group(1))] = text
                report.check(f"{domain}: all {len(contents)} arrived", set(texts) == set(wanted),
                             f"missing {sorted(set(wanted) - set(texts))[:5]} of {count()}")
                wrong = [n for n, c in wanted.items() if not texts[n].endswith(c)]
                report.check(f"{domain}: byte for byte, {arguments.large} MB too", not wrong, str(wrong[:5]))
                heads = [texts[n][: len(texts[n]) - len(c)] for n, c in wanted.items()]
                ours = [len(re.findall(rb"^Received: from .*?with ESMTPSA", h, re.M | re.S)) for h in heads]
                report.check(f"{domain}: and our Received line in front", all(o >= 1 for o in ours))
            controller.stop()

            # A recipient that does not answer: the messages stay, so that only intake is measured.
            threads, failures = [], []
            content = big(1)
            def push():
                try:
                    s = z.smtp(timeout=300)
                    s.mail("a@demo.test"); s.rcpt("b@down.test")
                    code, text = s.data(content)
                    if code != 250: failures.append((code, text))
                    s.quit()
                except Exception as error:
                    failures.append(repr(error))
            [edge] = z.pids("edge")
            peak = [0]
            watching = True
            def watch():
                while watching:
                    for line in open(f"/proc/{edge}/status"):
                        if line.startswith("VmRSS"): peak[0] = max(peak[0], int(line.split()[1]) // 1024)
                    time.sleep(0.05)
            watcher = threading.Thread(target=watch, daemon=True)
            watcher.start()
            start = time.monotonic()
            for _ in range(arguments.connections):
                threads.append(threading.Thread(target=push, daemon=True))
                threads[-1].start()
            for thread in threads: thread.join(600)
            watching = False
            report.check(f"{arguments.connections} connections sent {arguments.large} MB each", not failures, str(failures[:3]))
            report.figure("seconds", round(time.monotonic() - start, 1))
            report.figure("largest resident memory of the edge", f"{peak[0]} MB")
            report.check(f"the edge stayed under {LIMIT_MB} MB", 0 < peak[0] < LIMIT_MB, str(peak[0]))
    finally:
        postfix.stop()
print(f"{report.count} passed, 0 failed")
