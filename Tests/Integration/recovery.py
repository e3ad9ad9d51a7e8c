#!/usr/bin/env python3
"""Any second of the past is restored beside the cluster, and no mail is sent twice or lost for it.

A steady load, some of it still undelivered. What the outside knew is kept: when each client had its 250, when the sink got what, when a
reader of the feed saw which event. Seconds of the past, chosen at random, are restored: what is there is what was known then. Then the
cluster is lost with everything running. Reconciled with the end of its archive, and, once its PostgreSQL lives again, with its members:
whatever had not been delivered is, no double is without its mark, the reader of the feed misses nothing, nothing that was revoked works,
and the old cluster and its archive are what they were. Commands are killed at random moments and given again. Bad input is answered with
what to do. With each source the last one is killed at everything that it says.

    recovery.py [--seconds N] [--rate N] [--points N] [--each] [--seed S]
"""
import argparse, hashlib, os, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from past import *

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seconds", type=int, default=40, help="how long mail comes in")
parser.add_argument("--rate", type=int, default=25, help="messages a second")
parser.add_argument("--points", type=int, default=2, help="seconds of the past that are restored with each source")
parser.add_argument("--each", action="store_true", help="let each of them go on, not only the last")
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
PORT = 2697


def session_refused(restored):
    """Whether an edge refuses the password, and not for want of something else."""
    try:
        restored.smtp(timeout=10).quit()
        return False
    except smtplib.SMTPAuthenticationError as error:
        return error.smtp_code == 535


def key_works(restored, key):
    r = urllib.request.Request(restored.e["regions"][0]["api"] + "/v1/events?limit=1", headers={"Authorization": "Bearer " + key})
    try:
        urllib.request.urlopen(r, context=restored.context(), timeout=15)
        return True
    except urllib.error.HTTPError as error:
        if error.code == 401:
            return False
        raise


def bad_input(z, path, at):
    def refused(what, words, *command, directory=None):
        p = subprocess.run([z.bin, "recovery", *command, "--dir", directory or z.dir], capture_output=True, text=True, timeout=60,
                           env={**os.environ, "TZ": "Europe/Amsterdam"})
        report.check(f"{what}: refused, with what to do", p.returncode != 0 and all(w in p.stderr for w in words), p.stderr)

    window = ["what can be restored is", "+01:00", "Z)"]
    into = ["--into", f"{path}/nowhere"]
    refused("a timestamp without a zone", ["has no time zone"] + window, "restore", "--to", moment(at)[:19], *into)
    refused("a timestamp to come", ["still to come"] + window, "restore", "--to", moment(time.time() + 3600), *into)
    refused("a timestamp before the window", ["not in the archive"] + window, "restore", "--to", moment(at - 86400), *into)
    refused("no timestamp", ["RFC 3339"] + window, "restore", "--to", "yesterday", *into)
    refused("a folder that is not empty", ["not empty"], "restore", "--to", moment(at), "--into", f"{path}/ca")
    refused("the cluster's own folder", ["the cluster itself"], "restore", "--to", moment(at), "--into", z.dir)
    refused("a cluster that was not restored", ["no restored cluster"], "promote", "--yes")


def damage(z, path):
    """What is wrong with a repository is found and named."""
    repository = f"{z.dir}/recovery/repository"

    def verified(what, *words):
        p = z.zegel("recovery", "verify")
        report.check(f"{what}: found and named", p.returncode != 0 and all(w in p.stdout + p.stderr for w in words), p.stdout + p.stderr)

    clean = z.zegel("recovery", "verify")
    report.check("a repository as it should be", clean.returncode == 0, clean.stdout + clean.stderr)
    segments = sorted(os.path.join(at, n) for at, _, names in os.walk(f"{repository}/archive") for n in names if n.endswith(".zst"))
    away = segments[len(segments) // 2]
    os.rename(away, f"{path}/away")
    verified("a missing WAL segment", os.path.basename(away)[:24], "not in the archive")
    os.rename(f"{path}/away", away)

    def spoiled(file):
        shutil.copy2(file, f"{path}/whole")
        with open(file, "r+b") as f:
            f.seek(os.path.getsize(file) // 2)
            f.write(b"spoiled!")

    def mended(file):
        with open(f"{path}/whole", "rb") as whole, open(file, "r+b") as f:
            f.write(whole.read())

    spoiled(away)
    verified("a damaged WAL segment", "archived WAL", os.path.basename(away))
    mended(away)
    largest = max((os.path.join(at, n) for at, _, names in os.walk(f"{repository}/backup") for n in names
                   if "manifest" not in n and "info" not in n), key=os.path.getsize)
    spoiled(largest)
    verified("a damaged backup", "backup", os.path.relpath(largest, f"{repository}/backup/zegel-a").split("/")[0])
    mended(largest)
    configuration = f"{z.dir}/recovery/pgbackrest.conf"
    with open(configuration) as f:
        text = f.read()
    with open(configuration, "r+") as f:
        f.write(re.sub("cipher-pass=(.)", lambda m: "cipher-pass=" + ("x" if m[1] == "X" else "X"), text))
    verified("a wrong passphrase", "passphrase")
    with open(configuration, "r+") as f:
        f.write(text)
    for name in (configuration, f"{z.dir}/secrets/repository.passphrase"):
        os.rename(name, name + ".away")
    p = z.zegel("recovery", "verify")
    report.check("a repository without its key: refused, with what is missing", p.returncode != 0 and "repository.passphrase is not there" in p.stderr, p.stderr)
    for name in (configuration, f"{z.dir}/secrets/repository.passphrase"):
        os.rename(name + ".away", name)
    again = z.zegel("recovery", "verify")
    report.check("and as it should be again", again.returncode == 0, again.stdout + again.stderr)


with folder() as path, restored_clusters():
    report = Report(f"recovery, {arguments.seconds} s of {arguments.rate} messages/s")
    rng = seed_from(arguments)
    authority = Authority(f"{path}/ca")
    dns = Dns({}, 5397)
    dns.add("bar.test", "127.0.0.97")
    sink = Sink("127.0.0.97", PORT, authority.leaf("mx.bar.test"))
    # Some are not taken before the last of the moments, and some not before the loss.
    some, all_ = threading.Event(), threading.Event()

    def on_rcpt(sink, address):
        waits = address.startswith("later") and not all_.is_set() and not (some.is_set() and int(address[5:].split("@")[0]) % 2)
        return "451 4.2.0 later" if waits else None

    sink.on_rcpt = on_rcpt
    settings = ["dns.forwarders=127.0.0.1@5397", f"delivery.port={PORT}", f"delivery.trust_roots={authority.pem}",
                "delivery.retry=2s", "worker.per_destination=10"]
    with Cluster(path, settings) as z:
        report.on_failure = z.last_logs
        outside = Outside(z, sink, rng, arguments.rate, lambda z, _: Client(z))
        sink.on_dot = lambda sink, content: outside.got.setdefault(int(message_id(content)[3:].split("@")[0]), time.time()) and None
        enabled = z.zegel("recovery", "enable")
        report.check("recovery is switched on", enabled.returncode == 0, enabled.stderr)
        second = f"zegel_{(key := str(__import__('uuid').uuid4()))}_{'k' * 43}"
        z.sql(f"INSERT INTO control.api_key (id, tenant, label, scopes, secret_hash) VALUES ('{key}', 'demo', 'second', '{{*}}', "
              f"'\\x{hashlib.sha256(('k' * 43).encode()).hexdigest()}')")
        report.check("a second API key works", key_works(z, second))
        outside.load()
        began = time.time()
        until(lambda: len(outside.answered) > 50, 20)
        time.sleep(arguments.seconds / 2)
        made = z.zegel("recovery", "create")
        report.check("a backup under load", made.returncode == 0, made.stderr)
        report.figure("backup", made.stderr.strip().splitlines()[-1])
        time.sleep(max(0, arguments.seconds / 2 - 4))
        ended = time.time()
        some.set()
        points = sorted(rng.uniform(began + 3, ended) for _ in range(2 * arguments.points))
        # What was given out before and is taken back after every one of these seconds.
        z.sql(f"UPDATE control.api_key SET revoked_at = now() WHERE id = '{key}'")
        z.sql("UPDATE control.credential SET revoked_at = now() WHERE username = 'demo'")
        z.sql("UPDATE control.tenant SET in_doubt = 'hold'")
        # Until all of this is in the archive; mail that has its 250 goes on being delivered.
        report.check("the archive gets there", bool(until(lambda: newest(z) > ended + 2, 60, 0.5)), z.zegel("recovery", "list").stdout)
        time.sleep(3)
        lose(z)
        lost_at = time.time()
        outside.end()
        report.figure("load", f"{len(outside.answered)} messages answered, {len(outside.got)} delivered, {len(outside.read)} events seen")
        end_of_archive = newest(z)
        report.figure("archive", f"ends {lost_at - end_of_archive:.1f} s before the loss")
        repository = digest(f"{z.dir}/recovery/repository")
        bad_input(z, path, points[0])

        # 1. Nothing left but the repository and the copies that docs/recovery.md names.
        before = len(sink.got)
        os.rename(z.dir, f"{path}/gone")
        os.makedirs(f"{z.dir}/recovery", mode=0o711)
        for name in ("secrets", "certificates", "keyring"):
            shutil.copytree(f"{path}/gone/{name}", f"{z.dir}/{name}")
        shutil.copy2(f"{path}/gone/cluster.json", z.dir)
        for name in ("recovery.json", "segments"):
            subprocess.run(["cp", "-a", f"{path}/gone/recovery/{name}", f"{z.dir}/recovery"], check=True)
        os.rename(f"{path}/gone/recovery/repository", f"{z.dir}/recovery/repository")
        for number, at in enumerate(points[:arguments.points]):
            what = f"archive {number + 1}"
            restored = Restored(f"{path}/archive-{number}")
            started = time.monotonic()
            command = ("recovery", "restore", "--dir", z.dir, "--to", moment(at), "--into", restored.dir)
            if number + 1 == arguments.points:
                done, kills = restored.at_every_step(*command)
                report.figure("restored", f"{moment(at)}, killed at each of {kills} steps")
            else:
                done = restored.broken_off(rng, 2, *command)
                report.figure("restored", f"{moment(at)} in {time.monotonic() - started:.1f} s with what was killed")
            report.check(f"{what}: restored, killed on the way or not", done.returncode == 0, done.stderr)
            compare(report, what, [restored.inside(STATES)], at, outside)
            early = subprocess.run([z.bin, "local", "up", "--dir", restored.dir, "--detach"], capture_output=True, text=True, timeout=60)
            report.check(f"{what}: nothing is delivered before it is promoted", early.returncode != 0 and "promote" in early.stderr, early.stderr)
            early = restored.zegel("recovery", "promote", "--yes")
            report.check(f"{what}: nor promoted before it is reconciled", early.returncode != 0 and "reconcile" in early.stderr, early.stderr)
            command = ("recovery", "reconcile", "--dir", restored.dir, "--archive")
            if number + 1 == arguments.points:
                done, kills = restored.at_every_step(*command)
                report.figure("reconciled", f"killed at each of {kills} steps")
            else:
                done = restored.broken_off(rng, 2, *command)
            report.check(f"{what}: reconciled with the end of the archive", done.returncode == 0, done.stderr)
            report.figure("reconciled", done.stdout.strip())
            if not arguments.each and number + 1 < arguments.points:
                continue
            done, kills = restored.at_every_step("recovery", "promote", "--dir", restored.dir, "--yes")
            report.check(f"{what}: promoted", done.returncode == 0 or "is promoted" in done.stderr, done.stderr)
            # What had been delivered by then, by the old cluster alone.
            sink.got = sink.got[:before]
            all_.set()
            held = carry_on(report, what, restored, outside, sink, end_of_archive - 1)
            report.on_failure = restored.last_logs
            # Its tenant wanted what is in doubt held.
            listed = json.loads(restored.zegel("recovery", "held", "list", "--tenant", "demo", "--json").stdout)
            report.check(f"{what}: what is in doubt is held, as its tenant wants", held > 0 and held == sum(g["count"] for g in listed[0]["groups"]),
                         f"{held} held, listed {listed}")
            released = restored.zegel("recovery", "held", "release", "--domain", "bar.test", "--yes")
            report.check(f"{what}: released, it is sent", released.returncode == 0 and bool(until(
                lambda: restored.sql("SELECT count(*) FROM ledger.delivery") == "0", 60, 0.3)), released.stderr)
            arrived = {message_id(c) for _, _, c in sink.got}
            missing = [n for n, when in outside.answered.items() if when < end_of_archive - 1 and f"<m-{n}@demo.test>" not in arrived]
            report.check(f"{what}: nothing is missing that its archive had", not missing, str(missing[:5]))
            report.check(f"{what}: a revoked SMTP password does not work", session_refused(restored))
            report.check(f"{what}: a revoked API key does not work, and the other does",
                         not key_works(restored, second) and key_works(restored, restored.e["api_key"]))
            # A reader of the old feed goes on.
            read, cursor = list(outside.read), outside.cursor
            goes_on(report, what, restored, cursor, read, sink.got)
            subprocess.run([z.bin, "local", "down", "--dir", restored.dir], capture_output=True, timeout=60)

        # 2. The old cluster's members live again; its workers and edges do not.
        report.check("the archive is what it was", digest(f"{z.dir}/recovery/repository") == repository)
        os.rename(f"{z.dir}/recovery/repository", f"{path}/gone/recovery/repository")
        os.rename(z.dir, f"{path}/copies")
        os.rename(f"{path}/gone", z.dir)
        z.arguments = ["--workers", "0", "--edges", "1"]
        z.up()
        report.on_failure = z.last_logs
        early = Restored(f"{path}/early")
        done = early.broken_off(rng, 0, "recovery", "restore", "--dir", z.dir, "--to", moment(points[-1]), "--into", early.dir)
        told = early.zegel("recovery", "reconcile", "--from", z.dir)
        report.check("members: not asked while edges take mail in", done.returncode == 0 and told.returncode != 0 and "edges" in told.stderr,
                     done.stderr + told.stderr)
        os.makedirs(f"{path}/other")
        with Cluster(f"{path}/other", settings, ["--workers", "0", "--edges", "0"]) as other:
            told = early.zegel("recovery", "reconcile", "--from", other.dir)
            report.check("members: another cluster is no source", told.returncode != 0 and "another cluster" in told.stderr, told.stderr)
        z.down()
        z.arguments = ["--workers", "0", "--edges", "0"]
        z.up()
        rows = z.sql(ROWS)
        # What had been delivered by then, by the old cluster alone.
        sink.got = sink.got[:before]
        for number, at in enumerate(points[arguments.points:]):
            what = f"members {number + 1}"
            restored = Restored(f"{path}/members-{number}")
            done = restored.broken_off(rng, 1, "recovery", "restore", "--dir", z.dir, "--to", moment(at), "--into", restored.dir)
            report.check(f"{what}: restored", done.returncode == 0, done.stderr)
            compare(report, what, [restored.inside(STATES)], at, outside)
            until(lambda: z.sql("SELECT count(*) FROM ledger.worker_heartbeat WHERE lease_until > clock_timestamp()") == "0", 30, 0.5)
            command = ("recovery", "reconcile", "--dir", restored.dir, "--from", z.dir, "--json")
            if number + 1 == arguments.points:
                # What was told before does not count any more once its members have begun to tell.
                done = restored.zegel("recovery", "reconcile", "--archive")
                report.check(f"{what}: told by the archive first", done.returncode == 0, done.stderr)
                process = subprocess.Popen([z.bin, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                process.stderr.readline()
                process.kill()
                process.wait(10)
                early = restored.zegel("recovery", "promote", "--yes")
                report.check(f"{what}: not promoted when its members were broken off", early.returncode != 0 and "reconcile" in early.stderr, early.stderr)
                done, kills = restored.at_every_step(*command)
                report.figure("reconciled", f"killed at each of {kills} steps")
            else:
                done = restored.broken_off(rng, 2, *command)
            report.check(f"{what}: reconciled with its members", done.returncode == 0, done.stderr)
            told = json.loads(done.stdout)[0]["deliveries"]
            report.figure("reconciled", told)
            if not arguments.each and number + 1 < arguments.points:
                continue
            report.check("the old cluster's rows are what they were", z.sql(ROWS) == rows)
            if number + 1 == arguments.points:
                z.down()
                early = restored.zegel("recovery", "promote", "--yes")
                report.check("members: not promoted while nobody says whether they went on", early.returncode != 0 and "--unasked" in early.stderr,
                             early.stderr)
                z.up()
                rows = z.sql(ROWS)  # a new salt for the same password with every start
            sink.got = sink.got[:before]
            done, kills = restored.at_every_step("recovery", "promote", "--dir", restored.dir, "--yes")
            report.check(f"{what}: promoted", done.returncode == 0 or "is promoted" in done.stderr, done.stderr)
            held = carry_on(report, what, restored, outside, sink, lost_at + 60)
            # Final dots that were under way when everything ended.
            report.check(f"{what}: what is in doubt is held, as its tenant wants, and nothing else", held == told["inDoubt"] and told["unknown"] == 0,
                         f"{held} held, told {told}")
            released = restored.zegel("recovery", "held", "release", "--yes")
            report.check(f"{what}: released, it is sent", released.returncode == 0 and bool(until(
                lambda: restored.sql("SELECT count(*) FROM ledger.delivery") == "0", 60, 0.3)), released.stderr)
            kept = lambda files: {k: v for k, v in files.items() if k.endswith(".zst")}
            now = digest(f"{z.dir}/recovery/repository")
            report.check("the old cluster's rows are still what they were", z.sql(ROWS) == rows)
            report.check("and so are its backups and its WAL", all(now.get(k) == v for k, v in kept(repository).items()))
            goes_on(report, what, restored, cursor, read, sink.got, doubles=told["inDoubt"])
            subprocess.run([z.bin, "local", "down", "--dir", restored.dir], capture_output=True, timeout=60)
        damage(z, path)
