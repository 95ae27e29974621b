"""Real clients: swaks, Python's smtplib, Postfix's smtp-source, msmtp; each by way of HAProxy."""

import os
import smtplib
import subprocess
from collections import Counter
from email.message import EmailMessage

import pytest
from backend import Backend
from gatepost import Gatepost
from haproxy import HAProxy

SENDER, RECIPIENT = "alice@example.net", "bob@example.com"


@pytest.fixture(scope="module")
def backend():
    with Backend() as running:
        yield running


@pytest.fixture(scope="module")
def gatepost(backend):
    config = {"limits": {"connections_per_client": 100, "transactions": 100000}}
    with Gatepost(config, backend=backend, proxy="required") as running:
        yield running


@pytest.fixture(scope="module")
def haproxy(gatepost):
    with HAProxy(gatepost.address) as running:
        yield running


def run(*command, text=None, timeout=60, **options):
    """A client to its end: exit code and all that it said."""
    done = subprocess.run([str(word) for word in command], input=text, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False,
                          **({} if text is not None else {"stdin": subprocess.DEVNULL}), **options)
    return done.returncode, done.stdout


def new_messages(backend, before):
    return backend.messages()[before:]


# ---- swaks

def swaks(haproxy, *options):
    return run("swaks", "--server", haproxy.address[0], "--port", haproxy.port, "--helo",
               "client.example.net", "--from", SENDER, *options)


@pytest.mark.parametrize("options", [[], ["--pipeline"], ["--protocol", "SMTP"],
                                     ["--attach", f"@{__file__}"]])
def test_swaks(haproxy, backend, options):
    before = len(backend.messages())
    code, said = swaks(haproxy, "--to", RECIPIENT, "--body", ".\nline\n..dots\n", *options)
    assert code == 0, said
    message, = new_messages(backend, before)
    assert (message["mail_from"], message["rcpt_to"]) == (SENDER, [RECIPIENT])
    assert b"\r\nline\r\n" in message["body"] and b"\r\n..dots\r\n" in message["body"]


def test_swaks_is_refused(haproxy, backend):
    before = len(backend.messages())
    code, said = swaks(haproxy, "--to", "x@elsewhere.example")
    assert code == 24, said  # no recipient was accepted
    assert "554 5.7.1 <x@elsewhere.example>: Relay access denied" in said
    assert new_messages(backend, before) == []


def test_swaks_quits_after_each_step(haproxy, backend):
    """It says QUIT, or just goes, after connect, EHLO, MAIL and RCPT."""
    before = len(backend.messages())
    for option in ("--quit-after", "--drop-after"):
        for step in ("CONNECT", "HELO", "MAIL", "RCPT"):
            code, said = swaks(haproxy, "--to", RECIPIENT, option, step)
            assert code == 0, said
    assert swaks(haproxy, "--to", RECIPIENT)[0] == 0
    assert len(new_messages(backend, before)) == 1


# ---- smtplib

def email(subject):
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, RECIPIENT, subject
    message.set_content("text\n.\n..\n")
    return message


def test_smtplib(haproxy, backend):
    before = len(backend.messages())
    with smtplib.SMTP(*haproxy.address, timeout=60) as client:
        for number in range(3):
            assert client.send_message(email(f"number {number}")) == {}
        assert client.noop()[0] == 250
        assert client.verify("bob")[0] == 252
        assert client.help()
        assert client.rset()[0] == 250
    subjects = [line for message in new_messages(backend, before)
                for line in message["body"].split(b"\r\n") if line.startswith(b"Subject")]
    assert subjects == [b"Subject: number 0", b"Subject: number 1", b"Subject: number 2"]


def test_smtplib_some_recipients_are_refused(haproxy, backend):
    before = len(backend.messages())
    recipients = [RECIPIENT, "x@elsewhere.example", "reject-y@example.com", "carol@example.com"]
    with smtplib.SMTP(*haproxy.address, timeout=60) as client:
        refused = client.sendmail(SENDER, recipients, "Subject: x\n\ntext\n")
    assert sorted(refused) == ["reject-y@example.com", "x@elsewhere.example"]
    assert {code // 100 for code, _ in refused.values()} == {5}
    message, = new_messages(backend, before)
    assert message["rcpt_to"] == [RECIPIENT, "carol@example.com"]


def test_smtplib_utf8(haproxy, backend):
    before = len(backend.messages())
    message = email("Grüße")
    message.replace_header("From", "zoë@example.net")
    with smtplib.SMTP(*haproxy.address, timeout=60) as client:
        client.send_message(message)
    arrived, = new_messages(backend, before)
    assert arrived["mail_from"].encode("latin-1") == "zoë@example.net".encode()
    assert "\r\nSubject: Grüße\r\n".encode() in arrived["body"]


# ---- smtp-source

@pytest.mark.parametrize("options, count", [
    (["-s", "1", "-m", "50"], 50),  # one session after the other
    (["-s", "10", "-m", "400"], 400),  # ten at a time
    (["-s", "10", "-m", "200", "-d"], 200),  # each session sends many
    (["-s", "5", "-m", "50", "-r", "20"], 50),  # many recipients
    (["-s", "4", "-m", "20", "-l", "1000000"], 20),  # large ones
], ids=["one", "parallel", "many-a-session", "recipients", "large"])
def test_smtp_source(haproxy, backend, gatepost, tmp_path, options, count):
    """Nothing lost, nothing twice."""
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = source.example\n")
    before = len(backend.messages())
    host, port = haproxy.address
    code, said = run("smtp-source", *options, "-f", SENDER, "-t", RECIPIENT, f"{host}:{port}",
                     timeout=100, env={**os.environ, "MAIL_CONFIG": str(tmp_path)})
    assert code == 0 and said == "", said
    messages = new_messages(backend, before)
    assert len(messages) == count
    ids = Counter(message["body"].partition(b"\r\n\tfor ")[0].rpartition(b" id ")[2]
                  for message in messages)
    assert len(ids) == count
    if "-l" in options:
        assert min(len(message["body"]) for message in messages) >= 1000000
    if "-r" in options:
        assert {len(message["rcpt_to"]) for message in messages} == {20}
    assert {record["level"] for record in gatepost.log_records()} <= {"debug", "info"}


# ---- msmtp

@pytest.mark.parametrize("options", [[], ["--domain=client.example.net"]])
def test_msmtp(haproxy, backend, options):
    before = len(backend.messages())
    code, said = run("msmtp", "--file=/dev/null", f"--host={haproxy.address[0]}",
                     f"--port={haproxy.port}", "--auth=off", "--tls=off", f"--from={SENDER}",
                     *options, "--", RECIPIENT, "carol@example.com",
                     text="Subject: by msmtp\n\n.\ntext\n..\n")
    assert code == 0, said
    message, = new_messages(backend, before)
    assert message["rcpt_to"] == [RECIPIENT, "carol@example.com"]
    assert message["body"].endswith(b"\r\n\r\n.\r\ntext\r\n..\r\n")


def test_msmtp_is_refused(haproxy):
    code, said = run("msmtp", "--file=/dev/null", f"--host={haproxy.address[0]}",
                     f"--port={haproxy.port}", "--auth=off", "--tls=off", f"--from={SENDER}", "--",
                     "x@elsewhere.example", text="Subject: by msmtp\n\ntext\n")
    assert code == 65, said  # EX_DATAERR: the recipient was not accepted
    assert "554" in said and "5.7.1" in said


# ---- In the end

def test_backend_has_nothing_to_complain_about(backend):
    assert backend.violations() == []
