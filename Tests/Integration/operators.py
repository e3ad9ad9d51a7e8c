#!/usr/bin/env python3
"""What an operator of three regions sees and does.

Shown: a member that stopped replicating is named within seconds, in status and in metrics, with the command that mends it; a
switchover to it is refused with what to do; a forced failover tells what it may lose, asks, and says so afterwards; etcd without its quorum
is said in words, and every change is refused; while the first shard has no leader mail is taken and an edit of a tenant is refused
with the reason, never half done; a leader whose Patroni stands still has ended before another leads; a region whose key service is away opens nothing, and its mail goes from elsewhere; the alert rules fire
for what they are about; and every command for a local cluster in docs/regions.md does what is said of it. With --only lost: a member that cannot start is copied anew by itself.

Needs no lock: its loopback addresses are those of a network namespace of its own.
"""
import argparse, os, random, re, shlex, shutil, signal, subprocess, sys, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import sites

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--only", choices=["rules", "members", "guard", "keys", "failover", "ahead", "etcd", "docs", "lost"], action="append",
                    help="some parts; lost takes minutes and runs only when it is named")
arguments = parser.parse_args()
sites.enter("operators")
from lab import *

wanted = lambda part: part in (arguments.only or ["rules", "members", "guard", "keys", "failover", "ahead", "etcd", "docs"])
report = Report("operators: what they see, what they may do, what they read")


def rules():
    """The alert rules, held against Prometheus's own tool."""
    tool = shutil.which("promtool")
    if not tool:
        sys.exit("promtool is missing: apt-get install prometheus")
    for words in (("check", "rules", "regions.yml"), ("test", "rules", "regions.test.yml")):
        done = subprocess.run([tool, *words], cwd=f"{ROOT}/deploy/alerts", capture_output=True, text=True, timeout=60)
        report.check(f"promtool {' '.join(words)}", done.returncode == 0, done.stdout + done.stderr)


def region(name):
    return next(r for r in z.e["regions"] if r["name"] == name)


def pid(role, name, shard):
    return region(name)["pids"][role]["abc".index(shard)]


def sql(name, shard, text):
    return ask(region(name)["postgres"]["abc".index(shard)], text)


def receiver(name, shard):
    return int(sql(name, shard, "SELECT pid FROM pg_stat_wal_receiver") or 0)


def status(shard="a"):
    return z.zegel("shard", "status", shard)


def gauge(where, name, *labels):
    """A metric, as a node of a region shows it."""
    for url in region(where)["metrics"]:
        with contextlib.suppress(OSError):
            for line in urllib.request.urlopen(url + "/metrics", timeout=5).read().decode().splitlines():
                if re.match(rf"{name}[ {{]", line) and all(label in line for label in labels):
                    return float(line.rsplit(" ", 1)[1])
    return None


def value(name, member, shard="a"):
    """A gauge of a member, as the worker of r1 shows it."""
    return gauge("r1", f"zegel_member_{name}", f'shard="{shard}"', f'member="{member}"')


numbers, rng = iter(range(10_000)), random.Random(1)


def send(where, count):
    """Messages to edges of one region: their ids, None where there was no 250."""
    client = Roaming(z, 0, give_up=20)
    client.regions = [region(where)["smtp"][0]]
    ids = [client.send("a@demo.test", ["b@bar.test"], message(next(numbers), rng)) for _ in range(count)]
    client.quit()
    return ids


class Writing(threading.Thread):
    """Something is always being committed: a member that takes none of it stands still."""

    def __init__(self, name, shard):
        super().__init__(daemon=True)
        self.ending, self.name, self.shard = threading.Event(), name, shard

    def run(self):
        while not self.ending.wait(0.3):
            sql(self.name, self.shard, "SELECT pg_logical_emit_message(true, 'written', repeat('x', 1000))")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *a):
        self.ending.set()
        self.join(10)


def is_found(what, words, gauge, frozen):
    """A process of r2's member of shard a stands still: named, shown, gone again. (What somebody sets past Patroni, that mends itself.)"""
    began = time.monotonic()
    told = until(lambda: next((l for l in status().stdout.splitlines() if "r2" in l and words in l), None), 30, 0.1)
    took = time.monotonic() - began
    report.check(f"{what}: named in status", bool(told), status().stdout)
    report.figure("named", f"after {took:.1f} s: {told.strip()}")
    report.check(f"{what}: with the command that mends it", f"zegel shard restart a --region r2 --dir {z.dir}" in told, told)
    shown = until(lambda: value(gauge, "r2") == 0, 30, 0.2)
    report.check(f"{what}: shown by zegel_member_{gauge}", bool(shown), str(value(gauge, "r2")))
    report.figure("shown", f"after {time.monotonic() - began:.1f} s")
    os.kill(frozen, signal.SIGCONT)
    began = time.monotonic()
    report.check(f"{what}: gone", bool(until(lambda: status().returncode == 0, 60, 0.5)), status().stdout)
    report.check(f"{what}: gone from the metric", bool(until(lambda: value(gauge, "r2") == 1, 30, 0.3)))
    report.figure("gone", f"{time.monotonic() - began:.1f} s after it went on")


def members():
    with Writing("r1", "a"):
        frozen = int(sql("r2", "a", "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'"))
        os.kill(frozen, signal.SIGSTOP)
        is_found("a replay that stands still", "does not replay", "replays", frozen)
        frozen = receiver("r2", "a")
        os.kill(frozen, signal.SIGSTOP)
        until(lambda: "does not follow" in status().stdout, 30, 0.2)
        refused = z.zegel("shard", "switchover", "a", "--to", "r2", "--yes")
        report.check("a switchover to a member that lags is refused, with what to do",
                     refused.returncode != 0 and "r2" in refused.stderr and "wait until" in refused.stderr, refused.stderr)
        report.figure("refused", refused.stderr.strip())
        is_found("a receiver that stands still", "does not follow", "receives", frozen)
    damage()
    said = until(lambda: re.search(rf"zegel (shard reinit a --region r2) --dir {re.escape(z.dir)}", status().stdout), 60, 0.3)
    report.check("a member that cannot start: with the command that makes it anew", bool(said), status().stdout)
    done = z.zegel(*said.group(1).split(), "--yes")
    report.check("that command mends it", done.returncode == 0 and z.whole(60), done.stderr + status().stdout)


def guard():
    """The Patroni of shard a's leader stands still: before its lease is over its PostgreSQL has ended."""
    patroni, postgres = pid("patroni", "r1", "a"), pid("postgres", "r1", "a")
    began = time.monotonic()
    os.kill(patroni, signal.SIGSTOP)
    leads = lambda: (ask(region("r2")["postgres"][0], "SELECT pg_is_in_recovery()"), ask(region("r3")["postgres"][0], "SELECT pg_is_in_recovery()"))
    ended = until(lambda: not os.path.exists(f"/proc/{postgres}"), 30, 0.1)
    took, others = time.monotonic() - began, leads()
    report.check("the guard ends a PostgreSQL that nobody minds", bool(ended))
    report.check("before another leads", others == ("t", "t"), str(others))
    report.figure("ended", f"after {took:.1f} s")
    other = until(lambda: json.loads(z.zegel("shard", "status", "a", "--json").stdout)[0].get("leader") in ("r2", "r3"), 60, 0.5)
    report.check("then another leads", bool(other), status().stdout)
    os.kill(patroni, signal.SIGCONT)
    report.check("and when Patroni goes on the member follows, and leads again", z.whole(120), status().stdout)


def failover():
    refused = z.zegel("shard", "failover", "a", "--to", "r2", "--yes")
    report.check("a failover where somebody leads is refused, and names the switchover",
                 refused.returncode != 0 and "zegel shard switchover a --to r2" in refused.stderr, refused.stderr)
    # r2 receives nothing; r3 acknowledges; then leader and r3 are lost, and r2 is what is left.
    frozen = receiver("r2", "a")
    os.kill(frozen, signal.SIGSTOP)
    send("r1", 20)
    held = [region(name)["pids"]["supervisor"][0] for name in ("r1", "r3")]
    for supervisor in held:
        os.kill(supervisor, signal.SIGSTOP)
    for name in ("r1", "r3"):
        for victim in (pid("patroni", name, "a"), pid("postgres", name, "a")):
            os.kill(victim, signal.SIGKILL)
    os.kill(frozen, signal.SIGCONT)
    none = until(lambda: json.loads(z.zegel("shard", "status", "a", "--json").stdout)[0].get("leader") is None, 60, 0.5)
    report.check("with leader and one member lost nobody leads", bool(none), status().stdout)
    edit = ["tenant", "set", "later", "--name", "Later", "--ruleset", "secure", "--domain", "later.example"]
    began = time.monotonic()
    waiting = subprocess.Popen([z.bin, *edit, "--dir", z.dir], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    ids = send("r2", 5)
    report.check("while the first shard has no leader other regions take mail by what they know of tenants", all(ids), str(ids))
    age = gauge("r2", "zegel_edge_control_age_seconds")
    report.check("how old that is is known", age is not None and age >= 5, str(age))
    report.figure("age", f"{age:.0f} s")
    # Twice the time in which another takes over where it may: it must not.
    leads = until(lambda: json.loads(z.zegel("shard", "status", "a", "--json").stdout)[0].get("leader"), 20, 1)
    shown = status().stdout
    report.check("the last one does not lead by itself, and status names the failover",
                 not leads and "zegel shard failover a --to" in shown and "nobody leads" in shown, shown)
    words = waiting.communicate(timeout=60)[1]
    report.check("an edit of a tenant waits for a leader, then is refused with the reason", waiting.returncode == 1 and "leader" in words,
                 f"status {waiting.returncode}: {words}")
    report.figure("refused", f"after {time.monotonic() - began:.0f} s: {words.strip()}")
    there = lambda: sql("r2", "a", "SELECT count(*) FROM control.tenant WHERE id = 'later'")
    report.check("and nothing of it is there", there() == "0", str(there()))
    asked = z.zegel("shard", "failover", "a", "--to", "r2")
    report.check("a forced failover shows what is at risk, and nobody said yes",
                 asked.returncode != 0 and "at risk" in asked.stderr and "r1, r3" in asked.stderr and "--yes" in asked.stderr,
                 asked.stderr)
    for line in asked.stderr.strip().splitlines():
        report.figure("shown", line)
    forced = z.zegel("shard", "failover", "a", "--to", "r2", "--yes")
    report.check("with --yes it leads, and what was lost is said", forced.returncode == 0 and "lost:" in forced.stderr, forced.stderr)
    report.figure("said", forced.stderr.strip().splitlines()[-1])
    shown = status().stdout
    report.check("it says that commits wait until another follows", "no member acknowledges" in shown, shown)
    for supervisor in held:
        os.kill(supervisor, signal.SIGCONT)
    report.check("the lost members come back as followers, and the leader comes home", z.whole(150), status().stdout)
    again = z.zegel(*edit)
    report.check("the edit, given again, is done", again.returncode == 0 and until(lambda: there() == "1", 10, 0.2), again.stderr)


def damage():
    """The control file of r2's member of shard a: it cannot start."""
    patroni, postgres = pid("patroni", "r2", "a"), pid("postgres", "r2", "a")
    os.kill(patroni, signal.SIGSTOP)
    os.kill(postgres, signal.SIGKILL)
    with open(f"{z.dir}/regions/r2/a/data/global/pg_control", "r+b") as f:
        f.write(bytes(512))
    os.kill(patroni, signal.SIGCONT)


def lost():
    """A member that cannot start, and nobody is asked."""
    damage()
    began = time.monotonic()
    report.check("a member that cannot start is named", bool(until(lambda: status().returncode == 1, 60, 0.5)), status().stdout)
    report.figure("named", next((l.strip() for l in status().stdout.splitlines() if "! " in l), ""))
    report.check("and copied anew by itself", z.whole(500), status().stdout)
    report.figure("whole", f"after {time.monotonic() - began:.0f} s")
    with open(f"{z.dir}/logs/r2-supervisor.log") as f:
        report.check("as the region's supervisor says", "is made anew" in f.read())


def keys():
    """The key service of r2 stands still, and its worker has no key open: what r2 takes goes from elsewhere."""
    [keyring] = region("r2")["pids"]["keyring"]
    os.kill(keyring, signal.SIGSTOP)
    try:
        for worker in region("r2")["pids"]["worker"]:
            os.kill(worker, signal.SIGKILL)
        had, began = len(sink.got), time.monotonic()
        ids = send("r2", 20)
        report.check("a region whose key service is away takes mail: sealing needs none", all(ids), str(ids))
        gone = until(lambda: len(sink.got) >= had + 20, 90, 0.2)
        report.check("the others deliver it", bool(gone), f"{len(sink.got) - had} of 20")
        report.figure("delivered", f"after {time.monotonic() - began:.1f} s")
        # It knows once it has claimed something, which the others leave it now and then.
        away = until(lambda: gauge("r2", "zegel_worker_key_service_away") == 1 or not send("r2", 3), 60, 0.3)
        report.check("its own worker says that it cannot open", bool(away), str(gauge("r2", "zegel_worker_key_service_away")))
    finally:
        os.kill(keyring, signal.SIGCONT)
    back = until(lambda: gauge("r2", "zegel_worker_key_service_away") == 0 or not send("r2", 3), 60, 0.3)
    report.check("with the key service back it opens again", bool(back))


def patroni_pause(is_on):
    """Tells shard a's Patronis to leave their hands off; where one answers, all know."""
    tls = ssl.create_default_context(cafile=f"{z.dir}/certificates/ca.pem")
    tls.load_cert_chain(f"{z.dir}/certificates/operator.pem", f"{z.dir}/certificates/operator.key")
    for member in json.loads(z.zegel("shard", "status", "a", "--json").stdout)[0]["members"]:
        request = urllib.request.Request(member["url"] + "/config", json.dumps({"pause": is_on or None}).encode(), method="PATCH")
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(request, timeout=10, context=tls) as answer:
                return answer.status == 200
    return False


def ahead():
    """Patroni is paused, the leader is lost, and of two that are left one has what the other has not: how many messages that is, is told."""
    report.check("Patroni is paused", patroni_pause(True))
    paused = until(lambda: "Patroni is paused" in status().stdout, 20, 0.3)
    report.check("and status says so", bool(paused), status().stdout)
    held = [region(name)["pids"]["supervisor"][0] for name in ("r1", "r2")]
    for supervisor in held:
        os.kill(supervisor, signal.SIGSTOP)
    for victim in (pid("patroni", "r2", "a"), pid("postgres", "r2", "a")):
        os.kill(victim, signal.SIGKILL)
    count = lambda: int(sql("r3", "a", "SELECT count(*) FROM ledger.message"))
    had = count()
    ids = send("r1", 20)
    report.check("20 messages get their 250", all(ids), str(ids))
    more = until(lambda: count() - had, 10, 0.2) or 0
    report.check("by r3's acknowledgement", more >= 15, f"{more} of them in shard a")
    for victim in (pid("patroni", "r1", "a"), pid("postgres", "r1", "a")):
        os.kill(victim, signal.SIGKILL)
    os.kill(held[1], signal.SIGCONT)
    # A Patroni that is paused starts nothing by itself.
    tries = []
    until(lambda: tries.append(z.zegel("shard", "restart", "a", "--region", "r2")) or tries[-1].returncode == 0, 60, 1)
    none = until(lambda: json.loads(z.zegel("shard", "status", "a", "--json").stdout)[0].get("leader") is None
                 and sql("r2", "a", "SELECT 1") == "1", 60, 0.5)
    report.check("nobody leads; r2 is back without them", bool(none), tries[-1].stderr + status().stdout)
    asked = z.zegel("shard", "failover", "a", "--to", "r2")
    number = re.search(r"messages +(\d+)$", asked.stderr, re.M)
    report.check("a failover to r2 says that r3 has more, and how many messages", "more advanced   r3" in asked.stderr
                 and number is not None and int(number.group(1)) == more, f"{more}: {asked.stderr}")
    for line in asked.stderr.strip().splitlines():
        report.figure("shown", line)
    forced = z.zegel("shard", "failover", "a", "--to", "r3", "--yes")
    report.check("one to r3 loses nothing, and says so", forced.returncode == 0 and "nothing acknowledged was lost" in forced.stderr,
                 forced.stderr)
    report.check("r3 has them", count() == had + more, f"{count()} of {had + more}")
    report.check("Patroni goes on", patroni_pause(False))
    os.kill(held[0], signal.SIGCONT)
    report.check("and all is well again", z.whole(150), status().stdout)


def etcd():
    stopped = [region(name)["pids"]["etcd"][0] for name in ("r2", "r3")]
    for one in stopped:
        os.kill(one, signal.SIGSTOP)
    try:
        until(lambda: "no quorum" in status().stdout, 20, 0.2)
        for command in (["shard", "status"], ["shard", "switchover", "a", "--to", "r2", "--yes"],
                        ["shard", "failover", "a", "--to", "r2", "--yes"], ["shard", "restart", "a", "--region", "r2"],
                        ["region", "status"], ["region", "drain", "r1", "--yes"]):
            began = time.monotonic()
            done = z.zegel(*command)
            took, text = time.monotonic() - began, done.stdout + done.stderr
            report.check(f"etcd without its quorum: zegel {' '.join(command)}",
                         done.returncode != 0 and "no quorum" in text and "silent: r2, r3" in text
                         and "zegel local start --region r2" in text and took < 15, f"{took:.1f} s: {text}")
            report.figure("took", f"{took:.1f} s")
    finally:
        for one in stopped:
            os.kill(one, signal.SIGCONT)
    report.check("with the quorum back all is well by itself", z.whole(120), z.zegel("shard", "status").stdout)
    drained = [s["drained"] for s in json.loads(z.zegel("shard", "status", "--json").stdout)]
    report.check("a drain that was refused changed nothing", not any(drained), str(drained))


def docs():
    """Every command for a local cluster in the fenced blocks of docs/regions.md, in order. A status may tell of troubles; one behind which
    `refused` stands is refused."""
    count = 0
    for command, comment in documented("docs/regions.md"):
        if "--config" in command or "--plan" in command:
            continue  # own_machines.py
        words = shlex.split(command.replace("/var/tmp/zegel3", z.dir))
        if any(w in words for w in ("switchover", "drain", "kill", "reinit", "restart", "tenant")):
            z.whole(150)
        done = subprocess.run([z.bin, *words[1:]], capture_output=True, text=True, timeout=150, stdin=subprocess.DEVNULL)
        may = [0, 1] if words[2] == "status" else [0]
        held = done.returncode != 0 if comment.startswith("refused") else done.returncode in may
        report.check(f"docs: {command}", held, f"status {done.returncode}: {done.stderr[-800:]}{done.stdout[-400:]}")
        count += 1
    report.check("docs/regions.md has commands", count > 10, str(count))


if wanted("rules"):
    rules()
if not arguments.only or set(arguments.only) - {"rules"}:
    with folder() as path:
        authority = Authority(f"{path}/ca")
        dns = Dns({}, 5391)
        dns.add("bar.test", "127.0.0.91")
        sink = Sink("127.0.0.91", 2691, authority.leaf("mx.bar.test"))
        settings = ["dns.forwarders=127.0.0.1@5391", "delivery.port=2691", f"delivery.trust_roots={authority.pem}"]
        with Cluster(path, settings, ["--regions", "3"], patience=200) as z:
            report.on_failure = z.last_logs
            report.check("three regions are well", z.whole(120), z.zegel("shard", "status").stdout)
            for part in (members, guard, lost, keys, failover, ahead, etcd, docs):
                if wanted(part.__name__):
                    part()
            z.whole(120)
            began = time.monotonic()
            down = z.zegel("local", "down")
            took = time.monotonic() - began
            report.check("down within 10 s", down.returncode == 0 and took < 10, f"{took:.1f} s: {down.stderr}")
            report.figure("down", f"{took:.1f} s")
print(f"{report.count} passed, 0 failed")
