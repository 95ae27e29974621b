"""Who a peer says that its client is: XCLIENT, XFORWARD and AUTH towards the test backend."""

import base64
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e" / "support"))
from auth import Scram, encode  # noqa: E402
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


# ---- AUTH

USER, PASSWORD = "user@example.com", "se:c,r=et"


def exchange(raw, mechanism, password=PASSWORD, initial=True, user=USER):
    """An AUTH to its end; returns the last reply."""
    scram = Scram(user, password)
    answers = {
        "PLAIN": [lambda challenge: f"\0{user}\0{password}"],
        "LOGIN": [lambda challenge: user, lambda challenge: password],
        "SCRAM-SHA-256": [lambda challenge: scram.first, scram.final,
                          lambda challenge: "" if scram.server_is_right(challenge) else "wrong"],
    }[mechanism]
    if initial:
        reply = raw.ask(f"AUTH {mechanism} {encode(answers.pop(0)(b''))}")
    else:
        reply = raw.ask(f"AUTH {mechanism}")
    for answer in answers:
        if not reply.startswith("334"):
            break
        reply = raw.ask(encode(answer(base64.b64decode(reply[4:]))))
    return reply


@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
def test_auth(mechanism, initial):
    with Backend(auth=(USER, PASSWORD), auth_required=True) as backend, Raw(backend) as raw:
        raw.reply()
        assert "AUTH" in hello(raw)
        assert raw.ask("MAIL FROM:<a@example.net>").startswith("530 5.7.0")
        assert exchange(raw, mechanism, "wrong", initial).startswith("535 5.7.8")
        assert exchange(raw, mechanism, PASSWORD, initial, "other").startswith("535 5.7.8")
        assert raw.ask("MAIL FROM:<a@example.net>").startswith("530 5.7.0")
        assert exchange(raw, mechanism, PASSWORD, initial).startswith("235 2.7.0")
        assert exchange(raw, mechanism, PASSWORD, initial).startswith("503")
        mail(raw)
        assert backend.auths() == [(mechanism, USER, "refused"), (mechanism, "other", "refused"),
                                   (mechanism, USER, "ok")]
        assert backend.messages()[0]["auth"] == {"mechanism": mechanism, "user": USER}
        assert backend.violations() == []
        text = backend.record.read_text()
        for secret in PASSWORD, encode(PASSWORD), encode(f"\0{USER}\0{PASSWORD}"):
            assert secret not in text
        assert set(backend.commands("AUTH")) == {f"AUTH {mechanism}"}


@pytest.mark.parametrize("lines, codes, outcome", [
    (["AUTH PLAIN", "*"], ["334", "501"], "cancelled"),
    (["AUTH PLAIN", "no base64"], ["334", "501"], "malformed"),
    (["AUTH PLAIN ="], ["535"], "refused"),
    (["AUTH SCRAM-SHA-256 " + base64.b64encode(b"p=tls-unique,,n=u,r=x").decode()], ["535"], "refused"),
    (["AUTH SCRAM-SHA-256 " + base64.b64encode(b"n,,n=u=,r=x").decode()], ["535"], "refused"),
    (["AUTH PLAIN", "x" * 13000], ["334", "500"], "malformed"),
    (["AUTH CRAM-MD5"], ["504"], None), (["AUTH"], ["504"], None),
    (["MAIL FROM:<>", "AUTH PLAIN"], ["250", "503"], None),
])
def test_auth_that_goes_wrong(lines, codes, outcome):
    with Backend(auth=(USER, PASSWORD)) as backend, Raw(backend) as raw:
        raw.reply()
        assert raw.ask("AUTH PLAIN").startswith("503")
        hello(raw)
        assert [raw.ask(line)[:3] for line in lines] == codes
        assert [auth[2] for auth in backend.auths()] == ([outcome] if outcome else [])


def test_auth_offers_what_it_is_told():
    with Backend(auth=(USER, PASSWORD), extensions="AUTH=LOGIN") as backend, Raw(backend) as raw:
        raw.reply()
        assert raw.ask("EHLO x") == "250 AUTH LOGIN"
        assert raw.ask("AUTH PLAIN").startswith("504")
        assert exchange(raw, "LOGIN").startswith("235")
        assert raw.ask("MAIL FROM:<a@example.net> AUTH=<>").startswith("250")
    with Backend() as backend, Raw(backend) as raw:
        raw.reply()
        hello(raw)
        assert raw.ask("AUTH PLAIN").startswith("502")


@pytest.mark.parametrize("fault, code", [("auth3:reply=454 4.7.0 later", "454"),
                                         ("auth2:reply=535 5.7.8 no", "535")])
def test_faults_within_auth(fault, code):
    with Backend(auth=(USER, PASSWORD), faults=[fault]) as backend, Raw(backend) as raw:
        raw.reply()
        hello(raw)
        assert exchange(raw, "SCRAM-SHA-256").startswith(code)
        assert backend.auths() == [("SCRAM-SHA-256", USER, "fault")]
