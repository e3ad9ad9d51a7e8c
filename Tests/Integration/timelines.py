#!/usr/bin/env python3
"""Two members of a shard that lead one after the other, the second of which never heard of the first: each has a timeline of its own.

A member that leads again and is lost before anybody follows leaves a timeline that only it knows. The next leader must not take the
number of it: PostgreSQL, its rewind and Patroni tell timelines by their numbers alone, and would take the one for the other when the
first comes back. Shown on real servers: nothing of the lost one's own is left, and every member holds the same rows. After a loss of power
everywhere, while one is further in the WAL on a timeline that was left, what was acknowledged since is there. Claims at the
same moment get numbers that differ, and without a majority of etcd there is none, within seconds.

Needs no lock: its loopback addresses are those of a network namespace of its own.
"""
import argparse, os, re, shlex, signal, subprocess, sys, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import sites

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=2, help="timelines that nobody hears of, one after the other")
arguments = parser.parse_args()
sites.enter("timelines")
from lab import *


def region(name):
    return next(r for r in z.e["regions"] if r["name"] == name)


def sql(name, text):
    return ask(region(name)["postgres"][0], text)


def timeline(name):
    """The one that a leader writes on."""
    return int(sql(name, "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int") or 0)


def leads(name):
    return sql(name, "SELECT NOT pg_is_in_recovery()") == "t"


def heir():
    """Who leads instead of r1, if anybody does."""
    return next((name for name in ("r2", "r3") if leads(name)), None)


def signal_all(pids, which):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, which)


def patroni(name, path):
    """What a member's Patroni answers."""
    context = ssl.create_default_context(cafile=z.e["ca"])
    context.check_hostname = False
    with open(f"{z.dir}/regions/{name}/a/patroni.yaml") as f:
        url = re.search(r'connect_address: "([^"]+)"', f.read()).group(1)
    with contextlib.suppress(OSError, ValueError):
        return json.load(urllib.request.urlopen(f"https://{url}/{path}", context=context, timeout=5))
    return None


def lost_before_it_leads():
    """A member that has claimed over others' numbers and is lost then: what the claim left must not keep its server from starting."""
    data = f"{z.dir}/regions/r3/a/data"
    report.check("r3 claims over numbers that it has not heard of", claim(data, "r3").wait(30) == 0)
    left = [name for name in os.listdir(f"{data}/pg_wal") if name.endswith(".history") and
            open(f"{data}/pg_wal/{name}").read().startswith("#")]
    report.check("it has histories that say nothing", len(left) > 10, str(left))
    os.kill(region("r3")["pids"]["postgres"][0], signal.SIGKILL)
    until(lambda: "does not follow" in z.zegel("shard", "status").stdout, 10, 0.2)
    report.check("it is lost before it leads, and follows again", z.whole(120), z.zegel("shard", "status").stdout)
    with open(f"{z.dir}/logs/r3-guard-a.log") as f:
        report.check("because its guard took them away", "are forgotten here" in f.read())


def power_loss():
    """r1 is further in the WAL, on a timeline that was left; then all regions are lost, and come back together."""
    followers = [pid for name in ("r2", "r3") for pid in tree(region(name)["pids"]["postgres"][0])]
    signal_all(followers, signal.SIGSTOP)
    # More than a segment of 16 MB, which a server that starts anew may pass over.
    octets = "SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 100000)"
    alone = sql("r1", f"SET synchronous_commit = local; INSERT INTO unheard VALUES ('r1 alone behind');"
                      f"SELECT count(pg_logical_emit_message(true, 'alone', ({octets}))) FROM generate_series(1, 12)")
    z.zegel("local", "kill", "--region", "r1")
    signal_all(followers, signal.SIGCONT)
    report.check("r1 is lost with more WAL than the others have", bool(alone))
    second = until(heir, 60, 0.2)
    kept = until(lambda: sql(second, "INSERT INTO unheard VALUES ('acknowledged')"), 60, 0.5)
    report.check("the next leader acknowledges", bool(kept), str(second))
    for name in ("r2", "r3"):
        z.zegel("local", "kill", "--region", name)
    back = [subprocess.Popen([z.bin, "local", "start", "--region", name, "--dir", z.dir], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True) for name in ("r1", "r2", "r3")]
    said = "".join(process.communicate(timeout=200)[0] for process in back)
    report.check("all regions come back together", z.whole(200), said + z.zegel("shard", "status").stdout)
    rows = {name: sql(name, "SELECT string_agg(place, ', ' ORDER BY place) FROM unheard WHERE place LIKE '%behind' OR "
                            "place = 'acknowledged'") for name in ("r1", "r2", "r3")}
    report.check("what was acknowledged is everywhere, what was not is nowhere", set(rows.values()) == {"acknowledged"}, str(rows))


def digest(name):
    return sql(name, "SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM unheard t")


def claim(folder, name="r1"):
    """What Patroni runs in a region before its member leads, for a data folder: the process."""
    with open(f"{z.dir}/regions/{name}/a/patroni.yaml") as f:
        words = shlex.split(re.search(r'pre_promote: "(.*)"', f.read()).group(1))
    words[words.index("--data") + 1] = folder
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def claims(folder):
    """Many at once, and then some while etcd has no majority."""
    os.makedirs(f"{folder}/pg_wal")
    said = [process.communicate(timeout=30)[0] for process in [claim(folder) for _ in range(12)]]
    numbers = [int(n) for n in re.findall(r"on timeline (\d+)", "".join(said))]
    report.check("twelve claims at the same moment get numbers that differ", len(set(numbers)) == 12, "".join(said))
    voters = [pid for name in ("r2", "r3") for pid in region(name)["pids"]["etcd"]]
    signal_all(voters, signal.SIGSTOP)
    began = time.monotonic()
    alone = claim(folder)
    words = alone.communicate(timeout=60)[0]
    took = time.monotonic() - began
    signal_all(voters, signal.SIGCONT)
    report.check("without a majority of etcd there is none, within 15 s",
                 alone.returncode == 1 and "does not lead" in words and took < 15, f"{took:.1f} s: {words}")
    report.figure("refused", f"after {took:.1f} s: {words.strip()}")
    report.check("the register counts on from there", bool(until(lambda: claim(folder).wait(30) == 0, 60, 0.5)))


report = Report("timelines: each leads on one of its own")
with folder() as path:
    with Cluster(path, [], ["--regions", "3", "--shards", "1"]) as z:
        report.on_failure = lambda: z.last_logs(60)
        sql("r1", "CREATE TABLE unheard (place text)")
        for number in range(1, arguments.rounds + 1):
            title = f"round {number}"
            # Nobody follows r1 while it leads again, and then it is lost.
            followers = [pid for name in ("r2", "r3") for pid in tree(region(name)["pids"]["postgres"][0])]
            signal_all(followers, signal.SIGSTOP)
            signal_all(region("r1")["pids"]["patroni"] + region("r1")["pids"]["postgres"], signal.SIGKILL)
            # Its Patroni has no time to see that nobody follows: it would take them off those who may lead next.
            again = until(lambda: leads("r1"), 60, 0.02)
            signal_all(region("r1")["pids"]["patroni"], signal.SIGSTOP)
            # The guard ends it within seconds.
            alone = timeline("r1")
            written = sql("r1", f"SET synchronous_commit = local; INSERT INTO unheard VALUES ('r1 alone {number}') RETURNING place")
            report.check(f"{title}: r1 leads again, and nobody follows", bool(again))
            report.check(f"{title}: it writes what nobody else has", "alone" in (written or ""), str(written))
            killed = z.zegel("local", "kill", "--region", "r1")
            signal_all(followers, signal.SIGCONT)
            report.check(f"{title}: r1 is lost", killed.returncode == 0, killed.stderr)
            second = until(heir, 60, 0.2)
            report.check(f"{title}: another leads", bool(second))
            until(lambda: sql(second, f"INSERT INTO unheard VALUES ('{second} {number}')") is not None, 30, 0.5)
            report.figure(title, f"r1 was alone on timeline {alone}, {second} leads on {timeline(second)}")
            report.check(f"{title}: the second to lead took another number than the first", timeline(second) > alone)
            told = lambda: (patroni(second, "history") or [[0]])[-1][0] + 1
            report.check(f"{title}: Patroni knows it too", bool(until(lambda: told() == timeline(second), 30, 0.5)), str(told()))
            back = z.zegel("local", "start", "--region", "r1")
            report.check(f"{title}: r1 comes back, and leads", back.returncode == 0 and z.whole(150),
                         back.stderr + z.zegel("shard", "status").stdout)
            rows = {name: sql(name, "SELECT count(*) FROM unheard WHERE place LIKE '% alone %'") for name in ("r1", "r2", "r3")}
            report.check(f"{title}: what r1 wrote alone is nowhere", set(rows.values()) == {"0"}, str(rows))
            equal = until(lambda: len({digest(name) for name in ("r1", "r2", "r3")}) == 1, 30, 0.3)
            report.check(f"{title}: every member holds the same rows", bool(equal))
        power_loss()
        claims(f"{path}/claims")
        lost_before_it_leads()
print(f"{report.count} passed, 0 failed")
