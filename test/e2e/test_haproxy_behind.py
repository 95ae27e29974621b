"""HAProxy between gatepost and its servers, too: what is one server to us is two behind it, and which
of them a connection leads to we neither choose nor see."""

import contextlib

import pytest
from backend import Backend
from client import Client, proxy_v1
from gatepost import NOWHERE, Gatepost
from haproxy import HAProxy

XCLIENT = "XCLIENT=NAME ADDR PORT PROTO HELO LOGIN REVERSE_NAME DESTADDR DESTPORT"
BODY = b"Subject: behind\r\n\r\n" + b"..dots\r\n" + b"0123456789" * 20 + b"\r\n...\r\n"
LARGE = b"Subject: large\r\n\r\n" + (b"." + b"y" * 75 + b"\r\n") * 2000
CHECKED = "check inter 200ms fastinter 100ms downinter 100ms"


@contextlib.contextmanager
def between(first, second, *lines, server=""):
    """One address for both, turn by turn."""
    backend = ["balance roundrobin", "option redispatch 1", "retries 2", *lines,
               f"server second 127.0.0.1:{second.port} {server}"]
    with HAProxy(("127.0.0.1", first.port), server, backend=backend) as haproxy:
        yield haproxy


@contextlib.contextmanager
def edge(haproxy, further=(), **backend):
    mta = {"name": "mta", "servers": [f"127.0.0.1:{haproxy.port}", *further],
           "reuse": {"mode": "safe"}, **backend}
    with Gatepost({"backends": [mta]}, proxy="required") as gatepost:
        yield gatepost


def deliver(gatepost, address="198.51.100.7", body=BODY, messages=1):
    with Client(gatepost.address, proxy_v1((address, 40007))) as client:
        client.hello()
        codes = [client.message(body=body).code for _ in range(messages)]
        client.quit()
    return codes


def used(*backends):
    """How many connections brought mail, to each."""
    return [len({event["id"] for event in backend.events("command")
                 if event["line"].startswith("MAIL")}) for backend in backends]


def bodies(*backends):
    """Of all messages, without our Received line."""
    return [b"Subject: " + message["body"].partition(b"\r\nSubject: ")[2]
            for backend in backends for message in backend.messages()]


def busy(first, second):
    """The one to which the kept connection leads."""
    return first if first.messages() else second


# ---- Reuse

@pytest.mark.parametrize("extensions", ["PIPELINING,8BITMIME,CHUNKING", ""])
def test_clients_share_a_connection_through_it(extensions):
    with Backend(extensions=extensions) as first, Backend(extensions=extensions) as second, \
            between(first, second) as haproxy, edge(haproxy) as gatepost:
        for n in range(4):
            assert deliver(gatepost, f"198.51.100.{n}", messages=2) == [250, 250]
        assert sorted(used(first, second)) == [0, 1]
        assert bodies(first, second) == [BODY] * 8


def test_clients_at_the_same_time_go_to_both():
    with Backend() as first, Backend() as second, between(first, second) as haproxy, \
            edge(haproxy) as gatepost, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(gatepost.address, proxy_v1((f"198.51.100.{n}", 1))))
                   for n in range(4)]
        for client in clients:
            client.hello()
            client.envelope()
        for client in clients:
            assert client.data(BODY).code == 250
            client.quit()
        assert used(first, second) == [2, 2]


@pytest.mark.parametrize("identity", ["xclient", "xforward"])
def test_clients_are_told_apart_through_it(identity):
    extensions = f"PIPELINING,{XCLIENT},{XCLIENT.replace('XCLIENT', 'XFORWARD', 1)}"
    addresses = [f"198.51.100.{n}" for n in range(4)]
    with Backend(extensions=extensions) as first, Backend(extensions=extensions) as second, \
            between(first, second) as haproxy, edge(haproxy, identity=identity) as gatepost:
        for address in addresses:
            assert deliver(gatepost, address) == [250]
        told = [message[identity]["ADDR"] for backend in (first, second)
                for message in backend.messages()]
        assert sorted(told) == addresses
        assert sum(used(first, second)) == (4 if identity == "xclient" else 1)


# ---- One of them dies

STEPS = ["rset", "mail", "rcpt", "data"]


@pytest.mark.parametrize("how", ["reset", "refuse-close"])
@pytest.mark.parametrize("step", STEPS)
def test_kept_connection_that_dies_in_the_dialogue(step, how):
    """Whichever it leads to: the next connection brings the message, and no client notices."""
    with Backend(extensions="PIPELINING") as first, Backend(extensions="PIPELINING") as second, \
            between(first, second) as haproxy, edge(haproxy) as gatepost:
        assert deliver(gatepost) == [250]
        busy(first, second).set_faults([f"{step}:{how}@1"])
        assert deliver(gatepost, "198.51.100.8") == [250]
        assert bodies(first, second) == [BODY] * 2
        assert not gatepost.log_records("server_down")


@pytest.mark.parametrize("chunking", ["auto", "off"])
def test_reset_in_the_middle_of_a_message(chunking):
    """The same server as far as we know, which is the other one now, has it from the beginning."""
    extensions = "PIPELINING,CHUNKING"
    with Backend(extensions=extensions) as first, Backend(extensions=extensions) as second, \
            between(first, second) as haproxy, edge(haproxy, chunking=chunking) as gatepost:
        assert deliver(gatepost) == [250]
        step = "bdat:reset@1" if chunking == "auto" else "body:reset:20000@1"
        busy(first, second).set_faults([step])
        with Client(gatepost.address, proxy_v1(("198.51.100.8", 1))) as client:
            client.hello()
            client.envelope()
            client.command("DATA", 354)
            wire = LARGE.replace(b"\r\n.", b"\r\n..") + b".\r\n"
            client.send(wire[:100000])
            gatepost.wait_log("backend_failed", step="message")  # the end is not sent yet
            client.send(wire[100000:])
            client.expect(250)
            client.quit()
        assert sorted(bodies(first, second)) == sorted([BODY, LARGE])


def test_server_that_is_killed_behind_it():
    """The kept connection led there; by now HAProxy leads to the other."""
    with Backend() as first, Backend() as second, between(first, second) as haproxy, \
            edge(haproxy) as gatepost:
        assert deliver(gatepost) == [250]
        other = second if first.messages() else first
        busy(first, second).kill()
        for n in range(3):
            assert deliver(gatepost, f"198.51.100.{n}") == [250]
        assert len(other.messages()) == 3
        assert not gatepost.log_records("server_down")


def test_both_are_dead():
    """HAProxy takes the connection and drops it: 451, and mail as soon as one of them is back."""
    with Backend() as first, Backend() as second, \
            between(first, second, "timeout connect 1s") as haproxy, edge(haproxy) as gatepost:
        assert deliver(gatepost) == [250]
        first.kill()
        second.kill()
        with Client(gatepost.address, proxy_v1(("198.51.100.8", 1))) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net>", 250)
            assert client.command("RCPT TO:<b@example.com>").code == 451
            client.quit()
        assert gatepost.wait_log("backend_failed")["server"] == f"127.0.0.1:{haproxy.port}"
        second.start()
        assert deliver(gatepost) == [250]


def test_next_server_when_behind_it_all_are_dead():
    with Backend() as first, Backend() as second, Backend() as third:
        with between(first, second) as haproxy, \
                edge(haproxy, [f"127.0.0.1:{third.port}"], balance="first") as gatepost:
            assert deliver(gatepost) == [250]
            first.kill()
            second.kill()
            assert deliver(gatepost, "198.51.100.8") == [250]
            assert bodies(third) == [BODY]


# ---- HAProxy looks after them as well

def test_checked_by_smtpchk():
    """Who answers EHLO badly is not led to; and who is marked down loses its connections at once."""
    with Backend() as first, Backend() as second, \
            between(first, second, "option smtpchk EHLO haproxy.example.com",
                    server=f"{CHECKED} on-marked-down shutdown-sessions") as haproxy, \
            edge(haproxy) as gatepost:
        haproxy.wait_checked("UP")
        assert deliver(gatepost) == [250]
        assert "EHLO haproxy.example.com" in first.commands()
        # "gatepost" is the row of the first one.
        first.set_faults(["banner:reply=554 5.3.2 ill"])
        haproxy.wait_checked("DOWN")
        before = len(second.messages())
        for n in range(3):
            assert deliver(gatepost, f"198.51.100.{n}") == [250]
        assert len(second.messages()) == before + 3
        assert not gatepost.log_records("server_down")


def test_nobody_is_up_by_smtpchk():
    with Backend(faults=["banner:reply=554 5.3.2 ill"]) as first, Backend() as third:
        with between(first, first, "option smtpchk EHLO haproxy.example.com", server=CHECKED) \
                as haproxy:
            haproxy.wait_checked("DOWN")
            with edge(haproxy, [f"127.0.0.1:{third.port}", NOWHERE], balance="first") as gatepost:
                assert deliver(gatepost) == [250]
                assert bodies(third) == [BODY]
