#!/usr/bin/env python3
"""Full disks: the repository's, and the one that is restored to.

The repository lies on a small file system of its own (a tmpfs in a private mount namespace) and is filled to the last block: a backup
fails and says why, `verify` and `list` name it, mail comes in and goes out meanwhile, and with room again everything is as it should be.
A restore and a drill that do not fit are refused with the numbers, and leave nothing behind. Skipped, saying so, where nothing may be
mounted.

    recovery_full.py [--seed S]
"""
import argparse, os, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from past import *

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
PORT = 2702

with_own_mounts("recovery_full")


def mounted(path, size):
    os.makedirs(path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "none", path], check=True, timeout=10)
    return path


with folder() as path, restored_clusters():
    report = Report("recovery and full disks")
    rng = seed_from(arguments)
    authority = Authority(f"{path}/ca")
    dns = Dns({}, 5402)
    dns.add("bar.test", "127.0.0.102")
    sink = Sink("127.0.0.102", PORT, authority.leaf("mx.bar.test"))
    disk, small = mounted(f"{path}/disk", "300m"), mounted(f"{path}/small", "16m")
    settings = ["dns.forwarders=127.0.0.1@5402", f"delivery.port={PORT}", f"delivery.trust_roots={authority.pem}", "delivery.retry=2s"]
    try:
        with Cluster(path, settings) as z:
            report.on_failure = z.last_logs
            enabled = z.zegel("recovery", "enable", "--repository", f"{disk}/repository")
            report.check("recovery is switched on", enabled.returncode == 0, enabled.stderr)
            client = Client(z)
            deliver = lambda number: client.send("a@demo.test", [f"u{number}@bar.test"], message(number, rng, 2000))
            report.check("mail goes", bool(deliver(1) and until(lambda: len(sink.got) == 1)))
            made = z.zegel("recovery", "create")
            report.check("a backup is made", made.returncode == 0, made.stderr)
            report.check("the worker tells how old the archive is", bool(until(lambda: z.metric("zegel_ledger_archive_age_seconds") is not None, 60, 1)))
            clean = z.zegel("recovery", "verify")
            report.check("all is as it should be", clean.returncode == 0, clean.stdout + clean.stderr)
            window = json.loads(z.zegel("recovery", "list", "--json").stdout)[0]["window"]

            # To where there is no room.
            done = z.zegel("recovery", "restore", "--to", window["from"], "--into", f"{small}/then")
            report.check("a restore without room: refused, with the numbers", done.returncode != 0 and "no room" in done.stderr and "MB" in done.stderr, done.stderr)
            done = z.zegel("recovery", "drill", "--into", f"{small}/drill", "--json")
            report.check("a drill without room fails, and says so", done.returncode == 1 and "no room" in json.loads(done.stdout)["faults"][0],
                         done.stdout + done.stderr)
            report.check("nothing is left of them", not os.listdir(small), str(os.listdir(small)))

            # The repository's own.
            fill(f"{disk}/filler")
            report.check("mail goes with a repository that is full", bool(deliver(2) and until(lambda: len(sink.got) == 2)))
            made = z.zegel("recovery", "create", "--full")
            report.check("a backup: fails and says why", made.returncode != 0 and "disk of the repository is full" in made.stderr, made.stderr)
            verified = z.zegel("recovery", "verify")
            report.check("verify names it", verified.returncode != 0 and "disk of the repository is full" in verified.stdout, verified.stdout + verified.stderr)
            listed = z.zegel("recovery", "list")
            report.check("so does list", listed.returncode != 0 and "disk of the repository is full" in listed.stdout, listed.stdout)
            failing = until(lambda: z.metric("zegel_ledger_archive_failing") == 1, 90, 1)
            report.check("and the worker tells that archiving fails", bool(failing))
            report.check("mail goes still", bool(deliver(3) and until(lambda: len(sink.got) == 3)))
            os.unlink(f"{disk}/filler")
            made = z.zegel("recovery", "create", "--full")
            report.check("with room again a backup is made", made.returncode == 0, made.stderr)
            clean = z.zegel("recovery", "verify")
            report.check("and all is as it should be", clean.returncode == 0, clean.stdout + clean.stderr)
            drill = z.zegel("recovery", "drill")
            report.check("and can be restored", drill.returncode == 0, drill.stdout + drill.stderr)
    finally:
        for one in (disk, small):
            subprocess.run(["umount", "-l", one], capture_output=True, timeout=10)
