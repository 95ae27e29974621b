"""The backend with TLS: AUTH and XCLIENT towards it."""

import smtplib
import ssl
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e" / "support"))
from tls import Authority  # noqa: E402
from tlsbackend import OFFER, TlsBackend  # noqa: E402


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates")).make("mta")


def client(backend):
    session = smtplib.SMTP("127.0.0.1", backend.port, "client.example", timeout=10)
    session.ehlo()
    assert not session.has_extn("auth")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    session.starttls(context=context)
    session.ehlo()
    return session


@pytest.mark.parametrize("method", ["auth_plain", "auth_login"])
@pytest.mark.parametrize("initial", [True, False])
def test_auth(pair, method, initial):
    mechanism = method.removeprefix("auth_").upper()
    with TlsBackend(pair, auth=("user", "secret")) as mta, client(mta) as session:
        for password, code in ("wrong", 535), ("secret", 235):
            session.user, session.password = "user", password
            if code == 535:
                with pytest.raises(smtplib.SMTPAuthenticationError):
                    session.auth(mechanism, getattr(session, method), initial_response_ok=initial)
            else:
                session.auth(mechanism, getattr(session, method), initial_response_ok=initial)
        assert mta.sessions[0].auths == [(True, mechanism, "user", "refused"),
                                         (True, mechanism, "user", "ok")]
        assert set(mta.sessions[0].lines()[3:]) == {f"AUTH {mechanism}"}


def test_auth_can_be_refused_whatever_is_right(pair):
    with TlsBackend(pair, auth=("user", "secret"), on_auth=b"454 4.7.0 later\r\n") as mta:
        with client(mta) as session, pytest.raises(smtplib.SMTPAuthenticationError, match="later"):
            session.login("user", "secret")


@pytest.mark.parametrize("offer, code", [((*OFFER, "XCLIENT ADDR LOGIN"), 220), (OFFER, 550)])
def test_xclient(pair, offer, code):
    with TlsBackend(pair, offer=offer) as mta, client(mta) as session:
        assert session.docmd("XCLIENT ADDR=192.0.2.1 LOGIN=u")[0] == code
        assert mta.sessions[0].xclients == (
            [{"ADDR": "192.0.2.1", "LOGIN": "u"}] if code == 220 else [])
