"""The load generator tested: every workload in small, and that it notices what is wrong."""

import json
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e" / "support"))
from backend import Backend  # noqa: E402
from tls import Authority  # noqa: E402
from tlsbackend import TlsBackend  # noqa: E402


def load(backend, *options):
    """Runs it; returns the exit code and its lines."""
    command = [os.environ["SMTP_LOAD"], "--target", f"127.0.0.1:{backend.port}", *options]
    done = subprocess.run(command, capture_output=True, timeout=300)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("workload, options, messages, connections, size", [
    ("W1", ["--messages", "120"], 120, 120, 4096),
    ("W1", ["--messages", "7", "--rcpt", "a@example.com", "--rcpt", "b@example.com"], 7, 7, 4096),
    ("W2", ["--messages", "300", "--connections", "3"], 300, 3, 4096),
    ("W2", ["--messages", "30", "--connections", "2", "--per-connection", "5"], 30, 6, 4096),
    ("W2p", ["--messages", "300", "--connections", "3"], 300, 3, 4096),
    ("W3", ["--messages", "3", "--connections", "1"], 3, 1, 10485760),
    ("W7", ["--messages", "50", "--size", "100"], 50, 1, 100),
])
def test_messages_arrive_whole(workload, options, messages, connections, size):
    with Backend(record_body=False) as backend:
        code, (result,) = load(backend, "--workload", workload, *options)
        assert code == 0, result
        assert (result["messages"], result["errors"]) == (messages, 0)
        # One that is done early is replaced before the others have used up the messages.
        assert connections <= result["connections"] < connections + result["concurrency"]
        assert result["replies"]["354"] == messages
        assert result["replies"]["221"] == result["connections"]
        assert 0 < result["latency_us"]["p50"] <= result["latency_us"]["max"]
        taken = backend.messages()
        assert len(taken) == messages
        assert {message["size"] for message in taken} == {size}
        assert len({message["sha256"] for message in taken}) == 1
        assert len(taken[0]["rcpts"]) == max(1, options.count("--rcpt"))
        assert backend.violations() == []


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls")).make("mx", names=["mx.example.com"])


@pytest.mark.parametrize("workload, mode, options, messages, connections", [
    ("W6", "starttls", ["--messages", "12"], 12, 12),
    ("W6i", "implicit", ["--messages", "12"], 12, 12),
    ("W6i", "implicit", ["--messages", "5", "--tls-version", "1.2"], 5, 5),
    ("W6h", "implicit", ["--messages", "12"], 0, 12),
    ("W6m", "implicit", ["--messages", "40", "--connections", "1", "--per-connection", "10"],
     40, 4),
    ("W3", "implicit", ["--tls", "implicit", "--messages", "1", "--connections", "1", "--size",
                        "1048576"], 1, 1),
])
def test_tls(pair, workload, mode, options, messages, connections):
    """The server gives tickets, so that a client that wanted to could resume."""
    with TlsBackend(pair, mode) as server:
        code, (result,) = load(server, "--workload", workload, *options)
        assert code == 0, result
        assert (result["messages"], result["connections"]) == (messages, connections)
        assert result["handshakes"] == connections
        version = "TLSv1.2" if "1.2" in options else "TLSv1.3"
        assert result["tls"].startswith(version)
        assert result["tls"].endswith("certificate EC 256")
        assert len(server.sessions) == connections
        assert {(session.tls["version"], session.tls["reused"])
                for session in server.sessions} == {(version, False)}
        taken = [message for session in server.sessions for message in session.messages]
        assert len(taken) == messages
        assert len(set(taken)) == (1 if messages else 0)
        if mode == "starttls":
            assert all(session.verbs(is_tls=False) == ["EHLO", "STARTTLS"]
                       for session in server.sessions)


@pytest.mark.parametrize("workload, version", [("W4t", "TLSv1.3"), ("W4t12", "TLSv1.2")])
def test_connections_are_held_under_tls(pair, workload, version):
    with TlsBackend(pair, "implicit") as server:
        code, (holding, result) = load(server, "--workload", workload, "--connections", "20",
                                       "--seconds", "1")
        assert code == 0, result
        assert holding == {"holding": 20}
        assert result["handshakes"] == 20
        assert result["tls"].startswith(version)
        assert {tuple(session.verbs()) for session in server.sessions} == {("EHLO",)}


@pytest.mark.parametrize("fault, first", [
    ({"handshake": "close"}, "TLS handshake: "),
    ({"handshake": "plaintext"}, "TLS handshake: "),
    ({"answer": b"454 4.7.0 not now\r\n"}, "STARTTLS: 454 4.7.0 not now"),
    ({"newest": ssl.TLSVersion.TLSv1_2}, "TLS handshake: "),
    ({"on_mail": b"451 4.3.0 busy\r\n"}, "MAIL: 451 4.3.0 busy"),
])
def test_trouble_under_tls_is_an_error(pair, fault, first):
    with TlsBackend(pair, **fault) as server:
        code, (result,) = load(server, "--workload", "W6", "--messages", "2")
        assert code == 1
        assert result["unexpected"][0].startswith(first), result


def test_connections_only():
    with Backend("--proxy", "auto") as backend:
        for version in "v1", "v2":
            code, (result,) = load(backend, "--workload", "W5", "--messages", "300", "--proxy", version)
            assert (code, result["connections"], result["messages"]) == (0, 300, 0)
        sources = [connection["proxy"]["source"] for connection in backend.connections()]
        assert len({source.partition(":")[0] for source in sources}) == 254
        assert sources[0] == "198.51.100.1:1024"
        assert {connection["proxy"]["version"] for connection in backend.connections()} == {1, 2}


def test_a_run_ends_with_its_time():
    with Backend(record_body=False) as backend:
        code, (result,) = load(backend, "--workload", "W2", "--seconds", "1", "--connections", "2")
        assert code == 0
        assert 900 <= result["elapsed_ms"] <= 20000
        assert result["messages"] == len(backend.messages()) > 0


@pytest.mark.parametrize("workload, phase", [("W4", "command"), ("W8", "data")])
def test_connections_are_held(workload, phase):
    with Backend(record_body=False) as backend:
        code, (holding, result) = load(backend, "--workload", workload, "--connections", "150",
                                       "--seconds", "1")
        assert code == 0, result
        assert holding == {"holding": 150}
        ends = backend.wait_for("end", 150)
        assert {(end["how"], end["phase"]) for end in ends} == {("client-eof", phase)}
        assert backend.messages() == []


@pytest.mark.parametrize("fault, first", [
    ("mail:reply=451 4.3.0 busy@2-2", "MAIL: 451 4.3.0 busy"),
    ("dot:reply=250 x\\ny", None),
    ("dot:reset@1", "body: Connection reset by peer"),
    ("banner:refuse-close@3-3", "banner: closed by the server"),
    ("data:garbage@1", "DATA: \u0016\u0003\u0001\u0002\u0000\u00ff\u00fe not SMTP"),
    ("quit:reply=250 2.0.0 never", "QUIT: 250 2.0.0 never"),
    ("noop:reset", None),
])
def test_unexpected_replies_are_errors(fault, first):
    with Backend(faults=[fault], record_body=False) as backend:
        code, (result,) = load(backend, "--workload", "W2", "--messages", "20", "--connections", "4",
                               "--per-connection", "2")
        assert code == (1 if first else 0), result
        assert (result["unexpected"] or [None])[0] == first


def test_silence_is_an_error():
    with Backend(faults=["rcpt:stall@2+"], record_body=False) as backend:
        code, (result,) = load(backend, "--workload", "W1", "--messages", "5", "--patience", "1")
        assert code == 1
        assert result["unexpected"][0] == "RCPT: no progress"


def test_nobody_listens():
    with Backend() as backend:
        backend.stop()
        code, (result,) = load(backend, "--workload", "W1", "--messages", "5")
        assert code == 1
        assert "Connection refused" in result["unexpected"][0]


def test_usage():
    for options in ([], ["--workload", "W9"], ["--workload", "W1"], ["--workload", "W1", "--target", "x"]):
        assert subprocess.run([os.environ["SMTP_LOAD"], *options], capture_output=True).returncode == 64
