"""AUTH at the backend, with credentials of gatepost's own."""

import signal

import pytest
from auth import Discreet, auth_plain, hash_password
from backend import Backend
from client import Client
from dovecot import Dovecot
from gatepost import merge
from postfix import Postfix
from tls import Authority
from tlsbackend import TlsBackend

SENDER, RECIPIENT = "alice@example.net", "bob@example.com"
BODY = b"Subject: test\r\n\r\ntext\r\n"
USER, PASSWORD = "relay", "Rel4y-correct-otter-0930"
OTHER = "0ther-correct-badger-0931"
MECHANISMS = ("PLAIN", "LOGIN", "SCRAM-SHA-256")


class Gatepost(Discreet):
    secrets = (PASSWORD, OTHER)


@pytest.fixture(name="secret")
def secret_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates")).make("mta", ["mta.example.com"])


def edge(servers, secret, *, tls=None, more=None, **auth):
    """gatepost in front of these."""
    servers = servers if isinstance(servers, list) else [servers]
    auth = {"user": USER, "password_file": str(secret), **auth}
    if not tls:
        auth.setdefault("allow_plaintext", True)
    mta = {"name": "mta", "servers": [f"127.0.0.1:{server.port}" for server in servers],
           "auth": auth, "tls": tls or {"mode": "off"}, "reuse": {"mode": "never"}}
    return Gatepost({"backends": [merge(mta, more or {})]})


def send(gatepost, recipients=(RECIPIENT,), body=BODY):
    """One message; the first reply that refuses it, or the last."""
    with Client(gatepost.address) as client:
        client.hello()
        client.command(f"MAIL FROM:<{SENDER}>", 250)
        for recipient in recipients:
            reply = client.command(f"RCPT TO:<{recipient}>")
            if reply.code != 250:
                return reply
        return client.data(body)


# ---- What is right

@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_mechanisms(secret, mechanism):
    """A probe and a client's connection: each says who it is, and mail goes only then."""
    with Backend("--auth-required", auth=(USER, PASSWORD),
                 extensions=f"PIPELINING,AUTH={mechanism}") as backend:
        with edge(backend, secret) as gatepost:
            assert send(gatepost).code == 250
        assert set(backend.auths()) == {(mechanism, USER, "ok")} and len(backend.auths()) == 2
        assert len(backend.messages()) == 1 and not backend.violations()


def test_the_best_first_and_as_the_operator_says(secret):
    with Backend("--auth-required", auth=(USER, PASSWORD)) as backend:
        with edge(backend, secret) as gatepost:
            assert send(gatepost).code == 250
        with edge(backend, secret, mechanisms=["LOGIN", "SCRAM-SHA-256"]) as gatepost:
            assert send(gatepost).code == 250
        assert [mechanism for mechanism, _, _ in backend.auths()] \
            == ["SCRAM-SHA-256"] * 2 + ["LOGIN"] * 2


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_over_lmtp(secret, mechanism):
    """Behind LHLO (RFC 2033 section 5); with a wrong password nobody's mail goes there."""
    with Backend("--auth-required", lmtp=True, auth=(USER, PASSWORD),
                 extensions=f"PIPELINING,AUTH={mechanism}") as backend:
        with edge(backend, secret, more={"protocol": "lmtp"}) as gatepost:
            assert send(gatepost, [RECIPIENT, "carol@example.com"]).code == 250
        assert {outcome for _, _, outcome in backend.auths()} == {"ok"}
        secret.write_text(OTHER + "\n")
        with edge(backend, secret, more={"protocol": "lmtp"}) as gatepost:
            assert send(gatepost).code == 451
            assert gatepost.wait_log("backend_blames_us")["step"] == "AUTH"
        [message] = backend.messages()
        assert message["rcpt_to"] == [RECIPIENT, "carol@example.com"]


def test_long_credentials(tmp_path):
    """They do not fit into the command that every server takes: they come behind it."""
    name, password = "n" * 255, "päss" * 102
    path = tmp_path / "password"
    path.write_text(password)
    for mechanism in MECHANISMS:
        with Backend("--auth-required", auth=(name, password),
                     extensions=f"AUTH={mechanism}") as backend:
            with edge(backend, path, user=name) as gatepost:
                assert send(gatepost).code == 250, mechanism
            assert all(outcome == "ok" for _, _, outcome in backend.auths())
            assert all(len(line) <= 510 for line in backend.commands("AUTH"))


def test_under_tls(secret, pair):
    """Not before TLS; under it in any of its modes."""
    for mode, setting in (("starttls", "required"), ("starttls", "opportunistic"),
                          ("implicit", "implicit")):
        with TlsBackend(pair, mode, auth=(USER, PASSWORD)) as mta:
            with edge(mta, secret, tls={"mode": setting}) as gatepost:
                assert send(gatepost).code == 250
                assert "whoever answers" in gatepost.wait_log("config_notice")["detail"]
            session, = mta.with_mail()
            assert session.auths == [(True, "PLAIN", USER, "ok")]
            assert "AUTH" not in session.verbs(is_tls=False)
            verbs = session.verbs(is_tls=True)
            assert verbs[:3] == ["EHLO", "AUTH", "MAIL"]


def test_behind_xclient(secret, pair):
    """XCLIENT makes a server forget who we are, so AUTH comes after it."""
    offer = ("PIPELINING", "XCLIENT NAME ADDR PORT PROTO HELO")
    with TlsBackend(pair, offer_tls=offer, auth=(USER, PASSWORD)) as mta:
        with edge(mta, secret, tls={"mode": "required"},
                  more={"identity": "xclient"}) as gatepost:
            assert send(gatepost).code == 250
        session, = mta.with_mail()
        assert session.verbs(is_tls=True)[:5] == ["EHLO", "XCLIENT", "EHLO", "AUTH", "MAIL"]


def test_behind_xclient_with_a_login(secret, pair, tmp_path):
    """The session is that of a client who has logged in: it takes no AUTH, and needs none."""
    users = tmp_path / "users"
    users.write_text(hash_password("carol", OTHER, "bcrypt"))
    offer = ("PIPELINING", "XCLIENT ADDR PORT LOGIN")
    with TlsBackend(pair, offer_tls=offer, auth=(USER, PASSWORD),
                    on_auth=b"503 5.5.1 already authenticated\r\n") as mta:
        gatepost = edge(mta, secret, tls={"mode": "required"}, more={"identity": "xclient"})
        gatepost.config["listeners"][0]["auth"] = {"users": str(users),
                                                   "allow_plaintext": ["127.0.0.0/8"]}
        with gatepost, Client(gatepost.address) as client:
            client.hello()
            assert auth_plain(client, "carol", OTHER).code == 235
            assert client.message(SENDER, [RECIPIENT]).code == 250
            client.quit()
        session, = mta.with_mail()
        assert session.xclients[0]["LOGIN"] == "carol"


def test_connections_are_used_again(secret):
    """AUTH is a connection's, not a client's."""
    with Backend("--auth-required", auth=(USER, PASSWORD)) as backend:
        with edge(backend, secret, more={"reuse": {"mode": "safe"}}) as gatepost:
            for _ in range(3):
                assert send(gatepost).code == 250
        assert len(backend.auths()) == 2  # of the probe, and of the one that was kept
        assert len(backend.messages()) == 3


# ---- What is wrong

@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_wrong_password(tmp_path, mechanism):
    """It is ours: known at the start, told to the operator, and no bounce."""
    path = tmp_path / "password"
    path.write_text(OTHER)
    with Backend("--auth-required", auth=(USER, PASSWORD),
                 extensions=f"AUTH={mechanism}") as backend, edge(backend, path) as gatepost:
        alarm = gatepost.wait_log("backend_blames_us")
        assert (alarm["step"], alarm["code"]) == ("AUTH", 535)
        assert "error" in gatepost.wait_log("backend_failed", step="probe")
        reply = send(gatepost)
        assert (reply.code, reply.enhanced) == (451, "4.4.1")
        assert "MAIL" not in [line[:4] for line in backend.commands()]
        assert gatepost.trace(count=1)[0]["transactions"][0]["outcome"] == "deferred"


def test_another_server_takes_over(secret):
    """One that refuses us, one that cannot, one that does not answer: the fourth gets it."""
    with Backend("--auth-required", auth=(USER, OTHER)) as strange, \
            Backend(extensions="PIPELINING") as unable, \
            Backend("--auth-required", auth=(USER, PASSWORD), faults=["auth:close"]) as dying, \
            Backend("--auth-required", auth=(USER, PASSWORD)) as good:
        with edge([strange, unable, dying, good], secret) as gatepost:
            assert send(gatepost).code == 250
            reasons = [line["reply"] for line in gatepost.log_records("backend_blames_us")]
            assert "none of our mechanisms offered" in reasons
        assert len(good.messages()) == 1


def test_no_weaker_mechanism_after_a_refusal(secret):
    """A server that refuses SCRAM is not told the password instead."""
    with Backend("--auth-required", auth=(USER, OTHER)) as backend:
        with edge(backend, secret) as gatepost:
            assert send(gatepost).code == 451
        assert {mechanism for mechanism, _, _ in backend.auths()} == {"SCRAM-SHA-256"}


def test_refused_for_now(secret):
    """454: no alarm, the next one is tried."""
    with Backend("--auth-required", auth=(USER, PASSWORD),
                 faults=["auth:reply=454 4.7.0 later@c2+"]) as busy, \
            Backend("--auth-required", auth=(USER, PASSWORD)) as good:
        with edge([busy, good], secret) as gatepost:
            assert send(gatepost).code == 250
            assert gatepost.wait_log("backend_failed")["error"] == "AUTH refused for now"
            assert not gatepost.log_records("backend_blames_us")
        assert len(good.messages()) == 1


ODD = ["auth:reply=250 2.0.0 fine", "auth:reply=334 !!!", "auth:raw=334 %%\\r\\n",
       "auth:garbage", "auth:merged", "auth:bare-lf", "auth:reset", "auth:refuse-close",
       "auth:reply=421 4.3.2 bye", "auth:reply-close=421 4.3.2 bye", "auth:mixed-codes",
       "auth:raw=334\\r\\n334\\r\\n", "auth:long-line", "auth:reply=535 5.7.8 no",
       "auth:raw=235 2.7.0 Welcome\\r\\n"]


@pytest.mark.parametrize("fault", ODD)
def test_odd_servers(secret, fault):
    """Whatever they answer in the exchange, the mail goes to the next one, and once. Not to the probe,
    so that the client is the first to see it."""
    with Backend("--auth-required", auth=(USER, PASSWORD), faults=[fault + "@c2+"]) as odd, \
            Backend("--auth-required", auth=(USER, PASSWORD)) as good:
        with edge([odd, good], secret) as gatepost:
            assert send(gatepost).code == 250
            assert len(odd.connections()) == 2
        assert not odd.commands("MAIL") and len(good.messages()) == 1


def test_server_must_prove_itself(secret):
    """SCRAM: 235 before its signature is what somebody says who does not know the password."""
    with Backend("--auth-required", auth=(USER, PASSWORD),
                 faults=["auth2:raw=235 2.7.0 Welcome\\r\\n"]) as backend, \
            edge(backend, secret) as gatepost:
        assert send(gatepost).code == 451
        assert gatepost.wait_log("backend_blames_us")["reply"] \
            == "the server has not proved that it knows the password"
        assert not backend.commands("MAIL")


def test_never_without_tls(secret, pair):
    """Opportunistic TLS that cannot be had: no password, and no mail."""
    with TlsBackend(pair, offers=False, auth=(USER, PASSWORD),
                    offer=("PIPELINING", "AUTH PLAIN LOGIN")) as mta:
        with edge(mta, secret, tls={"mode": "opportunistic", "fallback": "always"},
                  allow_plaintext=False) as gatepost:
            assert send(gatepost).code == 451
            assert gatepost.wait_log("backend_blames_us")["reply"] == "no AUTH without TLS"
        assert all("AUTH" not in session.verbs() for session in mta.sessions)


def test_file_changes(secret):
    """Read anew on HUP; one that cannot be used changes nothing."""
    with Backend("--auth-required", auth=(USER, OTHER)) as backend:
        with edge(backend, secret) as gatepost:
            assert send(gatepost).code == 451
            secret.write_text(OTHER + "\n")
            gatepost.signal(signal.SIGHUP)
            gatepost.wait_log("files_read", name="mta", kind="password")
            assert send(gatepost).code == 250
            secret.write_text("")
            gatepost.signal(signal.SIGHUP)
            kept = gatepost.wait_log("files_kept", name="mta", kind="password")
            assert "there is no password in it" in kept["error"]
            assert send(gatepost).code == 250


# ---- A real one

def test_postfix(secret, pair):
    """Postfix with Dovecot's SASL, TLS first, everything but authenticated clients refused."""
    with Dovecot({USER: PASSWORD}) as dovecot, Postfix(further=[
            "smtpd_sasl_auth_enable = yes", "smtpd_sasl_type = dovecot",
            f"smtpd_sasl_path = {dovecot.socket}", "smtpd_tls_auth_only = yes",
            "smtpd_tls_security_level = may", f"smtpd_tls_cert_file = {pair.certificate}",
            f"smtpd_tls_key_file = {pair.key}",
            "smtpd_client_restrictions = permit_sasl_authenticated, reject"]) as postfix:
        for mechanism in MECHANISMS:
            with edge(postfix, secret, tls={"mode": "required"},
                      mechanisms=[mechanism]) as gatepost:
                assert send(gatepost).code == 250, mechanism
            assert len(postfix.wait_mail("bob")) == 1
            assert f"sasl_method={mechanism}, sasl_username={USER}" in postfix.log()
