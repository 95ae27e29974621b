"""AUTH: a users file, a real Dovecot, real clients; and those who guess."""

import base64
import contextlib
import json
import os
import re
import signal
import smtplib
import socket
import subprocess
import threading
import time
from pathlib import Path

import gatepost as support
import pytest
from auth import (Scram, auth_login, auth_plain, auth_scram, encode, hash_password, oauthbearer,
                  plain, shapes, xoauth2)
from backend import Backend
from client import Client, Closed, proxy_v1
from dovecot import Dovecot
from gatepost import merge
from haproxy import HAProxy
from patience import tight, wait_until
from tls import Authority, joined, trusting, wrap

SENDER, ELSEWHERE = "alice@example.net", "somebody@elsewhere.example"
MX = "mx.example.net"
WRONG = "wrong-horse-battery-4711"
# Each long and like nothing else, so that it is found wherever it leaks to.
SECRETS = {
    "yves": "Yv3s-correct-horse-0815",
    "bea": "B3a-correct-staple-0816",
    "shane": "Sh4ne-correct-battery-0817",
    "scott": "Sc0tt-correct-donkey-0818",
    "both": "B0th-correct-mule-0819",
    "jörg": "Jörg-größer-als-0820",
    "a,b=c": "C0mma-equals-zebra-0821",
    "carol": "C4rol-dovecot-pony-0822",
    "dave": "D4ve-dovecot-pigeon-0823",
}
METHODS = {"yves": ["yescrypt"], "bea": ["bcrypt"], "shane": ["sha512"], "scott": ["scram"],
           "both": ["bcrypt", "scram"], "jörg": ["scram"], "a,b=c": ["scram"]}
DELAY_SECONDS = 0.2
LOOK_SECONDS = 60


# ---- Nothing of a secret is ever written

def assert_no_secrets(text, where, further=()):
    for secret in [*SECRETS.values(), WRONG, *further]:
        for shape in shapes(secret):
            assert shape not in text, f"{shape} in {where}: {text[max(0, text.find(shape) - 300):]}"


class Gatepost(support.Gatepost):
    """After whose end nothing of a password may be in what it wrote."""

    def wait_for_exit(self, *arguments):
        try:
            return super().wait_for_exit(*arguments)
        finally:
            self.look_for_secrets()

    def look_for_secrets(self):
        assert_no_secrets(self.log_text(), "the log")
        if self.trace_file.exists():
            assert_no_secrets(self.trace_file.read_text(errors="surrogateescape"), "the trace")
        assert_no_secrets(self.stderr, "stderr")


# ---- The parts

@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates")).make("mx", [MX])


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    path = tmp_path_factory.mktemp("users") / "users"
    path.write_text("# name:hash\n\n" + "".join(
        hash_password(name, SECRETS[name], method)
        for name, methods in METHODS.items() for method in methods)
        + hash_password("locked", SECRETS["yves"], "bcrypt").replace(":", ":!"))
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def backend():
    with Backend() as running:
        yield running


def secured(pair, mode="implicit"):
    return {"mode": mode, "certificate": str(pair.certificate), "key": str(pair.key)}


def listener(name, pair=None, mode="implicit", proxy="off", **auth):
    trusted = {"trusted_proxies": ["127.0.0.1"]} if proxy != "off" else {}
    return {"name": name, "bind": ["127.0.0.1:0"], "proxy": proxy, **trusted,
            "tls": secured(pair, mode) if pair else {"mode": "off"},
            "auth": {"failure_delay": f"{int(DELAY_SECONDS * 1000)}ms", "failures_per_client": 0,
                     "failures_per_user": 0, **auth}}


def configured(*listeners, **more):
    return merge({"listeners": list(listeners),
                  "limits": {"connections_per_client": 1000, "auth_failures": 3}}, more)


@pytest.fixture(scope="module")
def gatepost(backend, pair, users):
    file = {"users": str(users)}
    config = configured(
        listener("mx", pair, **file),
        listener("starttls", pair, "starttls", **file),
        listener("submission", pair, "starttls", required=True, **file),
        listener("clear", None, allow_plaintext=["127.0.0.5"], **file),
        listener("clear-starttls", pair, "starttls", allow_plaintext=["127.0.0.0/8"], **file),
        listener("clear-proxy", None, proxy="required", allow_plaintext=["198.51.100.0/24"],
                 **file),
        listener("some", pair, mechanisms=["LOGIN", "SCRAM-SHA-256"], **file),
        {"name": "none", "bind": ["127.0.0.1:0"], "proxy": "off", "tls": secured(pair)})
    with Gatepost(config, backend=backend) as running:
        yield running


@contextlib.contextmanager
def session(gatepost, name="mx", **options):
    """Under TLS where that is from the first byte; EHLO is said."""
    seen = len(gatepost.trace(count=0))
    with Client(("127.0.0.1", gatepost.port(name)), **options) as client:
        client.seen = seen
        mode = next(one["tls"]["mode"] for one in gatepost.config["listeners"]
                    if one["name"] == name)
        if mode == "implicit":
            wrap(client, trusting(), MX)
        client.hello()
        yield client


def offered(client):
    """Mechanisms in the reply to EHLO."""
    for line in client.command("EHLO client.example.net", 250).lines:
        if line.startswith("AUTH "):
            return line.split()[1:]
    return []


def latest(gatepost, client):
    """The trace of this client's session, which it ends."""
    port = client.port
    client.close()
    deadline = time.monotonic() + 30
    while True:
        # Ports are used again: what was in the trace before is somebody else's.
        found = [line for line in gatepost.trace(count=0)[client.seen:]
                 if line["remote"]["port"] == port]
        if found:
            return found[-1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def received(backend, uuid):
    return next(re.sub(rb"\r\n[ \t]+", b" ", message["body"]).decode("latin-1")
                for message in backend.messages()
                if f" id {uuid}\r\n".encode() in message["body"])


# ---- What is right

EXCHANGES = {
    "plain": (auth_plain, {}, "PLAIN"),
    "plain-later": (auth_plain, {"initial": False}, "PLAIN"),
    "login": (auth_login, {}, "LOGIN"),
    "login-initial": (auth_login, {"initial": True}, "LOGIN"),
    "scram": (auth_scram, {}, "SCRAM-SHA-256"),
    "scram-later": (auth_scram, {"initial": False}, "SCRAM-SHA-256"),
}


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("name", METHODS)
def test_right_password(gatepost, backend, name, exchange):
    """Each kind of hash with each mechanism that it can serve: mail to anywhere, and its marks."""
    act, options, mechanism = EXCHANGES[exchange]
    with session(gatepost) as client:
        client.command(f"MAIL FROM:<{SENDER}>", 250)
        client.command(f"RCPT TO:<{ELSEWHERE}>", 554)
        client.command("RSET", 250)
        reply = act(client, name, SECRETS[name], **options)
        if mechanism == "SCRAM-SHA-256" and "scram" not in METHODS[name]:
            assert reply.code == 535, reply
            return
        assert (reply.code, reply.enhanced) == (235, "2.7.0"), reply
        assert client.message(SENDER, [ELSEWHERE]).code == 250
        client.quit()
        line = latest(gatepost, client)
    assert line["auth"] == {"mechanism": mechanism, "user": name}
    assert line["relaying"] is True
    assert " with ESMTPSA id " in received(backend, line["transactions"][-1]["uuid"])
    # Who was it that sent this? The log is what an operator has.
    uuid = line["transactions"][-1]["uuid"]
    assert gatepost.wait_log("transaction", uuid=uuid)["user"] == name
    assert gatepost.wait_log("connection", uuid=line["uuid"])["user"] == name


def test_mechanisms_that_are_offered(gatepost):
    with session(gatepost) as client:
        words = offered(client)
        assert {"PLAIN", "LOGIN", "SCRAM-SHA-256"} <= set(words)
        assert set(words) <= {"PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"}
    with session(gatepost, "some") as client:
        assert offered(client) == ["LOGIN", "SCRAM-SHA-256"]
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 504
        assert auth_scram(client, "scott", SECRETS["scott"]).code == 235
    with session(gatepost, "none") as client:
        assert offered(client) == []
        assert client.command("AUTH PLAIN").code == 502


def test_case_of_mechanisms_and_verbs(gatepost):
    with session(gatepost) as client:
        assert client.command("auth plain " + plain("bea", SECRETS["bea"])).code == 235
        assert latest(gatepost, client)["auth"]["mechanism"] == "PLAIN"


def test_authorization_identity(gatepost):
    """That of the user, or none; nobody is somebody else."""
    with session(gatepost) as client:
        client.command("AUTH PLAIN " + plain("bea", SECRETS["bea"], "yves"), 535)
        client.command("AUTH PLAIN " + plain("bea", SECRETS["bea"], "bea"), 235)


def test_mail_goes_on_after_a_refusal_by_the_backend(gatepost, backend):
    """What was granted lasts for the connection, whatever becomes of one transaction."""
    with session(gatepost) as client:
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 235
        client.command(f"MAIL FROM:<{SENDER}>", 250)
        assert client.command(f"RCPT TO:<reject-x@{ELSEWHERE.partition('@')[2]}>").code == 550
        client.command("RSET", 250)
        assert client.message(SENDER, [ELSEWHERE]).code == 250
        assert client.command("AUTH PLAIN").code == 503
        assert latest(gatepost, client)["auth"]["user"] == "bea"


# ---- What is wrong

@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("name, password", [("bea", WRONG), ("scott", WRONG), ("nobody", WRONG),
                                            ("BEA", SECRETS["bea"]), ("locked", SECRETS["yves"]),
                                            ("bea", SECRETS["bea"] + "x"),
                                            ("bea", SECRETS["bea"][:-1]), ("yves", "x")])
def test_wrong_password(gatepost, name, password, exchange):
    """One answer for all, as late; the session goes on and has gained nothing."""
    act, options, mechanism = EXCHANGES[exchange]
    with session(gatepost) as client:
        started = time.monotonic()
        reply = act(client, name, password, **options)
        assert str(reply) == "535 5.7.8 Authentication credentials invalid"
        assert time.monotonic() - started >= DELAY_SECONDS * 0.9
        client.command(f"MAIL FROM:<{SENDER}>", 250)
        client.command(f"RCPT TO:<{ELSEWHERE}>", 554)
        line = latest(gatepost, client)
    assert line["auth"] is None and line["relaying"] is False
    log = gatepost.wait_log("auth_failed", uuid=line["uuid"])
    assert (log["mechanism"], log["result"], log["client"]) == (mechanism, "refused", "127.0.0.1")


MALFORMED = [
    # lines; codes that may answer the last one
    (["AUTH"], {501}), (["AUTH "], {501}), (["AUTH NOSUCH"], {504}), (["AUTH CRAM-MD5"], {504}),
    (["AUTH EXTERNAL ="], {504}), (["AUTH GSSAPI"], {504}), (["AUTH PLAIN-X"], {504}),
    (["AUTH OAUTHBEARER bixhPXg="], {504}), (["AUTH XOAUTH2 dXNlcj14"], {504}),
    (["AUTH " + "X" * 100], {501, 504}),
    (["AUTH PLAIN", "*"], {501}), (["AUTH LOGIN", "*"], {501}),
    (["AUTH LOGIN", encode("bea"), "*"], {501}),
    (["AUTH SCRAM-SHA-256", "*"], {501}), (["AUTH SCRAM-SHA-256 " + encode("n,,n=bea,r=abc"), "*"],
                                           {501}),
    (["AUTH PLAIN !!!"], {501}), (["AUTH PLAIN A"], {501}), (["AUTH PLAIN AG=EAYg="], {501}),
    (["AUTH PLAIN AGEAYg"], {501}), (["AUTH PLAIN AGEAYg=="  + " x"], {501}),
    (["AUTH PLAIN AGEA Yg=="], {501}), (["AUTH PLAIN AGEAYh=="], {501, 535}),
    (["AUTH PLAIN", "AGEAYg= ="], {501}), (["AUTH PLAIN", " AGEAYg=="], {501}),
    (["AUTH PLAIN", "AGE\tAYg=="], {501}), (["AUTH PLAIN", "\xff\xfe"], {501}),
    (["AUTH PLAIN ="], {501}), (["AUTH LOGIN ="], {501}), (["AUTH PLAIN", ""], {501, 535}), (["AUTH PLAIN", "="],
                                                                      {501, 535}),
    (["AUTH PLAIN " + encode("bea")], {501, 535}),
    (["AUTH PLAIN " + encode("\0bea")], {501, 535}),
    (["AUTH PLAIN " + encode("\0bea\0")], {501, 535}),
    (["AUTH PLAIN " + encode("\0\0" + WRONG)], {501, 535}),
    (["AUTH PLAIN " + encode("\0bea\0" + SECRETS["bea"] + "\0")], {501, 535}),
    (["AUTH PLAIN " + encode("\0bea\0" + SECRETS["bea"] + "\0x")], {501, 535}),
    (["AUTH PLAIN " + encode(b"\0bea\0\xff\xfe\xfd")], {501, 535}),
    (["AUTH PLAIN " + encode("\0" + "n" * 300 + "\0" + WRONG)], {501, 535}),
    (["AUTH PLAIN " + encode("\0bea\0" + "p" * 600)], {501, 535}),
    (["AUTH LOGIN", "="], {501, 535}), (["AUTH LOGIN", ""], {501, 535}),
    (["AUTH LOGIN", encode("bea"), ""], {501, 535}), (["AUTH LOGIN", encode("bea"), "="],
                                                      {501, 535}),
    (["AUTH LOGIN", encode("bea\0x")], {501, 535}),
    (["AUTH LOGIN " + encode("bea\0x")], {501, 535}),
    (["AUTH LOGIN", "!!!"], {501}), (["AUTH LOGIN !!!"], {501}),
    (["AUTH LOGIN", encode("bea"), "!!!"], {501}),
    (["AUTH LOGIN", encode("n" * 300)], {501, 535}),
    (["AUTH SCRAM-SHA-256 ="], {501}), (["AUTH SCRAM-SHA-256 " + encode("x")], {501, 535}),
    (["AUTH SCRAM-SHA-256 " + encode("n,,n=bea")], {501, 535}),
    (["AUTH SCRAM-SHA-256 " + encode("n,,m=x,n=bea,r=abc")], {501, 535}),
    (["AUTH SCRAM-SHA-256 " + encode("p=tls-unique,,n=bea,r=abc")], {501, 535}),
    (["AUTH SCRAM-SHA-256 " + encode("n,a=yves,n=bea,r=abc")], {501, 535}),
    (["AUTH SCRAM-SHA-256 " + encode("n,,n=b=ea,r=abc")], {501, 535}),
    (["AUTH SCRAM-SHA-256 " + encode("n,,n=scott,r=abc"), encode("c=biws,r=abc,p=AAAA")],
     {501, 535}),
    (["AUTH SCRAM-SHA-256 " + encode("n,,n=scott,r=abc"), "="], {501, 535}),
    (["AUTH SCRAM-SHA-256 " + encode("n,,n=scott,r=" + "r" * 2000)], {501, 535}),
    # Oversized: to the octet (RFC 4954 section 4: 12288 with the line end), and far beyond.
    (["AUTH PLAIN", "A" * 12284], {501, 535}), (["AUTH PLAIN", "A" * 12288], {500, 501}),
    (["AUTH PLAIN", "A" * 20000], {500, 501}), (["AUTH LOGIN", encode("bea"), "A" * 20000],
                                                {500, 501}),
    (["AUTH PLAIN " + "A" * 20000], {500, 501}),
]


@pytest.mark.parametrize("lines, codes", MALFORMED, ids=lambda value: repr(value)[:48])
def test_malformed(gatepost, lines, codes):
    """A refusal, and the dialogue is where it was: the next command is a command."""
    with session(gatepost) as client:
        for line in lines[:-1]:
            client.command(line, 334)
        reply = client.command(lines[-1])
        assert reply.code in codes, reply
        client.command("NOOP", 250)
        # It did not spoil what comes.
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 235
        assert client.command("AUTH PLAIN").code == 503


@pytest.mark.parametrize("size", [1, 100, 1000])
def test_exchange_in_pieces(gatepost, size):
    with session(gatepost) as client:
        client.send_pieces(b"AUTH LOGIN\r\n", size)
        client.expect(334)
        client.send_pieces(encode("bea").encode() + b"\r\n", size)
        client.expect(334)
        client.send_pieces(encode(SECRETS["bea"]).encode() + b"\r\n", size)
        client.expect(235)


def test_line_that_never_ends(gatepost):
    """It ends for us at some point, and costs no memory."""
    with session(gatepost) as client:
        client.command("AUTH PLAIN", 334)
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                client.send(b"A" * 10000)
        with contextlib.suppress(ConnectionError, Closed):
            assert client.reply().code in (421, 500, 501)


def test_order(gatepost):
    """RFC 4954 section 4: after EHLO, not in a transaction, not after a success."""
    message = plain("bea", SECRETS["bea"])
    with Client(("127.0.0.1", gatepost.port("mx"))) as client:
        wrap(client, trusting(), MX)
        client.expect(220)
        client.command("AUTH PLAIN " + message, 503)
        client.command("HELO client.example.net", 250)
        assert client.command("AUTH PLAIN " + message).code in (235, 503)
    with session(gatepost) as client:
        client.command(f"MAIL FROM:<{SENDER}>", 250)
        client.command("AUTH PLAIN " + message, 503)
        client.command("RCPT TO:<b@example.com>", 250)
        client.command("RSET", 250)
        client.command("AUTH PLAIN " + message, 235)
        client.command("AUTH PLAIN " + message, 503)
        client.command("EHLO client.example.net", 250)
        client.command("AUTH LOGIN", 503)


def test_exchange_without_waiting(gatepost, backend):
    """A client that sends its responses at once: whatever is answered, nothing of them is kept."""
    before = len(backend.envelopes())
    with session(gatepost) as client:
        client.send(f"AUTH LOGIN\r\n{encode('bea')}\r\n{encode(SECRETS['bea'])}\r\nNOOP\r\n")
        assert client.reply().code in (334, 501, 503, 554)
        with contextlib.suppress(Closed):
            while client.reply().code not in (235, 250, 421):
                pass
    with session(gatepost, "clear") as client:  # where AUTH is not for this client
        client.send(f"AUTH LOGIN\r\n{encode('bea')}\r\n{encode(SECRETS['bea'])}\r\nNOOP\r\n")
        assert client.reply().code == 538
        with contextlib.suppress(Closed):
            while client.reply().code != 250:
                pass
    assert len(backend.envelopes()) == before
    gatepost.look_for_secrets()


def test_commands_behind_auth(gatepost):
    """AUTH as the last of a group, and the first of one."""
    with session(gatepost) as client:
        client.send(f"NOOP\r\nAUTH PLAIN {plain('bea', SECRETS['bea'])}\r\nNOOP\r\nQUIT\r\n")
        codes = [reply.code for reply in client.replies()]
        assert codes[:2] == [250, 235] or codes[1] >= 500, codes


# ---- TLS

def test_not_without_tls(gatepost):
    with session(gatepost, "starttls") as client:
        assert offered(client) == []
        reply = client.command("AUTH PLAIN " + plain("bea", SECRETS["bea"]))
        assert (reply.code, reply.enhanced) == (538, "5.7.11")
        client.command("STARTTLS", 220)
        wrap(client, trusting(), MX)
        assert "PLAIN" in offered(client)
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 235


def test_plaintext_from_named_networks(gatepost, backend):
    with session(gatepost, "clear") as client:
        assert offered(client) == []
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 538
    with session(gatepost, "clear", source="127.0.0.5") as client:
        assert "PLAIN" in offered(client) and "SCRAM-SHA-256-PLUS" not in offered(client)
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 235
        assert client.message(SENDER, [ELSEWHERE]).code == 250
        line = latest(gatepost, client)
    assert line["tls"] is None
    assert " with ESMTPA id " in received(backend, line["transactions"][-1]["uuid"])


def test_plaintext_goes_by_the_client_not_by_the_balancer(gatepost):
    for source, codes in (("198.51.100.7", (235,)), ("192.0.2.7", (538,))):
        with Client(("127.0.0.1", gatepost.port("clear-proxy")),
                    header=proxy_v1((source, 1025))) as client:
            client.hello()
            assert auth_plain(client, "bea", SECRETS["bea"]).code in codes


def test_starttls_forgets_auth(gatepost):
    """What was granted before TLS is gone after it: it may have been somebody else's."""
    with session(gatepost, "clear-starttls") as client:
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 235
        reply = client.command("STARTTLS")
        if reply.code != 220:
            assert reply.code == 503
            return
        wrap(client, trusting(), MX)
        client.command("EHLO client.example.net", 250)
        client.command(f"MAIL FROM:<{SENDER}>", 250)
        client.command(f"RCPT TO:<{ELSEWHERE}>", 554)
        client.command("RSET", 250)
        assert auth_plain(client, "shane", SECRETS["shane"]).code == 235
        line = latest(gatepost, client)
    assert line["auth"]["user"] == "shane"


def test_starttls_inside_an_exchange(gatepost):
    """It is a response, and a wrong one."""
    with session(gatepost, "clear-starttls") as client:
        client.command("AUTH PLAIN", 334)
        assert client.command("STARTTLS").code == 501
        client.command("STARTTLS", 220)
        wrap(client, trusting(), MX)
        client.command("EHLO client.example.net", 250)


def test_required(gatepost):
    """Nothing is taken before: neither for our own domains nor from anywhere."""
    with session(gatepost, "submission") as client:
        reply = client.command(f"MAIL FROM:<{SENDER}>")
        assert (reply.code, reply.enhanced) == (530, "5.7.0")
        client.command("NOOP", 250)
        client.command("STARTTLS", 220)
        wrap(client, trusting(), MX)
        client.command("EHLO client.example.net", 250)
        reply = client.command(f"MAIL FROM:<{SENDER}>")
        assert (reply.code, reply.enhanced) == (530, "5.7.0")
        assert auth_plain(client, "bea", WRONG).code == 535
        client.command(f"MAIL FROM:<{SENDER}>", 530)
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 235
        assert client.message(SENDER, ["b@example.com", ELSEWHERE]).code == 250
        client.quit()


def test_behind_haproxy(backend, pair, users):
    """TLS ends there, and AUTH goes on here."""
    one = listener("mx", proxy="required", required=True, users=str(users))
    with Gatepost(configured(one), backend=backend) as gatepost, \
            HAProxy(("127.0.0.1", gatepost.port()),
                    "send-proxy-v2-ssl-cn proxy-v2-options authority",
                    bind=f"ssl crt {joined(pair)}") as haproxy:
        for act in (auth_plain, auth_login, auth_scram):
            with Client(haproxy.address) as client:
                wrap(client, trusting(), MX)
                client.hello()
                assert "SCRAM-SHA-256-PLUS" not in offered(client)  # the binding would be HAProxy's
                client.command(f"MAIL FROM:<{SENDER}>", 530)
                assert act(client, "both", SECRETS["both"]).code == 235
                assert client.message(SENDER, [ELSEWHERE]).code == 250
                client.quit()
        for line in gatepost.trace(count=3):
            assert line["tls"]["offloaded"] is True and line["auth"]["user"] == "both"
            assert " at balancer) by mx.example.net (gatepost) with ESMTPSA id " \
                in received(backend, line["transactions"][0]["uuid"])


# ---- Limits

def test_limit_of_a_connection(gatepost):
    with session(gatepost) as client:
        for _ in range(2):
            assert auth_plain(client, "bea", WRONG).code == 535
        assert auth_plain(client, "bea", WRONG).code == 535
        reply = client.reply()
        assert (reply.code, reply.enhanced) == (421, "4.7.0")
        assert client.is_ended()
        assert latest(gatepost, client)["ending"] == "auth_failures"


def limited(backend, users, pair, failure_delay="50ms", **auth):
    return Gatepost(configured(
        listener("mx", pair, users=str(users), failure_delay=failure_delay, **auth),
        limits={"auth_failures": 100}), backend=backend)


def fail(gatepost, name, source, times):
    with session(gatepost, source=source) as client:
        return [auth_plain(client, name, WRONG).code for _ in range(times)]


def succeed(gatepost, name, source):
    with session(gatepost, source=source) as client:
        return auth_plain(client, name, SECRETS[name]).code


@tight
def test_limit_of_a_client(backend, users, pair):
    """Across connections and users; others are not touched by it, and it passes."""
    with limited(backend, users, pair, failures_per_client=4, failure_window="3s") as gatepost:
        assert fail(gatepost, "bea", "127.0.0.2", 3) == [535] * 3
        assert succeed(gatepost, "bea", "127.0.0.2") == 235
        assert fail(gatepost, "nobody", "127.0.0.2", 3) == [535, 454, 454]
        # Even the right one is not looked at now.
        assert succeed(gatepost, "shane", "127.0.0.2") == 454
        assert succeed(gatepost, "bea", "127.0.0.3") == 235
        log = gatepost.wait_log("auth_limited")
        assert log["client"] == "127.0.0.2"
        # Written once a connection, whatever it tries; failures are all there for who counts them.
        assert len(gatepost.log_records("auth_limited")) == 2
        assert len(gatepost.log_records("auth_failed", client="127.0.0.2", result="refused")) == 4
        time.sleep(3.2)
        assert succeed(gatepost, "bea", "127.0.0.2") == 235


def test_limit_of_a_client_behind_a_balancer(backend, users, pair):
    """The client is the client, not the balancer."""
    one = listener("mx", pair, proxy="required", users=str(users), failure_delay="50ms",
                   failures_per_client=2)
    with Gatepost(configured(one), backend=backend) as gatepost:
        for source, codes in (("198.51.100.7", [535, 535]), ("198.51.100.8", [535, 535]),
                              ("198.51.100.7", [454])):
            with Client(("127.0.0.1", gatepost.port())) as client:
                wrap(client, trusting(), MX, before=proxy_v1((source, 1025)))
                client.hello()
                assert [auth_plain(client, "bea", WRONG).code for _ in codes] == codes


@tight
def test_limit_of_a_user(backend, users, pair):
    """Guessed at from many addresses: those that guess are put off, the user is not locked out."""
    with limited(backend, users, pair, failures_per_user=4, failure_window="4s") as gatepost:
        for number in range(4):
            assert fail(gatepost, "bea", f"127.0.0.{10 + number}", 1) == [535]
        # Who has failed as this user is not believed, not even the right password.
        assert succeed(gatepost, "bea", "127.0.0.10") == 454
        assert gatepost.wait_log("auth_limited")
        assert succeed(gatepost, "bea", "127.0.0.20") == 235
        # One try each is all that others have.
        assert fail(gatepost, "bea", "127.0.0.21", 3) == [535, 454, 454]
        assert succeed(gatepost, "shane", "127.0.0.10") == 235
        time.sleep(4.2)
        assert succeed(gatepost, "bea", "127.0.0.10") == 235


def last_replies_of_scram(gatepost, name, source, password):
    """The reply to the proof, without what follows a challenge."""
    with session(gatepost, source=source) as client:
        exchange = Scram(name, password)
        first = client.command(f"AUTH SCRAM-SHA-256 {encode(exchange.first)}", 334)
        return str(client.command(encode(exchange.final(base64.b64decode(first.text)))))


def test_scram_tells_nothing_of_a_user_who_is_put_off(backend, users, pair):
    """The server's signature would tell a guesser that the password is right."""
    with limited(backend, users, pair, failures_per_user=2) as gatepost:
        for number in range(20):
            fail(gatepost, "scott", f"127.0.0.{21 + number}", 1)
        told = {last_replies_of_scram(gatepost, "scott", f"127.0.0.{51 + number}", password)
                for number, password in enumerate((WRONG, SECRETS["scott"]))}
        assert len(told) == 1 and told.pop().startswith("454 ")


@pytest.mark.parametrize("password", [WRONG, SECRETS["bea"]])
def test_limit_of_a_client_does_not_tell_what_was_right(backend, users, pair, password):
    """A try that is put off counts for the client, also with the right password: else a guesser
    would see by when his limit comes whether the right one was among his guesses."""
    with limited(backend, users, pair, failures_per_user=1, failures_per_client=4) as gatepost:
        for number in range(10):
            fail(gatepost, "bea", f"127.0.0.{21 + number}", 1)
        for guess in (WRONG, password, WRONG, WRONG):
            with session(gatepost, source="127.0.0.51") as client:
                assert auth_plain(client, "bea", guess).code == 454
        with session(gatepost, source="127.0.0.51") as client:
            assert auth_plain(client, "shane", SECRETS["shane"]).code == 454


def test_honest_logins_pass_while_many_guess_at_that_user(backend, users, pair):
    """A brute force from very many addresses is closed out after ten times the limit; where the user
    has logged in from before, he still does."""
    with limited(backend, users, pair, failures_per_user=3) as gatepost:
        assert succeed(gatepost, "bea", "127.0.0.2") == 235
        codes = [fail(gatepost, "bea", f"127.0.1.{number}", 2) for number in range(1, 41)]
        assert codes.count([535, 535]) == 1  # the first two of three
        assert codes.count([535, 454]) == 28
        assert codes.count([454, 454]) == 11
        assert succeed(gatepost, "bea", "127.0.0.2") == 235
        assert succeed(gatepost, "bea", "127.0.0.3") == 454, "nobody knows that it is the user"
        assert fail(gatepost, "bea", "127.0.0.2", 1) == [535]
        assert succeed(gatepost, "bea", "127.0.0.2") == 235
        assert succeed(gatepost, "shane", "127.0.0.3") == 235


def test_failures_tell_who_was_tried(backend, users, pair):
    """As an operator wants to know whose password is guessed at."""
    with limited(backend, users, pair) as gatepost:
        fail(gatepost, "bea", "127.0.0.2", 1)
        assert gatepost.wait_log("auth_failed")["user"] == "bea"


class Attack:
    """Guesses by some threads, each with connections of its own, until it is left."""

    def __init__(self, gatepost, source, threads=6):
        self.codes = []
        self._gatepost, self._source = gatepost, source
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(i,), daemon=True)
                         for i in range(threads)]

    def _work(self, number):
        while not self._stop.is_set():
            with contextlib.suppress(OSError, AssertionError):
                with session(self._gatepost, source=self._source) as client:
                    while not self._stop.is_set():
                        self.codes.append(auth_plain(client, f"guess{number}", WRONG).code)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


@pytest.mark.parametrize("per_client", [0, 10])
def test_honest_logins_pass_while_one_guesses(backend, users, pair, per_client):
    with limited(backend, users, pair, failures_per_client=per_client) as gatepost:
        with Attack(gatepost, "127.0.0.66") as attack:
            wait_until(lambda: len(attack.codes) >= 20, 60)
            for name in ("bea", "shane", "scott", "yves"):
                started = time.monotonic()
                assert succeed(gatepost, name, "127.0.0.3") == 235
                assert time.monotonic() - started < 12
        assert 235 not in attack.codes
        if per_client:
            assert attack.codes.count(535) <= per_client + 6  # those under way at a time
        assert succeed(gatepost, "bea", "127.0.0.4") == 235


@tight
def test_the_loop_does_not_wait_for_passwords(backend, users, pair):
    """While many are checked, others are served as fast as ever."""
    with limited(backend, users, pair) as gatepost, Attack(gatepost, "127.0.0.66", 12) as attack:
        wait_until(lambda: len(attack.codes) >= 5, 60)
        slowest = 0
        with session(gatepost) as client:
            for _ in range(30):
                started = time.monotonic()
                client.command("NOOP", 250)
                slowest = max(slowest, time.monotonic() - started)
        assert slowest < 0.5


# Of crypt(3), for no password: a check takes a good part of a second.
DEAR_HASH = "$6$rounds=1000000$saltsaltsaltsalt$" + "x" * 86


def quickest_refusals(gatepost, *names, times=6, is_enough=lambda quickest: True):
    """Of so many tries, or of more: a busy machine makes some of them slow."""
    quickest, tries = {}, 0
    while tries < times or (tries < 10 * times and not is_enough(quickest)):
        tries += 1
        with session(gatepost) as client:
            for name in names:
                started = time.monotonic()
                assert auth_plain(client, name, WRONG).code == 535
                took = time.monotonic() - started
                quickest[name] = min(took, quickest.get(name, took))
    return quickest


def test_unknown_users_cost_the_same(backend, users, pair, tmp_path):
    """All hashes of one kind: the quickest of some tries are of a size."""
    path = tmp_path / "users"
    path.write_text(hash_password("shane", SECRETS["shane"], "sha512"))
    path.chmod(0o600)
    with limited(backend, path, pair, failure_delay="0ms") as gatepost:
        def are_of_a_size(quickest):
            return min(quickest.values()) > max(quickest.values()) * 0.6
        assert are_of_a_size(quickest_refusals(gatepost, "shane", "nobody", is_enough=are_of_a_size))
        assert not gatepost.log_records("config_notice")


def test_the_delay_hides_the_check(backend, pair, tmp_path):
    """A user with a dear hash among many with cheap ones was told from nobody by the time."""
    path = tmp_path / "users"
    path.write_text(f"dear:{DEAR_HASH}\n" + hash_password("bea", SECRETS["bea"], "bcrypt")
                    + hash_password("yves", SECRETS["yves"], "bcrypt"))
    path.chmod(0o600)
    with limited(backend, path, pair, failure_delay="0ms") as gatepost:
        quickest = quickest_refusals(gatepost, "dear", "nobody", times=2)
        assert quickest["dear"] > quickest["nobody"] + 0.2, "the hash is not dear enough to tell"
        assert "hashes are of 2 kinds or costs" in gatepost.wait_log("config_notice")["detail"]
    with limited(backend, path, pair, failure_delay="3s") as gatepost:
        def are_the_same(quickest):
            return abs(quickest["dear"] - quickest["nobody"]) < 0.1
        assert are_the_same(quickest_refusals(gatepost, "dear", "nobody", times=2, is_enough=are_the_same))


def test_client_that_goes_during_the_check(gatepost):
    """In the middle of a check, of a delay, of an exchange: nothing is left behind."""
    time.sleep(0.5)  # what was before is over
    before = gatepost.fds()
    for last in (None, plain("yves", SECRETS["yves"]), plain("yves", WRONG)):
        for wait in (0, 0.05, 0.2):
            with session(gatepost) as client:
                if last:
                    client.send(f"AUTH PLAIN {last}\r\n")
                else:
                    client.command("AUTH SCRAM-SHA-256 " + encode(Scram("scott", "").first), 334)
                time.sleep(wait)
    gatepost.wait_fds(before)
    with session(gatepost) as client:
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 235


# ---- The users file

def replace(path, text):
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def test_users_file_changes(backend, pair, tmp_path):
    """Read anew on HUP and by itself; a broken one is kept out, and its line is named."""
    path = tmp_path / "users"
    bea = hash_password("bea", SECRETS["bea"], "bcrypt")
    shane = hash_password("shane", SECRETS["shane"], "sha512")
    path.write_text(bea)
    with limited(backend, path, pair) as gatepost:
        def changed(event, text, hup=True):
            """The record of it, whether HUP or the look at all files every five seconds was first."""
            since = len(gatepost.log_records())
            if text is None:
                path.unlink()
            else:
                replace(path, text)
            if hup:
                gatepost.signal(signal.SIGHUP)
            return gatepost.wait_log(event, name="mx", kind="users", since=since, timeout=LOOK_SECONDS)

        assert succeed(gatepost, "bea", None) == 235
        assert succeed(gatepost, "shane", None) == 535
        with session(gatepost) as old:
            changed("files_read", shane, hup=False)
            assert succeed(gatepost, "shane", None) == 235
            assert succeed(gatepost, "bea", None) == 535
            assert auth_plain(old, "shane", SECRETS["shane"]).code == 235
        for broken in (shane + "bea:hash-of-nothing\n", shane + "no colon\n", shane + bea[:-20] + "\n",
                       shane + shane):
            kept = changed("files_kept", broken)
            assert f"{path}:2" in kept["error"]
            assert "hash-of-nothing" not in kept["error"]
            assert SECRETS["bea"] not in kept["error"] and bea[10:30] not in kept["error"]
            assert succeed(gatepost, "shane", None) == 235
        changed("files_kept", None)
        assert succeed(gatepost, "shane", None) == 235
        changed("files_read", bea + shane)
        assert succeed(gatepost, "bea", None) == 235
        since = len(gatepost.log_records())
        path.chmod(0o640)  # a mended permission is a change, too
        gatepost.wait_log("files_read", since=since, timeout=LOOK_SECONDS)


@pytest.mark.parametrize("text, said", [
    ("bea:hash-of-nothing\n", "users:1"), ("nobody\n", "users:1"), (None, "users"),
    (":$6$x$y\n", "users:1")])
def test_broken_users_file_at_start(pair, tmp_path, text, said):
    path = tmp_path / "users"
    if text:
        path.write_text(text)
    with pytest.raises(RuntimeError) as problem:
        with Gatepost(configured(listener("mx", pair, users=str(path)))):
            pass
    assert said in str(problem.value) and "hash-of-nothing" not in str(problem.value)


@pytest.mark.parametrize("auth", [
    {"required": True}, {"users": "/tmp/x", "sasl": "unix:/tmp/y"}, {"sasl": "/tmp/y"},
    {"sasl": "inet:localhost"}, {"users": "/tmp/x", "mechanisms": ["NOSUCH"]}])
def test_settings_that_cannot_work(pair, tmp_path, auth):
    path = tmp_path / "gatepost.yaml"
    one = listener("mx", pair, **auth)
    path.write_text(json.dumps({"hostname": MX, "listeners": [one],
                                "relay": {"domains": ["example.com"]},
                                "backends": [{"name": "mta", "servers": ["127.0.0.1:1"]}]}))
    done = support.run("-c", "-f", str(path))
    assert done.returncode != 0 and "auth" in done.stderr, done.stderr
    assert "Sanitizer" not in done.stderr


def children(pid):
    return [int(word) for word in
            Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@tight
def test_process_that_checks_dies(backend, users, pair):
    """Who waits gets a temporary refusal; the next are checked by a new one."""
    with limited(backend, users, pair) as gatepost:
        assert succeed(gatepost, "bea", None) == 235
        worker, = children(gatepost.pid)
        with session(gatepost) as client:
            os.kill(worker, signal.SIGSTOP)
            client.send(f"AUTH PLAIN {plain('bea', SECRETS['bea'])}\r\n")
            time.sleep(0.3)  # until it is asked; nothing tells
            os.kill(worker, signal.SIGKILL)
            assert client.reply().code == 454
            assert gatepost.wait_log("auth_service_failed")["service"] == "users"
            assert auth_plain(client, "bea", SECRETS["bea"]).code == 235
        assert children(gatepost.pid) != [worker]


def test_process_that_checks_ends_with_the_program(backend, users, pair):
    with limited(backend, users, pair) as gatepost:
        succeed(gatepost, "bea", None)
        worker, = children(gatepost.pid)
        assert len(os.listdir(f"/proc/{worker}/fd")) <= 6  # no client's socket
    wait_until(lambda: not Path(f"/proc/{worker}").exists())


# ---- Dovecot

@pytest.fixture(scope="module")
def dovecot():
    with Dovecot({name: SECRETS[name] for name in ("carol", "dave")}) as running:
        yield running


@contextlib.contextmanager
def asking(dovecot, backend, pair, wait=True, **auth):
    config = configured(listener("mx", pair, sasl=f"unix:{dovecot.socket}",
                                 **{"timeout": "10s", "failure_delay": "50ms", **auth}),
                        listener("clear", None, sasl=f"unix:{dovecot.socket}",
                                 allow_plaintext=["127.0.0.5"]))
    with Gatepost(config, backend=backend) as gatepost:
        if wait:
            wait_ready(gatepost)
        yield gatepost


def wait_ready(gatepost, times=1):
    """Until both listeners' services are connected, so many times over."""
    gatepost.wait_log("auth_service_ready", count=2 * times)


@pytest.fixture(scope="module")
def with_dovecot(dovecot, backend, pair):
    with asking(dovecot, backend, pair, timeout="10s") as gatepost:
        yield gatepost


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("name", ["carol", "dave"])
def test_dovecot_right(with_dovecot, backend, name, exchange):
    act, options, mechanism = EXCHANGES[exchange]
    with session(with_dovecot) as client:
        assert act(client, name, SECRETS[name], **options).code == 235
        assert client.message(SENDER, [ELSEWHERE]).code == 250
        line = latest(with_dovecot, client)
    assert line["auth"] == {"mechanism": mechanism, "user": name}
    assert " with ESMTPSA id " in received(backend, line["transactions"][-1]["uuid"])


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("name, password", [("carol", WRONG), ("nobody", WRONG),
                                            ("carol", SECRETS["dave"])])
def test_dovecot_wrong(with_dovecot, name, password, exchange):
    act, options, _ = EXCHANGES[exchange]
    with session(with_dovecot) as client:
        assert act(client, name, password, **options).code == 535
        assert latest(with_dovecot, client)["auth"] is None


def test_dovecot_mechanisms(with_dovecot):
    """What it told us, of what we know."""
    with session(with_dovecot) as client:
        assert set(offered(client)) == {"PLAIN", "LOGIN", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2"}
    with session(with_dovecot, "clear") as client:
        assert offered(client) == []


def test_dovecot_is_told_of_tls(with_dovecot, dovecot):
    """It refuses plaintext by itself; that we allow it for a network does not make it secured."""
    with session(with_dovecot, "clear", source="127.0.0.5") as client:
        assert auth_plain(client, "carol", SECRETS["carol"]).code in (235, 535)
        assert auth_scram(client, "carol", SECRETS["carol"]).code in (235, 503)


def test_dovecot_is_told_the_client(with_dovecot, dovecot):
    with session(with_dovecot, source="127.0.0.77") as client:
        assert auth_plain(client, "carol", WRONG).code == 535
    assert "carol,127.0.0.77" in dovecot.log()


@pytest.mark.parametrize("lines", [
    ["AUTH PLAIN", "*"], ["AUTH PLAIN !!!"], ["AUTH PLAIN " + encode("carol")],
    ["AUTH LOGIN", "*"], ["AUTH LOGIN", encode("carol"), "*"], ["AUTH LOGIN", "="],
    ["AUTH SCRAM-SHA-256", "*"], ["AUTH SCRAM-SHA-256 " + encode("n,,n=carol,r=abc"), "*"],
    ["AUTH SCRAM-SHA-256 " + encode("nonsense")], ["AUTH OAUTHBEARER " + encode("nonsense")],
    ["AUTH XOAUTH2 " + encode("nonsense")], ["AUTH PLAIN", "A" * 12284],
    ["AUTH PLAIN", "A" * 20000], ["AUTH PLAIN " + encode("\0carol\tx=y\0" + WRONG)],
    ["AUTH PLAIN " + encode("\0carol\nOK\t1\tuser=dave\0" + WRONG)]],
    ids=lambda lines: repr(lines)[:48])
def test_dovecot_malformed(with_dovecot, lines):
    with session(with_dovecot) as client:
        for line in lines[:-1]:
            client.command(line, 334)
        assert client.command(lines[-1]).code in (500, 501, 535)
        assert auth_plain(client, "carol", SECRETS["carol"]).code == 235
        assert latest(with_dovecot, client)["auth"]["user"] == "carol"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "XOAUTH2", "SCRAM-SHA-256"])
def test_dovecot_empty_initial_response(with_dovecot, mechanism):
    """Dovecot took it for none and asked for one, where a users file refused it."""
    with session(with_dovecot) as client:
        client.command(f"AUTH {mechanism} =", 501)
        assert auth_plain(client, "carol", SECRETS["carol"]).code == 235


@pytest.mark.parametrize("mechanism, message", [("XOAUTH2", xoauth2), ("OAUTHBEARER", oauthbearer)])
@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize("padding", [0, 5000])
def test_token(with_dovecot, dovecot, mechanism, message, initial, padding):
    """Handed on as it is, also where it is longer than a command may be."""
    token = dovecot.token("carol", padding)
    with session(with_dovecot) as client:
        if initial:
            reply = client.command(f"AUTH {mechanism} {message('carol', token)}")
        else:
            client.command(f"AUTH {mechanism}", 334)
            reply = client.command(message("carol", token))
        assert reply.code == 235, reply
        assert latest(with_dovecot, client)["auth"] == {"mechanism": mechanism, "user": "carol"}
    assert_no_secrets(with_dovecot.log_text(), "the log", [token[-40:], token[:60]])


@pytest.mark.parametrize("mechanism, message", [("XOAUTH2", xoauth2), ("OAUTHBEARER", oauthbearer)])
@pytest.mark.parametrize("token", ["expired", "of another key", "nonsense", "of another user"])
def test_wrong_token(with_dovecot, dovecot, mechanism, message, token):
    text = {"expired": lambda: dovecot.token("carol", seconds=-100),
            "of another key": lambda: dovecot.token("carol")[:-4] + "AAAA",
            "nonsense": lambda: "x.y.z",
            "of another user": lambda: dovecot.token("dave")}[token]()
    with session(with_dovecot) as client:
        reply = client.command(f"AUTH {mechanism} {message('carol', text)}")
        if reply.code == 334:
            # RFC 7628 section 3.2.2: what is wrong, in JSON; the client says that it has seen it.
            assert b"status" in base64.b64decode(reply.text)
            reply = client.command("AQ==")
        assert reply.code == 535, reply
        client.command("NOOP", 250)
        assert latest(with_dovecot, client)["auth"] is None


def test_dovecot_is_down_at_start(backend, pair):
    """No reason not to start: AUTH is not offered until it is there, and then it is."""
    dovecot = Dovecot({"carol": SECRETS["carol"]})
    try:
        with asking(dovecot, backend, pair, wait=False) as gatepost:
            gatepost.wait_log("auth_service_failed")
            with session(gatepost) as client:
                assert offered(client) == []
                assert client.message().code == 250
            dovecot.start()
            wait_ready(gatepost)
            with session(gatepost) as client:
                assert auth_plain(client, "carol", SECRETS["carol"]).code == 235
    finally:
        dovecot.__exit__()


def test_dovecot_is_killed_and_comes_back(backend, pair):
    with Dovecot({"carol": SECRETS["carol"]}) as dovecot, \
            asking(dovecot, backend, pair, timeout="20s") as gatepost:
        with session(gatepost) as client, session(gatepost) as other:
            client.command("AUTH LOGIN", 334)
            dovecot.kill()
            # The exchange was lost with it; its next line may find that out.
            reply = client.command(encode("carol"))
            assert reply.code == 454, reply
            # It is offered all the same: a client shall come back rather than give up.
            assert "PLAIN" in offered(other)
            for _ in range(5):
                assert auth_plain(other, "carol", SECRETS["carol"]).code == 454
            assert gatepost.wait_log("auth_service_failed")
            found = [one["uuid"] for one in gatepost.log_records("auth_failed", result="unavailable")]
            assert len(found) == len(set(found)) == 2
            dovecot.start()
            wait_ready(gatepost, 2)
            for one in (client, other):
                assert auth_plain(one, "carol", SECRETS["carol"]).code == 235


def test_dovecot_is_slow(backend, pair):
    """An answer that does not come in time is a temporary refusal; others are served meanwhile; a
    late one is nobody's."""
    with Dovecot({name: SECRETS[name] for name in ("carol", "dave")}) as dovecot, \
            asking(dovecot, backend, pair, timeout="1s") as gatepost:
        with session(gatepost) as client, session(gatepost) as other:
            dovecot.signal(signal.SIGSTOP)
            started = time.monotonic()
            client.send(f"AUTH PLAIN {plain('carol', SECRETS['carol'])}\r\n")
            other.command("NOOP", 250)
            assert client.reply().code == 454
            assert 0.8 < time.monotonic() - started
            dovecot.signal(signal.SIGCONT)
            deadline = time.monotonic() + 60
            while auth_plain(client, "dave", SECRETS["dave"]).code != 235:
                assert time.monotonic() < deadline
                time.sleep(0.3)
            assert latest(gatepost, client)["auth"]["user"] == "dave"


def test_client_that_goes_while_dovecot_is_asked(backend, pair):
    """Seen at once, not when Dovecot has had its time; its late answer is nobody's."""
    with Dovecot({"carol": SECRETS["carol"]}) as dovecot, \
            asking(dovecot, backend, pair, timeout="1m") as gatepost:
        dovecot.signal(signal.SIGSTOP)
        for count, way in enumerate(("close", "reset", "half_close"), 1):
            with session(gatepost) as client:
                client.send(f"AUTH PLAIN {plain('carol', SECRETS['carol'])}\r\n")
                assert client.is_silent(0.1)
                getattr(client, way)()
                gatepost.wait_log("connection", count=count)
        dovecot.signal(signal.SIGCONT)
        with session(gatepost) as client:
            assert auth_plain(client, "carol", SECRETS["carol"]).code == 235


@tight
def test_dovecot_delays_refusals(backend, pair):
    """As it does by default; an honest login on the same connection to it does not wait."""
    with Dovecot({"carol": SECRETS["carol"]}, failure_delay=2) as dovecot, \
            asking(dovecot, backend, pair, timeout="20s") as gatepost:
        with session(gatepost) as client, session(gatepost) as other:
            started = time.monotonic()
            client.send(f"AUTH PLAIN {plain('carol', WRONG)}\r\n")
            time.sleep(0.1)
            assert auth_plain(other, "carol", SECRETS["carol"]).code == 235
            assert time.monotonic() - started < 1
            assert client.reply().code == 535
            assert time.monotonic() - started > 1


def test_dovecot_on_the_network(backend, pair, dovecot):
    """`inet:` is the same by another way: here a relay to the socket."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def relay():
            connection, _ = listening.accept()
            with connection, socket.socket(socket.AF_UNIX) as to:
                to.connect(str(dovecot.socket))

                def copy(source, target):
                    with contextlib.suppress(OSError):
                        while data := source.recv(65536):
                            target.sendall(data)
                        target.shutdown(socket.SHUT_WR)
                back = threading.Thread(target=copy, args=(to, connection), daemon=True)
                back.start()
                copy(connection, to)
                back.join(5)
        threading.Thread(target=relay, daemon=True).start()
        address = f"inet:127.0.0.1:{listening.getsockname()[1]}"
        with Gatepost(configured(listener("mx", pair, sasl=address)), backend=backend) as gatepost:
            gatepost.wait_log("auth_service_ready")
            with session(gatepost) as client:
                assert auth_scram(client, "carol", SECRETS["carol"]).code == 235


# ---- Real clients

def run(*command, text=""):
    done = subprocess.run([str(word) for word in command], input=text, text=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("name, code", [("both", 0), ("nobody", 28)])
def test_swaks(gatepost, mechanism, name, code):
    got, said = run("swaks", "--server", "127.0.0.1", "--port", gatepost.port("submission"),
                    "--tls", "--auth", mechanism, "--auth-user", name, "--auth-password",
                    SECRETS["both"], "--from", SENDER, "--to", ELSEWHERE)
    assert got == code, said


@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256", "scram-sha-256-plus"])
def test_msmtp(gatepost, mechanism):
    command = ["msmtp", "--file=/dev/null", "--host=127.0.0.1",
               f"--port={gatepost.port('submission')}", "--tls=on", "--tls-certcheck=off",
               f"--auth={mechanism}", "--user=both", f"--from={SENDER}"]
    code, said = run(*command, f"--passwordeval=echo {SECRETS['both']}", "--", ELSEWHERE,
                     text="Subject: by msmtp\n\ntext\n")
    if mechanism == "scram-sha-256-plus" and "invalid argument" in said:
        pytest.skip(f"msmtp: {said.strip()}")
    assert code == 0, said
    code, said = run(*command, f"--passwordeval=echo {WRONG}", "--", ELSEWHERE,
                     text="Subject: by msmtp\n\ntext\n")
    assert code == 77, said  # EX_NOPERM


@pytest.mark.parametrize("mechanism, more", [
    ("SCRAM-SHA-256-PLUS", []), ("SCRAM-SHA-256", ["--no-cb"])])
def test_gsasl(gatepost, mechanism, more):
    """GNU SASL binds to the TLS connection by tls-exporter, by code that is not ours."""
    command = ["gsasl", "--smtp", f"--connect=127.0.0.1:{gatepost.port('submission')}",
               "--x509-ca-file=", f"--hostname={MX}", f"--mechanism={mechanism}",
               "--authentication-id=both", *more]
    seen = len(gatepost.trace(count=0))
    code, said = run(*command, f"--password={SECRETS['both']}")
    assert code == 0 and "235 2.7.0 " in said and "server trusted" in said, said
    wanted = {"mechanism": mechanism, "user": "both"}, "TLSv1.3", "[127.0.0.1]"
    wait_until(lambda: wanted in [  # lines of earlier sessions may still come
        (line["auth"], line["tls"] and line["tls"]["version"], line["hello"]["host"])
        for line in gatepost.trace(count=0)[seen:]])
    code, said = run(*command, f"--password={WRONG}")
    assert code != 0 and "535 5.7.8 " in said, said


def test_smtplib(gatepost):
    with smtplib.SMTP("127.0.0.1", gatepost.port("submission"), timeout=60) as client:
        client.starttls(context=trusting())
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("both", WRONG)
        client.login("both", SECRETS["both"])
        client.sendmail(SENDER, [ELSEWHERE], "Subject: x\n\ntext\n")


# ---- In the end

MAPPING_MAX = 1 << 30  # what is larger is the sanitizer's, and nearly all of it unused


def memory(pid):
    """All that the process may write to, as (name, bytes)."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            place, rights, *_ = line.split()
            start, end = (int(word, 16) for word in place.split("-"))
            if rights.startswith("rw") and end - start <= MAPPING_MAX:
                with contextlib.suppress(OSError):
                    mem.seek(start)
                    yield line.strip(), mem.read(end - start)


def leftovers(pid, texts):
    return [f"{text} at {data.find(text.encode())} of {name}" for name, data in memory(pid)
            for text in texts if text.encode() in data]


@pytest.mark.parametrize("is_tls", [True, False], ids=["tls", "plain"])
@pytest.mark.parametrize("service", ["users", "dovecot"])
def test_nothing_is_left_in_memory(request, backend, pair, service, is_tls):
    """Responses stayed in what a stream, TLS and the loop had read them into, for a core file or the
    next connection to find."""
    secret, unfinished = "L3ft-behind-in-memory-0830", "Unf1nished-line-in-memory-0831"
    text = encode(f"\0bea\0{unfinished}")
    asked = ({"users": str(request.getfixturevalue("users"))} if service == "users" else
             {"sasl": f"unix:{request.getfixturevalue('dovecot').socket}"})
    one = listener("mx", pair if is_tls else None, allow_plaintext=["127.0.0.0/8"], **asked)
    with Gatepost(configured(one), backend=backend) as gatepost:
        if service == "dovecot":
            gatepost.wait_log("auth_service_ready")
        with session(gatepost) as kept, session(gatepost) as gone:
            for exchange in (auth_plain, auth_login):
                assert exchange(gone, "bea", secret).code == 535
            assert auth_plain(kept, "bea", secret, initial=False).code == 535
            gone.send_pieces(f"AUTH PLAIN {text[:-4]}".encode(), size=9, delay=0.01)
            wait_until(lambda: leftovers(gatepost.pid, [text[:-4]]))
            gone.close()
            kept.command("NOOP", 250)
            looked_for = {shape for one in (secret, unfinished) for shape in shapes(one)}
            gatepost.wait_log("connection", ending="client_closed")
            kept.command("NOOP", 250)  # what is over is freed behind its record
            assert not leftovers(gatepost.pid, looked_for)
            for worker in children(gatepost.pid):
                assert not leftovers(worker, looked_for)


def test_secrets_would_be_found():
    """In plain, in a message of PLAIN, and as a response of LOGIN."""
    for secret in SECRETS.values():
        for text in (secret, plain("x", secret), plain("xy", secret), plain("xyz", secret),
                     encode(secret)):
            with pytest.raises(AssertionError):
                assert_no_secrets(f'{{"reply":"{text}"}}', "a test")


def test_nothing_was_written(gatepost, with_dovecot):
    """Each gatepost is looked through at its end as well; these two while they run."""
    for one in (gatepost, with_dovecot):
        assert one.log_records("auth_failed")
        one.look_for_secrets()
    text = gatepost.log_text() + gatepost.trace_file.read_text(errors="surrogateescape")
    for name, methods in METHODS.items():
        for method in methods:
            assert hash_password(name, SECRETS[name], method).strip().partition(":")[2] not in text


# ---- Which sender is whose

def sends(client, sender, recipient="b@example.com"):
    """The reply to RCPT, where the refusal of a sender is given; the transaction is over then."""
    client.command(f"MAIL FROM:<{sender}>", 250)
    reply = client.command(f"RCPT TO:<{recipient}>")
    client.command("RSET", 250)
    return reply


def test_sender_login(backend, pair, users, tmp_path):
    """Users and their senders, others who say them, a file that changes, a port for each case."""
    path = tmp_path / "senders"
    path.write_text("yves@example.net yves\nbea@example.net bea\n"
                    "@shared.example yves,\n  bea\nshane@shared.example shane\n")
    tied = {"users": str(users), "sender_login": str(path)}
    config = configured(
        listener("mx", pair, **tied),
        listener("lenient", pair, unlisted_senders="accept", **tied),
        {"name": "guarded", "bind": ["127.0.0.1:0"], "proxy": "off", "tls": {"mode": "off"},
         "plan": "guard",
         "auth": {"sender_login": str(path), "unauthenticated_senders": "reject"}},
        {"name": "free", "bind": ["127.0.0.1:0"], "proxy": "off", "tls": secured(pair),
         "auth": {"users": str(users)}},
        plans={"guard": {"mail": [{"sender_login": {"hold": False}}]}})
    with Gatepost(config, backend=backend) as gatepost:
        with session(gatepost) as client:
            assert sends(client, "bea@example.net").code == 250  # nobody yet
            assert auth_plain(client, "yves", SECRETS["yves"]).code == 235
            for sender in ("yves@example.net", "YVES+shop@example.net", "x@shared.example"):
                assert sends(client, sender, ELSEWHERE).code == 250
            assert sends(client, "", ELSEWHERE).code == 250
            for sender in ("bea@example.net", '"bea"@example.net', "shane@shared.example",
                           "yves@sub.shared.example", "yves@elsewhere.example"):
                reply = sends(client, sender, ELSEWHERE)
                assert (reply.code, reply.enhanced) == (553, "5.7.1")
                assert reply.text.endswith(
                    f"<{sender}>: Sender address rejected: not owned by user yves")
            record = gatepost.wait_log("reject", mail_from="bea@example.net")
            assert (record["check"], record["rcpt"]) == ("sender_login", ELSEWHERE)
            replace(path, "bea@example.net bea, yves\n")
            gatepost.signal(signal.SIGHUP)
            gatepost.wait_log("files_read", name="mx", kind="sender_login")
            assert sends(client, "bea@example.net").code == 250
            assert sends(client, "yves@example.net").code == 553
            replace(path, "yves@example.net yves\nexample.net bea\n")
            gatepost.signal(signal.SIGHUP)
            kept = gatepost.wait_log("files_kept", name="mx", kind="sender_login")
            assert f"{path}:2: " in kept["error"]
            assert sends(client, "bea@example.net").code == 250
        with session(gatepost, "lenient") as client:
            assert auth_plain(client, "shane", SECRETS["shane"]).code == 235
            assert sends(client, "shane@elsewhere.example").code == 250
            assert sends(client, "bea@example.net").code == 553
        with session(gatepost, "free") as client:
            assert auth_plain(client, "shane", SECRETS["shane"]).code == 235
            assert sends(client, "bea@example.net").code == 250
        with session(gatepost, "guarded") as client:
            reply = client.command("MAIL FROM:<bea@example.net>", 553)
            assert "not logged in" in reply.text
            assert sends(client, "somebody@elsewhere.example").code == 250
