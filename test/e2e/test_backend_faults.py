"""Backends that refuse, stall, die and talk nonsense, at every step.

Looked at each time: the client's replies, the one record of the transaction, what the backend has,
and that no connection stays open. Nothing is lost: no 250 without the backend's, and after the
final dot nothing is sent anywhere else.
"""

import concurrent.futures
import contextlib
import socket
import time

import pytest
from backend import Backend
from client import Client
from gatepost import NOWHERE, Gatepost, merge

LIMITS = {"limits": {"connections_per_client": 0}}
# Where a server stalls that is waited for. Elsewhere the deadlines are so long that a machine which is busy
# with something else makes no honest server look as if it did.
HASTY = {**LIMITS, "timeouts": dict.fromkeys(
    ("backend_connect", "backend_greeting", "backend_command", "backend_data", "backend_final"), "1s")}
# Of a transaction in which nothing is waited for in vain, or of one with some such deadlines.
SECONDS_MAX = 25
BODY = b"Subject: fault\r\n\r\n" + b"0123456789" * 20 + b"\r\n"
# More than sockets and buffers hold, so that a fault in the message strikes before its end.
HUGE_BODY = b"Subject: long\r\n\r\n" + (b"y" * 98 + b"\r\n") * 120000


def deadlines(fault):
    return HASTY if "stall" in fault else LIMITS


def transact(client, sender="a@example.net", recipients=("one@example.com",), body=BODY):
    """A transaction as far as it goes: the replies by step, in order."""
    steps = {"mail": client.command(f"MAIL FROM:<{sender}>")}
    accepted = False
    for number, recipient in enumerate(recipients):
        steps[f"rcpt{number or ''}"] = reply = client.command(f"RCPT TO:<{recipient}>")
        accepted = accepted or reply.code == 250
    if not accepted:
        return steps
    steps["data"] = client.command("DATA")
    if steps["data"].code == 354:
        client.send(body + b".\r\n")
        steps["final"] = client.reply()
    return steps


def codes(steps):
    return {step: reply.code for step, reply in steps.items()}


def check_end(gatepost, steps, outcome, by, event=None, since=0):
    """One record of the transaction, saying the same as the trace; every connection is closed."""
    gatepost.wait_idle()
    records = [record for record in gatepost.log_records(since=since) if record.get("step") != "probe"]
    found = [record for record in records if record["event"] == "transaction"]
    assert len(found) == 1, found
    assert (found[0]["outcome"], found[0]["by"]) == (outcome, by), found[0]
    last = list(steps.values())[-1]
    assert found[0]["reply"] == str(last).replace("\n", "\r\n")
    line = gatepost.trace()[-1]
    assert [(t["uuid"], t["outcome"], t["by"]) for t in line["transactions"]] == [
        (found[0]["uuid"], outcome, by)]
    events = {record["event"] for record in records}
    for name in ("backend_failed", "outcome_unknown", "backend_blames_us"):
        assert (name in events) == (name == event), (name, records)
    return found[0]


# ---- One server

DOWN = {"mail": 250, "rcpt": 451}
NO_DATA = {"mail": 250, "rcpt": 250, "data": 451}
NO_FINAL = {"mail": 250, "rcpt": 250, "data": 354, "final": 451}
FINE = {"mail": 250, "rcpt": 250, "data": 354, "final": 250}

BROKEN = ["refuse-close", "reset", "stall", "garbage", "long-line", "many-lines", "mixed-codes",
          "no-final-crlf-then-close"]

# fault: (replies, outcome, by, event of the log, committed messages; None: either)
ONE = {
    **{f"connect:{action}": (DOWN, "deferred", "edge", "backend_failed", 0)
       for action in ("refuse-close", "reset", "stall")},
    **{f"{step}:{action}": (DOWN, "deferred", "edge", "backend_failed", 0)
       for step in ("banner", "ehlo", "mail", "rcpt") for action in BROKEN},
    **{f"data:{action}": (NO_DATA, "deferred", "edge", "backend_failed", 0)
       for action in BROKEN},
    **{f"dot:{action}": (NO_FINAL, "unknown", "backend", "outcome_unknown", None)
       for action in BROKEN},
    **{f"after-dot:{action}": (NO_FINAL, "unknown", "backend", "outcome_unknown", 1)
       for action in ("refuse-close", "reset", "stall")},
    # Well-formed, but of a class that is no answer.
    **{f"dot:reply={code} what": (NO_FINAL, "unknown", "backend", "outcome_unknown", None)
       for code in (200, 251, 354)},
    **{f"dot:raw={text}": (NO_FINAL, "unknown", "backend", "outcome_unknown", None)
       for text in ("199 x\\r\\n", "600 x\\r\\n", "2500 x\\r\\n", "25\\r\\n", "-250 x\\r\\n",
                    "250-x\\r\\n250y\\r\\n", "\\r\\n", "\\0\\0\\0\\0\\r\\n", "250\\t2.0.0 x\\r\\n",
                    "250 x\\n")},
    "data:reply=250 2.0.0 what": (NO_DATA, "deferred", "edge", "backend_failed", 0),
    "rcpt:reply=354 what": (DOWN, "deferred", "edge", "backend_failed", 0),
    "mail:reply=354 what": (DOWN, "deferred", "edge", "backend_failed", 0),
    "banner:reply=250 what": (DOWN, "deferred", "edge", "backend_failed", 0),
    "ehlo:reply=354 what": (DOWN, "deferred", "edge", "backend_failed", 0),
    # 421: the server goes; before the dot it is like a server that is down.
    **{f"{step}:reply-close=421 4.3.2 going": (DOWN, "deferred", "edge", "backend_failed", 0)
       for step in ("banner", "ehlo", "mail", "rcpt")},
    "data:reply-close=421 4.3.2 going": (NO_DATA, "deferred", "edge", "backend_failed", 0),
    "dot:reply-close=421 4.3.2 going": (NO_FINAL, "deferred", "backend", None, 0),
    "after-dot:reply-close=421 4.3.2 going": (NO_FINAL, "deferred", "backend", None, 1),
    "banner:reply=554 5.3.2 no": (DOWN, "deferred", "edge", "backend_failed", 0),
    "banner:reply=450 4.3.2 no": (DOWN, "deferred", "edge", "backend_failed", 0),
    # Refusals of the client's mail are the client's.
    "mail:reply=451 4.3.0 later": (DOWN, "deferred", "backend", None, 0),
    "mail:reply=550 5.1.8 bad sender": ({"mail": 250, "rcpt": 550}, "refused", "backend", None, 0),
    "rcpt:reply=450 4.2.0 grey": ({"mail": 250, "rcpt": 450}, "deferred", "backend", None, 0),
    "rcpt:reply=452 4.2.2 full": ({"mail": 250, "rcpt": 452}, "deferred", "backend", None, 0),
    "rcpt:reply=550 5.1.1 who": ({"mail": 250, "rcpt": 550}, "refused", "backend", None, 0),
    "data:reply=451 4.3.0 later": (NO_DATA, "deferred", "backend", None, 0),
    "data:reply=554 5.5.1 no": ({**NO_DATA, "data": 554}, "refused", "backend", None, 0),
    "dot:reply=451 4.3.0 later": (NO_FINAL, "deferred", "backend", None, 0),
    "dot:reply=452 4.3.1 full": ({**NO_FINAL, "final": 452}, "deferred", "backend", None, 0),
    "dot:reply=552 5.2.2 full": ({**NO_FINAL, "final": 552}, "refused", "backend", None, 0),
    "dot:reply=554 5.7.1 spam": ({**NO_FINAL, "final": 554}, "refused", "backend", None, 0),
    "dot:reply=550 5.7.1 a\\n5.7.1 b": ({**NO_FINAL, "final": 550}, "refused", "backend", None, 0),
    # Odd, but right.
    **{f"{step}:split": (FINE, "accepted", "backend", None, 1)
       for step in ("banner", "ehlo", "mail", "rcpt", "data", "dot")},
    **{f"{step}:close": (FINE, "accepted", "backend", None, 1) for step in ("dot", "quit")},
    "dot:merged": (FINE, "accepted", "backend", None, 1),
    "dot:delay=300": (FINE, "accepted", "backend", None, 1),
    "dot:reply=250 2.0.0 first\\n2.0.0 second": (FINE, "accepted", "backend", None, None),
    **{f"quit:{action}": (FINE, "accepted", "backend", None, 1)
       for action in ("refuse-close", "reset", "garbage", "long-line", "stall")},
    # An answer before its question answers nothing.
    "banner:merged": (DOWN, "deferred", "edge", "backend_failed", 0),
    "ehlo:merged": (DOWN, "deferred", "edge", "backend_failed", 0),
    "dot:early": (NO_FINAL, "deferred", "edge", "backend_failed", 0),
    "data:merged": (NO_FINAL, "deferred", "edge", "backend_failed", 0),
    # Whose fault it is.
    **{f"{step}:reply={text}": (
        {"mail": DOWN, "rcpt": DOWN, "data": NO_DATA, "dot": NO_FINAL}[step],
        "deferred", "backend", "backend_blames_us", 0)
       for step, text in [("mail", "530 5.7.0 authenticate"), ("rcpt", "550 5.7.1 relay denied"),
                          ("rcpt", "554 5.7.1 Relaying denied"), ("mail", "503 5.5.1 EHLO first"),
                          ("rcpt", "530 5.7.0 STARTTLS first"), ("data", "503 5.5.1 bad sequence"),
                          ("rcpt", "535 5.7.8 bad credentials"), ("dot", "530 5.7.0 no")]},
}


@pytest.fixture(scope="module")
def backend():
    with Backend() as started:
        yield started


# It is broken all the time, and still to be tried.
TRIED = {"unavailable": "rcpt"}


@pytest.fixture(scope="module")
def gatepost(backend):
    with Gatepost(LIMITS, backend=backend, listener=TRIED) as started:
        yield started


@pytest.fixture(scope="module")
def hasty(backend):
    with Gatepost(HASTY, backend=backend, listener=TRIED) as started:
        yield started


@pytest.mark.parametrize("fault", ONE)
def test_one_server(gatepost, hasty, backend, fault):
    gatepost = hasty if "stall" in fault else gatepost
    wanted, outcome, by, event, committed = ONE[fault]
    gatepost.wait_idle()
    backend.set_faults([fault])
    since, messages = len(gatepost.log_records()), len(backend.messages())
    with Client(gatepost.address) as client:
        client.hello()
        start = time.monotonic()
        steps = transact(client)
        assert time.monotonic() - start < SECONDS_MAX
        assert codes(steps) == wanted, {step: str(reply) for step, reply in steps.items()}
        client.quit()
    record = check_end(gatepost, steps, outcome, by, event, since)
    got = len(backend.messages()) - messages
    assert got in ((0, 1) if committed is None else (committed,))
    # An accepted one is there.
    assert (record["outcome"] == "accepted") <= (got == 1)
    assert (record["backend"], record["server"]) == ("mta", f"127.0.0.1:{backend.port}")
    if outcome != "accepted" and event is None:
        # The backend's own words, of its class.
        text = fault.partition("=")[2].partition(" ")[2].replace("\\n", "\n")
        last = list(steps.values())[-1]
        if "421" not in fault:
            assert "\n".join(last.lines) == text


@pytest.mark.parametrize("action", ["refuse-close", "reset", "stall", "garbage"])
@pytest.mark.parametrize("at", [0, 100, 100000])
def test_one_server_in_the_message(gatepost, hasty, backend, action, at):
    """What is left of the message is read to its end, and answered there."""
    gatepost = hasty if action == "stall" else gatepost
    gatepost.wait_idle()
    backend.set_faults([f"body:{action}:{at}"])
    since, messages = len(gatepost.log_records()), len(backend.messages())
    with Client(gatepost.address) as client:
        client.hello()
        steps = transact(client, body=HUGE_BODY)
        assert codes(steps) == NO_FINAL
        # The session goes on.
        client.command("NOOP", 250)
        client.quit()
    check_end(gatepost, steps, "deferred", "edge", "backend_failed", since)
    assert len(backend.messages()) == messages


@pytest.mark.parametrize("reply,code,outcome", [("552 5.3.4 too big", 552, "refused"),
                                                ("451 4.3.0 later", 451, "deferred"),
                                                ("421 4.3.2 going", 451, "deferred"),
                                                ("250 2.0.0 early ok", 451, "deferred")])
def test_one_server_answers_in_the_message(gatepost, backend, reply, code, outcome):
    """A verdict before the end is told at the end; praise before the end is none."""
    gatepost.wait_idle()
    backend.set_faults([f"body:reply={reply}:400000"])
    since, messages = len(gatepost.log_records()), len(backend.messages())
    with Client(gatepost.address) as client:
        client.hello()
        steps = transact(client, body=HUGE_BODY)
        assert codes(steps) == {**NO_FINAL, "final": code}
        client.quit()
    check_end(gatepost, steps, outcome, "edge" if reply.startswith("250") else "backend",
              "backend_failed", since)
    assert len(backend.messages()) == messages


def test_session_goes_on_after_each_kind_of_failure(gatepost, backend):
    """One client, one transaction after the other; every second one meets a fault."""
    gatepost.wait_idle()
    faults = ["dot:refuse-close", "rcpt:garbage", "data:reset", "body:reset:10", "dot:merged",
              "rset:reset", "mail:mixed-codes", "dot:reply=550 5.0.0 no", "rcpt:merged",
              "mail:reply=550 5.0.0 no", "data:reply=451 4.0.0 no", "mail:early"]
    harmless = {"dot:merged", "rset:reset", "mail:early"}
    backend.set_faults([])
    messages = len(backend.messages())
    with Client(gatepost.address) as client:
        client.hello()
        for number, fault in enumerate(faults):
            backend.set_faults([fault])
            steps = transact(client, f"odd{number}@example.net")
            client.command("RSET", 250)
            assert (list(steps.values())[-1].code >= 400) == (fault not in harmless), fault
            backend.set_faults([])
            steps = transact(client, f"even{number}@example.net",
                             ("one@example.com", "two@example.com"))
            assert codes(steps) == {**FINE, "rcpt1": 250}, fault
        client.quit()
    gatepost.wait_idle()
    committed = [m["mail_from"] for m in backend.messages()[messages:]]
    assert [s for s in committed if s.startswith("even")] == [
        f"even{number}@example.net" for number in range(len(faults))]
    # What was accepted is committed, once, and the other way round.
    accepted = [r["mail_from"] for r in gatepost.log_records("transaction", outcome="accepted")
                if "odd" in r["mail_from"] or "even" in r["mail_from"]]
    assert sorted(accepted) == sorted(committed)


@pytest.mark.parametrize("reply", ["451 4.3.0 no", "502 5.5.1 no", "421 4.3.2 bye", "354 what"])
def test_refused_reset_costs_the_connection_and_nothing_else(gatepost, backend, reply):
    """Nobody waits for its answer: it once was put to a destination that was forgotten already,
    and any server could end the program with it."""
    gatepost.wait_idle()
    backend.set_faults([f"rset:reply={reply}"])
    with Client(gatepost.address) as client:
        client.hello()
        for _ in range(2):
            client.envelope()
            client.command("RSET", 250)
        assert codes(transact(client)) == FINE
        client.quit()
    backend.set_faults([])
    assert gatepost.is_running()


def test_extra_reply_after_the_message_answers_nothing(gatepost, backend):
    """A second 250 behind the first must not be taken for the next transaction's."""
    gatepost.wait_idle()
    backend.set_faults(["dot:merged"])
    with Client(gatepost.address) as client:
        client.hello()
        assert codes(transact(client))["final"] == 250
        backend.set_faults(["rcpt:reply=550 5.1.1 who"])
        assert codes(transact(client)) == {"mail": 250, "rcpt": 550}
        client.quit()
    backend.set_faults([])


def test_server_that_closed_between_two_transactions_gets_another_chance():
    """It may simply have been idle for too long; it is no reason to bother the client."""
    with Backend() as backend, Gatepost(LIMITS, backend=backend) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            assert codes(transact(client, "first@example.net"))["final"] == 250
            backend.stop()
            backend.start()
            assert codes(transact(client, "second@example.net"))["final"] == 250
            # And when it is told so in the middle of the envelope.
            backend.set_faults(["mail:reply-close=421 4.4.2 idle too long@1"])
            assert codes(transact(client, "third@example.net"))["final"] == 250
            client.quit()
        assert [m["mail_from"] for m in backend.messages()] == [
            "first@example.net", "second@example.net", "third@example.net"]


def test_connection_is_kept_for_the_next_transaction_of_the_client():
    with Backend() as backend, Gatepost(LIMITS, backend=backend) as gatepost:
        gatepost.wait_idle()
        probes = len(backend.connections())
        with Client(gatepost.address) as client:
            client.hello()
            for _ in range(2):
                assert codes(transact(client))["final"] == 250
            client.command("MAIL FROM:<a@example.net>", 250)
            client.command("RCPT TO:<one@example.com>", 250)
            client.command("RSET", 250)
            assert codes(transact(client))["final"] == 250
            client.quit()
        gatepost.wait_idle()
        assert len(backend.connections()) == probes + 1
        # One after the other, and only the one that was given up needs to be taken back.
        assert len(backend.commands("MAIL")) == 4
        assert len(backend.commands("RSET")) == 1
        assert backend.wait_for("end", probes + 1)[-1]["how"] == "quit"


# ---- The client goes

def test_client_that_is_gone_after_the_dot_is_recorded_as_it_ended(gatepost, backend):
    """The backend has it: waiting for its answer says what became of the mail."""
    gatepost.wait_idle()
    backend.set_faults(["dot:delay=300"])
    messages = len(backend.messages())
    for way in ("close", "reset", "half_close"):
        since = len(gatepost.log_records())
        client = Client(gatepost.address)
        client.hello()
        client.envelope("left@example.net")
        client.command("DATA", 354)
        struck = backend.struck()
        client.send(BODY + b".\r\n")
        backend.wait_struck(struck)
        getattr(client, way)()
        if way == "half_close":
            client.expect(250)
            assert client.is_ended()
        gatepost.wait_idle()
        records = [r for r in gatepost.log_records()[since:] if r["event"] == "transaction"]
        assert [(r["outcome"], r["by"]) for r in records] == [("accepted", "backend")]
    backend.set_faults([])
    assert len(backend.messages()) == messages + 3


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "body"])
def test_client_that_is_gone_while_the_backend_is_slow(gatepost, backend, step):
    """Nobody hears the answer: the transaction is taken back, and nothing stays open."""
    gatepost.wait_idle()
    backend.set_faults([f"{step}:delay=300" + (":10" if step == "body" else "")])
    since, messages = len(gatepost.log_records()), len(backend.messages())
    client = Client(gatepost.address)
    client.hello()
    client.command("MAIL FROM:<a@example.net>", 250)
    struck = backend.struck()
    if step in ("mail", "rcpt"):
        client.send("RCPT TO:<one@example.com>\r\n")
    else:
        client.command("RCPT TO:<one@example.com>", 250)
        client.send("DATA\r\n")
        if step == "body":
            client.expect(354)
            client.send(BODY)
    backend.wait_struck(struck)
    client.reset()
    gatepost.wait_idle()
    records = [r for r in gatepost.log_records()[since:] if r["event"] == "transaction"]
    assert [(r["outcome"], r["by"]) for r in records] == [("aborted", "client")]
    backend.set_faults([])
    assert len(backend.messages()) == messages


# ---- Two servers

OVER = ["refuse-close", "reset", "stall", "garbage", "mixed-codes", "many-lines",
        "no-final-crlf-then-close"]
REPLACED = [
    *(f"connect:{action}" for action in ("refuse-close", "reset", "stall")),
    *(f"{step}:{action}" for step in ("banner", "ehlo", "mail", "rcpt", "data")
      for action in OVER),
    *(f"{step}:reply-close=421 4.3.2 going" for step in ("banner", "ehlo", "mail", "rcpt",
                                                         "data")),
    "banner:reply=554 5.3.2 no", "banner:merged", "ehlo:merged",
    # 250 before the dot: whatever it is for, it is not believed.
    "dot:early",
    "rcpt:refuse-close@2+", "rcpt:stall@2+", "rcpt:reply-close=421 4.3.2 going@2+", "dead",
]
RECIPIENTS = ("one@example.com", "two@example.com", "three@example.com")


def fail_over(fault):
    """What is wrong when the first of two servers has this fault."""
    with Backend() as first, Backend() as second, \
            Gatepost(deadlines(fault), backend=[first, second]) as gatepost:
        gatepost.wait_idle()
        if fault == "dead":
            first.kill()
        else:
            first.set_faults([fault])
        begun = time.monotonic()
        with Client(gatepost.address) as client:
            client.hello()
            # The second time the server that failed is not tried first.
            for _ in range(2):
                steps = transact(client, recipients=RECIPIENTS)
                assert codes(steps) == {**FINE, "rcpt1": 250, "rcpt2": 250}, \
                    {step: str(reply) for step, reply in steps.items()}
            client.quit()
        gatepost.wait_idle()
        assert first.messages() == []
        assert [m["rcpt_to"] for m in second.messages()] == [list(RECIPIENTS)] * 2
        records = gatepost.log_records("transaction")
        assert [(r["outcome"], r["server"]) for r in records] == [
            ("accepted", f"127.0.0.1:{second.port}")] * 2
        failed = [r for r in gatepost.log_records("backend_failed") if r["step"] != "probe"]
        # A probe, after five seconds, may have found it well.
        most = 1 if time.monotonic() - begun < 4 else 2
        assert [r["server"] for r in failed] in (
            [f"127.0.0.1:{first.port}"] * count for count in range(1, most + 1)), failed
        assert all(r["uuid"] and r["error"] for r in failed)


def in_parallel(function, items, workers=4):
    """Runs it for all; returns what went wrong by item."""
    def guarded(item):
        try:
            function(item)
            return None
        except Exception as error:  # reported by the caller
            return f"{type(error).__name__}: {error}"
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        results = dict(zip(items, pool.map(guarded, items)))
    return {item: text for item, text in results.items() if text}


def test_fail_over_is_not_noticed_by_the_client():
    assert in_parallel(fail_over, REPLACED) == {}


NOT_REPLACED = {
    "body:reset:400000": ("deferred", "edge", 451),
    "body:stall:400000": ("deferred", "edge", 451),
    "body:reply=421 4.3.2 going:400000": ("deferred", "backend", 451),
    "body:reply=554 5.0.0 no:400000": ("refused", "backend", 554),
    "dot:refuse-close": ("unknown", "backend", 451),
    "dot:reset": ("unknown", "backend", 451),
    "dot:stall": ("unknown", "backend", 451),
    "dot:garbage": ("unknown", "backend", 451),
    "after-dot:refuse-close": ("unknown", "backend", 451),
    "after-dot:stall": ("unknown", "backend", 451),
    "dot:reply-close=421 4.3.2 going": ("deferred", "backend", 451),
    "dot:reply=451 4.3.0 later": ("deferred", "backend", 451),
    "dot:reply=554 5.7.1 spam": ("refused", "backend", 554),
}


def no_fail_over(fault):
    outcome, by, code = NOT_REPLACED[fault]
    body = HUGE_BODY if "body" in fault else BODY
    with Backend() as first, Backend() as second, \
            Gatepost(deadlines(fault), backend=[first, second]) as gatepost:
        gatepost.wait_idle()
        first.set_faults([fault])
        before = len(second.connections())
        with Client(gatepost.address) as client:
            client.hello()
            steps = transact(client, body=body)
            assert codes(steps) == {**NO_FINAL, "final": code}
            client.quit()
        gatepost.wait_idle()
        records = gatepost.log_records("transaction")
        assert [(r["outcome"], r["by"], r["server"]) for r in records] == [
            (outcome, by, f"127.0.0.1:{first.port}")], records
        assert (outcome == "unknown") == bool(gatepost.log_records("outcome_unknown"))
        assert len(second.connections()) == before
        assert len(first.messages()) == (1 if fault.startswith("after-dot") else 0)


def test_message_that_was_sent_is_never_sent_elsewhere():
    assert in_parallel(no_fail_over, NOT_REPLACED) == {}


SAVED = ["close", "reset", "half-close", "garbage", "reply=421 4.3.2 going"]


def save(action):
    """The first server is lost while the client pauses in its message, the second one has it all."""
    head = b"Subject: saved\r\n\r\n" + (b".." + b"z" * 96 + b"\r\n") * 1000
    tail = (b".." + b"q" * 96 + b"\r\n") * 500
    with Backend() as first, Backend() as second, \
            Gatepost(LIMITS, backend=[first, second]) as gatepost:
        gatepost.wait_idle()
        first.set_faults([f"body:{action}:50000"])
        with Client(gatepost.address) as client:
            client.hello()
            for line in ("MAIL FROM:<a@example.net>", "RCPT TO:<one@example.com>",
                         "RCPT TO:<two@example.com>"):
                client.command(line, 250)
            client.command("DATA", 354)
            client.send(head)
            gatepost.wait_log("backend_failed")
            client.send(tail + b".\r\n")
            assert client.reply().code == 250
            client.quit()
        gatepost.wait_idle()
        assert first.messages() == []
        [message] = second.messages()
        assert message["rcpt_to"] == ["one@example.com", "two@example.com"]
        assert message["body"].endswith((head + tail).replace(b"..", b"."))
        assert message["body"].count(b"Received: ") == 1
        [record] = gatepost.log_records("transaction")
        assert (record["outcome"], record["server"]) == ("accepted", f"127.0.0.1:{second.port}")


def test_message_on_its_way_is_given_to_another_server():
    assert in_parallel(save, SAVED) == {}


def test_refusals_are_not_put_to_another_server():
    with Backend() as first, Backend() as second, \
            Gatepost(LIMITS, backend=[first, second]) as gatepost:
        gatepost.wait_idle()
        before = len(second.connections())
        with Client(gatepost.address) as client:
            client.hello()
            for fault, code in (("rcpt:reply=550 5.1.1 who", 550), ("rcpt:reply=450 4.2.0 g", 450),
                                ("mail:reply=451 4.3.0 l", 451), ("mail:reply=550 5.1.8 s", 550)):
                first.set_faults([fault])
                assert codes(transact(client))["rcpt"] == code
                client.command("RSET", 250)
            client.quit()
        assert len(second.connections()) == before


def test_second_server_refuses_what_the_first_had_accepted():
    """The client was told 250 for it: it hears 451 and tries again; nobody loses a recipient."""
    with Backend(faults=["rcpt:reply=550 5.1.1 who"]) as second, Backend() as first, \
            Gatepost(LIMITS, backend=[first, second]) as gatepost:
        gatepost.wait_idle()
        first.set_faults(["data:reset"])
        with Client(gatepost.address) as client:
            client.hello()
            steps = transact(client, recipients=RECIPIENTS)
            assert codes(steps) == {"mail": 250, "rcpt": 250, "rcpt1": 250, "rcpt2": 250,
                                    "data": 451}
            client.quit()
        assert gatepost.wait_log("transaction")["outcome"] == "deferred"
        assert first.messages() + second.messages() == []


def send_across_a_loss(gatepost, body):
    """A message whose server is lost in the middle: the code of its reply, and the seconds from then on."""
    with Client(gatepost.address) as client:
        client.hello()
        client.envelope("a@example.net", ["one@example.com"])
        client.command("DATA", 354)
        client.send(body[:100000])
        gatepost.wait_log("backend_failed")
        begun = time.monotonic()
        client.send(body[100000:] + b".\r\n")
        code = client.reply().code
        client.quit()
        return code, time.monotonic() - begun


@pytest.mark.parametrize("fault,extensions", [
    ("data:reply=451 4.3.0 later", "PIPELINING"), ("data:reply=554 5.7.1 no", "PIPELINING"),
    ("data:reply=452 4.3.1 full", "PIPELINING"), ("bdat:reply=552 5.3.4 big", "PIPELINING,CHUNKING"),
    ("bdat:reply=452 4.3.1 full", "PIPELINING,CHUNKING")])
def test_second_server_refuses_the_message_that_the_first_had_begun_to_take(fault, extensions):
    """The third has it: a 554 in place of the first one's 354 bounced it."""
    body = b"Subject: third\r\n\r\n" + (b"z" * 98 + b"\r\n") * 2000
    with Backend() as first, Backend(extensions=extensions) as second, Backend() as third, \
            Gatepost(merge(LIMITS, {"backends": [{"name": "mta", "balance": "first", "servers": [
                f"127.0.0.1:{backend.port}" for backend in (first, second, third)]}]})) as gatepost:
        gatepost.wait_idle()
        first.set_faults(["body:reset:50000"])
        second.set_faults([fault])
        assert send_across_a_loss(gatepost, body)[0] == 250
        verb = "BDAT" if "CHUNKING" in extensions else "DATA"
        assert second.commands(verb) and first.messages() + second.messages() == []
        assert third.messages()[0]["body"].endswith(body)
        steps = [record["step"] for record in gatepost.log_records("backend_failed")]
        assert steps == ["message", verb]


def test_search_for_another_server_ends_before_the_client_has_waited_ten_minutes():
    """The end of its message may have come, unread: what is left beside backend_final, or 5 seconds."""
    body = b"Subject: late\r\n\r\n" + (b"z" * 98 + b"\r\n") * 2000
    config = merge(LIMITS, {"timeouts": {"backend_final": "594s"}})
    with contextlib.ExitStack() as stack:
        first, *others = [stack.enter_context(Backend()) for _ in range(6)]
        gatepost = stack.enter_context(Gatepost(config, backend=[first, *others]))
        gatepost.wait_idle()
        first.set_faults(["body:reset:50000"])
        for other in others:  # three seconds each
            other.set_faults(["mail:delay=3000", "data:reply=451 4.3.0 later"])
        code, seconds = send_across_a_loss(gatepost, body)
        assert code == 451 and 4 < seconds < 13


@pytest.mark.parametrize("step,word", [("banner", "banner"), ("ehlo", "EHLO"), ("mail", "MAIL"),
                                       ("rcpt", "RCPT"), ("data", "DATA")])
def test_step_that_failed_is_named(gatepost, backend, step, word):
    """It was the one behind."""
    backend.set_faults([f"{step}:reply=421 4.3.2 going"])
    with Client(gatepost.address) as client:
        client.hello()
        before = len(gatepost.log_records("backend_failed"))
        transact(client)
        client.quit()
    gatepost.wait_idle()
    failed = [record for record in gatepost.log_records("backend_failed")[before:] if record["uuid"]]
    assert {record["step"] for record in failed} == {word}


def test_all_servers_down():
    with Gatepost(LIMITS, backend=[NOWHERE, "127.0.0.1:2", "127.0.0.1:3"]) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            start = time.monotonic()
            steps = transact(client, recipients=RECIPIENTS)
            assert codes(steps) == {"mail": 250, "rcpt": 451, "rcpt1": 451, "rcpt2": 451}
            assert steps["rcpt"].enhanced == "4.4.1"
            # And again, with servers that are known to be down.
            client.command("RSET", 250)
            assert codes(transact(client))["rcpt"] == 451
            assert time.monotonic() - start < SECONDS_MAX
            client.quit()
        records = [(r["outcome"], r["by"]) for r in gatepost.log_records("transaction")]
        assert records == [("deferred", "edge")] * 2


def test_server_that_does_not_accept_connections_at_all():
    """SYNs that nobody answers: its deadline is backend_connect."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        config = {**LIMITS, "timeouts": {"backend_connect": "600ms"}}
        with Backend() as second, Gatepost(config, backend=[f"127.0.0.1:{port}", second]) as gatepost:
            with Client(gatepost.address) as client:
                client.hello()
                start = time.monotonic()
                assert codes(transact(client)) == FINE
                assert time.monotonic() - start < SECONDS_MAX
                client.quit()
            assert len(second.messages()) == 1
        for filler in fillers:
            filler.close()


def test_server_that_comes_back_is_used_again():
    with Backend() as backend, Gatepost(LIMITS, backend=backend) as gatepost:
        gatepost.wait_idle()
        backend.stop()
        with Client(gatepost.address) as client:
            client.hello()
            assert codes(transact(client)) == DOWN
            client.command("RSET", 250)
            backend.start()
            assert codes(transact(client)) == FINE
            client.quit()


@pytest.mark.parametrize("balance", ["roundrobin", "leastconn", "source"])
def test_balance(balance):
    config = {**LIMITS, "backends": [{"name": "mta", "servers": [], "balance": balance,
                                      "reuse": {"mode": "never"}}]}
    with Backend() as first, Backend() as second:
        config["backends"][0]["servers"] = [f"127.0.0.1:{b.port}" for b in (first, second)]
        with Gatepost(config, proxy="required") as gatepost:
            gatepost.wait_idle()
            clients = [Client(gatepost.address,
                              f"PROXY TCP4 198.51.100.{n} 203.0.113.25 1 25\r\n".encode())
                       for n in range(1, 17)]
            for client in clients:
                client.hello()
                assert codes(transact(client))["final"] == 250
            for client in clients:
                client.quit()
            counts = [len(b.messages()) for b in (first, second)]
            assert sum(counts) == 16
            assert counts == [8, 8] if balance != "source" else min(counts) > 0


# ---- What the backend offers

def offered(client):
    return {line.split()[0]: line.partition(" ")[2] for line in client.hello().lines[1:]}


def test_backend_without_pipelining_gets_one_command_at_a_time():
    """Violations are bytes that come before the reply to what was sent before."""
    with Backend(extensions="SIZE=1000000,8BITMIME") as backend, \
            Gatepost(LIMITS, backend=backend) as gatepost:
        with Client(gatepost.address) as client:
            assert "PIPELINING" in offered(client)  # that is between the client and us
            client.send("MAIL FROM:<a@example.net>\r\nRCPT TO:<one@example.com>\r\n"
                        "RCPT TO:<two@example.com>\r\nDATA\r\n")
            for code in (250, 250, 250, 354):
                client.expect(code)
            client.send(BODY + b".\r\n")
            client.expect(250)
            backend.set_faults(["rcpt:early"])
            assert codes(transact(client)) == DOWN
            client.quit()
        assert backend.violations() == []
        assert len(backend.messages()) == 1


def test_backend_that_knows_only_helo():
    with Backend("--no-ehlo") as backend, Gatepost(LIMITS, backend=backend) as gatepost:
        with Client(gatepost.address) as client:
            has = offered(client)
            assert not {"8BITMIME", "SMTPUTF8", "DSN"} & set(has)
            assert {"PIPELINING", "SIZE", "ENHANCEDSTATUSCODES"} <= set(has)
            client.command("MAIL FROM:<a@example.net> BODY=8BITMIME", 555)
            client.command("MAIL FROM:<a@example.net> SIZE=100", 250)
            client.command("RCPT TO:<one@example.com> NOTIFY=NEVER", 555)
            client.command("RCPT TO:<one@example.com>", 250)
            assert client.data(BODY).code == 250
            client.quit()
        assert backend.messages()[0]["mail_params"] == ""
        assert backend.violations() == []


@pytest.mark.parametrize("lacking", ["8BITMIME", "SMTPUTF8", "DSN"])
def test_extension_that_one_of_the_backends_lacks(lacking):
    """The intersection over all that can be reached."""
    everything = "PIPELINING,SIZE=500000,8BITMIME,SMTPUTF8,DSN,ENHANCEDSTATUSCODES".split(",")
    less = ",".join(word for word in everything if word != lacking)
    with Backend() as one, Backend(extensions=less) as other, Backend(extensions="") as unused:
        config = {
            **LIMITS,
            "backends": [{"name": name, "servers": [f"127.0.0.1:{backend.port}"]}
                         for name, backend in (("one", one), ("other", other),
                                               ("unused", unused))],
            "routes": [{"domains": ["example.com"], "backend": "one"},
                       {"listeners": ["elsewhere"], "backend": "unused"},
                       {"backend": "other"}],
            "listeners": [{"name": name, "bind": ["127.0.0.1:0"], "proxy": "off"}
                          for name in ("mx", "elsewhere")],
        }
        with Gatepost(config) as gatepost:
            with Client(gatepost.address) as client:
                has = offered(client)
                assert lacking not in has
                assert {"8BITMIME", "SMTPUTF8", "DSN"} - {lacking} <= set(has)
                assert has["SIZE"] == "500000"
                assert "RCPTDOMAINMAX=1" in has["LIMITS"]
                parameter = {"8BITMIME": "BODY=8BITMIME", "SMTPUTF8": "SMTPUTF8",
                             "DSN": "RET=HDRS"}[lacking]
                client.command(f"MAIL FROM:<a@example.net> {parameter}", 555)
                client.quit()
            with Client(("127.0.0.1", gatepost.port("elsewhere"))) as client:
                assert not {"8BITMIME", "SMTPUTF8", "DSN"} & set(offered(client))
                client.quit()


def test_parameters_go_along():
    with Backend() as backend, Gatepost(LIMITS, backend=backend) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net> SIZE=300 BODY=8BITMIME RET=HDRS ENVID=e+2B1",
                           250)
            client.command("RCPT TO:<one@example.com> NOTIFY=SUCCESS,FAILURE "
                           "ORCPT=rfc822;one+40example.com", 250)
            client.command("RCPT TO:<two@example.com> NOTIFY=NEVER", 250)
            assert client.data(b"Subject: \xc3\xbc\r\n\r\nx\r\n").code == 250
            client.command("MAIL FROM:<\xc3\xbc@example.net> SMTPUTF8", 250)
            client.command("RCPT TO:<\xc3\xbc@example.com>", 250)
            assert client.data(b"Subject: \xc3\xbc\r\n\r\nx\r\n").code == 250
            client.quit()
        first, second = backend.messages()
        assert set(first["mail_params"].split()) >= {"BODY=8BITMIME", "RET=HDRS", "ENVID=e+2B1"}
        assert [rcpt["params"] for rcpt in first["rcpts"]] == [
            "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;one+40example.com", "NOTIFY=NEVER"]
        assert "SMTPUTF8" in second["mail_params"]
        assert second["mail_from"] == "\xc3\xbc@example.net"
        assert b"with UTF8SMTP" in second["body"]


def test_server_that_has_less_than_was_offered():
    """It was replaced by an older one meanwhile: the client's mail cannot be handed to it."""
    with Backend() as backend, Gatepost(LIMITS, backend=backend) as gatepost:
        gatepost.wait_idle()
        backend.stop()
        with Backend(port=backend.port, extensions="PIPELINING"), Client(gatepost.address) as client:
            assert "8BITMIME" in offered(client)
            client.command("MAIL FROM:<a@example.net> BODY=8BITMIME", 250)
            assert client.command("RCPT TO:<one@example.com>").code == 554
            client.command("RSET", 250)
            client.command("MAIL FROM:<a@example.net> SMTPUTF8", 250)
            assert client.command("RCPT TO:<one@example.com>", 550).enhanced == "5.6.9"
            for sender, recipient in (("\xc3\xbc", "a"), ("a", "\xc3\xbc")):
                client.command("RSET", 250)
                client.command(f"MAIL FROM:<{sender}@example.net> SMTPUTF8", 250)
                reply = client.command(f"RCPT TO:<{recipient}@example.com>", 550)
                assert reply.enhanced == "5.6.7"
            client.command("RSET", 250)
            # What it has, it now is known for.
            assert "8BITMIME" not in client.command("EHLO client.example.net", 250).lines
            assert codes(transact(client)) == FINE
            client.quit()


def test_notices_that_nobody_would_send():
    """DSN parameters are left out for a server without DSN, where that changes nothing."""
    with Backend() as backend, Gatepost(LIMITS, backend=backend) as gatepost:
        gatepost.wait_idle()
        backend.stop()
        with Backend(port=backend.port, extensions="PIPELINING") as less, \
                Client(gatepost.address) as client:
            assert "DSN" in offered(client)
            for notify in ("SUCCESS", "FAILURE,Success", "never"):
                client.command("MAIL FROM:<a@example.net>", 250)
                reply = client.command(f"RCPT TO:<one@example.com> NOTIFY={notify}", 451)
                assert reply.enhanced == "4.3.3"
                # Another recipient of the same message may need nothing.
                client.command("RCPT TO:<two@example.com>", 250)
                client.command("RSET", 250)
            client.command("MAIL FROM:<a@example.net> RET=HDRS ENVID=x", 250)
            client.command("RCPT TO:<one@example.com> NOTIFY=FAILURE,DELAY", 250)
            client.command("RCPT TO:<two@example.com> ORCPT=rfc822;x@example.com", 250)
            reply = client.command("RCPT TO:<three@example.com> NOTIFY=SUCCESS", 451)
            assert reply.enhanced == "4.3.3"
            client.command("RCPT TO:<four@example.com>", 250)
            assert client.data(BODY).code == 250
            message, = less.messages()
            assert [r["params"] for r in message["rcpts"]] == [""] * 3
            assert message["mail_params"] == ""
            client.quit()


@pytest.mark.parametrize("parameter, word", [("BODY=8BITMIME", "8BITMIME"),
                                             ("SMTPUTF8", "SMTPUTF8"), ("", "DSN")])
def test_another_server_has_what_the_first_one_lost(parameter, word):
    everything = "PIPELINING,SIZE=500000,8BITMIME,SMTPUTF8,DSN".split(",")
    with Backend() as first, Backend() as second, \
            Gatepost(LIMITS, backend=[first, second]) as gatepost:
        gatepost.wait_idle()
        first.stop()
        less = ",".join(name for name in everything if name != word)
        notify = " NOTIFY=SUCCESS" if word == "DSN" else ""
        with Backend(port=first.port, extensions=less) as changed:
            with Client(gatepost.address) as client:
                assert word in offered(client)
                client.command(f"MAIL FROM:<a@example.net> {parameter}".rstrip(), 250)
                client.command(f"RCPT TO:<one@example.com>{notify}", 250)
                assert client.data(BODY).code == 250
                assert len(second.messages()) == 1
                client.quit()
            with Client(gatepost.address) as client:  # what needs it not goes to the first
                assert word not in offered(client)
                assert codes(transact(client)) == FINE
                assert len(changed.messages()) == 1
                client.quit()


def test_probes_change_what_clients_are_offered():
    """No client is needed for it; one that was greeted before is told at its recipient."""
    config = {**LIMITS, "timeouts": {"backend_probe": "1s"}}
    with Backend() as backend, Gatepost(config, backend=backend) as gatepost:
        with Client(gatepost.address) as old:
            assert {"8BITMIME", "SMTPUTF8", "DSN"} <= set(offered(old))
            old.command("MAIL FROM:<a@example.net> BODY=8BITMIME", 250)
            backend.stop()
            with Backend(port=backend.port, extensions="PIPELINING,SIZE=1000,DSN"):
                gatepost.wait_log("backend_learned", size=1000)
                with Client(gatepost.address) as new:
                    has = offered(new)
                    assert not {"8BITMIME", "SMTPUTF8"} & set(has)
                    assert has["SIZE"] == "1000" and "DSN" in has
                    new.command("MAIL FROM:<a@example.net> BODY=8BITMIME", 555)
                    new.quit()
                assert old.command("RCPT TO:<one@example.com>", 554).enhanced == "5.6.3"
                old.quit()
            learned = len(gatepost.log_records("backend_learned"))
            with Backend(port=backend.port):
                gatepost.wait_log("backend_learned", count=learned + 1)
                with Client(gatepost.address) as new:
                    assert {"8BITMIME", "SMTPUTF8", "DSN"} <= set(offered(new))
                    new.quit()


# ---- Routes

@pytest.fixture(scope="module")
def routed():
    """example.com and info@example.org go to `one`, other domains to `two`; news to `news`."""
    with Backend() as one, Backend() as two, Backend() as news:
        backends = {"one": one, "two": two, "news": news}
        config = {
            **LIMITS,
            "relay": {"domains": ["example.com", "example.org", ".example.org"]},
            "backends": [{"name": name, "servers": [f"127.0.0.1:{backend.port}"]}
                         for name, backend in backends.items()],
            "routes": [{"senders": ["news.example.net"], "backend": "news"},
                       {"recipients": ["info@example.org"], "backend": "one"},
                       {"domains": ["example.org", ".example.org"], "backend": "two"},
                       {"networks": ["192.0.2.0/24"], "backend": "two"},
                       {"backend": "one"}],
        }
        with Gatepost(config, proxy="optional") as gatepost:
            yield gatepost, backends


@pytest.mark.parametrize("sender,recipient,backend", [
    ("a@example.net", "x@example.com", "one"), ("a@example.net", "info@example.org", "one"),
    ("a@example.net", "INFO@EXAMPLE.ORG", "one"), ("a@example.net", "x@example.org", "two"),
    ("a@example.net", "x@deep.example.org", "two"), ("a@news.example.net", "x@example.org", "news"),
])
def test_first_route_that_matches(routed, sender, recipient, backend):
    gatepost, backends = routed
    counts = {name: len(b.messages()) for name, b in backends.items()}
    with Client(gatepost.address, source="127.0.0.2") as client:
        client.hello()
        assert codes(transact(client, sender, [recipient])) == FINE
        client.quit()
    counts[backend] += 1
    assert {name: len(b.messages()) for name, b in backends.items()} == counts


def test_route_by_network(routed):
    gatepost, backends = routed
    before = len(backends["two"].messages())
    with Client(gatepost.address, b"PROXY TCP4 192.0.2.9 203.0.113.25 1 25\r\n") as client:
        client.hello()
        assert codes(transact(client)) == FINE
        client.quit()
    assert len(backends["two"].messages()) == before + 1


def test_recipient_for_another_backend_comes_in_another_transaction(routed):
    gatepost, backends = routed
    counts = {name: len(b.messages()) for name, b in backends.items()}
    with Client(gatepost.address, source="127.0.0.2") as client:
        assert "RCPTDOMAINMAX=1" in offered(client)["LIMITS"]
        client.command("MAIL FROM:<a@example.net>", 250)
        client.command("RCPT TO:<x@example.com>", 250)
        reply = client.command("RCPT TO:<x@example.org>", 452)
        assert reply.enhanced == "4.5.3"
        client.command("RCPT TO:<y@example.com>", 250)
        client.command("RCPT TO:<info@example.org>", 250)
        assert client.data(BODY).code == 250
        assert codes(transact(client, recipients=["x@example.org"])) == FINE
        client.quit()
    assert backends["one"].messages()[-1]["rcpt_to"] == [
        "x@example.com", "y@example.com", "info@example.org"]
    assert backends["two"].messages()[-1]["rcpt_to"] == ["x@example.org"]
    counts["one"] += 1
    counts["two"] += 1
    assert {name: len(b.messages()) for name, b in backends.items()} == counts


def test_recipient_without_a_route_is_deferred():
    with Backend() as backend:
        config = {**LIMITS, "routes": [{"domains": ["example.org"], "backend": "mta"}],
                  "relay": {"domains": ["example.com", "example.org"]}}
        with Gatepost(config, backend=backend) as gatepost:
            assert " routes[0]: the last" in gatepost.wait_log("config_notice")["detail"]
            with Client(gatepost.address) as client:
                client.hello()
                client.command("MAIL FROM:<a@example.net>", 250)
                assert client.command("RCPT TO:<x@example.com>", 451).enhanced == "4.3.5"
                client.command("RCPT TO:<x@example.org>", 250)
                assert client.data(BODY).code == 250
                client.quit()
            assert backend.messages()[0]["rcpt_to"] == ["x@example.org"]


# ---- What the backend says reaches the client tamed

@pytest.mark.parametrize("said,heard", [
    ("550 5.1.1 a\\x1b[31mb", "a?[31mb"), ("550 5.1.1 caf\\xc3\\xa9", None),
    ("550 \\x07\\x07\\x07", None), ("550", None), ("550 ", None),
    ("550 4.1.1 wrong class", None), ("550 " + "z" * 480, None),
])
def test_text_of_the_backend_is_cleaned(gatepost, backend, said, heard):
    gatepost.wait_idle()
    backend.set_faults([f"rcpt:raw={said}\\r\\n@1"])
    with Client(gatepost.address) as client:
        client.hello()
        client.command("MAIL FROM:<a@example.net>", 250)
        reply = client.command("RCPT TO:<x@example.com>", 550)
        assert reply.enhanced.startswith("5.")
        assert all(32 <= ord(c) < 127 for line in reply.lines for c in line)
        assert max(len(line) for line in reply.lines) <= 508
        assert heard is None or heard in reply.text
        client.quit()
    backend.set_faults([])


# ---- The program ends while something is open

@pytest.mark.parametrize("fault", ["quit:stall", "banner:stall", "mail:stall", "data:stall",
                                   "body:stall:400000", "dot:stall"])
def test_stop_in_every_state_of_the_backend(fault):
    """Nothing leaks, nobody is waited for longer than 10 seconds; see also the sanitizers."""
    config = {"timeouts": {"linger": "100ms"}}
    with Backend() as backend, Gatepost(config, backend=backend) as gatepost:
        gatepost.wait_idle()
        backend.set_faults([fault])
        struck = backend.struck()
        with Client(gatepost.address) as client:
            client.hello()
            client.send("MAIL FROM:<a@example.net>\r\nRCPT TO:<x@example.com>\r\n")
            client.expect(250)
            if fault.startswith(("data", "body", "dot", "quit")):
                client.expect(250)
                client.send("DATA\r\n")
            if fault.startswith(("body", "dot", "quit")):
                client.expect(354)
                client.send(BODY + (b"" if fault.startswith("body") else b".\r\n"))
            if fault.startswith("quit"):
                client.expect(250)
                client.quit()
            if not fault.startswith("body"):  # which waits for more than it gets
                backend.wait_struck(struck)
            if fault.startswith("dot"):
                # The backend has it: only a second TERM does not wait for its answer.
                gatepost.process.terminate()
                time.sleep(0.2)
                assert gatepost.is_running()
                gatepost.process.terminate()
            gatepost.stop()
            if not fault.startswith(("quit", "dot")):
                assert [reply.code for reply in client.replies()] == [421]
        found = gatepost.log_records("transaction")
        wanted = {"quit": "accepted", "dot": "unknown"}.get(fault.partition(":")[0], "deferred")
        assert [record["outcome"] for record in found] == [wanted]
