"""Every limit and every timeout of the configuration, at its edge, and what floods cost."""

import concurrent.futures
import socket
import threading
import time

import pytest
from backend import Backend
from client import Client, proxy_v1
from gatepost import FLAT, Gatepost
from patience import tight, wait_until
from ports import keep_port

KB = 1024
# Seconds, for a command and for a session.
WAIT, SESSION = 1, 4


@pytest.fixture(scope="module")
def backend():
    with Backend() as started:
        yield started


def start(backend, limits=None, timeouts=None, **options):
    return Gatepost({"limits": limits or {}, "timeouts": timeouts or {}}, environment=FLAT,
                    backend=backend, **options)


def flood(client, data):
    """Sends from a thread until all is sent or the other end is closed."""
    def send():
        try:
            client.send(data)
        except OSError:
            pass
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def ending(gatepost, count=1):
    """The ending of the count-th client session."""
    return gatepost.wait_log("connection", count=count)["ending"]


# ---- The message

def lines(size, begin=b"x"):
    """Lines of exactly so many bytes together."""
    full, last = divmod(size - 200, 100)
    text = begin.ljust(98, b"x") + b"\r\n"
    text = text * (full + 1) + begin.ljust(last + 98, b"x") + b"\r\n"
    assert len(text) == size
    return text


def exact(size):
    """A message of exactly so many bytes."""
    head = b"Subject: size\r\n\r\n"
    return head + lines(size - len(head))


def test_message_size(backend):
    limit = 64 * KB
    with start(backend, {"message_size": f"{64}KB"}) as gatepost, \
            Client(gatepost.address) as client:
        assert f"SIZE {limit}" in client.hello().lines
        # Told before: refused before.
        assert client.command(f"MAIL FROM:<a@example.net> SIZE={limit + 1}", 552).enhanced == "5.3.4"
        client.command("MAIL FROM:<a@example.net> SIZE=99999999999999999999", 501, 552)
        client.command("MAIL FROM:<a@example.net> SIZE=-1", 501)
        client.command("MAIL FROM:<a@example.net> SIZE=0", 250)
        client.command("RSET", 250)
        client.command(f"MAIL FROM:<a@example.net> SIZE={limit}", 250)
        client.command("RSET", 250)
        # Counted: the last byte decides, whatever was told.
        for size, code in ((limit - 1, 250), (limit, 250), (limit + 1, 552), (limit * 3, 552)):
            client.command("MAIL FROM:<a@example.net> SIZE=100", 250)
            client.command("RCPT TO:<b@example.com>", 250)
            assert client.data(exact(size)).code == code, size
        # Dots that are taken away do not count.
        client.envelope()
        client.command("DATA", 354)
        client.send((b".." + b"\r\n") * (limit // 3) + b".\r\n")
        client.expect(250)
        client.quit()


def test_message_size_of_the_backend():
    with Backend(extensions="PIPELINING,SIZE=70000") as backend, start(backend) as gatepost, \
            Client(gatepost.address) as client:
        assert "SIZE 70000" in client.hello().lines
        client.command("MAIL FROM:<a@example.net> SIZE=70001", 552)
        client.command("MAIL FROM:<a@example.net> SIZE=70000", 250)
        client.quit()


def test_message_that_never_ends(backend):
    """It is swallowed for a while, to be answered at its end; then there is an end of it."""
    with start(backend, {"message_size": "64KB"}) as gatepost, \
            Client(gatepost.address) as client:
        client.hello()
        client.envelope()
        client.command("DATA", 354)
        sender = flood(client, (b"x" * 98 + b"\r\n") * 1500000)
        assert [reply.code for reply in client.replies()] == [552]
        sender.join(10)
        client.close()
        assert ending(gatepost) == "message_too_big"
        assert gatepost.wait_log("transaction")["outcome"] == "refused"


@pytest.mark.parametrize("setting,code", [("message_line", 554), ("message_header", 552)])
def test_line_and_header(backend, setting, code):
    with start(backend, {setting: 2000}) as gatepost, Client(gatepost.address) as client:
        client.hello()
        for extra in (-1, 0, 1, 100000):
            text = lines(2000 + extra, b"X: ") if setting == "message_header" else \
                b"\r\n" + b"y" * (2000 + extra) + b"\r\n"
            client.envelope()
            reply = client.data(text + b"\r\ntext\r\n")
            assert reply.code == (250 if extra <= 0 else code), (extra, reply)
        client.quit()


def test_received_lines(backend):
    with start(backend, {"received": 5}) as gatepost, Client(gatepost.address) as client:
        client.hello()
        for count, code in ((4, 250), (5, 250), (6, 554), (200, 554)):
            client.envelope()
            reply = client.data(b"Received: from x by y; now\r\n" * count + b"Subject: x\r\n\r\n"
                                + b"Received: not in the header\r\n" * 50)
            assert reply.code == code, count
            if code == 554:
                assert reply.enhanced == "5.4.6"
        client.quit()


def test_loop_ends():
    """The backend is ourselves: found out before the first hop, however many there could be."""
    own = f"127.0.0.1:{keep_port()}"
    config = {"limits": {"received": 8}, "timeouts": {"backend_greeting": "3s"}}
    with Gatepost(config, backend=own, listener={"bind": [own]}) as first:
        with Client(first.address) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net>", 250)
            reply = client.command("RCPT TO:<b@example.com>")
            assert (reply.code, reply.enhanced) == (554, "5.4.6")
            client.quit()
        (record,) = first.log_records("transaction")
        assert (record["outcome"], record["by"]) == ("refused", "edge")
        assert any("our own" in r["detail"] for r in first.log_records("config_notice"))
        first.wait_idle()


# ---- The envelope

def test_recipients(backend):
    with start(backend, {"recipients": 5, "recipients_overshoot": 3}) as gatepost, \
            Client(gatepost.address) as client:
        assert "RCPTMAX=5" in client.hello().lines[-1]
        client.envelope(recipients=[f"r{n}@example.com" for n in range(5)])
        for _ in range(3):
            assert client.command("RCPT TO:<more@example.com>", 452).enhanced == "4.5.3"
        assert client.data().code == 250
        # Refused ones take no place.
        client.command("MAIL FROM:<a@example.net>", 250)
        for n in range(5):
            client.command("RCPT TO:<reject@example.com>", 550)
        client.command("RCPT TO:<r@example.com>", 452, 250)
        client.command("RSET", 250)
        client.envelope(recipients=[f"r{n}@example.com" for n in range(5)])
        for _ in range(3):
            client.command("RCPT TO:<more@example.com>", 452)
        client.command("RCPT TO:<more@example.com>", 421)
        assert client.is_ended()
        client.close()
        assert ending(gatepost) == "too_many_recipients"
    assert len(backend.messages()[-1]["rcpt_to"]) == 5


def test_flood_of_recipients(backend):
    """Pipelined, without reading a reply: hung up at the overshoot, whatever is still coming."""
    with start(backend, {"recipients": 100, "recipients_overshoot": 50}) as gatepost, \
            Client(gatepost.address) as client:
        client.hello()
        client.command("MAIL FROM:<a@example.net>", 250)
        before = gatepost.rss_kb()
        flood(client, b"RCPT TO:<b@example.com>\r\n" * 100000)
        codes = [reply.code for reply in client.replies()]
        assert codes == [250] * 100 + [452] * 50 + [421]
        assert gatepost.rss_kb() - before < 2048
        client.close()
        assert ending(gatepost) == "too_many_recipients"


def test_transactions(backend):
    with start(backend, {"transactions": 3}) as gatepost, Client(gatepost.address) as client:
        assert "MAILMAX=3" in client.hello().lines[-1]
        for _ in range(2):
            assert client.message().code == 250
        client.command("MAIL FROM:<a@example.net>", 250)
        client.command("RSET", 250)
        client.command("MAIL FROM:<a@example.net>", 421)
        assert client.is_ended()
        client.close()
        assert ending(gatepost) == "too_many_transactions"


# ---- Commands

@pytest.mark.parametrize("limits,line,codes", [
    ({"errors": 4}, "MAIL FROM:<a@b", [501] * 4),
    ({"errors": 4}, "DATA", [503] * 4),
    ({"errors": 4}, "NOOP\x01", [500] * 4),
    ({"errors": 4}, "", [500] * 4),
    ({"unknown_commands": 3}, "XYZZY", [500] * 3),
    ({"unknown_commands": 3}, "EXPN list", [502] * 3),
    ({"idle_commands": 5}, "NOOP", [250] * 4),
    ({"idle_commands": 5}, "RSET", [250] * 4),
    ({"idle_commands": 5}, "EHLO again.example.net", [250] * 4),
    ({"idle_commands": 5}, "VRFY x", [252] * 4),
    ({"idle_commands": 5}, "HELP", [214] * 4),
])
def test_too_many_of_it(backend, limits, line, codes):
    with start(backend, limits) as gatepost, Client(gatepost.address) as client:
        client.hello()
        for code in codes:
            client.command(line, code)
        if "idle_commands" in limits:
            client.send(line + "\r\n")
        reply = client.expect(421)
        assert reply.enhanced == "4.7.0"
        assert client.is_ended()
        client.close()
        assert ending(gatepost) == "too_many_errors"


def test_message_begins_the_count_of_idle_commands_anew(backend):
    with start(backend, {"idle_commands": 5}) as gatepost, Client(gatepost.address) as client:
        client.hello()
        for _ in range(3):
            for _ in range(4):
                client.command("NOOP", 250)
            assert client.message().code == 250
        client.quit()


@pytest.mark.parametrize("limit", [512, 2048, 12288])
def test_command_line(backend, limit):
    with start(backend, {"command_line": limit}) as gatepost, Client(gatepost.address) as client:
        client.hello()
        for length, code in ((limit - 1, 250), (limit, 250), (limit + 1, 500), (limit * 3, 500)):
            line = b"NOOP ".ljust(length - 2, b"x")
            assert len(line) == length - 2
            reply = client.command(line, code)
            assert code == 250 or reply.enhanced == "5.5.2"
            # In pieces it is the same.
            client.send_pieces(line + b"\r\n", 100, 0.0002)
            client.expect(code)
        client.quit()


def test_command_line_that_never_ends(backend):
    with start(backend) as gatepost, Client(gatepost.address) as client:
        client.hello()
        before = gatepost.rss_kb()
        flood(client, b"x" * 100_000_000)
        assert [reply.code for reply in client.replies()] == [500]
        assert gatepost.rss_kb() - before < 2048
        client.close()
        assert ending(gatepost) == "line_too_long"


# ---- Connections

def test_connections(backend):
    with start(backend, {"connections": 3, "connections_per_client": 0}) as gatepost:
        clients = [Client(gatepost.address) for _ in range(3)]
        for client in clients:
            client.hello()
        with Client(gatepost.address) as late:
            assert late.expect(421).enhanced == "4.3.2"
            assert late.is_ended()
        assert clients[0].message().code == 250
        clients[0].quit()
        clients[0].close()
        gatepost.wait_log("connection", ending="quit")
        with Client(gatepost.address) as next_one:
            next_one.hello()
            next_one.quit()
        for client in clients:
            client.close()
        assert gatepost.wait_log("connection", ending="busy")


def test_health_checks_are_in_no_limit(backend):
    """Neither do they take a client's place, nor do they fail when all are taken."""
    limits = {"connections": 2, "connections_per_client": 0}
    with start(backend, limits, proxy="required") as gatepost:
        checks = [Client(gatepost.address, b"PROXY UNKNOWN\r\n") for _ in range(2)]
        for check in checks:
            check.hello()
        clients = [Client(gatepost.address, proxy_v1((f"198.51.100.{n}", 1))) for n in (1, 2)]
        for client in clients:
            client.hello()
            assert client.message().code == 250
        with Client(gatepost.address, b"PROXY UNKNOWN\r\n") as check:
            check.hello()
            check.quit()
        with Client(gatepost.address, proxy_v1(("198.51.100.3", 1))) as late:
            late.expect(421)
        for client in checks + clients:
            client.quit()
            client.close()


def test_connections_per_client(backend):
    """By the address in the header, not by the balancer's."""
    limits = {"connections_per_client": 2}
    with start(backend, limits, proxy="required") as gatepost:
        def connect(address):
            return Client(gatepost.address, proxy_v1((address, 1)))
        mine = [connect("198.51.100.1") for _ in range(2)]
        for client in mine:
            client.hello()
        with connect("198.51.100.1") as third:
            reply = third.expect(421)
            assert reply.enhanced == "4.7.0" and "198.51.100.1" in reply.text
            assert third.is_ended()
        others = [connect(f"198.51.100.{n}") for n in range(2, 12)]
        for client in others:
            client.hello()
            client.quit()
        mine[0].quit()
        mine[0].close()
        gatepost.wait_log("connection", ending="quit", count=11)
        with connect("198.51.100.1") as again:
            again.hello()
            again.quit()
        mine[1].close()
        refused = gatepost.wait_log("connection", ending="policy")
        assert refused["client"] == "198.51.100.1"


def test_flood_of_connections(backend):
    """One client opens many; the others are served meanwhile, and nothing stays."""
    with start(backend, {"connections_per_client": 5}, proxy="required") as gatepost:
        gatepost.wait_idle()
        baseline = gatepost.fds()

        def knock(_):
            with Client(gatepost.address, proxy_v1(("198.51.100.66", 1))) as client:
                return client.reply().code
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            answers = pool.map(knock, range(600))
            for number in range(1, 11):
                with Client(gatepost.address, proxy_v1((f"203.0.113.{number}", 1))) as honest:
                    honest.hello()
                    assert honest.message().code == 250
                    honest.quit()
            assert set(answers) <= {220, 421}
        gatepost.wait_idle()
        gatepost.wait_fds(baseline)


# ---- Timeouts

def closes_in_time(client, code=421):
    """The connection ends with this reply when its time is over, and not when it has said all."""
    begun = time.monotonic()
    replies = client.replies()
    took = time.monotonic() - begun
    assert [reply.code for reply in replies] == [code], replies
    assert WAIT - 0.15 < took < WAIT * 2, took


def drip(client, data, seconds):
    """A byte every now and then until the other end is closed."""
    def send():
        try:
            for byte in data:
                client.send(bytes([byte]))
                time.sleep(seconds)
        except OSError:
            pass
    threading.Thread(target=send, daemon=True).start()


@pytest.fixture(scope="module")
def hasty(backend):
    timeouts = {"command": f"{WAIT}s", "data": f"{WAIT}s", "session": f"{SESSION}s", "linger": "200ms"}
    with start(backend, {"connections_per_client": 0, "idle_commands": 1000}, timeouts) as gatepost:
        yield gatepost


class Hasty(Client):
    """A client that finds its own records: ports come again after a while."""

    def __init__(self, gatepost):
        self.gatepost = gatepost
        self.since = len(gatepost.log_records())
        super().__init__(gatepost.address)
        self.own_port = self.port

    def record(self, event):
        return self.gatepost.wait_log(event, since=self.since, client_port=self.own_port)


@pytest.mark.parametrize("before", [[], ["EHLO c.example.net"], ["EHLO c.example.net",
                                    "MAIL FROM:<a@example.net>"], ["EHLO c.example.net",
                                    "MAIL FROM:<a@example.net>", "RCPT TO:<b@example.com>"]])
@pytest.mark.parametrize("way", ["silent", "dripping"])
@tight
def test_command_timeout(hasty, before, way):
    """For a whole command: single bytes do not begin it anew."""
    with Hasty(hasty) as client:
        client.expect(220)
        for line in before:
            client.command(line, 250)
        if way == "dripping":
            drip(client, b"NOOP xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 0.1)
        closes_in_time(client)
    assert client.record("connection")["ending"] == "client_timeout"
    if len(before) > 1:
        record = client.record("transaction")
        assert (record["outcome"], record["by"]) == ("deferred", "edge")


@tight
def test_commands_in_time_go_on(hasty):
    with Hasty(hasty) as client:
        client.hello()
        for _ in range(5):
            time.sleep(WAIT / 2)
            client.command("NOOP", 250)
        client.quit()


@tight
def test_data_timeout(hasty, backend):
    before = len(backend.messages())
    with Hasty(hasty) as client:
        client.hello()
        client.envelope("slow@example.net")
        client.command("DATA", 354)
        client.send(b"Subject: x\r\n\r\nhalf")
        closes_in_time(client)
    assert client.record("connection")["ending"] == "data_timeout"
    record = client.record("transaction")
    assert (record["outcome"], record["by"]) == ("deferred", "edge")
    hasty.wait_idle()
    assert len(backend.messages()) == before


@tight
def test_data_that_comes_slowly_is_taken(hasty):
    """Between two pieces of the message, not for all of it."""
    with Hasty(hasty) as client:
        client.hello()
        client.envelope()
        client.command("DATA", 354)
        for _ in range(5):
            client.send(b"a line\r\n")
            time.sleep(WAIT / 2)
        client.send(b".\r\n")
        client.expect(250)
        client.quit()


@pytest.mark.parametrize("busy_with", ["commands", "data"])
@tight
def test_session_timeout(hasty, busy_with):
    with Hasty(hasty) as client:
        client.hello()
        if busy_with == "data":
            client.envelope()
            client.command("DATA", 354)
        begun = time.monotonic()
        last = None
        while last != 421 and time.monotonic() - begun < 2 * SESSION:
            client.send(b"line\r\n" if busy_with == "data" else b"NOOP\r\n")
            if busy_with == "commands":
                last = client.reply().code
            elif not client.is_silent(0.1):
                last = client.reply().code
            time.sleep(0.1)
        assert last == 421
        assert SESSION * 0.7 < time.monotonic() - begun < SESSION * 1.5
    assert client.record("connection")["ending"] == "session_timeout"


# ---- One timer has the session's end and what is waited for: whichever comes first

@pytest.fixture(scope="module")
def brief():
    timeouts = {"command": "1h", "data": "1h", "session": f"{WAIT}s", "linger": "200ms"}
    with Backend() as stalling, start(stalling, {"connections_per_client": 0}, timeouts) as gatepost:
        gatepost.wait_idle()
        yield gatepost, stalling


def is_told_the_end(client, begun):
    assert [reply.code for reply in client.replies()] == [421]
    assert time.monotonic() - begun > WAIT - 0.01
    assert client.record("connection")["ending"] == "session_timeout"


@pytest.mark.parametrize("said", [[], [("EHLO c.example.net", 250)], [("HELO c.example.net", 250), (
    "MAIL FROM:<a@example.net>", 250), ("RCPT TO:<b@example.com>", 250), ("DATA", 354)]])
def test_session_ends_before_what_the_client_is_waited_for(brief, said):
    begun = time.monotonic()
    with Hasty(brief[0]) as client:
        client.expect(220)
        for line, code in said:
            client.command(line, code)
        is_told_the_end(client, begun)


def test_session_ends_while_a_server_is_waited_for(brief):
    """When nothing of the client's is due."""
    gatepost, stalling = brief
    stalling.set_faults(["rcpt:stall"])
    begun = time.monotonic()
    with Hasty(gatepost) as client:
        client.hello()
        client.command("MAIL FROM:<a@example.net>", 250)
        client.send("RCPT TO:<b@example.com>\r\n")
        is_told_the_end(client, begun)
        assert client.record("transaction")["outcome"] == "deferred"
    stalling.set_faults([])


def test_session_ends_behind_the_answer_to_a_message(brief):
    """It was due before; the server has the message."""
    gatepost, stalling = brief
    stalling.set_faults([f"{state}:delay={1500 * WAIT}" for state in ("dot", "bdat")])
    begun = time.monotonic()
    with Hasty(gatepost) as client:
        client.hello()
        client.envelope()
        assert client.data().code == 250
        is_told_the_end(client, begun)
        assert client.record("transaction")["outcome"] == "accepted"
    stalling.set_faults([])


def test_end_of_the_session_is_counted_from_the_dialogue_on(backend):
    """What is waited for before has its own end, also when it comes later."""
    timeouts = {"proxy": "1m", "session": f"{WAIT}s", "linger": "200ms"}
    with start(backend, {}, timeouts, proxy="required") as gatepost, \
            Client(gatepost.address) as client:
        assert client.is_silent(1.5 * WAIT)
        begun = time.monotonic()
        client.send(proxy_v1())
        client.expect(220)
        assert [reply.code for reply in client.replies()] == [421]
        assert time.monotonic() - begun > WAIT - 0.01


@tight
def test_client_that_does_not_read_its_last_reply_is_left(hasty):
    """After QUIT it is waited for the client's end only for `linger`."""
    with Hasty(hasty) as client:
        client.hello()
        client.command("QUIT", 221)
        begun = time.monotonic()
        client.record("connection")
        assert time.monotonic() - begun < WAIT * 0.9


# ---- Those who never read

def stuffed(address):
    """A client with small buffers that has sent so many commands that their replies fit nowhere."""
    client = Client(address, receive_buffer=4096)
    client.expect(220)
    client.command("EHLO c.example.net", 250)
    client.socket.settimeout(0.3)
    sent = 0
    try:
        while sent < 200_000_000:
            client.socket.send(b"NOOP\r\n" * 10000)
            sent += 60000
    except TimeoutError:
        pass
    return client, sent


def cpu_at_rest(gatepost):
    """What it has used when it has done all that it can do."""
    def look():
        before = gatepost.cpu_seconds()
        time.sleep(0.2)
        return gatepost.cpu_seconds() - before < 0.05
    wait_until(look, complaint="it never rests")
    return gatepost.cpu_seconds()


@tight
def test_client_that_never_reads_its_replies(backend):
    """What it does not read is bounded; then it is not read any more, and hung up in time."""
    limits = {"idle_commands": 1000000, "connections_per_client": 0}
    with start(backend, limits, {"command": "1500ms", "linger": "200ms"}) as gatepost:
        gatepost.wait_idle()
        baseline = gatepost.rss_kb()
        clients = [stuffed(gatepost.address) for _ in range(3)]
        assert gatepost.rss_kb() - baseline < 3 * 512
        before = cpu_at_rest(gatepost)
        with Client(gatepost.address) as honest:
            honest.hello()
            assert honest.message().code == 250
            honest.quit()
        for client, _ in clients:
            record = gatepost.wait_log("connection", client_port=client.port)
            assert record["ending"] == "write_timeout"
            client.close()
        assert gatepost.cpu_seconds() - before < 1  # waiting is not looking again and again
        gatepost.wait_idle()


def test_flood_of_noops_ends_at_the_limit(backend):
    """1,000,000 of them, with the default limits: a hundred are answered, the rest costs nothing."""
    with start(backend, timeouts={"linger": "500ms"}) as gatepost:
        gatepost.wait_idle()
        memory, cpu = gatepost.rss_kb(), gatepost.cpu_seconds()
        with Client(gatepost.address) as client:
            client.hello()
            flood(client, b"NOOP\r\n" * 1_000_000)
            codes = [reply.code for reply in client.replies()]
            assert codes == [250] * 99 + [421]
        assert gatepost.rss_kb() - memory < 1024
        assert gatepost.cpu_seconds() - cpu < 1.5


@pytest.mark.parametrize("junk", [b"\x00" * 100_000, b"\xff" * 100_000, b"\r\n" * 50_000,
                                  b"\n" * 50_000, b"a\r" * 50_000, bytes(range(256)) * 400,
                                  b"MAIL\r\n" * 20_000, b"\x16\x03\x01" * 30_000,
                                  b"EHLO " + b"a" * 100_000 + b"\r\n"],
                         ids=lambda junk: repr(junk[:8]))
@tight
def test_junk_is_answered_and_ended(backend, junk):
    with start(backend, timeouts={"command": "1s", "linger": "200ms"}) as gatepost, \
            Client(gatepost.address) as client:
        client.expect(220)
        flood(client, junk)
        replies = client.replies()
        assert 1 <= len(replies) <= 21
        assert all(reply.code // 100 in (4, 5) for reply in replies)
        client.close()
        gatepost.wait_idle()
        with Client(gatepost.address) as other:
            other.hello()
            assert other.message().code == 250


@tight
def test_accept_goes_on_when_descriptors_run_out(backend):
    """Accepting pauses and comes back; it does not spin."""
    with start(backend, {"connections_per_client": 0}, wrapper=["prlimit", "--nofile=40:40"]) \
            as gatepost:
        clients = []
        for _ in range(60):
            clients.append(socket.create_connection(gatepost.address, 15))
        gatepost.wait_log("accept_failed")
        before = gatepost.cpu_seconds()
        time.sleep(1)
        assert gatepost.cpu_seconds() - before < 0.3
        assert len(gatepost.log_records("accept_failed")) < 50
        for client in clients:
            client.close()
        with Client(gatepost.address) as client:
            client.hello()
            assert client.message().code == 250
            client.quit()
