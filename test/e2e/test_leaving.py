"""Clients that go, and stops of the program, at each moment at which a server is waited for.

What was not sent as a whole is taken back; what the server has been given is waited for, and recorded as
it ended. Nothing stays open, and whoever comes next finds a server that works.
"""

import concurrent.futures
import multiprocessing
import signal
import time
from collections import namedtuple

import matrix
import pytest
from backend import Backend
from client import Client
from gatepost import Gatepost
from matrix import Cell, Setting, is_reached, is_reused
from patience import PATIENCE
from rig import PARTS, Rig, try_all
from tls import Authority, starttls, trusting

Leave = namedtuple("Leave", "setting state fault way")

SETTINGS = [Setting(1, "fresh", "data"), Setting(1, "pooled", "bdat"), Setting(2, "kept", "single"),
            Setting(2, "pooled", "data")]
STATES = ("connect", "banner", "ehlo", "rset", "mail", "rcpt1", "rcpt2", "data", "bdat1", "dot")
FAULTS = ("delay=300", "stall")
GONE = ("close", "reset")
# Sent behind the command whose answer is waited for.
BEHIND = ("RSET", "QUIT")


def leaves(setting):
    attempt = "reused" if is_reused(setting) else "fresh"
    states = [state for state in STATES if is_reached(state, setting, attempt)
              and not (state == "rset" and setting.connection == "kept")]
    return [Leave(setting, state, fault, way) for state in states for fault in FAULTS
            for way in (*GONE, "half_close", *BEHIND)
            # In the message they are its text; and to wait for a stalled server tells nothing new.
            if not (way in BEHIND and (state in ("data", "bdat1") or fault == "stall"))]


# ---- Up to the moment

def reach(client, leave, sender, recipients):
    """Until the server is waited for in this state; the codes that are still to come when it answers."""
    client.command(f"MAIL FROM:<{sender}>", 250)
    if leave.state in ("rcpt2", "data", "bdat1", "dot"):
        client.command(f"RCPT TO:<{recipients[0]}>", 250)
    if leave.state in ("data", "bdat1", "dot"):
        client.command(f"RCPT TO:<{recipients[1]}>", 250)
        client.send("DATA\r\n")
    if leave.state in ("bdat1", "dot"):
        client.expect(354)
        head, tail = PARTS[leave.setting.framing == "bdat"]
        client.send(head + (tail + b".\r\n" if leave.state == "dot" else b""))
    if leave.state not in ("data", "bdat1", "dot"):
        client.send(f"RCPT TO:<{recipients[leave.state == 'rcpt2']}>\r\n")
    return {"data": [354], "bdat1": []}.get(leave.state, [250])


def has_message(server, sender):
    return any(message["mail_from"] == sender for message in server.events("message"))


def go(client, leave, due):
    """Leaves; what is still heard."""
    if leave.way in GONE:
        getattr(client, leave.way)()
        return
    if leave.way == "half_close":
        client.half_close()
        client.rest()
        return
    client.send(f"{leave.way}\r\n")
    heard = [client.reply().code for _ in due]
    assert heard == due, f"{heard}, not {due}"
    if leave.way == "RSET":
        client.command("NOOP", 250)
        client.command("QUIT", 250)
    client.expect(221)


def expected(leave):
    """outcome, by, and how many messages the first server has. Who leaves is noticed at once; of who has
    said something behind, the server's verdict comes first."""
    if leave.state == "dot":
        return ("unknown", "backend", 0) if leave.fault == "stall" else ("accepted", "backend", 1)
    if leave.way not in BEHIND:
        return "aborted", "client", 0
    verdict = matrix.expected(Cell(leave.setting, leave.state, leave.fault))
    if verdict.outcome == "deferred" and leave.state not in ("rcpt2", "bdat1"):
        return "deferred", "edge", 0
    return "aborted", "client", 0


def try_leave(rig, leave):
    number = rig.numbers[leave]
    sender, recipients = f"c{number}@example.net", rig.recipients(number)
    with Client(rig.gatepost.address) as client:
        client.hello()
        rig.prepare(leave, client)
        struck = rig.servers[0].struck()
        due = reach(client, leave, sender, recipients)
        rig.servers[0].wait_struck(struck)  # it has been told what it does not answer yet
        go(client, leave, due)
    rig.wait_log(sender)
    with Client(rig.gatepost.address) as client:
        rig.servers[0].set_faults([])
        client.hello()
        codes, _ = rig.transact(client, leave, "next@example.net")
        assert codes["final"] == 250, codes
        client.quit()
    rig.come_to_rest(leave)
    log, _, records = rig.read_all()
    found = [(one["outcome"], one["by"]) for one in rig.early_records + log
             if one["event"] == "transaction" and one["mail_from"] == sender]
    outcome, by, commits = expected(leave)
    assert found == [(outcome, by)], found
    committed = [event["mail_from"] for events in records for event in events
                 if event["event"] == "message"]
    assert (committed.count(sender), committed.count("next@example.net")) == (commits, 1), committed


def try_leaves(setting):
    return try_all(setting, leaves(setting), try_leave)


@pytest.fixture(scope="module")
def outcomes():
    with concurrent.futures.ProcessPoolExecutor(
            4, mp_context=multiprocessing.get_context("fork")) as pool:
        yield {setting: pool.submit(try_leaves, setting) for setting in SETTINGS}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: "-".join(map(str, setting)))
def test_client_goes(outcomes, setting):
    assert outcomes[setting].result() == {}


# ---- While the message is being given to another server, and while the session waits for its turn

WAYS = (*GONE, "half_close")
TIMEOUTS = {"timeouts": {"backend_command": "20s", "backend_queue": "20s"}}


@pytest.mark.parametrize("way", WAYS)
def test_client_goes_while_its_message_is_saved(way):
    with Backend() as first, Backend() as second, \
            Gatepost(TIMEOUTS, backend=[first, second]) as gatepost:
        gatepost.wait_idle()
        baseline = gatepost.fds()
        first.set_faults(["body:reset:100"])
        second.set_faults(["rcpt:delay=300"])
        with Client(gatepost.address) as client:
            client.hello()
            client.envelope()
            client.command("DATA", 354)
            client.send(PARTS[False][0])
            gatepost.wait_log("backend_failed")
            second.wait_for("command", 5)  # EHLO and QUIT of the probe; EHLO, MAIL, RCPT
            getattr(client, way)()
            if way == "half_close":
                client.rest()
        assert gatepost.wait_log("transaction")["outcome"] == "aborted"
        gatepost.wait_idle()
        gatepost.wait_fds(baseline)
        assert first.messages() + second.messages() == []


@pytest.mark.parametrize("way", WAYS)
def test_client_goes_while_it_waits_for_its_turn(way):
    with Backend() as backend:
        config = {**TIMEOUTS, "backends": [{"name": "mta", "queue": 10, "servers": [
            {"address": f"127.0.0.1:{backend.port}", "max_connections": 1}]}],
                  "limits": {"connections_per_client": 0}}
        with Gatepost(config) as gatepost:
            gatepost.wait_idle()
            with Client(gatepost.address) as holder, Client(gatepost.address) as other:
                holder.hello()
                holder.envelope("holder@example.net")
                gone = Client(gatepost.address)
                gone.hello()
                gone.command("MAIL FROM:<gone@example.net>", 250)
                gone.send("RCPT TO:<b@example.com>\r\n")
                assert gone.is_silent(0.1)
                other.hello()
                other.command("MAIL FROM:<other@example.net>", 250)
                other.send("RCPT TO:<b@example.com>\r\n")
                assert other.is_silent(0.1)
                getattr(gone, way)()
                # Its place in the queue is free at once, and the next one's turn comes.
                gatepost.wait_log("transaction", mail_from="gone@example.net", outcome="aborted")
                assert other.is_silent(0.1)
                assert holder.data().code == 250
                other.expect(250)
                assert other.data().code == 250
                holder.quit()
                other.quit()
            gone.close()
            assert [message["mail_from"] for message in backend.messages()] == [
                "holder@example.net", "other@example.net"]


@pytest.mark.parametrize("way,is_tls", [*((way, False) for way in WAYS), *((way, True) for way in WAYS),
                                        ("close_notify", True)])
def test_client_goes_while_the_server_is_silent(tmp_path, way, is_tls):
    """It is noticed at once, and so is the server's connection given up: not when the deadline is over."""
    certificate = Authority(tmp_path).make("mx", ["mx.example.net"])
    listener = {"tls": {"mode": "starttls", "certificate": str(certificate.certificate),
                        "key": str(certificate.key)}}
    with Backend() as backend, Gatepost(backend=backend, listener=listener) as gatepost:
        gatepost.wait_idle()
        backend.set_faults(["rcpt:stall"])
        with Client(gatepost.address) as client:
            if is_tls:
                starttls(client, trusting())
            else:
                client.hello()
            client.command("MAIL FROM:<gone@example.net>", 250)
            struck = backend.struck()
            client.send("RCPT TO:<b@example.com>\r\n")
            backend.wait_struck(struck)
            before = time.monotonic()
            if way == "close_notify":
                client.socket.close_notify()
            else:
                getattr(client, way)()
            gatepost.wait_log("connection")
            backend.wait_for("end", 2)
            assert time.monotonic() - before < PATIENCE  # of the minute that the server has
        assert gatepost.log_records("transaction")[-1]["outcome"] == "aborted"


def test_half_closed_batch_is_answered():
    """Who has said everything and closed its side waits for the answers, slow ones too."""
    with Backend(faults=["rcpt:delay=300"]) as backend, Gatepost(backend=backend) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            client.send("MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.com>\r\n"
                        "RCPT TO:<c@example.com>\r\nQUIT\r\n")
            client.half_close()
            assert [reply.code for reply in client.replies()] == [250, 250, 250, 221]
        assert gatepost.wait_log("connection")["ending"] == "quit"


# ---- The program ends

STOPS = [(number, state, setting) for number in (signal.SIGTERM, signal.SIGUSR1)
         for setting in (Setting(1, "fresh", "data"), Setting(2, "pooled", "bdat"))
         for state in ("ehlo", "rset", "rcpt1", "data", "bdat1", "dot")
         if is_reached(state, setting, "reused" if is_reused(setting) else "fresh")]


@pytest.mark.parametrize("number,state,setting", STOPS,
                         ids=lambda value: "-".join(map(str, value)) if isinstance(value, Setting)
                         else getattr(value, "name", value))
def test_program_ends_while_the_server_is_slow(number, state, setting):
    """TERM: what has not come to its end is given up, what the server has is waited for. USR1: whoever is
    there goes on, in spite of it."""
    is_awaited = number == signal.SIGUSR1 or state == "dot"
    leave = Leave(setting, state, "delay=300" if is_awaited else "delay=5000", None)
    with Rig(setting, [leave]) as rig:
        with Client(rig.gatepost.address) as client:
            client.hello()
            rig.prepare(leave, client)
            struck = rig.servers[0].struck()
            due = reach(client, leave, "c0@example.net", rig.recipients(0))
            rig.servers[0].wait_struck(struck)
            rig.gatepost.signal(number)
            if is_awaited:
                for code in due:
                    client.expect(code)
            if number == signal.SIGUSR1:
                rig.gatepost._wait(lambda: is_refused(rig.gatepost.address), 10, "still listening")
                client.send("QUIT\r\n" if state not in ("data", "bdat1") else ".\r\nQUIT\r\n")
                client.rest()
            else:
                assert [reply.code for reply in client.replies()] == [421]
        rig.gatepost.wait_for_exit()
        [found] = rig.gatepost.log_records("transaction", mail_from="c0@example.net")
        wanted = "accepted" if state == "dot" or (
            number == signal.SIGUSR1 and state in ("data", "bdat1")) else \
            "deferred" if number == signal.SIGTERM else "aborted"
        assert found["outcome"] == wanted, found
        commits = sum(has_message(server, "c0@example.net") for server in rig.servers)
        assert commits == (wanted == "accepted")


def is_refused(address):
    try:
        Client(address).close()
    except ConnectionRefusedError:
        return True
    return False
