#!/usr/bin/env python3
"""A file system that is really full under PostgreSQL.

The database's folder lies on a small file system of its own (a tmpfs in a private mount namespace), which is filled to the last
block. Shown: clients hear 452 4.3.1 and the edge counts it; what got 250 before is not lost; once there is room again intake goes
on by itself, and everything that ever got 250 is delivered, once. Skipped, saying so, where nothing may be mounted.
"""
import argparse, collections, os, smtplib, subprocess, sys
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from lab import *

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--size", default="400m", help="of the file system")
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()

with_own_mounts("full_disk")


def attempt(z, content):
    """The answer to one whole transaction, as (code, text)."""
    session = z.smtp()
    try:
        session.mail("a@demo.test", ["BODY=8BITMIME"])
        session.rcpt("b@bar.test")
        return session.data(content)
    finally:
        with contextlib.suppress(smtplib.SMTPException, OSError):
            session.quit()


with folder() as path:
    report = Report("full disk")
    rng = seed_from(arguments)
    authority = Authority(f"{path}/ca")
    dns = Dns({}, 5392)
    dns.add("bar.test", "127.0.0.92")
    sink = Sink("127.0.0.92", 2692, authority.leaf("mx.bar.test"))
    settings = ["dns.forwarders=127.0.0.1@5392", "delivery.port=2692", f"delivery.trust_roots={authority.pem}",
                "delivery.retry=1s"]
    disk, filler = f"{path}/disk", f"{path}/disk/filler"
    os.mkdir(disk)
    with Cluster(path, settings) as z:
        # The database is made on the ordinary disk and moves, at rest, to the small one.
        z.down()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={arguments.size},mode=755", "none", disk], check=True, timeout=10)
        subprocess.run(["cp", "-a", f"{z.dir}/postgres", f"{disk}/postgres"], check=True, timeout=60)
        subprocess.run(["mount", "--bind", f"{disk}/postgres", f"{z.dir}/postgres"], check=True, timeout=10)
        try:
            z.up()
            report.on_failure = z.last_logs
            before = z.metric("zegel_edge_refusals_total") or 0
            kept, number = {}, 0

            def send(size):
                global number
                number += 1
                code, text = attempt(z, message(number, rng, size))
                if code == 250:
                    kept[f"<m-{number}@demo.test>"] = text.split()[1].decode()
                return code, text.decode(errors="replace")

            for _ in range(10):
                send(100_000)
            report.check("with room every message is taken", len(kept) == 10)

            fill(filler)
            # Rows go on into pages that are there already; a content of this size soon needs one that is not.
            answers = [send(200_000) for _ in range(4)]
            report.figure("answers on the full disk", collections.Counter(a[0] for a in answers))
            report.check("the file system is full to the last block", os.statvfs(disk).f_bavail == 0)
            full = [a for a in answers if a[0] == 452]
            report.check("a client hears 452 4.3.1", bool(full) and all(a[1].startswith("4.3.1") for a in full), str(answers))
            report.check("nobody hears 250 without room, nor 5yz", all(a[0] in (250, 451, 452) for a in answers), str(answers))
            counted = z.metric("zegel_edge_refusals_total") or 0
            report.check("the refusals are counted", counted - before >= len(full), f"{before} to {counted}")
            report.check("so are the commits that failed", (z.metric("zegel_edge_commits_failed_total") or 0) >= len(full))

            os.unlink(filler)
            report.check("with room again intake goes on by itself", bool(until(lambda: send(100_000)[0] == 250, 60, 0.5)))
            for _ in range(5):
                send(100_000)
            report.check("and stays so", len(kept) >= 16, str(len(kept)))
            counts = lambda: collections.Counter(message_id(content) for _, _, content in list(sink.got))
            until(lambda: set(kept) <= set(counts()), 60, 0.2)
            lost = set(kept) - set(counts())
            report.check(f"0 lost of {len(kept)} that got 250", not lost, str(sorted(lost)))
            strangers = set(counts()) - set(kept)
            report.check("nothing is delivered whose client heard 452", not strangers, str(sorted(strangers)))
            doubles = [m for m, n in counts().items() if n > 1]
            report.check("nothing is delivered twice", not doubles, str(doubles))
        finally:
            z.down()
            for mounted in (f"{z.dir}/postgres", disk):
                subprocess.run(["umount", "-l", mounted], capture_output=True, timeout=10)
print(f"{report.count} passed, 0 failed")
