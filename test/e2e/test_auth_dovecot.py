"""AUTH by a real Dovecot, which is there, or slow, or gone."""

import base64
import contextlib
import signal
import socket
import threading
import time

import pytest
from auth import auth_plain, auth_scram, encode, oauthbearer, plain, xoauth2
from auth_rig import (ELSEWHERE, EXCHANGES, SECRETS, SENDER, WRONG, Gatepost, assert_no_secrets, backend,
                      configured, dovecot, latest, listener, offered, pair, received, session)
from dovecot import Dovecot
from patience import tight

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


def test_nothing_was_written(with_dovecot):
    """Each gatepost is looked through at its end as well; this one while it runs."""
    assert with_dovecot.log_records("auth_failed")
    with_dovecot.look_for_secrets()
