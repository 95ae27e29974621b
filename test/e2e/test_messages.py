"""Message in = message out, byte for byte, plus the Received field in front: through HAProxy and
gatepost to the test backend, and on to Postfix and its Maildir."""

import re

import messages
import pytest
from backend import Backend
from client import Client
from gatepost import Gatepost
from haproxy import HAProxy
from postfix import Postfix

CLIENT = "127.0.0.9"
RECEIVED = re.compile(
    rb"Received: from client\.example\.net \(unknown \[127\.0\.0\.9\]\)\r?\n"
    rb"\tby mx\.example\.net \(gatepost\) with E?SMTP id [0-9A-F-]{36}\.\d+\r?\n"
    rb"\tfor <bob@example\.com>; \w\w\w, \d\d? \w\w\w \d{4} \d\d:\d\d:\d\d [+-]\d{4}\r?\n")


@pytest.fixture(scope="module")
def backend():
    with Backend() as running:
        yield running


@pytest.fixture(scope="module")
def postfix():
    with Postfix() as running:
        yield running


@pytest.fixture(scope="module", params=["none", "proxy-v2"])
def to_postfix(request, postfix):
    """A HAProxy whose gatepost delivers to Postfix."""
    port = postfix.port if request.param == "none" else postfix.proxy_port
    mta = {"name": "mta", "servers": [f"127.0.0.1:{port}"], "identity": request.param}
    with Gatepost({"backends": [mta]}, proxy="required") as gatepost, \
            HAProxy(gatepost.address) as haproxy:
        yield haproxy


@pytest.fixture(scope="module")
def to_backend(backend):
    with Gatepost(backend=backend, proxy="required") as gatepost, \
            HAProxy(gatepost.address) as haproxy:
        yield haproxy


def stuffed(message):
    """As it goes over the wire: dots doubled, the end behind."""
    message = message.replace(b"\r\n.", b"\r\n..")
    return (b"." + message if message.startswith(b".") else message) + b".\r\n"


def send(client, message, piece=None):
    client.envelope("alice@example.net", ["bob@example.com"], "BODY=8BITMIME")
    client.command("DATA", 354)
    if piece:
        client.send_pieces(stuffed(message), piece)
    else:
        client.send(stuffed(message))
    client.expect(250)


def without_received(message):
    found = RECEIVED.match(message)
    assert found, message[:500]
    return message[found.end():]


def unix_lines(message):
    return message.replace(b"\r\n", b"\n")


# ---- To the test backend, which keeps what it got

@pytest.mark.parametrize("name", messages.ALL)
def test_arrives_as_it_was_sent(name, to_backend, backend):
    message = messages.ALL[name]
    before = len(backend.messages())
    with Client(to_backend.address, source=CLIENT) as client:
        client.hello()
        send(client, message)
        client.quit()
    arrived = backend.messages()[before:]
    assert [without_received(one["body"]) for one in arrived] == [message]


@pytest.mark.parametrize("piece", [1, 7, 1460])
def test_arrives_whole_from_pieces(piece, to_backend, backend):
    """However the bytes were cut on their way."""
    wanted = [message for message in messages.ALL.values() if len(message) < 400 * piece]
    assert len(wanted) > 5
    before = len(backend.messages())
    with Client(to_backend.address, source=CLIENT) as client:
        client.hello()
        for message in wanted:
            send(client, message, piece)
        client.quit()
    arrived = backend.messages()[before:]
    assert [without_received(one["body"]) for one in arrived] == wanted


def test_field_that_would_continue_ours_is_refused(to_backend, backend):
    """A first line that begins with a space would become part of the Received field."""
    before = len(backend.messages())
    with Client(to_backend.address, source=CLIENT) as client:
        client.hello()
        client.envelope("alice@example.net", ["bob@example.com"])
        assert client.data(b" by elsewhere\r\nSubject: x\r\n\r\ntext\r\n").code == 550
        client.quit()
    assert len(backend.messages()) == before


def test_backend_never_saw_a_line_end_of_another_kind(to_backend, backend):
    assert backend.messages()
    assert backend.violations() == []


# ---- On to Postfix

def test_postfix_delivers_what_was_sent(to_postfix, postfix):
    """Each shape of mail, in one session, read from the Maildir."""
    with Client(to_postfix.address, source=CLIENT) as client:
        client.hello()
        for name, message in messages.ORDINARY.items():
            send(client, message)
            arrived, = postfix.wait_mail("bob")
            rest = without_received(postfix.without_added(arrived))
            assert rest == unix_lines(message), name
        client.quit()
    assert postfix.trouble() == []


def test_postfix_mends_the_same_with_us_in_front(to_postfix, postfix):
    """Where Postfix changes a message, it changes it as it does without us."""
    with Client(to_postfix.address, source=CLIENT) as through, \
            Client(("127.0.0.1", postfix.port), source=CLIENT) as direct:
        through.hello()
        direct.hello()
        for name, message in messages.FOREIGN.items():
            send(through, message)
            ours, = postfix.wait_mail("bob")
            send(direct, message)
            theirs, = postfix.wait_mail("bob")
            assert without_received(postfix.without_added(ours)) \
                == postfix.without_added(theirs), name
        through.quit()
        direct.quit()
