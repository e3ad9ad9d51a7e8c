"""A world to scan: domains in a signed zone, each with a mail host of its own on 127.0.71.0/24, on servers of several kinds.

Real NSD answers; STARTTLS is OpenSSL's, by way of Python, in one process a core. Every address is a host of its own to whoever
scans. Run as a program this is one such server process: `scan_world.py WORLD.json`.
"""
import json, os, selectors, shutil, socket, ssl, subprocess, sys, time

PORT, DNS_PORT = 2726, 5426
VERSIONS = {"TLSv1": ssl.TLSVersion.TLSv1, "TLSv1.1": ssl.TLSVersion.TLSv1_1, "TLSv1.2": ssl.TLSVersion.TLSv1_2,
            "TLSv1.3": ssl.TLSVersion.TLSv1_3}
KINDS = [  # name, key, oldest and newest version, suites before TLS 1.3, certificate
    ("usual", "rsa", "TLSv1.2", "TLSv1.3", "DEFAULT:!PSK:!SRP", "good"),
    ("strict", "ecdsa", "TLSv1.2", "TLSv1.3", "ECDHE+AESGCM:ECDHE+CHACHA20", "good"),
    ("plain", "rsa", "TLSv1.2", "TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-SHA256:AES128-SHA256", "expired"),
    ("old", "rsa", "TLSv1", "TLSv1.2", "ALL:!aNULL:!PSK:!SRP:@SECLEVEL=0", "self-signed"),
]


def run(*command, folder=None):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    if done.returncode:
        sys.exit(f"{command[0]}: {done.stderr.strip()[-1000:]}")
    return done.stdout


class World:
    """`count` domains `d0.test`, `d1.test`, … of kinds by turns; every third host has a TLSA record. Stops with `stop`."""

    def __init__(self, path, count):
        self.path, self.processes = path, []
        self.domains = [f"d{number}.test" for number in range(count)]
        self.roots, self.anchor = f"{path}/root.pem", f"{path}/anchor"
        try:
            self._certificates()
            self._zone()
            self._serve()
        except BaseException:
            self.stop()
            raise

    def kind(self, domain):
        return KINDS[self.domains.index(domain) % len(KINDS)]

    def host(self, domain):
        return f"mx.{domain}"

    def address(self, domain):
        return f"127.0.71.{self.domains.index(domain) + 1}"

    def versions(self, domain):
        """Those that the host of a domain is configured with."""
        names, (_, _, oldest, newest, _, _) = list(VERSIONS), self.kind(domain)
        return set(names[names.index(oldest):names.index(newest) + 1])

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(10)

    def _certificates(self):
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Scan root", "-days", "9",
            "-keyout", f"{self.path}/root.key", "-out", self.roots)
        names = ",".join(f"DNS:mx.{domain}" for domain in self.domains)
        for name, key, _, _, _, certificate in KINDS:
            kind = ["rsa:2048"] if key == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
            stem = f"{self.path}/{name}"
            run("openssl", "req", "-newkey", *kind, "-nodes", "-subj", "/CN=mx", "-keyout", f"{stem}.key", "-out", f"{stem}.csr")
            with open(f"{stem}.ext", "w") as file:
                file.write(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n")
            issuer = ["-signkey", f"{stem}.key"] if certificate == "self-signed" else [
                "-CA", self.roots, "-CAkey", f"{self.path}/root.key", "-CAcreateserial"]
            # OpenSSL makes no certificate that has ended; this one ends at once.
            days = ["-days", "0" if certificate == "expired" else "8"]
            run("openssl", "x509", "-req", "-in", f"{stem}.csr", *issuer, *days, "-extfile", f"{stem}.ext", "-out", f"{stem}.pem")

    def _zone(self):
        lines = ["$ORIGIN test.", "$TTL 300", "@ SOA ns hostmaster 1 3600 600 86400 60", "@ NS ns", "ns A 127.0.0.1"]
        digests = {}
        for name, *_ in KINDS:
            public = run("openssl", "x509", "-in", f"{self.path}/{name}.pem", "-noout", "-pubkey")
            der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=public.encode(), capture_output=True,
                                 check=True, timeout=60).stdout
            digests[name] = subprocess.run(["openssl", "dgst", "-sha256", "-r"], input=der, capture_output=True, check=True,
                                           timeout=60).stdout.split()[0].decode()
        for number, domain in enumerate(self.domains):
            host = self.host(domain)
            lines += [f"{domain}. MX 10 {host}.", f"{host}. A {self.address(domain)}"]
            if number % 3 == 0:
                lines.append(f"_{PORT}._tcp.{host}. TLSA 3 1 1 {digests[self.kind(domain)[0]]}")
        zone = f"{self.path}/test.zone"
        with open(zone, "w") as file:
            file.write("\n".join(lines) + "\n")
        key = run("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", "test", folder=self.path).strip()
        run("ldns-signzone", "-n", "-f", f"{zone}.signed", zone, f"{self.path}/{key}")
        shutil.copy(f"{self.path}/{key}.ds", self.anchor)
        with open(f"{self.path}/nsd.conf", "w") as file:
            file.write(f'server:\n ip-address: 127.0.0.1@{DNS_PORT}\n username: ""\n chroot: ""\n database: ""\n'
                       f' zonesdir: "{self.path}"\n pidfile: "{self.path}/nsd.pid"\n xfrdfile: "{self.path}/xfrd"\n'
                       f' zonelistfile: "{self.path}/zones"\n logfile: "{self.path}/nsd.log"\n'
                       'remote-control:\n control-enable: no\n'
                       f'zone:\n name: "test"\n zonefile: "{zone}.signed"\n')
        self.processes.append(subprocess.Popen(["nsd", "-d", "-c", f"{self.path}/nsd.conf"], stdout=subprocess.DEVNULL,
                                               stderr=subprocess.DEVNULL))

    def _serve(self):
        with open(f"{self.path}/world.json", "w") as file:
            json.dump({"path": self.path, "hosts": [[self.address(d), self.kind(d)[0]] for d in self.domains]}, file)
        for _ in range(os.cpu_count() or 1):
            program = [sys.executable, "-W", "ignore", os.path.realpath(__file__), f"{self.path}/world.json"]
            self.processes.append(subprocess.Popen(program, stdout=subprocess.PIPE))
        for process in self.processes[1:]:
            if process.stdout.readline() != b"ready\n":
                sys.exit("a server of the world to scan did not start")


class Server:
    """Greets, answers EHLO, starts TLS, takes QUIT. What a peer does wrong ends its connection."""

    def __init__(self, world):
        self.poll, self.contexts = selectors.EpollSelector(), {}
        for name, _, oldest, newest, suites, _ in KINDS:
            context = self.contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_ciphers(suites)
            context.minimum_version, context.maximum_version = VERSIONS[oldest], VERSIONS[newest]
            context.load_cert_chain(f"{world['path']}/{name}.pem", f"{world['path']}/{name}.key")
        for address, kind in world["hosts"]:
            listener = socket.create_server((address, PORT), backlog=1024, reuse_port=True)
            listener.setblocking(False)
            self.poll.register(listener, selectors.EVENT_READ, (self.accept, listener, self.contexts[kind]))

    def serve(self):
        while True:
            for key, _ in self.poll.select():
                step, *given = key.data
                step(*given)

    def accept(self, listener, context):
        try:
            peer, _ = listener.accept()
        except OSError:
            return  # The other process took it.
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.poll.register(peer, selectors.EVENT_READ, (self.talk, peer, context, bytearray()))
        self.attempt(peer, lambda: peer.send(b"220 mx.test ESMTP\r\n"))

    def attempt(self, peer, what):
        """What it gives; None where there is nothing yet, or where the connection is over."""
        try:
            return what()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return None
        except (OSError, ValueError):
            self.end(peer)
            return None

    def end(self, peer):
        try:
            self.poll.unregister(peer)
        except (KeyError, ValueError):
            pass
        peer.close()

    def talk(self, peer, context, line):
        read = self.attempt(peer, lambda: peer.recv(4096))
        if read is None:
            return
        if not read or len(line) > 4096:
            return self.end(peer)
        line += read
        while b"\n" in line and peer.fileno() >= 0:
            command, _, rest = bytes(line).partition(b"\n")
            line[:] = rest
            verb = command.strip().upper()
            if verb.startswith(b"EHLO"):
                offer = b"" if isinstance(peer, ssl.SSLSocket) else b"250-STARTTLS\r\n"
                self.attempt(peer, lambda: peer.send(b"250-mx.test\r\n" + offer + b"250 8BITMIME\r\n"))
            elif verb == b"STARTTLS":
                return self.start_tls(peer, context)
            elif verb == b"QUIT":
                self.attempt(peer, lambda: peer.send(b"221 2.0.0 bye\r\n"))
                return self.end(peer)
            else:
                self.attempt(peer, lambda: peer.send(b"250 2.0.0 ok\r\n"))

    def start_tls(self, peer, context):
        self.attempt(peer, lambda: peer.send(b"220 2.0.0 go ahead\r\n"))
        if peer.fileno() < 0:
            return
        self.poll.unregister(peer)
        try:
            secure = context.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)
        except OSError:
            return peer.close()
        self.poll.register(secure, selectors.EVENT_READ, (self.shake_hands, secure, context))

    def shake_hands(self, peer, context):
        if self.attempt(peer, lambda: peer.do_handshake() or True):
            self.poll.modify(peer, selectors.EVENT_READ, (self.talk, peer, context, bytearray()))


if __name__ == "__main__":
    server = Server(json.load(open(sys.argv[1])))
    print("ready", flush=True)
    server.serve()
