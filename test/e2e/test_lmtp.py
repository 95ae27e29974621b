"""Backends that speak LMTP (RFC 2033): a final answer for each recipient, made one for the client."""

import shutil
from pathlib import Path

import pytest
from backend import Backend
from client import Client
from dovecot_lmtp import DovecotLmtp
from gatepost import Gatepost

# For a server that stalls.
HASTY = {"backend_command": "1s", "backend_final": "1s", "backend_data": "1s"}
PLAIN = "PIPELINING,ENHANCEDSTATUSCODES,8BITMIME"
CHUNKING = PLAIN + ",CHUNKING"
BODY = b"Subject: lmtp\r\n\r\n" + b"..dots\r\n" + b"0123456789" * 20 + b"\r\n...\r\n"


class Edge(Gatepost):
    """gatepost with a backend of LMTP."""

    def __init__(self, *servers, timeouts=None, **backend):
        super().__init__({
            "timeouts": timeouts or {}, "limits": {"connections_per_client": 0},
            "backends": [{"name": "store", "protocol": "lmtp", "servers": list(servers),
                          **backend}]})


def deliver(gatepost, recipients, body=BODY):
    """The final reply."""
    with Client(gatepost.address) as client:
        client.hello()
        client.command("MAIL FROM:<a@example.net>", 250)
        for user in recipients:
            client.command(f"RCPT TO:<{user}@example.com>", 250)
        client.command("DATA", 354)
        client.send(body + b".\r\n")
        reply = client.reply()
        client.quit()
    return reply


def at(users):
    return ", ".join(f"{user}@example.com" for user in users)


@pytest.fixture(name="lmtp", params=[PLAIN, CHUNKING, "ENHANCEDSTATUSCODES"],
                ids=["data", "bdat", "slowly"])
def _lmtp(request):
    with Backend(lmtp=True, extensions=request.param) as backend:
        yield backend


def test_all_accept(lmtp):
    with Edge(lmtp.address) as gatepost:
        for users in (["b"], ["b", "c", "d"], ["b"] * 40):
            assert deliver(gatepost, users).code == 250
        assert [m["rcpt_to"] for m in lmtp.messages()] == [
            ["b@example.com"], [f"{u}@example.com" for u in "bcd"], ["b@example.com"] * 40]
        assert all(m["body"].endswith(BODY.replace(b"\n..", b"\n.")) for m in lmtp.messages())
        assert gatepost.log_records("partly_delivered") == []
    assert {line.split()[0] for line in lmtp.commands()} >= {"LHLO", "MAIL", "QUIT"}
    assert lmtp.violations() == []


@pytest.mark.parametrize("users, code, enhanced, outcome", [
    (["dotreject"], 550, "5.7.1", "refused"),
    (["dotreject", "dotreject2"], 550, "5.7.1", "refused"),
    (["dotreject", "dotdefer"], 451, "4.2.0", "deferred"),
    (["dotdefer", "dotreject"], 451, "4.2.0", "deferred"),
])
def test_nobody_has_it(lmtp, users, code, enhanced, outcome):
    with Edge(lmtp.address) as gatepost:
        reply = deliver(gatepost, users)
        assert (reply.code, reply.enhanced) == (code, enhanced)
        record = gatepost.wait_log("transaction")
        assert (record["outcome"], record["by"]) == (outcome, "backend")
        assert gatepost.log_records("partly_delivered") == []
        assert deliver(gatepost, ["b"]).code == 250
    assert len(lmtp.messages()) == 1


def test_some_have_it(lmtp):
    with Edge(lmtp.address) as gatepost:
        reply = deliver(gatepost, ["b", "dotreject", "c", "dotdefer"])
        assert (reply.code, reply.enhanced) == (451, "4.3.0")
        record = gatepost.wait_log("partly_delivered")
        assert record["delivered"] == at("bc")
        assert [part.partition(" ")[0] for part in record["refused"].split(", ")] == [
            "dotreject@example.com", "dotdefer@example.com"]
        assert "(550 " in record["refused"] and "(451 " in record["refused"]
        assert record["unknown"] == ""
        transaction = gatepost.wait_log("transaction")
        assert (transaction["outcome"], transaction["by"]) == ("deferred", "backend")
        assert transaction["uuid"] == record["uuid"]
    assert [m["rcpt_to"] for m in lmtp.messages()] == [["b@example.com", "c@example.com"]]


def test_refused_at_rcpt_is_not_counted(lmtp):
    """The final replies are those of the recipients that were accepted."""
    with Edge(lmtp.address) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net>", 250)
            for user, code in (("reject", 550), ("b", 250), ("defer", 450), ("dotdefer", 250),
                               ("c", 250), ("reject2", 550)):
                assert client.command(f"RCPT TO:<{user}@example.com>").code == code
            assert client.data(BODY).code == 451
            client.quit()
        record = gatepost.wait_log("partly_delivered")
        assert record["delivered"] == at("bc")
        assert record["refused"].startswith("dotdefer@example.com (451 ")


@pytest.mark.parametrize("fault, delivered, unknown", [
    ("after-dot:close-before-reply", "", "bcd"),
    ("after-dot2:close-before-reply", "b", "cd"),
    ("after-dot3:reset", "bc", "d"),
    ("after-dot2:stall", "b", "cd"),
    ("after-dot2:garbage", "b", "cd"),
    ("dot2:reply-close=421 4.3.2 bye", "b", "d"),
    ("dot2:reply=421 4.3.2 bye", "b", "d"),
])
def test_lost_among_the_final_replies(lmtp, fault, delivered, unknown):
    lmtp.set_faults([fault + "@1"])
    with Edge(lmtp.address, timeouts=HASTY if "stall" in fault else None) as gatepost:
        reply = deliver(gatepost, "bcd")
        assert reply.code == 451
        if "=421" in fault and gatepost.wait_log("transaction")["outcome"] == "deferred":
            # It answered for all before it went.
            assert gatepost.wait_log("partly_delivered")["delivered"] == at("bd")
        else:
            assert reply.enhanced == "4.4.2"
            assert gatepost.wait_log("transaction")["outcome"] == "unknown"
            gatepost.wait_log("outcome_unknown")
            if delivered:
                record = gatepost.wait_log("partly_delivered")
                assert (record["delivered"], record["unknown"]) == (at(delivered), at(unknown))
            else:
                assert gatepost.log_records("partly_delivered") == []
        assert deliver(gatepost, "bcd").code == 250
        assert len(lmtp.messages()) <= 2  # nothing was said twice


@pytest.mark.parametrize("reply", ["299 2.0.0 what", "354 go on"])
def test_a_senseless_final_reply(reply):
    with Backend(lmtp=True, faults=[f"after-dot2:raw={reply}\\r\\n"]) as lmtp, \
            Edge(lmtp.address) as gatepost:
        assert deliver(gatepost, "bcd").enhanced == "4.4.2"
        record = gatepost.wait_log("partly_delivered")
        assert (record["delivered"], record["unknown"]) == (at("b"), at("cd"))


def test_a_reply_that_blames_us_bounces_nobody():
    with Backend(lmtp=True, faults=["dot2:reply=530 5.7.0 authenticate"]) as lmtp, \
            Edge(lmtp.address) as gatepost:
        reply = deliver(gatepost, ["dotreject", "b"])
        assert (reply.code, reply.enhanced) == (451, "4.3.5")
        gatepost.wait_log("backend_blames_us")


def test_too_many_final_replies():
    """One more than there are recipients is not taken for the answer to something later."""
    with Backend(lmtp=True, faults=["dot2:merged@1"]) as lmtp, Edge(lmtp.address) as gatepost:
        assert deliver(gatepost, "bc").code == 250
        assert deliver(gatepost, "bc").code == 250
        assert len(lmtp.messages()) == 2


def test_large_message_in_chunks():
    """One chunk at a time, each with its answer."""
    body = b"\r\n" + (b"x" * 78 + b"\r\n") * 20000
    with Backend(lmtp=True, extensions=CHUNKING) as lmtp, Edge(lmtp.address) as gatepost:
        assert deliver(gatepost, "bc", body).code == 250
        message, = lmtp.messages()
        assert message["framing"] == "bdat" and message["body"].endswith(body)
        assert len([line for line in lmtp.commands() if line.startswith("BDAT")]) > 10
        assert lmtp.violations() == []


@pytest.mark.parametrize("fault", ["bdat2:stall", "bdat2:reply=452 4.3.1 full",
                                   "bdat2:close-before-reply"])
def test_a_chunk_is_not_taken(fault):
    body = b"\r\n" + (b"x" * 78 + b"\r\n") * 20000
    with Backend(lmtp=True, extensions=CHUNKING, faults=[fault + "@1"]) as lmtp, \
            Edge(lmtp.address, timeouts=HASTY if "stall" in fault else None) as gatepost:
        assert deliver(gatepost, "bc", body).code in (451, 452)
        assert deliver(gatepost, "bc").code == 250
        assert len(lmtp.messages()) == 1


def test_another_server_before_the_end():
    with Backend(lmtp=True, faults=["data:reply-close=421 4.3.2 bye"]) as first, Backend(lmtp=True) as second, \
            Edge(first.address, second.address) as gatepost:
        assert deliver(gatepost, "bcd").code == 250
        assert first.messages() == []
        assert [m["rcpt_to"] for m in second.messages()] == [[f"{u}@example.com" for u in "bcd"]]


def test_connection_is_used_again(lmtp):
    with Edge(lmtp.address, reuse={"mode": "safe"}) as gatepost:
        for users, code in (("bc", 250), (["b", "dotdefer", "c"], 451), ("b", 250), ("cd", 250)):
            assert deliver(gatepost, users).code == code
        used = {e["id"] for e in lmtp.events("command") if e["line"].startswith("MAIL")}
        assert len(used) == 1
        lmtp.stop()  # else what is kept is in the way of the end


def test_unix_socket(tmp_path):
    path = tmp_path / "lmtp"
    with Backend(lmtp=True, path=path) as lmtp, Edge(f"unix:{path}") as gatepost:
        assert deliver(gatepost, "bc").code == 250
        assert deliver(gatepost, ["b", "dotreject"]).code == 451
        assert len(lmtp.messages()) == 2


def test_one_recipient(lmtp):
    with Edge(lmtp.address, one_recipient=True) as gatepost:
        with Client(gatepost.address) as client:
            assert any("RCPTMAX=1 " in line for line in client.hello().lines)
            for first, second in (("b", "dotreject"), ("dotreject", "b")):
                client.command("MAIL FROM:<a@example.net>", 250)
                client.command("RCPT TO:<reject@example.com>", 550)
                client.command(f"RCPT TO:<{first}@example.com>", 250)
                reply = client.command(f"RCPT TO:<{second}@example.com>", 452)
                assert reply.enhanced == "4.5.3"
                assert client.data(BODY).code == (250 if first == "b" else 550)
            client.quit()
        assert gatepost.log_records("partly_delivered") == []
    assert [m["rcpt_to"] for m in lmtp.messages()] == [["b@example.com"]]


def test_smtp_and_lmtp_are_not_mistaken():
    """A server that does not know LHLO is not used, and never gets HELO."""
    with Backend() as smtp, Edge(smtp.address) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net>", 250)
            client.command("RCPT TO:<b@example.com>", 451)
            client.quit()
        assert {line.split()[0] for line in smtp.commands()} == {"LHLO"}


# ---- Dovecot

LARGE = b"Subject: large\r\n\r\n" + (b"0123456789" * 7 + b"\r\n") * 60  # more than 4 KB


@pytest.fixture(name="dovecot", scope="module")
def _dovecot():
    if not shutil.which("dovecot") or not Path("/usr/lib/dovecot/lmtp").exists():
        pytest.fail("dovecot-lmtpd is not installed")
    with DovecotLmtp({"alice": None, "carol": None, "bob": 2, "dave": 2}) as dovecot:
        yield dovecot


@pytest.fixture(name="store", params=["tcp", "unix"])
def _store(request, dovecot):
    address = f"127.0.0.1:{dovecot.port}" if request.param == "tcp" else f"unix:{dovecot.socket}"
    with Edge(address, reuse={"mode": "never"}) as gatepost:
        yield gatepost


def boxes(dovecot):
    return {user: len(dovecot.messages(user)) for user in ("alice", "bob", "carol", "dave")}


def grown(dovecot, before):
    return {user: n - before[user] for user, n in boxes(dovecot).items() if n > before[user]}


def test_dovecot_delivers_to_all(dovecot, store):
    before = boxes(dovecot)
    reply = deliver(store, ["alice", "carol"])
    assert (reply.code, reply.enhanced) == (250, "2.0.0")
    assert grown(dovecot, before) == {"alice": 1, "carol": 1}
    assert "Subject: lmtp" in dovecot.messages("alice")[-1]
    assert "Return-Path: <a@example.net>" in dovecot.messages("alice")[-1]


def test_dovecot_does_not_know_them(dovecot, store):
    before = boxes(dovecot)
    with Client(store.address) as client:
        client.hello()
        client.command("MAIL FROM:<a@example.net>", 250)
        assert client.command("RCPT TO:<nobody@example.com>", 550).enhanced == "5.1.1"
        client.command("RCPT TO:<alice@example.com>", 250)
        client.command("RCPT TO:<nobody2@example.com>", 550)
        assert client.data(BODY).code == 250
        client.quit()
    assert grown(dovecot, before) == {"alice": 1}


def test_dovecot_mailbox_is_full(dovecot, store):
    before = boxes(dovecot)
    reply = deliver(store, ["bob", "dave"], LARGE)
    assert (reply.code, reply.enhanced) == (552, "5.2.2")
    assert store.log_records("partly_delivered") == []
    reply = deliver(store, ["alice", "bob", "carol", "dave"], LARGE)
    assert (reply.code, reply.enhanced) == (451, "4.3.0")
    record = store.wait_log("partly_delivered")
    assert record["delivered"] == "alice@example.com, carol@example.com"
    assert record["refused"].startswith("bob@example.com (552 ")
    assert "dave@example.com (552 " in record["refused"]
    assert grown(dovecot, before) == {"alice": 1, "carol": 1}


def test_dovecot_is_told_the_client(dovecot):
    with Edge(f"127.0.0.1:{dovecot.port}", identity="xclient") as gatepost:
        assert deliver(gatepost, ["alice"]).code == 250
        uuid = gatepost.wait_log("transaction")["uuid"]
    first = dovecot.messages("alice")[-1].partition("Received: ")[2].partition("Received: ")[0]
    assert first.startswith("from client.example.net ([127.0.0.1])")
    assert uuid.rpartition(".")[0] in first  # XCLIENT SESSION: the same word in both logs


def test_dovecot_has_no_auth(dovecot, tmp_path):
    path = tmp_path / "password"
    path.write_text("secret")
    auth = {"user": "gatepost", "password_file": str(path), "allow_plaintext": True}
    with Edge(f"127.0.0.1:{dovecot.port}", auth=auth) as gatepost:
        gatepost.wait_log("backend_blames_us", step="AUTH")
        with Client(gatepost.address) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net>", 250)
            client.command("RCPT TO:<alice@example.com>", 451)
            client.quit()


def test_dovecot_one_recipient(dovecot):
    before = boxes(dovecot)
    with Edge(f"unix:{dovecot.socket}", one_recipient=True) as gatepost:
        assert [deliver(gatepost, [user], LARGE).code for user in ("alice", "bob")] == [250, 552]
    assert grown(dovecot, before) == {"alice": 1}


def test_dovecot_mailbox_is_full_for_now():
    with DovecotLmtp({"alice": None, "bob": 2}, tempfail=True) as dovecot, \
            Edge(f"127.0.0.1:{dovecot.port}") as gatepost:
        reply = deliver(gatepost, ["bob"], LARGE)
        assert (reply.code, reply.enhanced) == (452, "4.2.2")
        assert deliver(gatepost, ["alice", "bob"], LARGE).enhanced == "4.3.0"
        assert len(dovecot.messages("alice")) == 1


def test_dovecot_large_message(dovecot, store):
    body = b"Subject: large\r\n\r\n" + (b"0123456789" * 7 + b"\r\n") * 20000
    assert deliver(store, ["alice", "carol"], body).code == 250
    assert dovecot.messages("carol")[-1].count("0123456789" * 7) == 20000
