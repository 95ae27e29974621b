"""The servers that are compared. Each is started anew for every run and ended afterwards."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

STARTED_WITHIN = 60
STOPPED_WITHIN = 60
ENDS = {0, -signal.SIGTERM, 128 + signal.SIGTERM}  # what becomes of a program after SIGTERM

# The protocol of gatepost (src/net/tls.c), nothing to resume sessions with on either side.
HAPROXY_TLS = (
    " ssl crt {pem} ssl-min-ver TLSv1.2 curves X25519:P-256:P-384 no-tls-tickets"
    " ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
    " ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305")

HAPROXY = """
global
	nbthread 1
	maxconn 9000
	tune.ssl.cachesize 0
defaults
	mode tcp
	backlog 4096
	timeout connect 30s
	timeout client 10m
	timeout server 10m
listen smtp
	bind fd@{listen_fd} accept-proxy{tls}
	server sink {sink} send-proxy-v2
"""

# The default plan, no limit that the workloads would reach.
GATEPOST = """
hostname: mx1.example.com
listeners:
  - name: mx
    bind: ["127.0.0.1:0"]
    proxy: required
    trusted_proxies: [127.0.0.1]
    tls: {tls}
relay:
  domains: [example.com]
backends:
  - name: sink
    servers: ["{sink}"]
    {backend}
limits:
  transactions: 1000000000
  connections_per_client: 0
dns:
  reverse: false
log:
  format: json
  target: {folder}/gatepost.log
"""


class Failure(Exception):
    """A program did not do what it had to."""


def with_parent(command):
    """The command of a program that ends when we end, however that happens."""
    return ["setpriv", "--pdeathsig", "TERM", *command]


class Process:
    """A program with its output in a file."""

    def __init__(self, name, folder, command, pass_fds=()):
        self.name = name
        self.output = folder / f"{name}.out"
        with open(self.output, "wb") as output:
            self._process = subprocess.Popen(
                with_parent(command), stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, pass_fds=pass_fds)
        self.pid = self._process.pid

    def wait_for(self, look):
        """What `look` returns, as soon as it is something."""
        deadline = time.monotonic() + STARTED_WITHIN
        while time.monotonic() < deadline and self._process.poll() is None:
            found = look()
            if found:
                return found
            time.sleep(0.01)
        raise Failure(f"{self.name} did not start: {self.output.read_text()[-2000:]}")

    def stop(self):
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise Failure(f"{self.name} did not end") from None
        if code not in ENDS:
            raise Failure(f"{self.name} ended with {code}: {self.output.read_text()[-2000:]}")


def _lines(path):
    """The whole lines of a file of JSON, as objects."""
    if not path.exists():
        return []
    text = path.read_text().rpartition("\n")[0]
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


class Sink(Process):
    """The mail server behind everything: reads, counts, discards."""

    def __init__(self, folder, proxy, extensions):
        more = ["--extensions", extensions] if extensions else []
        super().__init__("sink", folder, [os.environ["SMTP_BACKEND"], "--proxy", proxy, *more])
        self.address = self.wait_for(
            lambda: next((line["listening"] for line in _lines(self.output)), None))

    def messages(self):
        """How many it took; after its end."""
        return sum(line.get("messages", 0) for line in _lines(self.output))


class Pair(NamedTuple):
    """Certificate and key, made for one run of the comparison."""
    certificate: Path
    key: Path
    both: Path


KINDS = {"ecdsa": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["rsa:2048"]}


def make_pair(folder, kind):
    folder = Path(folder)
    pair = Pair(folder / "mx.pem", folder / "mx.key", folder / "mx.both")
    subprocess.run(["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj",
                    "/CN=mx1.example.com", "-newkey", *KINDS[kind], "-keyout", pair.key, "-out",
                    pair.certificate], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    pair.both.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
    return pair


class Haproxy(Process):
    """In TCP mode; it is given a socket, as it does not say which port it got."""

    def __init__(self, folder, sink, tls, pair):
        with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
            self.address = "127.0.0.1:%d" % listener.getsockname()[1]
            config = folder / "haproxy.cfg"
            end = HAPROXY_TLS.format(pem=pair.both) if tls != "off" else ""
            config.write_text(HAPROXY.format(listen_fd=listener.fileno(), sink=sink.address,
                                             tls=end))
            super().__init__("haproxy", folder, ["haproxy", "-db", "-f", str(config)],
                             pass_fds=[listener.fileno()])


class Gatepost(Process):
    def __init__(self, folder, sink, tls, pair, backend):
        config = folder / "gatepost.yaml"
        files = f", certificate: {pair.certificate}, key: {pair.key}" if tls != "off" else ""
        config.write_text(GATEPOST.format(sink=sink.address, backend=backend, folder=folder,
                                          tls="{mode: \"" + tls + "\"" + files + "}"))
        super().__init__("gatepost", folder, [os.environ["GATEPOST"], "-f", str(config)])
        self.log = folder / "gatepost.log"
        self.wait_for(lambda: any(line["event"] == "started" for line in _lines(self.log)))
        self.address = next(line["address"] for line in _lines(self.log) if "address" in line)


class Direct:
    """No server under test but the sink itself."""

    def __init__(self, sink):
        self.pid, self.address = sink.pid, sink.address

    def stop(self):
        pass


class Server(NamedTuple):
    what: str                  # for the reader
    sink: str                  # which PROXY header the sink expects
    backend: str = ""          # gatepost: settings of the backend, as YAML
    has_tls: bool = True
    extensions: str = ""       # what the sink offers; empty: as it does by default


SERVERS = {
    "direct": Server("no proxy: the client talks to the mail server", "v2", has_tls=False),
    "HAProxy": Server("TCP mode, one thread, PROXY header to the mail server", "v2"),
    "reuse": Server("gatepost, identity none: its connections outlive a client", "none",
                    "identity: none"),
    "bdat": Server("gatepost, identity none, to a mail server with CHUNKING", "none",
                   "identity: none",
                   extensions="PIPELINING,SIZE=104857600,8BITMIME,SMTPUTF8,DSN,"
                              "ENHANCEDSTATUSCODES,CHUNKING"),
    "proxy-v2": Server("gatepost, identity proxy-v2: a connection for each client", "v2",
                       "identity: proxy-v2"),
}


def start(name, folder, sink, tls, pair):
    if name == "direct":
        return Direct(sink)
    if name == "HAProxy":
        return Haproxy(folder, sink, tls, pair)
    return Gatepost(folder, sink, tls, pair, SERVERS[name].backend)


class Setup:
    """One server with a sink of its own, as a context."""

    def __init__(self, name, folder, tls="off", pair=None):
        self._name, self._folder, self._tls, self._pair = name, Path(folder), tls, pair
        self.sink = self.server = None

    def __enter__(self):
        self.sink = Sink(self._folder, SERVERS[self._name].sink,
                         SERVERS[self._name].extensions)
        try:
            self.server = start(self._name, self._folder, self.sink, self._tls, self._pair)
        except BaseException:
            self.sink.stop()
            raise
        return self

    def __exit__(self, *exception):
        try:
            self.server.stop()
        finally:
            self.sink.stop()
