#!/usr/bin/env python3
"""What `zegel judge --scan` finds on differently configured servers, beside what testssl and (where installed) sslyze find.

Each host is a sink of the lab with a TLS context of its own, on an address of 127.0.70.0/24. Versions and cipher suites are
compared with what the server was configured with and with the other scanners; every disagreement is printed, and any fails the
run. sslyze is taken from the Python that runs this, or from --sslyze PYTHON.
"""
import argparse, os, re, ssl, sys
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from lab import *

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--short", action="store_true", help="two hosts, testssl only")
parser.add_argument("--sslyze", default=sys.executable, metavar="PYTHON", help="a Python that has sslyze")
arguments = parser.parse_args()
PORT, DNS_PORT = 2725, 5425
VERSIONS = ["SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]
OLDEST = {"1": ssl.TLSVersion.TLSv1, "1.1": ssl.TLSVersion.TLSv1_1, "1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
HOSTS = [  # name, key, oldest and newest version, suites before TLS 1.3
    ("weak", "rsa", "1", "1.2", "ECDHE-RSA-AES128-SHA:AES128-SHA:AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:@SECLEVEL=0"),
    ("modern", "ecdsa", "1.2", "1.3", "ECDHE+AESGCM:ECDHE+CHACHA20"),
    ("tls13", "ecdsa", "1.3", "1.3", "ECDHE+AESGCM"),
    ("tls12", "rsa", "1.2", "1.2", "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305"),
    ("cbc", "rsa", "1.2", "1.2", "ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES256-SHA384:AES128-SHA256"),
    ("old", "rsa", "1", "1.1", "ALL:!aNULL:@SECLEVEL=0"),
    ("all", "rsa", "1", "1.3", "ALL:!aNULL:@SECLEVEL=0"),
    ("anonymous", "rsa", "1.2", "1.2", "aNULL:ECDHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0"),
]


def context(path, kind, oldest, newest, suites):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.set_ciphers(suites)
    made.minimum_version, made.maximum_version = OLDEST[oldest], OLDEST[newest]
    made.load_cert_chain(f"{path}/{kind}.pem", f"{path}/{kind}.key")
    return made


def certificate(path, kind):
    key = ["-newkey", "rsa:2048"] if kind == "rsa" else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run(["openssl", "req", "-x509", *key, "-nodes", "-subj", "/CN=mx.test", "-days", "9", "-keyout",
                    f"{path}/{kind}.key", "-out", f"{path}/{kind}.pem"], check=True, capture_output=True, timeout=60)


def zegel(path, name, address):
    run = subprocess.run(
        [binary(), "judge", f"{name}.test", "--scan", "--json", "--set", f"delivery.routes={name}.test={address}:{PORT}",
         "--set", "delivery.hostname=zegel.test", "--set", f"dns.forwarders=127.0.0.1@{DNS_PORT}",
         "--set", "dns.trust_anchor=none"], capture_output=True, text=True, timeout=120, cwd=path)
    if run.returncode:
        sys.exit(f"zegel judge: status {run.returncode}: {run.stderr}")
    scan = json.loads(run.stdout)["hosts"][0]["scan"]
    return {v: {s["name"] for s in suites} for v, suites in scan["suites"].items()}, scan


def testssl(path, name, address):
    output = f"{path}/{name}-testssl.json"
    subprocess.run(["testssl", "-t", "smtp", "-p", "-E", "--ip", address, "--nodns", "none", "--warnings", "off", "--quiet",
                    "--color", "0", "--jsonfile", output, f"{address}:{PORT}"],
                   capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL, cwd=path)
    versions = dict(zip(("ssl3", "tls1", "tls1_1", "tls1_2", "tls1_3"), VERSIONS))
    found = {}
    for row in json.load(open(output)):
        if cipher := re.match(r"cipher-(ssl3|tls1(?:_[123])?)_x", row["id"]):
            found.setdefault(versions[cipher[1]], set()).add(row["finding"].split()[-1])
        elif row["id"].lower().replace("sslv3", "ssl3") in versions and row["finding"].startswith("offered"):
            found.setdefault(versions[row["id"].lower().replace("sslv3", "ssl3")], set())
    return found


SSLYZE = """
from sslyze import *
import json, sys
host, port = sys.argv[1], int(sys.argv[2])
request = ServerScanRequest(
    server_location=ServerNetworkLocation(hostname="mx.test", port=port, ip_address=host),
    network_configuration=ServerNetworkConfiguration(
        tls_server_name_indication="mx.test", tls_opportunistic_encryption=ProtocolWithOpportunisticTlsEnum.SMTP),
    scan_commands={ScanCommand.SSL_3_0_CIPHER_SUITES, ScanCommand.TLS_1_0_CIPHER_SUITES, ScanCommand.TLS_1_1_CIPHER_SUITES,
                   ScanCommand.TLS_1_2_CIPHER_SUITES, ScanCommand.TLS_1_3_CIPHER_SUITES})
scanner = Scanner()
scanner.queue_scans([request])
for result in scanner.get_results():
    found = {}
    for version, name in [("SSLv3", "ssl_3_0"), ("TLSv1", "tls_1_0"), ("TLSv1.1", "tls_1_1"), ("TLSv1.2", "tls_1_2"),
                          ("TLSv1.3", "tls_1_3")]:
        attempt = getattr(result.scan_result, name + "_cipher_suites").result
        suites = [s.cipher_suite.name for s in attempt.accepted_cipher_suites]
        if suites:
            found[version] = suites
    print(json.dumps(found))
"""


def sslyze(path, name, address):
    run = subprocess.run([arguments.sslyze, "-c", SSLYZE, address, str(PORT)], capture_output=True, text=True, timeout=300)
    if run.returncode:
        sys.exit(f"sslyze: {run.stderr[-2000:]}")
    return {version: set(suites) for version, suites in json.loads(run.stdout).items()}


def timed(what, *given):
    begun = time.monotonic()
    found = what(*given)
    return found, time.monotonic() - begun


with folder() as path:
    report = Report("agreement of scanners")
    dns = Dns({}, DNS_PORT)
    others = [("testssl", testssl)]
    if not arguments.short:
        if subprocess.run([arguments.sslyze, "-c", "import sslyze"], capture_output=True).returncode == 0:
            others.append(("sslyze", sslyze))
        else:
            print("      sslyze is not installed", flush=True)
    for kind in ("rsa", "ecdsa"):
        certificate(path, kind)
    names = list(OLDEST)
    for number, (name, kind, oldest, newest, suites) in enumerate(HOSTS[:2] if arguments.short else HOSTS):
        address = f"127.0.70.{number + 1}"
        Sink(address, PORT, context(path, kind, oldest, newest, suites))
        (ours, scan), seconds = timed(zegel, path, name, address)
        configured = {"TLSv" + version for version in names[names.index(oldest):names.index(newest) + 1]}
        report.check(f"{name}: the scan is complete", scan["complete"], str(scan))
        report.check(f"{name}: exactly the versions it was configured with", set(ours) == configured, str(sorted(ours)))
        report.figure(f"{name}: zegel", f"{seconds:.2f} s, {scan['handshakes']} handshakes, "
                      f"{sum(map(len, ours.values()))} suites")
        for other, scanner in others:
            theirs, took = timed(scanner, path, name, address)
            report.figure(f"{name}: {other}", f"{took:.2f} s, ratio {took / seconds:.1f}")
            apart = [version for version in VERSIONS if (version in ours) != (version in theirs)]
            for version in VERSIONS:
                for suite in sorted(ours.get(version, set()) ^ theirs.get(version, set())):
                    mine = suite in ours.get(version, set())
                    print(f"      {name:10} {version:8} {suite:50} only {'zegel' if mine else other}", flush=True)
                    apart.append(f"{version} {suite}")
            report.check(f"{name}: agrees with {other}", not apart, str(apart))
    print(f"scan_agreement: {report.count} checks hold", flush=True)
