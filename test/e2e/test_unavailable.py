"""All servers are down: clients are told before they have said what their mail is."""

import pytest
from auth import hash_password, plain
from backend import Backend
from client import LOCAL, UNSPEC, Client, proxy_v2
from gatepost import NOWHERE, Gatepost
from haproxy import HAProxy


class Edge(Gatepost):
    """gatepost that takes a server for down after one failure, and for up after one success."""

    def __init__(self, *servers, fall=1, **options):
        super().__init__({
            "backends": [{"name": "mta", "servers": list(servers), "reuse": {"mode": "never"},
                          "health": {"fall": fall, "rise": 1}}]}, **options)


def banner(gatepost, header=b""):
    """What comes in place of the banner, or it; the connection is over behind a 421."""
    with Client(gatepost.address, header=header) as client:
        reply = client.reply()
        if reply.code == 421:
            assert client.is_ended()
        return reply


def send_one(gatepost):
    with Client(gatepost.address) as client:
        client.hello()
        reply = client.message()
        client.quit()
    return reply


def lose(gatepost, backend):
    """The server goes; one client finds out."""
    backend.kill()
    with Client(gatepost.address) as client:
        client.hello()
        client.command("MAIL FROM:<a@example.net>", 250)
        assert client.command("RCPT TO:<b@example.com>").enhanced == "4.4.1"
        gatepost.wait_log("server_down", server=backend.address)
        # Who has been greeted goes on; its recipients are the last resort.
        client.command("RCPT TO:<c@example.com>", 451)
        client.command("RSET", 250)
        client.quit()


def test_banner():
    with Backend() as backend, Edge(backend.address) as gatepost:
        assert send_one(gatepost).code == 250
        lose(gatepost, backend)
        for _ in range(3):
            reply = banner(gatepost)
            assert (reply.code, reply.enhanced) == (421, "4.4.1")
            assert "mx.example.net" in reply.text
        assert gatepost.wait_log("connection", ending="unavailable")["msg_tempfail"] == 0
        backend.start()
        # No client is needed for that.
        gatepost.wait_log("server_up")
        assert send_one(gatepost).code == 250


def test_not_before_it_is_known():
    """A server that failed once or was never tried does not count, nor one of several."""
    with Edge(NOWHERE, fall=3) as gatepost:
        assert banner(gatepost).code == 220
    with Backend() as backend, Edge(NOWHERE, backend.address) as gatepost:
        gatepost.wait_log("server_down", server=NOWHERE)
        assert send_one(gatepost).code == 250


def test_at_the_start():
    with Edge(NOWHERE) as gatepost:
        assert banner(gatepost).code == 421


def test_a_server_that_greets_is_not_out():
    """Whatever it does then may be for what a client sends."""
    with Backend(faults=["rcpt:refuse-close"]) as backend, Edge(backend.address) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net>", 250)
            client.command("RCPT TO:<b@example.com>", 451)
            client.quit()
        gatepost.wait_log("server_down")
        backend.set_faults([])
        assert send_one(gatepost).code == 250


def test_mail():
    with Backend() as backend, Edge(backend.address, listener={"unavailable": "mail"}) as gatepost:
        backend.kill()
        with Client(gatepost.address) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net>", 250)
            client.command("RCPT TO:<b@example.com>", 451)
            client.command("RSET", 250)
            for _ in range(30):  # none of them is an error of the client's
                reply = client.command("MAIL FROM:<a@example.net>")
                assert (reply.code, reply.enhanced) == (451, "4.4.1")
            client.command("RCPT TO:<b@example.com>", 503)
            backend.start()
            gatepost.wait_log("server_up")
            assert client.message().code == 250
            client.quit()
        record = gatepost.log_records("transaction")[1]
        assert (record["outcome"], record["by"], record["mail_from"]) == (
            "deferred", "edge", "a@example.net")


def test_rcpt():
    with Backend() as backend, Edge(backend.address, listener={"unavailable": "rcpt"}) as gatepost:
        lose(gatepost, backend)
        backend.start()
        assert send_one(gatepost).code == 250


def test_submission(tmp_path):
    """Where AUTH is required users are not sent away from the door."""
    users = tmp_path / "users"
    users.write_text(hash_password("alice", "secret"))
    auth = {"required": True, "users": str(users), "allow_plaintext": ["127.0.0.0/8"]}
    with Edge(NOWHERE, listener={"auth": auth}) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net>", 530)
            client.command("AUTH PLAIN " + plain("alice", "secret"), 235)
            assert client.command("MAIL FROM:<a@example.net>", 451).enhanced == "4.4.1"
            client.quit()


@pytest.mark.parametrize("header", [proxy_v2(command=LOCAL, family=UNSPEC), proxy_v2()],
                         ids=["check", "client"])
def test_health_checks_see_it(header):
    with Edge(NOWHERE, proxy="required") as gatepost:
        assert banner(gatepost, header).code == 421


def test_haproxy_takes_it_out_and_back():
    with Backend() as backend, \
            Edge(backend.address, proxy="required", trusted=["127.0.0.1"]) as gatepost, \
            HAProxy(gatepost.address, "send-proxy-v2 check inter 200 rise 1 fall 1",
                    backend=["option smtpchk EHLO haproxy.example.com"]) as haproxy:
        haproxy.wait_checked("UP")
        backend.kill()
        with Client(haproxy.address) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net>", 250)
            client.command("RCPT TO:<b@example.com>", 451)
            client.quit()
        assert haproxy.wait_checked("DOWN")["check_code"] == "421"
        backend.start()
        haproxy.wait_checked("UP")
        with Client(haproxy.address) as client:
            client.hello()
            assert client.message().code == 250
            client.quit()
