"""The servers that are compared. Each is started anew for every run and ended afterwards."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

STARTED_WITHIN = 10
STOPPED_WITHIN = 20
ENDS = {0, -signal.SIGTERM, 128 + signal.SIGTERM}  # what becomes of a program after SIGTERM

HAPROXY = """
global
	nbthread 1
	maxconn 9000
defaults
	mode tcp
	backlog 4096
	timeout connect 30s
	timeout client 10m
	timeout server 10m
listen smtp
	bind fd@{listen_fd} accept-proxy
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
relay:
  domains: [example.com]
backends:
  - name: sink
    servers: ["{sink}"]
    identity: {identity}
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

    def __init__(self, folder, proxy):
        super().__init__("sink", folder, [os.environ["SMTP_BACKEND"], "--proxy", proxy])
        self.address = self.wait_for(
            lambda: next((line["listening"] for line in _lines(self.output)), None))

    def messages(self):
        """How many it took; after its end."""
        return sum(line.get("messages", 0) for line in _lines(self.output))


class Haproxy(Process):
    """In TCP mode; it is given a socket, as it does not say which port it got."""

    def __init__(self, folder, sink):
        with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
            self.address = "127.0.0.1:%d" % listener.getsockname()[1]
            config = folder / "haproxy.cfg"
            config.write_text(HAPROXY.format(listen_fd=listener.fileno(), sink=sink.address))
            super().__init__("haproxy", folder, ["haproxy", "-db", "-f", str(config)],
                             pass_fds=[listener.fileno()])


class Gatepost(Process):
    def __init__(self, folder, sink, identity):
        config = folder / "gatepost.yaml"
        config.write_text(GATEPOST.format(sink=sink.address, identity=identity, folder=folder))
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


# name: what the sink expects, and what stands in front of it
SERVERS = {
    "direct": ("v2", lambda folder, sink: Direct(sink)),
    "HAProxy": ("v2", Haproxy),
    "gatepost, identity none": (
        "none", lambda folder, sink: Gatepost(folder, sink, "none")),
    "gatepost, identity proxy-v2": (
        "v2", lambda folder, sink: Gatepost(folder, sink, "proxy-v2")),
}


class Setup:
    """One server with a sink of its own, as a context."""

    def __init__(self, name, folder):
        self._name, self._folder = name, Path(folder)
        self.sink = self.server = None

    def __enter__(self):
        proxy, make = SERVERS[self._name]
        self.sink = Sink(self._folder, proxy)
        try:
            self.server = make(self._folder, self.sink)
        except BaseException:
            self.sink.stop()
            raise
        return self

    def __exit__(self, *exception):
        try:
            self.server.stop()
        finally:
            self.sink.stop()
