#!/usr/bin/env python3
"""Three regions under Patroni and etcd: one is lost in the middle of the mail, nobody is called, and it comes back.

Shown: every message that got 250 is delivered, those accepted a moment before the loss among them; intake of the other regions
goes on; a message that its client did not repeat is delivered once, or marked; the region returns, its leaders come home and every
member of each shard holds the same rows; a planned switchover costs no client an error. How long each takes at default settings tells
intake.py.
"""
import argparse, collections, os, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from lab import *

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rounds", type=int, default=1, help="regions lost, one after the other")
parser.add_argument("--messages", type=int, default=300, help="sent around each loss")
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
CONNECTIONS = 12
def processes(z):
    """Every process of the cluster."""
    roots = [p for region in z.e["regions"] for pids in region["pids"].values() for p in pids]
    return {p for root in roots for p in tree(root)}


def used(z):
    """Seconds of CPU of all its processes, and octets of memory, what is shared counted once."""
    seconds = octets = 0
    for pid in processes(z):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/stat") as f:
                seconds += sum(int(n) for n in f.read().rsplit(")", 1)[1].split()[11:13]) / os.sysconf("SC_CLK_TCK")
            with open(f"/proc/{pid}/smaps_rollup") as f:
                octets += next(int(line.split()[1]) for line in f if line.startswith("Pss:")) * 1024
    return seconds, octets


def gap(times):
    """The longest time between two that follow each other."""
    times = sorted(times)
    return max((b - a for a, b in zip(times, times[1:])), default=0)


def send(z, rng, first, count, waits, regions=None, times=None):
    """Sends messages with numbers from `first`; answers {number: (id, tries)}, and notes each one's wait for its 250, and when it came.
    `regions`: whose edges the clients have; all, unless it says which."""
    answers, todo, lock = {}, list(range(first, first + count)), threading.Lock()
    contents = {n: message(n, rng) for n in todo}
    todo.reverse()

    def work(index):
        client = Roaming(z, index)
        if regions:
            client.regions = [r["smtp"][0] for r in z.e["regions"] if r["name"] in regions]
        while True:
            with lock:
                if not todo:
                    break
                number = todo.pop()
            before, began = client.repeats, time.monotonic()
            identity = client.send("a@demo.test", ["b@bar.test"], contents[number])
            with lock:
                answers[number] = (identity, client.repeats - before)
                waits.append(time.monotonic() - began)
                if times is not None:
                    times.append(time.monotonic())
        client.quit()

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    return answers, threads


with folder() as path:
    report = Report(f"regions: {arguments.rounds} lost, {arguments.messages} messages around each")
    rng = seed_from(arguments)
    authority = Authority(f"{path}/ca")
    dns = Dns({}, 5391)
    dns.add("bar.test", "127.0.0.91")
    sink = Sink("127.0.0.91", 2691, authority.leaf("mx.bar.test"))

    async def slowly(sink, content):
        await asyncio.sleep(0.02)
        return None

    sink.on_dot = slowly
    settings = ["dns.forwarders=127.0.0.1@5391", "delivery.port=2691", f"delivery.trust_roots={authority.pem}",
                "delivery.retry=2s", "delivery.final_dot_timeout=8s"]
    began = time.monotonic()
    with Cluster(path, settings, ["--regions", "3"], patience=160) as z:
        report.on_failure = z.last_logs
        took = time.monotonic() - began
        report.figure("up", f"{took:.1f} s for 3 regions and 3 shards")
        report.check("three regions are up within 60 s", took < 60, f"{took:.0f} s")
        before = used(z)[0]
        time.sleep(10)  # at rest: nothing is waited for
        seconds, octets = used(z)
        report.figure("at rest", f"{(seconds - before) * 10:.0f} % of a core, {octets / 1e6:.0f} MB in {len(processes(z))} processes")
        names = [r["name"] for r in z.e["regions"]]
        seen = lambda: {message_id(content) for _, _, content in sink.got}
        answers, sent = {}, 0
        for number in range(arguments.rounds):
            victim = rng.choice(names)
            waits, times = [], []
            other = rng.choice([n for n in names if n != victim])
            answered, threads = send(z, rng, sent, arguments.messages, waits, [victim, other], times)
            time.sleep(rng.uniform(0.3, 1.5))
            lost_at = time.monotonic()
            killed = z.zegel("local", "kill", "--region", victim)
            at_loss = [f"<m-{n}@demo.test>" for n, (i, _) in list(answered.items()) if i]
            for thread in threads:
                thread.join()
            answers.update(answered)
            sent += arguments.messages
            report.check(f"round {number + 1}: {victim} lost; every client got its 250",
                         killed.returncode == 0 and all(i for i, _ in answered.values()), killed.stderr)
            report.figure("loss", killed.stdout.strip() or killed.stderr.strip())
            report.figure("intake", f"longest wait of a client {max(waits):.1f} s, longest time without a 250 {gap(times):.2f} s")
            left = until(lambda: set(at_loss) <= seen(), 60, 0.2)
            took = time.monotonic() - lost_at
            report.figure("all accepted before the loss had left", f"{took:.1f} s after it")
            report.check("mail accepted before the loss leaves from elsewhere", bool(left), f"{took:.0f} s")
            back = z.zegel("local", "start", "--region", victim)
            report.check(f"{victim} comes back", back.returncode == 0, back.stderr[-500:])
        wanted = {f"<m-{n}@demo.test>" for n in answers}
        until(lambda: wanted <= seen(), 120, 0.5)
        report.check(f"0 of {sent} lost", wanted <= seen(), str(sorted(wanted - seen())[:5]))
        # No trouble left: leaders at home, and every member one that may take over. One whose rewind broke off is copied anew after minutes.
        began = time.monotonic()
        home = z.whole(360)
        report.figure("whole", f"again {time.monotonic() - began:.0f} s after the last delivery")
        report.check("leaders come home by themselves, and every member follows", home,
                     z.zegel("shard", "status").stdout)

        # A planned change while mail comes in: nobody notices.
        waits, times = [], []
        answered, threads = send(z, rng, sent, arguments.messages * 4, waits, None, times)
        time.sleep(0.5)
        change = z.zegel("shard", "switchover", "a", "--to", "r2", "--yes")
        for thread in threads:
            thread.join()
        answers.update(answered)
        sent += arguments.messages * 4
        report.check("a planned switchover: no client had to repeat",
                     change.returncode == 0 and all(i and not tries for i, tries in answered.values()),
                     change.stderr + str([v for v in answered.values() if v[1] or not v[0]][:5]))
        report.figure("switchover", f"longest time without a 250 {gap(times):.2f} s, longest wait of a client {max(waits):.1f} s")
        wanted = {f"<m-{n}@demo.test>" for n in answers}
        until(lambda: wanted <= seen(), 60, 0.5)
        report.check(f"0 of {sent} lost", wanted <= seen(), str(sorted(wanted - seen())[:5]))

        def databases():
            return [r["postgres"] for r in z.e["regions"]]

        empty = until(lambda: all(ask(d, "SELECT count(*) FROM ledger.delivery") == "0" for d in databases()[0]), 60, 0.5)
        report.check("no delivery is left open", bool(empty))
        for shard in range(3):
            rows = lambda: {ask(r[shard], ROWS) for r in databases()}
            equal = until(lambda: len(rows()) == 1 and rows().isdisjoint({None, ""}), 20, 0.5)
            report.check(f"all members of shard {'abc'[shard]} hold the same rows", bool(equal))
        marks = {e["message_id"] for e in z.events() if e.get("possible_duplicate") or e["kind"] == "duplicate"}
        counts = collections.Counter(message_id(content) for _, _, content in sink.got)
        doubles = [n for n in answers if counts[f"<m-{n}@demo.test>"] > 1]
        once = [n for n in doubles if not answers[n][1] and answers[n][0] not in marks]
        report.figure("doubles", f"{len(doubles)}, of messages that their clients repeated {sum(1 for n in doubles if answers[n][1])}")
        report.check("a message that its client did not repeat is delivered once, or marked", not once, str(once[:5]))
        drained = z.zegel("region", "drain", "r1", "--yes")
        leaders = [s["leader"] for s in json.loads(z.zegel("shard", "status", "--json").stdout)]
        report.check("a drained region leads nothing", drained.returncode == 0 and "r1" not in leaders,
                     drained.stderr + str(leaders))
        for region in ("r2", "r3"):
            last = z.zegel("region", "drain", region, "--yes")
        report.check("the last region that may lead is not drained", last.returncode != 0 and "last region" in last.stderr,
                     last.stderr)
        began = time.monotonic()
        z.down()
        report.figure("down", f"{time.monotonic() - began:.1f} s")
print(f"{report.count} passed, 0 failed")
