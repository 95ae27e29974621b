"""A private Exim as an object: configuration, spool, log and mail in one folder.

    with Exim() as exim, Gatepost(backend=f"127.0.0.1:{exim.port}") as …:
        ... send to bob@example.com ...
        message, = exim.wait_mail()

It listens on `port` for plain SMTP and on `proxy_port`, where a PROXY header has to come first. Debian
lets only one mail server be installed: this one was unpacked, $EXIM is the folder (test/run makes it).
It runs as an ordinary user, so that what is in the package needs no rights and changes nothing
elsewhere. Exim looks for a user "Debian-exim", whom only the installation of the package would have
made: by libnss-wrapper it is whoever runs the tests, and "nobody" for root. The same library answers
when Exim wants the name of a client, so that nobody else is asked.
"""

import os
import pwd
import shutil
import tempfile
from pathlib import Path

from daemon import Daemon
from ports import keep_port

# "keep_environment" is for the copies of itself that Exim runs.
CONFIGURATION = """\
keep_environment = LD_PRELOAD : LD_LIBRARY_PATH : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP \
  : NSS_WRAPPER_HOSTS
exim_path = {directory}/exim4
primary_hostname = mta.example.com
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
log_selector = +smtp_connection +incoming_port +proxy +pid
deliver_drop_privilege
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port} : {proxy_port}
hosts_proxy = ${{if ={{$received_port}}{{{proxy_port}}}{{127.0.0.1}}{{:}}}}
host_lookup =
host_lookup_order = byaddr
rfc1413_query_timeout = 0s
tls_advertise_hosts =
chunking_advertise_hosts = *
message_size_limit = 50M
smtp_accept_max = 100
acl_smtp_connect = connected
acl_smtp_rcpt = recipient
{further}
begin acl
connected:
  deny condition = ${{if eq{{$sender_host_address}}{{198.51.100.67}}}}
       message = 5.7.1 not at this door
  accept
recipient:
  deny hosts = 198.51.100.66
       message = not from $sender_host_address
  deny !domains = example.com
       message = relay not permitted
  deny local_parts = nobody
       message = Unknown user
  accept
begin routers
all:
  driver = accept
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = {directory}/mail
  create_directory
  maildir_format
  message_prefix =
  message_suffix =
  user = {user}
  delivery_date_add = false
  envelope_to_add = false
  return_path_add = false
"""


def folder():
    """Where Exim was unpacked, or None."""
    path = os.environ.get("EXIM", "")
    return Path(path) if path and (Path(path) / "usr/sbin/exim4").exists() else None


class Exim(Daemon):
    """further: lines for the main part of the configuration."""

    name = "Exim"

    def __init__(self, further=()):
        self.port = keep_port()
        self.proxy_port = keep_port()
        self.directory = Path(tempfile.mkdtemp(prefix="exim-"))
        self._further = list(further)
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
            self.process.terminate()
            self.process.wait(10)
        shutil.rmtree(self.directory)

    def _write(self):
        owner = pwd.getpwuid(os.geteuid()) if os.geteuid() else pwd.getpwnam("nobody")
        self.directory.chmod(0o755)
        for name in ("spool", "log", "mail"):
            (self.directory / name).mkdir()
            os.chown(self.directory / name, owner.pw_uid, owner.pw_gid)
        # "nobody" may not look into the folder where it was unpacked.
        shutil.copy(folder() / "usr/sbin/exim4", self.directory)
        (self.directory / "configuration").write_text(CONFIGURATION.format(
            directory=self.directory, port=self.port, proxy_port=self.proxy_port,
            user=owner.pw_name, further="\n".join(self._further)))
        ids = f"{owner.pw_uid}:{owner.pw_gid}"
        (self.directory / "passwd").write_text(
            f"root:x:0:0::/:/bin/false\n{owner.pw_name}:x:{ids}::/:/bin/false\n"
            f"Debian-exim:x:{ids}::/:/bin/false\n")
        (self.directory / "group").write_text(
            f"root:x:0:\nusers:x:{owner.pw_gid}:\nDebian-exim:x:{owner.pw_gid}:\n")
        (self.directory / "hosts").write_text("127.0.0.1 localhost\n")
        self._ids = owner.pw_uid, owner.pw_gid

    def _start(self):
        uid, gid = self._ids
        drop = ["--reuid", str(uid), "--regid", str(gid), "--clear-groups"] \
            if os.geteuid() == 0 else []
        environment = {"PATH": "/usr/bin:/bin", "LD_PRELOAD": "libnss_wrapper.so",
                       "NSS_WRAPPER_PASSWD": str(self.directory / "passwd"),
                       "NSS_WRAPPER_GROUP": str(self.directory / "group"),
                       "NSS_WRAPPER_HOSTS": str(self.directory / "hosts")}
        if "LD_LIBRARY_PATH" in os.environ:
            environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        self.spawn([*drop, self.directory / "exim4", "-C", self.directory / "configuration", "-bdf"],
                   lambda: "daemon started" in self.log(), env=environment, start_new_session=True)
        return self

    # ---- What happened

    def log(self):
        return self._read("mainlog")

    def trouble(self):
        """What Exim had to complain about."""
        return self._read("paniclog")

    def wait_mail(self, count=1):
        """The next `count` messages with lines that end in LF, each once."""
        new = self.directory / "mail" / "new"

        def look():
            names = sorted(set(os.listdir(new)) - self._taken) if new.exists() else []
            return names[:count] if len(names) >= count else None
        names = self._wait(look, f"no {count} messages:\n{self.log()}")
        self._taken.update(names)
        return [(new / name).read_bytes() for name in names]

    def _read(self, name):
        path = self.directory / "log" / name
        return path.read_text(errors="replace") if path.exists() else ""
