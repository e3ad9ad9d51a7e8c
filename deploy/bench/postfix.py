"""Mail: Zegel beside Postfix, with the same client and the same sink.

Messages of 10 KB from smtp-source over 50 connections, through the server, to smtp-sink; no TLS on either side; fsync on for
both; Zegel seals every message. The rounds alternate, and the ratio is of their medians. Beside it: CPU time a message by process,
WAL bytes and commits a message.
"""
import os, re, statistics, subprocess, sys, time

from lab import Cluster, folder, tree, until
from postfix_instance import Postfix

SIZE, SESSIONS, TICKS = 10_240, 50, os.sysconf("SC_CLK_TCK")
PACKAGES = {"smtp-source": "postfix", "psql": "postgresql-15"}


def install(apt):
    apt(PACKAGES)


def cpu(pids):
    """Seconds of CPU of processes and of those children that have ended."""
    total = 0
    for pid in pids:
        try:
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
            total += sum(int(fields[n]) for n in (11, 12, 13, 14))
        except OSError:
            pass
    return total / TICKS


class Counter:
    """smtp-sink, which tells how many messages it has."""

    def __init__(self, path, address):
        self.file = open(path, "w+")
        self.process = subprocess.Popen(["smtp-sink", "-c", "-u", "postfix", address, "1000"], stdout=self.file, stderr=self.file)

    def count(self):
        self.file.flush()
        size = os.fstat(self.file.fileno()).st_size
        text = os.pread(self.file.fileno(), 400, max(0, size - 400)).decode(errors="replace")
        found = re.findall(r"mesg=(\d+)", text) or re.findall(r"(\d+)", text)
        return int(found[-1]) if found else 0

    def stop(self):
        self.process.kill()
        self.process.wait()


def source(target, count):
    return subprocess.Popen(["smtp-source", "-s", str(SESSIONS), "-l", str(SIZE), "-m", str(count), "-f", "a@demo.test",
                             "-t", "b@bar.test", target], stdout=subprocess.DEVNULL)


def measure(target, sink, count, patience=300):
    """Seconds from the first connection to the last message in the sink, and those of the client alone."""
    had, start = sink.count(), time.monotonic()
    client = source(target, count)
    client.wait(patience)
    accepted = time.monotonic() - start
    if client.returncode:
        sys.exit(f"smtp-source failed with status {client.returncode}")
    if not until(lambda: sink.count() - had >= count, patience, 0.005):
        sys.exit(f"only {sink.count() - had} of {count} messages came")
    return time.monotonic() - start, accepted


def run(arguments, say):
    """Figures by name."""
    messages = 2000 if arguments.quick else 10_000
    rounds = arguments.rounds or (2 if arguments.quick else 5)
    found = {}
    with folder() as path:
        zegel_sink, postfix_sink = Counter(f"{path}/sink1", "127.0.0.121:2721"), Counter(f"{path}/sink2", "127.0.0.122:2722")
        postfix = Postfix(f"{path}/postfix", "127.0.0.123", 2723, {
            "transport_maps": "static:smtp:[127.0.0.122]:2722", "smtp_tls_security_level": "none", "relay_domains": "bar.test",
            "default_destination_concurrency_limit": "100", "initial_destination_concurrency": "50",
            "smtpd_tls_security_level": "none", "local_transport": "error:none", "smtp_host_lookup": "native"})
        settings = ["edge.require_tls=false", "edge.tenant_networks=127.0.0.0/8=demo", "delivery.routes=bar.test=127.0.0.121:2721",
                    "worker.per_destination=50", *arguments.set]
        try:
            with Cluster(path, settings, ["--ruleset", "opportunistic"]) as z:
                edge = z.e["regions"][0]["smtp"][0]
                say(f"warming up, then {rounds} rounds of {messages} messages for each")
                measure(edge, zegel_sink, messages // 4)
                measure("127.0.0.123:2723", postfix_sink, messages // 4)
                ours, theirs, ours_in, theirs_in, use = [], [], [], [], {}
                wal = commits = 0
                for number in range(rounds):
                    groups = {k: z.pids(k) for k in ("edge", "worker", "keyring")}
                    groups["postgres"] = [p for pid in z.pids("postgres") for p in tree(pid)]
                    groups["sink"] = [zegel_sink.process.pid]
                    before = {k: cpu(p) for k, p in groups.items()}
                    lsn = z.sql("SELECT pg_current_wal_lsn()")
                    xacts = int(z.sql("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"))
                    seconds, accepted = measure(edge, zegel_sink, messages)
                    ours.append(messages / seconds)
                    ours_in.append(messages / accepted)
                    until(lambda: z.sql("SELECT count(*) FROM ledger.delivery") == "0", 30)
                    for k, p in groups.items():
                        use.setdefault(k, []).append((cpu(p) - before[k]) / messages * 1e6)
                    wal += int(z.sql(f"SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{lsn}')::bigint"))
                    commits += int(z.sql("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")) - xacts
                    seconds, accepted = measure("127.0.0.123:2723", postfix_sink, messages)
                    theirs.append(messages / seconds)
                    theirs_in.append(messages / accepted)
                    say(f"round {number + 1}: zegel {ours[-1]:.0f}/s, postfix {theirs[-1]:.0f}/s end to end; "
                        f"accept {ours_in[-1]:.0f}/s, {theirs_in[-1]:.0f}/s")
                put = lambda name, value, unit: found.update({name: (value, unit)})
                put("zegel_end_to_end", statistics.median(ours), "messages/s")
                put("postfix_end_to_end", statistics.median(theirs), "messages/s")
                put("ratio_end_to_end", statistics.median(ours) / statistics.median(theirs), "×")
                put("zegel_accept", statistics.median(ours_in), "messages/s")
                put("postfix_accept", statistics.median(theirs_in), "messages/s")
                put("ratio_accept", statistics.median(ours_in) / statistics.median(theirs_in), "×")
                for k, values in use.items():
                    put(f"cpu_{k}", statistics.median(values), "µs/message")
                put("wal", wal / messages / rounds, "bytes/message")
                put("commits", commits / messages / rounds, "commits/message")
        finally:
            postfix.stop()
            zegel_sink.stop()
            postfix_sink.stop()
    return found
