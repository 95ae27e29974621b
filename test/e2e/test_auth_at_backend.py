"""AUTH of clients whose credentials are tried at the backend: who is let in there, and the connection
that is theirs from then on."""

import contextlib
import time

import pytest
from auth import (auth_login, auth_plain, auth_scram, encode, oauthbearer, plain, shapes, xoauth2)
from auth_rig import (DELAY_SECONDS, ELSEWHERE, MX, SECRETS, SENDER, WRONG, Gatepost, configured,
                      latest, listener, offered, session)
from backend import Backend
from client import Client, proxy_v1
from dovecot import Dovecot
from gatepost import merge
from patience import wait_until
from ports import keep_port
from postfix import Postfix
from processes import leftovers
from tls import Authority, trusting, wrap
from tlsbackend import TlsBackend

NAME, PASSWORD = "bea", SECRETS["bea"]
BODY = b"Subject: test\r\n\r\ntext\r\n"
EXCHANGES = {
    "plain": (auth_plain, {}),
    "plain-later": (auth_plain, {"initial": False}),
    "login": (auth_login, {}),
    "login-initial": (auth_login, {"initial": True}),
    "scram": (auth_scram, {}),
    "scram-later": (auth_scram, {"initial": False}),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates")).make(
        "mx", [MX, "mta.example.com"])


def store(*options, **more):
    """A backend that knows the user."""
    return Backend(*options, auth=(NAME, PASSWORD), **more)


def edge(servers, pair=None, *, more=None, mta=None, **auth):
    """gatepost in front of these, AUTH by asking them; without a pair in the clear."""
    servers = servers if isinstance(servers, list) else [servers]
    one = listener("mx", pair, backend="mta", allow_plaintext=["127.0.0.0/8"], **auth)
    backend = {"name": "mta", "servers": [f"127.0.0.1:{server.port}" for server in servers],
               "auth": {"allow_plaintext": True}, "reuse": {"mode": "never"}}
    return Gatepost(merge(configured(one, backends=[merge(backend, mta or {})]), more or {}))


def carrier(backend, count=1):
    """Each message's connection, and that of the AUTH that came before it there."""
    messages = backend.wait_for("message", count)
    return [(message["id"], message["auth"]) for message in messages]


def auth_sessions(backend):
    return [event["id"] for event in backend.events("auth") if event["outcome"] == "ok"]


# ---- What is right

@pytest.mark.parametrize("exchange", EXCHANGES)
def test_right_password(pair, exchange):
    """The connection on which it was taken carries all the mail, to anywhere, and no other does."""
    act, options = EXCHANGES[exchange]
    with store("--auth-required") as backend:
        with edge(backend, pair) as gatepost, session(gatepost) as client:
            assert {"PLAIN", "LOGIN", "SCRAM-SHA-256"} == set(offered(client))
            assert act(client, NAME, PASSWORD, **options).code == 235
            for _ in range(3):
                assert client.message(SENDER, [ELSEWHERE]).code == 250
            client.quit()
            line = latest(gatepost, client)
        assert line["auth"]["user"] == NAME and line["relaying"] is True
        own, = auth_sessions(backend)
        assert [found for found, _ in carrier(backend, 3)] == [own] * 3
        assert len(backend.connections()) == 2  # the probe's, and this
        assert not backend.violations()
        assert backend.wait_for("end", 2)[-1]["how"] == "quit"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("exchange", ["plain", "plain-later", "login", "login-initial"])
def test_passwords_in_the_words_of_the_server(exchange, mechanism):
    """It offers one of the two; clients may use either."""
    act, options = EXCHANGES[exchange]
    with store("--auth-required", extensions=f"PIPELINING,AUTH={mechanism}") as backend:
        with edge(backend) as gatepost, session(gatepost) as client:
            assert offered(client) == ["PLAIN", "LOGIN"]
            assert act(client, NAME, PASSWORD, **options).code == 235
            assert client.message(SENDER, [ELSEWHERE]).code == 250
        assert backend.auths() == [(mechanism, NAME, "ok")]


def test_offer_is_that_of_the_servers():
    """What all have; SCRAM not where -PLUS is, which the client would be taken for not to know of."""
    rows = [
        (["AUTH=PLAIN SCRAM-SHA-256", "AUTH=LOGIN"], ["PLAIN", "LOGIN"]),
        (["AUTH=SCRAM-SHA-256 XOAUTH2", "AUTH=SCRAM-SHA-256 OAUTHBEARER"], ["SCRAM-SHA-256"]),
        (["AUTH=PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS"], ["PLAIN", "LOGIN"]),
        (["AUTH=CRAM-MD5 NTLM"], []), (["PIPELINING"], []),
        (["AUTH=XOAUTH2 OAUTHBEARER"], ["OAUTHBEARER", "XOAUTH2"]),
    ]
    for extensions, expected in rows:
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(Backend(extensions=one)) for one in extensions]
            gatepost = stack.enter_context(edge(servers))
            with session(gatepost) as client:
                assert offered(client) == expected


def test_under_tls(pair):
    """Credentials go to the backend under TLS alone."""
    with TlsBackend(pair, auth=(NAME, PASSWORD)) as mta:
        with edge(mta, pair, mta={"tls": {"mode": "required"},
                                  "auth": {"allow_plaintext": False}}) as gatepost:
            with session(gatepost) as client:
                assert auth_plain(client, NAME, PASSWORD).code == 235
                assert client.message(SENDER, [ELSEWHERE]).code == 250
        sent, = mta.with_mail()
        assert sent.auths == [(True, "PLAIN", NAME, "ok")]
        assert sent.verbs(is_tls=True)[:3] == ["EHLO", "AUTH", "MAIL"]


def test_never_without_tls(pair):
    with TlsBackend(pair, offers=False, auth=(NAME, PASSWORD),
                    offer=("PIPELINING", "AUTH PLAIN LOGIN")) as mta:
        with edge(mta, mta={"tls": {"mode": "opportunistic"},
                            "auth": {"allow_plaintext": False}}) as gatepost:
            with session(gatepost) as client:
                assert auth_plain(client, NAME, PASSWORD).code == 454
            assert gatepost.wait_log("backend_blames_us")["reply"] == "no AUTH without TLS"
        assert all("AUTH" not in one.verbs() for one in mta.sessions)


def test_backend_learns_the_client():
    """The connection is this client's from its first byte on."""
    with store("--proxy", "v2", "--auth-required") as backend:
        one = listener("mx", proxy="required", backend="mta", allow_plaintext=["198.51.100.0/24"])
        mta = {"name": "mta", "servers": [f"127.0.0.1:{backend.port}"], "identity": "proxy-v2",
               "auth": {"allow_plaintext": True}}
        with Gatepost(configured(one, backends=[mta])) as gatepost, \
                Client(gatepost.address, header=proxy_v1(("198.51.100.7", 1025))) as client:
            client.hello()
            assert auth_plain(client, NAME, PASSWORD).code == 235
            assert client.message(SENDER, [ELSEWHERE]).code == 250
            client.quit()
        assert "198.51.100.7" in str(backend.connections()[-1]["proxy"])


def test_nobody_else_gets_the_connection():
    """With connections that are used again: each client has its own, and mail without AUTH neither."""
    with store() as backend:
        with edge(backend, mta={"reuse": {"mode": "safe"}}) as gatepost:
            for _ in range(2):
                with session(gatepost) as client:
                    assert auth_plain(client, NAME, PASSWORD).code == 235
                    assert client.message(SENDER, [ELSEWHERE]).code == 250
                    client.quit()
            with session(gatepost) as client:
                assert client.message(SENDER, ["b@example.com"]).code == 250
        (one, _), (two, _), (three, auth) = carrier(backend, 3)
        assert len({one, two, three}) == 3 and auth is None


def test_data_is_not_said_ahead_there():
    """Whatever the client always did: the connection, and the login with it, would be lost by an exception."""
    with store() as backend, edge(backend) as gatepost, session(gatepost) as client:
        assert auth_plain(client, NAME, PASSWORD).code == 235
        for _ in range(3):
            assert client.message(SENDER, [ELSEWHERE]).code == 250
        client.envelope(SENDER, [ELSEWHERE])
        client.command("RSET", 250)
        assert client.message(SENDER, [ELSEWHERE]).code == 250
        assert len(backend.commands("DATA")) == 4
        assert len({connection for connection, _ in carrier(backend, 4)}) == 1


def test_kept_connections_make_room():
    """The server has no more connections than it may, those that are kept for others included."""
    with store() as backend:
        server = {"address": f"127.0.0.1:{backend.port}", "max_connections": 1}
        with edge(backend, mta={"servers": [server], "reuse": {"mode": "safe"}}) as gatepost:
            with session(gatepost) as client:
                assert client.message(SENDER, ["b@example.com"]).code == 250
                client.quit()
            wait_until(lambda: gatepost.connections() == 1)
            with session(gatepost) as client:
                assert auth_plain(client, NAME, PASSWORD).code == 235
                wait_until(lambda: gatepost.connections() == 2)
                assert client.message(SENDER, ["b@example.com"]).code == 250


def test_mail_before_auth_goes_elsewhere():
    with store() as backend:
        with edge(backend) as gatepost, session(gatepost) as client:
            assert client.message(SENDER, ["b@example.com"]).code == 250
            assert auth_plain(client, NAME, PASSWORD).code == 235
            assert client.message(SENDER, ["b@example.com"]).code == 250
        (before, nobody), (after, auth) = carrier(backend, 2)
        assert before != after and nobody is None and auth["user"] == NAME


def test_other_destinations_have_their_own_connections():
    with store("--auth-required") as backend, Backend() as other:
        gatepost = edge(backend)
        gatepost.config["backends"].append({"name": "other", "servers": f"127.0.0.1:{other.port}",
                                            "reuse": {"mode": "never"}})
        gatepost.config["routes"] = [{"domains": ["other.example"], "backend": "other"},
                                     {"backend": "mta"}]
        with gatepost, session(gatepost) as client:
            assert auth_plain(client, NAME, PASSWORD).code == 235
            for domain in ("example.com", "other.example", "example.com", "other.example"):
                assert client.message(SENDER, [f"b@{domain}"]).code == 250
        own, = auth_sessions(backend)
        assert [found for found, _ in carrier(backend, 2)] == [own] * 2
        assert len(other.messages()) == 2 and not other.auths()


def test_starttls_forgets_it(pair):
    with store("--auth-required") as backend:
        one = listener("mx", pair, "starttls", backend="mta", allow_plaintext=["127.0.0.0/8"])
        with edge(backend, more={"listeners": [one]}) as gatepost, session(gatepost) as client:
            assert auth_plain(client, NAME, PASSWORD).code == 235
            client.command("STARTTLS", 220)
            wrap(client, trusting(), MX)
            client.command("EHLO client.example.net", 250)
            client.command(f"MAIL FROM:<{SENDER}>", 250)
            client.command(f"RCPT TO:<{ELSEWHERE}>", 554)
            client.command("RSET", 250)
            assert auth_login(client, NAME, PASSWORD).code == 235
            assert client.message(SENDER, [ELSEWHERE]).code == 250
        assert [found for found, _ in carrier(backend)] == auth_sessions(backend)[1:]


# ---- What is wrong

@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("name, password", [(NAME, WRONG), ("nobody", WRONG)])
def test_wrong_password(exchange, name, password):
    """In our words, held back like others; nothing is gained, and it is the client's fault alone."""
    act, options = EXCHANGES[exchange]
    with store("--auth-required") as backend, edge(backend) as gatepost:
        with session(gatepost) as client:
            started = time.monotonic()
            reply = act(client, name, password, **options)
            assert str(reply) == "535 5.7.8 Authentication credentials invalid"
            assert time.monotonic() - started >= DELAY_SECONDS * 0.9
            client.command(f"MAIL FROM:<{SENDER}>", 250)
            client.command(f"RCPT TO:<{ELSEWHERE}>", 554)
            client.command("RSET", 250)
            assert act(client, NAME, PASSWORD, **options).code == 235
            assert client.message(SENDER, [ELSEWHERE]).code == 250
        log = gatepost.wait_log("auth_failed")
        assert (log["user"], log["result"]) == (name, "refused")
        assert not gatepost.log_records("backend_blames_us")
        assert not gatepost.log_records("backend_failed")


MALFORMED = ["AUTH PLAIN " + encode("x"), "AUTH PLAIN " + encode("\0bea"), "AUTH LOGIN =",
             "AUTH SCRAM-SHA-256 " + encode("n,,n=b=ea,r=abc"),
             "AUTH SCRAM-SHA-256 " + encode("p=tls-exporter,,n=bea,r=abc"),
             "AUTH SCRAM-SHA-256 " + encode("n,a=yves,n=bea,r=abc"),
             "AUTH PLAIN " + plain("bea", PASSWORD, "yves")]


@pytest.mark.parametrize("line", MALFORMED)
def test_what_is_malformed_stays_here(line):
    """Nobody acts as somebody else, and no server is bothered."""
    with store() as backend, edge(backend) as gatepost, session(gatepost) as client:
        assert client.command(line).code in (501, 535)
        assert len(backend.connections()) == 1
        assert auth_plain(client, NAME, PASSWORD).code == 235


def test_limits_hold():
    with store() as backend, \
            edge(backend, failures_per_client=2, failure_delay="50ms") as gatepost:
        with session(gatepost) as client:
            assert [auth_plain(client, NAME, WRONG).code for _ in range(2)] == [535] * 2
            assert auth_plain(client, NAME, PASSWORD).code == 454
        assert len(backend.auths()) == 2


def test_another_server_takes_over():
    """While nothing of the credentials was said."""
    with store(faults=["ehlo:refuse-close@c2+"]) as dying, store() as good:
        with edge([dying, good]) as gatepost, session(gatepost) as client:
            for exchange in (auth_plain, auth_scram):
                assert exchange(client, NAME, WRONG).code == 535
            assert auth_scram(client, NAME, PASSWORD).code == 235
            assert client.message(SENDER, [ELSEWHERE]).code == 250
        assert len(dying.connections()) >= 2 and len(good.messages()) == 1


UNAVAILABLE = ["auth:reply=454 4.7.0 later", "auth:reply=421 4.3.2 bye", "auth:close-before-reply",
               "auth:reset", "auth:garbage", "auth:raw=334 !!!\\r\\n", "auth:raw=250 fine\\r\\n",
               "auth:reply=504 5.5.4 what", "auth:reply=530 5.7.0 tls first",
               "auth:reply=538 5.7.11 tls first", "auth:merged", "auth:bare-lf",
               "ehlo:reply=451 4.3.0 no", "connect:reset", "banner:reply=421 4.3.2 full"]


@pytest.mark.parametrize("fault", UNAVAILABLE)
@pytest.mark.parametrize("act", [auth_plain, auth_login, auth_scram])
def test_servers_that_fail(fault, act):
    """454, and it does not count; the next attempt is another one."""
    with store(faults=[fault + "@c2-2"]) as backend, edge(backend) as gatepost:
        with session(gatepost) as client:
            assert act(client, NAME, PASSWORD).code == 454
            assert act(client, NAME, PASSWORD).code == 235
            assert client.message(SENDER, [ELSEWHERE]).code == 250
        assert all(log["result"] == "unavailable" for log in gatepost.log_records("auth_failed"))


def test_refusal_with_a_closed_connection():
    """The verdict counts, not what comes of the connection."""
    with store(faults=["auth:reply-close=535 5.7.8 no"]) as backend, edge(backend) as gatepost, \
            session(gatepost) as client:
        assert auth_plain(client, NAME, PASSWORD).code == 535


def test_no_server():
    """Never seen: not available. Seen once: offered, and not available."""
    with Gatepost(configured(
            listener("mx", backend="mta", allow_plaintext=["127.0.0.0/8"]),
            backends=[{"name": "mta", "servers": f"127.0.0.1:{keep_port()}",
                       "auth": {"allow_plaintext": True}}])) as gatepost:
        with session(gatepost) as client:
            assert offered(client) == []
            assert auth_plain(client, NAME, PASSWORD).code == 454
    with store() as backend, edge(backend) as gatepost, session(gatepost) as client:
        backend.stop()
        assert auth_plain(client, NAME, PASSWORD).code == 454
        backend.start()
        assert auth_plain(client, NAME, PASSWORD).code == 235


def test_client_that_goes_meanwhile():
    """Seen at once, not when the server has had its time."""
    with store(faults=["auth:stall@c2-2", "ehlo:stall@c3-3"]) as backend, \
            edge(backend, timeout="1m") as gatepost:
        before = gatepost.fds()
        for count in (1, 2):
            with session(gatepost) as client:
                there = len(backend.connections())
                client.send(f"AUTH PLAIN {plain(NAME, PASSWORD)}\r\n")
                backend.wait_for("connection", there + 1)
            gatepost.wait_log("connection", count=count, ending="client_closed")
            gatepost.wait_fds(before)
        with session(gatepost) as client:
            client.command("AUTH SCRAM-SHA-256 " + encode("n,,n=bea,r=abcdef"), 334)
            client.command("*", 501)
            client.command("AUTH SCRAM-SHA-256 " + encode("n,,n=bea,r=abcdef"), 334)
        gatepost.wait_fds(before)


# ---- When the connection is lost

def test_lost_between_transactions():
    """The credentials are gone: the client has to come again."""
    with store(faults=["idle:close:50@c2-2"]) as backend, edge(backend) as gatepost:
        with session(gatepost) as client:
            assert auth_plain(client, NAME, PASSWORD).code == 235
            assert client.message(SENDER, [ELSEWHERE]).code == 250
            gatepost.wait_log("backend_failed", step="idle")
            client.command("NOOP", 250)
            reply = client.command(f"MAIL FROM:<{SENDER}>")
            assert (reply.code, reply.enhanced) == (421, "4.7.0")
            assert client.is_ended()
            assert latest(gatepost, client)["ending"] == "auth_lost"
        with session(gatepost) as client:
            assert auth_plain(client, NAME, PASSWORD).code == 235
            assert client.message(SENDER, [ELSEWHERE]).code == 250


@pytest.mark.parametrize("state", ["mail", "rcpt", "data", "dot", "after-dot"])
def test_lost_within_a_transaction(state):
    """451, at no other server, and never twice."""
    with store(faults=[f"{state}:refuse-close@c2-2"]) as backend, store() as other:
        with edge([backend, other]) as gatepost, session(gatepost) as client:
            assert auth_plain(client, NAME, PASSWORD).code == 235
            client.command(f"MAIL FROM:<{SENDER}>", 250)
            reply = client.command(f"RCPT TO:<{ELSEWHERE}>")
            if reply.code == 250:
                reply = client.command("DATA")
            if reply.code == 354:
                client.send(BODY + b".\r\n")
                reply = client.reply()
            assert reply.code == 451
            client.command("RSET", 250)
            assert client.command(f"MAIL FROM:<{SENDER}>").code == 421
        assert not other.messages() and not other.commands("AUTH")
        assert len(backend.messages()) == (state == "after-dot")


def test_refusals_keep_it():
    """What the server says of a message is no reason to leave it."""
    with store() as backend, edge(backend) as gatepost, session(gatepost) as client:
        assert auth_plain(client, NAME, PASSWORD).code == 235
        client.command(f"MAIL FROM:<{SENDER}>", 250)
        client.command("RCPT TO:<reject-1@elsewhere.example>", 550)
        client.command("RCPT TO:<defer-1@elsewhere.example>", 450, 451, 452)
        client.command("RSET", 250)
        assert client.message(SENDER, ["dotreject-1@elsewhere.example"]).code in (550, 554)
        assert client.message(SENDER, [ELSEWHERE]).code == 250
        client.command(f"MAIL FROM:<{SENDER}>", 250)
        client.command(f"RCPT TO:<{ELSEWHERE}>", 250)
        client.command("EHLO client.example.net", 250)
        assert client.message(SENDER, [ELSEWHERE]).code == 250
        client.quit()
        assert len(backend.connections()) == 2


# ---- Secrets

@pytest.mark.parametrize("is_tls", [True, False], ids=["tls", "plain"])
def test_nothing_is_left_in_memory(pair, is_tls):
    """As in test_auth.py: neither of what was refused nor of what was taken."""
    secret = "L3ft-behind-at-backend-0932"
    with TlsBackend(pair, auth=(NAME, secret)) as mta, \
            edge(mta, pair if is_tls else None, mta={"tls": {"mode": "required"}}) as gatepost:
        with session(gatepost) as kept, session(gatepost) as other:
            for exchange in (auth_plain, auth_login):
                assert exchange(other, "nobody", secret).code == 535
            assert auth_plain(kept, NAME, secret, initial=False).code == 235
            kept.command("NOOP", 250)
            other.close()
            gatepost.wait_log("connection", ending="client_closed")
            wait_until(lambda: not leftovers(gatepost.pid, shapes(secret)))


# ---- A real one

def test_postfix(pair):
    """Postfix with Dovecot's SASL, tokens included; and its rules about senders see the user."""
    with Dovecot({NAME: PASSWORD}) as dovecot, Postfix(further=[
            "smtpd_sasl_auth_enable = yes", "smtpd_sasl_type = dovecot",
            f"smtpd_sasl_path = {dovecot.socket}", "smtpd_tls_auth_only = yes",
            "smtpd_tls_security_level = may", f"smtpd_tls_cert_file = {pair.certificate}",
            f"smtpd_tls_key_file = {pair.key}",
            "smtpd_client_restrictions = permit_sasl_authenticated, reject"]) as postfix:
        with edge(postfix, pair, mta={"tls": {"mode": "required"}}) as gatepost:
            with session(gatepost) as client:
                assert {"OAUTHBEARER", "XOAUTH2", "SCRAM-SHA-256"} <= set(offered(client))
            for act in (auth_plain, auth_login, auth_scram):
                with session(gatepost) as client:
                    assert act(client, NAME, WRONG).code == 535
                    assert act(client, NAME, PASSWORD).code == 235
                    assert client.message(SENDER, ["bob@example.com"]).code == 250
                assert len(postfix.wait_mail("bob")) == 1
            for padding in (0, 3000):
                token = dovecot.token(NAME, padding)
                for line in ("AUTH XOAUTH2 " + xoauth2(NAME, token),
                             "AUTH OAUTHBEARER " + oauthbearer(NAME, token)):
                    with session(gatepost) as client:
                        assert client.command(line).code == 235, line[:20]
                        assert client.message(SENDER, ["bob@example.com"]).code == 250
                    assert len(postfix.wait_mail("bob")) == 1
            with session(gatepost) as client:
                reply = client.command("AUTH XOAUTH2 " + xoauth2(NAME, token[:-8] + "AAAAAAAA"))
                if reply.code == 334:  # why, in JSON
                    reply = client.command("")
                assert reply.code == 535
            assert f"sasl_method=XOAUTH2, sasl_username={NAME}" in postfix.log()
