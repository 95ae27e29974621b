"""Connections to servers that serve more than one client, and messages that go by BDAT."""
import concurrent.futures
import random
import time

import pytest
from backend import Backend
from client import Client
from gatepost import Gatepost
from patience import tight
from threaded import Threaded

# For a server that stalls; others have all the time that a busy machine lets them take.
HASTY = dict.fromkeys(("backend_command", "backend_data", "backend_final"), "1s")
BODY = b"Subject: reuse\r\n\r\n" + b"..dots\r\n" + b"0123456789" * 20 + b"\r\n...\r\n"
ENVELOPE = ("MAIL FROM:<a@example.net>", "RCPT TO:<one@example.com>")


def config(timeouts=None, **reuse):
    return {"timeouts": {"backend_idle": "5m", **(timeouts or {})},
            "limits": {"connections_per_client": 0},
            "backends": [{"name": "mta", "servers": [], "reuse": {"mode": "safe", **reuse}}]}


class Edge(Gatepost):
    """gatepost whose backend keeps connections."""

    def __init__(self, *backends, identity="none", hello="own", chunking="auto", most=0, **reuse):
        """`most` connections to a server at a time: whoever comes before the last one has been reset
        waits for it."""
        settings = config(**reuse)
        settings["backends"][0].update(
            servers=[{"address": f"127.0.0.1:{backend.port}", "max_connections": most}
                     for backend in backends],
            identity=identity, hello=hello, chunking=chunking)
        super().__init__(settings)


def deliver(gatepost, messages=1, body=BODY):
    """One client, its final replies."""
    codes = []
    with Client(gatepost.address) as client:
        client.hello()
        for _ in range(messages):
            for line in ENVELOPE:
                client.command(line, 250)
            client.command("DATA", 354)
            client.send(body + b".\r\n")
            codes.append(client.reply().code)
        client.quit()
    return codes


def connections(backend):
    """Those that were used for mail."""
    return {event["id"] for event in backend.events("command")
            if event["line"].startswith("MAIL")}


def lines(backend):
    return [line for line in backend.commands() if not line.startswith(("EHLO", "QUIT"))]


def test_clients_share_a_connection():
    with Backend() as backend, Edge(backend) as gatepost:
        for _ in range(5):
            assert deliver(gatepost, 2) == [250, 250]
        assert len(connections(backend)) == 1
        assert len(backend.messages()) == 10
        # Each transaction but the first begins with RSET.
        assert lines(backend)[:4] == ["MAIL FROM:<a@example.net>", "RCPT TO:<one@example.com>",
                                      "DATA", "RSET"]
        assert lines(backend).count("RSET") == 9
        for message in backend.messages():
            assert message["body"].endswith(BODY.replace(b"\r\n..", b"\r\n."))


def test_clients_at_the_same_time_have_their_own():
    with Backend() as backend, Edge(backend) as gatepost:
        clients = [Client(gatepost.address) for _ in range(4)]
        for client in clients:
            client.hello()
            for line in ENVELOPE:
                client.command(line, 250)
        for client in clients:
            client.command("DATA", 354)
            client.send(BODY + b".\r\n")
            assert client.reply().code == 250
            client.quit()
        assert len(connections(backend)) == 4


@pytest.mark.parametrize("settings", [{"identity": "proxy-v2"}, {"identity": "proxy-v1"},
                                      {"hello": "client"}, {"mode": "never"}],
                         ids=lambda settings: "-".join(settings.values()))
def test_where_the_server_knows_the_client_nobody_else_follows(settings):
    arguments = [] if "identity" not in settings else ["--proxy", settings["identity"][6:]]
    with Backend(*arguments) as backend, Edge(backend, **settings) as gatepost:
        for _ in range(3):
            assert deliver(gatepost, 2) == [250, 250]
        assert len(connections(backend)) == 3


@tight
def test_limits():
    with Backend() as backend, Edge(backend, messages=2) as gatepost:
        assert deliver(gatepost, 5) == [250] * 5
        assert len(connections(backend)) == 3
    with Backend() as backend, Edge(backend, age="1s") as gatepost:
        deliver(gatepost)
        time.sleep(1.1)
        deliver(gatepost)  # and after it, it is too old to be kept
        deliver(gatepost)
        assert len(connections(backend)) == 2
    with Backend() as backend, Edge(backend, idle=0) as gatepost:
        for _ in range(3):
            deliver(gatepost)
        assert len(connections(backend)) == 3


def test_what_a_client_gave_up_is_taken_back_before_the_next():
    with Backend() as backend, Edge(backend) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            for line in ENVELOPE:
                client.command(line, 250)
            client.quit()
        backend.wait_for("command", 6)  # EHLO and QUIT of the probe, EHLO, MAIL, RCPT, RSET
        assert lines(backend)[-1] == "RSET"
        deliver(gatepost)
        [message] = backend.messages()
        assert message["rcpt_to"] == ["one@example.com"]
        assert len(connections(backend)) == 1


@pytest.mark.parametrize("fault", ["rset:refuse-close", "rset:reset", "rset:stall", "rset:reply=451 no",
                                   "rset:raw=250-x", "rset:garbage", "rset:reply=421 bye",
                                   "mail:refuse-close", "rcpt:refuse-close", "data:refuse-close", "mail:reply=421 bye"])
def test_connection_that_turns_out_to_be_dead_is_replaced(fault):
    """Silently, before the dot: by a new connection to the same server."""
    timeouts = HASTY if fault in ("rset:stall", "rset:raw=250-x") else None
    with Backend() as backend, Edge(backend, timeouts=timeouts) as gatepost:
        assert deliver(gatepost) == [250]
        backend.set_faults([fault + "@1"])
        assert deliver(gatepost) == [250]
        assert len(backend.messages()) == 2
        assert len(connections(backend)) == 2


def fill_pool(gatepost, backend, count=5):
    clients = [Client(gatepost.address) for _ in range(count)]
    for client in clients:
        client.hello()
        client.envelope("a@example.net", ["one@example.com"])
    for client in clients:
        assert client.data(BODY).code == 250
        client.quit()
    assert len(connections(backend)) == count


def test_kept_connections_that_are_all_dead_cost_one_wait():
    """A firewall had forgotten them: a client waited for each of them in turn, its whole budget in the end."""
    with Backend() as backend, Edge(backend, timeouts=HASTY) as gatepost:
        fill_pool(gatepost, backend)
        backend.set_faults(["rset:stall"])
        assert deliver(gatepost) == [250]
        stalled = gatepost.log_records("backend_failed", step="RSET")
        assert len(stalled) == 1 and stalled[0]["error"] == "no answer in time"
        assert not gatepost.log_records("server_down")
        gatepost._wait(lambda: gatepost.connections() <= 1, 5, "dead connections are kept")


def test_server_that_has_changed_its_mind_is_asked_once():
    """It was asked on each connection that was kept, and the pool was used up by one client."""
    with Backend() as backend, Edge(backend) as gatepost:
        fill_pool(gatepost, backend)
        with Client(gatepost.address) as client:
            client.hello()
            client.envelope("a@example.net", ["one@example.com"])
            before = len(backend.commands("MAIL"))
            backend.set_faults(["data:reset@1", "rcpt:reply=550 5.1.1 not any more"])
            client.command("DATA", 451)
            client.quit()
        assert len(backend.commands("MAIL")) == before + 1
        backend.set_faults([])
        assert deliver(gatepost) == [250]
        assert len(connections(backend)) == 5


def test_server_that_is_restarted_between_two_clients():
    with Backend() as backend, Edge(backend) as gatepost:
        assert deliver(gatepost) == [250]
        backend.stop()
        backend.start()
        assert deliver(gatepost) == [250]


# ---- BDAT


@pytest.mark.parametrize("wrong,mails,used", [(4, False, 1), (5, False, 2), (6, True, 1)])
def test_connection_of_one_who_tries_addresses_is_not_for_others(wrong, mails, used):
    """Postfix lets everybody wait who comes by a session in which it has refused so much."""
    with Backend() as backend, Edge(backend, most=1) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            client.command(ENVELOPE[0], 250)
            for _ in range(wrong):
                client.command("RCPT TO:<reject@example.com>", 550)
            if mails:
                client.command(ENVELOPE[1], 250)
                client.command("DATA", 354)
                client.send(BODY + b".\r\n")
                assert client.reply().code == 250
            client.quit()
        assert deliver(gatepost) == [250]
        assert len(connections(backend)) == used


@pytest.mark.parametrize("body", [b"", b".\r\n", b"..\r\n.\r\n", BODY, b"x" * 998 + b"\r\n",
                                  (b"." + b"y" * 70 + b"\r\n") * 40000], ids=len)
def test_message_by_bdat_is_the_message_by_data(body):
    """Canonical in, canonical out: without the dots that only DATA needs."""
    wire = b"Subject: b\r\n\r\n" + b"".join(
        b"." + line if line.startswith(b".") else line for line in body.splitlines(True))
    with Backend("--extensions", "PIPELINING,8BITMIME,CHUNKING") as backend, \
            Edge(backend) as gatepost:
        assert deliver(gatepost, 2, wire) == [250, 250]
        for message in backend.messages():
            assert message["body"].endswith(b"Subject: b\r\n\r\n" + body)
        assert not backend.commands("DATA")
        assert backend.commands("BDAT")[-1].endswith(" LAST")
        assert backend.violations() == []


class Chunks(Threaded):
    """A server that answers what is said to it, and a chunk as `answer` says: True if it is the last."""

    def __init__(self, answer):
        self.answer = answer
        super().__init__()

    def serve(self, connection):
        with connection, connection.makefile("rb") as lines:
            try:
                connection.sendall(b"220 chunks\r\n")
                for line in lines:
                    if line.startswith(b"BDAT"):
                        lines.read(int(line.split()[1]))
                        connection.sendall(self.answer(line.endswith(b" LAST\r\n")))
                    elif line.startswith(b"EHLO"):
                        connection.sendall(b"250-chunks\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
                    else:
                        connection.sendall(b"250 Ok\r\n")
            except OSError:
                pass


def test_server_that_takes_chunks_and_answers_none_has_failed():
    """Its window was full, and all that was sent was written: that once passed for a slow client, and
    both waited for ever."""
    body = b"Subject: x\r\n\r\n" + (b"z" * 98 + b"\r\n") * 50000
    with Chunks(lambda is_last: b"") as server, \
            Gatepost({"timeouts": HASTY}, backend=server) as gatepost:
        assert deliver(gatepost, 1, body) == [451]
        assert gatepost.wait_log("backend_failed")["error"] == "no answer in time"
        assert gatepost.wait_log("transaction")["outcome"] == "deferred"


def test_answer_that_nobody_asked_for_is_none_to_the_last_chunk():
    """The last chunk was under way when it came, and the client was told 250."""
    early = [b"250 Ok\r\n250 Ok\r\n"]

    def answer(is_last):
        if is_last:
            return b"554 5.6.0 No\r\n"
        time.sleep(0.3)
        return early.pop() if early else b"250 Ok\r\n"

    body = b"Subject: x\r\n\r\n" + (b"z" * 98 + b"\r\n") * 400
    with Chunks(answer) as server, Edge(server) as gatepost:
        assert deliver(gatepost, 1, body) == [451]
        assert gatepost.wait_log("transaction")["outcome"] == "deferred"


class Surplus(Chunks):
    """A server with a reply too many, behind the one to this verb in the second transaction; it takes its time with recipients, and refuses each message but the first."""

    EXTENSIONS = b"250-surplus\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 CHUNKING\r\n"

    def __init__(self, verb):
        self.verb = verb
        self.taken = []
        self.is_due = True
        super().__init__(None)

    def serve(self, connection):
        with connection, connection.makefile("rb") as lines:
            try:
                connection.sendall(b"220 surplus\r\n")
                for line in lines:
                    self.answer_line(connection, lines, line)
            except OSError:
                pass

    def answer_line(self, connection, lines, line):
        verb = line[:4].upper()
        if verb == b"BDAT":
            self.taken.append(lines.read(int(line.split()[1])))
        if verb == b"RCPT":
            time.sleep(0.2)
        final = b"554 5.6.0 No\r\n" if len(self.taken) > 1 else b"250 2.0.0 Taken\r\n"
        reply = {b"EHLO": self.EXTENSIONS, b"MAIL": b"250 2.1.0 Ok\r\n", b"RCPT": b"250 2.1.5 Ok\r\n",
                 b"BDAT": final}.get(verb, b"250 2.0.0 Ok\r\n")
        is_surplus = verb == self.verb and len(self.taken) == 1 and self.is_due
        self.is_due &= not is_surplus
        connection.sendall(reply + b"250 2.0.0 Ok\r\n" * is_surplus)


@pytest.mark.parametrize("verb", [b"RSET", b"MAIL", b"RCPT"])
def test_reply_too_many_is_not_the_answer_to_a_message(verb):
    """RSET, MAIL and RCPT were answered by the replies before theirs, and the message by that to RCPT: the
    client was told 250 for what the server refused."""
    with Surplus(verb) as server, Edge(server) as gatepost:
        assert deliver(gatepost) == [250]
        for _ in range(3):
            assert deliver(gatepost, 1) in ([554], [451])
        assert all(len(body) > len(BODY) for body in server.taken)
        assert bool(gatepost.log_records("outcome_unknown")) == (verb == b"MAIL")
        assert [record["outcome"] for record in gatepost.log_records("transaction")].count("accepted") == 1


def test_whole_message_has_its_answer_in_time_from_server_to_server():
    """Each server that was lost had begun the time for the next one anew: with some of them the client
    had given up before the last one said 250."""
    body = b"Subject: x\r\n\r\n" + (b"z" * 98 + b"\r\n") * 400
    timeouts = {"backend_data": "4s", "backend_final": "6s"}
    with Chunks(lambda is_last: b"") as one, Chunks(lambda is_last: b"") as two, \
            Chunks(lambda is_last: b"") as three, \
            Gatepost({"timeouts": timeouts}, backend=[one, two, three]) as gatepost:
        begun = time.monotonic()
        assert deliver(gatepost, 1, body) == [451]
        assert time.monotonic() - begun < 11  # and not thrice 4
        assert gatepost.wait_log("transaction")["outcome"] == "deferred"


@pytest.mark.parametrize("is_freed", [False, True])
@tight
def test_whole_message_has_its_answer_in_time_from_the_queue(is_freed):
    """The first server is lost when the message is all there, the next one is full: both waits are of one
    budget. In time the message is delivered, once; else the client is told so before it gives up."""
    body = b"Subject: x\r\n\r\n" + (b"z" * 98 + b"\r\n") * 400
    timeouts = {"backend_data": "1s", "backend_final": "4s", "backend_queue": "60s"}
    with Backend() as full, Chunks(lambda is_last: b"") as silent:
        servers = [{"address": f"127.0.0.1:{full.port}", "max_connections": 1}, f"127.0.0.1:{silent.port}"]
        settings = {"timeouts": timeouts, "backends": [{"name": "mta", "balance": "first", "servers": servers}]}
        with Gatepost(settings) as gatepost, Client(gatepost.address) as holder, \
                concurrent.futures.ThreadPoolExecutor() as pool:
            holder.hello()
            holder.envelope("holder@example.net", ["one@example.com"])
            begun = time.monotonic()
            told = pool.submit(deliver, gatepost, 1, body)
            gatepost.wait_log("backend_failed")
            if is_freed:
                holder.command("RSET", 250)
                holder.quit()
            assert told.result() == [250 if is_freed else 451]
            assert time.monotonic() - begun < 8
        assert len(full.messages()) == is_freed


@pytest.mark.parametrize("step", ["bdat", "bdat3", "dot"])
@pytest.mark.parametrize("reply,code", [("451 4.3.0 later", 451), ("552 5.3.4 full", 552)])
def test_chunk_that_is_refused(step, reply, code):
    body = b"Subject: x\r\n\r\n" + (b"z" * 70 + b"\r\n") * 4000
    with Backend("--extensions", "PIPELINING,CHUNKING") as backend, Edge(backend) as gatepost:
        backend.set_faults([f"{step}:reply={reply}@1"])
        assert deliver(gatepost, 2, body) == [code, 250]
        assert len(backend.messages()) == 1
        assert backend.violations() == []


CHUNKS = "PIPELINING,8BITMIME,CHUNKING"


def dotted(seed):
    """Lines that begin with dots, cut anywhere, as a client would send them."""
    chance = random.Random(seed)
    lines = [chance.choice([b"", b".", b"..", b".x", b"x."]) + b"y" * chance.choice([0, 1, 70, 900])
             for _ in range(chance.choice([300, 600]))]
    return b"Subject: dots\r\n\r\n" + b"".join(line + b"\r\n" for line in lines)


@pytest.mark.parametrize("offers", [(CHUNKS, "PIPELINING"), ("PIPELINING", CHUNKS), (CHUNKS, CHUNKS),
                                    (CHUNKS, "SIZE=1000000")], ids=lambda offers: "-".join(offers))
@pytest.mark.parametrize("seed", range(3))
def test_message_is_saved_by_a_server_that_takes_it_otherwise(offers, seed):
    """What the first one was given in chunks the second one gets by DATA, and the other way round."""
    chance = random.Random(f"cut-{seed}")
    body = dotted(seed)
    wire = b"".join(b"." + line if line.startswith(b".") else line for line in body.splitlines(True))
    cut = chance.randrange(40000, 60000)
    with Backend("--extensions", offers[0]) as first, Backend("--extensions", offers[1]) as second, \
            Edge(first, second) as gatepost:
        gatepost.wait_log("started")
        first.set_faults([f"body:reset:{chance.randrange(20000, 32000)}"])
        with Client(gatepost.address) as client:
            client.hello()
            for line in ENVELOPE:
                client.command(line, 250)
            client.command("DATA", 354)
            client.send_pieces(wire[:cut], chance.choice([977, 8192, 70000]))
            gatepost.wait_log("backend_failed")
            client.send_pieces(wire[cut:] + b".\r\n", chance.choice([977, 8192, 70000]))
            client.expect(250)
            client.quit()
        assert first.messages() == []
        [message] = second.messages()
        assert message["body"].partition(b"Subject: dots")[2] == body.partition(b"Subject: dots")[2]
        assert message["body"].count(b"Received: ") == 1
