"""A Postfix of its own: configuration, queue and log in one folder, started and stopped by its own master."""
import os, pwd, grp, shutil, subprocess, sys, time

MASTER = """\
{listen}      inet  n       -       n       -       -       smtpd
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
virtual   unix  -       n       n       -       -       virtual
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
"""


class Postfix:
    """Runs until `stop`. `settings` are lines of main.cf, over the defaults here."""

    def __init__(self, path, address, port, settings):
        self.path = path
        self.config, queue, data = (os.path.join(path, n) for n in ("config", "queue", "data"))
        for folder in (path, self.config, queue, data):
            os.makedirs(folder, exist_ok=True)
        user = pwd.getpwnam("postfix")
        os.chown(data, user.pw_uid, user.pw_gid)
        main = {
            "compatibility_level": "3.6", "queue_directory": queue, "data_directory": data,
            "maillog_file": os.path.join(path, "log"), "maillog_file_prefixes": path, "myhostname": "postfix.lab.test",
            "mydestination": "", "mynetworks": "127.0.0.0/8", "inet_interfaces": "loopback-only", "inet_protocols": "ipv4",
            "alias_maps": "", "local_recipient_maps": "", "biff": "no", "notify_classes": "", "local_header_rewrite_clients": "", "smtputf8_enable": "yes",
            "message_size_limit": "200000000", "mailbox_size_limit": "0", "virtual_mailbox_limit": "0",
            "default_process_limit": "200", "in_flow_delay": "0", "smtpd_client_connection_count_limit": "0",
            "smtpd_peername_lookup": "no", "disable_dns_lookups": "yes", "smtpd_relay_restrictions": "permit_mynetworks, reject",
        }
        main.update(settings)
        with open(os.path.join(self.config, "main.cf"), "w") as f:
            f.writelines(f"{k} = {v}\n" for k, v in main.items())
        with open(os.path.join(self.config, "master.cf"), "w") as f:
            f.write(MASTER.format(listen=f"{address}:{port}"))
        p = subprocess.run(["postfix", "-c", self.config, "start"], capture_output=True, text=True, timeout=60)
        if p.returncode:
            sys.exit(f"postfix did not start: {p.stderr or p.stdout}")

    def pids(self):
        """The master and its children."""
        with open(os.path.join(self.path, "queue", "pid", "master.pid")) as f:
            master = int(f.read().strip())
        children = subprocess.run(["pgrep", "-P", str(master)], capture_output=True, text=True, timeout=10).stdout.split()
        return [master] + [int(c) for c in children]

    def stop(self):
        subprocess.run(["postfix", "-c", self.config, "stop"], capture_output=True, timeout=60)
