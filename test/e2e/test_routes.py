"""Which server a recipient leads to: lists, maps that change, several backends in one message."""

import signal
import smtplib

import pytest
from backend import Backend
from client import Client
from gatepost import Gatepost
from postfix import Postfix

LOOK_SECONDS = 20
MESSAGE = "Subject: routes\r\n\r\ntext\r\n"


@pytest.fixture
def backends():
    with Backend() as inside, Backend() as outside:
        yield inside, outside


def routed(backends, routes, **more):
    inside, outside = (f"127.0.0.1:{backend.port}" for backend in backends)
    return Gatepost({
        "backends": [{"name": "inside", "servers": [inside]},
                     {"name": "outside", "servers": [outside]}],
        "relay": {"domains": ["example.com", "example.org", ".example.org"]},
        "routes": routes, **more})


def taken(backend):
    """Recipients of each message."""
    return [message["rcpt_to"] for message in backend.messages()]


def replace(path, text):
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def offered(client):
    return next((line for line in client.hello().lines if line.startswith("LIMITS ")), "")


# ---- Several backends in one message

def test_first_recipient_decides(backends):
    """The others are put off, and are taken in a transaction of their own."""
    routes = [{"domains": ["example.com"], "backend": "inside"}, {"backend": "outside"}]
    with routed(backends, routes) as gatepost, Client(gatepost.address) as client:
        assert "RCPTDOMAINMAX=1" in offered(client).split()
        client.envelope(recipients=["a@example.com"])
        refusal = client.command("RCPT TO:<b@example.org>", 452)
        assert refusal.enhanced == "4.5.3"
        client.command("RCPT TO:<c@EXAMPLE.com>", 250)
        assert client.data().code == 250
        client.envelope(recipients=["b@example.org"])
        assert client.command("RCPT TO:<a@example.com>", 452).enhanced == "4.5.3"
        assert client.data().code == 250
        client.quit()
        inside, outside = backends
        assert taken(inside) == [["a@example.com", "c@example.com"]]
        assert taken(outside) == [["b@example.org"]]
        assert inside.violations() == outside.violations() == []


@pytest.mark.parametrize("is_down", [False, True], ids=["refused", "down"])
def test_backend_that_accepts_no_recipient_decides_nothing(backends, is_down):
    """A dead backend kept the mail of the other one waiting, as long as a sender put its recipient first."""
    routes = [{"domains": ["example.com"], "backend": "inside"}, {"backend": "outside"}]
    inside, outside = backends
    with routed(backends, routes) as gatepost, Client(gatepost.address) as client:
        inside.set_faults(["rcpt:reply=550 5.1.1 no such user"])
        if is_down:
            inside.stop()
        client.hello()
        for _ in range(2):
            client.command("MAIL FROM:<s@example.net>", 250)
            client.command("RCPT TO:<a@example.com>", 451 if is_down else 550)
            client.command("RCPT TO:<b@example.org>", 250)
            assert client.command("RCPT TO:<c@example.com>", 452).enhanced == "4.5.3"
            assert client.data().code == 250
        client.quit()
        assert taken(outside) == [["b@example.org"]] * 2
        record = gatepost.wait_log("transaction")
        assert (record["backend"], record["outcome"], record["rcpt_count"]) == ("outside", "accepted", 1)
        if is_down:
            inside.start()
        else:
            assert inside.messages() == [] and inside.violations() == []
            assert inside.commands("RSET")


def test_record_names_no_server_of_the_backend_that_was_left():
    """The other one's name leads nowhere."""
    with Backend() as inside:
        inside.set_faults(["rcpt:reply=550 5.1.1 no such user"])
        config = {"backends": [{"name": "inside", "servers": [f"127.0.0.1:{inside.port}"]},
                               {"name": "outside", "servers": ["nowhere.invalid:25"]}],
                  "relay": {"domains": ["example.com", "example.org"]},
                  "routes": [{"domains": ["example.com"], "backend": "inside"}, {"backend": "outside"}]}
        with Gatepost(config) as gatepost, Client(gatepost.address) as client:
            client.hello()
            client.command("MAIL FROM:<s@example.net>", 250)
            client.command("RCPT TO:<a@example.com>", 550)
            client.command("RCPT TO:<b@example.org>", 451)
            client.quit()
            record = gatepost.wait_log("transaction")
            assert (record["backend"], record["server"]) == ("outside", None)


def test_smtplib_sends_again(backends):
    """As a program does that is told who was refused."""
    routes = [{"domains": ["example.com"], "backend": "inside"}, {"backend": "outside"}]
    waiting = ["a@example.com", "b@example.org", "c@example.com", "d@sub.example.org"]
    with routed(backends, routes) as gatepost, smtplib.SMTP(*gatepost.address) as client:
        rounds = 0
        while waiting:
            rounds += 1
            refused = client.sendmail("s@example.net", waiting, MESSAGE)
            assert all(code == 452 for code, _ in refused.values())
            waiting = list(refused)
        assert rounds == 2
        assert taken(backends[0]) == [["a@example.com", "c@example.com"]]
        assert taken(backends[1]) == [["b@example.org", "d@sub.example.org"]]


def test_postfix_sends_again(backends):
    """The real thing, which knows no RCPTDOMAINMAX, by its queue."""
    routes = [{"domains": ["example.com"], "backend": "inside"}, {"backend": "outside"}]
    recipients = ["a@example.com", "b@example.org", "c@example.com"]
    with routed(backends, routes) as gatepost:
        further = ["virtual_mailbox_domains =", "virtual_mailbox_maps =",
                   f"default_transport = smtp:[127.0.0.1]:{gatepost.port()}",
                   "queue_run_delay = 1s", "minimal_backoff_time = 1s",
                   "maximal_backoff_time = 1s"]
        with Postfix(further=further, services=["smtp unix - - n - - smtp"]) as postfix:
            with smtplib.SMTP("127.0.0.1", postfix.port) as client:
                client.sendmail("s@example.net", recipients, MESSAGE)
            postfix.wait_log(r"qmgr.*: removed")
            assert postfix.log_lines(r"to=<b@example\.org>.*status=deferred.* 452 4\.5\.3 ")
            assert not postfix.log_lines(r"status=bounced")
        assert [sorted(one) for one in taken(backends[0])] == [["a@example.com", "c@example.com"]]
        assert taken(backends[1]) == [["b@example.org"]]


def test_listener_with_one_backend_is_not_limited(backends):
    routes = [{"listeners": ["mx"], "backend": "inside"},
              {"networks": ["192.0.2.0/24"], "listeners": ["mx"], "backend": "inside"}]
    with routed(backends, routes) as gatepost, Client(gatepost.address) as client:
        assert "RCPTDOMAINMAX" not in offered(client)
        client.envelope(recipients=["a@example.com", "b@example.org"])
        assert client.data().code == 250


# ---- Maps

def send(gatepost, *recipients):
    with Client(gatepost.address) as client:
        client.hello()
        client.envelope(recipients=recipients)
        assert client.data().code == 250


def test_map(backends, tmp_path):
    """An entry decides, the most particular one; without one the next route does."""
    path = tmp_path / "routes"
    path.write_text("# who is where\nvip@example.com  outside\n.example.org     outside\n"
                    "B\u00fccher.example.org outside\n")
    inside, outside = backends
    with routed(backends, [{"map": str(path)}, {"backend": "inside"}]) as gatepost:
        with Client(gatepost.address) as client:
            assert "RCPTDOMAINMAX=1" in offered(client).split()
        send(gatepost, "a@example.com", "b@example.org")
        send(gatepost, "VIP@example.com", "vip+list@example.com", '"vip"@example.com',
             "c@sub.example.org")
        assert taken(inside) == [["a@example.com", "b@example.org"]]
        assert len(taken(outside)) == 1 and len(taken(outside)[0]) == 4


def test_map_changes(backends, tmp_path):
    """By itself and on HUP; a broken one is kept out; what is offered follows."""
    path = tmp_path / "routes"
    path.write_text("* inside\n")
    inside, outside = backends
    with routed(backends, [{"map": str(path)}]) as gatepost:
        send(gatepost, "a@example.com")
        with Client(gatepost.address) as early:
            assert "RCPTDOMAINMAX" not in offered(early)
            early.envelope(recipients=["b@example.com"])
            replace(path, "example.com outside\n* inside\n")
            gatepost.wait_log("files_read", name=str(path), kind="routes", timeout=LOOK_SECONDS)
            # A transaction keeps the server that it began with.
            early.command("RCPT TO:<c@example.com>", 452)
            early.command("RCPT TO:<c@example.org>", 250)
            assert early.data().code == 250
        with Client(gatepost.address) as client:
            assert "RCPTDOMAINMAX=1" in offered(client).split()
        send(gatepost, "d@example.com")
        for count, broken in enumerate(("example.com inside\nx nowhere\n", "* inside\nx\n",
                                        "* inside\n* outside\n"), 1):
            replace(path, broken)
            gatepost.signal(signal.SIGHUP)
            kept = gatepost.wait_log("files_kept", name=str(path), kind="routes", count=count)
            assert f"{path}:2: " in kept["error"]
            send(gatepost, f"e{count}@example.com")
        replace(path, "example.com inside\n")
        gatepost.signal(signal.SIGHUP)
        gatepost.wait_log("files_read", count=2)
        send(gatepost, "f@example.com")
        with Client(gatepost.address) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net>", 250)
            assert client.command("RCPT TO:<g@example.org>", 451).enhanced == "4.3.5"
        assert taken(inside) == [["a@example.com"], ["b@example.com", "c@example.org"],
                                 ["f@example.com"]]
        assert taken(outside) == [["d@example.com"], *([f"e{n}@example.com"] for n in (1, 2, 3))]


@pytest.mark.parametrize("text, said", [
    ("* inside\nx nowhere\n", 'routes:2: x: there is no backend "nowhere"'),
    ("a b@c\n\n", 'routes:1: a: there is no backend "b@c"'), (None, "cannot open")])
def test_broken_map_at_start(backends, tmp_path, text, said):
    path = tmp_path / "routes"
    if text:
        path.write_text(text)
    with pytest.raises(RuntimeError) as problem:
        with routed(backends, [{"map": str(path)}]):
            pass
    assert said in str(problem.value)
