"""Regions as sites of their own: each in a network namespace and on a small disk of its own, so that it can be cut off, stood still,
filled up or lost. Everything is in private namespaces of the run: what it leaves behind ends with it.

`enter()` first, once, before threads: the program goes on in a network and a mount namespace of its own, the host of the run
(10.88.0.254), whose clients, recipient and DNS server every region reaches whatever happens between the regions.
"""
import contextlib, os, signal, subprocess, sys

from lab import ROWS, Authority, Dns, Sink, ask

# The names of namespaces are files: those of this run lie where no other run sees them.
OWN_NAMES = "mkdir -p /run/netns && mount -t tmpfs none /run/netns"
MARK, BRIDGE, HOST = "ZEGEL_TEST_OWN_SITES", "sites", "10.88.0.254"


def run(*command, check=True, timeout=20):
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done


def enter(what):
    """Goes on in namespaces of its own; skips the program, saying so, where that is not allowed."""
    if MARK in os.environ:
        # Named namespaces of this run are its own, too.
        run("sh", "-c", OWN_NAMES)
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "addr", "add", f"{HOST}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        return
    allowed = subprocess.run(
        ["unshare", "-m", "-n", "-p", "--fork", "--mount-proc", "sh", "-c", f"{OWN_NAMES} && ip link add x type bridge && ip netns add probe"],
        capture_output=True, text=True, timeout=10)
    if allowed.returncode:
        print(f"SKIPPED {what}: no network may be made here ({allowed.stderr.strip()})")
        sys.exit(77)
    os.environ[MARK] = "1"
    # The shell is the first process there: it takes leave of those whose parents are gone, and all end with it.
    os.execvp("unshare", ["unshare", "-m", "-n", "-p", "--fork", "--mount-proc", "--kill-child", "--",
                          "bash", "-c", '"$@" & wait $!', "sites", sys.executable, *sys.argv])


class Site:
    """One region's place: namespace, address, disk."""

    def __init__(self, number, name):
        self.name, self.space, self.address = name, f"z{number}", f"10.88.0.{10 * number}"
        self.disk = None
        self.frozen = set()
        link = f"v{number}"
        run("ip", "netns", "add", self.space)
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        run("ip", "link", "set", link, "master", BRIDGE, "up")
        self.ip("addr", "add", f"{self.address}/24", "dev", "eth0")
        self.ip("link", "set", "eth0", "up")
        self.ip("link", "set", "lo", "up")

    @property
    def place(self):
        return f"{self.space}@{self.address}"

    @property
    def inside(self):
        """What a command begins with that runs there."""
        return ("ip", "netns", "exec", self.space)

    def ip(self, *words):
        return run("ip", "-n", self.space, *words)

    # What it no longer reaches gets its frames sent to nobody: they are lost without a word, as on a broken line.

    def loses(self, other):
        self.ip("neigh", "replace", other.address, "lladdr", "02:00:00:00:00:01", "nud", "permanent", "dev", "eth0")

    def reaches(self, other):
        run("ip", "-n", self.space, "neigh", "del", other.address, "dev", "eth0", check=False)

    # Processes.

    def pids(self):
        done = run("ip", "netns", "pids", self.space, check=False)
        return [int(p) for p in done.stdout.split()]

    def freeze(self):
        """Every process stands still, those too that are begun meanwhile."""
        for _ in range(5):
            left = [p for p in self.pids() if p not in self.frozen]
            if not left:
                break
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    self.frozen.add(pid)

    def thaw(self):
        for pid in self.frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.frozen.clear()

    # The disk.

    def give_disk(self, path, size):
        os.makedirs(path, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "none", path)
        self.disk = path

    def fill(self):
        with open(f"{self.disk}/filler", "wb", buffering=0) as f:
            for size in (1 << 20, 4096):
                block = b"\0" * size
                with contextlib.suppress(OSError):
                    while f.write(block) == size:
                        pass

    def is_full(self):
        """Whether nothing can be written any more."""
        try:
            with open(f"{self.disk}/probe", "wb", buffering=0) as f:
                f.write(b"x" * 65536)
            return False
        except OSError:
            return True
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(f"{self.disk}/probe")

    def hears(self, other):
        """Whether an answer of the other one comes here: it takes a way there and one back. Nobody listens on that port: it says so."""
        ask = ("import socket, sys\n"
               "try: socket.create_connection((sys.argv[1], 9), 1)\n"
               "except ConnectionRefusedError: pass\n")
        done = subprocess.run([*self.inside, sys.executable, "-c", ask, other.address], capture_output=True, timeout=10)
        return done.returncode == 0

    def empty(self):
        with contextlib.suppress(FileNotFoundError):
            os.remove(f"{self.disk}/filler")


def sites(count):
    return [Site(n, f"r{n}") for n in range(1, count + 1)]


class Stage:
    """Three sites, and a recipient whom all of them reach: what a cluster of three regions is tried on."""

    def __init__(self, path):
        self.sites = sites(3)
        authority = Authority(f"{path}/ca")
        self.dns = Dns({}, 5391, HOST)
        self.dns.add("bar.test", HOST)
        self.sink = Sink(HOST, 2691, authority.leaf("mx.bar.test"))
        self.settings = [f"dns.forwarders={HOST}@5391", "delivery.port=2691", f"delivery.trust_roots={authority.pem}"]
        self.regions = ["--regions", "3"] + [word for site in self.sites for word in ("--place", site.place)]


def cut(site, others, ways="both"):
    """Cuts a site off from others: both ways, or `out` (nothing of it arrives there), or `in`."""
    for other in others:
        if ways in ("both", "out"):
            site.loses(other)
        if ways in ("both", "in"):
            other.loses(site)


def heal(all_sites):
    for site in all_sites:
        for other in all_sites:
            if site is not other:
                site.reaches(other)


def answers(z, all_sites, region, text):
    """What each shard's member in a region answers, asked there."""
    return [ask(dsn, text, inside=all_sites[region].inside) for dsn in z.e["regions"][region]["postgres"]]


def are_equal(z, all_sites):
    """Whether every member of each shard holds the same rows."""
    rows = [answers(z, all_sites, region, ROWS) for region in range(len(all_sites))]
    return None not in sum(rows, []) and all(row == rows[0] for row in rows)
