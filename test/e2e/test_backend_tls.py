"""TLS towards backends: a real Postfix, and servers that do it wrong in every way."""

import contextlib
import re
import signal
import ssl

import pytest
from client import Client
from gatepost import Gatepost
from ports import keep_port
from postfix import Postfix
from tls import Authority, fingerprint, starttls, trusting
from tlsbackend import TlsBackend

NAME = "mta.example.com"
SENDER, RECIPIENT = "alice@example.net", "bob@example.com"
BODY = b"Subject: test\r\n\r\ntext\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def pairs(authority):
    stranger = Authority(authority.directory, "stranger-authority")
    return {"good": authority.make("good", [NAME]),
            "rsa": authority.make("rsa", [NAME], kind="rsa"),
            "wildcard": authority.make("wildcard", ["*.example.com"]),
            "other-name": authority.make("other-name", ["other.example.com"]),
            "stranger": stranger.make("stranger", [NAME]),
            "self-signed": authority.make("self-signed", [NAME], own_authority=True),
            "expired": authority.make("expired", [NAME], expired=True),
            "edge": authority.make("edge")}


def edge(servers, *, timeouts=None, listener=None, **tls):
    """gatepost in front of these; `tls` is the section of the backend."""
    servers = servers if isinstance(servers, list) else [servers]
    mta = {"name": "mta", "servers": [f"127.0.0.1:{server.port}" for server in servers],
           "tls": tls, "reuse": {"mode": "never"}}
    return Gatepost({"backends": [mta],
                     "timeouts": timeouts or {}},
                    listener=listener)


def send(gatepost, body=BODY):
    """One message; the first reply that refuses it, or the last."""
    with Client(gatepost.address) as client:
        client.hello()
        client.command(f"MAIL FROM:<{SENDER}>", 250)
        reply = client.command(f"RCPT TO:<{RECIPIENT}>")
        if reply.code == 250:
            reply = client.data(body)
        client.quit()
        return reply


# What becomes of a message.
TLS, PLAIN, REFUSED = "under TLS", "in plaintext", "not"


def assert_outcome(gatepost, mta, outcome):
    """The client's reply, what the server saw, and what the log says agree."""
    reply = send(gatepost)
    if outcome == REFUSED:
        assert (reply.code, reply.enhanced[:2]) == (451, "4."), reply
        assert mta.with_mail() == []
        failed = gatepost.wait_log("backend_failed")
        assert failed["backend"] == "mta" and failed["error"]
        assert gatepost.log_records("tls_fallback") == []
        return
    assert reply.code == 250, reply
    session, = mta.with_mail()
    assert session.messages[0].endswith(b"\r\n" + BODY)
    is_tls = outcome == TLS
    assert (session.tls is not None) is is_tls
    assert "MAIL" not in session.verbs(is_tls=not is_tls)
    assert "RCPT" not in session.verbs(is_tls=not is_tls)


# ---- Modes

FAULTS = {
    # name: options of the server
    "good": {},
    "not-offered": {"offers": False},
    "454": {"answer": b"454 4.7.0 TLS not available\r\n"},
    "502": {"answer": b"502 5.5.1 what?\r\n"},
    "close": {"handshake": "close"},
    "reset": {"handshake": "reset"},
    "garbage": {"handshake": "garbage"},
    "plaintext": {"handshake": "plaintext"},
    "stall": {"handshake": "stall"},
    "nothing": {"answer": b"220 2.0.0 go ahead"},
    "421": {"answer": b"421 4.3.2 going\r\n"},
}
# Servers that are waited for in vain, and how long.
SILENT = ("stall", "nothing")
HASTY = dict.fromkeys(("tls_handshake", "backend_command", "backend_greeting"), "1s")
MODES = {
    # name: settings; what becomes of a message when all is well, when STARTTLS is not offered, and
    # otherwise
    "off": ({"mode": "off"}, PLAIN, PLAIN, PLAIN),
    "opportunistic": ({"mode": "opportunistic"}, TLS, PLAIN, REFUSED),
    "always": ({"mode": "opportunistic", "fallback": "always"}, TLS, PLAIN, PLAIN),
    "required": ({"mode": "required"}, TLS, REFUSED, REFUSED),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("mode", MODES)
def test_mode(pairs, mode, fault):
    settings, good, not_offered, otherwise = MODES[mode]
    outcome = {"good": good, "not-offered": not_offered}.get(fault, otherwise)
    with TlsBackend(pairs["good"], **FAULTS[fault]) as mta, \
            edge(mta, timeouts=HASTY if fault in SILENT else None, **settings) as gatepost:
        assert_outcome(gatepost, mta, outcome)
        fallbacks = gatepost.log_records("tls_fallback")
        if outcome == PLAIN and mode != "off":
            assert fallbacks and all(record["backend"] == "mta" and record["reason"]
                                     for record in fallbacks)
        else:
            assert fallbacks == []
        if mode == "off":
            assert "STARTTLS" not in [verb for session in mta.sessions
                                      for verb in session.verbs()]


@pytest.mark.parametrize("fault", [None, "close", "reset", "garbage", "plaintext", "stall"])
def test_implicit(pairs, fault):
    with TlsBackend(pairs["good"], mode="implicit", handshake=fault) as mta, \
            edge(mta, mode="implicit", timeouts=HASTY if fault in SILENT else None) as gatepost:
        assert_outcome(gatepost, mta, REFUSED if fault else TLS)
        for session in mta.sessions:
            assert "STARTTLS" not in session.verbs() and not session.lines(is_tls=False)


def test_implicit_towards_a_plaintext_server(pairs):
    """Its banner comes before the handshake: nothing of it counts."""
    with TlsBackend(pairs["good"]) as mta, edge(mta, mode="implicit") as gatepost:
        assert_outcome(gatepost, mta, REFUSED)


def test_starttls_towards_a_tls_port(pairs):
    with TlsBackend(pairs["good"], mode="implicit") as mta, \
            edge(mta, mode="required", timeouts=HASTY) as gatepost:
        assert_outcome(gatepost, mta, REFUSED)


@pytest.mark.parametrize("newest, settings, outcome", [
    (ssl.TLSVersion.TLSv1_2, {}, TLS),
    (ssl.TLSVersion.TLSv1_2, {"min_version": "1.3"}, REFUSED),
    (None, {"min_version": "1.3"}, TLS)])
def test_min_version(pairs, newest, settings, outcome):
    with TlsBackend(pairs["rsa"], newest=newest) as mta, \
            edge(mta, mode="required", **settings) as gatepost:
        assert_outcome(gatepost, mta, outcome)
        if outcome == TLS:
            assert mta.with_mail()[0].tls["version"] == ("TLSv1.2" if newest else "TLSv1.3")


def test_large_message(pairs):
    body = b"Subject: large\r\n\r\n" + b"".join(
        b"%07d %s\r\n" % (i, b"x" * (i % 900)) for i in range(4000))
    with TlsBackend(pairs["good"]) as mta, edge(mta, mode="required") as gatepost:
        assert send(gatepost, body).code == 250
        assert mta.messages()[0].endswith(b"\r\n" + body)


# ---- Verification

VERIFICATIONS = [
    # verify, settings, certificate of the server, is it good
    ("none", {}, "good", True), ("none", {}, "stranger", True), ("none", {}, "expired", True),
    ("none", {}, "self-signed", True), ("none", {}, "other-name", True),
    ("ca", {}, "good", True), ("ca", {}, "rsa", True), ("ca", {}, "other-name", True),
    ("ca", {}, "stranger", False), ("ca", {}, "expired", False), ("ca", {}, "self-signed", False),
    ("name", {"name": NAME}, "good", True), ("name", {"name": NAME.upper()}, "good", True),
    ("name", {"name": NAME}, "wildcard", True), ("name", {"name": NAME}, "other-name", False),
    ("name", {"name": NAME}, "stranger", False), ("name", {"name": NAME}, "expired", False),
    ("name", {"name": "example.com"}, "wildcard", False),
    ("fingerprint", {"fingerprint": "good"}, "good", True),
    ("fingerprint", {"fingerprint": "self-signed"}, "self-signed", True),
    ("fingerprint", {"fingerprint": "stranger"}, "stranger", True),
    ("fingerprint", {"fingerprint": "good"}, "rsa", False),
    ("fingerprint", {"fingerprint": "good"}, "stranger", False),
]


@pytest.mark.parametrize("verify, settings, server, is_good", VERIFICATIONS,
                         ids=lambda value: str(value))
def test_verification(pairs, authority, verify, settings, server, is_good):
    settings = dict(settings)
    if verify in ("ca", "name"):
        settings["ca"] = str(authority.certificate)
    if "fingerprint" in settings:
        settings["fingerprint"] = fingerprint(pairs[settings["fingerprint"]].certificate)
    with TlsBackend(pairs[server]) as mta, \
            edge(mta, mode="required", verify=verify, **settings) as gatepost:
        assert_outcome(gatepost, mta, TLS if is_good else REFUSED)
        if not is_good:
            assert "certificate" in gatepost.wait_log("backend_failed")["error"]


@pytest.mark.parametrize("mode, fallback, outcome", [
    ("implicit", "not_offered", REFUSED), ("opportunistic", "not_offered", REFUSED),
    ("opportunistic", "always", PLAIN)])
def test_wrong_certificate(pairs, authority, mode, fallback, outcome):
    """With fallback: always it is no better than none, and the log says so."""
    with TlsBackend(pairs["stranger"],
                    mode="implicit" if mode == "implicit" else "starttls") as mta, \
            edge(mta, mode=mode, verify="ca", ca=str(authority.certificate),
                 fallback=fallback) as gatepost:
        assert_outcome(gatepost, mta, outcome)
        if outcome == PLAIN:
            assert "certificate" in gatepost.wait_log("tls_fallback")["reason"]


def test_fingerprint_as_openssl_prints_it(pairs):
    digits = fingerprint(pairs["good"].certificate).upper()
    with_colons = ":".join(digits[i:i + 2] for i in range(0, 64, 2))
    with TlsBackend(pairs["good"]) as mta, edge(mta, mode="required", verify="fingerprint",
                                                fingerprint=with_colons) as gatepost:
        assert_outcome(gatepost, mta, TLS)


@pytest.mark.parametrize("settings", [
    {"verify": "ca", "ca": "/nonexistent.pem"}, {"verify": "ca", "ca": "/etc/hostname"},
    {"verify": "fingerprint", "fingerprint": "abcd"}, {"verify": "fingerprint"},
    {"verify": "name"}, {"certificate": "/nonexistent.pem", "key": "/nonexistent.pem"},
    {"certificate": "/etc/hostname"}])
def test_settings_that_cannot_work(settings):
    with pytest.raises(RuntimeError) as problem:
        with Gatepost({"backends": [{"name": "mta", "servers": ["127.0.0.1:1"],
                                     "tls": {"mode": "required", **settings}}]}):
            pass
    said = str(problem.value)
    assert "gatepost ended with exit code" in said and "Sanitizer" not in said
    assert "mta" in said or "backends" in said, said


# ---- SNI, and our own certificate

@pytest.mark.parametrize("mode", ["required", "implicit"])
@pytest.mark.parametrize("name, sni", [(NAME, NAME), (None, None), ("192.0.2.1", None)])
def test_sni(pairs, mode, name, sni):
    with TlsBackend(pairs["good"], mode="implicit" if mode == "implicit" else "starttls") as mta, \
            edge(mta, mode=mode, **({"name": name} if name else {})) as gatepost:
        assert_outcome(gatepost, mta, TLS)
        assert set(mta.names) == {sni}


@pytest.mark.parametrize("newest", [None, ssl.TLSVersion.TLSv1_2], ids=["1.3", "1.2"])
@pytest.mark.parametrize("has_certificate", [True, False])
def test_client_certificate(pairs, authority, has_certificate, newest):
    own = {"certificate": str(pairs["edge"].certificate), "key": str(pairs["edge"].key)}
    with TlsBackend(pairs["good"], client_ca=authority.certificate, newest=newest) as mta, \
            edge(mta, mode="required", **(own if has_certificate else {})) as gatepost:
        assert_outcome(gatepost, mta, TLS if has_certificate else REFUSED)
        if has_certificate:
            assert mta.with_mail()[0].tls["certificate"] == "edge"


# ---- EHLO again

def test_extensions_count_under_tls_only(pairs):
    """What was offered in plaintext is forgotten; what we offer is what is offered under TLS."""
    with TlsBackend(pairs["good"], offer=("SIZE 1000", "PIPELINING", "DSN", "SMTPUTF8"),
                    offer_tls=("SIZE 5000000", "8BITMIME")) as mta, \
            edge(mta, mode="required") as gatepost:
        with Client(gatepost.address) as client:
            words = client.hello().lines
            assert "SIZE 5000000" in words and "8BITMIME" in words
            assert "DSN" not in words and "SMTPUTF8" not in words
            client.command(f"MAIL FROM:<{SENDER}> BODY=8BITMIME SIZE=2000", 250)
            client.command(f"RCPT TO:<{RECIPIENT}>", 250)
            assert client.data().code == 250
            client.quit()
        session, = mta.with_mail()
        assert session.verbs(is_tls=False) == ["EHLO", "STARTTLS"]
        assert session.verbs(is_tls=True)[0] == "EHLO"
        assert "BODY=8BITMIME" in session.lines(is_tls=True)[1]


def test_probe_uses_tls(pairs):
    with TlsBackend(pairs["good"]) as mta, edge(mta, mode="required") as gatepost:
        gatepost.wait_log("backend_learned")
        mta.wait_over()
        probe, = mta.sessions
        assert probe.verbs(is_tls=False) == ["EHLO", "STARTTLS"]
        assert probe.verbs(is_tls=True) == ["EHLO", "QUIT"]


# ---- Response injection

INJECTED = {
    "reply": b"250 2.0.0 injected\r\n",
    "ehlo": b"250-mta.example.com\r\n250-AUTH PLAIN\r\n250 SIZE 77777\r\n",
    "half": b"250 2.0.0 no line end",
    "newline": b"\r\n",
    "refusal": b"550 5.7.1 injected\r\n",
    "session": b"250-mta.example.com\r\n250 PIPELINING\r\n250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n"
               b"354 go\r\n250 2.0.0 queued\r\n",
}


@pytest.mark.parametrize("injected", INJECTED)
@pytest.mark.parametrize("settings", [{"mode": "required"}, {"mode": "opportunistic"}],
                         ids=lambda settings: settings["mode"])
@pytest.mark.parametrize("wait", [None, 0, 0.05], ids=["same-segment", "next", "later"])
def test_injection(pairs, injected, settings, wait):
    """Behind the 220 in its segment; in the next one before the handshake: the server is done with,
    and nothing of it is an answer to anything."""
    text = INJECTED[injected]
    options = {"answer": b"220 2.0.0 go ahead\r\n" + text} if wait is None \
        else {"injected": text, "wait": wait}
    with TlsBackend(pairs["good"], **options) as mta, edge(mta, **settings) as gatepost:
        reply = send(gatepost)
        assert reply.code == 451 and "injected" not in str(reply), reply
        assert mta.with_mail() == [] and mta.messages() == []
        assert gatepost.wait_log("backend_failed")
        assert gatepost.log_records("backend_learned") == []
        for session in mta.sessions:
            assert session.tls is None and not session.lines(is_tls=True)
        with Client(gatepost.address) as client:
            words = client.hello().lines
            assert not any("77777" in word or "AUTH" in word for word in words)
            client.quit()


# ---- Resumption

@pytest.mark.parametrize("newest", [None, ssl.TLSVersion.TLSv1_2], ids=["1.3", "1.2"])
@pytest.mark.parametrize("mode", ["required", "implicit"])
def test_resumption(pairs, authority, mode, newest):
    """Full once, by the probe; then resumed, each session a new connection."""
    with TlsBackend(pairs["good"], mode="implicit" if mode == "implicit" else "starttls",
                    newest=newest) as mta, \
            edge(mta, mode=mode, verify="name", name=NAME,
                 ca=str(authority.certificate)) as gatepost:
        gatepost.wait_log("backend_learned")
        for _ in range(3):
            assert send(gatepost).code == 250
        assert not mta.sessions[0].tls["reused"]
        assert [session.tls["reused"] for session in mta.with_mail()] == [True] * 3


def test_nothing_is_resumed_at_another_server(pairs):
    """What one server gave is not shown to the other."""
    with TlsBackend(pairs["good"]) as first, TlsBackend(pairs["rsa"]) as second:
        mta = {"name": "mta", "servers": [f"127.0.0.1:{first.port}", f"127.0.0.1:{second.port}"],
               "balance": "roundrobin", "tls": {"mode": "required"},
               "reuse": {"mode": "never"}}
        with Gatepost({"backends": [mta]}) as gatepost:
            gatepost.wait_log("backend_learned", count=2)
            for _ in range(4):
                assert send(gatepost).code == 250
            for server in (first, second):
                assert [session.tls["reused"] for session in server.sessions] \
                    == [False, True, True]


def test_server_that_gives_no_tickets(pairs):
    with TlsBackend(pairs["good"], tickets=False) as mta, edge(mta, mode="required") as gatepost:
        for _ in range(3):
            assert send(gatepost).code == 250
        assert [session.tls["reused"] for session in mta.with_mail()] == [False] * 3


# ---- The next server

@pytest.mark.parametrize("fault", ["not-offered", "454", "close", "garbage", "stall",
                                   "certificate", "injection"])
def test_next_server_takes_over(pairs, authority, fault):
    """Within the same transaction, when TLS with the first fails."""
    bad = {"certificate": {}, "injection": {"answer": b"220 go\r\n250 injected\r\n"}}
    first = TlsBackend(pairs["stranger" if fault == "certificate" else "good"],
                       **bad.get(fault) or FAULTS.get(fault, {}))
    with first, TlsBackend(pairs["good"]) as second, \
            edge([first, second], mode="required", verify="ca", ca=str(authority.certificate),
                 timeouts=HASTY if fault in SILENT else None) as gatepost:
        assert send(gatepost).code == 250
        assert first.with_mail() == []
        session, = second.with_mail()
        assert session.tls
        assert gatepost.wait_log("backend_failed")["server"] == f"127.0.0.1:{first.port}"
        transaction, = gatepost.trace()[0]["transactions"]
        assert transaction["server"] == f"127.0.0.1:{second.port}"


def test_fallback_of_one_server_is_not_that_of_the_next(pairs):
    """The first does without TLS and is full; the second has TLS and gets it."""
    with TlsBackend(pairs["good"], offers=False, on_mail=b"421 4.3.2 full\r\n") as first, \
            TlsBackend(pairs["good"]) as second, \
            edge([first, second], mode="opportunistic", fallback="always") as gatepost:
        reply = send(gatepost)
        for session in second.with_mail():
            assert session.tls
        assert reply.code in (250, 421, 451)


# ---- The files change

def test_files_change(pairs, authority, tmp_path):
    """A CA that does not fit, then one that does, then a broken file: on HUP, the last good one."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(pairs["self-signed"].certificate.read_bytes())
    with TlsBackend(pairs["good"]) as mta, \
            edge(mta, mode="required", verify="ca", ca=str(ca)) as gatepost:
        assert send(gatepost).code == 451
        ca.write_bytes(authority.certificate.read_bytes())
        gatepost.signal(signal.SIGHUP)
        gatepost.wait_log("files_read", name="mta", kind="tls")
        assert send(gatepost).code == 250
        ca.write_text("nothing\n")
        gatepost.signal(signal.SIGHUP)
        kept = gatepost.wait_log("files_kept", name="mta", kind="tls")
        assert str(ca) in kept["error"]
        assert send(gatepost).code == 250


# ---- Both sides

def test_tls_on_both_sides(pairs, authority):
    own = {"mode": "starttls", "certificate": str(pairs["rsa"].certificate),
           "key": str(pairs["rsa"].key)}
    with TlsBackend(pairs["good"]) as mta, \
            edge(mta, mode="required", listener={"tls": own}) as gatepost:
        with Client(gatepost.address) as client:
            starttls(client, trusting(authority), NAME)
            for _ in range(3):
                assert client.message().code == 250
            client.quit()
        assert len(mta.messages()) == 3
        # Kept between the transactions of one client, with its TLS.
        session, = mta.with_mail()
        assert session.verbs().count("STARTTLS") == 1


# ---- Postfix

@pytest.fixture(scope="module")
def postfix(pairs):
    port, strict = keep_port(), keep_port()
    further = [f"smtpd_tls_cert_file = {pairs['good'].certificate}",
               f"smtpd_tls_key_file = {pairs['good'].key}", "smtpd_tls_security_level = may",
               "smtpd_tls_received_header = yes", "smtpd_tls_loglevel = 1"]
    services = [f"127.0.0.1:{port} inet n - n - - smtpd", "  -o smtpd_tls_wrappermode=yes",
                f"127.0.0.1:{strict} inet n - n - - smtpd",
                "  -o smtpd_tls_security_level=encrypt"]
    with Postfix(["bob"], further, services) as running:
        running.implicit_port, running.strict_port = port, strict
        yield running


@contextlib.contextmanager
def edge_of(port, identity="none", **tls):
    mta = {"name": "mta", "servers": [f"127.0.0.1:{port}"], "identity": identity, "tls": tls}
    with Gatepost({"backends": [mta]}) as gatepost:
        yield gatepost


@pytest.mark.parametrize("where, settings, outcome", [
    ("port", {"mode": "off"}, PLAIN), ("port", {"mode": "opportunistic"}, TLS),
    ("port", {"mode": "required"}, TLS), ("strict_port", {"mode": "required"}, TLS),
    ("implicit_port", {"mode": "implicit"}, TLS), ("proxy_port", {"mode": "required"}, TLS),
    ("strict_port", {"mode": "off"}, REFUSED)], ids=lambda value: str(value))
def test_postfix(postfix, authority, where, settings, outcome):
    if settings["mode"] != "off":
        settings = {**settings, "verify": "name", "name": NAME, "ca": str(authority.certificate)}
    identity = "proxy-v2" if where == "proxy_port" else "none"
    with edge_of(getattr(postfix, where), identity, **settings) as gatepost:
        reply = send(gatepost)
        if outcome == REFUSED:
            assert reply.code == 451
            assert gatepost.wait_log("backend_blames_us")["code"] == 530
            return
        assert reply.code == 250
        message, = postfix.wait_mail("bob")
        added = re.match(rb".*?by mta\.example\.com.*?;", message, re.DOTALL).group(0)
        assert (b"(using TLSv1.3 with cipher" in added) is (outcome == TLS)
        assert (b"with ESMTPS id" in added) is (outcome == TLS)
    assert not [line for line in postfix.trouble() if "Must issue" not in line
                and "lost connection" not in line]


def test_postfix_many_messages(postfix):
    """One after the other, and several in one session: nothing lost."""
    with edge_of(postfix.port, mode="required") as gatepost:
        for number in range(5):
            with Client(gatepost.address) as client:
                client.hello()
                for _ in range(3):
                    assert client.message(recipients=["bob@example.com"]).code == 250
                client.quit()
        assert len(postfix.wait_mail("bob", count=15)) == 15
