"""The test backend tested: what other tests believe of it."""

import hashlib
import smtplib
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e" / "support"))
from backend import Backend, program  # noqa: E402
from raw import Raw  # noqa: E402

MESSAGE = b"Subject: x\r\n\r\n.dot\r\n..two dots\r\nbody \xff\r\n"
STUFFED = b"Subject: x\r\n\r\n..dot\r\n...two dots\r\nbody \xff\r\n"


@pytest.fixture
def backend():
    with Backend() as backend:
        yield backend


def test_help_and_usage():
    text = subprocess.run([program(), "--help"], capture_output=True, text=True, check=True).stdout
    assert "--lenient-eod" in text and "mixed-codes" in text
    for arguments in (["--fault", "mail:nonsense"], ["--fault", "nowhere:reset"], ["--proxy", "v3"],
                      ["--fault", "mail:reply=4x0 no"], ["--fault", "mail:delay=soon"], ["--fault", "rcpt0:reset"],
                      ["--fault", "mail:reset@c"], ["stray"]):
        assert subprocess.run([program()] + arguments, capture_output=True).returncode == 64


def test_mail_is_taken_and_recorded(backend):
    with smtplib.SMTP("127.0.0.1", backend.port, "client.example") as client:
        client.ehlo()
        assert {"pipelining", "size", "8bitmime", "smtputf8", "dsn",
                "enhancedstatuscodes"} <= set(client.esmtp_features)
        client.sendmail("a@example.net", ["b@example.com", "c@example.com"], MESSAGE,
                        ["BODY=8BITMIME"], ["NOTIFY=NEVER"])
    message, = backend.messages()
    assert message["body"] == MESSAGE
    assert message["size"] == len(MESSAGE)
    assert message["sha256"] == hashlib.sha256(MESSAGE).hexdigest()
    assert message["mail_from"] == "a@example.net"
    assert "BODY=8BITMIME" in message["mail_params"]
    assert message["rcpt_to"] == ["b@example.com", "c@example.com"]
    assert message["rcpts"][0]["params"] == "NOTIFY=NEVER"
    assert (message["bare_cr"], message["bare_lf"], message["nul"]) == (0, 0, 0)
    assert message["eight_bit"] == 1
    assert backend.commands("EHLO") == ["ehlo client.example"]
    assert backend.wait_for("end")[0]["how"] == "quit"
    assert backend.violations() == []
    assert backend.stop() == {"messages": 1, "connections": 1, "bytes": backend.summary["bytes"]}


def test_maildir_holds_the_body_byte_for_byte(tmp_path):
    with Backend("--maildir", str(tmp_path / "mail")) as backend:
        with Raw(backend) as raw:
            raw.envelope().data().send(STUFFED + b".\r\n")
            assert raw.reply().startswith("250 2.0.0")
            raw.ask("MAIL FROM:<>")
            raw.ask("RCPT TO:<b@example.com>")
            raw.data().send(b"half a message")
        backend.wait_for("end")
        assert [path.read_bytes() for path in (tmp_path / "mail" / "new").iterdir()] == [MESSAGE]
        assert list((tmp_path / "mail" / "tmp").iterdir()) == []


# ---- The end of data

SHAPES = [b"", b".", b"..", b".x", b"\r", b"\r\r", b".\r", b"\rx", b"a\rb", b"\n.\n", b"\r.\r",
          b"a\n.\nb", b"a\r.\rb", b"a\r\n.\nb", b"a\n.\r\nb", b"a\r\n.\rb", b"a\r\n.\r\rb",
          b"\r\r\n..\r", b"x\0y", b".\0", b"\n", b"a" * 3000]


def stuff(body):
    """Slow and obvious: doubles each dot at the start of the text or behind CR LF."""
    return (b"." if body.startswith(b".") else b"") + body.replace(b"\r\n.", b"\r\n..")


@pytest.mark.parametrize("shape", SHAPES)
def test_only_the_true_end_ends_the_data(backend, shape):
    body = shape + b"\r\n"
    whole = stuff(body) + b".\r\n"
    with Raw(backend) as raw:
        raw.envelope().data().send(whole)
        assert raw.reply().startswith("250")
        cuts = range(len(whole)) if len(whole) < 100 else (1, 1500, len(whole) - 2)
        for cut in cuts:
            raw.ask("MAIL FROM:<>")
            raw.ask("RCPT TO:<b@example.com>")
            raw.data().send(whole[:cut])
            time.sleep(0.002)
            raw.send(whole[cut:])
            assert raw.reply().startswith("250")
        raw.ask("QUIT")
    bodies = [message["body"] for message in backend.messages()]
    assert bodies == [body] * (1 + len(cuts))


@pytest.mark.parametrize("end", [b"\n.\n", b"\r.\r", b"\r\n.\n", b"\n.\r\n", b"\r\n.\r", b"\r.\n",
                                 b"\r\n.\r\n", b"\r\n. \r\n", b"\r\n.\0\n", b"\r\n\0.\f\r\n", b"\n.\r\r\n"])
def test_the_lenient_backend_is_smuggled(end):
    smuggled = b"MAIL FROM:<evil@example.net>\nRCPT TO:<b@example.com>\nDATA\ntwo\r\n.\r\n"
    with Backend("--lenient-eod") as backend, Raw(backend) as raw:
        raw.envelope().data().send(b"one" + end + smuggled)
        for code in "250", "250", "250", "354", "250":
            assert raw.reply().startswith(code)
        assert raw.ask("QUIT").startswith("221")
        assert [m["mail_from"] for m in backend.messages()] == ["a@example.net", "evil@example.net"]


def test_bare_line_ends_in_the_body_are_counted(backend):
    with Raw(backend) as raw:
        raw.envelope().data().send(b"a\nb\rc\0\r\n.\r\n")
        assert raw.reply().startswith("250")
    message, = backend.messages()
    assert (message["bare_lf"], message["bare_cr"], message["nul"]) == (1, 1, 1)


# ---- Commands

def test_control_characters_are_refused_and_marked(backend):
    with Raw(backend) as raw:
        raw.reply()
        raw.send(b"NOOP\n\r\nNO\0OP\r\nNOOP \xe9\r\n")
        assert raw.reply().startswith("500")
        assert raw.reply().startswith("500")
        assert raw.reply().startswith("250")
    backend.wait_for("end")
    commands = backend.events("command")
    assert [command.get("control", False) for command in commands] == [True, True, False]
    assert [command["line"] for command in commands] == ["NOOP\n", "NO\0OP", "NOOP \xe9"]


@pytest.mark.parametrize("line, code", [
    ("MAIL FROM: <a@example.net>", "501 5.5.4"),
    ("MAIL FROM:a@example.net", "501 5.5.4"),
    ("MAIL FROM:<a>", "501 5.1.7"),
    ("MAIL FROM:<a@example.net> SIZE=999999999999", "552 5.3.4"),
    ("MAIL FROM:<a@example.net> SIZE=x", "501 5.5.4"),
    ("MAIL FROM:<a@example.net> REQUIRETLS", "555 5.5.4"),
    ("MAIL FROM:<a@example.net> NOTIFY=NEVER", "555 5.5.4"),
    ("MAIL FROM:<\xe9@example.net>", "553 5.6.7"),
    ("MAIL FROM:<\xe9@example.net> SMTPUTF8", "250 2.1.0"),
    ('MAIL FROM:<"a>b"@example.net> SIZE=10 RET=HDRS', "250 2.1.0"),
    ("RCPT TO:<b@example.com>", "503 5.5.1"),
    ("DATA", "503 5.5.1"),
    ("BDAT 5", "502 5.5.1"),
    ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2", "500 5.5.2"),
    ("QUIT now", "501 5.5.4"),
    ("EHLO", "501 5.5.4"),
    ("x" * 9000, "500 5.5.2"),
])
def test_replies(backend, line, code):
    with Raw(backend) as raw:
        raw.reply()
        raw.ask("EHLO x")
        assert raw.ask(line).startswith(code)


def test_helo_takes_no_parameters():
    with Backend("--no-ehlo") as backend, Raw(backend) as raw:
        raw.reply()
        assert raw.ask("EHLO x").startswith("502")
        assert raw.ask("MAIL FROM:<a@example.net>").startswith("503")
        assert raw.ask("HELO x") == "250 backend.example"
        assert raw.ask("MAIL FROM:<a@example.net> SIZE=1").startswith("555")
        assert raw.ask("MAIL FROM:<a@example.net>").startswith("250")


def test_extensions_are_what_was_asked_for():
    with Backend(extensions="SIZE=100,XCLIENT=NAME ADDR,STARTTLS") as backend, Raw(backend) as raw:
        raw.reply()
        raw.send(b"EHLO x\r\n")
        lines = [raw.line() for _ in range(4)]
        assert lines == [b"250-backend.example\r\n", b"250-SIZE 100\r\n",
                         b"250-XCLIENT NAME ADDR\r\n", b"250 STARTTLS\r\n"]
        assert raw.ask("STARTTLS") == "454 TLS is only a word here"
        assert raw.ask("XCLIENT ADDR=192.0.2.1").startswith("220 ")
        assert raw.ask("MAIL FROM:<a@example.net>").startswith("503")
        raw.ask("EHLO x")
        assert raw.ask("MAIL FROM:<a@example.net> BODY=8BITMIME").startswith("555")
        raw.ask("MAIL FROM:<a@example.net>")
        raw.ask("RCPT TO:<b@example.com>")
        raw.data().send(b"x" * 200 + b"\r\n.\r\n")
        assert raw.reply() == "552 Message too big"
        assert backend.messages() == []


def test_bdat():
    with Backend(extensions="PIPELINING,CHUNKING") as backend, Raw(backend) as raw:
        raw.reply()
        raw.ask("EHLO x")
        raw.send(b"BDAT 6\r\nQUIT\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.com>\r\n"
                 b"BDAT 8\r\nx\r\n.\r\n\r\nBDAT 3\r\nabcBDAT 0 LAST\r\n")
        assert [raw.reply()[:3] for _ in range(6)] == ["503", "250", "250", "250", "250", "250"]
        message, = backend.messages()
        assert (message["body"], message["framing"], message["chunks"]) == (
            b"x\r\n.\r\n\r\nabc", "bdat", 3)


def test_a_chunk_that_is_refused_spoils_the_transaction():
    with Backend(extensions="PIPELINING,CHUNKING,SIZE=10", faults=["bdat2:reply=452 4.3.1 full@1"]
                 ) as backend, Raw(backend) as raw:
        raw.envelope()
        assert raw.ask("BDAT 3\r\na").startswith("250")
        assert raw.ask("BDAT 3\r\nb").startswith("452")
        assert raw.ask("BDAT 6 LAST\r\nQUIT").startswith("503")
        assert raw.ask("RSET").startswith("250")
        raw.ask("MAIL FROM:<>")
        raw.ask("RCPT TO:<b@example.com>")
        assert raw.ask("BDAT 12\r\n0123456789").startswith("552")
        assert raw.ask("BDAT 0 LAST").startswith("503")
        assert backend.messages() == []


@pytest.mark.parametrize("before, line, code", [
    (["BDAT 1\r\nx"], "DATA", "503"), (["BDAT 1\r\nx"], "RCPT TO:<b@example.com>", "503"),
    (["BDAT 1\r\nx"], "MAIL FROM:<>", "503"), (["BDAT 1 LAST\r\nx"], "BDAT 3 LAST\r\nabc", "503"),
    (["RSET", "MAIL FROM:<>", "RCPT TO:<reject@example.com>"], "BDAT 4 LAST\r\nRSET", "554"),
    (["RSET", "MAIL FROM:<> BODY=BINARYMIME", "RCPT TO:<b@example.com>"], "DATA", "503"),
    (["RSET"], "MAIL FROM:<> BODY=9BIT", "555"), ([], "BDAT", "521"), ([], "BDAT 1 MORE", "521"),
])
def test_bdat_is_strict(before, line, code):
    def answer(raw, line):
        raw.send(line.encode() + (b"" if "BDAT" in line and "\n" in line else b"\r\n"))
        return raw.reply()[:3]

    with Backend(extensions="PIPELINING,CHUNKING,8BITMIME,BINARYMIME") as backend:
        with Raw(backend) as raw:
            raw.envelope()
            for step in before:
                answer(raw, step)
            assert answer(raw, line) == code
            if code == "521":
                assert raw.rest() == b""


@pytest.mark.parametrize("fault, reply", [("body:reply=452 4.3.1 full:5", "452 4.3.1 full"),
                                          ("body:reply-close=421 4.3.2 bye:5", "421 4.3.2 bye")])
def test_faults_within_a_chunk(fault, reply):
    with Backend(extensions="CHUNKING", faults=[fault]) as backend, Raw(backend) as raw:
        raw.envelope()
        raw.send(b"BDAT 3\r\nabcBDAT 10\r\nabc")
        assert raw.reply().startswith("250")
        assert raw.reply() == reply
        if "close" in fault:
            assert raw.rest() == b""
        else:
            raw.send(b"0123456")
            assert raw.ask("BDAT 0 LAST").startswith("503")
        assert backend.messages() == []


@pytest.mark.parametrize("user, code", [("reject.me", "550 5.1.1"), ("defer", "450 4.2.0"),
                                        ("full", "452 4.2.2"), ("die", "250 2.1.5")])
def test_recipients_by_name(backend, user, code):
    with Raw(backend) as raw:
        raw.envelope()
        assert raw.ask(f"RCPT TO:<{user}@example.com>").startswith(code)


def test_recipients_that_close_slow_down_and_kill(backend):
    with Raw(backend) as raw:
        raw.envelope()
        begin = time.monotonic()
        assert raw.ask("RCPT TO:<slow@example.com>").startswith("250")
        assert time.monotonic() - begin >= 1
        assert raw.ask("RCPT TO:<close@example.com>").startswith("421")
        assert raw.rest() == b""
    with Backend(allow_die=True) as mortal, Raw(mortal) as raw:
        raw.envelope()
        raw.send(b"RCPT TO:<die@example.com>\r\n")
        assert raw.rest() == b""
        assert mortal.wait_for_exit() == 70


def test_bytes_too_early_are_violations(backend):
    with Raw(backend) as raw:
        raw.reply()
        raw.send(b"EHLO x\r\nNOOP\r\n")
        raw.reply(), raw.reply()
        assert [v["what"] for v in backend.violations()] == ["EHLO"]
        raw.send(b"MAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
        assert [raw.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
        assert len(backend.violations()) == 1
        raw.send(b".\r\n")
        raw.reply()
        raw.send(b"MAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nbody\r\n.\r\n")
        assert [raw.reply()[:3] for _ in range(4)] == ["250", "250", "354", "250"]
        assert [v["what"] for v in backend.violations()] == ["EHLO", "DATA"]


# ---- The PROXY header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
ADDRESSES = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 4711, 25)


def v2(block, command=0x21, family=0x11):
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def with_crc(wrong=0):
    header = v2(ADDRESSES + b"\x03\x00\x04\0\0\0\0")
    return header[:-4] + struct.pack("!I", crc32c(header) ^ wrong)


GOOD_HEADERS = [
    ("v1", b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 25\r\n", "192.0.2.1:4711", "198.51.100.2:25"),
    ("v1", b"PROXY TCP6 2001:db8::1 ::1 65535 0\r\n", "[2001:db8::1]:65535", "[::1]:0"),
    ("v1", b"PROXY UNKNOWN\r\n", None, None),
    ("auto", b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 25\r\n", "192.0.2.1:4711", "198.51.100.2:25"),
    ("auto", v2(ADDRESSES), "192.0.2.1:4711", "198.51.100.2:25"),
    ("v2", v2(ADDRESSES), "192.0.2.1:4711", "198.51.100.2:25"),
    ("v2", v2(ADDRESSES + b"\x05\x00\x02ab"), "192.0.2.1:4711", "198.51.100.2:25"),
    ("v2", with_crc(), "192.0.2.1:4711", "198.51.100.2:25"),
    ("v2", v2(b"", 0x20, 0), None, None),
]


@pytest.mark.parametrize("mode, header, source, destination", GOOD_HEADERS)
def test_proxy_header(mode, header, source, destination):
    with Backend("--proxy", mode) as backend:
        with Raw(backend) as raw:
            for at in range(len(header)):
                raw.send(header[at:at + 1])
                if at in (0, 5, len(header) - 2):
                    time.sleep(0.005)
            assert raw.reply().startswith("220")
            proxy = backend.connections()[0]["proxy"]
            assert (proxy.get("source"), proxy.get("destination")) == (source, destination)
            assert bytes.fromhex(proxy["hex"]) == header
        with Raw(backend, header + b"EHLO x\r\n") as raw:
            assert raw.reply().startswith("220")
            assert raw.reply().startswith("250")
            assert "bytes before" in backend.violations()[0]["what"]


@pytest.mark.parametrize("mode, header", [
    ("v1", b"EHLO x\r\n"), ("v1", b"PROXY UNKNOWN\n"), ("v1", b"PROXY UNKNOWN\rx"),
    ("v1", v2(ADDRESSES)), ("v1", b"PROXY TCP4 192.0.2.1\r\n"),
    ("v1", b"PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n"), ("v1", b"PROXY tcp4 a b 1 2\r\n"),
    ("v1", b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n"), ("v1", b"PROXY " + b"x" * 120),
    ("v1", b"PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n"), ("v1", b"PROXY TCP6 192.0.2.1 ::1 1 2\r\n"),
    ("v2", b"PROXY UNKNOWN\r\n"), ("v2", v2(ADDRESSES, 0x22)), ("v2", v2(ADDRESSES, 0x11)),
    ("v2", v2(ADDRESSES, 0x21, 0x10)), ("v2", v2(ADDRESSES[:-1])), ("v2", v2(ADDRESSES + b"\x04\0")),
    ("v2", with_crc(1)), ("auto", b"\r\n\r\nxxxxxxxxxxxx"), ("auto", b"QUIT\r\n"),
])
def test_bad_proxy_header_closes(mode, header):
    with Backend("--proxy", mode) as backend, Raw(backend, header) as raw:
        assert raw.rest() == b""
        assert backend.connections()[0]["proxy"]["error"]
        assert backend.wait_for("end")[0]["how"] == "bad-proxy-header"


# ---- Life

def test_restart_on_the_same_port_and_the_record_goes_on(backend):
    with Raw(backend) as raw:
        raw.reply()
        backend.kill()
    port = backend.port
    backend.start()
    assert backend.port == port
    with Raw(backend) as raw:
        raw.reply()
    assert len(backend.connections()) == 2


def test_several_addresses():
    with Backend("--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0") as backend:
        assert len(set(backend.addresses)) == 3
        assert backend.addresses[2].startswith("127.0.0.2:")


def test_end_of_file_and_shutdown_are_told_apart(backend):
    with Raw(backend) as raw:
        raw.envelope().data().send(b"half")
    assert backend.wait_for("end")[0]["how"] == "client-eof"
    with Raw(backend) as raw:
        raw.envelope()
        backend.stop()
        assert raw.rest() == b""
    assert [(end["how"], end["phase"]) for end in backend.endings()] == [
        ("client-eof", "data"), ("shutdown", "command")]
    assert backend.messages() == []


def test_many_connections_at_once(backend):
    clients = [Raw(backend) for _ in range(400)]
    for client in clients:
        assert client.reply().startswith("220")
    threads = [threading.Thread(target=client.ask, args=("QUIT",)) for client in clients[:50]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.socket.close()
    backend.wait_for("end", 400)
    assert len(backend.connections()) == 400



def test_all_connections_are_closed_on_demand():
    with Backend() as backend, Raw(backend) as one, Raw(backend) as other:
        one.reply()
        other.reply()
        backend.drop_connections()
        assert [event["how"] for event in backend.wait_for("end", 2)] == ["dropped"] * 2
        with Raw(backend) as another:
            assert another.reply().startswith("220")
