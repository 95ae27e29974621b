"""A real Postfix behind: what it learns of the client, and what its answers become."""

import contextlib
import re

import pytest
from client import Client, proxy_v1
from gatepost import Gatepost
from haproxy import HAProxy
from postfix import Postfix

CLIENT = ("198.51.100.7", 40007)
UNKNOWN_USER = "550 5.1.1 <nobody@example.com>: Recipient address rejected: " \
    "User unknown in virtual mailbox table"


@pytest.fixture(scope="module")
def postfix():
    with Postfix(users=["bob", "carol"]) as running:
        yield running


@contextlib.contextmanager
def edge(postfix, identity="none", config=None, **backend):
    """HAProxy, which believes the header that our clients send, and gatepost."""
    port = postfix.port if identity == "none" else postfix.proxy_port
    mta = {"name": "mta", "servers": [f"127.0.0.1:{port}"], "identity": identity, **backend}
    with Gatepost({"backends": [mta], **(config or {})}, proxy="required") as gatepost, \
            HAProxy(gatepost.address, bind="accept-proxy") as haproxy:
        yield gatepost, haproxy


def connect(haproxy, client=CLIENT):
    return Client(haproxy.address, proxy_v1(client))


def queue_id(reply):
    """Postfix names the message in its last reply, which the client gets as it is."""
    return re.search(r"queued as (\w+)", reply.text).group(1)


# ---- Who the client is

@pytest.mark.parametrize("identity, seen", [("none", "127.0.0.1"), ("proxy-v1", CLIENT[0]),
                                            ("proxy-v2", CLIENT[0])])
def test_postfix_logs_the_client(postfix, identity, seen):
    with edge(postfix, identity) as (gatepost, haproxy), connect(haproxy) as client:
        client.hello()
        reply = client.message("alice@example.net", ["bob@example.com"])
        assert reply.code == 250 and reply.enhanced == "2.0.0"
        client.quit()
        queued = queue_id(reply)
        service = "postfix/smtpd" if identity == "none" else "postfix/proxied/smtpd"
        line, = postfix.wait_log(f"{queued}: client=")
        assert f"{service}[" in line and f"client=unknown[{seen}]" in line
        message, = postfix.wait_mail("bob")
        assert f"unknown [{seen}])\n\tby mta.example.com (Postfix)".encode() in message
        assert f"unknown [{CLIENT[0]}])\n\tby mx.example.net (gatepost)".encode() in message
        transaction, = gatepost.trace()[0]["transactions"]
        assert transaction["server"] == gatepost.config["backends"][0]["servers"][0]
        assert queued in transaction["reply"]
    assert postfix.trouble() == []


def test_each_client_is_announced_as_itself(postfix):
    """Several clients at once: nobody gets a connection that was opened for another."""
    addresses = [f"198.51.100.{n}" for n in range(10, 20)]
    with edge(postfix, "proxy-v2") as (_, haproxy), contextlib.ExitStack() as stack:
        clients = {address: stack.enter_context(connect(haproxy, (address, 1025)))
                   for address in addresses}
        for client in clients.values():
            client.hello()
            client.envelope("alice@example.net", ["bob@example.com"])
        for address, client in reversed(clients.items()):
            queued = queue_id(client.data())
            line, = postfix.wait_log(f"{queued}: client=")
            assert f"client=unknown[{address}]" in line
            client.quit()
        postfix.wait_mail("bob", count=len(addresses))
    assert postfix.trouble() == []


@pytest.mark.parametrize("hello, seen", [("own", "mx.example.net"), ("client", "client.example.net")])
def test_hello(postfix, hello, seen):
    with edge(postfix, hello=hello) as (_, haproxy), connect(haproxy) as client:
        client.hello()
        queued = queue_id(client.message("alice@example.net", ["bob@example.com"]))
        client.quit()
        message, = postfix.wait_mail("bob")
        assert f"Received: from {seen} (unknown [127.0.0.1])\n\tby mta.".encode() in message
        assert queued.encode() in message


# ---- What is offered, and what is refused

def test_offers_what_postfix_offers(postfix):
    """SIZE is the smaller one; of what only Postfix knows (VRFY, ETRN, CHUNKING) nothing is said."""
    with edge(postfix) as (_, haproxy), connect(haproxy) as client:
        words = [line.split()[0] for line in client.hello().lines[1:]]
        assert sorted(words) == sorted(["SIZE", "PIPELINING", "8BITMIME", "SMTPUTF8", "DSN",
                                        "ENHANCEDSTATUSCODES", "LIMITS"])
        assert "SIZE 26214400" in client.command("EHLO client.example.net", 250).lines
        client.quit()


@pytest.mark.parametrize("identity", ["none", "proxy-v2"])
def test_unknown_user_is_refused_during_the_dialogue(postfix, identity):
    with edge(postfix, identity) as (gatepost, haproxy), connect(haproxy) as client:
        client.hello()
        client.command("MAIL FROM:<alice@example.net>", 250)
        client.command("RCPT TO:<bob@example.com>", 250)
        assert str(client.command("RCPT TO:<nobody@example.com>", 550)) == UNKNOWN_USER
        client.command("RCPT TO:<carol@example.com>", 250)
        assert client.data(b"Subject: two of three\r\n\r\ntext\r\n").code == 250
        client.quit()
        for user in ("bob", "carol"):
            message, = postfix.wait_mail(user)
            assert b"Subject: two of three\n" in message
        reject, = gatepost.log_records("reject")
        assert reject["rcpt"] == "nobody@example.com"
        assert reject["reply"] == UNKNOWN_USER
        assert reject["client"] == CLIENT[0]
        trace, = gatepost.trace()
        assert trace["transactions"][0]["rcpt_count"] == {"accept": 2, "tempfail": 0, "reject": 1}
    assert postfix.trouble() == []


def test_no_valid_recipient_no_message(postfix):
    with edge(postfix) as (gatepost, haproxy), connect(haproxy) as client:
        client.hello()
        client.command("MAIL FROM:<alice@example.net>", 250)
        client.command("RCPT TO:<nobody@example.com>", 550)
        assert client.command("DATA").code == 554
        client.command("MAIL FROM:<alice@example.net>")  # whatever it says, the session goes on
        client.command("RSET", 250)
        assert client.message("alice@example.net", ["bob@example.com"]).code == 250
        client.quit()
        postfix.wait_mail("bob")
        outcomes = [one["outcome"] for one in gatepost.trace()[0]["transactions"]]
        assert outcomes[-1] == "accepted" and "accepted" not in outcomes[:-1]


def test_postfix_refuses_to_relay_for_us(postfix):
    """A domain that we take mail for, and Postfix does not: our mistake, so the client keeps it."""
    config = {"relay": {"domains": ["example.com", "example.org"]}}
    with edge(postfix, "proxy-v2", config) as (gatepost, haproxy), connect(haproxy) as client:
        client.hello()
        client.command("MAIL FROM:<alice@example.net>", 250)
        assert client.command("RCPT TO:<x@example.org>").code == 451
        client.quit()
        blame = gatepost.wait_log("backend_blames_us")
        assert "Relay access denied" in blame["reply"]
        assert blame["level"] == "error"


def test_parameters_arrive(postfix):
    """What the sender asked for (NOTIFY, RET, ENVID, ORCPT) is in Postfix's report to it."""
    with edge(postfix) as (_, haproxy), connect(haproxy) as client:
        client.hello()
        client.command("MAIL FROM:<carol@example.com> SIZE=500 BODY=8BITMIME RET=HDRS "
                       "ENVID=envelope+2B4711", 250)
        client.command("RCPT TO:<bob@example.com> NOTIFY=SUCCESS,FAILURE "
                       "ORCPT=rfc822;list@example.net", 250)
        reply = client.data("Subject: x\r\n\r\nGr\xfc\xdfe\r\n".encode("latin-1"))
        assert reply.code == 250
        client.quit()
        postfix.wait_mail("bob")
        report, = postfix.wait_mail("carol")
        assert b"Original-Envelope-Id: envelope+4711\n" in report
        assert b"Original-Recipient: rfc822;list@example.net\n" in report
        assert b"Content-Type: text/rfc822-headers\n" in report
        assert "Gr\xfc\xdfe".encode("latin-1") not in report


def test_utf8_addresses(postfix):
    with edge(postfix) as (_, haproxy), connect(haproxy) as client:
        client.hello()
        client.command("MAIL FROM:<grüße@example.net> SMTPUTF8".encode(), 250)
        client.command("RCPT TO:<bob@example.com>", 250)
        assert client.data("Subject: grüße\r\n\r\ntext\r\n".encode()).code == 250
        client.quit()
        message, = postfix.wait_mail("bob")
        assert "Return-Path: <grüße@example.net>\n".encode() in message


# ---- When Postfix goes, and comes back

def test_postfix_is_not_there():
    with Gatepost(backend="127.0.0.1:1", proxy="required") as gatepost, \
            HAProxy(gatepost.address) as haproxy, Client(haproxy.address) as client:
        client.hello()
        client.command("MAIL FROM:<alice@example.net>", 250)
        reply = client.command("RCPT TO:<bob@example.com>")
        assert reply.code == 451
        client.quit()
        assert gatepost.wait_log("backend_failed")["server"] == "127.0.0.1:1"


def test_second_server_takes_over(postfix):
    """The first server of the backend is nowhere: Postfix gets the message in the same transaction."""
    mta = {"name": "mta", "servers": ["127.0.0.1:1", f"127.0.0.1:{postfix.port}"]}
    with Gatepost({"backends": [mta]}, proxy="required") as gatepost, \
            HAProxy(gatepost.address) as haproxy, Client(haproxy.address) as client:
        client.hello()
        assert client.message("alice@example.net", ["bob@example.com"]).code == 250
        client.quit()
        postfix.wait_mail("bob")
        assert gatepost.trace()[0]["transactions"][0]["server"] == f"127.0.0.1:{postfix.port}"
