"""HAProxy as an object: one frontend in front of one server, and its console.

    with Gatepost(backend=backend, proxy="required") as gatepost, \\
            HAProxy(gatepost.address, "send-proxy-v2") as haproxy:
        ... speak SMTP with haproxy.address ...

The frontend's socket is made here and handed over, so that its port cannot be taken by others.
Certificates are made when a test asks for them, and are worth nothing anywhere else.
"""

import csv
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path

from daemon import Daemon
from patience import START

TEMPLATE = """\
global
\tstats socket {directory}/stats level admin
\tssl-default-bind-options ssl-min-ver TLSv1.2
{global_lines}
defaults
\tmode tcp
\ttimeout connect 5s
\ttimeout client 60s
\ttimeout server 60s
\ttimeout check 5s
frontend front
\tbind {bind} {bind_options}
{frontend_lines}
\tdefault_backend back
backend back
{backend_lines}
\tserver gatepost {target} {server_options}
"""


def check(path):
    """`haproxy -c`: exit code and what it said."""
    done = subprocess.run(["haproxy", "-c", "-f", str(path)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=START,
                          check=False)
    return done.returncode, done.stdout


def _lines(lines):
    return "".join(f"\t{line}\n" for line in lines)


class HAProxy(Daemon):
    """target: (host, port) of the server. server: options of the server line. bind: options of the
    bind line. host: where to listen; "unix" for a socket in the file system, see unix_path.
    frontend, backend, global_: further lines of these sections."""

    name = "HAProxy"

    def __init__(self, target, server="send-proxy-v2", *, bind="", host="127.0.0.1", frontend=(),
                 backend=(), global_=()):
        self._directory = tempfile.TemporaryDirectory(prefix="haproxy-")
        self.directory = Path(self._directory.name)
        self._socket = None
        self._host = host
        name, port = target
        self._config = dict(
            directory=self.directory, global_lines=_lines(global_), bind_options=bind,
            frontend_lines=_lines(frontend), backend_lines=_lines(backend),
            target=f"[{name}]:{port}" if ":" in name else f"{name}:{port}", server_options=server)

    # ---- Life

    def __enter__(self):
        try:
            return self._start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *exception):
        if self.is_running():
            self.process.terminate()
            self.process.wait(10)
        if self._socket:
            self._socket.close()
        self._directory.cleanup()

    def _start(self):
        if self._host == "unix":
            bind = str(self.unix_path)
        else:
            self._socket = socket.create_server(
                (self._host, 0), family=socket.AF_INET6 if ":" in self._host else socket.AF_INET)
            bind = f"fd@{self._socket.fileno()}"
        config = self.directory / "haproxy.cfg"
        config.write_text(TEMPLATE.format(bind=bind, **self._config))
        self.spawn(["haproxy", "-db", "-f", config], self._answers,
                   pass_fds=[self._socket.fileno()] if self._socket else [])
        return self

    def _answers(self):
        try:
            return "Uptime" in self.console("show info")
        except OSError:
            return False

    # ---- Where it is, and what it says

    @property
    def address(self):
        """(host, port) of the frontend."""
        return self._socket.getsockname()[:2]

    @property
    def port(self):
        return self.address[1]

    @property
    def unix_path(self):
        return self.directory / "front"

    def console(self, command):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(START)
            connection.connect(str(self.directory / "stats"))
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def server(self):
        """The row of `show stat` of the server: status, check_status, check_code, …"""
        rows = csv.DictReader(self.console("show stat").removeprefix("# ").splitlines())
        return next(row for row in rows if row["svname"] == "gatepost")

    def wait_checked(self, status="UP", timeout=START):
        """Waits until a health check has decided, and the server is in this status. HAProxy takes a
        server for UP until the first check, which has no check_status before."""
        def look():
            row = self.server()
            decided = row["check_status"] and not row["check_status"].startswith("*") \
                and row["check_status"] != "INI"
            return decided and row["status"] == status and row
        return self._wait(look, f"the server is not {status}: {self.server()}", timeout)


class Certificates:
    """An authority, and certificates made by it: files in one folder."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.authority = self.make("authority", signed_by=None)

    def make(self, name, signed_by="authority"):
        """A certificate with this CN; returns the PEM file of certificate and key."""
        path = self.directory / f"{name}.pem"
        signer = ["-CA", str(self.directory / f"{signed_by}.pem"),
                  "-CAkey", str(self.directory / f"{signed_by}.pem")] if signed_by else []
        made = subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
             f"/CN={name}", "-utf8", "-keyout", "-", "-out", "-", *signer],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True)
        path.write_bytes(made.stdout)
        return path


def client_context(certificate=None, alpn=None, newest=None):
    """TLS of a client that believes everything, with a certificate of its own if wanted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate)
    if alpn:
        context.set_alpn_protocols(alpn)
    if newest:
        context.maximum_version = newest
    return context
