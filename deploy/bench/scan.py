"""Scans: `zegel judge --scan` beside testssl.sh and sslyze, on the same hosts in the same run, in domains a minute.

Ours does 200 domains from nothing: each run is a new process without a cache, DNS with validation included. The others get the
addresses of the first hosts of the same world, which have every kind of server, since all 200 would take them hours; testssl one
host of a kind, all at once, as its own parallel mode does, sslyze as many of each kind as it does well at once. All are asked for
versions, cipher suites by version, groups and the certificate.
"""
import json, os, statistics, subprocess, sys, time

import scan_world
from lab import ROOT, binary, folder
from scan_world import KINDS, PORT, World

PACKAGES = {"nsd": "nsd", "ldns-signzone": "ldnsutils", "openssl": "openssl", "testssl": "testssl.sh"}
PEERS = os.path.join(ROOT, ".build", "peers")

SSLYZE = """
from sslyze import *
import json, sys
C = ScanCommand
scanner = Scanner()
scanner.queue_scans([ServerScanRequest(
    server_location=ServerNetworkLocation(hostname=name, port=port, ip_address=address),
    network_configuration=ServerNetworkConfiguration(
        tls_server_name_indication=name, tls_opportunistic_encryption=ProtocolWithOpportunisticTlsEnum.SMTP),
    scan_commands={C.SSL_3_0_CIPHER_SUITES, C.TLS_1_0_CIPHER_SUITES, C.TLS_1_1_CIPHER_SUITES, C.TLS_1_2_CIPHER_SUITES,
                   C.TLS_1_3_CIPHER_SUITES, C.ELLIPTIC_CURVES, C.CERTIFICATE_INFO})
    for name, address, port in json.load(sys.stdin)])
for result in scanner.get_results():
    suites = result.scan_result.tls_1_2_cipher_suites.result
    assert result.scan_status == ServerScanStatusEnum.COMPLETED and suites is not None, result.connectivity_error_trace
    print(result.server_location.hostname)
"""


def install(apt):
    apt(PACKAGES)
    python = f"{PEERS}/bin/python"
    if subprocess.run([python, "-c", "import sslyze"], capture_output=True).returncode if os.path.exists(python) else True:
        subprocess.run([sys.executable, "-m", "venv", PEERS], check=True, stdout=sys.stderr, timeout=120)
        subprocess.run([python, "-m", "pip", "install", "-q", "sslyze"], check=True, stdout=sys.stderr, timeout=300)


def zegel(world, settings):
    """Seconds for all domains, and handshakes; every report is checked."""
    with open(f"{world.path}/domains", "w") as file:
        file.write("\n".join(world.domains))
    sets = [f"delivery.port={PORT}", "delivery.hostname=zegel.test", f"dns.forwarders=127.0.0.1@{scan_world.DNS_PORT}",
            f"dns.trust_anchor={world.anchor}", f"delivery.trust_roots={world.roots}", *settings]
    begun = time.monotonic()
    done = subprocess.run([binary(), "judge", "--scan", "--json", "--batch", f"{world.path}/domains",
                           *(part for text in sets for part in ("--set", text))], capture_output=True, text=True, timeout=170)
    seconds = time.monotonic() - begun
    if done.returncode:
        sys.exit(f"zegel judge: status {done.returncode}: {done.stderr[-2000:]}")
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    handshakes = 0
    for domain, report in zip(world.domains, reports, strict=True):
        scan = report["hosts"][0]["scan"]
        if report["domain"] != domain or not scan["complete"] or set(scan["suites"]) != world.versions(domain):
            sys.exit(f"zegel judge: wrong or incomplete: {json.dumps(report)[:2000]}")
        handshakes += scan["handshakes"]
    return seconds, handshakes


def sslyze(world, domains):
    hosts = [(world.host(domain), world.address(domain), PORT) for domain in domains]
    begun = time.monotonic()
    done = subprocess.run([f"{PEERS}/bin/python", "-c", SSLYZE], input=json.dumps(hosts), capture_output=True, text=True,
                          timeout=170)
    seconds = time.monotonic() - begun
    if done.returncode or len(done.stdout.split()) != len(hosts):
        sys.exit(f"sslyze: {done.stderr[-2000:]}")
    return seconds


def testssl(world, domains):
    """Seconds for all of them at once; what each found is looked at."""
    begun = time.monotonic()
    runs = [subprocess.Popen(
        ["testssl", "-t", "smtp", "-p", "-E", "-f", "-S", "--ip", world.address(domain), "--nodns", "none", "--warnings", "off",
         "--quiet", "--color", "0", "--jsonfile", f"{world.path}/{domain}.json", f"{world.host(domain)}:{PORT}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=world.path, start_new_session=True)
        for domain in domains]
    try:
        for domain, run in zip(domains, runs):
            run.wait(max(1, 170 - (time.monotonic() - begun)))
    except subprocess.TimeoutExpired:
        sys.exit("testssl did not end in 170 s")
    finally:
        for run in runs:
            if run.poll() is None:
                os.killpg(run.pid, 15)
    seconds = time.monotonic() - begun
    for domain in domains:
        found = {row["id"] for row in json.load(open(f"{world.path}/{domain}.json"))}
        if not any(name.startswith("cipher-tls1_2_x") for name in found):
            sys.exit(f"testssl found no suites of {domain}")
    return seconds


def run(arguments, say):
    """Figures by name."""
    rounds, few = (1, 1) if arguments.quick else (3, 5)
    with folder() as path:
        world = World(path, 200)
        try:
            ours, handshakes = [], 0
            for number in range(rounds):
                seconds, handshakes = zegel(world, arguments.set)
                ours.append(60 * len(world.domains) / seconds)
                say(f"scan: zegel: {len(world.domains)} domains in {seconds:.1f} s")
            sample = world.domains[:few * len(KINDS)]
            seconds = sslyze(world, sample)
            theirs = {"sslyze": 60 * len(sample) / seconds}
            say(f"scan: sslyze: {len(sample)} domains in {seconds:.1f} s")
            sample = world.domains[:len(KINDS)]
            seconds = testssl(world, sample)
            theirs["testssl"] = 60 * len(sample) / seconds
            say(f"scan: testssl: {len(sample)} domains in {seconds:.1f} s")
        finally:
            world.stop()
    speed = statistics.median(ours)
    found = {"scan_zegel": (speed, "domains/minute"), "scan_zegel_handshakes": (handshakes / 200, "handshakes/domain")}
    for name, figure in theirs.items():
        found[f"scan_{name}"] = (figure, "domains/minute")
        found[f"ratio_scan_{name}"] = (speed / figure, "×")
    return found
