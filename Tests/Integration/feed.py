#!/usr/bin/env python3
"""The events feed over failovers: a reader that changes region in the middle of ten of them gets every event, and repeats only whole.

Three regions, three shards, mail all the while. Leaders are lost by force (their region killed, back a while later) and moved as
planned. Shown: what the reader has in the end is what the databases hold, id for id; an event that came again is the same event.

    feed.py [--forced N] [--planned N] [--seed S]

Skipped, saying so, where no network namespace may be made.
"""
import argparse, collections, os, subprocess, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from lab import *
import sites

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--forced", type=int, default=3)
parser.add_argument("--planned", type=int, default=7)
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
sites.enter("feed")


def zegel(z, *command, timeout=150):
    return subprocess.run([z.bin, *command, "--dir", z.dir], capture_output=True, text=True, timeout=timeout)


class Reader:
    """As a SIEM's collector: goes on from the last cursor that it was given, at whichever region answers."""

    def __init__(self, z):
        self.z, self.cursor, self.region = z, "", 0
        self.seen, self.repeats, self.differences, self.refusals = {}, 0, [], []
        self.longest, self.last = 0.0, time.monotonic()
        self.ending, self.changes = threading.Event(), 0
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def move(self):
        """Another region from now on."""
        self.region = (self.region + 1) % 3
        self.changes += 1

    def page(self):
        page = self.z.get(f"/v1/events?limit=200&after={urllib.parse.quote(self.cursor)}", self.region)
        for event in page["events"]:
            fact = {k: v for k, v in event.items() if k != "cursor"}
            before = self.seen.setdefault(event["id"], fact)
            if before is not fact:
                self.repeats += 1
                if before != fact:
                    self.differences.append((before, fact))
        self.cursor = page["next"]
        return len(page["events"])

    def work(self):
        while not self.ending.is_set():
            try:
                if self.page():
                    self.longest = max(self.longest, time.monotonic() - self.last)
                    self.last = time.monotonic()
                else:
                    self.ending.wait(0.1)
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    self.refusals.append((self.region, error.code, error.read()[:300]))
                self.move()
                self.ending.wait(0.3)
            except (OSError, ValueError):
                self.move()
                self.ending.wait(0.3)


with folder() as path:
    report = Report(f"feed: a reader over {arguments.forced} forced and {arguments.planned} planned changes of leader")
    rng = seed_from(arguments)
    all_sites = sites.sites(3)
    authority = Authority(f"{path}/ca")
    dns = Dns({}, 5391, sites.HOST)
    dns.add("bar.test", sites.HOST)
    sink = Sink(sites.HOST, 2691, authority.leaf("mx.bar.test"))
    settings = [f"dns.forwarders={sites.HOST}@5391", "delivery.port=2691", f"delivery.trust_roots={authority.pem}",
                "delivery.retry=1s", "worker.lease=5s", "delivery.final_dot_timeout=8s"]
    placed = [word for site in all_sites for word in ("--place", site.place)]
    with Cluster(path, settings, ["--regions", "3", *placed], patience=200) as z:
        report.on_failure = lambda: z.last_logs(15)
        ending, sent = threading.Event(), []

        def send(index):
            client = Roaming(z, index)
            while not ending.is_set():
                number = index * 100_000 + len(sent)
                sent.append(number)
                client.send("a@demo.test", ["b@bar.test"], message(number, rng, 500))
                ending.wait(0.1)

        senders = [threading.Thread(target=send, args=(i,), daemon=True) for i in range(4)]
        for sender in senders:
            sender.start()
        reader = Reader(z)

        def leaders():
            return {s["name"]: s["leader"] for s in json.loads(zegel(z, "shard", "status", "--json").stdout)}

        def is_whole():
            shards = json.loads(zegel(z, "shard", "status", "--json").stdout)
            return all(s["leader"] and all(m["state"] in ("running", "streaming") for m in s["members"]) for s in shards)

        def whole():
            return until(is_whole, 150, 0.5)

        turns = ["forced"] * arguments.forced + ["planned"] * arguments.planned
        rng.shuffle(turns)
        for turn in turns:
            report.check("the cluster is whole", bool(whole()), zegel(z, "shard", "status").stdout)
            before = leaders()
            shard = rng.choice(sorted(before))
            region = before[shard]
            moving = threading.Timer(rng.uniform(0.2, 4), reader.move)
            moving.start()
            if turn == "planned":
                to = rng.choice([r for r in ("r1", "r2", "r3") if r != region])
                done = zegel(z, "shard", "switchover", shard, "--to", to, "--yes")
                report.check(f"planned: shard {shard} from {region} to {to}", done.returncode == 0, done.stderr)
            else:
                zegel(z, "local", "kill", "--region", region)
                changed = until(lambda: leaders().get(shard) not in (None, region), 60, 0.5)
                report.check(f"forced: shard {shard} loses {region} and has another leader", bool(changed))
                back = zegel(z, "local", "start", "--region", region)
                report.check(f"{region} comes back", back.returncode == 0, back.stderr[-300:])
            moving.join()
        report.check("the cluster is whole in the end", bool(whole()), zegel(z, "shard", "status").stdout)
        ending.set()
        for sender in senders:
            sender.join(130)
        until(lambda: sites.answers(z, all_sites, 0, "SELECT count(*) FROM ledger.delivery") == ["0"] * 3, 90, 0.5)
        held = set()
        for rows in sites.answers(z, all_sites, 0, "SELECT id FROM ledger.event"):
            held |= set((rows or "").split())
        until(lambda: held <= set(reader.seen), 60, 0.2)
        reader.ending.set()
        reader.thread.join(30)
        missed = held - set(reader.seen)
        report.figure("events", f"{len(held)} of {len(sent)} messages; {reader.repeats} came again; "
                      f"{reader.changes} changes of region; longest without one {reader.longest:.1f} s")
        report.check("the reader was refused nowhere", not reader.refusals, str(reader.refusals[:3]))
        report.check("it has every event", not missed, f"{len(missed)} missed: {sorted(missed)[:5]}")
        report.check("it has no event that is not there", set(reader.seen) <= held, str(sorted(set(reader.seen) - held)[:5]))
        report.check("what came again is the same", not reader.differences, str(reader.differences[:2]))
print(f"{report.count} passed, 0 failed")
