#!/usr/bin/env python3
"""Whom we hold for proven, beside whom Postfix's posttls-finger and NLnet Labs' ldns-dane hold for proven, and what testssl finds wrong
with a certificate, on the recipients of the lab.

The world of Tests/RecipientLab runs in a network namespace of its own, mail hosts on port 25, and the resolver of everybody is an
unbound that validates. `zegel judge`, posttls-finger, ldns-dane and testssl look at the same hosts at the same time. Every disagreement must
be in the table of docs/agreement.md with the reason why ours is right, and every line of that table must still be one.

Recipients with an MTA-STS policy, an NTA 7516 record or a static route are left out, of which the others know nothing, and those
with something that never answers, for the time it takes.
"""
import argparse, concurrent.futures, os, re, sys
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from lab import *

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--cases", help="only cases whose names begin so, with commas between; lines of other cases are not missed")
parser.add_argument("--print", action="store_true", help="print each answer")
parser.add_argument("--within", action="store_true", help=argparse.SUPPRESS)
arguments = parser.parse_args()
TABLE = os.path.join(ROOT, "docs", "agreement.md")
ASKED = ["posttls-finger dane", "posttls-finger verify", "ldns-dane", "testssl"]
# What is wrong with a certificate, in the words of our findings.
FAULTS = {"no-certificate", "self-signed", "untrusted-root", "missing-intermediate", "bad-signature", "expired", "not-yet-valid",
          "weak-certificate", "wrong-purpose", "chain-invalid", "name-mismatch"}

if not arguments.within:
    # A namespace with nothing but loopback, in which ports 25 and 53 are free and /etc/resolv.conf is ours.
    ours = [] if os.geteuid() == 0 else ["--map-root-user"]
    os.execvp("unshare", ["unshare", *ours, "--net", "--mount", sys.executable, os.path.realpath(__file__), *sys.argv[1:], "--within"])


def run(*command, timeout=60):
    made = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    return made.returncode, made.stdout + made.stderr


def table():
    """{(case, asked): (theirs, ours)} of docs/agreement.md."""
    lines = {}
    for line in open(TABLE, encoding="utf-8"):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("| `") or len(cells) != 5:
            continue
        names, asked, theirs, mine, why = cells
        if not re.search(r"(RFC \d+|NTA 7516|NCSC 2025-05)", why):
            sys.exit(f"{TABLE}: no standard is named for {names}")
        for name in re.findall(r"`([^`]+)`", names):
            if (name, asked) in lines:
                sys.exit(f"{TABLE}: {name} is there twice for {asked}")
            lines[name, asked] = (theirs, mine)
    return lines


@contextlib.contextmanager
def world(path):
    environment = dict(os.environ, TMPDIR=path, ZEGEL_CASES=arguments.cases or "")
    lab = subprocess.Popen([binary("recipient-lab"), f"{path}/world", "25"], stdin=subprocess.PIPE, env=environment)
    file = f"{path}/world/world.json"
    try:
        if not until(lambda: os.path.exists(file) or lab.poll() is not None, 120) or lab.poll() is not None:
            sys.exit("the world of the lab does not start")
        with open(file) as f:
            yield json.load(f)
    finally:
        lab.stdin.close()
        try:
            lab.wait(30)
        except subprocess.TimeoutExpired:
            lab.kill()


@contextlib.contextmanager
def resolver(path, made):
    with open(f"{path}/unbound.conf", "w") as f:
        f.write(f"""
server:
    interface: 127.0.0.53
    username: ""
    chroot: ""
    directory: "{path}"
    pidfile: "{path}/unbound.pid"
    use-syslog: no
    logfile: "{path}/unbound.log"
    do-not-query-localhost: no
    do-ip6: no
    trust-anchor-file: "{made['trustAnchor']}"
    local-zone: "test." nodefault
forward-zone:
    name: "."
    forward-addr: 127.0.0.1@{made['dnsPort']}
remote-control:
    control-enable: no
""")
    with open(f"{path}/resolv.conf", "w") as f:
        f.write("nameserver 127.0.0.53\noptions trust-ad edns0\n")
    subprocess.run(["mount", "--bind", f"{path}/resolv.conf", os.path.realpath("/etc/resolv.conf")], check=True)
    unbound = subprocess.Popen(["unbound", "-d", "-c", f"{path}/unbound.conf"])
    try:
        if not until(lambda: "test." in run("drill", "-D", "SOA", "test.", "@127.0.0.53")[1], 20):
            sys.exit("unbound does not answer")
        yield
    finally:
        unbound.terminate()
        unbound.wait(20)
        subprocess.run(["umount", os.path.realpath("/etc/resolv.conf")])


def judged(path, made, cases):
    """The report of `zegel judge` on each case, by name."""
    with open(f"{path}/domains", "w") as f:
        f.writelines(case["domain"] + "\n" for case in cases)
    settings = [f"dns.forwarders=127.0.0.1@{made['dnsPort']}", f"dns.trust_anchor={made['trustAnchor']}", "delivery.port=25",
                f"delivery.trust_roots={made['trustRoots']}", "delivery.hostname=out.own.test",
                "policy.allowed_networks=127.0.0.0/8"]
    status, text = run(binary(), "judge", "--batch", f"{path}/domains", "--json", *(x for s in settings for x in ("--set", s)),
                       timeout=300)
    reports = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    if status or len(reports) != len(cases):
        sys.exit(f"zegel judge: status {status}, {len(reports)} reports of {len(cases)}: {text[-2000:]}")
    names = {case["domain"]: case["name"] for case in cases}
    return {names[report["domain"]]: report for report in reports}


def finger(made, case, level):
    """Whether posttls-finger holds the host that it came to for proven, and that host's address; None: it came to none."""
    # The name of the MX host is the one to look for, as with us; nothing else of the answer is taken.
    _, text = run("posttls-finger", "-c", "-o", "dnssec_probe=", "-l", level, "-F", made["trustRoots"], "-L", "summary",
                       "-t", "20", "-T", "20", case["domain"], "hostname", timeout=120)
    for line in text.splitlines():
        if found := re.search(r"(\w+) TLS connection established to \S+\[([0-9a-f.:]+)\]:25", line):
            return found[1] == "Verified", found[2]
    return False, None


def testssl(path, made, case, host):
    """What testssl finds wrong with the certificate of a host, in the words of our findings."""
    output = f"{path}/{case['name']}.json"
    run("testssl", "-t", "smtp", "-S", "--ip", host["address"], "--nodns", "none", "--add-ca", made["trustRoots"], "--warnings", "off",
        "--quiet", "--color", "0", "--jsonfile", output, f"{host['name']}:25", timeout=240)
    with open(output) as f:
        rows = {row["id"].split(" ")[0]: row for row in json.load(f)}
    said = lambda name: rows.get(name, {}).get("finding", "")
    is_bad = lambda name: rows.get(name, {}).get("severity") in ("LOW", "MEDIUM", "HIGH", "CRITICAL")
    chain, faults = said("cert_chain_of_trust"), set()
    if "passed" not in chain:
        faults |= {fault for words, fault in (
            ("self signed CA", "untrusted-root"), ("self signed)", "self-signed"), ("chain incomplete", "missing-intermediate"),
            ("expired", "expired"), ("not yet valid", "not-yet-valid"), ("purpose", "wrong-purpose")) if words in chain} or {"chain-invalid"}
    if said("cert_expirationStatus") == "expired":
        faults.add("expired")
    if "does not match" in said("cert_trust"):
        faults.add("name-mismatch")
    if "incorrectly used" in said("cert_extKeyUsage"):
        faults.add("wrong-purpose")
    if is_bad("cert_keySize") or is_bad("cert_signatureAlgorithm"):
        faults.add("weak-certificate")
    if arguments.print:
        print(f"      {case['name']:32} testssl: {chain}; {said('cert_expirationStatus')}; {said('cert_notBefore')}; {said('cert_trust')}; "
              f"{said('cert_keySize')}; {said('cert_signatureAlgorithm')}", flush=True)
    return faults


def compare(made, case, report):
    """(asked, theirs, ours) for what can be asked of a case."""
    answers = []
    hosts = {host["address"]: host for host in report["hosts"]}
    word = lambda is_proven: "proven" if is_proven else "not"
    # Where there are TLSA records they decide, else roots and the name of the host: what our ruleset `secure` demands.
    theirs, address = finger(made, case, "dane")
    mine = hosts[address]["verdicts"] if address in hosts else report["verdicts"]
    answers.append((ASKED[0], word(theirs), word(mine["secure"]["outcome"] == "deliver")))
    # Roots and name alone, of a host that we came to as well.
    theirs, address = finger(made, case, "verify")
    found = set(hosts[address]["findings"]) if address in hosts else set()
    if found and not {"tlsa-lookup-failed", "tlsa-bogus"} & found:
        answers.append((ASKED[1], word(theirs), word({"chain-trusted", "name-matches"} <= found)))
    # TLSA records and chain alone, each host by itself; they agree on a case when they agree on all of its hosts.
    chains = {host["address"]: host.get("chain") for host in case["hosts"]}
    pairs = []
    for host in report["hosts"]:
        base = (host.get("evidence") or {}).get("tlsaBaseDomain")
        if not base or not chains.get(host["address"]) or "tlsa-published" not in host["findings"]:
            continue
        if not {"tls-1.0", "tls-1.1", "tls-1.2", "tls-1.3"} & set(host["findings"]):
            continue
        _, said = run("ldns-dane", "-f", made["trustRoots"], "-c", chains[host["address"]], "verify", base, "25")
        mine = bool({"dane-matched-ee", "dane-matched-ta"} & set(host["findings"]))
        # It also ends well where no record is usable and roots and the name prove the host.
        pairs.append(("dane-validated successfully" in said, mine))
    if pairs:
        apart = next((pair for pair in pairs if pair[0] != pair[1]), pairs[0])
        answers.append((ASKED[2], word(apart[0]), word(apart[1])))
    # What is wrong with the certificate: only of cases that are about one, for testssl takes several seconds for a host.
    if case["name"].startswith("certificate-"):
        words = lambda faults: ", ".join(sorted(faults)) or "nothing"
        host = report["hosts"][0]
        answers.append((ASKED[3], words(testssl(made["path"], made, case, host)), words(FAULTS & set(host["findings"]))))
    return case["name"], answers


report = Report("agreement on who is proven")
known = table()
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with folder() as path, world(path) as made, resolver(path, made):
    made["path"] = path
    cases = [case for case in made["cases"] if not case["isOurs"] and not case["isSilent"]]
    begun = time.monotonic()
    reports = judged(path, made, cases)
    report.figure("zegel judge", f"{len(cases)} recipients in {time.monotonic() - begun:.1f} s")
    begun, apart, counts = time.monotonic(), {}, dict.fromkeys(ASKED, 0)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for name, answers in pool.map(lambda case: compare(made, case, reports[case["name"]]), cases):
            for asked, theirs, mine in answers:
                counts[asked] += 1
                if arguments.print:
                    print(f"      {name:32} {asked:22} theirs {theirs}, ours {mine}", flush=True)
                if theirs != mine:
                    apart[name, asked] = (theirs, mine)
    report.figure("the others", f"{time.monotonic() - begun:.1f} s")
for asked in ASKED:
    report.figure(asked, f"{counts[asked]} compared, {sum(1 for _, a in apart if a == asked)} apart")
for (name, asked), (theirs, mine) in sorted(apart.items()):
    print(f"      {name:32} {asked:22} theirs {theirs}, ours {mine}", flush=True)
compared = {case["name"] for case in cases}
missing = {key: value for key, value in known.items() if key[0] in compared or not arguments.cases}
report.check("every disagreement is in docs/agreement.md, with its reason", not set(apart) - set(known), str(sorted(set(apart) - set(known))))
report.check("every line of docs/agreement.md is still one", not set(missing) - set(apart), str(sorted(set(missing) - set(apart))))
report.check("they are what the table says", all(known[key] == value for key, value in apart.items()),
             str([(key, value) for key, value in apart.items() if known[key] != value]))
if not arguments.cases:
    report.check("enough was compared", counts[ASKED[0]] >= 120 and counts[ASKED[2]] >= 50 and counts[ASKED[3]] >= 20, str(counts))
print(f"agreement: {report.count} checks hold", flush=True)
