"""Two gateposts that share three servers behind HAProxy, and every second a server that dies under load.

Every message is accounted for. A client asks again until it hears 250, with the same sender each time, as
mail servers do; in the end the servers have each message as often as the logs say: once, and once more
only for an attempt whose outcome the log calls unknown. $GATEPOST_CHAOS_SECONDS makes it longer,
$GATEPOST_CHAOS_SEED repeats the clients' and the killer's choices.
"""

import collections
import concurrent.futures
import contextlib
import os
import random
import threading
import time

from backend import Backend
from client import Client, Closed
from gatepost import Gatepost
from haproxy import HAProxy

SECONDS = float(os.environ.get("GATEPOST_CHAOS_SECONDS", "10"))
SEED = int(os.environ.get("GATEPOST_CHAOS_SEED", time.time_ns() % 1000000))
HINT = f"GATEPOST_CHAOS_SEED={SEED}"
WORKERS = 8
# No session takes so long, whatever happens: some deadlines one after the other, on a busy machine.
SESSION_MAX = 60
PATIENCE = 60  # seconds for what takes one, where nobody else is busy
HEADER = b"Subject: shared\r\n\r\n"


class Sender:
    """One client after the other, each with a few messages; and what it was told about each."""

    def __init__(self, address, number):
        self.address = address
        self.chance = random.Random(f"{SEED}-{number}")
        self.name = f"sender{number}"
        self.heard = set()  # 250
        self.open = []      # to be sent, or to be sent again
        self.count = 0
        self.slowest = 0

    def body(self):
        lines = self.chance.choice([1, 1, 5, 50, 1000, 5000])
        return HEADER + b"x" * self.chance.randrange(60) + b"\r\n" + b"..a line of text\r\n" * lines

    def message(self, client, sender):
        """True: 250 was heard."""
        client.command(f"MAIL FROM:<{sender}>", 250)
        for name in ("one", "two"):
            if client.command(f"RCPT TO:<{name}@example.com>").code != 250:
                client.command("RSET", 250)
                return False
        if self.chance.random() < 0.05:
            client.command("RSET", 250)
            return False
        if client.command("DATA").code != 354:
            return False
        body = self.body()
        cut = self.chance.randrange(len(body))
        client.send(body[:cut])
        if self.chance.random() < 0.2:
            time.sleep(self.chance.random() * 0.3)
        if self.chance.random() < 0.03:
            raise Closed(b"")  # and leaves
        client.send(body[cut:] + b".\r\n")
        if self.chance.random() < 0.03:
            client.reset()
            raise Closed(b"")
        return client.reply().code == 250

    def session(self):
        with Client(self.address, timeout=SESSION_MAX) as client:
            if client.reply().code != 220:
                return  # no server is up: told at once
            client.command("EHLO client.example.net", 250)
            for sender in self.open[:4]:
                if self.message(client, sender):
                    self.heard.add(sender)
                    self.open.remove(sender)
            client.quit()

    def run(self, is_over, last):
        """New messages until it is over, and what is left of them until `last`."""
        while not is_over.is_set() or self.open:
            assert time.monotonic() < last, f"never accepted: {self.open}"
            while not is_over.is_set() and len(self.open) < 3:
                self.count += 1
                self.open.append(f"{self.name}-{self.count}@example.net")
            start = time.monotonic()
            with contextlib.suppress(Closed, ConnectionError):
                self.session()
            if self.open:
                time.sleep(0.02)
            self.slowest = max(self.slowest, time.monotonic() - start)


def kill_in_turn(servers, until, is_enough):
    """Each second one of them, by kill -9 and by SIGTERM; it is back a moment later. Until then, and until
    there was enough of all."""
    chance = random.Random(f"{SEED}-killer")
    count = 0
    while time.monotonic() < until or count < SECONDS / 2 or not is_enough():
        assert time.monotonic() < until + PATIENCE, HINT
        victim = servers[count % len(servers)]
        if count % 2:
            victim.stop()
        else:
            victim.kill()
        time.sleep(chance.choice([0, 0.1, 0.5]))
        victim.start()
        count += 1
        time.sleep(chance.uniform(0.3, 0.7))


def config(servers, number):
    """Two that are not alike: they choose, and send, in different ways."""
    addresses = [f"127.0.0.1:{server.port}" for server in servers]
    return {
        "hostname": f"mx{number}.example.net",
        "backends": [{
            "name": "mta", "balance": ("roundrobin", "leastconn")[number],
            "chunking": ("auto", "off")[number], "reuse": {"mode": "safe"}, "queue": 100,
            "servers": [{"address": addresses[0], "weight": 3, "max_connections": 4},
                        {"address": addresses[1], "max_connections": 4},
                        {"address": addresses[2], "backup": True}]}],
        "limits": {"connections_per_client": 0},
        "timeouts": {"backend_connect": "1s", "backend_greeting": "1s", "backend_command": "2s",
                     "backend_data": "2s", "backend_final": "2s", "backend_idle": "5s",
                     "backend_queue": "3s", "backend_probe": "1s"},
    }


def outcomes(gateposts):
    """The outcomes of each message, by sender, in all logs."""
    found = collections.defaultdict(collections.Counter)
    for gatepost in gateposts:
        for record in gatepost.log_records("transaction"):
            found[record["mail_from"]][record["outcome"]] += 1
    return found


def check_books(senders, servers, gateposts):
    committed = collections.Counter(message["mail_from"] for server in servers
                                    for message in server.messages())
    logged = outcomes(gateposts)
    for sender in senders:
        for one in sender.heard:
            assert logged[one]["accepted"] >= 1, (HINT, one, logged[one])
    for one, count in committed.items():
        fewest = logged[one]["accepted"]
        assert fewest <= count <= fewest + logged[one]["unknown"], (HINT, one, count, logged[one])
    for one, found in logged.items():
        assert committed[one] >= found["accepted"], (HINT, one, found)
    for server in servers:
        for message in server.messages():
            assert (message["bare_cr"], message["bare_lf"], message["nul"]) == (0, 0, 0), HINT
            assert message["rcpt_to"] == ["one@example.com", "two@example.com"], (HINT, message)
    return committed


def test_servers_that_die_every_second():
    options = ["--extensions", "PIPELINING,8BITMIME,ENHANCEDSTATUSCODES,CHUNKING"]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Backend(*options, record_body=False)) for _ in range(3)]
        gateposts = [stack.enter_context(Gatepost(config(servers, number), proxy="required"))
                     for number in range(2)]
        for gatepost in gateposts:
            gatepost.wait_idle()
        baselines = [gatepost.fds() for gatepost in gateposts]
        other = "%s:%d" % gateposts[1].address
        haproxy = stack.enter_context(HAProxy(
            gateposts[0].address,
            backend=["balance roundrobin", f"server other {other} send-proxy-v2"]))
        senders = [Sender(haproxy.address, number) for number in range(WORKERS)]
        until, is_over = time.monotonic() + SECONDS, threading.Event()

        def is_enough():
            """Both were used, and servers failed."""
            return sum(len(sender.heard) for sender in senders) > 5 * SECONDS and all(
                len(gatepost.log_records("transaction", outcome="accepted")) > SECONDS
                and gatepost.log_records("backend_failed") for gatepost in gateposts)

        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            running = [pool.submit(sender.run, is_over, until + 2 * PATIENCE) for sender in senders]
            try:
                # Not in a thread: a server ends together with the one that started it.
                kill_in_turn(servers, until, is_enough)
            finally:
                is_over.set()
            for one in running:
                one.result()
        for gatepost, baseline in zip(gateposts, baselines):
            for server in servers:
                server.drop_connections()
            gatepost.wait_idle(PATIENCE)
            gatepost.wait_fds(baseline, PATIENCE)
        committed = check_books(senders, servers, gateposts)
        assert max(sender.slowest for sender in senders) < SESSION_MAX, HINT
        # Nothing was lost.
        assert all(committed[one] for sender in senders for one in sender.heard), HINT
