"""LMTP (RFC 2033), and unix sockets, by which it is mostly spoken."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e" / "support"))
from backend import Backend  # noqa: E402
from raw import Raw  # noqa: E402

EXTENSIONS = "PIPELINING,ENHANCEDSTATUSCODES,CHUNKING"


def deliver(raw, recipients, framing="data"):
    """An envelope and a body; the final replies are not read."""
    raw.reply()
    raw.ask("LHLO client.example")
    raw.ask("MAIL FROM:<a@example.net>")
    for user in recipients:
        assert raw.ask(f"RCPT TO:<{user}@example.com>").startswith("250")
    if framing == "data":
        raw.data().send(b"x\r\n.\r\n")
    else:
        raw.send(b"BDAT 2\r\nx\rBDAT 1 LAST\r\n\n")
        assert raw.reply().startswith("250")


@pytest.mark.parametrize("lmtp, codes", [(True, ["250", "500", "500"]),
                                         (False, ["500", "250", "250"])])
def test_hellos(lmtp, codes):
    with Backend(lmtp=lmtp) as backend, Raw(backend) as raw:
        assert raw.reply().endswith(" LMTP" if lmtp else " ESMTP")
        assert [raw.ask(verb + " x")[:3] for verb in ("LHLO", "EHLO", "HELO")] == codes


@pytest.mark.parametrize("framing", ["data", "bdat"])
def test_a_final_reply_for_each_recipient(framing):
    with Backend(lmtp=True, extensions=EXTENSIONS) as backend, Raw(backend) as raw:
        deliver(raw, ["b", "dotreject", "c", "dotdefer"], framing)
        assert [raw.reply()[:9] for _ in range(4)] == [
            "250 2.0.0", "550 5.7.1", "250 2.0.0", "451 4.2.0"]
        assert raw.ask("NOOP").startswith("250")
        message, = backend.messages()
        assert message["rcpt_to"] == ["b@example.com", "c@example.com"]
        assert [rcpt["delivered"] for rcpt in message["rcpts"]] == [True, False, True, False]
        assert (message["body"], message["framing"]) == (b"x\r\n", framing)
        assert backend.stop()["messages"] == 1


def test_nobody_wants_it():
    with Backend(lmtp=True) as backend, Raw(backend) as raw:
        deliver(raw, ["dotreject", "dotdefer"])
        assert [raw.reply()[:3] for _ in range(2)] == ["550", "451"]
        raw.ask("MAIL FROM:<>")
        raw.ask("RCPT TO:<reject@example.com>")
        assert raw.ask("DATA").startswith("503")
        assert backend.messages() == []


def test_without_a_record_it_is_the_same():
    with Backend("--record", "/dev/null", lmtp=True) as backend, Raw(backend) as raw:
        deliver(raw, ["b", "dotreject"])
        assert [raw.reply()[:3] for _ in range(2)] == ["250", "550"]


@pytest.mark.parametrize("fault, replies, committed", [
    ("dot2:reply=452 4.2.2 full", ["250", "452", "250"], ["b", "d"]),
    ("dot2:close-before-reply", ["250"], ["b", "d"]),
    ("dot2:close", ["250", "250"], ["b", "c", "d"]),
    ("dot:close-before-reply", [], []),
    ("after-dot:close-before-reply", [], ["b", "c", "d"]),
    ("after-dot3:reply-close=421 4.3.2 bye", ["250", "250", "421"], ["b", "c", "d"]),
    ("after-dot2:die-before-reply", ["250"], ["b", "c", "d"]),
])
def test_faults_among_the_final_replies(fault, replies, committed):
    with Backend(lmtp=True, faults=[fault]) as backend, Raw(backend) as raw:
        deliver(raw, ["b", "c", "d"])
        if "reply=" in fault:
            assert [raw.reply()[:3] for _ in replies] == replies
        else:
            assert [line[:3] for line in raw.rest().decode().splitlines()] == replies
        if "die" in fault:
            assert backend.wait_for_exit() == 70
        addresses = [user for m in backend.messages() for user in m["rcpt_to"]]
        assert addresses == [f"{user}@example.com" for user in committed]


@pytest.mark.parametrize("user, code, count", [("dotreject", "550", 0), ("dotclose", "421", 0),
                                               ("b", "250", 1)])
def test_in_smtp_one_of_them_refuses_for_all(user, code, count):
    with Backend() as backend, Raw(backend) as raw:
        raw.envelope()
        raw.ask(f"RCPT TO:<{user}@example.com>")
        assert raw.data().ask("x\r\n.").startswith(code)
        assert len(backend.messages()) == count


def test_unix_socket(tmp_path):
    path = tmp_path / "lmtp"
    with Backend(lmtp=True, path=path) as backend:
        assert backend.address == f"unix:{path}"
        with Raw(backend) as raw:
            deliver(raw, ["b"])
            assert raw.reply().startswith("250")
        connection, = backend.connections()
        assert (connection["peer"], connection["local"]) == ("unix:", f"unix:{path}")
        backend.kill()
        assert path.exists()
        backend.start()  # in place of what was left
        with Raw(backend) as raw:
            assert raw.reply().startswith("220")
        backend.stop()
        assert not path.exists()
        path.write_text("a file")
        with pytest.raises(RuntimeError):
            backend.start()
        assert path.read_text() == "a file"
