"""A real Exim behind: PROXY headers as it takes them, its verdicts, and its mail in chunks."""

import contextlib
import re

import exim as support
import pytest
from client import Client, TLV_AUTHORITY, TLV_UNIQUE_ID, proxy_v1, proxy_v2, tlv
from exim import Exim
from gatepost import NOWHERE, Gatepost, merge

CLIENT, CLIENT6 = ("198.51.100.7", 40007), ("2001:db8::7", 40007)
SERVER, SERVER6 = ("203.0.113.25", 25), ("2001:db8::25", 25)
UNWANTED, UNWANTED_AT_ALL = ("198.51.100.66", 40066), ("198.51.100.67", 40067)
TLVS = ["authority", "unique-id", "ssl", "crc32c"]

pytestmark = pytest.mark.skipif(
    support.folder() is None,
    reason="Exim is not unpacked: EXIM names no folder with usr/sbin/exim4 (test/run makes it)")


@pytest.fixture(scope="module")
def exim():
    with Exim() as running:
        yield running
        assert running.trouble() == ""


@contextlib.contextmanager
def edge(exim, identity="proxy-v2", servers=None, config=None, **backend):
    port = exim.port if identity == "none" else exim.proxy_port
    mta = {"name": "mta", "servers": servers or [f"127.0.0.1:{port}"], "identity": identity,
           **backend}
    with Gatepost(merge({"backends": [mta]}, config or {}), proxy="required") as gatepost:
        yield gatepost


@contextlib.contextmanager
def session(gatepost, client=CLIENT, header=None):
    server = SERVER6 if ":" in client[0] else SERVER
    with Client(gatepost.address, header or proxy_v1(client, server)) as connection:
        connection.hello()
        yield connection
        connection.quit()


def queue_id(reply):
    """As Exim names the message in its last reply, which the client gets as it is."""
    assert reply.code == 250, reply
    return re.search(r"OK id=([\w-]+)", reply.text).group(1)


def arrival(exim, queued):
    line, = exim.wait_log(f"{queued} <= ")
    return line


def deliver(gatepost, client=CLIENT, header=None):
    with session(gatepost, client, header) as connection:
        return queue_id(connection.message("alice@example.net", ["bob@example.com"]))


# ---- Who the client is

@pytest.mark.parametrize("identity, tlvs", [("proxy-v1", []), ("proxy-v2", []),
                                            ("proxy-v2", TLVS)])
@pytest.mark.parametrize("client", [CLIENT, CLIENT6], ids=["ipv4", "ipv6"])
def test_client_is_the_client(exim, identity, tlvs, client):
    with edge(exim, identity, proxy_tlvs=tlvs) as gatepost:
        line = arrival(exim, deliver(gatepost, client))
        assert f"[{client[0]}]:{client[1]} " in line and " PRX=127.0.0.1 " in line
        message, = exim.wait_mail()
        assert f"Received: from [{client[0]}] (port={client[1]} helo=mx.example.net)" \
            .encode() in message


@pytest.mark.parametrize("client", [CLIENT, CLIENT6], ids=["ipv4", "ipv6"])
def test_header_with_more_to_say_than_exim_takes(exim, client):
    """It takes 232 bytes, and reads what is behind as SMTP: TLVs that do not fit are left out."""
    ssl = bytes([1, 0, 0, 0, 0]) + tlv(0x21, b"TLSv1.3") + tlv(0x23, b"TLS_AES_256_GCM_SHA384") \
        + tlv(0x22, b"c" * 60)
    header = proxy_v2(client, SERVER6 if ":" in client[0] else SERVER, tlvs=[
        tlv(TLV_AUTHORITY, b"a" * 60 + b"." + b"b" * 60 + b".example"),
        tlv(TLV_UNIQUE_ID, b"u" * 60), tlv(0x20, ssl)])
    with edge(exim, proxy_tlvs=TLVS) as gatepost:
        assert f"[{client[0]}]:{client[1]} " in arrival(exim, deliver(gatepost, client, header))
        exim.wait_mail()


def test_without_identity_the_client_is_us(exim):
    with edge(exim, "none") as gatepost:
        line = arrival(exim, deliver(gatepost))
        assert " [127.0.0.1]:" in line and "PRX=" not in line
        exim.wait_mail()


def test_probe_of_a_proxy_port(exim):
    """Its header names nobody, and it ends with QUIT."""
    before = len(exim.log_lines("closed by QUIT"))
    with edge(exim) as gatepost:
        line = exim.wait_log("closed by QUIT", before + 1)[-1]
        assert "SMTP connection from (mx.example.net) [127.0.0.1]:" in line
        assert not gatepost.log_records("server_down")


# ---- Its verdicts

def test_acl_is_about_the_client(exim):
    with edge(exim) as gatepost:
        with session(gatepost, UNWANTED) as client:
            client.command("MAIL FROM:<alice@example.net>", 250)
            assert str(client.command("RCPT TO:<bob@example.com>")) \
                == f"550 5.0.0 not from {UNWANTED[0]}"
        deliver(gatepost)
        exim.wait_mail()


@pytest.mark.parametrize("identity", ["proxy-v1", "proxy-v2"])
def test_client_that_exim_does_not_even_greet(exim, identity):
    """By the ACL of the connection: the client is told, and the server is none the worse for it."""
    with edge(exim, identity, health={"fall": 1}) as gatepost:
        for _ in range(3):
            with session(gatepost, UNWANTED_AT_ALL) as client:
                client.command("MAIL FROM:<alice@example.net>", 250)
                reply = client.command("RCPT TO:<bob@example.com>")
                assert str(reply) == "550 5.7.1 not at this door"
        deliver(gatepost)
        exim.wait_mail()
        assert not gatepost.log_records("server_down")
        assert not gatepost.log_records("backend_failed")


def test_recipients_that_exim_refuses(exim):
    config = {"relay": {"domains": ["example.com", "example.org"]}}
    with edge(exim, config=config) as gatepost, session(gatepost) as client:
        client.command("MAIL FROM:<alice@example.net>", 250)
        client.command("RCPT TO:<bob@example.com>", 250)
        assert str(client.command("RCPT TO:<nobody@example.com>")) == "550 5.0.0 Unknown user"
        assert client.command("RCPT TO:<bob@example.org>").code == 451  # it is our mistake
        assert "relay not permitted" in gatepost.wait_log("backend_blames_us")["reply"]
        queue_id(client.data())
        exim.wait_mail()


def test_dead_server_is_passed_over(exim):
    with edge(exim, servers=[NOWHERE, f"127.0.0.1:{exim.proxy_port}"]) as gatepost:
        assert f"[{CLIENT[0]}]:{CLIENT[1]} " in arrival(exim, deliver(gatepost))
        exim.wait_mail()
        assert gatepost.trace()[0]["transactions"][0]["server"] == f"127.0.0.1:{exim.proxy_port}"


# ---- Messages

BODIES = {
    "empty": b"",
    "dots": b".\r\n..\r\n.\r\n\r\n.a\r\n...\r\n" * 50 + b".\r\n",
    "long lines": (b"." + b"x" * 997 + b"\r\n") * 40,
    "8 bit": bytes(range(0x80, 0x100)) * 4 + b"\r\n",
    "10 MB": (b"." + b"y" * 75 + b"\r\n") * (10 * 1024 * 1024 // 78),
}


@pytest.mark.parametrize("identity", ["none", "proxy-v2"])
@pytest.mark.parametrize("chunking", ["auto", "off"])
def test_messages_arrive_byte_for_byte(exim, identity, chunking):
    with edge(exim, identity, chunking=chunking) as gatepost, session(gatepost) as client:
        for name, body in BODIES.items():
            client.envelope("alice@example.net", ["bob@example.com"], "BODY=8BITMIME")
            line = arrival(exim, queue_id(client.data(b"Subject: x\r\n\r\n" + body)))
            assert (" K " in line) == (chunking == "auto"), line  # Exim's mark for CHUNKING
            message, = exim.wait_mail()
            _, _, rest = message.partition(b"\n\n")
            assert rest == body.replace(b"\r\n", b"\n"), name


def test_clients_share_a_connection(exim):
    with edge(exim, "none", reuse={"mode": "safe"}) as gatepost:
        lines = [arrival(exim, deliver(gatepost, (f"198.51.100.{n}", 1))) for n in range(4)]
        assert len({re.search(r"\[127\.0\.0\.1\]:\d+", line).group() for line in lines}) == 1
        exim.wait_mail(4)
