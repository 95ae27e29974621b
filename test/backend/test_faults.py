"""The faults of the test backend: what it does when it is told to misbehave."""

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e" / "support"))
from backend import Backend  # noqa: E402
from raw import Raw  # noqa: E402


@pytest.fixture
def backend():
    with Backend() as backend:
        yield backend


def test_fault_replies_and_their_counts():
    with Backend("--fault", "mail:reply=451 4.3.0 busy@1",
                 "--fault", "rcpt:reply=452 4.5.3 too many@2+",
                 "--fault", "noop:reply=250 a\\nb@2-3") as backend, Raw(backend) as raw:
        raw.reply()
        raw.ask("EHLO x")
        assert raw.ask("MAIL FROM:<>") == "451 4.3.0 busy"
        assert raw.ask("RCPT TO:<b@example.com>").startswith("503")
        assert raw.ask("MAIL FROM:<>").startswith("250")
        assert raw.ask("RCPT TO:<b@example.com>") == "452 4.5.3 too many"
        assert raw.ask("NOOP") == "250 2.0.0 Ok"
        assert raw.ask("NOOP") == "250 b"
        assert raw.ask("NOOP") == "250 b"
        assert raw.ask("NOOP") == "250 2.0.0 Ok"


@pytest.mark.parametrize("state", ["connect", "banner", "ehlo", "helo", "mail", "rcpt", "data", "dot",
                                   "after-dot", "rset", "quit", "noop"])
@pytest.mark.parametrize("action, reads", [("refuse-close", b""), ("reset", None)])
def test_every_state_can_close_and_reset(state, action, reads):
    script = ["", "NOOP", "RSET", "HELO x", "EHLO x", "MAIL FROM:<>", "RCPT TO:<b@example.com>",
              "DATA", "x\r\n.", "QUIT"]
    at = {"connect": 0, "banner": 0, "noop": 1, "rset": 2, "helo": 3, "ehlo": 4, "mail": 5, "rcpt": 6,
          "data": 7, "dot": 8, "after-dot": 8, "quit": 9}[state]

    def speak(backend):
        with Raw(backend) as raw:
            for step in range(at):
                assert (raw.ask(script[step]) if step else raw.reply())[0] in "23"
            if at:
                raw.send(script[at].encode() + b"\r\n")
            return raw.rest()

    with Backend(faults=[f"{state}:{action}"]) as backend:
        if reads is None:
            with pytest.raises(ConnectionResetError):  # connecting may be what fails
                speak(backend)
        else:
            assert speak(backend) == reads
        assert backend.wait_for("end")[0]["how"] == "fault"
        assert len(backend.messages()) == (1 if state in ("after-dot", "quit") else 0)


@pytest.mark.parametrize("action, expected", [
    ("bare-lf", b"250 2.0.0 Ok\n"),
    ("split", b"250 2.0.0 Ok\r\n"),
    ("merged", b"250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n"),
    ("mixed-codes", b"250-2.0.0 first line\r\n550 last line\r\n"),
    ("no-final-crlf-then-close", b"250 2.0.0 Ok"),
    ("raw=250-x\\r\\n\\xff\\0\\\\", b"250-x\r\n\xff\0\\"),
    ("reply-close=421 4.3.2 gone", b"421 4.3.2 gone\r\n"),
    ("close", b"250 2.0.0 Ok\r\n"),
])
def test_shapes_of_replies(action, expected):
    with Backend(faults=[f"noop:{action}"]) as backend, Raw(backend) as raw:
        raw.reply()
        raw.send(b"NOOP\r\n")
        while len(raw.buffer) < len(expected):
            assert raw.fill()
        assert raw.buffer == expected
        raw.buffer = b""
        if "close" in action:
            assert raw.rest() == b""
        else:
            assert raw.ask("RSET").startswith("250")


def test_large_and_senseless_replies():
    with Backend(faults=["noop:long-line@1", "rset:many-lines@1", "mail:garbage"]) as backend:
        with Raw(backend) as raw:
            raw.reply()
            assert len(raw.ask("NOOP")) == 4 + 1024 * 1024
            raw.send(b"RSET\r\n")
            assert sum(raw.line().startswith(b"250-") for _ in range(10000)) == 10000
            assert raw.reply() == "250 2.0.0 Ok"
            raw.ask("EHLO x")
            raw.send(b"MAIL FROM:<>\r\n")
            assert raw.line() == b"\x16\x03\x01\x02\0\xff\xfe not SMTP\r\n"
            assert raw.line().startswith(b"HTTP/1.1")
            raw.line()
            assert raw.ask("RCPT TO:<b@example.com>").startswith("503")


def test_split_is_really_a_byte_at_a_time():
    with Backend(faults=["banner:split"]) as backend, Raw(backend) as raw:
        time.sleep(0.005)
        assert len(raw.socket.recv(1000)) < 10
        while not raw.buffer.endswith(b"\n"):
            raw.fill()


def test_early_replies_come_before_their_commands():
    with Backend(faults=["rcpt:early@1", "dot:early"]) as backend, Raw(backend) as raw:
        raw.reply()
        raw.ask("EHLO x")
        assert raw.ask("MAIL FROM:<a@example.net>").startswith("250 2.1.0")
        assert raw.reply() == "250 2.0.0 Ok"
        raw.send(b"RCPT TO:<b@example.com>\r\n")
        assert raw.is_silent()
        assert raw.ask("DATA").startswith("354")
        assert raw.reply().startswith("250")
        raw.send(b"x\r\n.\r\n")
        assert raw.ask("NOOP").startswith("250")
        assert len(backend.messages()) == 1


def test_delay_holds_the_reply_and_what_follows_but_nothing_before():
    with Backend(faults=["rset:delay=300"]) as backend, Raw(backend) as raw:
        raw.reply()
        raw.ask("EHLO x")
        begin = time.monotonic()
        raw.send(b"MAIL FROM:<>\r\nRSET\r\nNOOP\r\n")
        raw.reply()
        assert time.monotonic() - begin < 0.2
        raw.reply(), raw.reply()
        assert time.monotonic() - begin >= 0.3


def test_stall_answers_nothing_and_notices_the_end():
    with Backend(faults=["mail:stall"]) as backend:
        with Raw(backend) as raw:
            raw.reply()
            raw.ask("EHLO x")
            raw.send(b"MAIL FROM:<>\r\nNOOP\r\n")
            assert raw.is_silent()
        assert backend.wait_for("end")[0]["how"] == "client-eof"


def test_body_stalls_after_so_many_bytes():
    with Backend(faults=["body:stall:100000"], record_body=False) as backend, Raw(backend) as raw:
        raw.envelope().data()
        raw.socket.settimeout(0.5)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 100_000_000:
                sent += raw.socket.send(b"x" * 998 + b"\r\n")
        assert sent < 50_000_000


def test_body_delay_repeats_and_keeps_the_message_whole():
    body = b"0123456789abcdef\r\n" * 200
    with Backend(faults=["body:delay=20:1000"]) as backend, Raw(backend) as raw:
        begin = time.monotonic()
        raw.envelope().data().send(body + b".\r\n")
        assert raw.reply().startswith("250")
        assert time.monotonic() - begin >= 0.06
        assert backend.messages()[0]["body"] == body


@pytest.mark.parametrize("fault, count", [("body:reply=552 5.3.4 too big:10", 0),
                                          ("body:reply=250 2.0.0 hasty:10", 1)])
def test_a_reply_during_the_body_is_the_last_one(fault, count):
    with Backend(faults=[fault]) as backend, Raw(backend) as raw:
        raw.envelope().data().send(b"0123456789abc")
        assert raw.reply() == fault[len("body:reply="):-len(":10")]
        raw.send(b"\r\n.\r\n")
        assert raw.ask("NOOP") == "250 2.0.0 Ok"
        assert len(backend.messages()) == count


@pytest.mark.parametrize("state, action, count", [
    ("dot", "reply=451 4.3.0 no", 0), ("dot", "die-before-reply", 0), ("dot", "stall", 0),
    ("dot", "garbage", 0), ("dot", "bare-lf", 1), ("dot", "close", 1),
    ("after-dot", "reply=451 4.3.0 no", 1), ("after-dot", "die-before-reply", 1),
    ("after-dot", "stall", 1), ("after-dot", "close-before-reply", 1), ("after-dot", "die", 1),
])
def test_dot_is_before_the_commit_and_after_dot_behind_it(state, action, count):
    with Backend(faults=[f"{state}:{action}"]) as backend, Raw(backend) as raw:
        raw.envelope().data().send(b"x\r\n.\r\n")
        if action == "stall":
            assert raw.is_silent()
        else:
            raw.fill()
        assert len(backend.messages()) == count
        if action.startswith("die"):
            assert backend.wait_for_exit() == 70
            assert raw.rest() == (b"250 2.0.0 Ok: taken\r\n" if action == "die" else b"")


def test_faults_change_at_run_time(backend):
    with Raw(backend) as raw:
        raw.reply()
        assert raw.ask("NOOP").startswith("250")
        backend.set_faults(["noop:reply=550 5.0.0 one", "# a comment"])
        assert raw.ask("NOOP") == "550 5.0.0 one"
        backend.set_faults([])
        assert raw.ask("NOOP").startswith("250")
