"""A private Postfix as an object: its own configuration, queue, log and mail, all in one folder.

    with Postfix(users=["bob"]) as postfix, Gatepost(backend=f"127.0.0.1:{postfix.port}") as …:
        ... send to bob@example.com ...
        message, = postfix.wait_mail("bob")

It listens on two ports: `port` for plain SMTP, `proxy_port` where smtpd_upstream_proxy_protocol
wants a PROXY header first; and on `ports[name]` for each further one that a test asks for. The
programs are the installed ones; nothing else of the system's Postfix is read or written. master(8)
needs root: others need sudo, without a password.
"""

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from daemon import Daemon, as_root, run_as_root
from patience import START
from ports import keep_port

MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {directory}/log/maillog
maillog_file_prefixes = {directory}/log
myhostname = mta.example.com
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
alias_maps =
alias_database =
# Nothing leaves this machine, and nobody is asked for a name.
default_transport = error:no mail leaves this machine
disable_dns_lookups = yes
smtpd_peername_lookup = no
smtp_address_preference = ipv4
virtual_mailbox_domains = example.com
virtual_mailbox_base = {directory}/mail
virtual_mailbox_maps = texthash:{directory}/etc/users
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_mailbox_limit = 0
mailbox_size_limit = 0
message_size_limit = 104857600
# What is delivered shall be what came in.
local_header_rewrite_clients =
append_dot_mydomain = no
smtpd_client_connection_rate_limit = 0
smtpd_client_connection_count_limit = 0
{further}
"""

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
127.0.0.1:{proxy_port} inet n - n - - smtpd
  -o syslog_name=postfix/proxied
  -o smtpd_upstream_proxy_protocol=haproxy
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
tlsmgr unix - - n 1000? 1 tlsmgr
{services}
"""

# Postfix puts these in front of what it delivers.
ADDED = re.compile(rb"(?:(?:Return-Path|X-Original-To|Delivered-To): [^\n]*\n)+"
                   rb"Received: from [^\n]*\n\tby [^\n]*\n\tfor <[^\n]*\n")


class Postfix(Daemon):
    """users: local parts of example.com that have a mailbox. further: lines for main.cf. services:
    lines for master.cf. listeners: name -> settings of a further port, "name=value" without
    blanks; it logs as postfix/<name>."""

    name = "Postfix"

    def __init__(self, users=("bob",), further=(), services=(), listeners=None):
        self.port = keep_port()
        self.proxy_port = keep_port()
        self.ports = {name: keep_port() for name in listeners or {}}
        self._listeners = dict(listeners or {})
        self.directory = Path(tempfile.mkdtemp(prefix="postfix-"))
        self._users = list(users)
        self._further = list(further)
        self._services = list(services)
        self._taken = set()

    # ---- Life

    def __enter__(self):
        try:
            self._write()
            return self._start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *exception):
        if self.is_running():
            subprocess.run([*as_root(), "postfix", "-c", str(self.config), "stop"],
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, timeout=START, check=False)
            self.process.wait(30)
        if as_root():
            run_as_root("rm", "-rf", "--", str(self.directory))
        else:
            shutil.rmtree(self.directory)

    def _write(self):
        owner = pwd.getpwuid(os.geteuid()) if os.geteuid() else pwd.getpwnam("nobody")
        self.directory.chmod(0o755)
        for name in ("etc", "queue", "data", "log", "mail"):
            (self.directory / name).mkdir()
        (self.config / "main.cf").write_text(MAIN.format(
            directory=self.directory, uid=owner.pw_uid, gid=owner.pw_gid,
            further="\n".join(self._further)))
        (self.config / "master.cf").write_text(MASTER.format(
            port=self.port, proxy_port=self.proxy_port,
            services="\n".join([*map(self._listener, self._listeners), *self._services])))
        (self.config / "users").write_text(
            "".join(f"{user}@example.com {user}/\n" for user in self._users))
        run_as_root("chown", "-R", "root:root", str(self.config), str(self.directory / "queue"))
        run_as_root("chown", "postfix", str(self.directory / "data"))
        run_as_root("chown", f"{owner.pw_uid}:{owner.pw_gid}", str(self.directory / "mail"))

    def _listener(self, name):
        settings = [f"syslog_name=postfix/{name}", *self._listeners[name]]
        return "".join([f"127.0.0.1:{self.ports[name]} inet n - n - - smtpd",
                        *(f"\n  -o {setting}" for setting in settings)])

    def _start(self):
        self.spawn(["postfix", "-c", self.config, "start-fg"], lambda: "daemon started" in self.log(),
                   needs_root=True, start_new_session=True)
        return self

    # ---- What happened

    @property
    def config(self):
        return self.directory / "etc"

    def log(self):
        path = self.directory / "log" / "maillog"
        return path.read_text(errors="replace") if path.exists() else ""

    def trouble(self):
        """What Postfix had to complain about; not of the machine's clock, of which the file system has a
        coarser one: a correction of the time between the two makes it a second."""
        return [line for line in self.log_lines(r"\b(warning|error|fatal|panic):")
                if "file system clock is" not in line and "resetting file time stamps" not in line]

    def wait_mail(self, user, count=1, timeout=START):
        """The next `count` messages of the mailbox, with lines that end in LF, in the order in
        which they came, each once."""
        new = self.directory / "mail" / user / "new"

        def look():
            names = sorted(set(os.listdir(new)) - self._taken, key=self._age) if new.exists() \
                else []
            return names[:count] if len(names) >= count else None
        names = self._wait(look, f"no {count} messages for {user}:\n{self.log()}", timeout)
        self._taken.update(names)
        return [(new / name).read_bytes() for name in names]

    @staticmethod
    def _age(name):
        seconds, _, rest = name.partition(".")
        micros = re.search(r"M(\d+)", rest)
        return int(seconds), int(micros.group(1)) if micros else 0

    @staticmethod
    def without_added(message):
        """The message as it was given to Postfix, without the header fields that it added."""
        added = ADDED.match(message)
        assert added, message[:500]
        return message[added.end():]
