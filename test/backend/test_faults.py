"""The faults of the test backend: what it does when it is told to misbehave."""

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e" / "support"))
from backend import Backend  # noqa: E402
from patience import tight  # noqa: E402
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


EXTENSIONS = "PIPELINING,CHUNKING,STARTTLS,XCLIENT=ADDR,XFORWARD=ADDR,AUTH=PLAIN"
PLAIN = "AHVzZXIAc2VjcmV0"  # user, secret
ENVELOPE = ["EHLO x", "MAIL FROM:<a@example.net>", "RCPT TO:<b@example.com>"]
# What is said before the fault strikes, and what makes it strike (None: nothing more).
STEPS = {
    "connect": ([], None), "banner": ([], None),
    "ehlo": ([], "EHLO x"), "helo": ([], "HELO x"), "noop": ([], "NOOP"), "rset": ([], "RSET"),
    "starttls": (ENVELOPE[:1], "STARTTLS"), "xclient": (ENVELOPE[:1], "XCLIENT ADDR=192.0.2.1"),
    "auth": (ENVELOPE[:1], "AUTH PLAIN " + PLAIN), "auth2": (["EHLO x", "AUTH PLAIN"], PLAIN),
    "xforward": (ENVELOPE[:1], "XFORWARD ADDR=192.0.2.1"), "mail": (ENVELOPE[:1], ENVELOPE[1]),
    "rcpt": (ENVELOPE[:2], ENVELOPE[2]), "rcpt2": (ENVELOPE, ENVELOPE[2]),
    "data": (ENVELOPE, "DATA"), "body": (ENVELOPE + ["DATA"], "x" * 20),
    "dot": (ENVELOPE + ["DATA"], "x\r\n."), "after-dot": (ENVELOPE + ["DATA"], "x\r\n."),
    "bdat": (ENVELOPE, "BDAT 2\r\n"), "idle": (ENVELOPE + ["DATA", "x\r\n."], None),
    "quit": ([], "QUIT"),
}
COMMITTED = {"after-dot", "idle"}


def reach(raw, state):
    """Says all that comes before the step, and what begins it."""
    before, last = STEPS[state]
    if state not in ("connect", "banner"):
        raw.reply()
    for line in before:
        assert raw.ask(line)[0] in "23"
    if last:
        raw.send(last.encode() + b"\r\n")


def faulty(state, action):
    fault = f"{state}:{action}" + (":10" if state == "body" else "")
    return Backend(extensions=EXTENSIONS, faults=[fault], auth=("user", "secret"))


@pytest.mark.parametrize("state", STEPS)
@pytest.mark.parametrize("action", ["refuse-close", "half-close"])
def test_every_state_can_close(state, action):
    with faulty(state, action) as backend, Raw(backend) as raw:
        reach(raw, state)
        assert raw.rest() == b""
        if action == "half-close":
            raw.send(b"RSET\r\n" * 1000)  # is read and dropped
            assert backend.endings() == [] and not backend.commands("RSET")[1:]
            raw.socket.close()
        end, = backend.wait_for("end")
        assert end["how"] == ("fault" if action == "refuse-close" else "client-eof")
        assert len(backend.messages()) == (state in COMMITTED)


@pytest.mark.parametrize("state", STEPS)
def test_every_state_can_reset(state):
    def speak(backend):
        with Raw(backend) as raw:  # connecting may be what fails
            reach(raw, state)
            raw.rest()

    with faulty(state, "reset") as backend:
        with pytest.raises(ConnectionResetError):
            speak(backend)
        assert backend.wait_for("end")[0]["how"] == "fault"


@pytest.mark.parametrize("state", STEPS)
def test_every_state_can_stall(state):
    with faulty(state, "stall") as backend:
        with Raw(backend) as raw:
            reach(raw, state)
            assert raw.is_silent(0.05)
        assert backend.wait_for("end")[0]["how"] == "client-eof"


@pytest.mark.parametrize("state", [state for state in STEPS if state != "connect"])
@pytest.mark.parametrize("action, expected", [
    ("reply-close=421 4.3.2 gone", b"421 4.3.2 gone\r\n"),
    ("reply-close=999 what", b"999 what\r\n"),
    ("die-before-reply", b""),
])
def test_every_state_can_say_something_else_or_die(state, action, expected):
    with faulty(state, action) as backend, Raw(backend) as raw:
        reach(raw, state)
        assert raw.rest() == expected
        assert len(backend.messages()) == (state in COMMITTED)
        if "die" in action:
            assert backend.wait_for_exit() == 70


@pytest.mark.parametrize("state, reply, then", [
    ("data", "250 2.0.0 fine", "RSET"),
    ("mail", "354 go", "MAIL FROM:<>"),
    ("dot", "354 more", "NOOP"),
    ("rcpt", "150 well", "RCPT TO:<b@example.com>"),
    ("auth", "334 ", "MAIL FROM:<>"), ("auth2", "334 bW9yZQ==", "MAIL FROM:<>"),
])
def test_a_reply_of_another_class_has_no_effect(state, reply, then):
    with Backend(faults=[f"{state}:reply={reply}@1"], auth=("user", "secret")
                 ) as backend, Raw(backend) as raw:
        reach(raw, state)
        assert raw.reply() == reply
        assert backend.messages() == [] and ("PLAIN", "user", "ok") not in backend.auths()
        assert raw.ask(then).startswith("250")


def test_faults_by_ordinal():
    with Backend(faults=["rcpt2:reply=450 4.2.1 second", "ehlo2:reply=502 5.5.1 once",
                         "rcpt3:reply=550 5.1.1 third@1"]) as backend, Raw(backend) as raw:
        raw.reply()
        assert [raw.ask("EHLO x")[:3] for _ in range(3)] == ["250", "502", "250"]
        for third in "550", "250":
            raw.ask("MAIL FROM:<>")
            codes = [raw.ask("RCPT TO:<b@example.com>")[:3] for _ in range(4)]
            assert codes == ["250", "450", third, "250"]
            raw.ask("RSET")


def test_faults_by_connection_and_transaction():
    with Backend(faults=["rcpt:reply=450 4.2.1 later@t2-2@c2+",
                         "mail:reply=451 4.3.0 twice@2@c3"]) as backend:
        seen = []
        for _ in range(4):
            with Raw(backend) as raw:
                raw.reply()
                raw.ask("EHLO x")
                for _ in range(3):
                    seen += [raw.ask("MAIL FROM:<>")[:3], raw.ask("RCPT TO:<b@example.com>")[:3]]
                    raw.ask("RSET")
        assert " ".join(seen) == ("451 503 451 503 250 250 "  # twice, among the first three
                                  "250 250 250 450 250 250 "
                                  "250 250 250 450 250 250 "
                                  "250 250 250 450 250 250")


def test_early_by_ordinal():
    with Backend(faults=["rcpt2:early"]) as backend, Raw(backend) as raw:
        raw.reply()
        raw.ask("EHLO x")
        raw.ask("MAIL FROM:<>")
        assert raw.ask("RCPT TO:<b@example.com>").startswith("250 2.1.5")
        assert raw.reply() == "250 2.0.0 Ok"
        raw.send(b"RCPT TO:<c@example.com>\r\n")
        assert raw.is_silent(0.05)


@pytest.mark.parametrize("end", ["dot", "rset"])
@tight
def test_idle_strikes_so_long_after_the_transaction(end):
    with Backend(faults=["idle:close:200@1"]) as backend:
        with Raw(backend) as raw:
            raw.envelope()
            if end == "dot":
                raw.data().ask("x\r\n.")
            else:
                raw.ask("RSET")
            begin = time.monotonic()
            assert raw.ask("NOOP").startswith("250")  # does not make it busy
            assert raw.ask("RSET").startswith("250")
            assert raw.rest() == b"421 4.4.2 Idle for too long\r\n"
            assert time.monotonic() - begin >= 0.15
        with Raw(backend) as raw:  # not when it never had a transaction, nor the second time
            raw.reply()
            assert raw.is_silent(0.3)
            raw.ask("EHLO x")
            raw.ask("MAIL FROM:<>")
            raw.ask("RSET")
            assert raw.is_silent(0.3)


@tight
def test_idle_does_not_strike_the_busy():
    with Backend(faults=["idle:close-before-reply:100"]) as backend, Raw(backend) as raw:
        raw.envelope().data().ask("x\r\n.")
        assert raw.ask("MAIL FROM:<>").startswith("250")
        assert raw.is_silent(0.2)
        raw.ask("RSET")
        assert raw.rest() == b""


def test_idle_at_once_comes_behind_the_last_reply():
    with Backend(faults=["idle:reply=421 4.3.2 bye:0"]) as backend, Raw(backend) as raw:
        raw.envelope().data()
        assert raw.ask("x\r\n.").startswith("250")
        assert raw.reply() == "421 4.3.2 bye"
        assert raw.ask("NOOP").startswith("250")


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
    """Unless we are so slow that all has come by then, which cannot be so each time."""
    def first_piece(backend):
        with Raw(backend) as raw:
            raw.buffer = first = raw.socket.recv(1000)
            while not raw.buffer.endswith(b"\n"):
                assert raw.fill()
            return first

    with Backend(faults=["banner:split"]) as backend:
        assert any(len(first_piece(backend)) < 10 for _ in range(100))


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
        assert not raw.buffer  # and nothing of what is delayed with it
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
