"""A server behind that shares no code with Postfix, Exim or us: nodemailer's smtp-server."""

import contextlib

import foreign as support
import pytest
from client import Client, proxy_v1
from foreign import Foreign
from gatepost import Gatepost, merge

pytestmark = pytest.mark.skipif(
    support.folder() is None,
    reason="smtp-server is not installed: NODEMAILER names no folder with it (test/run makes it "
    "where there is npm)")

CLIENT, CLIENT6 = ("198.51.100.7", 40007), ("2001:db8::7", 40007)


@contextlib.contextmanager
def edge(*servers, config=None, **backend):
    mta = {"name": "mta", "servers": [f"127.0.0.1:{server.port}" for server in servers],
           "reuse": {"mode": "safe"}, **backend}
    with Gatepost(merge({"backends": [mta]}, config or {}), proxy="required") as gatepost:
        yield gatepost


@contextlib.contextmanager
def session(gatepost, client=CLIENT):
    server = ("2001:db8::25" if ":" in client[0] else "203.0.113.25", 25)
    with Client(gatepost.address, proxy_v1(client, server)) as connection:
        connection.hello()
        yield connection
        connection.quit()


def deliver(gatepost, client=CLIENT, messages=1):
    with session(gatepost, client) as connection:
        return [connection.message("alice@example.net", ["bob@example.com"]).code
                for _ in range(messages)]


# ---- Messages and verdicts

BODIES = {
    "empty": b"",
    "dots": b".\r\n..\r\n.\r\n\r\n.a\r\n...\r\n" * 50 + b".\r\n",
    "long lines": (b"." + b"x" * 997 + b"\r\n") * 40,
    "8 bit": bytes(range(0x80, 0x100)) * 4 + b"\r\n",
    "1 MB": (b"." + b"y" * 75 + b"\r\n") * (1024 * 1024 // 78),
}


def test_messages_arrive_byte_for_byte():
    with Foreign() as foreign, edge(foreign) as gatepost:
        with session(gatepost) as client:
            for body in BODIES.values():
                client.envelope("alice@example.net", ["bob@example.com"], "BODY=8BITMIME")
                assert client.data(b"Subject: x\r\n\r\n" + body).code == 250
        for name, message in zip(BODIES, foreign.wait_messages(len(BODIES))):
            received, _, rest = message["body"].partition(b"Subject: x\r\n\r\n")
            assert b"(unknown [198.51.100.7])" in received
            assert rest == BODIES[name], name


def test_recipients_that_are_refused():
    with Foreign(refuse={"nobody": 550, "later": 450}) as foreign, edge(foreign) as gatepost, \
            session(gatepost) as client:
        client.command("MAIL FROM:<alice@example.net>", 250)
        client.command("RCPT TO:<bob@example.com>", 250)
        for name, code in ("nobody", 550), ("later", 450):
            reply = client.command(f"RCPT TO:<{name}@example.com>")
            assert reply.code == code and "not here" in reply.text
        assert client.data().code == 250
        message, = foreign.wait_messages()
        assert message["to"] == ["bob@example.com"]


def test_message_that_is_refused():
    """Behind the last byte, and the connection serves on."""
    body = b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 2000
    with Foreign(size=10000) as foreign, edge(foreign) as gatepost:
        with session(gatepost) as client:
            client.envelope("alice@example.net", ["bob@example.com"])
            reply = client.data(body)
            assert reply.code == 552
            assert client.message("alice@example.net", ["bob@example.com"]).code == 250
        foreign.wait_messages(2)
        assert foreign.sessions() == 1


# ---- Connections

def test_clients_share_a_connection():
    with Foreign() as foreign, edge(foreign) as gatepost:
        for n in range(4):
            assert deliver(gatepost, (f"198.51.100.{n}", 1), 2) == [250, 250]
        assert len(foreign.wait_messages(8)) == 8 and foreign.sessions() == 1


@pytest.mark.parametrize("how", ["close", "reset"])
def test_server_that_takes_so_many_messages(how):
    """It closes behind each second one: whoever is next gets a new connection, and no error."""
    with Foreign(close_after=2, how=how) as foreign, edge(foreign) as gatepost:
        for n in range(5):
            assert deliver(gatepost, (f"198.51.100.{n}", 1)) == [250]
            if n % 2:  # as if the next client came later
                foreign.wait_closed(foreign.wait_messages(n + 1)[-1]["session"])
        assert len(foreign.wait_messages(5)) == 5 and foreign.sessions() == 3
        assert not gatepost.log_records("server_down")


@pytest.mark.parametrize("how", ["close", "reset"])
def test_server_that_closes_while_the_next_message_comes(how):
    """Without a pause: where it goes at RSET, MAIL or DATA nobody notices. Behind the dot nobody
    knows, and the client is told so."""
    with Foreign(close_after=1, how=how) as foreign, edge(foreign) as gatepost:
        codes = deliver(gatepost, messages=10)
        outcomes = [one["outcome"] for one in gatepost.trace()[0]["transactions"]]
        assert outcomes == [{250: "accepted", 451: "unknown"}[code] for code in codes]
        assert len(foreign.wait_messages(codes.count(250))) <= 10


def test_server_that_says_421_to_an_idle_connection():
    with Foreign(socketTimeout=2000) as foreign, edge(foreign) as gatepost:
        assert deliver(gatepost) == [250]
        foreign.wait_closed(foreign.wait_messages()[0]["session"])
        assert deliver(gatepost) == [250]
        foreign.wait_messages(2)
        assert foreign.sessions() == 2


def test_server_that_is_restarted():
    with Foreign() as foreign, edge(foreign) as gatepost:
        assert deliver(gatepost) == [250]
        foreign.stop()
        foreign.start()
        assert deliver(gatepost) == [250]


# ---- Who the client is

@pytest.mark.parametrize("client", [CLIENT, CLIENT6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("identity, option", [("xclient", "useXClient"), ("xforward", "useXForward"),
                                              ("proxy-v1", "useProxy")])
def test_client_is_the_client(identity, option, client):
    with Foreign(**{option: True}) as foreign, edge(foreign, identity=identity) as gatepost:
        assert deliver(gatepost, client) == [250]
        message, = foreign.wait_messages()
        assert message["client"] == client[0]
        assert message["hello"] == ("mx.example.net" if identity == "proxy-v1"
                                    else "client.example.net")
        assert not gatepost.log_records("identity_refused")


def test_xforward_of_several_clients_on_one_connection():
    addresses = [f"198.51.100.{n}" for n in range(4)]
    with Foreign(useXForward=True) as foreign, edge(foreign, identity="xforward") as gatepost:
        for address in addresses:
            assert deliver(gatepost, (address, 1)) == [250]
        assert [message["client"] for message in foreign.wait_messages(4)] == addresses
        assert foreign.sessions() == 1


@pytest.mark.parametrize("identity", ["xclient", "xforward"])
def test_server_that_does_not_know_it(identity):
    with Foreign() as foreign, edge(foreign, identity=identity) as gatepost:
        assert gatepost.wait_log("identity_refused")["reply"] == "not offered"
        with session(gatepost) as client:
            client.command("MAIL FROM:<alice@example.net>", 250)
            assert client.command("RCPT TO:<bob@example.com>").code == 451
        assert foreign.messages() == []


def test_next_server_when_it_dies():
    with Foreign() as first, Foreign() as second, edge(first, second) as gatepost:
        assert deliver(gatepost) == [250]
        first.stop()
        assert deliver(gatepost) == [250]
        assert len(first.wait_messages()) == len(second.wait_messages()) == 1
