"""Clients, balancers and backends that do anything, side by side, for a while.

Nothing crashes, hangs or stays open; and the books agree: what a client was told 250 for is at the
backend exactly once, and what the log calls accepted is the same. $GATEPOST_CHAOS_SECONDS makes it
longer, $GATEPOST_CHAOS_SEED repeats one; a failure names its seed.
"""

import collections
import concurrent.futures
import os
import random
import threading
import time

import pytest
from backend import Backend
from client import Client, Closed, proxy_v1, proxy_v2, proxy_v2_local
from gatepost import Gatepost

SECONDS = float(os.environ.get("GATEPOST_CHAOS_SECONDS", "8"))
SEED = int(os.environ.get("GATEPOST_CHAOS_SEED", time.time_ns() % 1000000))
HINT = f"GATEPOST_CHAOS_SEED={SEED}"
WORKERS = 8
RISE = 2  # so many probes in a row find a server well, and it is up
PATIENCE = 60  # nothing takes so long, however busy the machine is
FAULTS = [f"{step}:{action}@{n}" for n in (1, 2) for action in (
    "refuse-close", "reset", "garbage", "bare-lf", "split", "merged", "long-line", "mixed-codes",
    "early", "no-final-crlf-then-close", "delay=50", "stall", "reply=421 4.0.0 x",
    "reply=451 4.0.0 x", "reply=550 5.0.0 x", "reply-close=250 2.0.0 x", "raw=\\x00\\xff")
          for step in ("connect", "banner", "ehlo", "mail", "rcpt", "data", "dot", "after-dot",
                       "rset", "quit")] + [
    f"body:{action}:{at}@1" for action in ("reset", "stall", "garbage", "reply=552 5.3.4 x")
    for at in (1, 5000)]


class Actor:
    """One client with its own chance; remembers what it was told about its messages."""

    def __init__(self, gatepost, number, told):
        self.gatepost = gatepost
        self.chance = random.Random(f"{SEED}-{number}")
        self.name = f"actor{number}"
        self.told = told  # sender: code of the last reply
        self.count = 0

    def header(self):
        return self.chance.choice([
            proxy_v1(), proxy_v2(), proxy_v2(crc=True), proxy_v2(), proxy_v1(), proxy_v1(),
            proxy_v2_local(), b"PROXY UNKNOWN\r\n", b"", proxy_v2()[:self.chance.randrange(28)],
            b"PROXY TCP4 x\r\n", self.chance.randbytes(20)])

    def send(self, client, data):
        if self.chance.random() < 0.3:
            client.send_pieces(data, self.chance.choice([1, 2, 7, 100]))
        else:
            client.send(data)

    def line(self):
        chance = self.chance
        return chance.choice([
            b"EHLO client.example.net", b"HELO x", b"NOOP", b"RSET", b"VRFY a", b"HELP", b"QUIT",
            b"MAIL FROM:<a@example.net>", b"MAIL FROM:<> SIZE=10", b"RCPT TO:<b@example.com>",
            b"RCPT TO:<b@elsewhere.example>", b"RCPT TO:<reject@example.com>", b"DATA", b"BDAT 5 LAST",
            b"STARTTLS", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 1", b"X" * chance.randrange(3000),
            chance.randbytes(chance.randrange(40)), b"MAIL FROM:<" + b"a" * 300 + b"@example.net>"])

    def body(self):
        size = self.chance.choice([0, 10, 1000, 70000])
        kind = self.chance.choice(["text", "text", "dots", "random"])
        if kind == "random":
            return self.chance.randbytes(min(size, 5000)).replace(b"\r\n.\r\n", b"")
        return {"text": b"a line of text\r\n", "dots": b"..\r\n.x\r\n"}[kind] * (size // 16)

    def mail(self, client):
        """A whole transaction as it should be; what came of it is remembered."""
        self.count += 1
        sender = f"{self.name}-{self.count}@example.net"
        self.told[sender] = None
        client.send(f"MAIL FROM:<{sender}>\r\n")
        if client.reply().code != 250:
            return
        for _ in range(self.chance.choice([1] * 9 + [2])):
            client.send("RCPT TO:<b@example.com>\r\n")
            if client.reply().code != 250:
                return
        client.send("RSET\r\n" if self.chance.random() < 0.05 else "DATA\r\n")
        if client.reply().code != 354:
            return
        self.send(client, b"Subject: x\r\n\r\n" + self.body() + b"\r\n.\r\n")
        if self.chance.random() < 0.1:
            client.reset()
            raise Closed(b"")
        self.told[sender] = client.reply().code

    def session(self):
        with Client(self.gatepost.address) as client:
            self.send(client, self.header())
            client.reply()
            if self.chance.random() < 0.8:
                client.send("EHLO client.example.net\r\n")
                client.reply()
            for _ in range(self.chance.randrange(8)):
                what = self.chance.random()
                if what < 0.4:
                    self.mail(client)
                elif what < 0.5:  # often enough for a habit: see test_data_ahead.py
                    for _ in range(8):
                        self.mail(client)
                elif what < 0.9:
                    self.send(client, self.line() + b"\r\n")
                    if client.reply().code == 354:
                        self.send(client, b"half a message\r\n.\r\n")
                        client.reply()
                else:
                    self.send(client, self.chance.randbytes(self.chance.randrange(200)))
                    client.socket.settimeout(0.05)
                    try:
                        client.reply()
                    except TimeoutError:
                        pass
                    client.socket.settimeout(15)
            way = self.chance.choice(["quit", "close", "reset", "half_close"])
            if way == "quit":
                client.send("QUIT\r\n")
                client.rest()
            else:
                getattr(client, way)()

    def act(self, is_over):
        while not is_over.is_set():
            try:
                self.session()
            except (Closed, ConnectionError, AssertionError):
                # Which reply belongs to what is not known any more after junk; only what mail()
                # noted counts.
                pass


# ---- Afterwards

def probed_well(gatepost, since):
    """How many probes in a row have found a server well, of the one that has most."""
    counts, most = collections.Counter(), 0
    for record in gatepost.log_records(since=since):
        if record["event"] == "backend_learned":
            counts[record["server"]] += 1
        elif record["event"] == "backend_failed":
            counts[record["server"]] = 0
        most = max(most, *counts.values(), 0)
    return most


def deliver(gatepost):
    """The reply to the last message, or to the command before it that was not taken."""
    with Client(gatepost.address, proxy_v1()) as client:
        reply = client.reply()
        for line in ("EHLO client.example.net", "MAIL FROM:<last@example.net>",
                     "RCPT TO:<b@example.com>", "DATA"):
            if reply.code // 100 != 2:
                return reply
            reply = client.command(line)
        if reply.code == 354:
            client.send(b"Subject: last\r\n\r\ntext\r\n.\r\n")
            reply = client.reply()
        client.quit()
        return reply


def wait_well(gatepost, since):
    """It still works. Servers that could not be connected to, or did not greet, come back by the probes, of
    which there is one a second; until then clients hear why, and after that never again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        probes = probed_well(gatepost, since)
        reply = deliver(gatepost)
        if reply.code == 250:
            return
        if reply.code == 451:  # the deadlines are short, and the machine may be busy
            assert gatepost.log_records("backend_failed", since), (HINT, reply)
        elif reply.enhanced != "4.4.2":  # likewise, for us
            assert (reply.code, reply.enhanced) == (421, "4.4.1"), (HINT, reply)
            assert probes < RISE, (HINT, probes, reply)
        assert time.monotonic() < deadline, (HINT, reply)
        time.sleep(0.05)


def disturb(gatepost, servers, told):
    """Clients and faults for as long as wanted, and until some messages have come through."""
    chance = random.Random(f"{SEED}-faults")
    actors = [Actor(gatepost, number, told) for number in range(WORKERS)]
    until, is_over = time.monotonic() + SECONDS, threading.Event()
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        running = [pool.submit(actor.act, is_over) for actor in actors]
        try:
            while time.monotonic() < until or list(told.values()).count(250) <= 10:
                assert time.monotonic() < until + PATIENCE, HINT
                for server in servers:
                    server.set_faults(chance.sample(FAULTS, chance.randrange(3)))
                time.sleep(0.05)
        finally:
            is_over.set()
        for one in running:
            one.result()


def check_books(servers, told, gatepost):
    transactions = gatepost.log_records("transaction")
    sessions = gatepost.log_records("connection")
    traced = gatepost.trace(len(sessions))
    at_backend = collections.Counter(
        message["mail_from"] for server in servers for message in server.messages())
    assert len({record["uuid"] for record in transactions}) == len(transactions), HINT
    assert sum(record["transactions"] for record in sessions) == len(transactions), HINT
    assert {t["uuid"]: t["outcome"] for line in traced for t in line["transactions"]} == {
        record["uuid"]: record["outcome"] for record in transactions}, HINT
    outcomes = {record["mail_from"]: record["outcome"] for record in transactions
                if record["mail_from"].startswith("actor")}
    for sender, code in told.items():
        if code == 250:
            assert at_backend[sender] == 1, (HINT, sender)
            assert outcomes[sender] == "accepted", (HINT, sender)
        elif code is not None:
            assert outcomes[sender] != "accepted", (HINT, sender, code)
    for sender, count in at_backend.items():
        if sender.startswith("actor"):
            # Never twice; and never while the log says that it was given up.
            assert count == 1, (HINT, sender)
            assert outcomes[sender] in ("accepted", "unknown", "deferred", "refused"), (HINT, sender)


@pytest.mark.parametrize("backends", [1, 2])
def test_chaos(backends):
    config = {
        "limits": {"connections_per_client": 0, "idle_commands": 1000},
        "timeouts": {"proxy": "300ms", "command": "1s", "data": "1s", "linger": "100ms",
                     "backend_connect": "300ms", "backend_greeting": "300ms",
                     "backend_command": "400ms", "backend_data": "400ms",
                     "backend_final": "500ms", "backend_idle": "200ms", "backend_probe": "1s"},
    }
    told = {}
    servers = [Backend() for _ in range(backends)]
    for server in servers:
        server.start()
    config["backends"] = [{"name": "mta", "servers": [server.address for server in servers],
                           "reuse": {"mode": "never"}, "health": {"rise": RISE}}]
    try:
        with Gatepost(config, proxy="required") as gatepost:
            gatepost.wait_idle()
            baseline = gatepost.fds()
            disturb(gatepost, servers, told)
            for server in servers:
                server.set_faults([])
            since = len(gatepost.log_records())
            gatepost.wait_fds(baseline + len(servers), PATIENCE)  # a probe may be under way
            wait_well(gatepost, since)
            gatepost.wait_idle(PATIENCE)
            check_books(servers, told, gatepost)
        for server in servers:
            for message in server.messages():
                assert (message["bare_cr"], message["bare_lf"], message["nul"]) == (0, 0, 0), HINT
    finally:
        for server in servers:
            server.__exit__()
