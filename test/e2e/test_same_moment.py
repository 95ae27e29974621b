"""A client and a server that speak at the same moment: gatepost is stopped meanwhile, and finds both."""
import signal
import socket
import threading

import pytest
from client import Client
from gatepost import Gatepost
from threaded import Threaded


class Server(Threaded):
    """Answers 250 to whatever it is told, but to lines that begin with `holds`; remembers all lines."""

    def __init__(self, holds="nothing"):
        self.holds = holds
        self.lines = []
        self.connections = []
        self.is_held = threading.Event()
        super().__init__()

    def __exit__(self, *exception):
        super().__exit__(*exception)
        for connection in self.connections:
            connection.close()

    def serve(self, connection):
        self.connections.append(connection)
        try:
            connection.sendall(b"220 server\r\n")
            for line in connection.makefile("r", encoding="latin-1", newline="\r\n"):
                self.lines.append(line.rstrip())
                if line.startswith(self.holds):
                    self.is_held.set()
                elif line.startswith("EHLO"):
                    connection.sendall(b"250-server\r\n250 PIPELINING\r\n")
                else:
                    connection.sendall(b"250 2.0.0 Ok\r\n")
        except OSError:
            pass


def config(servers, routes, reuse):
    return {"relay": {"domains": [".example.com"]}, "routes": routes,
            "limits": {"connections_per_client": 0},
            "backends": [{"name": name, "servers": [f"127.0.0.1:{server.port}"], "chunking": "off",
                          "health": {"check": "connect"}, "reuse": {"mode": reuse}}
                         for name, server in servers.items()]}


def begin(client, *recipients):
    client.command("MAIL FROM:<a@example.net>", 250)
    for recipient in recipients:
        client.command(f"RCPT TO:<{recipient}>", 250)


@pytest.mark.parametrize("client_first", [True, False])
def test_no_route_while_rset_is_answered(client_first):
    """The answer to the RSET of the transaction before made it ask what a backend can that there was
    none of."""
    with Server(holds="RSET") as server, Gatepost(config(
            {"mta": server}, [{"domains": ["a.example.com"], "backend": "mta"}], "never")) as gatepost, \
            Client(gatepost.address) as client:
        client.hello()
        begin(client, "one@a.example.com")
        client.command("RSET", 250)
        assert server.is_held.wait(10)
        begin(client)
        gatepost.signal(signal.SIGSTOP)
        speak = [lambda: client.send("RCPT TO:<two@b.example.com>\r\n"),
                 lambda: server.connections[-1].sendall(b"250 2.0.0 Ok\r\n")]
        for say in speak if client_first else reversed(speak):
            say()
        gatepost.signal(signal.SIGCONT)
        assert client.reply().code == 451
        client.command("RCPT TO:<three@a.example.com>", 250)
        client.quit()


@pytest.mark.parametrize("client_first", [True, False])
def test_recipient_of_another_backend_while_the_server_goes(client_first):
    """Its answer was ours and on its way already; the next server was asked all the same, whether it takes
    a recipient that is not for it, and its 250 came when nobody waited, or for the recipient after it."""
    with Server() as here, Server() as there, Gatepost(config(
            {"here": here, "there": there}, [{"domains": ["a.example.com"], "backend": "here"},
                                             {"backend": "there"}], "safe")) as gatepost, \
            Client(gatepost.address) as client, Client(gatepost.address) as other:
        client.hello()
        begin(client, "one@a.example.com")
        used = here.connections[-1]
        other.hello()
        begin(other, "two@a.example.com")
        other.command("RSET", 250)  # its connection is for whoever comes next
        gatepost.signal(signal.SIGSTOP)
        speak = [lambda: client.send("RCPT TO:<three@b.example.com>\r\n"),
                 lambda: used.shutdown(socket.SHUT_RDWR)]
        for say in speak if client_first else reversed(speak):
            say()
        gatepost.signal(signal.SIGCONT)
        assert client.reply().code == 452
        client.command("RCPT TO:<four@a.example.com>", 250)
        client.quit()
        asked = [line for line in here.lines if line.startswith("RCPT")]
        assert asked == [f"RCPT TO:<{name}@a.example.com>" for name in ("one", "two", "one", "four")]
