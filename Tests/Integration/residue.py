#!/usr/bin/env python3
"""No residue, and an edge that cannot read back (design, laws 3 and 4).

Canaries in body, subject and local parts are looked for in every file of the cluster's directory (data files, WAL, logs), in
pg_dump, in files that its processes hold open or deleted, and where a core would be: while the messages wait for a recipient
that is down, and after delivery; raw, in UTF-16, in base64 at its three alignments and in hexadecimal. The database role of
the edge is given to a client that tries to read content, keys and addresses back.
"""
import argparse, base64, os, re, resource, secrets, signal, socket, subprocess, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from lab import *

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
PORT, DNS_PORT = 2717, 5417


def variants(canary):
    """All ways in which a text may lie somewhere."""
    raw = canary.encode()
    found = {"raw": raw, "utf-16-le": canary.encode("utf-16-le"), "utf-16-be": canary.encode("utf-16-be"),
             "hex": raw.hex().encode(), "HEX": raw.hex().upper().encode()}
    for shift in range(3):
        # The first and last characters depend on the neighbours: those in between do not.
        text = base64.b64encode(b"\0" * shift + raw + b"\0" * 3)
        found[f"base64+{shift}"] = text[4:4 + (len(raw) - 3) // 3 * 4]
    return found


class Canaries:
    STEM = "qzkanarieqzq"  # in all of them: one quick look tells whether there is any

    def __init__(self, rng):
        # Lower-case letters only, so that no folding on the way hides one.
        self.texts = {place: self.STEM + place.replace("-", "") + "".join(
            rng.choice("abcdefghijkmnopqrstuvwxyz") for _ in range(16))
            for place in ("body", "deep-body", "subject", "from-local", "to-local", "cc-local", "refused-local", "display")}
        self.needles = {n: (place, how) for place, text in self.texts.items() for how, n in variants(text).items()}
        stems = variants(self.STEM)
        self.folded = [stems[how] for how in ("raw", "utf-16-le", "utf-16-be", "hex")]
        self.exact = [n for how, n in stems.items() if how.startswith("base64")]
        self.pattern = re.compile(b"|".join(re.escape(n) for n in self.needles), re.IGNORECASE)

    def __getitem__(self, place):
        return self.texts[place]

    def hits(self, data):
        lower = data.lower()
        if not any(stem in lower for stem in self.folded) and not any(stem in data for stem in self.exact):
            return set()
        found = set()
        for match in self.pattern.finditer(data):
            found.add(self.needles.get(match.group(0)) or self.needles.get(match.group(0).lower()) or ("?", "?"))
        return found or {("a part", "?")}

    def in_file(self, path):
        found, tail = set(), b""
        try:
            with open(path, "rb") as file:
                while chunk := file.read(8 << 20):
                    found |= self.hits(tail + chunk)
                    tail = chunk[-512:]
        except FileNotFoundError:
            pass  # removed meanwhile: WAL is recycled
        return found

    def in_tree(self, top):
        found, files, size = {}, 0, 0
        for folder_, _, names in os.walk(top):
            for name in names:
                path = os.path.join(folder_, name)
                if os.path.islink(path) or not os.path.isfile(path):
                    continue
                files, size = files + 1, size + os.path.getsize(path) if os.path.exists(path) else size
                if hits := self.in_file(path):
                    found[path] = hits
        return found, files, size


def open_files(pid):
    """Regular files that a process has open to write, and deleted ones."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
            flags = int(re.search(r"flags:\s+(\d+)", open(f"/proc/{pid}/fdinfo/{fd}").read()).group(1), 8)
        except OSError:
            continue
        if target.startswith("/") and not target.startswith("/dev/") and flags & (os.O_WRONLY | os.O_RDWR):
            found.append(target)
    return found


def program(name):
    directory = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, timeout=10).stdout.strip()
    path = os.path.join(directory, name)
    return path if os.path.exists(path) else name


MARK = "<<zegel-mark>> "


def psql(dsn, statements):
    """Runs statements in one session, each in a transaction that is rolled back: for each, whether it failed, and its output."""
    script = "".join(f"\\echo {MARK}{n}\n\\warn {MARK}{n}\nBEGIN;\n{text};\nROLLBACK;\nRESET ROLE;\n"
                     for n, text in enumerate(statements))
    p = subprocess.run(["psql", "-X", "-A", "-t", "-q", "-v", "VERBOSITY=verbose", "-d", dsn], input=script, text=True,
                       capture_output=True, timeout=120)
    said, failed = ([part.partition("\n")[2] for part in text.split(MARK)[1:]] for text in (p.stdout, p.stderr))
    assert len(said) == len(failed) == len(statements), p.stderr[-2000:]
    return [("ERROR: " in error, answer + error) for answer, error in zip(said, failed)]


def in_memory(pid, canaries):
    """Canaries in the memory of a process that may be written to."""
    found = {}
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            name = line.split()[5] if len(line.split()) > 5 else ""
            if not rights.startswith("rw") or name in ("[vvar]", "[vsyscall]"):
                continue
            start, end = (int(x, 16) for x in span.split("-"))
            try:
                memory.seek(start)
                while start < end:
                    chunk = memory.read(min(16 << 20, end - start))
                    if not chunk:
                        break
                    for hit in canaries.hits(chunk):
                        found[hit] = found.get(hit, 0) + 1
                    start += len(chunk)
            except OSError:
                continue
    return found


def nothing_in_memory(report, rule, pid, canaries):
    """Law 3 and 4: a process forgets what it handled. What is on its way to the allocator gets a moment, and what is tried again just then
    is over soon: what was left would be seen at every look."""
    looks = []
    until(lambda: looks.append(in_memory(pid, canaries)) or not looks[-1], 15)
    report.check(rule, not looks[-1], looks[-1])


# A core would be written if anything allowed it.
with contextlib.suppress(ValueError, OSError):
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

with folder() as path:
    report = Report("no residue, nothing to read back")
    rng = seed_from(arguments)
    canaries = Canaries(rng)
    report.check("the search finds each variant where one was planted", all(
        canaries.hits(b"\x01" * 1000 + needle + b"\x01" * 1000) == {what}
        for needle, what in canaries.needles.items()))
    planted = os.path.join(path, "planted")
    with open(planted, "wb") as file:
        file.write(b"x" * ((8 << 20) - 7) + canaries["body"].upper().encode())
    report.check("and over the edge of two reads, in other case", canaries.in_file(planted) == {("body", "raw")})
    os.remove(planted)

    authority = Authority(f"{path}/ca")
    dns = Dns({}, DNS_PORT)
    dns.add("bar.test", "127.0.0.117")
    dns.add("plain.test", "127.0.0.118")
    dns.add("demo.test", "127.0.0.119")
    plain = Sink("127.0.0.118", PORT)  # no TLS: what is sent there is refused, with a notification
    settings = [f"dns.forwarders=127.0.0.1@{DNS_PORT}", f"delivery.port={PORT}",
                f"delivery.trust_roots={authority.pem}", "delivery.retry=2s", "log.level=trace"]
    with Cluster(path, settings, patience=180) as z:
        report.on_failure = z.last_logs
        sender = f"{canaries['from-local']}@demo.test"
        to = [f"{canaries['to-local']}@bar.test", f"{canaries['cc-local']}@bar.test"]

        def make(size):
            filler = "".join(rng.choice("abcdef0123456789 ") for _ in range(64))
            lines = [canaries["body"], "<p>" + canaries["body"] + "</p>"]
            while sum(map(len, lines)) < size:
                lines.append(filler)
            lines.append(canaries["deep-body"])
            head = [f'From: "{canaries["display"]}" <{sender}>', f"To: {', '.join(to)}", f"Subject: {canaries['subject']}",
                    f"Message-ID: <{secrets.token_hex(8)}@demo.test>", "Date: Tue, 24 Nov 2026 10:00:00 +0000", ""]
            return ("\r\n".join(head + lines) + "\r\n").encode()

        def scan(when, also=()):
            # What is only in the server's memory now is on the disk then.
            z.sql("CHECKPOINT")
            z.sql("SELECT pg_switch_wal()")
            found, files, size = canaries.in_tree(z.dir)
            report.figure(f"{when}: searched", f"{files} files, {size / 1e6:.0f} MB, {len(canaries.needles)} needles")
            report.check(f"{when}: no canary in any file of the directory", not found, found)
            dump = subprocess.run([program("pg_dump"), "-d", z.e["regions"][0]["postgres"][0]], capture_output=True,
                                  timeout=120)
            report.check(f"{when}: pg_dump works, and has rows", dump.returncode == 0 and b"COPY ledger." in dump.stdout,
                         dump.stderr)
            report.check(f"{when}: no canary in pg_dump", not canaries.hits(dump.stdout), canaries.hits(dump.stdout))
            for kind in ("edge", "worker", "api", "keyring"):
                for pid in z.pids(kind):
                    others = [f for f in open_files(pid) if not f.startswith(z.dir)]
                    report.check(f"{when}: {kind} writes to no file outside the directory", not others, others)

        # --- while they wait -----------------------------------------------------------------------------------
        small = [send_all(z, [(sender, to, make(3_000))], 1)[0][0] for _ in range(3)]
        large = send_all(z, [(sender, to, make(1_500_000))], 1)[0][0]
        # This client sends nothing after its 250: the replay tag stays.
        silent = z.smtp()
        silent.mail(sender)
        silent.rcpt(to[0])
        unacknowledged = silent.data(make(3_000))[1].split()[1].decode()
        kept = small + [large, unacknowledged]
        report.check("taken in while the recipient is down", all(kept))
        deferred = until(lambda: {e["message_id"] for e in z.events() if e["kind"] == "deferred"} >= set(kept), 60)
        report.check("deferred", bool(deferred))
        scan("queued")

        # --- the edge's role -----------------------------------------------------------------------------------
        configuration = open(next(os.path.join(f"{z.dir}/config", name) for name in sorted(os.listdir(f"{z.dir}/config"))
                                  if name.startswith("edge") or "-edge" in name)).read()
        dsn = re.search(r'^control\.dsn: "(.*)"$', configuration, re.M).group(1).replace('\\"', '"').replace("\\\\", "\\")
        report.check("the edge's credentials work, and are the role's", psql(dsn, ["SELECT current_user"])
                     == [(False, "zegel_edge\n")])
        report.check("its configuration names no key service", "keyring.socket" not in configuration)
        secret = {}
        for what in ("sealed FROM ledger.content", "sealed_address FROM ledger.recipient", "sealed_envelope FROM ledger.message",
                     "wrapped_message_key FROM ledger.message", "wrapped_metadata_key FROM ledger.message",
                     "wrapped FROM ledger.batch_key", "keyed_digest FROM ledger.message", "tag FROM ledger.replay"):
            column, table = what.split(" FROM ")
            rows = z.sql(f"SELECT encode({column}, 'hex') FROM {table} WHERE {column} IS NOT NULL LIMIT 50").split()
            report.check(f"there is something to read in {table}.{column}", bool(rows))
            # From the middle: the first bytes are the format's.
            secret[what] = {row[len(row) // 2:len(row) // 2 + 32] for row in rows}
        id = kept[0]
        relations = z.sql("SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = "
                          "c.relnamespace WHERE n.nspname IN ('ledger', 'control') AND c.relkind IN ('r', 'p', 'v', 'm', 'S')").split()
        allowed = {"ledger.schema_migration", "control.version", "control.tenant", "control.sender_domain", "control.key_set"}
        attempts = [f"TABLE {relation}" for relation in relations]
        attempts += [f"COPY {relation} TO STDOUT" for relation in relations]
        for relation in ("ledger.message", "ledger.content", "ledger.recipient", "ledger.event", "ledger.batch_key",
                         "ledger.delivery", "ledger.replay", "ledger.metadata_batch_key", "ledger.address_index"):
            columns = z.sql(f"SELECT attname FROM pg_attribute WHERE attrelid = '{relation}'::regclass AND attnum > 0 "
                            "AND NOT attisdropped").split()
            attempts += [f"SELECT {column} FROM {relation}" for column in columns]
            attempts += [f"SELECT count(*) FROM {relation}", f"SELECT ctid, tableoid FROM {relation}",
                         f"SELECT {relation.split('.')[1]} FROM {relation}",
                         f"SELECT query_to_xml('SELECT * FROM {relation}', true, true, '')",
                         f"DELETE FROM {relation} RETURNING *", f"SELECT * FROM {relation} FOR UPDATE",
                         f"LOCK TABLE {relation} IN ACCESS SHARE MODE",
                         f"EXPLAIN (ANALYZE) SELECT * FROM {relation}", f"TRUNCATE {relation}",
                         f"ALTER TABLE {relation} DISABLE TRIGGER ALL", f"DROP TABLE {relation}",
                         f"CREATE TEMP TABLE t AS TABLE {relation}", f"GRANT SELECT ON {relation} TO zegel_edge"]
        attempts += [
            f"INSERT INTO ledger.content (message_id, frame_no, sealed) VALUES ('{id}', 900, '') RETURNING *",
            f"INSERT INTO ledger.content (message_id, frame_no, sealed) VALUES ('{id}', 0, '') ON CONFLICT (message_id, frame_no, part) "
            "DO UPDATE SET sealed = excluded.sealed RETURNING content.sealed",
            f"INSERT INTO ledger.content (message_id, frame_no, sealed) SELECT '{id}', 901, sealed FROM ledger.content",
            f"UPDATE ledger.content SET sealed = sealed WHERE message_id = '{id}' RETURNING sealed",
            f"UPDATE ledger.message SET tenant = 'x' WHERE id = '{id}' RETURNING *",
            "SELECT pg_read_file('PG_VERSION')", "SELECT pg_read_binary_file('global/pg_control')", "SELECT pg_ls_dir('.')",
            "SELECT pg_ls_waldir()", "COPY (SELECT 1) TO PROGRAM 'cat'", "COPY pg_authid TO STDOUT", "TABLE pg_authid",
            "SELECT lo_import('/etc/passwd')", "CREATE EXTENSION pageinspect", "CREATE EXTENSION dblink", "CREATE SCHEMA x",
            "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
            "CREATE TABLE public.t (i int)", "ALTER ROLE zegel_edge SUPERUSER", "CREATE ROLE x", "CHECKPOINT",
            "SELECT pg_create_logical_replication_slot('s', 'test_decoding')", "SELECT pg_export_snapshot(), * FROM ledger.content",
            "CREATE TEMP TABLE t (i int)", "SELECT server_key FROM control.credential", "SET session_replication_role = 'replica'",
            "SET log_statement = 'all'", "ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()"]
        attempts += [f"SET ROLE {role}; TABLE ledger.content" for role in
                     ("postgres", "zegel_worker", "zegel_api", "zegel_admin", "pg_read_all_data", "pg_read_server_files")]
        attempts += [f"INSERT INTO ledger.event (id, tenant, message_id, rcpt_no, kind, at) VALUES ('{id}', 'demo', '{id}', 0, '{kind}', now())"
                     for kind in ("delivered", "bounced", "withdrawn", "released", "shredded")]
        answers = psql(dsn, attempts)
        outputs = [answer for _, answer in answers]
        refused = sum(failed for failed, _ in answers)
        open_relations = {text.split()[1] if text.startswith(("TABLE", "COPY")) else text
                          for text, (failed, _) in zip(attempts, answers) if not failed}
        report.figure("tried with the edge's credentials", f"{len(attempts)} statements, {refused} refused")
        report.check("only what an edge needs can be read", open_relations <= allowed, open_relations - allowed)
        for database in ("postgres", "template1"):
            p = subprocess.run(["psql", "-X", "-d", f"{dsn} dbname={database}", "-c", "SELECT 1"], text=True, capture_output=True,
                               timeout=20)
            report.check(f"it does not come into {database}", "permission denied for database" in p.stderr, p.stdout + p.stderr)
        # What it may call: nothing of it hands out what was taken in.
        functions = z.sql("SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname "
                          "IN ('ledger', 'control') AND has_function_privilege('zegel_edge', p.oid, 'EXECUTE') AND p.prokind = 'f' "
                          "AND p.prorettype <> 'trigger'::regtype").split("\n")
        calls = [f"TABLE {view}" for view in ("pg_stats", "pg_stat_activity", "pg_prepared_statements", "pg_largeobject")]
        for function in functions:
            name = function.split("(")[0]
            calls += [f"SELECT * FROM {name}(ARRAY['{id}']::uuid[])", f"SELECT {name}()", f"SELECT {name}('{id}')",
                      f"SELECT {name}('\\x00'::bytea)", f"SELECT * FROM {name}('demo', current_date, '\\x00')"]
        outputs += [answer for _, answer in psql(dsn, calls)]
        outputs = "\n".join(outputs).replace("\\x", "")
        leaked = [what for what, rows in secret.items() if any(row in outputs for row in rows)]
        report.check(f"no sealed content, key, address or digest in anything it was answered ({len(functions)} functions called)",
                     not leaked, leaked)
        report.check("nor a canary", not canaries.hits(outputs.encode()))

        # --- memory of the nodes -------------------------------------------------------------------------------
        for kind in ("edge", "worker", "api"):
            for pid in z.pids(kind):
                nothing_in_memory(report, f"nothing is left in the memory of {kind}: queued", pid, canaries)

        # --- after delivery ------------------------------------------------------------------------------------
        refused_to = [f"{canaries['refused-local']}@plain.test"]
        sink = Sink("127.0.0.117", PORT, authority.leaf("mx.bar.test"))
        back = Sink("127.0.0.119", PORT, authority.leaf("mx.demo.test"))
        report.check("delivered once the recipient is up", bool(until(lambda: len(sink.got) >= 5, 60)))
        report.check("with every canary that was in it", all(
            canaries[place].encode() in sink.got[0][2] for place in ("body", "deep-body", "subject", "to-local", "display")))
        bounced = send_all(z, [(sender, refused_to, make(3_000))], 1)[0][0]
        report.check("a refused one gives its sender a notification", bool(until(
            lambda: any(canaries["refused-local"].encode() in c for _, _, c in back.got), 60)))
        gone = until(lambda: {e["message_id"] for e in z.events() if e["kind"] == "shredded"} >= set(kept + [bounced]), 60)
        report.check("shredded", bool(gone))
        ids = ",".join(f"'{i}'" for i in kept + [bounced])
        report.check("content is gone from the live tables",
                     z.sql(f"SELECT count(*) FROM ledger.content WHERE message_id IN ({ids})") == "0")
        report.check("wrapped keys are gone from the live tables", z.sql(
            f"SELECT count(*) FROM ledger.message WHERE id IN ({ids}) AND wrapped_message_key IS NOT NULL") == "0")
        report.check("the notification's content and key too", bool(until(lambda: z.sql(
            "SELECT count(*) FROM ledger.message m WHERE reports_on IS NOT NULL AND (wrapped_message_key IS NOT NULL OR EXISTS "
            "(SELECT 1 FROM ledger.content c WHERE c.message_id = m.id))") == "0", 30)))
        scan("delivered")
        for kind in ("edge", "worker", "api"):
            for pid in z.pids(kind):
                nothing_in_memory(report, f"nothing is left in the memory of {kind}: delivered", pid, canaries)

        # --- a crash with plaintext in memory --------------------------------------------------------------------
        stall = threading.Event()

        async def hold(sink, size):
            if size > 200_000 and not stall.is_set():
                while not stall.is_set():
                    await asyncio.sleep(0.05)

        sink.on_content = hold
        in_flight = send_all(z, [(sender, to, make(900_000))], 1)[0][0]
        report.check("a message is on its way, held up half-way", bool(in_flight) and bool(until(
            lambda: any(c == "DATA" for c in sink.commands[-3:]), 20)))
        session = z.smtp()
        session.mail(sender)
        session.rcpt(to[0])
        session.docmd("DATA")
        session.send(make(500_000)[:300_000])
        time.sleep(0.5)
        for kind in ("edge", "worker", "api", "keyring"):
            for pid in z.pids(kind):
                limits = open(f"/proc/{pid}/limits").read()
                report.check(f"{kind} may write no core", re.search(r"Max core file size\s+0\s+0", limits) is not None)
                where = os.readlink(f"/proc/{pid}/cwd")
                before = set(os.listdir(where))
                os.kill(pid, signal.SIGABRT)
                ended = until(lambda: not os.path.exists(f"/proc/{pid}") or pid not in z.pids(kind), 20)
                report.check(f"{kind} ends by SIGABRT", bool(ended))
                new = {name for name in set(os.listdir(where)) - before if name.startswith("core")}
                report.check(f"{kind} leaves no core", not new, new)
        pattern = open("/proc/sys/kernel/core_pattern").read().strip()
        report.figure("core pattern of this machine", pattern)
        session.close()
        silent.close()
        stall.set()
        sink.on_content = None
        report.check("after the crash it arrives all the same", bool(until(lambda: len(sink.got) >= 6, 90)))
        scan("crashed")
        cores = [os.path.join(f, n) for f, _, names in os.walk(z.dir) for n in names if n.startswith("core")
                 and not n.endswith(".json")]
        report.check("no core anywhere in the directory", not cores, cores)
print(f"{report.count} passed, 0 failed")
