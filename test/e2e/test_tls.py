"""TLS towards clients: STARTTLS and from the first byte, behind a PROXY header, ended elsewhere."""

import contextlib
import itertools
import os
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import threading
import time
from email.message import EmailMessage

import pytest
from backend import Backend
from client import Client, Closed, proxy_v1, proxy_v2
from gatepost import Gatepost, merge
from haproxy import HAProxy
from patience import tight, wait_until
from threaded import Workers
from tls import (Authority, Pair, client_hello, der, fingerprint, is_closed, joined, starttls, trusting,
                 wrap)

SENDER, RECIPIENT = "alice@example.net", "bob@example.com"
MX = "mx.example.net"
HEADERS = {"v1": proxy_v1(), "v2": proxy_v2()}
CLIENT_IP = "198.51.100.7"
HANDSHAKE_SECONDS = 1
# Files are looked at every five seconds.
LOOK_SECONDS = 60

numbers = itertools.count(1)


# ---- The parts

@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def pairs(authority):
    stranger = Authority(authority.directory, "stranger-authority")
    return {"mx": authority.make("mx", [MX]),
            "mx-rsa": authority.make("mx-rsa", [MX], kind="rsa"),
            "org": authority.make("org", ["mail.example.org", "*.example.org"]),
            "org-rsa": authority.make("org-rsa", ["mail.example.org"], kind="rsa"),
            "client": authority.make("client"),
            "stranger": stranger.make("stranger")}


def files(pair):
    return {"certificate": str(pair.certificate), "key": str(pair.key)}


def listener(name, mode, pair=None, proxy="off", **tls):
    trusted = {"trusted_proxies": ["127.0.0.1"]} if proxy != "off" else {}
    own = files(pair) if pair else {}
    return {"name": name, "bind": ["127.0.0.1:0"], "proxy": proxy, **trusted,
            "tls": {"mode": mode, **own, **tls}}


@pytest.fixture(scope="module")
def backend():
    with Backend() as running:
        yield running


def everything(pairs, authority, handshake):
    ca = str(authority.certificate)
    return {
        "listeners": [
            listener("mx", "starttls", pairs["mx"]),
            listener("smtps", "implicit", pairs["mx"]),
            listener("mx-proxy", "starttls", pairs["mx"], "required"),
            listener("smtps-proxy", "implicit", pairs["mx"], "required"),
            listener("modern", "starttls", pairs["mx"], min_version="1.3"),
            listener("asking", "implicit", pairs["mx"], client_ca=ca),
            listener("many", "implicit", pairs["mx"], certificates=[
                files(pairs[name]) for name in ("mx-rsa", "org", "org-rsa")]),
            listener("plain", "off"),
        ],
        "limits": {"connections_per_client": 1000, "handshakes": 20},
        "timeouts": {"tls_handshake": f"{handshake}s"},
    }


@pytest.fixture(scope="module")
def gatepost(backend, pairs, authority):
    """No handshake is too slow, however busy the machine is."""
    with Gatepost(everything(pairs, authority, 60), backend=backend) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(backend, pairs, authority):
    """Where it is waited for one that does not come."""
    with Gatepost(everything(pairs, authority, HANDSHAKE_SECONDS), backend=backend) as running:
        yield running


def where(gatepost, name):
    return "127.0.0.1", gatepost.port(name)


def connect(gatepost, name="mx", **options):
    return Client(where(gatepost, name), **options)


def fresh_hello():
    """A name by which the session is found again in the trace."""
    return f"client{next(numbers)}.example.net"


def traced(gatepost, hello):
    """The connection that said this EHLO; waits for it."""
    deadline = time.monotonic() + 10
    while True:
        found = [line for line in gatepost.trace(count=0) if line["hello"]["host"] == hello]
        if found:
            return found[-1]
        assert time.monotonic() < deadline, f"{hello} is not in the trace"
        time.sleep(0.02)


def message_of(backend, line):
    """What the backend got of the only transaction of that connection."""
    uuid = line["transactions"][-1]["uuid"]
    return next(message["body"] for message in backend.messages()
                if f" id {uuid}\r\n".encode() in message["body"])


def received(body):
    """The first header field, in one line."""
    return re.sub(rb"\r\n[ \t]+", b" ", body.partition(b"\r\nSubject")[0]).decode()


def assert_secured(gatepost, backend, hello, version, **wanted):
    """Connection object, Received and log agree about a session with one message."""
    line = traced(gatepost, hello)
    tls = line["tls"]
    for key, value in {"version": version, "offloaded": False, **wanted}.items():
        assert tls[key] == value, key
    assert tls["cipher"]
    field = received(message_of(backend, line))
    assert f"(using {version} with cipher {tls['cipher']})" in field
    assert " with ESMTPS id " in field
    log = gatepost.wait_log("connection", uuid=line["uuid"])
    assert log["tls"] == version
    return line


# ---- Real clients

def run(*command, text=None):
    done = subprocess.run([str(word) for word in command], input=text or "", text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                          check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("name, option", [("mx", "--tls"), ("smtps", "--tls-on-connect")])
def test_swaks(gatepost, backend, authority, name, option):
    hello = fresh_hello()
    code, said = run("swaks", "--server", "127.0.0.1", "--port", gatepost.port(name), "--helo",
                     hello, "--from", SENDER, "--to", RECIPIENT, option, "--tls-verify",
                     "--tls-ca-path", authority.certificate, "--tls-sni", MX)
    assert code == 0, said
    assert_secured(gatepost, backend, hello, "TLSv1.3", sni=MX)


class OpenSsl:
    """`openssl s_client -quiet` as a client that reads each reply before it goes on."""

    def __init__(self, gatepost, name, *options):
        self.process = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{gatepost.port(name)}", "-quiet",
             *[str(option) for option in options]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._deadline = threading.Timer(60, self.process.kill)
        self._deadline.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._deadline.cancel()
        self.process.kill()
        self.process.communicate()

    def expect(self, start):
        """Reads up to the last line of a reply, which begins so."""
        said = []
        while True:
            line = self.process.stdout.readline()
            said.append(line)
            assert line, said
            if line[:3].isdigit() and line[3:4] == b" ":
                assert line.startswith(start), said
                return

    def send(self, line):
        self.process.stdin.write(line)
        self.process.stdin.flush()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("name, options", [("mx", ["-starttls", "smtp"]), ("smtps", [])])
def test_openssl(gatepost, backend, authority, name, options, version):
    hello = fresh_hello()
    with OpenSsl(gatepost, name, "-CAfile", authority.certificate, "-verify_return_error",
                 "-servername", MX, version, *options) as client:
        # Of its own EHLO in plaintext it shows the last line.
        client.expect(b"220 " if name == "smtps" else b"250 ")
        for line, start in (
                (f"EHLO {hello}", b"250 "), (f"MAIL FROM:<{SENDER}>", b"250 "),
                (f"RCPT TO:<{RECIPIENT}>", b"250 "), ("DATA", b"354 "),
                ("Subject: by openssl\r\n\r\ntext\r\n.", b"250 "), ("QUIT", b"221 ")):
            client.send(line.encode() + b"\r\n")
            client.expect(start)
    assert_secured(gatepost, backend, hello, "TLSv" + version[4:].replace("_", "."), sni=MX)


def email():
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "by smtplib", SENDER, RECIPIENT
    message.set_content("text\n.\n")
    return message


@pytest.mark.parametrize("name", ["mx", "smtps"])
def test_smtplib(gatepost, backend, authority, name, monkeypatch):
    hello = fresh_hello()
    context = trusting(authority)
    # It is told the address and verifies the name, as if DNS had led it here.
    monkeypatch.setattr(socket, "create_connection", redirect(socket.create_connection))
    if name == "smtps":
        client = smtplib.SMTP_SSL(MX, gatepost.port(name), hello, timeout=60, context=context)
    else:
        client = smtplib.SMTP(MX, gatepost.port(name), hello, timeout=60)
    with client:
        if name == "mx":
            client.ehlo()
            assert client.has_extn("starttls")
            client.starttls(context=context)
        client.send_message(email())
        assert not client.has_extn("starttls")
    assert_secured(gatepost, backend, hello, "TLSv1.3", sni=MX)


def redirect(create_connection):
    return lambda address, *rest, **named: create_connection(("127.0.0.1", address[1]), *rest,
                                                             **named)


@pytest.mark.parametrize("name, options", [("mx", ["--tls-starttls=on"]),
                                           ("smtps", ["--tls-starttls=off"])])
def test_msmtp(gatepost, backend, pairs, name, options):
    hello = fresh_hello()
    code, said = run("msmtp", "--file=/dev/null", "--host=127.0.0.1",
                     f"--port={gatepost.port(name)}", "--auth=off", "--tls=on", *options,
                     f"--tls-fingerprint={with_colons(fingerprint(pairs['mx'].certificate))}",
                     f"--domain={hello}", f"--from={SENDER}", "--", RECIPIENT,
                     text="Subject: by msmtp\n\ntext\n")
    assert code == 0, said
    assert_secured(gatepost, backend, hello, "TLSv1.3")


def with_colons(digits):
    return ":".join(digits[i:i + 2] for i in range(0, len(digits), 2)).upper()


NODEMAILER = """
const nodemailer = require(process.argv[2] + "/node_modules/nodemailer");
const [port, secure, ca, hello] = process.argv.slice(3);
nodemailer.createTransport({
  host: "127.0.0.1", port: Number(port), secure: secure === "true", requireTLS: true, name: hello,
  tls: { ca: require("fs").readFileSync(ca), servername: "mx.example.net" },
}).sendMail({ from: "alice@example.net", to: "bob@example.com", subject: "by nodemailer",
  text: "text\\n.\\n" }).then((info) => console.log(info.response),
  (error) => { console.error(error); process.exit(1); });
"""


@pytest.fixture(scope="module")
def nodemailer():
    """A folder with nodemailer in node_modules: $NODEMAILER, where test/run has installed it."""
    folder = os.environ.get("NODEMAILER", "")
    if not folder:
        pytest.skip("nodemailer is not installed (test/run does so where there is npm)")
    return folder


@pytest.mark.parametrize("name", ["mx", "smtps"])
def test_nodemailer(gatepost, backend, authority, nodemailer, name, tmp_path):
    hello = fresh_hello()
    (tmp_path / "send.js").write_text(NODEMAILER)
    code, said = run("node", tmp_path / "send.js", nodemailer, gatepost.port(name),
                     "true" if name == "smtps" else "false", authority.certificate, hello)
    assert code == 0, said
    assert_secured(gatepost, backend, hello, "TLSv1.3", sni=MX)


# ---- Behind a PROXY header

@pytest.mark.parametrize("cut", [None, "two", "bytes"])
@pytest.mark.parametrize("header", HEADERS)
def test_implicit_behind_a_header(gatepost, backend, authority, header, cut):
    """Header and ClientHello in one segment, in two, and each byte a segment of its own."""
    hello = fresh_hello()
    with connect(gatepost, "smtps-proxy") as client:
        wrap(client, trusting(authority), MX, before=HEADERS[header], cut=cut)
        client.hello(hello)
        assert client.message().code == 250
        client.quit()
    line = assert_secured(gatepost, backend, hello, "TLSv1.3", sni=MX)
    assert line["remote"]["ip"] == CLIENT_IP
    assert line["proxy"]["version"] == int(header[1])
    assert f"[{CLIENT_IP}]" in received(message_of(backend, line))


@pytest.mark.parametrize("at", [1, 5, 6, 40, -1])
@pytest.mark.parametrize("header", HEADERS)
def test_clienthello_is_cut_behind_a_header(gatepost, header, at):
    """A part of the ClientHello comes with the header, the rest later."""
    hello = fresh_hello()
    with connect(gatepost, "smtps-proxy") as client:
        whole = client_hello()
        client.send_cut(HEADERS[header] + whole, [len(HEADERS[header]) + (at % len(whole))], 0.05)
        client.socket.settimeout(5)
        assert client.socket.recv(1) == b"\x16"  # ServerHello: the record of a handshake
    with connect(gatepost, "smtps-proxy") as client:
        wrap(client, trusting(), MX, before=HEADERS[header])
        client.hello(hello)
        client.quit()
    assert traced(gatepost, hello)["tls"]["version"] == "TLSv1.3"


@pytest.mark.parametrize("cut", [None, "bytes"])
@pytest.mark.parametrize("header", HEADERS)
def test_starttls_behind_a_header(gatepost, backend, authority, header, cut):
    hello = fresh_hello()
    with connect(gatepost, "mx-proxy", header=HEADERS[header]) as client:
        client.hello(hello)
        client.command("STARTTLS", 220)
        wrap(client, trusting(authority), MX, cut=cut)
        client.command(f"EHLO {hello}", 250)
        assert client.message().code == 250
        client.quit()
    line = assert_secured(gatepost, backend, hello, "TLSv1.3", sni=MX)
    assert line["remote"]["ip"] == CLIENT_IP


@pytest.mark.parametrize("name", ["mx", "smtps"])
def test_each_byte_a_segment(gatepost, backend, authority, name):
    """The whole session, not the handshake alone."""
    hello = fresh_hello()
    with connect(gatepost, name) as client:
        if name == "mx":
            client.hello("other.example")
            client.command("STARTTLS", 220)
        wrap(client, trusting(authority), MX, cut="bytes")
        plain = client.socket.plain
        whole = plain.sendall

        class Dripping:
            def sendall(self, data):
                for i in range(len(data)):
                    whole(data[i:i + 1])

            def __getattr__(self, attribute):
                return getattr(plain, attribute)
        client.socket.plain = Dripping()
        if name == "smtps":
            client.expect(220)
        client.command(f"EHLO {hello}", 250)
        assert client.message().code == 250
        client.quit()
    assert_secured(gatepost, backend, hello, "TLSv1.3", sni=MX)


@pytest.mark.parametrize("how", ["one-record", "records-in-one-segment", "segments"])
@pytest.mark.parametrize("newest", [None, ssl.TLSVersion.TLSv1_2], ids=["1.3", "1.2"])
def test_pipelining(gatepost, newest, how):
    """What came together is not taken for a message that comes too early."""
    lines = [f"MAIL FROM:<{SENDER}>\r\n".encode(), f"RCPT TO:<{RECIPIENT}>\r\n".encode(),
             b"DATA\r\n"]
    with connect(gatepost, "smtps") as client:
        wrap(client, trusting(newest=newest), MX)
        client.hello()
        if how == "one-record":
            client.send(b"".join(lines))
        else:
            client.socket.send_records(lines, together=how == "records-in-one-segment")
        assert [client.reply().code for _ in lines] == [250, 250, 354]
        client.send(b"Subject: pipelined\r\n\r\ntext\r\n.\r\nQUIT\r\n")
        assert [reply.code for reply in client.replies()] == [250, 221]


def test_body_before_354_is_refused(gatepost, backend):
    """Under TLS as in plaintext: it would be run as commands, had DATA been refused."""
    before = len(backend.messages())
    for together in (True, False):
        with connect(gatepost, "smtps") as client:
            wrap(client, trusting(), MX)
            client.hello()
            client.envelope()
            client.socket.send_records([b"DATA\r\n", b"Subject: early\r\n\r\ntext\r\n.\r\n"],
                                       together=together)
            code = client.reply().code
            assert code == 554 if together else code in (354, 554)
            if code == 554:
                client.rest()
            else:  # it lost the race, and was waited for
                assert client.reply().code == 250
                before += 1
    assert len(backend.messages()) == before


def test_large_message(gatepost, backend, authority):
    """Records in and out of step with reads, in both versions."""
    body = b"Subject: large\r\n\r\n" + b"".join(
        b"%07d %s\r\n" % (i, b"x" * (i % 900)) for i in range(4000))
    for newest in (None, ssl.TLSVersion.TLSv1_2):
        hello = fresh_hello()
        with connect(gatepost, "mx") as client:
            starttls(client, trusting(authority, newest=newest), MX, hello)
            client.envelope()
            assert client.data(body).code == 250
            client.quit()
        assert message_of(backend, traced(gatepost, hello)).endswith(body)


# ---- What is offered, and forgotten

def test_starttls_is_offered_once(gatepost):
    with connect(gatepost) as client:
        assert "STARTTLS" in client.hello().lines
        client.command("STARTTLS", 220)
        wrap(client, trusting(), MX)
        # RFC 3207 section 4.2: nothing of what was said before counts any more.
        assert client.command(f"MAIL FROM:<{SENDER}>").code == 503
        assert "STARTTLS" not in client.command("EHLO client.example.net", 250).lines
        assert client.command("STARTTLS").code == 503
        assert client.message().code == 250
        client.quit()


def test_starttls_is_not_offered_elsewhere(gatepost):
    with connect(gatepost, "plain") as client:
        assert "STARTTLS" not in client.hello().lines
        assert client.command("STARTTLS").code == 502
        client.quit()


def test_starttls_with_a_parameter_and_in_a_transaction(gatepost):
    with connect(gatepost) as client:
        client.hello()
        assert client.command("STARTTLS now").code == 501
        client.command(f"MAIL FROM:<{SENDER}>", 250)
        assert client.command("STARTTLS").code == 503
        assert client.command(f"RCPT TO:<{RECIPIENT}>").code == 250
        client.quit()


def test_hello_is_forgotten(gatepost):
    """The name that was given in plaintext is not in the connection object; nor is its sender."""
    hello = fresh_hello()
    with connect(gatepost) as client:
        starttls(client, trusting(), MX, "in-plaintext.example")
        client.command(f"EHLO {hello}", 250)
        client.quit()
    assert traced(gatepost, hello)["transactions"] == []


# ---- Certificates, versions, ALPN

def negotiate(gatepost, name, context, sni=MX):
    """The certificate (DER), and the TLS object, of a session that works."""
    with connect(gatepost, name) as client:
        if name in ("mx", "modern"):
            client.hello()
            client.command("STARTTLS", 220)
        state = wrap(client, context, sni)
        if name not in ("mx", "modern"):
            client.expect(220)
        client.command("EHLO client.example.net", 250)
        client.quit()
        return state.getpeercert(True), state


RSA_ONLY = "ECDHE-RSA-AES128-GCM-SHA256"
ECDSA_ONLY = "ECDHE-ECDSA-AES128-GCM-SHA256"


@pytest.mark.parametrize("sni, ciphers, wanted", [
    (MX, None, "mx"), (MX, ECDSA_ONLY, "mx"), (MX, RSA_ONLY, "mx-rsa"),
    ("mail.example.org", None, "org"), ("mail.example.org", RSA_ONLY, "org-rsa"),
    ("MAIL.example.ORG", ECDSA_ONLY, "org"), ("other.example.org", ECDSA_ONLY, "org"),
    ("other.example.org", None, "org"),
    (None, None, "mx"), (None, RSA_ONLY, "mx-rsa"), ("unknown.example", None, "mx"),
    ("a.b.example.org", None, "mx"),
])
def test_sni(gatepost, pairs, sni, ciphers, wanted):
    """By name; of each name by the kind of key that the client can use."""
    context = trusting(ciphers=ciphers,
                       newest=ssl.TLSVersion.TLSv1_2 if ciphers else None)
    certificate, _ = negotiate(gatepost, "many", context, sni)
    assert certificate == der(pairs[wanted].certificate), sni


def test_sni_in_the_connection_object(gatepost):
    for sni in ("mail.example.org", None):
        hello = fresh_hello()
        with connect(gatepost, "many") as client:
            wrap(client, trusting(), sni)
            client.hello(hello)
            client.quit()
        assert traced(gatepost, hello)["tls"]["sni"] == sni


def refused_handshake(gatepost, name, context, sni=MX):
    """What the client's side says, and what the log says."""
    before = len(gatepost.log_records("tls_failed"))
    with connect(gatepost, name) as client:
        if name in ("mx", "modern"):
            client.hello()
            client.command("STARTTLS", 220)
        with pytest.raises((ssl.SSLError, ConnectionError)) as problem:
            wrap(client, context, sni)
            client.reply()
        assert is_closed(client.socket)
    return str(problem.value), gatepost.wait_log("tls_failed", count=before + 1)


@pytest.mark.parametrize("name, oldest, newest", [
    ("mx", ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1),
    ("smtps", ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1),
    ("modern", ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2),
])
def test_older_version_is_refused(gatepost, name, oldest, newest):
    said, log = refused_handshake(gatepost, name, trusting(oldest=oldest, newest=newest))
    assert "alert" in said.lower() and "version" in said.lower(), said
    assert log["listener"] == name and log["client"] == "127.0.0.1" and log["error"]


def test_min_version(gatepost):
    assert negotiate(gatepost, "modern", trusting())[1].version() == "TLSv1.3"
    older = trusting(newest=ssl.TLSVersion.TLSv1_2)
    assert negotiate(gatepost, "mx", older)[1].version() == "TLSv1.2"


@pytest.mark.parametrize("ciphers", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256",
                                     "ECDHE-ECDSA-AES256-SHA", "aNULL:@SECLEVEL=0"])
def test_weak_ciphers_are_refused(gatepost, ciphers):
    context = trusting(ciphers=ciphers, newest=ssl.TLSVersion.TLSv1_2)
    assert "handshake failure" in refused_handshake(gatepost, "many", context)[0]


@pytest.mark.parametrize("alpn", [["h2"], ["http/1.1"], ["h2", "http/1.1"], ["imap"]])
@pytest.mark.parametrize("name", ["mx", "smtps"])
def test_foreign_protocol_is_refused(gatepost, name, alpn):
    """ALPACA: a browser must not get an answer under our certificate."""
    said, _ = refused_handshake(gatepost, name, trusting(alpn=alpn))
    assert "no application protocol" in said, said


@pytest.mark.parametrize("alpn, selected", [(["smtp"], "smtp"), (["h2", "smtp"], "smtp"),
                                            (None, None)])
@pytest.mark.parametrize("name", ["mx", "smtps"])
def test_own_protocol(gatepost, name, alpn, selected):
    state = negotiate(gatepost, name, trusting(alpn=alpn))[1]
    assert state.selected_alpn_protocol() == selected


def test_nothing_is_resumed(gatepost):
    """No tickets, no cache: what one listener gave is worth nothing at another."""
    for newest in (ssl.TLSVersion.TLSv1_2, None):
        context = trusting(newest=newest)
        _, state = negotiate(gatepost, "smtps", context)
        assert state.session is None or not state.session.has_ticket
    code, said = run("openssl", "s_client", "-connect", f"127.0.0.1:{gatepost.port('smtps')}",
                     "-reconnect", "-tls1_2", text="")
    assert code == 0 and said.count("New, TLSv1.2") >= 2 and "Reused" not in said, said


@tight
def test_renegotiation_is_refused(gatepost):
    command = f"openssl s_client -connect 127.0.0.1:{gatepost.port('smtps')} -tls1_2"
    code, said = run("sh", "-c", f"(sleep 0.5; echo R; sleep 1) | {command}")
    assert "no renegotiation" in said, (code, said)


@pytest.mark.parametrize("name, verified", [("client", True), ("stranger", False), (None, False)])
def test_client_certificate(gatepost, pairs, name, verified):
    """It is taken from everybody; what it is worth is in the connection object."""
    for newest in (None, ssl.TLSVersion.TLSv1_2):
        hello = fresh_hello()
        context = trusting(certificate=pairs[name] if name else None, newest=newest)
        with connect(gatepost, "asking") as client:
            wrap(client, context, MX)
            client.hello(hello)
            assert client.message().code == 250
            client.quit()
        tls = traced(gatepost, hello)["tls"]
        assert tls["client_certificate"] is (name is not None)
        assert tls["client_verified"] is verified
        assert tls["client_subject"] == (f"CN={name}" if name else None)
        assert tls["client_fingerprint"] == \
            (fingerprint(pairs[name].certificate) if name else None)


def test_client_is_not_asked_elsewhere(gatepost, pairs):
    hello = fresh_hello()
    with connect(gatepost, "smtps") as client:
        wrap(client, trusting(certificate=pairs["client"]), MX)
        client.hello(hello)
        client.quit()
    assert traced(gatepost, hello)["tls"]["client_certificate"] is False


# ---- Stalls, and other protocols

@pytest.mark.parametrize("name, part", [("smtps", 0), ("smtps", 1), ("smtps", 100), ("mx", 0),
                                        ("mx", 100), ("smtps-proxy", 0), ("smtps-proxy", 100)])
@tight
def test_stalled_handshake(hasty, name, part):
    before = len(hasty.log_records("tls_failed"))
    with connect(hasty, name, header=proxy_v1() if "proxy" in name else b"") as client:
        if name == "mx":
            client.hello()
            client.command("STARTTLS", 220)
        started = time.monotonic()
        client.send(client_hello()[:part])
        assert is_closed(client.socket)
        assert HANDSHAKE_SECONDS * 0.7 < time.monotonic() - started < HANDSHAKE_SECONDS + 3
    log = hasty.wait_log("tls_failed", count=before + 1)
    assert "tls_handshake" in log["error"]
    assert log["client"] == (CLIENT_IP if "proxy" in name else "127.0.0.1")


def test_failed_handshake_is_told(hasty):
    """One summary and one line of the trace, as for any other client."""
    source = "203.0.113.99"
    for name, text, ending in (("smtps-proxy", b"EHLO x\r\n", "tls_failed"),
                               ("smtps-proxy", b"", "tls_timeout"),
                               ("mx-proxy", b"", "tls_timeout")):
        before = len(hasty.log_records("connection", client=source))
        with connect(hasty, name, header=proxy_v1((source, 1025))) as client:
            if name == "mx-proxy":
                client.hello()
                client.command("STARTTLS", 220)
            client.send(text)
            assert is_closed(client.socket)
        log = hasty.wait_log("connection", client=source, count=before + 1)
        assert (log["ending"], log["tls"], log["listener"]) == (ending, None, name)
        assert hasty.wait_log("tls_failed", uuid=log["uuid"])
        line = next(line for line in hasty.trace() if line["uuid"] == log["uuid"])
        assert line["ending"] == ending and line["tls"] is None


def test_stopping_ends_handshakes(backend, pairs):
    """A session in its handshake is over when the program is told to stop, and does not begin
    anew when the handshake is made all the same."""
    config = {"listeners": [listener("mx", "starttls", pairs["mx"]),
                            listener("smtps", "implicit", pairs["mx"])],
              "timeouts": {"linger": "2s"}}
    with Gatepost(config, backend=backend) as gatepost, \
            connect(gatepost) as client, connect(gatepost, "smtps") as other:
        client.hello()
        client.command("STARTTLS", 220)
        other.send(client_hello()[:10])
        wait_until(lambda: gatepost.connections() == 2)
        started = time.monotonic()
        gatepost.signal(signal.SIGTERM)
        assert is_closed(other.socket)
        gatepost.wait_log("connection", listener="smtps", ending="shutdown")
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            wrap(client, trusting(), MX)
            assert client.rest().count(b"\r\n") <= 1
        assert is_closed(client.socket.plain if hasattr(client.socket, "plain")
                         else client.socket)
        gatepost.wait_for_exit()
        assert time.monotonic() - started < 15  # of 30 for the handshake
        log, = gatepost.log_records("connection", listener="mx")
        assert log["ending"] == "shutdown"


def test_checks_of_a_tls_port_are_no_event(backend, pairs):
    """A balancer that only connects, as it does everywhere every few seconds."""
    with Gatepost({"listeners": [listener("smtps", "implicit", pairs["mx"], "required")]},
                  backend=backend) as gatepost, \
            HAProxy(("127.0.0.1", gatepost.port("smtps")),
                    "send-proxy-v2 check inter 100ms rise 1 fall 1") as haproxy:
        haproxy.wait_checked("UP")
        gatepost.wait_log("checker", count=3)
        assert haproxy.wait_checked("UP")["chkfail"] == "0"
        assert [record["event"] for record in gatepost.log_records()
                if record["level"] != "debug"
                and record["event"] not in ("started", "listening")] == []


@tight
def test_dripping_handshake_has_the_same_deadline(hasty):
    """A byte now and then does not buy time."""
    with connect(hasty, "smtps") as client:
        started = time.monotonic()
        with pytest.raises(ConnectionError):
            for byte in client_hello():
                client.send(bytes([byte]))
                time.sleep(0.1)
        assert time.monotonic() - started < HANDSHAKE_SECONDS + 3


@pytest.mark.parametrize("text", [b"EHLO client.example.net\r\n", b"\r\n", b"QUIT\r\n",
                                  b"GET / HTTP/1.1\r\nHost: mx.example.net\r\n\r\n",
                                  b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 64, b"\xff" * 64,
                                  b"\x16\x03\x01\xff\xff" + b"x" * 100, b"\x80\x2e\x01\0\x02"])
def test_plaintext_where_tls_is_due(gatepost, text):
    """Not a byte of SMTP comes back: at most an alert."""
    with connect(gatepost, "smtps") as client:
        client.send(text)
        client.half_close()
        client.socket.settimeout(5)
        answer = client.rest()
        assert len(answer) <= 7 and answer[:1] in (b"", b"\x15"), answer
    assert gatepost.wait_log("tls_failed")


def test_no_banner_in_plaintext_on_the_tls_port(gatepost):
    with connect(gatepost, "smtps") as client:
        assert client.is_silent(0.5)


@pytest.mark.parametrize("name", ["mx", "plain"])
def test_clienthello_where_plaintext_is_due(gatepost, name):
    with connect(gatepost, name) as client:
        client.expect(220)
        client.send(client_hello())
        assert is_closed(client.socket)


def test_wrong_protocol_after_starttls(gatepost, backend):
    """Plaintext where the ClientHello is due is not executed, and ends the session."""
    before = len(backend.commands("MAIL"))
    with connect(gatepost) as client:
        client.hello()
        client.command("STARTTLS", 220)
        client.send(f"EHLO x\r\nMAIL FROM:<{SENDER}>\r\nRCPT TO:<{RECIPIENT}>\r\n")
        answer = client.rest()
        assert len(answer) <= 7 and answer[:1] in (b"", b"\x15"), answer
    assert len(backend.commands("MAIL")) == before


# ---- Injection: plaintext behind STARTTLS

INJECTED = (b"EHLO evil.example\r\nMAIL FROM:<evil@example.net>\r\n"
            b"RCPT TO:<victim@example.com>\r\nDATA\r\nSubject: injected\r\n\r\ntext\r\n.\r\n")


@pytest.mark.parametrize("injected", [b"X", b"\r\n", b"NOOP\r\n", b"RSET\r\n", b"QUIT\r\n",
                                      b"STARTTLS\r\n", b"EHLO evil.example\r\n", INJECTED],
                         ids=lambda injected: repr(injected[:9]))
@pytest.mark.parametrize("behind", ["one-segment", "cut-after-command", "with-clienthello"])
def test_injection(gatepost, backend, injected, behind):
    """Never executed, neither in plaintext nor under TLS; the session ends."""
    before = len(backend.envelopes())
    with connect(gatepost) as client:
        client.hello()
        if behind == "cut-after-command":
            # The rest of a command line comes late: the program has both lines at once.
            client.send(b"STARTT")
            time.sleep(0.05)
            client.send(b"LS\r\n" + injected)
        elif behind == "with-clienthello":
            client.send(b"STARTTLS\r\n" + injected + client_hello())
        else:
            client.send(b"STARTTLS\r\n" + injected)
        answer = client.rest()
    assert b"220 2.0.0" not in answer and b"250" not in answer, answer
    assert answer.startswith((b"421", b"5")) or answer == b"", answer
    assert len(backend.envelopes()) == before


@pytest.mark.parametrize("injected", [b"\r\n", b"NOOP\r\n", INJECTED],
                         ids=lambda injected: repr(injected[:9]))
@pytest.mark.parametrize("wait", [0, 0.02])
def test_injection_in_the_next_segment(gatepost, backend, injected, wait):
    """It races with the reply: either way nothing of it is executed, and TLS never begins."""
    before = len(backend.envelopes())
    with connect(gatepost) as client:
        client.hello()
        client.send(b"STARTTLS\r\n")
        time.sleep(wait)
        client.send(injected)
        time.sleep(0.02)
        with contextlib.suppress(ConnectionError):
            client.send(client_hello())
        answer = client.rest()
        assert b"250" not in answer and b"221" not in answer, answer
        # 220 perhaps, and an alert; no ServerHello.
        assert b"\x16\x03\x03" not in answer, answer
    assert len(backend.envelopes()) == before


def test_injection_under_pipelining(gatepost, backend):
    """STARTTLS as the last of a group is not allowed to hide what comes behind it."""
    before = len(backend.envelopes())
    with connect(gatepost) as client:
        client.hello()
        client.send(b"NOOP\r\nSTARTTLS\r\nMAIL FROM:<evil@example.net>\r\n")
        answer = client.rest()
        assert answer.count(b"250") == 1 and b"220 2.0.0" not in answer, answer
    assert len(backend.envelopes()) == before


# ---- Limits

def test_handshakes_are_limited(backend, pairs):
    config = {"listeners": [listener("mx", "starttls", pairs["mx"]),
                            listener("smtps", "implicit", pairs["mx"])],
              "limits": {"handshakes": 3}, "timeouts": {"tls_handshake": "20s"}}
    with Gatepost(config, backend=backend) as gatepost, contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(connect(gatepost, "smtps")) for _ in range(2)]
        waiting.append(stack.enter_context(connect(gatepost)))
        waiting[2].hello()
        waiting[2].command("STARTTLS", 220)
        with connect(gatepost) as client:
            client.hello()
            reply = client.command("STARTTLS")
            assert (reply.code, reply.enhanced) == (454, "4.7.0")
            # It goes on in plaintext, or asks again when there is room.
            assert client.message().code == 250
            with connect(gatepost, "smtps") as other:
                assert is_closed(other.socket)
            before = gatepost.connections()
            waiting[0].close()
            wait_until(lambda: gatepost.connections() < before)
            client.command("STARTTLS", 220)
            wrap(client, trusting(), MX)
            client.command("EHLO client.example.net", 250)
            client.quit()
        wrap(waiting[1], trusting(), MX)  # those that wait were not forgotten
        waiting[1].hello()
        waiting[1].quit()


def test_nobody_takes_all_handshakes(backend, pairs):
    """Silent connections of one client turned STARTTLS off for everybody else."""
    config = {"listeners": [listener("mx", "starttls", pairs["mx"]),
                            listener("smtps", "implicit", pairs["mx"])],
              "limits": {"handshakes": 6, "handshakes_per_client": 3},
              "timeouts": {"tls_handshake": "20s"}}
    with Gatepost(config, backend=backend) as gatepost, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(
            where(gatepost, "smtps"), source_address=("127.0.0.2", 0))) for _ in range(8)]
        assert sum(is_closed(one) for one in silent[3:]) == 5
        with connect(gatepost) as client:
            client.hello()
            client.command("STARTTLS", 220)
            wrap(client, trusting(), MX)
            client.command("EHLO client.example.net", 250)
            client.quit()


def test_stalled_handshakes_do_not_starve_others(gatepost):
    """Below the limit, silent clients cost the others nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(15):
            stack.enter_context(connect(gatepost, "smtps"))
        started = time.monotonic()
        negotiate(gatepost, "smtps", trusting())
        with connect(gatepost, "plain") as client:
            client.hello()
            client.quit()
        assert time.monotonic() - started < 30  # of 60 that they have


# ---- The files change

@contextlib.contextmanager
def changing(backend, authority, folder, **config):
    """A gatepost whose certificate is in `folder`; what it serves is put there."""
    folder.mkdir()
    put(folder, authority.make("served-first", [MX]))
    own = {"mode": "implicit", "certificate": str(folder / "crt"), "key": str(folder / "key")}
    config = merge({"listeners": [{"name": "mx", "bind": ["127.0.0.1:0"], "proxy": "off",
                                   "tls": own}],
                    "limits": {"connections_per_client": 1000}}, config)
    with Gatepost(config, backend=backend) as gatepost:
        yield gatepost


def put(folder, pair):
    """As certbot and others do: written beside, and renamed."""
    for name, path in (("crt", pair.certificate), ("key", pair.key)):
        shutil.copy(path, folder / "new")
        (folder / "new").rename(folder / name)



def serves(gatepost, pair):
    with connect(gatepost) as client:
        state = wrap(client, trusting(), MX)
        client.hello()
        client.quit()
        return state.getpeercert(True) == der(pair.certificate)


class Load(Workers):
    """Sessions with a message each, by some threads, until it is left; `failed` is what went
    wrong, `seen` the certificates."""

    def __init__(self, gatepost, threads=3):
        super().__init__(threads)
        self.gatepost = gatepost
        self.failed, self.seen, self.count = [], set(), 0

    def _session(self):
        with connect(self.gatepost) as client:
            state = wrap(client, trusting(), MX)
            self.seen.add(state.getpeercert(True))
            client.hello()
            assert client.message().code == 250
            client.quit()
            self.count += 1

    def work(self, number):
        while not self.stopped.is_set():
            try:
                self._session()
            except Exception as problem:  # whatever it is, it is told
                self.failed.append(repr(problem))
                return

    def more(self, count=10):
        """Waits for further sessions."""
        wanted = self.count + count
        deadline = time.monotonic() + 60
        while self.count < wanted and not self.failed:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_certificate_changes_under_load(backend, authority, tmp_path):
    """On HUP at once, and when the files change soon; no session fails."""
    folder = tmp_path / "tls"
    second = authority.make("served-second", [MX], kind="rsa")
    third = authority.make("served-third", [MX])
    with changing(backend, authority, folder) as gatepost:
        with connect(gatepost) as old, Load(gatepost) as load:
            wrap(old, trusting(), MX)
            old.hello()
            load.more()
            put(folder, second)
            gatepost.signal(signal.SIGHUP)
            gatepost.wait_log("files_read", name="mx", kind="tls")
            load.more()
            assert serves(gatepost, second)
            reads = len(gatepost.log_records("files_read"))
            put(folder, third)
            gatepost.wait_log("files_read", timeout=LOOK_SECONDS, count=reads + 1)
            load.more()
            assert old.message().code == 250  # what began with the old one goes on with it
            old.quit()
        assert serves(gatepost, third)
        assert load.failed == []
        assert der(second.certificate) in load.seen and der(third.certificate) in load.seen
        # A pair that was seen half written may be told of; nothing else.
        assert {record["event"] for record in gatepost.log_records()
                if record["level"] not in ("debug", "info")} <= {"files_kept"}


BROKEN = {
    "empty": lambda folder, other: (folder / "crt").write_bytes(b""),
    "cut": lambda folder, other: (folder / "crt").write_bytes(
        (folder / "crt").read_bytes()[:-100]),
    "text": lambda folder, other: (folder / "crt").write_text("not a certificate\n"),
    "missing": lambda folder, other: (folder / "crt").unlink(),
    "key-missing": lambda folder, other: (folder / "key").unlink(),
    "key-of-another": lambda folder, other: shutil.copy(other.key, folder / "key"),
    "key-empty": lambda folder, other: (folder / "key").write_bytes(b""),
    "directory": lambda folder, other: ((folder / "crt").unlink(), (folder / "crt").mkdir()),
}


def test_broken_files_keep_the_old_ones(backend, authority, tmp_path):
    """All or nothing, and the log says what is wrong; the next good ones are taken."""
    folder = tmp_path / "tls"
    other = authority.make("served-other", [MX])
    with changing(backend, authority, folder) as gatepost, Load(gatepost, 1) as load:
        # What it serves already, so that nothing is seen of the moment when it is there again.
        first = Pair(tmp_path / "crt", tmp_path / "key")
        for name in first._fields:
            shutil.copy(folder / getattr(first, name).name, getattr(first, name))
        for count, (name, break_) in enumerate(BROKEN.items(), 1):
            if (folder / "crt").is_dir():
                (folder / "crt").rmdir()
            put(folder, first)
            break_(folder, other)
            gatepost.signal(signal.SIGHUP)
            kept = gatepost.wait_log("files_kept", name="mx", kind="tls", count=count)
            assert kept["level"] == "error", name
            assert str(folder) in kept["error"], name
            assert "PRIVATE KEY" not in kept["error"]
            load.more(2)
        assert len(load.seen) == 1
        (folder / "crt").rmdir()
        put(folder, other)
        gatepost.signal(signal.SIGHUP)
        gatepost.wait_log("files_read", name="mx")
        assert serves(gatepost, other)
        assert load.failed == []


def test_broken_file_is_told_once(backend, authority, tmp_path):
    """Not every five seconds while it stays as it is."""
    folder = tmp_path / "tls"
    with changing(backend, authority, folder) as gatepost:
        (folder / "new").write_text("not a certificate\n")
        (folder / "new").rename(folder / "crt")
        gatepost.wait_log("files_kept", timeout=LOOK_SECONDS)
        time.sleep(6)
        assert len(gatepost.log_records("files_kept")) == 1


@pytest.mark.parametrize("what", ["missing", "key-of-another", "text", "empty"])
def test_broken_files_at_start(authority, tmp_path, what):
    """Then it does not start, and says why."""
    folder = tmp_path / "tls"
    folder.mkdir()
    put(folder, authority.make("start", [MX]))
    BROKEN[what](folder, authority.make("start-other", [MX]))
    own = {"mode": "implicit", "certificate": str(folder / "crt"), "key": str(folder / "key")}
    with pytest.raises(RuntimeError) as problem:
        with Gatepost(listener={"tls": own}):
            pass
    assert "mx" in str(problem.value) and str(folder) in str(problem.value)


# ---- TLS that ended at HAProxy

@contextlib.contextmanager
def offloading(backend, pairs, authority, users, trusted=("127.0.0.1",), bind="", listener_more=()):
    mx = {"auth": {"users": str(users), "failure_delay": "100ms"}, **dict(listener_more)}
    with Gatepost(backend=backend, proxy="required", trusted=trusted, listener=mx) as gatepost, \
            HAProxy(gatepost.address, "send-proxy-v2-ssl-cn proxy-v2-options ssl-cipher,authority",
                    bind=f"ssl crt {joined(pairs['mx'])} ca-file {authority.certificate} "
                         f"verify optional {bind}") as haproxy:
        yield gatepost, haproxy


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    """carol, and her password."""
    from auth import hash_password
    path = tmp_path_factory.mktemp("users") / "users"
    path.write_text(hash_password("carol", "harmless", "bcrypt"))
    return path


PLAIN = "AUTH PLAIN AGNhcm9sAGhhcm1sZXNz"  # carol, harmless


def test_tls_at_haproxy(backend, pairs, authority, users):
    with offloading(backend, pairs, authority, users) as (gatepost, haproxy):
        with Client(haproxy.address) as client:
            wrap(client, trusting(authority, certificate=pairs["client"]), MX)
            assert "STARTTLS" not in client.hello().lines
            words = client.command("EHLO client.example.net", 250).lines
            assert any(word.startswith("AUTH ") for word in words)
            assert client.command("STARTTLS").code in (502, 503)
            client.command(PLAIN, 235)
            assert client.message().code == 250
            client.quit()
        line, = gatepost.trace()
        tls = line["tls"]
        assert (tls["offloaded"], tls["version"], tls["sni"]) == (True, "TLSv1.3", MX)
        assert line["proxy"]["tls"]["cn"] == "client"
        assert line["auth"] == {"mechanism": "PLAIN", "user": "carol"}
        field = received(message_of(backend, line))
        assert f"(using TLSv1.3 with cipher {tls['cipher']} at balancer)" in field
        assert " with ESMTPSA id " in field
        assert gatepost.wait_log("connection")["tls"] == "TLSv1.3"


def test_tls_at_haproxy_without_auth_is_esmtps(backend, pairs, authority, users):
    with offloading(backend, pairs, authority, users) as (gatepost, haproxy):
        with Client(haproxy.address) as client:
            wrap(client, trusting(authority, newest=ssl.TLSVersion.TLSv1_2), MX)
            client.hello()
            assert client.message().code == 250
            client.quit()
        field = received(message_of(backend, gatepost.trace()[0]))
        assert "(using TLSv1.2 with cipher " in field and " at balancer)" in field
        assert " with ESMTPS id " in field


def offloaded_header(version=b"TLSv1.3"):
    """What HAProxy sends of a client under TLS."""
    import struct

    from client import tlv
    inner = tlv(0x21, version) + tlv(0x23, b"TLS_AES_256_GCM_SHA384")
    return proxy_v2(tlvs=[tlv(0x20, struct.pack("!BI", 0x01, 0) + inner), tlv(0x02, MX.encode())])


def test_offloaded_tls_counts_from_trusted_peers_only(backend, pairs, authority, users):
    """The same bytes from somebody else: refused, or a direct client who has said nonsense."""
    auth = {"auth": {"users": str(users)}}
    config = {"listeners": [
        {"name": "required", "bind": ["127.0.0.1:0"], "proxy": "required",
         "trusted_proxies": ["127.0.0.1"], **auth},
        {"name": "optional", "bind": ["127.0.0.1:0"], "proxy": "optional",
         "trusted_proxies": ["127.0.0.1"], **auth},
        {"name": "off", "bind": ["127.0.0.1:0"], "proxy": "off", **auth}]}
    with Gatepost(config, backend=backend) as gatepost:
        with connect(gatepost, "required", header=offloaded_header()) as client:
            assert any(line.startswith("AUTH ") for line in client.hello().lines)
            client.quit()
        assert gatepost.trace()[0]["tls"]["offloaded"] is True
        with connect(gatepost, "required", header=offloaded_header(),
                     source="127.0.0.9") as client:
            client.expect(421)
            assert client.is_ended()
        for name, source in (("optional", "127.0.0.9"), ("off", "127.0.0.1")):
            hello = fresh_hello()
            with connect(gatepost, name, source=source) as client:
                client.expect(220)
                client.send(offloaded_header())
                time.sleep(0.1)
                try:
                    # However the header is taken, a session that still answers is in the clear.
                    while client.reply().code != 500:
                        pass
                    client.send(b"\r\n")
                    client.command(f"EHLO {hello}")
                except Closed:
                    pass
            for line in gatepost.trace(count=0):
                if line["remote"]["ip"] == source and line["listener"] == name:
                    assert line["tls"] is None and line["auth"] is None


def test_haproxy_without_tls_is_plaintext(backend, users):
    """The TLVs say that there was none: no AUTH, no S in Received."""
    with Gatepost(backend=backend, proxy="required",
                  listener={"auth": {"users": str(users)}}) as gatepost, \
            HAProxy(gatepost.address, "send-proxy-v2-ssl-cn proxy-v2-options authority") as haproxy:
        with Client(haproxy.address) as client:
            assert not any(line.startswith("AUTH") for line in client.hello().lines)
            reply = client.command(PLAIN)
            assert reply.code == 538, reply
            assert client.message().code == 250
            client.quit()
        line, = gatepost.trace()
        assert line["tls"] is None
        assert " with ESMTP id " in received(message_of(backend, line))
