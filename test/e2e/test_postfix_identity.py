"""A real Postfix that is told who the client is, by each way that it knows, and gets its mail in
chunks."""

import contextlib
import re

import pytest
from auth import auth_plain, hash_password
from client import Client, proxy_v1
from dns import NameServer
from gatepost import Gatepost, merge
from postfix import Postfix

CLIENT, CLIENT6 = ("198.51.100.7", 40007), ("2001:db8::7", 40007)
UNWANTED = ("198.51.100.66", 40066)
REFUSAL = "554 5.7.1 <unknown[198.51.100.66]>: Client host rejected: Access denied"
PASSWORD = "C4rol-correct-zebra-4711"
LOCALS = "127.0.0.0/8"

AUTHORISED = [f"smtpd_authorized_xclient_hosts={LOCALS}",
              f"smtpd_authorized_xforward_hosts={LOCALS}"]
LISTENERS = {
    "inner": [*AUTHORISED, "inet_protocols=all"],
    "early": [*AUTHORISED, "smtpd_delay_reject=no"],
    "early-proxy": ["smtpd_upstream_proxy_protocol=haproxy", "smtpd_delay_reject=no"],
    "ipv4-proxy": ["smtpd_upstream_proxy_protocol=haproxy"],
    "ipv4": AUTHORISED,
    "stranger": [],
    "proxy": [*AUTHORISED, "inet_protocols=all", "smtpd_upstream_proxy_protocol=haproxy"],
    "names": [*AUTHORISED, "smtpd_helo_restrictions=reject_non_fqdn_helo_hostname",
              "smtpd_sender_restrictions=reject_non_fqdn_sender"],
    "unknown": [*AUTHORISED, "smtpd_client_restrictions=reject_unknown_client_hostname"],
}


@pytest.fixture(scope="module")
def postfix():
    with Postfix(further=["smtpd_client_restrictions = "
                          "check_client_access inline:{198.51.100.66=REJECT}"],
                 listeners=LISTENERS) as running:
        yield running
        # Of the test with a header that names an IPv6 address where there is no IPv6.
        assert [line for line in running.trouble() if "ipv4-proxy" not in line] == []


@contextlib.contextmanager
def edge(postfix, name, identity, config=None, **backend):
    """gatepost, that believes the header which our clients send, before one port of Postfix."""
    mta = {"name": "mta", "servers": [f"127.0.0.1:{postfix.ports[name]}"], "identity": identity,
           **backend}
    with Gatepost(merge({"backends": [mta]}, config or {}), proxy="required") as gatepost:
        yield gatepost


@contextlib.contextmanager
def session(gatepost, client=CLIENT, hello="client.example.net"):
    with Client(gatepost.address, proxy_v1(client, ("2001:db8::25" if ":" in client[0]
                                                    else "203.0.113.25", 25))) as connection:
        connection.hello(hello)
        yield connection
        connection.quit()


def deliver(gatepost, client=CLIENT, **options):
    """One message of one client; Postfix's name for it."""
    with session(gatepost, client, **options) as connection:
        return queue_id(connection.message("alice@example.net", ["bob@example.com"]))


def queue_id(reply):
    assert reply.code == 250, reply
    return re.search(r"queued as (\w+)", reply.text).group(1)


def logged(postfix, queued):
    """Who it was, as smtpd says."""
    line, = postfix.wait_log(f"{queued}: client=")
    return line.partition(f"{queued}: ")[2]


def connects(postfix, name, pattern):
    return postfix.log_lines(rf"postfix/{name}/smtpd\[\d+\]: connect from {pattern}")


def mail_connects(postfix, name):
    """Connections on which there was mail, as they ended: a probe has none."""
    return postfix.log_lines(rf"postfix/{name}/smtpd\[\d+\]: disconnect from .* mail=\d+")


# ---- XCLIENT

@pytest.mark.parametrize("name, identity", [("inner", "xclient"), ("proxy", "local+xclient")])
@pytest.mark.parametrize("client", [CLIENT, CLIENT6], ids=["ipv4", "ipv6"])
def test_session_is_the_clients(postfix, name, identity, client):
    with edge(postfix, name, identity) as gatepost:
        queued = deliver(gatepost, client)
        assert logged(postfix, queued) == f"client=unknown[{client[0]}]"
        message, = postfix.wait_mail("bob")
        shown = f"IPv6:{client[0]}" if ":" in client[0] else client[0]
        assert f"Received: from client.example.net (unknown [{shown}])\n\tby mta." \
            .encode() in message
        assert b"with ESMTP id " + queued.encode() in message
        assert not gatepost.log_records("identity_refused")


def test_old_hello_and_no_hello_of_ours(postfix):
    """PROTO and HELO are the client's, and not what was said on our own behalf before."""
    with edge(postfix, "inner", "xclient") as gatepost, \
            Client(gatepost.address, proxy_v1(CLIENT)) as client:
        client.hello("old.example.net", "HELO")
        queue_id(client.message("alice@example.net", ["bob@example.com"]))
        client.quit()
        message, = postfix.wait_mail("bob")
        assert b"Received: from old.example.net (unknown [198.51.100.7])\n\tby mta." in message


def test_name_of_the_client(postfix):
    """A name that was verified here is believed there, where names are not looked up."""
    names = {CLIENT[0]: b"mail.example.net", "198.51.100.8": b"liar.example.net"}
    with NameServer(names, {"mail.example.net": [CLIENT[0]]}) as dns:
        config = {"dns": {"reverse": True, "servers": [dns.address], "timeout": "5s"}}
        with edge(postfix, "unknown", "xclient", config, wait_for_name=True) as gatepost:
            assert logged(postfix, deliver(gatepost)) == f"client=mail.example.net[{CLIENT[0]}]"
            for address in ("198.51.100.8", "198.51.100.9"):
                with session(gatepost, (address, 40008)) as client:
                    client.command("MAIL FROM:<alice@example.net>", 250)
                    reply = client.command("RCPT TO:<bob@example.com>")
                    assert "cannot find your" in str(reply), reply
            postfix.wait_mail("bob")


@pytest.mark.parametrize("name, identity", [("inner", "xclient"), ("proxy", "local+xclient"),
                                            ("proxy", "proxy-v2"), ("proxy", "proxy-v1")])
def test_restrictions_are_about_the_client(postfix, name, identity):
    with edge(postfix, name, identity) as gatepost:
        with session(gatepost, UNWANTED) as client:
            client.command("MAIL FROM:<alice@example.net>", 250)
            assert str(client.command("RCPT TO:<bob@example.com>")) == REFUSAL
        deliver(gatepost)
        postfix.wait_mail("bob")
        assert not gatepost.log_records("backend_blames_us")


@pytest.mark.parametrize("name, identity", [("early", "xclient"), ("early-proxy", "proxy-v2"),
                                            ("early-proxy", "proxy-v1")])
def test_refusal_of_the_client_before_mail(postfix, name, identity):
    """With smtpd_delay_reject=no the answer to XCLIENT, or the banner, is the verdict: each recipient
    hears it, and the server is none the worse for it."""
    with edge(postfix, name, identity, health={"fall": 1}) as gatepost:
        with session(gatepost, UNWANTED) as client:
            client.command("MAIL FROM:<alice@example.net>", 250)
            for _ in range(2):
                assert str(client.command("RCPT TO:<bob@example.com>")) == REFUSAL
            assert client.command("DATA").code in (503, 554)
        deliver(gatepost)
        postfix.wait_mail("bob")
        assert not gatepost.log_records("identity_refused")
        assert not gatepost.log_records("server_down")
        assert not gatepost.log_records("backend_failed")


def test_two_clients_never_share_a_session(postfix):
    with edge(postfix, "inner", "xclient") as gatepost:
        before = len(mail_connects(postfix, "inner"))
        with session(gatepost) as client:
            for _ in range(2):  # of the same client it is the next transaction
                queued = queue_id(client.message("alice@example.net", ["bob@example.com"]))
                assert logged(postfix, queued) == f"client=unknown[{CLIENT[0]}]"
        assert logged(postfix, deliver(gatepost, ("198.51.100.8", 1))) \
            == "client=unknown[198.51.100.8]"
        postfix.wait_log(r"postfix/inner/smtpd\[\d+\]: disconnect from .* mail=", before + 2)
        assert len(mail_connects(postfix, "inner")) == before + 2
        postfix.wait_mail("bob", 3)


@pytest.mark.parametrize("name, identity", [("inner", "xclient"), ("proxy", "local+xclient")])
def test_login(postfix, name, identity, tmp_path):
    """Who has logged in here has done so there; and may relay, where permit_sasl_authenticated is."""
    users = tmp_path / "users"
    users.write_text(hash_password("carol+x@example.com", PASSWORD, "bcrypt"))
    users.chmod(0o600)
    listener = {"name": "mx", "bind": ["127.0.0.1:0"], "proxy": "required",
                "trusted_proxies": [LOCALS],
                "auth": {"users": str(users), "allow_plaintext": ["198.51.100.0/24"]}}
    with edge(postfix, name, identity, {"listeners": [listener]}) as gatepost, \
            session(gatepost) as client:
        queued = queue_id(client.message("alice@example.net", ["bob@example.com"]))
        assert logged(postfix, queued) == f"client=unknown[{CLIENT[0]}]"
        assert auth_plain(client, "carol+x@example.com", PASSWORD).code == 235
        queued = queue_id(client.message("alice@example.net", ["bob@example.com"]))
        assert logged(postfix, queued) == f"client=unknown[{CLIENT[0]}], " \
            "sasl_method=XCLIENT, sasl_username=carol+x@example.com"
    postfix.wait_mail("bob", 2)


def test_client_says_hello_again(postfix):
    """By another name, or as another protocol: Postfix hears the one that holds."""
    with edge(postfix, "inner", "xclient") as gatepost, session(gatepost) as client:
        queue_id(client.message("alice@example.net", ["bob@example.com"]))
        client.command("EHLO second.example.net", 250)
        queue_id(client.message("alice@example.net", ["bob@example.com"]))
    first, second = postfix.wait_mail("bob", 2)
    assert b"Received: from client.example.net (unknown [198.51.100.7])\n\tby mta." in first
    assert b"Received: from second.example.net (unknown [198.51.100.7])\n\tby mta." in second


def test_ipv6_client_at_an_ipv4_postfix(postfix):
    """It answers 501, which is about the set-up: deferred, and an alarm; or sent all the same."""
    with edge(postfix, "ipv4", "xclient") as gatepost:
        with session(gatepost, CLIENT6) as client:
            client.command("MAIL FROM:<alice@example.net>", 250)
            assert client.command("RCPT TO:<bob@example.com>").code == 451
        alarm = gatepost.wait_log("identity_refused")
        assert alarm["reply"].startswith("501 Bad ADDR syntax")
        assert logged(postfix, deliver(gatepost)) == f"client=unknown[{CLIENT[0]}]"
        postfix.wait_mail("bob")


@pytest.mark.parametrize("identity", ["xclient", "xforward"])
def test_ipv6_client_at_an_ipv4_postfix_that_need_not_know(postfix, identity):
    with edge(postfix, "ipv4", identity, identity_required=False) as gatepost:
        assert logged(postfix, deliver(gatepost, CLIENT6)).startswith("client=unknown[127.0.0.1]")
        postfix.wait_mail("bob")


@pytest.mark.parametrize("identity", ["xclient", "xforward", "local+xclient"])
def test_postfix_that_has_not_authorised_us(postfix, identity):
    """It would take everybody for us: no mail, and the operator learns of it at the start."""
    name = "stranger"
    if identity == "local+xclient":
        mta = {"name": "mta", "servers": [f"127.0.0.1:{postfix.proxy_port}"], "identity": identity}
        running = Gatepost({"backends": [mta]}, proxy="required")
    else:
        running = edge(postfix, name, identity)
    with running as gatepost:
        assert gatepost.wait_log("identity_refused")["reply"] == "not offered"
        with session(gatepost) as client:
            client.command("MAIL FROM:<alice@example.net>", 250)
            assert client.command("RCPT TO:<bob@example.com>").code == 451


# ---- Verdicts on names that are the client's

def test_name_of_the_client_that_postfix_does_not_like(postfix):
    """504 is about a name here, and by XCLIENT it is the client's own."""
    with edge(postfix, "names", "xclient") as gatepost:
        with session(gatepost, hello="localhost") as client:
            client.command("MAIL FROM:<alice@example.net>", 250)
            assert str(client.command("RCPT TO:<bob@example.com>")) == "504 5.5.2 <localhost>: " \
                "Helo command rejected: need fully-qualified hostname"
        assert not gatepost.log_records("backend_blames_us")


@pytest.mark.parametrize("identity", ["none", "xforward", "xclient"])
def test_sender_that_postfix_does_not_like(postfix, identity):
    with edge(postfix, "names", identity) as gatepost:
        with session(gatepost) as client:
            client.command("MAIL FROM:<alice@localhost>", 250)
            assert str(client.command("RCPT TO:<bob@example.com>")) == "504 5.5.2 " \
                "<alice@localhost>: Sender address rejected: need fully-qualified address"
        assert not gatepost.log_records("backend_blames_us")


def test_our_own_name_that_postfix_does_not_like(postfix):
    """Without an identity the name is ours: every client would be refused for our mistake."""
    with edge(postfix, "names", "none", {"hostname": "localhost"}) as gatepost:
        with session(gatepost) as client:
            client.command("MAIL FROM:<alice@example.net>", 250)
            assert client.command("RCPT TO:<bob@example.com>").code == 451
        assert "need fully-qualified hostname" in gatepost.wait_log("backend_blames_us")["reply"]


# ---- XFORWARD

def test_xforward_names_the_client_in_the_log(postfix):
    with edge(postfix, "inner", "xforward") as gatepost:
        for count, client in enumerate((CLIENT, CLIENT6), 1):
            queued = deliver(gatepost, client)
            uuid = gatepost.trace(count)[-1]["transactions"][0]["uuid"]
            assert logged(postfix, queued) == f"client=unknown[127.0.0.1], orig_queue_id={uuid}, " \
                f"orig_client=unknown[{client[0]}]"
        first, _ = postfix.wait_mail("bob", 2)
        assert b"Received: from mx.example.net (unknown [127.0.0.1])\n\tby mta." in first


def test_xforward_gives_no_rights_and_takes_none(postfix):
    """Its restrictions see us, and not the client."""
    with edge(postfix, "inner", "xforward") as gatepost:
        deliver(gatepost, UNWANTED)
        postfix.wait_mail("bob")


def test_xforward_clients_share_a_connection(postfix):
    clients = [(f"198.51.100.{n}", 1025) for n in range(10, 16)]
    with edge(postfix, "inner", "xforward", reuse={"mode": "safe"}) as gatepost:
        before = len(mail_connects(postfix, "inner"))
        for client in clients:
            assert logged(postfix, deliver(gatepost, client)).endswith(
                f"orig_client=unknown[{client[0]}]")
        postfix.wait_mail("bob", len(clients))
    # It ends with gatepost: one connection, and RSET before each message but the first.
    line = postfix.wait_log(r"postfix/inner/smtpd\[\d+\]: disconnect from .* mail=",
                            before + 1)[-1]
    assert len(mail_connects(postfix, "inner")) == before + 1
    assert f" mail={len(clients)} " in line and f" rset={len(clients) - 1} " in line
    assert f" xforward={len(clients)} " in line


# ---- PROXY, and who Postfix says it was

@pytest.mark.parametrize("identity", ["proxy-v1", "proxy-v2"])
@pytest.mark.parametrize("client", [CLIENT, CLIENT6], ids=["ipv4", "ipv6"])
def test_proxy(postfix, identity, client):
    tlvs = ["authority", "ssl", "unique-id", "crc32c"] if identity == "proxy-v2" else []
    with edge(postfix, "proxy", identity, proxy_tlvs=tlvs) as gatepost:
        assert logged(postfix, deliver(gatepost, client)) == f"client=unknown[{client[0]}]"
        postfix.wait_mail("bob")


@pytest.mark.parametrize("identity", ["proxy-v1", "proxy-v2"])
def test_header_with_ipv6_at_an_ipv4_postfix(postfix, identity):
    """421 in place of the banner, as from a server that goes away: deferred."""
    with edge(postfix, "ipv4-proxy", identity) as gatepost:
        with session(gatepost, CLIENT6) as client:
            client.command("MAIL FROM:<alice@example.net>", 250)
            assert client.command("RCPT TO:<bob@example.com>").code == 451
        assert gatepost.wait_log("backend_failed")["error"] == "refused for now"
        deliver(gatepost)
        postfix.wait_mail("bob")


# ---- In chunks

BODIES = {
    "empty": b"",  # the header alone
    "dots": b".\r\n..\r\n.\r\n\r\n.a\r\n...\r\n" * 50 + b".\r\n",
    "long lines": (b"." + b"x" * 997 + b"\r\n") * 40,
    "8 bit": bytes(range(0x80, 0x100)) * 4 + b"\r\n",
    "10 MB": (b"." + b"y" * 75 + b"\r\n") * (10 * 1024 * 1024 // 78),
}


HEADER = b"From: alice@example.net\r\nTo: bob@example.com\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000" \
    b"\r\nMessage-ID: <x@example.net>\r\nSubject: x\r\n\r\n"


@pytest.mark.parametrize("chunking", ["auto", "off"])
def test_chunks_arrive_byte_for_byte(postfix, chunking):
    with edge(postfix, "inner", "none", chunking=chunking) as gatepost:
        before = len(mail_connects(postfix, "inner"))
        with session(gatepost) as client:
            for name, body in BODIES.items():
                client.envelope("alice@example.net", ["bob@example.com"], "BODY=8BITMIME")
                queue_id(client.data(HEADER + body))
                arrived, = postfix.wait_mail("bob")
                _, _, rest = Postfix.without_added(arrived).partition(b"\n\n")
                assert rest == body.replace(b"\r\n", b"\n"), name
    line = postfix.wait_log(r"postfix/inner/smtpd\[\d+\]: disconnect from .* mail=",
                            before + 1)[-1]
    assert (" bdat=" in line) == (chunking == "auto") and (" data=" in line) == (chunking == "off")
