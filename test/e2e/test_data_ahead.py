"""DATA that the client has said behind its last recipient goes to a server without CHUNKING in one group
with it (RFC 2920)."""
import select
import ssl

import pytest
from backend import Backend
from client import Client
from gatepost import Gatepost
from patience import wait_until
from threaded import Threaded
from tls import Authority, TlsSocket

TIMEOUTS = {"backend_command": "5s", "backend_final": "5s", "backend_idle": "60s"}
BODY = b"Subject: ahead\r\n\r\ntext\r\n"


class Server(Threaded):
    """Answers a group when it has come as a whole, up to DATA or up to what ends it; notes what came on each
    connection. `refused`: recipients. `data`: its answer to DATA when no recipient was accepted."""

    def __init__(self, refused=(), data=b"554 5.5.1 No valid recipients\r\n", ends_group=b"DATA", leaves=False):
        self.refused = refused
        self.data = data
        self.ends_group = ends_group
        self.leaves = leaves  # behind the first 354
        self.connections = []
        self.messages = []
        self.begun = []  # messages that have not ended: their lines
        super().__init__()

    def serve(self, connection):
        seen = []
        with connection, connection.makefile("rb") as lines:
            try:
                connection.sendall(b"220 group\r\n")
                self.talk(connection, lines, seen)
            except OSError:
                pass

    def talk(self, connection, lines, seen):
        held, accepted = b"", 0
        for line in lines:
            verb = line[:4].upper()
            if verb == b"MAIL":
                self.connections.append(seen)
            seen.append(line.strip().decode())
            if verb in (b"MAIL", b"RSET"):
                accepted = 0
            refuses = verb == b"RCPT" and any(name in line for name in self.refused)
            accepted += verb == b"RCPT" and not refuses
            reply = {b"EHLO": b"250-group\r\n250 PIPELINING\r\n", b"QUIT": b"221 Bye\r\n",
                     b"RCPT": b"550 5.1.1 No\r\n" if refuses else b"250 2.1.5 Ok\r\n",
                     b"DATA": b"354 Go on\r\n" if accepted else self.data}.get(verb, b"250 2.1.0 Ok\r\n")
            held += reply
            if verb in (b"EHLO", b"QUIT", b"RSET", self.ends_group) or verb == b"DATA":
                connection.sendall(held)
                held = b""
            if verb == b"DATA" and reply.startswith(b"354"):
                if self.leaves:
                    self.leaves = False
                    return
                self.read_message(connection, lines)

    def read_message(self, connection, lines):
        message = []
        self.begun.append(message)
        for line in lines:
            if line == b".\r\n":
                self.begun.remove(message)
                self.messages.append(b"".join(message))
                connection.sendall(b"250 2.0.0 Taken\r\n")
                return
            message.append(line)

    def partial(self):
        """What came behind 354 and was not ended."""
        return [line for message in self.begun for line in message]


class BreakingServer(Server):
    """Under TLS. When `breaks` is set it breaks TLS behind the next 354, in the same segment; the answers to
    the group after that wait a moment, and `came_early` says whether anything came meanwhile."""

    def __init__(self, pair, **options):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*pair)
        self.breaks, self.is_broken, self.came_early = False, False, None
        super().__init__(**options)

    def serve(self, connection):
        with connection:
            try:
                self.wire = TlsSocket(connection, self.context, server_side=True)
                self.wire.sendall(b"220 group\r\n")
                self.talk(Answers(self, self.wire), lines_of(self.wire), [])
            except (OSError, ssl.SSLError):
                pass


class Answers:
    """How a BreakingServer sends its own."""

    def __init__(self, server, wire):
        self.server = server
        self.wire = wire

    def sendall(self, data):
        server = self.server
        if server.breaks and b"354 " in data:
            server.breaks, server.is_broken = False, True
            self.wire.send_broken(data)
            return
        if server.is_broken and server.came_early is None:
            server.came_early = bool(select.select([self.wire.plain], [], [], 0.5)[0])
        self.wire.sendall(data)


def lines_of(wire):
    pending = b""
    while True:
        data = wire.recv(65536)
        if not data:
            return
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            yield line + b"\n"


def edge(*servers, **backend):
    addresses = [f"127.0.0.1:{server.port}" for server in servers]
    return Gatepost({"timeouts": TIMEOUTS, "backends": [
        {"name": "mta", "servers": addresses, "balance": "first", "reuse": {"mode": "safe"}, **backend}]})


def envelope(*recipients):
    lines = ["MAIL FROM:<a@example.net>", *(f"RCPT TO:<{name}@example.com>" for name in recipients), "DATA"]
    return "".join(line + "\r\n" for line in lines)


def replies(client, count):
    return [client.reply().code for _ in range(count)]


def send_body(client):
    client.send(BODY + b".\r\n")
    return client.reply().code


@pytest.mark.parametrize("names", [("one",), ("one", "two")])
def test_recipient_and_data_are_one_group(names):
    """The server answers nothing before it has seen DATA; with several recipients the last goes with it."""
    with Server(ends_group=b"RCPT" if len(names) > 1 else b"DATA") as server, edge(server) as gatepost, \
            Client(gatepost.address) as client:
        client.hello()
        for count in (1, 2):
            client.send(envelope(*names))
            assert replies(client, 2 + len(names)) == [250] * (1 + len(names)) + [354]
            assert send_body(client) == 250
            assert len(server.messages) == count
        assert all(message.endswith(BODY) for message in server.messages)
        assert len({id(seen) for seen in server.connections}) == 1


def test_without_data_behind_it_nothing_is_said_ahead():
    with Server(ends_group=b"RCPT") as server, edge(server) as gatepost, Client(gatepost.address) as client:
        client.hello()
        client.send(envelope("one").removesuffix("DATA\r\n"))
        assert replies(client, 2) == [250, 250]
        client.command("RSET", 250)
        assert "DATA" not in server.connections[0]


def test_refused_recipient_and_refused_data_leave_the_connection():
    with Server(refused=[b"bad"]) as server, edge(server) as gatepost, Client(gatepost.address) as client:
        client.hello()
        client.send(envelope("bad"))
        assert replies(client, 3) == [250, 550, 554]
        client.command("RSET", 250)
        wait_until(lambda: server.connections[0][-1] == "RSET")
        client.send(envelope("good"))
        assert replies(client, 3) == [250, 250, 354]
        assert send_body(client) == 250
        assert len(server.messages) == 1


def test_server_that_wants_a_message_without_a_recipient_is_left():
    """The next recipient would have been the first line of the message."""
    with Server(refused=[b"bad"], data=b"354 Go on\r\n") as server, edge(server) as gatepost, \
            Client(gatepost.address) as client:
        client.hello()
        client.send(envelope("bad"))
        assert replies(client, 3) == [250, 550, 554]
        client.send("RCPT TO:<good@example.com>\r\nDATA\r\n")
        assert replies(client, 2) == [250, 354]
        assert send_body(client) == 250
        assert len(server.messages) == 1 and server.messages[0].endswith(BODY)
        first, second = server.connections
        assert first is not second and "RCPT TO:<good@example.com>" not in first


def test_server_that_wants_a_message_sees_none_of_the_client_that_gives_up():
    with Server(refused=[b"bad"], data=b"354 Go on\r\n") as server, edge(server) as gatepost, \
            Client(gatepost.address) as client:
        client.hello()
        client.send(envelope("bad"))
        assert replies(client, 3) == [250, 550, 554]
        client.command("RSET", 250)
        client.quit()
        assert server.messages == server.partial() == []


def test_server_that_leaves_behind_354_is_replaced():
    with Server(leaves=True) as first, Server() as second, edge(first, second) as gatepost, \
            Client(gatepost.address) as client:
        client.hello()
        client.send(envelope("one"))
        assert replies(client, 3) == [250, 250, 354]
        # Lost before the client's DATA was its turn, the same one is connected to again; else another.
        wait_until(lambda: len(first.connections) + len(second.connections) == 2)
        assert send_body(client) == 250
        assert len(first.messages) + len(second.messages) == 1
        assert gatepost.wait_log("transaction")["outcome"] == "accepted"


# ---- A client that always does the same


class LateServer(Server):
    """Answers a recipient only when something stands behind it, from the fourth message on."""

    def __init__(self, **options):
        super().__init__(ends_group=b"RCPT", **options)

    def talk(self, connection, lines, seen):
        super().talk(connection, self.counted(lines), seen)

    def counted(self, lines):
        for line in lines:
            if line.startswith(b"MAIL") and len(self.messages) >= 3:
                self.ends_group = b"DATA"
            yield line


def send_messages(client, count, recipient="one"):
    """Each reply is waited for, each message has one recipient."""
    for _ in range(count):
        client.envelope("a@example.net", [f"{recipient}@example.com"])
        assert client.data(BODY).code == 250


def test_habit_of_a_client_is_relied_upon():
    """After three messages with one recipient each the server is told DATA with the recipient."""
    with LateServer() as server, edge(server) as gatepost, Client(gatepost.address) as client:
        client.hello()
        send_messages(client, 6)
        assert len(server.messages) == 6 and all(message.endswith(BODY) for message in server.messages)
        assert len({id(seen) for seen in server.connections}) == 1


@pytest.mark.parametrize("names", [("one", "two"), ("one", "bad", "two"), ("bad", "one")])
def test_client_that_breaks_its_habit(names):
    """Nothing is lost by it, and it is not relied upon again; the server that waits for a message does not take
    the recipient for its first line."""
    with Server(ends_group=b"RCPT", refused=[b"bad"]) as server, edge(server) as gatepost, \
            Client(gatepost.address) as client:
        client.hello()
        send_messages(client, 3)
        client.command("MAIL FROM:<a@example.net>", 250)
        for name in names:
            client.command(f"RCPT TO:<{name}@example.com>", 550 if name == "bad" else 250)
        assert client.data(BODY).code == 250
        used = len({id(seen) for seen in server.connections})
        assert used == (1 if names[0] == "bad" else 2)
        send_messages(client, 4)
        client.command("MAIL FROM:<a@example.net>", 250)
        client.command("RCPT TO:<one@example.com>", 250)
        client.command("RSET", 250)
        client.quit()
        assert len(server.messages) == 8 and all(message.endswith(BODY) for message in server.messages)
        assert len({id(seen) for seen in server.connections}) == used
        sent = [line for line in server.connections[-1] if not line.startswith("RSET")]
        assert sent[-1] != "DATA"
        records = gatepost.log_records("transaction", outcome="accepted")
        assert sum(record["rcpt_count"] for record in records) == 7 + len(set(names) - {"bad"})


def test_client_that_breaks_its_habit_in_one_piece():
    """It is seen that DATA does not come next."""
    with Server(ends_group=b"RCPT") as server, edge(server) as gatepost, Client(gatepost.address) as client:
        client.hello()
        send_messages(client, 3)
        client.send(envelope("one", "two"))
        assert replies(client, 4) == [250] * 3 + [354]
        assert send_body(client) == 250
        assert len({id(seen) for seen in server.connections}) == 1


@pytest.mark.parametrize("options", [["--lmtp"], ["--extensions", "8BITMIME"]], ids=["lmtp", "one-by-one"])
def test_habit_is_not_relied_upon(options):
    """With LMTP, and by servers without PIPELINING."""
    protocol = {"protocol": "lmtp"} if "--lmtp" in options else {}
    with Backend(*options) as backend:
        mta = {"name": "mta", "servers": [f"127.0.0.1:{backend.port}"], **protocol}
        with Gatepost({"backends": [mta]}) as gatepost, Client(gatepost.address) as client:
            client.hello()
            send_messages(client, 3)
            client.command("MAIL FROM:<a@example.net>", 250)
            client.command("RCPT TO:<one@example.com>", 250)
            client.command("RSET", 250)
            wait_until(lambda: backend.commands("RSET"))
            assert len(backend.commands("DATA")) == 3
            client.quit()


def test_refused_data_ahead_says_nothing_of_the_server():
    """Recipients that do not exist, from a client that pipelines, brought it down for all."""
    with Server(refused=[b"bad"], data=b"503 5.5.1 No recipient\r\n") as server, Server() as other, \
            edge(server, other) as gatepost:
        for _ in range(21):
            with Client(gatepost.address) as client:
                client.hello()
                client.send(envelope("bad"))
                assert replies(client, 3) == [250, 550, 554]
                client.quit()
        with Client(gatepost.address) as client:
            client.hello()
            client.send(envelope("good"))
            assert replies(client, 3) == [250, 250, 354]
            assert send_body(client) == 250
        assert len(server.messages) == 1 and not gatepost.log_records("server_down")


@pytest.mark.parametrize("ending", ["RSET", "QUIT", "close"])
def test_client_that_gives_up_against_its_habit(ending):
    with Server(ends_group=b"RCPT") as server, edge(server) as gatepost, Client(gatepost.address) as client:
        client.hello()
        send_messages(client, 3)
        client.command("MAIL FROM:<a@example.net>", 250)
        client.command("RCPT TO:<one@example.com>", 250)
        wait_until(lambda: server.connections[-1][-1] == "DATA")
        if ending == "close":
            client.close()
        else:
            client.command(ending, 250, 221)
        gatepost.wait_log("transaction", outcome="aborted")
        with Client(gatepost.address) as other:
            other.hello()
            send_messages(other, 1)
            other.quit()
        if ending == "RSET":  # it has broken its habit
            send_messages(client, 1)
            client.command("MAIL FROM:<a@example.net>", 250)
            client.command("RCPT TO:<one@example.com>", 250)
            client.command("RSET", 250)
            sent = [line for line in server.connections[-1] if line != "RSET"]
            assert sent[-1].startswith("RCPT")
        assert server.partial() == []
        assert len(server.messages) == (5 if ending == "RSET" else 4) and all(message.endswith(BODY) for message in server.messages)


def test_server_that_leaves_a_client_with_its_habit_is_replaced():
    """Behind a 354 that the client has not asked for yet: it notices nothing."""
    with Server(ends_group=b"RCPT") as server, edge(server, health={"fall": 1}) as gatepost, \
            Client(gatepost.address) as client:
        client.hello()
        send_messages(client, 3)
        server.leaves = True
        client.command("MAIL FROM:<a@example.net>", 250)
        client.command("RCPT TO:<one@example.com>", 250)
        wait_until(lambda: not server.leaves)
        assert client.data(BODY).code == 250
        assert len(server.messages) == 4
        assert not gatepost.log_records("server_down")


# ---- When the server is lost


def test_354_of_a_server_that_was_lost_is_not_the_next_ones(tmp_path):
    """It is lost while the client's DATA has its turn, and a kept connection takes its place at once."""
    pair = Authority(tmp_path).make("mta", ["mta.example.com"])
    with BreakingServer(pair) as server, edge(server, tls={"mode": "implicit", "verify": "none"}) as gatepost, \
            Client(gatepost.address) as first, Client(gatepost.address) as second:
        for client in (first, second):
            client.hello()
            client.send(envelope("one"))
            assert replies(client, 3) == [250, 250, 354]
        for client in (first, second):
            assert send_body(client) == 250
        server.breaks = True
        first.send(envelope("one"))
        assert replies(first, 3) == [250, 250, 354]
        assert send_body(first) == 250
        assert server.is_broken and server.came_early is False
        assert len(server.messages) == 3 and all(message.endswith(BODY) for message in server.messages)
