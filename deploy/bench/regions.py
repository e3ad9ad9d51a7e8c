"""Regions: what it costs that every accepted message is in a second region before its 250.

Messages of 10 KB from smtp-source, over 50 and over 200 connections, into one region with a plain PostgreSQL, and into three regions under
Patroni with quorum commit, whose lines have no delay and then 20 ms there and back: the same client, the same messages under way, on the same
machine in turns. Accepting alone: recipients are put off, and nothing is delivered. Beside the rates: how long one accept takes, as a client
with one message at a time sees it under that load; and the rate with one member of the leader's shard lost.

The one region is on loopback, each of the three is a network namespace; between the namespaces go the frames of a bridge, or, for the delay, a relay of this program's own (the
kernel has no delay to offer): it holds every frame for 10 ms, all protocols alike.
"""
import json, os, select, socket, statistics, subprocess, sys, threading, time

HERE = os.path.dirname(os.path.realpath(__file__))
PACKAGES = {"smtp-source": "postfix", "psql": "postgresql-15", "etcd": "etcd-server"}


def install(apt):
    apt(PACKAGES)


def run(arguments, say):
    """Figures by name, of a process of its own: it needs namespaces."""
    command = [sys.executable, os.path.realpath(__file__), "--rounds", str(arguments.rounds or (1 if arguments.quick else 3)),
               "--messages", "1500" if arguments.quick else "5000"]
    for setting in arguments.set:
        command += ["--set", setting]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=1500)
    if done.returncode:
        sys.exit("the comparison of regions failed")
    text = done.stdout.decode().strip()
    if text.startswith("SKIPPED"):
        say(text)
        return {}
    return {name: (value["value"], value["unit"]) for name, value in json.loads(text).items()}


# --- in its own namespaces ------------------------------------------------------------------------------------

class Relay(threading.Thread):
    """Takes the frames of one site's line and hands them on, each after a while. With no delay the line is a bridge's port, and nothing of
    this runs."""

    def __init__(self, one, other, delay):
        super().__init__(daemon=True)
        self.delay, self.queue = delay, []
        self.pair = [self.raw(one), self.raw(other)]
        self.lost = 0

    @staticmethod
    def raw(link):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        s.bind((link, 0))
        s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        s.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
        s.setblocking(False)
        return s

    def run(self):
        from collections import deque
        due = deque()
        while True:
            wait = max(0, due[0][0] - time.monotonic()) if due else 1
            select.select(self.pair, [], [], wait)  # to the microsecond, where epoll waits whole milliseconds
            now = time.monotonic()
            for index, s in enumerate(self.pair):
                for _ in range(256):
                    try:
                        frame = s.recv(70_000)
                    except BlockingIOError:
                        break
                    due.append((now + self.delay, 1 - index, frame))
            now = time.monotonic()
            while due and due[0][0] <= now:
                _, to, frame = due.popleft()
                try:
                    self.pair[to].send(frame)
                except OSError:
                    self.lost += 1


def offloads_off(link, inside=()):
    """Frames of real sizes with real checksums: what a relay reads is what it may send."""
    code = ("import fcntl,socket,struct,sys\n"
            "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
            "import ctypes\n"
            "for command in (0x17,0x1f,0x24,0x2c):\n"  # transmit checksums, TSO, GSO, GRO
            "    value=ctypes.create_string_buffer(struct.pack('II',command,0))\n"
            "    try: fcntl.ioctl(s,0x8946,struct.pack('16sP',sys.argv[1].encode(),ctypes.addressof(value)))\n"
            "    except OSError: pass\n")
    subprocess.run([*inside, sys.executable, "-c", code, link], check=True, timeout=20)


class Lines:
    """The lines of all sites: a bridge's ports, or relays that hold every frame."""

    def __init__(self, sites, all_sites, milliseconds):
        self.sites, self.run = sites, sites.run
        self.relays = []
        for number, site in enumerate(all_sites, 1):
            self.run("ip", "link", "add", f"w{number}", "type", "veth", "peer", "name", f"x{number}")
            for link in (f"v{number}", f"w{number}", f"x{number}"):
                self.run("ip", "link", "set", link, "mtu", "60000")
                offloads_off(link)
            site.ip("link", "set", "eth0", "mtu", "60000")
            # The distribution's own, whatever the host of this run has: BBR without its queue discipline sends bursts slowly.
            self.run(*site.inside, "sysctl", "-q", "-w", "net.ipv4.tcp_congestion_control=cubic")
            offloads_off("eth0", site.inside)
            for link in (f"w{number}", f"x{number}"):
                self.run("ip", "link", "set", link, "up")
            # Two relays lie between two sites: a quarter of the round trip each, each way.
            relay = Relay(f"v{number}", f"w{number}", milliseconds / 4000)
            relay.start()
            self.relays.append(relay)
        self.count = len(all_sites)
        self.run("ip", "link", "set", self.sites.BRIDGE, "mtu", "60000")

    def delay(self, is_on):
        for number in range(1, self.count + 1):
            direct, relayed = f"v{number}", f"x{number}"
            if is_on:
                self.run("ip", "link", "set", direct, "nomaster")
                self.run("ip", "link", "set", relayed, "master", self.sites.BRIDGE)
            else:
                self.run("ip", "link", "set", relayed, "nomaster")
                self.run("ip", "link", "set", direct, "master", self.sites.BRIDGE)


PROBE = """
import json, smtplib, sys, time
host, port, number, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
times, body, end = [], "x" * 60 + "\\r\\n", time.monotonic() + seconds
s = smtplib.SMTP(host, port, local_hostname="probe.demo.test", timeout=60)
s.ehlo()
while time.monotonic() < end:
    text = f"Subject: probe\\r\\nMessage-ID: <p{number}-{len(times)}@demo.test>\\r\\n\\r\\n" + body * 160
    began = time.monotonic()
    s.sendmail("a@demo.test", ["b@bar.test"], text)
    times.append(time.monotonic() - began)
print(json.dumps(times))
"""


def main():
    import argparse
    sys.path.insert(0, os.path.join(HERE, "..", "..", "Tests", "Integration"))
    import sites
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--rtt", type=float, default=20, help="milliseconds between regions")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    sites.enter("regions")
    from lab import Cluster, folder, until
    say = lambda text: print(text, file=sys.stderr, flush=True)
    serial = iter(range(1_000_000))

    def measure(edge, inside, sessions):
        """Messages a second, and the times of single accepts under that load."""
        host, port = edge.rsplit(":", 1)
        source = subprocess.Popen([*inside, "smtp-source", "-s", str(sessions), "-l", "10240", "-m", str(arguments.messages), "-f",
                                   "a@demo.test", "-t", "b@bar.test", edge], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        began = time.monotonic()
        probe = subprocess.Popen([*inside, sys.executable, "-c", PROBE, host, port, str(next(serial)), "1.5"],
                                 stdout=subprocess.PIPE, text=True)
        times = json.loads(probe.communicate(timeout=120)[0] or "[]")
        if source.wait(300):
            sys.exit(f"smtp-source failed with status {source.returncode}")
        return arguments.messages / (time.monotonic() - began), times

    found = {}
    with folder() as path:
        all_sites = sites.sites(3)
        lines = Lines(sites, all_sites, arguments.rtt)
        common = ["edge.require_tls=false", "edge.tenant_networks=10.88.0.0/24=demo,127.0.0.0/8=demo", "delivery.routes=bar.test=127.0.0.1:9",
                  *arguments.set]
        placed = [word for site in all_sites for word in ("--place", site.place)]
        options = ["--ruleset", "opportunistic", "--workers", "0"]
        with Cluster(f"{path}/one", common, options) as one, \
                Cluster(f"{path}/three", common, [*options, "--regions", "3", *placed], patience=200) as three:
            edge_of = lambda z: z.e["regions"][0]["smtp"][0]
            runs = {"one region": (edge_of(one), (), False), "three regions": (edge_of(three), all_sites[0].inside, False),
                    f"three at {arguments.rtt:.0f} ms": (edge_of(three), all_sites[0].inside, True)}
            rates, times = {}, {}

            def turn(name, sessions, is_warm=True):
                edge, inside, is_delayed = runs[name]
                lines.delay(is_delayed)
                rate, single = measure(edge, inside, sessions)
                if is_warm:
                    rates.setdefault((name, sessions), []).append(rate)
                    times.setdefault((name, sessions), []).extend(single)
                    say(f"{name}, {sessions} under way: {rate:.0f}/s, one accept "
                        f"{statistics.median(single) * 1000:.0f} ms")

            for name in runs:
                turn(name, 50, False)
            for _ in range(arguments.rounds):
                for sessions in (50, 200):
                    for name in runs:
                        turn(name, sessions)
            lines.delay(False)
            subprocess.run([three.bin, "local", "kill", "--region", "r3", "--dir", three.dir], check=True, timeout=60,
                           stdout=subprocess.DEVNULL)
            lost = "three, one peer lost"
            runs[lost] = runs["three regions"]
            for _ in range(arguments.rounds):
                turn(lost, 50)
            for (name, sessions), values in rates.items():
                key = name.replace(" ", "_").replace(",", "") + f"_{sessions}"
                single = sorted(times[name, sessions])
                found[key] = {"value": round(statistics.median(values)), "unit": "messages/s"}
                found[key + "_p50"] = {"value": round(1000 * single[len(single) // 2], 1), "unit": "ms"}
                found[key + "_p99"] = {"value": round(1000 * single[int(len(single) * 0.99)], 1), "unit": "ms"}
                if name != "one region":
                    beside = statistics.median(rates["one region", sessions])
                    found["ratio_" + key] = {"value": round(statistics.median(values) / beside, 2), "unit": "×"}
            lost_frames = sum(r.lost for r in lines.relays)
            if lost_frames:
                say(f"the relays lost {lost_frames} frames")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
