"""Who a peer says that its client is: XCLIENT, XFORWARD and AUTH towards the test backend."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e" / "support"))
from backend import Backend  # noqa: E402
from raw import Raw  # noqa: E402

POSTFIX = ("PIPELINING,XCLIENT=NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT,"
           "XFORWARD=NAME ADDR PROTO HELO SOURCE PORT IDENT")


def hello(raw):
    """Says EHLO; returns the keywords."""
    raw.send(b"EHLO client.example\r\n")
    lines = [raw.line()]
    while lines[-1][3:4] == b"-":
        lines.append(raw.line())
    return [line[4:].split()[0].decode() for line in lines[1:]]


def mail(raw):
    for line in "MAIL FROM:<a@example.net>", "RCPT TO:<b@example.com>", "DATA", "x\r\n.":
        assert raw.ask(line)[0] in "23"


# ---- XCLIENT

def test_xclient_is_recorded_decoded_and_goes_back_to_the_banner():
    with Backend(extensions=POSTFIX) as backend, Raw(backend) as raw:
        raw.reply()
        assert "XCLIENT" in hello(raw)
        assert raw.ask("XCLIENT addr=IPV6:2001:db8::1 NAME=[UNAVAILABLE] HELO=a+2Bb+3Dc+20d+E9 "
                       "LOGIN=bob+2Btag@example.com PORT=4711") == "220 backend.example ESMTP"
        assert raw.ask("MAIL FROM:<a@example.net>").startswith("503")
        keywords = hello(raw)
        assert "XCLIENT" not in keywords and "XFORWARD" in keywords
        mail(raw)
        attributes = {"ADDR": "IPV6:2001:db8::1", "NAME": "[UNAVAILABLE]", "HELO": "a+b=c d\xe9",
                      "LOGIN": "bob+tag@example.com", "PORT": "4711"}
        assert backend.xclients() == [attributes]
        message, = backend.messages()
        assert message["xclient"] == attributes
        assert message["auth"] == {"mechanism": "XCLIENT", "user": "bob+tag@example.com"}
        assert message["xforward"] is None
        assert backend.violations() == []


def test_a_session_is_good_for_one_client():
    with Backend(extensions=POSTFIX) as backend, Raw(backend) as raw:
        raw.reply()
        assert raw.ask("XCLIENT HELO=x LOGIN=u").startswith("220")  # none was named yet
        assert raw.ask("XCLIENT ADDR=192.0.2.1").startswith("220")
        assert raw.ask("XCLIENT ADDR=192.0.2.2").startswith("550")
        hello(raw)
        mail(raw)
        message, = backend.messages()
        assert message["xclient"] == {"ADDR": "192.0.2.1"}
        assert message["auth"] is None  # what came before is forgotten
    with Backend("--xclient-again", extensions=POSTFIX) as backend, Raw(backend) as raw:
        raw.reply()
        for last in "1", "2":
            assert raw.ask("XCLIENT ADDR=192.0.2." + last).startswith("220")
            assert "XCLIENT" in hello(raw)
            mail(raw)
        assert [m["xclient"]["ADDR"] for m in backend.messages()] == ["192.0.2.1", "192.0.2.2"]


@pytest.mark.parametrize("line, code", [
    ("XCLIENT", "501"), ("XCLIENT ADDR", "501"), ("XCLIENT ADDR=", "501"),
    ("XCLIENT SESSION=x", "501"), ("XCLIENT ADDR=2001:db8::1", "501"),
    ("XCLIENT ADDR=[192.0.2.1]", "501"), ("XCLIENT ADDR=IPV6:192.0.2.1", "501"),
    ("XCLIENT PORT=65536", "501"), ("XCLIENT PORT=[UNAVAILABLE]", "220"),
    ("XCLIENT PROTO=LMTP", "501"), ("XCLIENT PROTO=ESMTP", "220"),
    ("XCLIENT HELO=a=b", "501"), ("XCLIENT HELO=a+2b", "501"), ("XCLIENT HELO=a+2", "501"),
    ("XCLIENT HELO=\xe9", "501"), ("XCLIENT HELO=" + "x" * 256, "501"),
    ("XCLIENT HELO=" + "x" * 255, "220"), ("XCLIENT HELO=" + "+20" * 85, "220"),
    ("XFORWARD", "501"), ("XFORWARD SOURCE=ELSEWHERE", "501"), ("XFORWARD SOURCE=REMOTE", "250"),
    ("XFORWARD PROTO=" + "x" * 64, "250"), ("XFORWARD PROTO=" + "x" * 65, "501"),
    ("XFORWARD LOGIN=x", "501"), ("XFORWARD ADDR=[UNAVAILABLE] IDENT=1 NAME=a.example", "250"),
])
def test_attributes(line, code):
    with Backend(extensions=POSTFIX) as backend, Raw(backend) as raw:
        raw.reply()
        hello(raw)
        assert raw.ask(line).startswith(code)


@pytest.mark.parametrize("verb", ["XCLIENT", "XFORWARD"])
def test_identity_is_not_for_inside_a_transaction(verb):
    with Backend(extensions=POSTFIX) as backend, Raw(backend) as raw:
        raw.reply()
        hello(raw)
        raw.ask("MAIL FROM:<>")
        assert raw.ask(f"{verb} ADDR=192.0.2.1").startswith("503")
        assert raw.ask("RSET").startswith("250")
        assert raw.ask(f"{verb} ADDR=192.0.2.1 NAME={'x' * 250} HELO={'x' * 250}")[0] == "2"
        assert [v["what"] for v in backend.violations()] == ["more than 512 bytes of attributes"]
    with Backend() as backend, Raw(backend) as raw:
        raw.reply()
        hello(raw)
        assert raw.ask(f"{verb} ADDR=192.0.2.1").startswith("502")


@pytest.mark.parametrize("faults", [[], ["xclient:delay=100"]])
def test_bytes_behind_xclient_are_a_violation(faults):
    with Backend(extensions=POSTFIX, faults=faults) as backend, Raw(backend) as raw:
        raw.reply()
        hello(raw)
        raw.send(b"XCLIENT ADDR=192.0.2.1\r\n")
        if faults:  # they come while the reply is held back
            backend.wait_for("xclient")
        raw.send(b"EHLO client.example\r\n")
        assert raw.reply().startswith("220")
        raw.reply()
        if faults:
            assert [v["what"] for v in backend.violations()] == ["bytes while a reply was due"]
    with Backend(extensions=POSTFIX) as backend, Raw(backend) as raw:
        raw.reply()
        hello(raw)
        raw.send(b"XCLIENT ADDR=192.0.2.1\r\nEHLO client.example\r\n")
        raw.reply(), raw.reply()
        assert [v["what"] for v in backend.violations()] == ["XCLIENT"]


# ---- XFORWARD

def test_xforward_adds_up_and_ends_with_the_transaction():
    with Backend(extensions=POSTFIX) as backend, Raw(backend) as raw:
        raw.reply()
        hello(raw)
        raw.send(b"XFORWARD ADDR=192.0.2.1 HELO=x\r\nXFORWARD HELO=y+20z IDENT=A1\r\n"
                 b"MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
        assert [raw.reply()[:3] for _ in range(5)] == ["250", "250", "250", "250", "354"]
        raw.ask("x\r\n.")
        mail(raw)
        raw.ask("XFORWARD ADDR=192.0.2.3")
        raw.ask("RSET")
        mail(raw)
        assert backend.xforwards() == [{"ADDR": "192.0.2.1", "HELO": "y z", "IDENT": "A1"},
                                       None, None]
        assert backend.violations() == []
