"""AUTH: a users file, real clients, and the senders of who has logged in."""

import contextlib
import json
import signal
import smtplib
import subprocess
import time

import gatepost as support
import pytest
from auth import auth_login, auth_plain, auth_scram, encode, plain, quick_hash, shapes
from auth_rig import (DELAY_SECONDS, ELSEWHERE, EXCHANGES, METHODS, MX, SECRETS, SENDER, WRONG, Gatepost,
                      assert_no_secrets, backend, configured, dovecot, latest, limited, listener,
                      offered, pair, quick_users, received, secured, session, succeed, users)
from client import Client, Closed, proxy_v1
from haproxy import HAProxy
from patience import wait_until
from processes import children, leftovers
from tls import joined, trusting, wrap

LOOK_SECONDS = 60


@pytest.fixture(scope="module")
def gatepost(backend, pair, quick_users):
    file = {"users": str(quick_users)}
    config = configured(
        listener("mx", pair, **file),
        listener("starttls", pair, "starttls", **file),
        listener("submission", pair, "starttls", required=True, **file),
        listener("clear", None, allow_plaintext=["127.0.0.5"], **file),
        listener("clear-starttls", pair, "starttls", allow_plaintext=["127.0.0.0/8"], **file),
        listener("clear-proxy", None, proxy="required", allow_plaintext=["198.51.100.0/24"],
                 **file),
        listener("some", pair, mechanisms=["LOGIN", "SCRAM-SHA-256"], **file),
        {"name": "none", "bind": ["127.0.0.1:0"], "proxy": "off", "tls": secured(pair)})
    with Gatepost(config, backend=backend) as running:
        yield running


@pytest.fixture(scope="module")
def with_made_hashes(backend, pair, users):
    """One whose users have hashes as gatepostctl makes them."""
    with Gatepost(configured(listener("mx", pair, users=str(users))), backend=backend) as running:
        yield running


# ---- What is right

@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("name", METHODS)
def test_right_password(with_made_hashes, backend, name, exchange):
    """Each kind of hash with each mechanism that it can serve: mail to anywhere, and its marks."""
    act, options, mechanism = EXCHANGES[exchange]
    with session(with_made_hashes) as client:
        client.command(f"MAIL FROM:<{SENDER}>", 250)
        client.command(f"RCPT TO:<{ELSEWHERE}>", 554)
        client.command("RSET", 250)
        reply = act(client, name, SECRETS[name], **options)
        if mechanism == "SCRAM-SHA-256" and "scram" not in METHODS[name]:
            assert reply.code == 535, reply
            return
        assert (reply.code, reply.enhanced) == (235, "2.7.0"), reply
        assert client.message(SENDER, [ELSEWHERE]).code == 250
        client.quit()
        line = latest(with_made_hashes, client)
    assert line["auth"] == {"mechanism": mechanism, "user": name}
    assert line["relaying"] is True
    assert " with ESMTPSA id " in received(backend, line["transactions"][-1]["uuid"])
    # Who was it that sent this? The log is what an operator has.
    uuid = line["transactions"][-1]["uuid"]
    assert with_made_hashes.wait_log("transaction", uuid=uuid)["user"] == name
    assert with_made_hashes.wait_log("connection", uuid=line["uuid"])["user"] == name


def test_mechanisms_that_are_offered(gatepost):
    with session(gatepost) as client:
        words = offered(client)
        assert {"PLAIN", "LOGIN", "SCRAM-SHA-256"} <= set(words)
        assert set(words) <= {"PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"}
    with session(gatepost, "some") as client:
        assert offered(client) == ["LOGIN", "SCRAM-SHA-256"]
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 504
        assert auth_scram(client, "scott", SECRETS["scott"]).code == 235
    with session(gatepost, "none") as client:
        assert offered(client) == []
        assert client.command("AUTH PLAIN").code == 502


def test_case_of_mechanisms_and_verbs(gatepost):
    with session(gatepost) as client:
        assert client.command("auth plain " + plain("bea", SECRETS["bea"])).code == 235
        assert latest(gatepost, client)["auth"]["mechanism"] == "PLAIN"


def test_authorization_identity(gatepost):
    """That of the user, or none; nobody is somebody else."""
    with session(gatepost) as client:
        client.command("AUTH PLAIN " + plain("bea", SECRETS["bea"], "yves"), 535)
        client.command("AUTH PLAIN " + plain("bea", SECRETS["bea"], "bea"), 235)


def test_mail_goes_on_after_a_refusal_by_the_backend(gatepost, backend):
    """What was granted lasts for the connection, whatever becomes of one transaction."""
    with session(gatepost) as client:
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 235
        client.command(f"MAIL FROM:<{SENDER}>", 250)
        assert client.command(f"RCPT TO:<reject-x@{ELSEWHERE.partition('@')[2]}>").code == 550
        client.command("RSET", 250)
        assert client.message(SENDER, [ELSEWHERE]).code == 250
        assert client.command("AUTH PLAIN").code == 503
        assert latest(gatepost, client)["auth"]["user"] == "bea"


# ---- What is wrong

@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("name, password", [("bea", WRONG), ("scott", WRONG), ("nobody", WRONG),
                                            ("BEA", SECRETS["bea"]), ("locked", SECRETS["yves"]),
                                            ("bea", SECRETS["bea"] + "x"),
                                            ("bea", SECRETS["bea"][:-1]), ("yves", "x")])
def test_wrong_password(gatepost, name, password, exchange):
    """One answer for all, as late; the session goes on and has gained nothing."""
    act, options, mechanism = EXCHANGES[exchange]
    with session(gatepost) as client:
        started = time.monotonic()
        reply = act(client, name, password, **options)
        assert str(reply) == "535 5.7.8 Authentication credentials invalid"
        assert time.monotonic() - started >= DELAY_SECONDS * 0.9
        client.command(f"MAIL FROM:<{SENDER}>", 250)
        client.command(f"RCPT TO:<{ELSEWHERE}>", 554)
        line = latest(gatepost, client)
    assert line["auth"] is None and line["relaying"] is False
    log = gatepost.wait_log("auth_failed", uuid=line["uuid"])
    assert (log["mechanism"], log["result"], log["client"]) == (mechanism, "refused", "127.0.0.1")


MALFORMED = [
    # lines; codes that may answer the last one
    (["AUTH"], {501}), (["AUTH "], {501}), (["AUTH NOSUCH"], {504}), (["AUTH CRAM-MD5"], {504}),
    (["AUTH EXTERNAL ="], {504}), (["AUTH GSSAPI"], {504}), (["AUTH PLAIN-X"], {504}),
    (["AUTH OAUTHBEARER bixhPXg="], {504}), (["AUTH XOAUTH2 dXNlcj14"], {504}),
    (["AUTH " + "X" * 100], {501, 504}),
    (["AUTH PLAIN", "*"], {501}), (["AUTH LOGIN", "*"], {501}),
    (["AUTH LOGIN", encode("bea"), "*"], {501}),
    (["AUTH SCRAM-SHA-256", "*"], {501}), (["AUTH SCRAM-SHA-256 " + encode("n,,n=bea,r=abc"), "*"],
                                           {501}),
    (["AUTH PLAIN !!!"], {501}), (["AUTH PLAIN A"], {501}), (["AUTH PLAIN AG=EAYg="], {501}),
    (["AUTH PLAIN AGEAYg"], {501}), (["AUTH PLAIN AGEAYg=="  + " x"], {501}),
    (["AUTH PLAIN AGEA Yg=="], {501}), (["AUTH PLAIN AGEAYh=="], {501, 535}),
    (["AUTH PLAIN", "AGEAYg= ="], {501}), (["AUTH PLAIN", " AGEAYg=="], {501}),
    (["AUTH PLAIN", "AGE\tAYg=="], {501}), (["AUTH PLAIN", "\xff\xfe"], {501}),
    (["AUTH PLAIN ="], {501}), (["AUTH LOGIN ="], {501}), (["AUTH PLAIN", ""], {501, 535}), (["AUTH PLAIN", "="],
                                                                      {501, 535}),
    (["AUTH PLAIN " + encode("bea")], {501, 535}),
    (["AUTH PLAIN " + encode("\0bea")], {501, 535}),
    (["AUTH PLAIN " + encode("\0bea\0")], {501, 535}),
    (["AUTH PLAIN " + encode("\0\0" + WRONG)], {501, 535}),
    (["AUTH PLAIN " + encode("\0bea\0" + SECRETS["bea"] + "\0")], {501, 535}),
    (["AUTH PLAIN " + encode("\0bea\0" + SECRETS["bea"] + "\0x")], {501, 535}),
    (["AUTH PLAIN " + encode(b"\0bea\0\xff\xfe\xfd")], {501, 535}),
    (["AUTH PLAIN " + encode("\0" + "n" * 300 + "\0" + WRONG)], {501, 535}),
    (["AUTH PLAIN " + encode("\0bea\0" + "p" * 600)], {501, 535}),
    (["AUTH LOGIN", "="], {501, 535}), (["AUTH LOGIN", ""], {501, 535}),
    (["AUTH LOGIN", encode("bea"), ""], {501, 535}), (["AUTH LOGIN", encode("bea"), "="],
                                                      {501, 535}),
    (["AUTH LOGIN", encode("bea\0x")], {501, 535}),
    (["AUTH LOGIN " + encode("bea\0x")], {501, 535}),
    (["AUTH LOGIN", "!!!"], {501}), (["AUTH LOGIN !!!"], {501}),
    (["AUTH LOGIN", encode("bea"), "!!!"], {501}),
    (["AUTH LOGIN", encode("n" * 300)], {501, 535}),
    (["AUTH SCRAM-SHA-256 ="], {501}), (["AUTH SCRAM-SHA-256 " + encode("x")], {501, 535}),
    (["AUTH SCRAM-SHA-256 " + encode("n,,n=bea")], {501, 535}),
    (["AUTH SCRAM-SHA-256 " + encode("n,,m=x,n=bea,r=abc")], {501, 535}),
    (["AUTH SCRAM-SHA-256 " + encode("p=tls-unique,,n=bea,r=abc")], {501, 535}),
    (["AUTH SCRAM-SHA-256 " + encode("n,a=yves,n=bea,r=abc")], {501, 535}),
    (["AUTH SCRAM-SHA-256 " + encode("n,,n=b=ea,r=abc")], {501, 535}),
    (["AUTH SCRAM-SHA-256 " + encode("n,,n=scott,r=abc"), encode("c=biws,r=abc,p=AAAA")],
     {501, 535}),
    (["AUTH SCRAM-SHA-256 " + encode("n,,n=scott,r=abc"), "="], {501, 535}),
    (["AUTH SCRAM-SHA-256 " + encode("n,,n=scott,r=" + "r" * 2000)], {501, 535}),
    # Oversized: to the octet (RFC 4954 section 4: 12288 with the line end), and far beyond.
    (["AUTH PLAIN", "A" * 12284], {501, 535}), (["AUTH PLAIN", "A" * 12288], {500, 501}),
    (["AUTH PLAIN", "A" * 20000], {500, 501}), (["AUTH LOGIN", encode("bea"), "A" * 20000],
                                                {500, 501}),
    (["AUTH PLAIN " + "A" * 20000], {500, 501}),
]


@pytest.mark.parametrize("lines, codes", MALFORMED, ids=lambda value: repr(value)[:48])
def test_malformed(gatepost, lines, codes):
    """A refusal, and the dialogue is where it was: the next command is a command."""
    with session(gatepost) as client:
        for line in lines[:-1]:
            client.command(line, 334)
        reply = client.command(lines[-1])
        assert reply.code in codes, reply
        client.command("NOOP", 250)
        # It did not spoil what comes.
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 235
        assert client.command("AUTH PLAIN").code == 503


@pytest.mark.parametrize("size", [1, 100, 1000])
def test_exchange_in_pieces(gatepost, size):
    with session(gatepost) as client:
        client.send_pieces(b"AUTH LOGIN\r\n", size)
        client.expect(334)
        client.send_pieces(encode("bea").encode() + b"\r\n", size)
        client.expect(334)
        client.send_pieces(encode(SECRETS["bea"]).encode() + b"\r\n", size)
        client.expect(235)


def test_line_that_never_ends(gatepost):
    """It ends for us at some point, and costs no memory."""
    with session(gatepost) as client:
        client.command("AUTH PLAIN", 334)
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                client.send(b"A" * 10000)
        with contextlib.suppress(ConnectionError, Closed):
            assert client.reply().code in (421, 500, 501)


def test_order(gatepost):
    """RFC 4954 section 4: after EHLO, not in a transaction, not after a success."""
    message = plain("bea", SECRETS["bea"])
    with Client(("127.0.0.1", gatepost.port("mx"))) as client:
        wrap(client, trusting(), MX)
        client.expect(220)
        client.command("AUTH PLAIN " + message, 503)
        client.command("HELO client.example.net", 250)
        assert client.command("AUTH PLAIN " + message).code in (235, 503)
    with session(gatepost) as client:
        client.command(f"MAIL FROM:<{SENDER}>", 250)
        client.command("AUTH PLAIN " + message, 503)
        client.command("RCPT TO:<b@example.com>", 250)
        client.command("RSET", 250)
        client.command("AUTH PLAIN " + message, 235)
        client.command("AUTH PLAIN " + message, 503)
        client.command("EHLO client.example.net", 250)
        client.command("AUTH LOGIN", 503)


def test_exchange_without_waiting(gatepost, backend):
    """A client that sends its responses at once: whatever is answered, nothing of them is kept."""
    before = len(backend.envelopes())
    with session(gatepost) as client:
        client.send(f"AUTH LOGIN\r\n{encode('bea')}\r\n{encode(SECRETS['bea'])}\r\nNOOP\r\n")
        assert client.reply().code in (334, 501, 503, 554)
        with contextlib.suppress(Closed):
            while client.reply().code not in (235, 250, 421):
                pass
    with session(gatepost, "clear") as client:  # where AUTH is not for this client
        client.send(f"AUTH LOGIN\r\n{encode('bea')}\r\n{encode(SECRETS['bea'])}\r\nNOOP\r\n")
        assert client.reply().code == 538
        with contextlib.suppress(Closed):
            while client.reply().code != 250:
                pass
    assert len(backend.envelopes()) == before
    gatepost.look_for_secrets()


def test_commands_behind_auth(gatepost):
    """AUTH as the last of a group, and the first of one."""
    with session(gatepost) as client:
        client.send(f"NOOP\r\nAUTH PLAIN {plain('bea', SECRETS['bea'])}\r\nNOOP\r\nQUIT\r\n")
        codes = [reply.code for reply in client.replies()]
        assert codes[:2] == [250, 235] or codes[1] >= 500, codes


# ---- TLS

def test_not_without_tls(gatepost):
    with session(gatepost, "starttls") as client:
        assert offered(client) == []
        reply = client.command("AUTH PLAIN " + plain("bea", SECRETS["bea"]))
        assert (reply.code, reply.enhanced) == (538, "5.7.11")
        client.command("STARTTLS", 220)
        wrap(client, trusting(), MX)
        assert "PLAIN" in offered(client)
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 235


def test_plaintext_from_named_networks(gatepost, backend):
    with session(gatepost, "clear") as client:
        assert offered(client) == []
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 538
    with session(gatepost, "clear", source="127.0.0.5") as client:
        assert "PLAIN" in offered(client) and "SCRAM-SHA-256-PLUS" not in offered(client)
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 235
        assert client.message(SENDER, [ELSEWHERE]).code == 250
        line = latest(gatepost, client)
    assert line["tls"] is None
    assert " with ESMTPA id " in received(backend, line["transactions"][-1]["uuid"])


def test_plaintext_goes_by_the_client_not_by_the_balancer(gatepost):
    for source, codes in (("198.51.100.7", (235,)), ("192.0.2.7", (538,))):
        with Client(("127.0.0.1", gatepost.port("clear-proxy")),
                    header=proxy_v1((source, 1025))) as client:
            client.hello()
            assert auth_plain(client, "bea", SECRETS["bea"]).code in codes


def test_starttls_forgets_auth(gatepost):
    """What was granted before TLS is gone after it: it may have been somebody else's."""
    with session(gatepost, "clear-starttls") as client:
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 235
        reply = client.command("STARTTLS")
        if reply.code != 220:
            assert reply.code == 503
            return
        wrap(client, trusting(), MX)
        client.command("EHLO client.example.net", 250)
        client.command(f"MAIL FROM:<{SENDER}>", 250)
        client.command(f"RCPT TO:<{ELSEWHERE}>", 554)
        client.command("RSET", 250)
        assert auth_plain(client, "shane", SECRETS["shane"]).code == 235
        line = latest(gatepost, client)
    assert line["auth"]["user"] == "shane"


def test_starttls_inside_an_exchange(gatepost):
    """It is a response, and a wrong one."""
    with session(gatepost, "clear-starttls") as client:
        client.command("AUTH PLAIN", 334)
        assert client.command("STARTTLS").code == 501
        client.command("STARTTLS", 220)
        wrap(client, trusting(), MX)
        client.command("EHLO client.example.net", 250)


def test_required(gatepost):
    """Nothing is taken before: neither for our own domains nor from anywhere."""
    with session(gatepost, "submission") as client:
        reply = client.command(f"MAIL FROM:<{SENDER}>")
        assert (reply.code, reply.enhanced) == (530, "5.7.0")
        client.command("NOOP", 250)
        client.command("STARTTLS", 220)
        wrap(client, trusting(), MX)
        client.command("EHLO client.example.net", 250)
        reply = client.command(f"MAIL FROM:<{SENDER}>")
        assert (reply.code, reply.enhanced) == (530, "5.7.0")
        assert auth_plain(client, "bea", WRONG).code == 535
        client.command(f"MAIL FROM:<{SENDER}>", 530)
        assert auth_plain(client, "bea", SECRETS["bea"]).code == 235
        assert client.message(SENDER, ["b@example.com", ELSEWHERE]).code == 250
        client.quit()


def test_behind_haproxy(backend, pair, quick_users):
    """TLS ends there, and AUTH goes on here."""
    one = listener("mx", proxy="required", required=True, users=str(quick_users))
    with Gatepost(configured(one), backend=backend) as gatepost, \
            HAProxy(("127.0.0.1", gatepost.port()),
                    "send-proxy-v2-ssl-cn proxy-v2-options authority",
                    bind=f"ssl crt {joined(pair)}") as haproxy:
        for act in (auth_plain, auth_login, auth_scram):
            with Client(haproxy.address) as client:
                wrap(client, trusting(), MX)
                client.hello()
                assert "SCRAM-SHA-256-PLUS" not in offered(client)  # the binding would be HAProxy's
                client.command(f"MAIL FROM:<{SENDER}>", 530)
                assert act(client, "both", SECRETS["both"]).code == 235
                assert client.message(SENDER, [ELSEWHERE]).code == 250
                client.quit()
        for line in gatepost.trace(count=3):
            assert line["tls"]["offloaded"] is True and line["auth"]["user"] == "both"
            assert " at balancer) by mx.example.net (gatepost) with ESMTPSA id " \
                in received(backend, line["transactions"][0]["uuid"])


# ---- The users file

def replace(path, text):
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def test_users_file_changes(backend, pair, tmp_path):
    """Read anew on HUP and by itself; a broken one is kept out, and its line is named."""
    path = tmp_path / "users"
    bea = quick_hash("bea", SECRETS["bea"], "bcrypt")
    shane = quick_hash("shane", SECRETS["shane"], "sha512")
    path.write_text(bea)
    with limited(backend, path, pair) as gatepost:
        def changed(event, text, hup=True):
            """The record of it, whether HUP or the look at all files every five seconds was first."""
            since = len(gatepost.log_records())
            if text is None:
                path.unlink()
            else:
                replace(path, text)
            if hup:
                gatepost.signal(signal.SIGHUP)
            return gatepost.wait_log(event, name="mx", kind="users", since=since, timeout=LOOK_SECONDS)

        assert succeed(gatepost, "bea", None) == 235
        assert succeed(gatepost, "shane", None) == 535
        with session(gatepost) as old:
            changed("files_read", shane, hup=False)
            assert succeed(gatepost, "shane", None) == 235
            assert succeed(gatepost, "bea", None) == 535
            assert auth_plain(old, "shane", SECRETS["shane"]).code == 235
        for broken in (shane + "bea:hash-of-nothing\n", shane + "no colon\n", shane + bea[:-20] + "\n",
                       shane + shane):
            kept = changed("files_kept", broken)
            assert f"{path}:2" in kept["error"]
            assert "hash-of-nothing" not in kept["error"]
            assert SECRETS["bea"] not in kept["error"] and bea[10:30] not in kept["error"]
            assert succeed(gatepost, "shane", None) == 235
        changed("files_kept", None)
        assert succeed(gatepost, "shane", None) == 235
        changed("files_read", bea + shane)
        assert succeed(gatepost, "bea", None) == 235
        since = len(gatepost.log_records())
        path.chmod(0o640)  # a mended permission is a change, too
        gatepost.wait_log("files_read", since=since, timeout=LOOK_SECONDS)


@pytest.mark.parametrize("text, said", [
    ("bea:hash-of-nothing\n", "users:1"), ("nobody\n", "users:1"), (None, "users"),
    (":$6$x$y\n", "users:1")])
def test_broken_users_file_at_start(pair, tmp_path, text, said):
    path = tmp_path / "users"
    if text:
        path.write_text(text)
    with pytest.raises(RuntimeError) as problem:
        with Gatepost(configured(listener("mx", pair, users=str(path)))):
            pass
    assert said in str(problem.value) and "hash-of-nothing" not in str(problem.value)


@pytest.mark.parametrize("auth", [
    {"required": True}, {"users": "/tmp/x", "sasl": "unix:/tmp/y"}, {"sasl": "/tmp/y"},
    {"sasl": "inet:localhost"}, {"users": "/tmp/x", "mechanisms": ["NOSUCH"]}])
def test_settings_that_cannot_work(pair, tmp_path, auth):
    path = tmp_path / "gatepost.yaml"
    one = listener("mx", pair, **auth)
    path.write_text(json.dumps({"hostname": MX, "listeners": [one],
                                "relay": {"domains": ["example.com"]},
                                "backends": [{"name": "mta", "servers": ["127.0.0.1:1"]}]}))
    done = support.run("-c", "-f", str(path))
    assert done.returncode != 0 and "auth" in done.stderr, done.stderr
    assert "Sanitizer" not in done.stderr


# ---- Real clients

def run(*command, text=""):
    done = subprocess.run([str(word) for word in command], input=text, text=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("name, code", [("both", 0), ("nobody", 28)])
def test_swaks(gatepost, mechanism, name, code):
    got, said = run("swaks", "--server", "127.0.0.1", "--port", gatepost.port("submission"),
                    "--tls", "--auth", mechanism, "--auth-user", name, "--auth-password",
                    SECRETS["both"], "--from", SENDER, "--to", ELSEWHERE)
    assert got == code, said


@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256", "scram-sha-256-plus"])
def test_msmtp(gatepost, mechanism):
    command = ["msmtp", "--file=/dev/null", "--host=127.0.0.1",
               f"--port={gatepost.port('submission')}", "--tls=on", "--tls-certcheck=off",
               f"--auth={mechanism}", "--user=both", f"--from={SENDER}"]
    code, said = run(*command, f"--passwordeval=echo {SECRETS['both']}", "--", ELSEWHERE,
                     text="Subject: by msmtp\n\ntext\n")
    if mechanism == "scram-sha-256-plus" and "invalid argument" in said:
        pytest.skip(f"msmtp: {said.strip()}")
    assert code == 0, said
    code, said = run(*command, f"--passwordeval=echo {WRONG}", "--", ELSEWHERE,
                     text="Subject: by msmtp\n\ntext\n")
    assert code == 77, said  # EX_NOPERM


@pytest.mark.parametrize("mechanism, more", [
    ("SCRAM-SHA-256-PLUS", []), ("SCRAM-SHA-256", ["--no-cb"])])
def test_gsasl(gatepost, mechanism, more):
    """GNU SASL binds to the TLS connection by tls-exporter, by code that is not ours."""
    command = ["gsasl", "--smtp", f"--connect=127.0.0.1:{gatepost.port('submission')}",
               "--x509-ca-file=", f"--hostname={MX}", f"--mechanism={mechanism}",
               "--authentication-id=both", *more]
    seen = len(gatepost.trace(count=0))
    code, said = run(*command, f"--password={SECRETS['both']}")
    assert code == 0 and "235 2.7.0 " in said and "server trusted" in said, said
    wanted = {"mechanism": mechanism, "user": "both"}, "TLSv1.3", "[127.0.0.1]"
    wait_until(lambda: wanted in [  # lines of earlier sessions may still come
        (line["auth"], line["tls"] and line["tls"]["version"], line["hello"]["host"])
        for line in gatepost.trace(count=0)[seen:]])
    code, said = run(*command, f"--password={WRONG}")
    assert code != 0 and "535 5.7.8 " in said, said


def test_smtplib(gatepost):
    with smtplib.SMTP("127.0.0.1", gatepost.port("submission"), timeout=60) as client:
        client.starttls(context=trusting())
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("both", WRONG)
        client.login("both", SECRETS["both"])
        client.sendmail(SENDER, [ELSEWHERE], "Subject: x\n\ntext\n")


# ---- In the end

@pytest.mark.parametrize("is_tls", [True, False], ids=["tls", "plain"])
@pytest.mark.parametrize("service", ["users", "dovecot"])
def test_nothing_is_left_in_memory(request, backend, pair, service, is_tls):
    """Responses stayed in what a stream, TLS and the loop had read them into, for a core file or the
    next connection to find."""
    secret, unfinished = "L3ft-behind-in-memory-0830", "Unf1nished-line-in-memory-0831"
    text = encode(f"\0bea\0{unfinished}")
    asked = ({"users": str(request.getfixturevalue("quick_users"))} if service == "users" else
             {"sasl": f"unix:{request.getfixturevalue('dovecot').socket}"})
    one = listener("mx", pair if is_tls else None, allow_plaintext=["127.0.0.0/8"], **asked)
    with Gatepost(configured(one), backend=backend) as gatepost:
        if service == "dovecot":
            gatepost.wait_log("auth_service_ready")
        with session(gatepost) as kept, session(gatepost) as gone:
            for exchange in (auth_plain, auth_login):
                assert exchange(gone, "bea", secret).code == 535
            assert auth_plain(kept, "bea", secret, initial=False).code == 535
            gone.send_pieces(f"AUTH PLAIN {text[:-4]}".encode(), size=9, delay=0.01)
            wait_until(lambda: leftovers(gatepost.pid, [text[:-4]]))
            gone.close()
            kept.command("NOOP", 250)
            looked_for = {shape for one in (secret, unfinished) for shape in shapes(one)}
            gatepost.wait_log("connection", ending="client_closed")
            kept.command("NOOP", 250)  # what is over is freed behind its record
            assert not leftovers(gatepost.pid, looked_for)
            for worker in children(gatepost.pid):
                assert not leftovers(worker, looked_for)


def test_secrets_would_be_found():
    """In plain, in a message of PLAIN, and as a response of LOGIN."""
    for secret in SECRETS.values():
        for text in (secret, plain("x", secret), plain("xy", secret), plain("xyz", secret),
                     encode(secret)):
            with pytest.raises(AssertionError):
                assert_no_secrets(f'{{"reply":"{text}"}}', "a test")


def test_nothing_was_written(gatepost, quick_users):
    """Each gatepost is looked through at its end as well; this one while it runs."""
    assert gatepost.log_records("auth_failed")
    gatepost.look_for_secrets()
    text = gatepost.log_text() + gatepost.trace_file.read_text(errors="surrogateescape")
    hashes = [line.partition(":")[2] for line in quick_users.read_text().splitlines() if ":$" in line]
    assert hashes and not any(one in text for one in hashes)


# ---- Which sender is whose

def sends(client, sender, recipient="b@example.com"):
    """The reply to RCPT, where the refusal of a sender is given; the transaction is over then."""
    client.command(f"MAIL FROM:<{sender}>", 250)
    reply = client.command(f"RCPT TO:<{recipient}>")
    client.command("RSET", 250)
    return reply


def test_sender_login(backend, pair, quick_users, tmp_path):
    """Users and their senders, others who say them, a file that changes, a port for each case."""
    path = tmp_path / "senders"
    path.write_text("yves@example.net yves\nbea@example.net bea\n"
                    "@shared.example yves,\n  bea\nshane@shared.example shane\n")
    tied = {"users": str(quick_users), "sender_login": str(path)}
    config = configured(
        listener("mx", pair, **tied),
        listener("lenient", pair, unlisted_senders="accept", **tied),
        {"name": "guarded", "bind": ["127.0.0.1:0"], "proxy": "off", "tls": {"mode": "off"},
         "plan": "guard",
         "auth": {"sender_login": str(path), "unauthenticated_senders": "reject"}},
        {"name": "free", "bind": ["127.0.0.1:0"], "proxy": "off", "tls": secured(pair),
         "auth": {"users": str(quick_users)}},
        plans={"guard": {"mail": [{"sender_login": {"hold": False}}]}})
    with Gatepost(config, backend=backend) as gatepost:
        with session(gatepost) as client:
            assert sends(client, "bea@example.net").code == 250  # nobody yet
            assert auth_plain(client, "yves", SECRETS["yves"]).code == 235
            for sender in ("yves@example.net", "YVES+shop@example.net", "x@shared.example"):
                assert sends(client, sender, ELSEWHERE).code == 250
            assert sends(client, "", ELSEWHERE).code == 250
            for sender in ("bea@example.net", '"bea"@example.net', "shane@shared.example",
                           "yves@sub.shared.example", "yves@elsewhere.example"):
                reply = sends(client, sender, ELSEWHERE)
                assert (reply.code, reply.enhanced) == (553, "5.7.1")
                assert reply.text.endswith(
                    f"<{sender}>: Sender address rejected: not owned by user yves")
            record = gatepost.wait_log("reject", mail_from="bea@example.net")
            assert (record["check"], record["rcpt"]) == ("sender_login", ELSEWHERE)
            replace(path, "bea@example.net bea, yves\n")
            gatepost.signal(signal.SIGHUP)
            gatepost.wait_log("files_read", name="mx", kind="sender_login")
            assert sends(client, "bea@example.net").code == 250
            assert sends(client, "yves@example.net").code == 553
            replace(path, "yves@example.net yves\nexample.net bea\n")
            gatepost.signal(signal.SIGHUP)
            kept = gatepost.wait_log("files_kept", name="mx", kind="sender_login")
            assert f"{path}:2: " in kept["error"]
            replace(path, "# cut short\n")
            gatepost.signal(signal.SIGHUP)
            kept = gatepost.wait_log("files_kept", name="mx", kind="sender_login", count=2)
            assert kept["error"] == f"{path}: nothing is in it any more"
            assert sends(client, "bea@example.net").code == 250
        with session(gatepost, "lenient") as client:
            assert auth_plain(client, "shane", SECRETS["shane"]).code == 235
            assert sends(client, "shane@elsewhere.example").code == 250
            assert sends(client, "bea@example.net").code == 553
        with session(gatepost, "free") as client:
            assert auth_plain(client, "shane", SECRETS["shane"]).code == 235
            assert sends(client, "bea@example.net").code == 250
        with session(gatepost, "guarded") as client:
            reply = client.command("MAIL FROM:<bea@example.net>", 553)
            assert "not logged in" in reply.text
            assert sends(client, "somebody@elsewhere.example").code == 250
