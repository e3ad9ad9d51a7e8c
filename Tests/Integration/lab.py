"""The lab of the integration runs: a DNS server, recipients that misbehave on order, clients that repeat, a running cluster.

Everything is on loopback; every wait has a deadline; processes are ended by the pids that the cluster itself tells.
Needs from PyPI: dnslib, cryptography.
"""
import asyncio, collections, contextlib, datetime, json, os, random, re, shutil, signal, smtplib, ssl, subprocess, sys, tempfile, threading
import time, urllib.parse, urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def binary(name="zegel"):
    for kind in ("release", "debug"):
        path = os.path.join(ROOT, ".build", kind, name)
        if os.path.exists(path):
            return path
    sys.exit(f"{name} is not built: run `swift build -c release` first")


def with_own_mounts(name):
    """Goes on in a mount namespace of its own; ends the run, saying that it is skipped, where nothing may be mounted."""
    mark = "ZEGEL_TEST_MOUNTS"
    if mark in os.environ:
        return
    allowed = subprocess.run(["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True, text=True, timeout=10)
    if allowed.returncode:
        print(f"SKIPPED {name}: no file system may be mounted here ({allowed.stderr.strip()})")
        sys.exit(0)
    os.environ[mark] = "1"
    os.execvp("unshare", ["unshare", "-m", "--", sys.executable, *sys.argv])


def fill(path):
    """Takes every block that is left."""
    with open(path, "wb", buffering=0) as f:
        for size in (1 << 20, 4096):
            block = b"\0" * size
            with contextlib.suppress(OSError):
                while True:
                    if f.write(block) < size:
                        break


def until(what, seconds=30, every=0.05):
    """The first true value of `what`, or None when the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = what()
        if value:
            return value
        time.sleep(every)
    return None


class Report:
    """Prints each thing that was shown; the first that does not hold ends the run with status 1."""

    def __init__(self, title, on_failure=None):
        self.count, self.on_failure = 0, on_failure
        print(f"== {title}", flush=True)

    def check(self, what, held, detail=""):
        if not held:
            if self.on_failure:
                self.on_failure()
            # Last, where whoever sees only the end of a log finds it.
            print(f"FAILS {what}: {detail}", flush=True)
            sys.exit(1)
        print("ok    " + what, flush=True)
        self.count += 1

    def figure(self, what, value):
        print(f"      {what}: {value}", flush=True)


def seed_from(arguments, default=None):
    seed = arguments.seed if arguments.seed is not None else (default or random.SystemRandom().randrange(1 << 32))
    print(f"      seed {seed} (repeat with --seed {seed})", flush=True)
    return random.Random(seed)


@contextlib.contextmanager
def folder():
    # The database runs as another user: it must be able to walk in.
    path = tempfile.mkdtemp(prefix="zegel-lab-", dir="/tmp")
    os.chmod(path, 0o755)
    try:
        yield path
    finally:
        if not os.environ.get("ZEGEL_TEST_KEEP"):
            shutil.rmtree(path, ignore_errors=True)


class Authority:
    """A certificate authority and leaves with faults on order."""

    def __init__(self, path, name="Lab CA"):
        from cryptography.hazmat.primitives.asymmetric import ec
        os.makedirs(path, exist_ok=True)
        self.path, self.name, self.key = path, name, ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._make(name, self.key, name, self.key, True, (), -1, 90)
        self.pem = os.path.join(path, f"{name.replace(' ', '-')}.pem")
        self._write(self.pem, self.certificate)

    def _make(self, subject, key, issuer, issuer_key, ca, names, first, last):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import NameOID
        now = datetime.datetime.now(datetime.timezone.utc)
        common = lambda n: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)])
        builder = (x509.CertificateBuilder().subject_name(common(subject)).issuer_name(common(issuer))
                   .public_key(key.public_key()).serial_number(x509.random_serial_number())
                   .not_valid_before(now + datetime.timedelta(days=first))
                   .not_valid_after(now + datetime.timedelta(days=last))
                   .add_extension(x509.BasicConstraints(ca=ca, path_length=None), True))
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        return builder.sign(issuer_key, hashes.SHA256())

    def _write(self, path, certificate, key=None):
        from cryptography.hazmat.primitives import serialization as s
        with open(path, "wb") as f:
            if key:  # first: Postfix wants it so
                f.write(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
            f.write(certificate.public_bytes(s.Encoding.PEM))

    def leaf(self, name, fault=None):
        """A server context: fault is None, self-signed, expired, not-yet-valid or wrong-name."""
        from cryptography.hazmat.primitives.asymmetric import ec
        key = ec.generate_private_key(ec.SECP256R1())
        first, last = {"expired": (-30, -1), "not-yet-valid": (10, 90)}.get(fault, (-1, 60))
        shown = "elsewhere.test" if fault == "wrong-name" else name
        issuer, issuer_key = (shown, key) if fault == "self-signed" else (self.name, self.key)
        certificate = self._make(shown, key, issuer, issuer_key, False, [shown], first, last)
        path = os.path.join(self.path, f"{name}-{fault or 'good'}.pem")
        self._write(path, certificate, key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


class Dns:
    """Unsigned answers for {(name, type): [rdata]}; everything else NXDOMAIN. `broken` names answer SERVFAIL."""

    def __init__(self, table, port, address="127.0.0.1"):
        from dnslib import QTYPE, RCODE, RR
        from dnslib.server import BaseResolver, DNSLogger, DNSServer
        self.table, self.broken = table, set()
        lab = self

        class Resolver(BaseResolver):
            def resolve(self, request, handler):
                reply, name = request.reply(), str(request.q.qname).rstrip(".").lower()
                kind = QTYPE[request.q.qtype]
                if name in lab.broken or "*" in lab.broken:
                    reply.header.rcode = RCODE.SERVFAIL
                    return reply
                for rdata in lab.table.get((name, kind), []):
                    reply.add_answer(*RR.fromZone(f"{name}. 2 {kind} {rdata}"))
                if not any(n == name for n, _ in lab.table):
                    reply.header.rcode = RCODE.NXDOMAIN
                return reply

        self.servers = [DNSServer(Resolver(), port=port, address=address, tcp=tcp,
                                  logger=DNSLogger("-request,-reply,-truncated,-error")) for tcp in (False, True)]
        for server in self.servers:
            server.start_thread()

    def add(self, domain, address):
        self.table[(domain, "MX")] = [f"10 mx.{domain}."]
        self.table[(f"mx.{domain}", "A")] = [address]


class Sink:
    """A recipient's server. Hooks may be set at any time; each gets (sink, value) and may return a reply text: on_connect (before the
    greeting), on_mail, on_rcpt (address), on_data_begin, on_content (bytes so far), on_dot (content, before the answer to the dot)."""

    def __init__(self, address, port, context=None, extensions=("PIPELINING", "SIZE 200000000", "8BITMIME", "SMTPUTF8",
                                                                "ENHANCEDSTATUSCODES")):
        self.address, self.port, self.context, self.extensions = address, port, context, extensions
        self.got, self.connections, self.commands = [], 0, []
        # Where from and when (time.monotonic) each of `got` came.
        self.origins = []
        self.on_connect = self.on_mail = self.on_rcpt = self.on_data_begin = self.on_content = self.on_dot = None
        self.dots = 0
        self.loop = asyncio.new_event_loop()
        started = threading.Event()

        def run():
            asyncio.set_event_loop(self.loop)
            self.server = self.loop.run_until_complete(
                asyncio.start_server(self._serve, address, port, limit=1 << 20, backlog=1000))
            started.set()
            self.loop.run_forever()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        if not started.wait(10):
            sys.exit("the sink did not start")

    def close(self):
        self.loop.call_soon_threadsafe(self.server.close)

    async def _hook(self, hook, value, default):
        if hook is None:
            return default
        answer = hook(self, value)
        if asyncio.iscoroutine(answer):
            answer = await answer
        return answer or default

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            await self._session(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.LimitOverrunError, ValueError):
            pass
        finally:
            writer.close()

    async def _session(self, reader, writer):
        secure, sender, recipients = False, None, []
        await self._hook(self.on_connect, None, None)
        writer.write(b"220 sink.lab.test ESMTP\r\n")
        while True:
            line = await reader.readline()
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            verb = text.split(" ")[0].upper()
            self.commands.append(text)
            if verb == "EHLO":
                offers = list(self.extensions) + (["STARTTLS"] if self.context and not secure else [])
                lines = ["sink.lab.test"] + offers
                writer.write("".join(f"250{'-' if i + 1 < len(lines) else ' '}{l}\r\n" for i, l in enumerate(lines)).encode())
            elif verb == "STARTTLS" and self.context:
                writer.write(b"220 2.0.0 go ahead\r\n")
                await writer.drain()
                await writer.start_tls(self.context)
                secure, sender, recipients = True, None, []
            elif verb == "MAIL":
                sender, recipients = text[text.index("<") + 1:text.index(">")], []
                answer = await self._hook(self.on_mail, sender, "250 2.1.0 ok")
                if not answer.startswith("2"):
                    sender = None
                writer.write((answer + "\r\n").encode())
            elif verb == "RCPT" and sender is None:
                writer.write(b"503 5.5.1 no sender\r\n")
            elif verb == "RCPT":
                address = text[text.index("<") + 1:text.rindex(">")]
                answer = await self._hook(self.on_rcpt, address, "250 2.1.5 ok")
                if answer.startswith("2"):
                    recipients.append(address)
                writer.write((answer + "\r\n").encode())
            elif verb == "DATA":
                if not recipients:
                    writer.write(b"554 5.5.1 no recipients\r\n")
                    continue
                await self._hook(self.on_data_begin, sender, None)
                writer.write(b"354 go on\r\n")
                await writer.drain()
                content = bytearray()
                while True:
                    line = await reader.readline()
                    if not line:
                        return
                    if line == b".\r\n":
                        break
                    content += line[1:] if line.startswith(b".") else line
                    if self.on_content:
                        await self._hook(self.on_content, len(content), None)
                self.dots += 1
                content = bytes(content)
                answer = await self._hook(self.on_dot, content, "250 2.0.0 kept")
                if answer.startswith("2"):
                    self.got.append((sender, recipients, content))
                    self.origins.append((writer.get_extra_info("peername")[0], time.monotonic()))
                writer.write((answer + "\r\n").encode())
                recipients = []
            elif verb in ("RSET", "NOOP"):
                writer.write(b"250 2.0.0 ok\r\n")
            elif verb == "QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                await writer.drain()
                return
            else:
                writer.write(b"502 5.5.1 what?\r\n")
            await writer.drain()


def documented(page):
    """The commands of zegel in a page's fenced blocks, each with the comment behind it."""
    with open(f"{ROOT}/{page}") as f:
        blocks = re.findall(r"^```\n(.*?)^```", f.read(), re.M | re.S)
    for line in "\n".join(blocks).splitlines():
        command, _, comment = line.partition("#")
        if command.startswith("zegel "):
            yield command.strip(), comment.strip()


class Cluster:
    """`zegel local up` in a folder."""

    def __init__(self, path, settings=(), arguments=(), patience=90):
        self.dir, self.bin = os.path.join(path, "z"), binary()
        self.settings = [x for s in settings for x in ("--set", s)]
        self.arguments = list(arguments)
        self.up(patience)

    def up(self, patience=90):
        p = subprocess.run([self.bin, "local", "up", "--dir", self.dir, "--detach", *self.arguments, *self.settings],
                           capture_output=True, text=True, timeout=patience)
        if p.returncode:
            sys.exit("local up failed: " + (p.stderr or p.stdout)[-2000:])

    def zegel(self, *command, timeout=150):
        """A command on this cluster, as it ended."""
        return subprocess.run([self.bin, *command, "--dir", self.dir], capture_output=True, text=True, timeout=timeout)

    def whole(self, seconds=150):
        """Waits until every shard's leader is at home and every member follows; false: it did not come to that."""
        return bool(until(lambda: self.zegel("shard", "status").returncode == 0, seconds, 1))

    def down(self):
        subprocess.run([self.bin, "local", "down", "--dir", self.dir], capture_output=True, timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *a):
        self.down()

    @property
    def e(self):
        for _ in range(20):
            try:
                with open(f"{self.dir}/endpoints.json") as f:
                    return json.load(f)
            except (OSError, ValueError):
                time.sleep(0.05)
        sys.exit("endpoints.json cannot be read")

    def pids(self, kind):
        return self.e["regions"][0]["pids"].get(kind, [])

    def kill(self, kind, how=signal.SIGKILL, which=None):
        pids = self.pids(kind)
        for pid in pids if which is None else [pids[which]]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)

    def context(self):
        c = ssl.create_default_context(cafile=self.e["ca"])
        c.check_hostname = False
        return c

    def smtp(self, timeout=30, address=None):
        """A session with an edge, the first one unless `address` (host:port) says another."""
        host, port = (address or self.e["regions"][0]["smtp"][0]).rsplit(":", 1)
        s = smtplib.SMTP(host, int(port), local_hostname="client.demo.test", timeout=timeout)
        s.starttls(context=self.context())
        s.ehlo("client.demo.test")
        s.login(self.e["smtp_user"], self.e["smtp_password"])
        return s

    def get(self, path, region=0):
        r = urllib.request.Request(self.e["regions"][region]["api"] + path,
                                   headers={"Authorization": "Bearer " + self.e["api_key"]})
        return json.load(urllib.request.urlopen(r, context=self.context(), timeout=15))

    def events(self, after=""):
        out, cursor = [], after
        while True:
            page = self.get(f"/v1/events?limit=1000&after={urllib.parse.quote(cursor)}")
            if not page["events"]:
                return out
            out += page["events"]
            cursor = page["next"]

    def metric(self, name):
        """The sum of a metric over all nodes; None where no node has it."""
        total, seen = 0.0, False
        for url in self.e["regions"][0]["metrics"]:
            with contextlib.suppress(OSError):
                text = urllib.request.urlopen(url + "/metrics", timeout=5).read().decode()
                for line in text.splitlines():
                    if line.startswith(name) and line[len(name)] in " {":
                        total, seen = total + float(line.rsplit(" ", 1)[1]), True
        return total if seen else None

    def sql(self, text, role=0):
        dsn = self.e["regions"][0]["postgres"][role]
        p = subprocess.run(["psql", "-X", "-A", "-t", "-d", dsn, "-c", text], capture_output=True, text=True, timeout=30)
        if p.returncode:
            raise RuntimeError(p.stderr)
        return p.stdout.strip()

    def last_logs(self, lines=15):
        for name in sorted(os.listdir(f"{self.dir}/logs")):
            print(f"--- {name}")
            with open(f"{self.dir}/logs/{name}", errors="replace") as f:
                print("".join(f.readlines()[-lines:])[-3000:])


def tree(pid):
    """A process and all below it."""
    done, todo = [], [pid]
    while todo:
        one = todo.pop()
        done.append(one)
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children") as f:
                    todo += [int(p) for p in f.read().split()]
    return done


def process_connected_to(port):
    """The process that has a connection to a port of ours."""
    text = subprocess.run(["ss", "-tnpH", "state", "established", f"( dport = :{port} )"], capture_output=True, text=True,
                          timeout=10).stdout
    for part in text.split("pid=")[1:]:
        pid = int(part.split(",")[0])
        if pid != os.getpid():
            return pid
    return None


def message(number, random, size=2000, sender="a@demo.test", to="b@bar.test", token=None):
    """A message whose Message-ID tells which it is."""
    lines, total = [], 0
    while total < size:
        line = "%070x" % random.getrandbits(280)
        lines.append(line)
        total += 72
    head = [f"From: {sender}", f"To: {to}", f"Subject: message {number}", f"Message-ID: <{token or 'm'}-{number}@demo.test>",
            "Date: Tue, 24 Nov 2026 10:00:00 +0000", ""]
    return ("\r\n".join(head + lines) + "\r\n").encode()


def message_id(content):
    for line in content.split(b"\r\n"):
        if line.lower().startswith(b"message-id:"):
            return line.split(b":", 1)[1].strip().decode()
        if not line:
            return None


class Client:
    """A sender as real ones are: what was not answered is repeated, the same bytes."""

    def __init__(self, cluster, give_up=180):
        self.cluster, self.session, self.give_up = cluster, None, give_up
        self.repeats = 0
        # Contents that were sent and got no certain answer: none, or one that says to come again.
        self.uncertain = 0

    def send(self, sender, recipients, content):
        """The id in the 250, after as many tries as it takes."""
        end = time.monotonic() + self.give_up
        first = True
        while time.monotonic() < end:
            if not first:
                self.repeats += 1
            first = False
            try:
                if self.session is None:
                    self.session = self.connect()
                code, _ = self.session.mail(sender, ["BODY=8BITMIME"])
                if code == 250:
                    for recipient in recipients:
                        code, _ = self.session.rcpt(recipient)
                        if code != 250:
                            break
                if code == 250:
                    self.uncertain += 1
                    code, text = self.session.data(content)
                    if code == 250:
                        self.uncertain -= 1
                        return text.split()[1].decode()
                    if 500 <= code:
                        raise RuntimeError(f"refused: {code} {text}")
                self._drop()
            except (smtplib.SMTPException, OSError, ValueError):
                self._drop()
            time.sleep(0.1)
        return None

    def connect(self):
        return self.cluster.smtp()

    def _drop(self):
        if self.session is not None:
            with contextlib.suppress(Exception):
                self.session.close()
        self.session = None

    def quit(self):
        if self.session is not None:
            with contextlib.suppress(Exception):
                self.session.quit()
        self.session = None


def send_all(cluster, jobs, connections=20, give_up=180):
    """Sends (sender, recipients, content) jobs over some connections; answers {index: id or None} and the repeats."""
    answers, repeats, lock, todo = {}, [0], threading.Lock(), list(enumerate(jobs))
    todo.reverse()

    def work():
        client = Client(cluster, give_up)
        while True:
            with lock:
                if not todo:
                    break
                index, job = todo.pop()
            try:
                answers[index] = client.send(*job)
            except RuntimeError as error:
                answers[index] = None
                print(f"      {error}", flush=True)
        client.quit()
        with lock:
            repeats[0] += client.repeats

    threads = [threading.Thread(target=work, daemon=True) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers, repeats[0]


def ids_in(content):
    """The ids under which Zegel took a content in, as its Received fields tell."""
    return re.findall(r"\bid ([0-9a-f]{8}-[0-9a-f-]{27});", content.decode("latin-1"))


class Copies:
    """How often each message came to a recipient, and whether marks say so: all copies but one must have theirs."""

    def __init__(self, got, events):
        self.count, self.ids = collections.Counter(), collections.defaultdict(set)
        for _, _, content in got:
            name = message_id(content)
            self.count[name] += 1
            self.ids[name].update(ids_in(content))
        once = {e["id"]: e for e in events}.values()
        marks = collections.Counter(e["message_id"] for e in once if e.get("possible_duplicate"))
        delivered = [e for e in once if e["kind"] == "delivered"]
        plain = collections.Counter(e["message_id"] for e in delivered if not e.get("possible_duplicate"))
        # Deliveries that say that they may be one too many.
        self.marked = collections.Counter(e["message_id"] for e in delivered if e.get("possible_duplicate"))
        self.doubles = [n for n in self.count if self.count[n] > 1]
        # A copy may be of a try whose answer nobody has: then marks of its successors tell. At most one delivery says nothing.
        self.unmarked = [n for n in self.doubles if self.of(marks, n) < self.count[n] - 1 or self.of(plain, n) > 1]

    def of(self, counts, name):
        """The sum of what is counted by id, for one message."""
        return sum(counts[i] for i in self.ids[name])


class Roaming(Client):
    """A client with the edges of all regions: when one does not answer, it goes to the next."""

    def __init__(self, cluster, start, give_up=120, timeout=10):
        super().__init__(cluster, give_up)
        self.regions, self.at, self.timeout = [r["smtp"][0] for r in cluster.e["regions"]], start, timeout

    def connect(self):
        address = self.regions[self.at % len(self.regions)]
        self.at += 1
        return self.cluster.smtp(timeout=self.timeout, address=address)


# Every row of a shard, whole: members are copies of each other. Without what is written all the time: leases and heartbeats.
ROWS = "SELECT md5(string_agg(h, '' ORDER BY h)) FROM (" + " UNION ALL ".join(
    f"SELECT md5('{table}' || t::text) AS h FROM {table} t"
    for table in ["ledger." + name for name in ("message", "recipient", "delivery", "event", "content", "batch_key", "replay", "upload",
                                                "incarnation", "address_index")]
    + ["control." + name for name in ("tenant", "sender_domain", "credential", "api_key", "key_set", "config")]) + ") x"


def ask(dsn, text, timeout=30, inside=()):
    """One answer of a database, or None. `inside`: the command that goes where it is reached from."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run([*inside, "psql", "-X", "-A", "-t", "-d", dsn, "-c", text], capture_output=True, text=True,
                              timeout=timeout)
        if done.returncode == 0:
            return done.stdout.strip()
    return None
