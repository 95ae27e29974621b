"""What is shipped beside the program: configurations that are valid, scripts that do what they say."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import haproxy
import pytest
from gatepost import run

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "deploy" / "quickstart"
SCRIPTS = ["deploy/quickstart", "deploy/install-packages", "test/run", ".ci/run"]


# ---- Configurations

def test_haproxy_cfg():
    code, said = haproxy.check(ROOT / "deploy" / "haproxy.cfg")
    assert code == 0, said
    assert "WARNING" not in said.upper(), said


def test_minimal_yaml():
    """It is valid, and there is nothing that somebody should be told about it."""
    done = run("-c", "-f", str(ROOT / "config" / "minimal.yaml"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---- Scripts

@pytest.mark.parametrize("path", SCRIPTS)
def test_shellcheck(path):
    assert os.access(ROOT / path, os.X_OK)
    done = subprocess.run(["shellcheck", str(ROOT / path)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_ci_runs_what_everybody_runs():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[1:] == ['exec "$(dirname "$0")/../test/run"']


def heed_signals():
    """A script cannot trap what was ignored when it began, as it is behind nohup or an "&"."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Quickstart:
    """deploy/quickstart with a build folder and a folder for temporary files of its own."""

    def __init__(self, build, temporary):
        self.temporary = temporary
        self.environment = {**os.environ, "GATEPOST_QUICKSTART_BUILD": str(build),
                            "TMPDIR": str(temporary)}

    def start(self, *options):
        return subprocess.Popen([str(QUICKSTART), *options], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                env=self.environment, start_new_session=True,
                                preexec_fn=heed_signals)

    def run(self, *options, timeout=400):
        with self.start(*options) as process:
            said, _ = process.communicate(timeout=timeout)
        return process.returncode, said

    def processes(self):
        """What runs with our folder for temporary files in its command line."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if any(f"{self.temporary}/gatepost-quickstart".encode() in word for word in words):
                found.append(words[0].decode())
        return sorted(Path(name).name for name in found)

    def is_clean(self):
        """Nothing runs, nothing lies about; processes need a moment to be gone."""
        deadline = time.monotonic() + 30
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.processes() == [] and list(self.temporary.iterdir()) == []


@pytest.fixture(scope="module")
def quickstart():
    """The first run builds, which takes a while; the folder stays for the next time."""
    build = Path(os.environ.get("GATEPOST_BUILD", ROOT / "build")) / "quickstart"
    temporary = Path(tempfile.mkdtemp(prefix="deploy-"))
    temporary.chmod(0o755)
    running = Quickstart(build, temporary)
    yield running
    running.run("--stop")
    shutil.rmtree(temporary)


def test_quickstart(quickstart):
    code, said = quickstart.run()
    assert code == 0, said
    assert "-> RCPT TO:<bob@example.com>" in said and "<-  250 2.0.0" in said
    assert "Received: from client.example.net (unknown [127.0.0.2])\n" in said
    trace = json.loads(re.search(r"^\{\n.*?^\}$", said, re.M | re.S).group())
    assert trace["remote"]["ip"] == "127.0.0.2"
    assert trace["proxy"]["ip"] == "127.0.0.1" and trace["proxy"]["version"] == 2
    assert trace["transactions"][0]["outcome"] == "accepted"
    assert quickstart.is_clean()


def test_quickstart_second_run_is_quick(quickstart):
    program = Path(quickstart.environment["GATEPOST_QUICKSTART_BUILD"]) / "gatepost"
    built, before = program.stat().st_mtime_ns, time.monotonic()
    assert quickstart.run()[0] == 0
    assert program.stat().st_mtime_ns == built  # without building
    assert time.monotonic() - before < 120


def test_quickstart_keep_and_stop(quickstart):
    code, said = quickstart.run("--keep")
    assert code == 0, said
    assert quickstart.processes() == ["gatepost", "haproxy", "smtp-backend"]
    more = re.search(r"Send more: +(swaks .*)", said).group(1).split()
    for _ in range(2):
        done = subprocess.run(more, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                              timeout=60, check=False)
        assert done.returncode == 0, done.stdout
    maildir, = quickstart.temporary.glob("gatepost-quickstart.*/Maildir/new")
    assert len(list(maildir.iterdir())) == 3
    again = quickstart.run("--keep")
    assert again[0] == 0 and "running already" in again[1]
    assert len(quickstart.processes()) == 3
    assert quickstart.run("--stop") == (0, "stopped\n")
    assert quickstart.is_clean()
    assert quickstart.run("--stop") == (0, "nothing is running\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_quickstart_is_interrupted(quickstart, number):
    """Ctrl-C goes to all that the terminal has; whatever had been started is stopped."""
    process = quickstart.start("--keep")
    while len(quickstart.processes()) < 2 and process.poll() is None:
        time.sleep(0.002)
    assert process.poll() is None
    os.killpg(process.pid, number)
    process.communicate(timeout=300)
    assert process.returncode != 0
    assert quickstart.is_clean()


def test_quickstart_fails_cleanly(quickstart, tmp_path):
    """swaks that cannot send, in the place of the real one."""
    fake = tmp_path / "swaks"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    other = Quickstart(quickstart.environment["GATEPOST_QUICKSTART_BUILD"], quickstart.temporary)
    other.environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    code, said = other.run()
    assert code == 1 and "the message was not accepted" in said
    assert quickstart.is_clean()


def test_quickstart_wrong_option(quickstart):
    code, said = quickstart.run("--bogus")
    assert code == 64 and "usage:" in said


def test_quickstart_leaves_no_port_open(quickstart):
    """A port of a run that has ended refuses connections, unless somebody else has been given it since."""
    for _ in range(3):
        said = quickstart.run()[1]
        ports = re.findall(r"127\.0\.0\.1:(\d+)", re.search(r"^client .*", said, re.M).group())
        assert len(ports) == 3
        if not any(accepts(int(port)) for port in ports):
            return
    pytest.fail(f"ports are open: {ports}")


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
