#!/usr/bin/env python3
"""Rounds of faults in a cluster of three regions and three shards, nobody acting: regions killed, standing still, cut off both ways or one
way, their disks full; their etcd, one Patroni or one PostgreSQL alone killed or standing still; sometimes two of these at once.

Clients have the edges of all regions, those of a region in trouble too, lose connections and repeat the same bytes. Shown after each
round: 0 of the messages that got 250 are lost; who got one twice is told by marks, at most one copy is without; neither more copies nor
more marks than final dots and accepts stayed without a certain answer; every delivery ends; every member of each shard holds the same
rows. And over all rounds at the end, so that a copy that comes late counts. Every kind of fault is drawn before one comes again, and each
is seen to have happened.

    faults.py [--rounds N] [--messages N] [--seed S] [--only KIND…]

Skipped, saying so, where no network namespace may be made.
"""
import argparse, collections, os, random, signal, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from lab import *
import sites

REGIONWIDE = ["killed", "frozen", "cut off", "cut off from one", "deaf", "mute", "disk full"]
PARTS = [f"{part} {what}" for part in ("etcd", "patroni", "postgres") for what in ("killed", "frozen")]
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=30)
parser.add_argument("--messages", type=int, default=1000, help="of each round")
parser.add_argument("--faults", type=int, default=3, help="of each round, some of them two at once")
parser.add_argument("--seed", type=int)
parser.add_argument("--only", nargs="+", choices=REGIONWIDE + PARTS, help="kinds of faults")
arguments = parser.parse_args()
sites.enter("faults")
KINDS = arguments.only or REGIONWIDE + PARTS
CONNECTIONS = 12


def state(pid):
    """The letter of a process's state; nothing: it is gone."""
    with contextlib.suppress(OSError, IndexError):
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    return ""


def stands_still(pids):
    moving = lambda: [p for p in pids if state(p) not in ("T", "t", "Z", "")]
    still = until(lambda: not moving(), 5, 0.05)
    return bool(pids and still) or f"{len(moving())} of {len(pids)} go on"


class Fault:
    """One kind of trouble of one region: begun, and over again."""

    def __init__(self, z, all_sites, site, kind, rng):
        self.z, self.all, self.site, self.kind, self.rng = z, all_sites, site, kind, rng
        self.others = [s for s in all_sites if s is not site]
        self.stopped = []

    def pids(self, part):
        region = next(r for r in self.z.e["regions"] if r["name"] == self.site.name)
        return region["pids"].get(part, [])

    def begin(self):
        """Answers whether it has happened: True, or what is to be seen instead."""
        kind = self.kind
        if kind == "killed":
            done = self.z.zegel("local", "kill", "--region", self.site.name)
            return done.returncode == 0 or done.stderr
        elif kind == "frozen":
            self.site.freeze()
            return stands_still(self.site.frozen)
        elif kind in ("cut off", "cut off from one", "deaf", "mute"):
            away = [self.rng.choice(self.others)] if kind == "cut off from one" else self.others
            sites.cut(self.site, away, {"deaf": "in", "mute": "out"}.get(kind, "both"))
            heard = [other.name for other in away if self.site.hears(other)]
            return not heard or f"hears {heard}"
        elif kind == "disk full":
            self.site.fill()
            return self.site.is_full() or "has room"
        part, what = kind.split()
        # One that its supervisor is starting just then is waited for.
        pids = until(lambda: self.pids(part), 20, 0.2) or []
        if not pids:
            return f"no {part} runs"
        pid = self.rng.choice(pids)
        if what == "killed":
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return bool(until(lambda: state(pid) in ("", "Z"), 5, 0.05)) or f"is {state(pid)}"
        self.stopped = tree(pid) if part == "postgres" else [pid]
        for one in self.stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGSTOP)
        return stands_still(self.stopped)

    def end(self):
        kind = self.kind
        if kind == "killed":
            back = self.z.zegel("local", "start", "--region", self.site.name)
            return back.returncode == 0 or back.stderr[-500:]
        if kind == "frozen":
            self.site.thaw()
        elif kind in ("cut off", "cut off from one", "deaf", "mute"):
            sites.heal(self.all)
        elif kind == "disk full":
            self.site.empty()
        for pid in self.stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        return True


class Sending:
    """Clients that send a round's messages, spread over the faults."""

    def __init__(self, z, rng, first, count, seconds):
        self.z, self.answers, self.longest = z, {}, 0.0
        self.lock, self.hurry = threading.Lock(), threading.Event()
        self.todo = list(range(first + count - 1, first - 1, -1))
        self.contents = {n: message(n, rng) for n in self.todo}
        self.pause = seconds * CONNECTIONS / count
        self.threads = [threading.Thread(target=self.work, args=(i,), daemon=True) for i in range(CONNECTIONS)]
        for thread in self.threads:
            thread.start()

    def work(self, index):
        client = Roaming(self.z, index, give_up=240)
        while True:
            with self.lock:
                if not self.todo:
                    break
                number = self.todo.pop()
            before, began = client.uncertain, time.monotonic()
            identity = client.send("a@demo.test", ["b@bar.test"], self.contents[number])
            with self.lock:
                self.answers[number] = (identity, client.uncertain - before)
                self.longest = max(self.longest, time.monotonic() - began)
            self.hurry.wait(self.pause)
        client.quit()

    def join(self):
        for thread in self.threads:
            thread.join()


class Deck:
    """Every kind comes before one comes again. At each moment mostly one fault, sometimes two, in regions that differ."""

    def __init__(self, rng, all_sites):
        self.rng, self.sites, self.left, self.drawn, self.pairs = rng, all_sites, [], collections.Counter(), 0

    def draw(self, is_pair):
        chosen = self.rng.sample(self.sites, 2 if is_pair or self.rng.random() < 0.3 else 1)
        self.pairs += len(chosen) - 1
        return [(site, self.kind()) for site in chosen]

    def kind(self):
        if not self.left:
            self.left = self.rng.sample(KINDS, len(KINDS))
        self.drawn[self.left[-1]] += 1
        return self.left.pop()


def events_of(z):
    """All events, of whichever region answers."""
    for region in range(3):
        with contextlib.suppress(OSError, ValueError):
            out, cursor = [], ""
            while True:
                page = z.get(f"/v1/events?limit=1000&after={urllib.parse.quote(cursor)}", region)
                if not page["events"]:
                    return out
                out += page["events"]
                cursor = page["next"]
    return []


def judge(z, sink, report, answers, seen_before, title):
    """The laws over everything so far. Answers how many copies there were too many."""
    names = {f"<m-{n}@demo.test>": n for n in answers}
    events = events_of(z)
    copies = Copies([g for g in sink.got[seen_before:] if message_id(g[2]) in names], events)
    doubts = collections.Counter(e["message_id"] for e in events if e.get("reason_code") == "final-dot-in-doubt")
    lost = [n for n in names if not copies.count[n]]
    report.check(f"{title}: 0 of {len(names)} lost", not lost, str(lost[:5]))
    report.check(f"{title}: no double without its mark", not copies.unmarked,
                 str([(n, copies.count[n], answers[names[n]], sorted(copies.ids[n])) for n in copies.unmarked[:5]]))
    beyond = [n for n in copies.doubles if copies.count[n] - 1 > answers[names[n]][1] + copies.of(doubts, n)]
    report.check(f"{title}: not more copies than answers were missing", not beyond,
                 str([(n, copies.count[n], answers[names[n]]) for n in beyond[:5]]))
    extra, uncertain = sum(copies.count[n] - 1 for n in copies.doubles), sum(answers[n][1] for n in answers)
    marks, dots = sum(copies.of(copies.marked, n) for n in names), sum(copies.of(doubts, n) for n in names)
    report.check(f"{title}: not more marks than answers were missing", marks <= uncertain + dots,
                 f"{marks} marked, {uncertain} accepts and {dots} final dots without a certain answer")
    return extra, uncertain, marks, dots


with folder() as path:
    report = Report(f"faults: {arguments.rounds} rounds of {arguments.messages} messages")
    rng = seed_from(arguments)
    stage = sites.Stage(path)
    all_sites, sink = stage.sites, stage.sink

    async def slowly(sink, content):
        await asyncio.sleep(0.02)
        return None

    sink.on_dot = slowly
    for site in all_sites:
        # WAL and data of three members over all rounds.
        site.give_disk(f"{path}/z/regions/{site.name}", "3g")
    settings = [*stage.settings, "delivery.retry=2s", "delivery.final_dot_timeout=10s"]
    began = time.monotonic()
    with Cluster(path, settings, stage.regions, patience=200) as z:
        report.on_failure = lambda: z.last_logs(25)
        report.figure("up", f"{time.monotonic() - began:.1f} s")
        everything = {}
        deck = Deck(rng, all_sites)
        for number in range(1, arguments.rounds + 1):
            title, seen_before = f"round {number}", len(sink.got)
            span = 12 * arguments.faults + 6
            sending = Sending(z, rng, len(everything), arguments.messages, span)
            for moment in range(arguments.faults):
                time.sleep(rng.uniform(0.5, 3))  # the moment is random: nothing is waited for
                faults = [Fault(z, all_sites, site, kind, rng) for site, kind in deck.draw(number % 2 == 0 and moment == 0)]
                lasting = rng.uniform(2, 12) if rng.random() < 0.6 else rng.uniform(20, 30)
                told = " and ".join(f"{f.site.name} {f.kind}" for f in faults)
                report.figure(title, f"{told}, {lasting:.0f} s")
                for fault in faults:
                    happened = fault.begin()
                    report.check(f"{title}: {fault.site.name} {fault.kind}", happened is True, str(happened))
                time.sleep(lasting)  # the length of the fault itself
                for fault in faults:
                    held = fault.end()
                    report.check(f"{title}: {fault.site.name} comes back", held is True, str(held))
            sending.hurry.set()
            sending.join()
            unanswered = [n for n, (i, _) in sending.answers.items() if not i]
            report.check(f"{title}: every client got its 250 in the end", not unanswered, str(unanswered[:5]))
            wanted = {f"<m-{n}@demo.test>" for n in sending.answers}
            begun = time.monotonic()
            until(lambda: wanted <= {message_id(c) for _, _, c in sink.got[seen_before:]}, 150, 0.5)
            # A member whose rewind was broken off is copied anew, one that will not start after five minutes.
            report.check(f"{title}: leaders at home, every member follows", z.whole(600), z.zegel("shard", "status").stdout)
            ended = until(lambda: sites.answers(z, all_sites, 0, "SELECT count(*) FROM ledger.delivery") == ["0"] * 3, 120, 0.5)
            report.check(f"{title}: no delivery is left open", bool(ended))
            everything.update(sending.answers)
            extra, uncertain, marks, dots = judge(z, sink, report, sending.answers, seen_before, title)
            report.figure(title, f"whole again {time.monotonic() - begun:.0f} s after the last answer; longest wait of a client "
                          f"{sending.longest:.1f} s; {uncertain} accepts and {dots} final dots without a certain answer, {extra} copies "
                          f"too many, {marks} marked deliveries")
            equal = until(lambda: sites.are_equal(z, all_sites), 30, 0.5)
            report.check(f"{title}: all members of each shard hold the same rows", bool(equal))
        extra, uncertain, marks, dots = judge(z, sink, report, everything, 0, "in all")
        report.figure("in all", f"{len(everything)} messages, {uncertain} accepts and {dots} final dots without a certain answer, "
                      f"{extra} copies too many, {marks} marked deliveries; two faults at once {deck.pairs} times; "
                      + ", ".join(f"{kind} {deck.drawn[kind]}" for kind in KINDS))
print(f"{report.count} passed, 0 failed")
