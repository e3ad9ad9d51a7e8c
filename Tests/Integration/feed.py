#!/usr/bin/env python3
"""Readers of the events feed over failovers: three regions and three shards, steady mail, and leaders that are lost again and again.

A leader's Patroni stands still and its PostgreSQL is killed, in every shard at once, until others lead; one region is lost whole. Two
readers go on with their cursors meanwhile: one changes region with every page, the other when its region does not answer. Shown for
each: every event that is in the ledger in the end was read; what was read is there; repeats have the same id and say the same.

    feed.py [--rounds N] [--seed S]

Skipped, saying so, where no network namespace may be made.
"""
import argparse, collections, os, signal, sys, threading, time, urllib.error
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from lab import *
import sites

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=3, help="every shard loses its leader in each; one region is lost after them")
parser.add_argument("--rate", type=float, default=12, help="messages a second")
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
sites.enter("feed")


def status(z):
    """Each shard's leader, and how many members could take over."""
    told = z.zegel("shard", "status", "--json").stdout
    with contextlib.suppress(ValueError):
        return {s["name"]: (s.get("leader"), sum(m["role"] in ("quorum_standby", "sync_standby") and m["state"] == "streaming"
                                             for m in s["members"])) for s in json.loads(told)}
    return {}


class Leader:
    """One shard's leader: its Patroni stands still, and its PostgreSQL is gone at once."""

    def __init__(self, z, shard, region):
        self.shard, self.region = shard, region
        folder = f"{z.dir}/regions/{region}/{shard}"
        pids = next(r for r in z.e["regions"] if r["name"] == region)["pids"]["patroni"]
        self.patroni = next(p for p in pids if f"/{shard}/patroni.yaml" in open(f"/proc/{p}/cmdline").read())
        import yaml
        with open(f"{folder}/patroni.yaml") as f:
            self.data = yaml.safe_load(f)["postgresql"]["data_dir"]

    def lose(self):
        os.kill(self.patroni, signal.SIGSTOP)
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"{self.data}/postmaster.pid") as f:
                os.kill(int(f.readline()), signal.SIGKILL)

    def bring_back(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.patroni, signal.SIGCONT)


class Mail:
    """Steady mail of clients that know the edges of all regions."""

    def __init__(self, z, rng, rate, connections=6):
        self.z, self.rng, self.pause = z, rng, connections / rate
        self.answers, self.lock, self.next = {}, threading.Lock(), 0
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(i,), daemon=True) for i in range(connections)]
        for thread in self.threads:
            thread.start()

    def work(self, index):
        client = Roaming(self.z, index, give_up=240)
        while not self.ending.is_set():
            with self.lock:
                number, self.next = self.next, self.next + 1
                content = message(number, self.rng)
            identity = client.send("a@demo.test", ["b@bar.test"], content)
            with self.lock:
                self.answers[number] = identity
            self.ending.wait(self.pause)
        client.quit()

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join()


class Reader:
    """A SIEM: keeps its cursor and what it read, whatever answers."""

    def __init__(self, z, name, start, changes_always):
        self.z, self.name, self.at, self.changes_always = z, name, start, changes_always
        self.cursor, self.events = "", {}
        self.repeats, self.unequal, self.changes, self.pages, self.refusals = 0, [], 0, 0, collections.Counter()
        self.unread, self.longest_silence, self.longest_pause = 0, 0.0, 0.0
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def page(self, limit, wait, timeout):
        region = self.z.e["regions"][self.at]
        query = f"/v1/events?limit={limit}&wait={wait}&after={urllib.parse.quote(self.cursor)}"
        request = urllib.request.Request(region["api"] + query, headers={"Authorization": "Bearer " + self.z.e["api_key"]})
        with urllib.request.urlopen(request, context=self.z.context(), timeout=timeout) as answer:
            return json.load(answer)

    def take(self, page):
        fresh = 0
        for event in page["events"]:
            event = {k: v for k, v in event.items() if k != "cursor"}
            known = self.events.get(event["id"])
            if known is None:
                fresh += 1
            else:
                self.repeats += 1
                # What could not be opened the first time may be open now.
                if known != event and not (known.get("sealed") or event.get("sealed")):
                    self.unequal.append((known, event))
            self.events[event["id"]] = event
        self.cursor = page["next"]
        self.unread += bool(page.get("unread"))
        return fresh

    def change(self):
        self.at, self.changes = (self.at + 1) % 3, self.changes + 1

    def work(self):
        answered = fed = time.monotonic()
        while not self.ending.is_set():
            try:
                page = self.page(200, 1, 6)
                now = time.monotonic()
                self.pages += 1
                self.longest_silence, answered = max(self.longest_silence, now - answered), now
                if self.take(page):
                    self.longest_pause, fed = max(self.longest_pause, now - fed), now
                if self.changes_always:
                    self.change()
            except urllib.error.HTTPError as error:
                words = error.read().decode(errors="replace")
                self.refusals[f"{error.code} {json.loads(words).get('detail', '') if words.startswith('{') else ''}"] += 1
                self.change()
                time.sleep(0.05)
            except (OSError, ValueError):
                self.change()
                time.sleep(0.05)

    def finish(self, wanted):
        """Reads on until it has what there is, or for half a minute."""
        self.is_well = self.thread.is_alive()
        self.ending.set()
        self.thread.join()
        end = time.monotonic() + 30
        while time.monotonic() < end and not wanted <= set(self.events):
            with contextlib.suppress(OSError, ValueError):
                self.take(self.page(1000, 0, 15))
            self.change()


with folder() as path:
    report = Report(f"feed: {arguments.rounds} times every leader lost, and a region")
    rng = seed_from(arguments)
    stage = sites.Stage(path)
    all_sites, sink = stage.sites, stage.sink
    settings = [*stage.settings, "delivery.retry=2s", "worker.lease=5s", "delivery.final_dot_timeout=8s"]
    with Cluster(path, settings, stage.regions, patience=200) as z:
        report.on_failure = lambda: z.last_logs(25)
        mail = Mail(z, rng, arguments.rate)
        readers = [Reader(z, "changes region with every page", 0, True), Reader(z, "stays while it is answered", 1, False)]
        forced = 0

        def whole():
            now = status(z)
            return now if len(now) == 3 and all(leader and spare == 2 for leader, spare in now.values()) else None

        for number in range(1, arguments.rounds + 1):
            before = until(whole, 90, 0.5)
            report.check(f"round {number}: every shard is led, and each other member could lead", bool(before), str(status(z)))
            leaders = [Leader(z, shard, leader) for shard, (leader, _) in before.items()]
            began = time.monotonic()
            for leader in leaders:
                leader.lose()
                time.sleep(rng.uniform(0, 0.3))  # commits of one shard wait while the next loses its leader

            def others_lead():
                now = status(z)
                return now if all(now.get(l.shard, (None,))[0] not in (None, l.region) for l in leaders) else None

            after = until(others_lead, 60, 0.3)
            report.check(f"round {number}: all three are led by others", bool(after), str(status(z)))
            report.figure(f"round {number}", f"others lead after {time.monotonic() - began:.1f} s")
            forced += len(leaders)
            for leader in leaders:
                leader.bring_back()
        before = until(whole, 90, 0.5)
        report.check("every shard is whole again", bool(before), str(status(z)))
        victim = max({leader for leader, _ in before.values()}, key=[l for l, _ in before.values()].count)
        led = [shard for shard, (leader, _) in before.items() if leader == victim]
        # The second reader is at the region that is lost.
        readers[1].at = int(victim[1:]) - 1
        killed = z.zegel("local", "kill", "--region", victim)
        moved = until(lambda: (now := status(z)) and all(now[s][0] not in (None, victim) for s in led), 60, 0.3)
        report.check(f"{victim} is lost, and others lead what it led", killed.returncode == 0 and bool(moved), killed.stderr)
        forced += len(led)
        back = z.zegel("local", "start", "--region", victim)
        report.check(f"{victim} comes back", back.returncode == 0, back.stderr[-500:])
        report.check("there were ten forced failovers", forced >= 10 or arguments.rounds < 3, str(forced))
        mail.stop()
        report.check("every client got its 250 in the end", all(mail.answers.values()))
        report.check("every shard is whole again", bool(until(whole, 90, 0.5)), str(status(z)))
        ended = until(lambda: sites.answers(z, all_sites, 0, "SELECT count(*) FROM ledger.delivery") == ["0"] * 3, 90, 0.5)
        report.check("every delivery ends", bool(ended))
        report.check("every member holds the same rows", bool(until(lambda: sites.are_equal(z, all_sites), 30, 0.5)))
        rows = [line for answer in sites.answers(z, all_sites, 0, "SELECT id FROM ledger.event") for line in answer.split("\n")]
        there = set(rows)
        report.check("no event is in the ledger twice", len(rows) == len(there), f"{len(rows) - len(there)}")
        incarnations = sum(int(n) for n in sites.answers(z, all_sites, 0, "SELECT count(*) FROM ledger.incarnation"))
        report.figure("in all", f"{len(mail.answers)} messages, {len(there)} events, {forced} forced failovers, "
                      f"{incarnations - 3} changes of leader")
        for reader in readers:
            reader.finish(there)
            name, read = f"reader that {reader.name}", set(reader.events)
            missed, invented = there - read, read - there
            report.check(f"{name}: every event was read", not missed, f"{len(missed)} missed: {sorted(missed)[:3]}")
            report.check(f"{name}: nothing was read that is not there", not invented,
                         str([reader.events[i] for i in sorted(invented)[:3]]))
            report.check(f"{name}: repeats say the same", not reader.unequal, str(reader.unequal[:2]))
            report.check(f"{name}: read on to the end", reader.is_well and reader.pages > 0)
            refused = {w: n for w, n in reader.refusals.items() if not w.startswith("503")}
            report.check(f"{name}: its cursor was never refused", not refused, str(refused))
            report.figure(name, f"{len(read)} events, {reader.repeats} repeats, {reader.changes} changes of region, {reader.pages} "
                          f"pages ({reader.unread} without a shard), {sum(reader.refusals.values())} times 503; longest without an "
                          f"answer {reader.longest_silence:.1f} s, without a new event {reader.longest_pause:.1f} s")
print(f"{report.count} passed, 0 failed")
