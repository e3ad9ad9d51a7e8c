#!/usr/bin/env python3
"""With nothing left but the repository and what a reader of the events has kept.

A steady load, some of it undelivered; a reader keeps what GET /v1/events answers. A drill while that goes on. Then the cluster is lost
for good. Seconds of the past are restored, and told by the kept events alone: what ended is not sent again, what came after the moment
and had not ended is named as lost, no double is without its mark, what the events do not name is held, and returned to its sender.
Nobody told what was revoked: nothing that was given out works. At last the day's content key is destroyed: a restore from before opens
no content, and its metadata reads.

    recovery_events.py [--seconds N] [--rate N] [--points N] [--each] [--seed S]
"""
import argparse, os, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from past import *

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seconds", type=int, default=25, help="how long mail comes in")
parser.add_argument("--rate", type=int, default=25, help="messages a second")
parser.add_argument("--points", type=int, default=2, help="seconds of the past that are restored")
parser.add_argument("--each", action="store_true", help="let each of them go on, not only the last")
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
PORT = 2698
# A copy of it has ended for its recipient.
ENDS = ("delivered", "refused", "bounced", "expired", "cancelled", "withdrawn")


def keep(events, path, without=()):
    """What a reader has kept: half of it as pages, half as one event a line."""
    events = [e for e in events if e["message_id"] not in without]
    half = len(events) // 2
    with open(path, "w") as f:
        for start in range(0, half, 100):
            json.dump({"events": events[start:min(start + 100, half)], "next": "x"}, f, indent=1)
        for event in events[half:]:
            f.write("\n" + json.dumps(event))
    return path


def drill(report, z, what, *options, lives=True):
    done = z.zegel("recovery", "drill", "--json", *options)
    found = json.loads(done.stdout or "{}")
    # Of a cluster that is gone the newest point grows old, and nothing else may be wrong.
    faults = found.get("faults", ["none"]) + [f for s in found["shards"] for f in s["faults"]]
    wrong = [f for f in faults if lives or "the newest point is" not in f]
    report.check(f"{what}: the drill finds everything as it should be", not wrong and found["passed"] is (done.returncode == 0) is (not faults),
                 done.stdout[-1500:] + done.stderr)
    report.check(f"{what}: nothing of it is left", not os.path.exists(f"{z.dir}/recovery/drill"))
    for shard in found["shards"]:
        seals = shard["seals"]
        report.figure("drill", f"{shard['size']} octets: RTO {shard['rto']:.1f} s, RPO {shard['rpo']:.1f} s, {shard['rows']['messages']} messages, "
                      f"{seals['opened']} of {seals['tried']} seals opened ({seals['contents']} contents), {found['took']:.1f} s in all")
    return found, done


with folder() as path, restored_clusters():
    report = Report(f"recovery from events, {arguments.seconds} s of {arguments.rate} messages/s")
    rng = seed_from(arguments)
    dns = Dns({}, 5399)
    for name in ("bar.test", "demo.test"):
        dns.add(name, "127.0.0.99")
    # One host for both: its name does not matter to what is tried.
    sink = Sink("127.0.0.99", PORT)
    some, all_ = threading.Event(), threading.Event()

    def on_rcpt(sink, address):
        waits = address.startswith("later") and not all_.is_set() and not (some.is_set() and int(address[5:].split("@")[0]) % 2)
        return "451 4.2.0 later" if waits else None

    sink.on_rcpt = on_rcpt
    settings = ["dns.forwarders=127.0.0.1@5399", f"delivery.port={PORT}", "delivery.retry=2s",
                "worker.per_destination=10"]
    with Cluster(path, settings, ["--ruleset", "opportunistic"]) as z:
        report.on_failure = z.last_logs
        outside = Outside(z, sink, rng, arguments.rate, lambda z, _: Client(z))

        def on_dot(sink, content):
            name = message_id(content)
            if name.startswith("<m-"):
                outside.got.setdefault(int(name[3:].split("@")[0]), time.time())

        sink.on_dot = on_dot
        enabled = z.zegel("recovery", "enable")
        report.check("recovery is switched on", enabled.returncode == 0, enabled.stderr)
        outside.load()
        began = time.time()
        until(lambda: len(outside.answered) > 50, 20)
        time.sleep(arguments.seconds / 2)
        made = z.zegel("recovery", "create")
        report.check("a backup under load", made.returncode == 0, made.stderr)
        kept = lambda: {k: v for k, v in digest(f"{z.dir}/recovery/repository").items() if k.endswith(".zst")}
        before = kept()
        found, done = drill(report, z, "under load")
        now = kept()
        report.check("under load: the repository has only grown", all(now.get(k) == v for k, v in before.items()))
        shard = found["shards"][0]
        report.check("under load: seals are opened, contents too", shard["seals"]["contents"] > 0 and shard["checksumsHold"], str(shard))
        report.check("under load: its leader was asked", shard.get("reconciled", {}).get("unknown") == 0, str(shard))
        pages = [f for f in os.listdir(f"{z.dir}/recovery/drills")]
        report.check("under load: a report and a page", sorted(f.split(".")[1] for f in pages) == ["html", "json"], str(pages))
        time.sleep(max(0, arguments.seconds / 2 - 4))
        ended = time.time()
        some.set()
        points = sorted(rng.uniform(began + 3, ended) for _ in range(arguments.points))
        report.check("the archive gets there", bool(until(lambda: newest(z) > ended + 1, 60, 0.5)), z.zegel("recovery", "list").stdout)
        old = dict(z.e)
        lose(z)
        outside.end()
        # The sink may have what no event tells.
        read, cursor = list(outside.read), outside.cursor
        ends = {e["message_id"] for e in read if e["kind"] in ENDS}
        report.figure("load", f"{len(outside.answered)} messages answered, {len(outside.got)} delivered, {len(read)} events kept, {len(ends)} ends")

        taken = len(sink.got)
        for number, at in enumerate(points):
            what = f"events {number + 1}"
            restored = Restored(f"{path}/events-{number}")
            done = restored.broken_off(rng, 1, "recovery", "restore", "--dir", z.dir, "--to", moment(at), "--into", restored.dir)
            report.check(f"{what}: restored", done.returncode == 0, done.stderr)
            rows = restored.inside(STATES)
            compare(report, what, [rows], at, outside)
            states = json.loads(rows)
            # Some that nobody has heard of.
            unnamed = sorted(i for i, state in states.items() if state == "open" and i not in ends)[:5]
            file = keep(read, f"{path}/kept-{number}.json", unnamed)
            # Of what the file holds: taken in, not there, not ended.
            lost = {e["message_id"] for e in read if e["kind"] == "accepted"} - set(states) - ends
            if number == 0:
                for words, text in (("cut off", "{\"events\":["), ("is missing", "\n{\"id\":\"0\"}"), ("another cluster", json.dumps(
                        dict(read[0], id="00000000-0000-7000-8000-000000000000", message_id=None, cursor=None)))):
                    with open(f"{path}/wrong.json", "w") as f:
                        f.write(text)
                    wrong = restored.zegel("recovery", "reconcile", "--events", f"{path}/wrong.json")
                    report.check(f"a file that is wrong ({words}): refused, with what is", wrong.returncode != 0 and words in wrong.stderr, wrong.stderr)
            command = ("recovery", "reconcile", "--dir", restored.dir, "--events", file, "--json")
            if number + 1 == arguments.points:
                done, kills = restored.at_every_step(*command)
                report.figure("told", f"killed at each of {kills} steps")
            else:
                done = restored.broken_off(rng, 2, *command)
            report.check(f"{what}: told by the events alone", done.returncode == 0, done.stderr)
            told = json.loads(done.stdout)[0]
            report.figure("told", f"{told['deliveries']}, {len(told['lost'])} lost")
            report.check(f"{what}: what is lost is named", {i.lower() for i in told["lost"]} == lost,
                         f"{len(told['lost'])} named, {len(lost)} are: {sorted(lost)[:3]}")
            report.check(f"{what}: what they do not name is held", told["deliveries"]["unknown"] == len(unnamed), str(told["deliveries"]))
            if not arguments.each and number + 1 < arguments.points:
                continue
            done, kills = restored.at_every_step("recovery", "promote", "--dir", restored.dir, "--yes")
            report.check(f"{what}: promoted", done.returncode == 0 or "is promoted" in done.stderr, done.stderr)
            # What had been delivered by then, by the old cluster alone.
            sink.got = sink.got[:taken]
            all_.set()
            held = carry_on(report, what, restored, outside, sink, at)
            report.on_failure = restored.last_logs
            report.check(f"{what}: what they do not name is held still", held == len(unnamed) > 0, f"{held} held, {len(unnamed)} not named")
            # Nobody told what was revoked.
            new = dict(restored.e)
            report.check(f"{what}: its own credentials are new", new["api_key"] != old["api_key"] and new["smtp_password"] != old["smtp_password"])
            restored.smtp(timeout=10).quit()
            address, port = new["regions"][0]["smtp"][0].rsplit(":", 1)
            session = smtplib.SMTP(address, int(port), timeout=10)
            session.starttls(context=restored.context())
            try:
                session.login(old["smtp_user"], old["smtp_password"])
                refused = None
            except smtplib.SMTPAuthenticationError as error:
                refused = error.smtp_code
            report.check(f"{what}: an SMTP password from before does not work", refused == 535, str(refused))
            try:
                urllib.request.urlopen(urllib.request.Request(new["regions"][0]["api"] + "/v1/events?limit=1",
                                                              headers={"Authorization": "Bearer " + old["api_key"]}), context=restored.context(), timeout=15)
                refused = None
            except urllib.error.HTTPError as error:
                refused = error.code
            report.check(f"{what}: an API key from before does not work", refused == 401, str(refused))
            # What was held is returned.
            reports = lambda: [g for g in sink.got if not message_id(g[2]).startswith("<m-")]
            returned = restored.zegel("recovery", "held", "return", "--tenant", "demo", "--yes")
            report.check(f"{what}: held mail is returned", returned.returncode == 0 and bool(until(
                lambda: restored.sql("SELECT count(*) FROM ledger.delivery") == "0", 60, 0.3)), returned.stderr)
            report.check(f"{what}: each sender is told", len(reports()) == len(unnamed) and all(
                b"An operator decided not to deliver" in content and any(a.startswith("a@demo.test") for a in to) for _, to, content in reports()), str(len(reports())))
            names = {identity: n for n, identity in outside.names.items()}
            arrived = {message_id(c) for _, _, c in sink.got}
            report.check(f"{what}: and nothing of it was sent", not any(f"<m-{names[i]}@demo.test>" in arrived for i in unnamed if i in names))
            both = goes_on(report, what, restored, cursor, read, [g for g in sink.got if message_id(g[2]).startswith("<m-")])
            named = {e["message_id"] for e in both.values() if e["kind"] == "unrecoverable" and e["reason_code"] == "restored-lost"}
            report.check(f"{what}: and is told of each message that is lost", named == lost, f"{len(named)} of {len(lost)}")
            subprocess.run([z.bin, "local", "down", "--dir", restored.dir], capture_output=True, timeout=60)

        # The end of an epoch: content is closed for ever, metadata reads.
        at = points[0]
        found, _ = drill(report, z, "before the day's key ends", "--to", moment(at), "--samples", "10000", lives=False)
        contents = found["shards"][0]["seals"]["contents"]
        report.check("contents open before", contents == found["shards"][0]["rows"]["openDeliveries"] > 0, str(found["shards"][0]["seals"]))
        # It may be another day by now.
        days = {e["epoch"] for e in json.loads(z.zegel("keyring", "list", "--json").stdout)
                if e["purpose"] == "content" and began - 86400 < seconds(e["from"]) <= time.time()}
        early = z.zegel("keyring", "destroy", "--epoch", str(max(days)), "--yes")
        report.check("an epoch that is not over is not ended by mistake", early.returncode != 0 and "not over" in early.stderr, early.stderr)
        for epoch in days:
            gone = z.zegel("keyring", "destroy", "--epoch", str(epoch), "--yes", "--even-current")
            report.check("a content key is destroyed", gone.returncode == 0, gone.stderr)
        found, _ = drill(report, z, "after it", "--to", moment(at), "--samples", "10000", lives=False)
        seals = found["shards"][0]["seals"]
        report.check("no content opens, and every envelope does", seals["contents"] == 0 and seals["destroyed"] == contents
                     and seals["opened"] == seals["tried"] - contents > 0, str(seals))
        restored = Restored(f"{path}/shredded")
        done = restored.broken_off(rng, 0, "recovery", "restore", "--dir", z.dir, "--to", moment(at), "--into", restored.dir)
        report.check("shredded: restored from before", done.returncode == 0, done.stderr)
        done = restored.zegel("recovery", "reconcile", "--archive")
        report.check("shredded: reconciled", done.returncode == 0, done.stderr)
        done = restored.zegel("recovery", "promote", "--yes")
        report.check("shredded: promoted", done.returncode == 0, done.stderr)
        before = len(sink.got)
        STARTED.append(restored.dir)
        up = subprocess.run([z.bin, "local", "up", "--dir", restored.dir, "--detach", "--workers", "1", "--edges", "1"], capture_output=True, text=True,
                            timeout=120)
        report.check("shredded: it comes up", up.returncode == 0, up.stderr[-1500:])
        report.on_failure = restored.last_logs
        report.check("shredded: all of it is held, for the key is gone", bool(until(
            lambda: restored.sql("SELECT count(*) FROM ledger.delivery WHERE state <> 'held'") == "0", 60, 0.3)))
        events = restored.events()
        open_ = {e["message_id"] for e in events if e["kind"] == "held" and e["reason_code"] == "key-destroyed"}
        report.check("shredded: and says why", open_ and len(open_) == int(restored.sql("SELECT count(*) FROM ledger.delivery")), str(len(open_)))
        report.check("shredded: nothing of it was sent", len(sink.got) == before, str(len(sink.got) - before))
        report.check("shredded: its metadata reads", all(e["recipient"].endswith("@bar.test") for e in events if e["kind"] == "accepted"))
        subprocess.run([z.bin, "local", "down", "--dir", restored.dir], capture_output=True, timeout=60)
