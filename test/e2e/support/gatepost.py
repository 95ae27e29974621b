"""The program as an object: starts it with a configuration, reads its log and trace, ends it.

    with Backend() as backend, Gatepost(backend=backend) as gatepost:
        ... speak SMTP with gatepost.address ...
        assert gatepost.wait_log("transaction")["outcome"] == "accepted"

The configuration is a dict of the shape of the YAML file, merged over a small default: one
listener `mx` on 127.0.0.1 and a port that the kernel chooses, proxy: off, relay.domains
[example.com], one backend `mta`, no DNS. Mappings are merged, lists replaced; a key with the value
None is left out. `listener` is merged into the listener `mx`.

Leaving the context ends the program with SIGTERM and raises when it did not exit with 0, or had
anything to say on stderr: the log goes to a file, so what is there are reports of sanitizers.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from patience import PATIENCE, START
from ports import keep_port
from tail import Records

# For tests that look at memory: AddressSanitizer keeps what is freed, by default up to 256 MB.
FLAT = {"ASAN_OPTIONS": "quarantine_size_mb=0:thread_local_quarantine_size_kb=0"}
# Nothing listens there.
NOWHERE = "127.0.0.1:1"


def program():
    """Where gatepost is: $GATEPOST, or in $GATEPOST_BUILD."""
    if "GATEPOST" in os.environ:
        return os.environ["GATEPOST"]
    return str(Path(os.environ.get("GATEPOST_BUILD", "build")) / "gatepost")


def is_sanitized():
    """Whether the program was built with AddressSanitizer, which takes memory and time."""
    return b"__asan_init" in Path(program()).read_bytes()


def run(*arguments, timeout=START, **options):
    """The program with these arguments to its end: returncode, stdout and stderr as text."""
    return subprocess.run([program(), *arguments], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=timeout, check=False, **options)


def merge(base, over):
    """`over` over `base`: mappings key by key, everything else replaced."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    merged = {key: value for key, value in base.items() if key not in over}
    for key, value in over.items():
        if value is not None:
            merged[key] = merge(base.get(key), value)
    return merged


def _address(server):
    return server if isinstance(server, str) else f"127.0.0.1:{server.port}"


class Gatepost:
    """One running gatepost.

    backend: the servers of the backend `mta`: one thing with a port (Backend), an "address:port",
    or a list of these. proxy: mode of the listener; trusted: its trusted_proxies.
    """

    def __init__(self, config=None, *, backend=None, listener=None, proxy="off",
                 trusted=("127.0.0.0/8",), environment=None, wrapper=(), check_stderr=True):
        self._directory = tempfile.TemporaryDirectory(prefix="gatepost-")
        self.directory = Path(self._directory.name)
        self.config = merge(self._defaults(backend, listener or {}, proxy, trusted), config or {})
        self.process = None
        self.exit_code = None
        self.check_stderr = check_stderr
        self._environment = environment or {}
        self._wrapper = list(wrapper)
        self._ports = {}
        self._records = {}

    def _defaults(self, backend, listener, proxy, trusted):
        servers = backend if isinstance(backend, (list, tuple)) else [backend or NOWHERE]
        mx = {"name": "mx", "bind": ["127.0.0.1:0"], "proxy": proxy}
        if proxy != "off":
            mx["trusted_proxies"] = list(trusted)
        return {
            "hostname": "mx.example.net",
            "listeners": [merge(mx, listener)],
            "relay": {"domains": ["example.com"]},
            # A connection that is kept would count as one that was left behind: see test_reuse.py.
            "backends": [{"name": "mta", "servers": [_address(server) for server in servers],
                          "reuse": {"mode": "never"}}],
            "timeouts": {"backend_probe": "1h", "linger": "500ms"},
            "dns": {"reverse": False},
            "log": {"format": "json", "level": "debug", "target": str(self.directory / "log"),
                    "trace": str(self.directory / "trace.jsonl")},
        }

    # ---- Life

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *exception):
        try:
            if kind is None:
                self.stop()
            else:
                self.kill()
        finally:
            self._directory.cleanup()

    @property
    def config_file(self):
        return self.directory / "gatepost.yaml"

    @property
    def log_file(self):
        return Path(self.config["log"].get("target", "stderr"))

    @property
    def trace_file(self):
        return Path(self.config["log"]["trace"])

    @property
    def stderr(self):
        return (self.directory / "stderr").read_text(errors="replace")

    def start(self, timeout=START):
        """Writes the configuration, starts the program and waits until it is ready."""
        if not self._tells_ports():
            self._choose_ports()
        # JSON is YAML.
        self.config_file.write_text(json.dumps(self.config, indent=1))
        environment = dict(os.environ, **self._environment)
        environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        command = self._wrapper or (["setpriv", "--pdeathsig", "KILL"]
                                    if shutil.which("setpriv") else [])
        with open(self.directory / "stderr", "wb") as stderr:
            self.process = subprocess.Popen(
                [*command, program(), "-f", str(self.config_file)], stdin=subprocess.DEVNULL,
                stdout=stderr, stderr=stderr, env=environment)
        try:
            self._wait_until_ready(timeout)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, timeout=PATIENCE):
        """Ends it with SIGTERM, unless it has ended; raises if anything was wrong with it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait_for_exit(timeout)

    def wait_for_exit(self, timeout=PATIENCE):
        """Waits until it has ended by itself (after a signal); raises as stop() does."""
        try:
            self.exit_code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        if self.exit_code != 0 or (self.check_stderr and self.stderr):
            raise RuntimeError(f"gatepost ended with exit code {self.exit_code}:\n{self.stderr}")
        return self.exit_code

    def kill(self):
        """Ends it at once, as a crash would."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)

    def signal(self, number):
        self.process.send_signal(number)

    def is_running(self):
        return self.process.poll() is None

    # ---- Where it listens

    def port(self, listener="mx", index=0):
        """The port of a listener's address, by position in `bind`."""
        return self._ports[listener][index][1]

    @property
    def address(self):
        """(host, port) of the listener mx."""
        return self._ports["mx"][0]

    # ---- What it wrote

    def log_text(self):
        return self.log_file.read_text(errors="surrogateescape") if self.log_file.exists() else ""

    def log_records(self, event=None, since=0, **fields):
        """Records of the log in order; of one event, and with these fields, if given. `since`:
        how many there were before, of any kind: ports of clients come again after a while."""
        return [record for record in self._read(self.log_file)[since:] if event in (None, record["event"])
                and all(record.get(name) == value for name, value in fields.items())]

    def wait_log(self, event, timeout=PATIENCE, count=1, since=0, **fields):
        """Waits for the count-th such record and returns it."""
        return self._wait(lambda: self.log_records(event, since, **fields)[count - 1:count],
                          timeout, f"no log record {event} {fields}")[0]

    def trace(self, count=1, timeout=PATIENCE):
        """Waits until the trace has `count` lines; returns all, parsed, in order."""
        def lines():
            found = self._read(self.trace_file)
            return found if len(found) >= count else []
        if count == 0:
            return lines()
        return self._wait(lines, timeout, f"no {count} lines in the trace")

    def _read(self, path):
        return self._records.setdefault(path, Records(path)).all()

    # ---- The process

    @property
    def pid(self):
        return self.process.pid

    def rss_kb(self, peak=False):
        """Resident memory; the most that it ever was, with peak."""
        name = "VmHWM:" if peak else "VmRSS:"
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith(name)))

    def cpu_seconds(self):
        """Processor time it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def fds(self):
        """Number of open descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def connections(self):
        """Open sockets other than the listening ones: of clients and of backends."""
        count = 0
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                count += os.readlink(entry).startswith("socket:")
            except FileNotFoundError:
                pass
        return count - sum(len(addresses) for addresses in self._ports.values())

    def wait_idle(self, timeout=PATIENCE):
        """Waits until no connection is open; what they had to say is in log and trace then."""
        self._wait(lambda: self.connections() == 0, timeout,
                   f"{self.connections()} connections are open")

    def wait_fds(self, count, timeout=PATIENCE):
        """Waits until no more than so many descriptors are open."""
        self._wait(lambda: self.fds() <= count, timeout,
                   f"descriptors: {self.fds()} instead of {count}")

    # ---- Inside

    def _tells_ports(self):
        log = self.config["log"]
        return log.get("format") == "json" and log.get("level") in ("debug", "info")

    def _choose_ports(self):
        """A log that does not tell where the program listens: ports of ours."""
        for listener in self.config["listeners"]:
            chosen = []
            for address in listener["bind"]:
                host, _, port = address.rpartition(":")
                host = host.strip("[]")
                chosen.append((host, keep_port(host) if port == "0" else int(port)))
            listener["bind"] = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                                for host, port in chosen]
            self._ports[listener["name"]] = chosen

    def _wait_until_ready(self, timeout):
        ready = self._has_started if self._tells_ports() else self._accepts
        self._wait(ready, timeout, "gatepost did not start")
        if self._tells_ports():
            self._read_ports()

    def _has_started(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"gatepost ended with exit code {self.process.returncode}:\n"
                               f"{self.stderr}{self.log_text()}")
        return self.log_records("started")

    def _accepts(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"gatepost ended with exit code {self.process.returncode}:\n"
                               f"{self.stderr}")
        try:
            for addresses in self._ports.values():
                for address in addresses:
                    socket.create_connection(address, 1).close()
        except OSError:
            return False
        return True

    def _read_ports(self):
        self._ports = {}
        for record in self.log_records("listening"):
            host, _, port = record["address"].rpartition(":")
            self._ports.setdefault(record["listener"], []).append((host.strip("[]"), int(port)))

    @staticmethod
    def _wait(look, timeout, complaint):
        deadline = time.monotonic() + timeout
        while True:
            found = look()
            if found:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(complaint)
            time.sleep(0.01)
