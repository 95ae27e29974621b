"""One message in is one message out: test/vectors/smuggling-cases.jsonl through the program.

Each case goes whole, cut where it says, and in pieces of 7 bytes and of one, to a strict backend, to
one that takes lone CR and LF for line ends, by BDAT to one that takes chunks, and from a client under TLS
behind a PROXY header. What decides is the backend's record.
"""

import concurrent.futures
import itertools
import json
import re
import time
from pathlib import Path

import pytest
from backend import Backend
from client import Client, Closed, proxy_v2
from gatepost import Gatepost
from tls import Authority, starttls, trusting, wrap

VECTORS = Path(__file__).parent.parent / "vectors" / "smuggling-cases.jsonl"
MESSAGE_SIZE = 2097152
NOT_OFFERED = {"CHUNKING", "STARTTLS"}
SMALL = 20000  # longer ones are not sent byte by byte, and not under TLS
LARGE = 1000000  # longer ones are not sent in pieces of 7: they would wait in the kernel and be read together

numbers = itertools.count(1)


def expand(text):
    """The text of a case as bytes."""
    def repeat(match):
        unit, count = match[1], int(match[2])
        if unit != "L":
            return unit * count
        lines = ("x" * 62 + "\r\n") * (count // 64 + 1)
        return (lines[:count - 1] + "x") if lines[count - 1] == "\r" else lines[:count]
    return re.sub(r"<<(.*?)\*(\d+)>>", repeat, text, flags=re.S).encode("latin-1")


def is_possible(case):
    return not set(case.get("needs", "").split()) & NOT_OFFERED


def cases():
    lines = VECTORS.read_text().splitlines()
    return [case for case in map(json.loads, lines) if is_possible(case)]


class Run:
    """One case on one connection."""

    def __init__(self, gatepost, case, size, expect, how=None):
        """how: None, or the name of a listener with TLS, which is its mode, behind a header."""
        self.how = how
        self.case = case
        self.size = size
        self.expect = expect
        self.number = next(numbers)
        self.replies = []
        self.client = Client(("127.0.0.1", gatepost.port(how or "mx")),
                             header=proxy_v2() if how else b"", timeout=60)

    @property
    def carrier(self):
        return f"carrier{self.number}@sender.test"

    @property
    def second(self):
        return f"second{self.number}@sender.test"

    @property
    def smuggled(self):
        return f"smuggled{self.number}@evil.test"

    def parts(self):
        """(bytes, whether only if a 354 came, whether it must have come)"""
        text = self.case["bytes"].replace("second@sender.test", self.second) \
            .replace("smuggled@evil.test", self.smuggled)
        pieces = re.split(r"@@354(\??)@@", text)
        yield expand(pieces[0]), None
        for optional, piece in zip(pieces[1::2], pieces[2::2]):
            yield expand(piece), optional

    def send(self, data):
        cuts = self.case.get("split")
        if self.size == "given" and cuts:
            self.client.send_cut(data, cuts, self.case.get("delay_ms", 2) / 1000)
        elif isinstance(self.size, int):
            self.client.send_pieces(data, self.size if len(data) <= LARGE else 511)
        else:
            self.client.send(data)

    def wait_for_354(self):
        while True:
            reply = self.client.reply()
            self.replies.append(reply)
            if reply.code == 354:
                return

    def begin(self):
        client, stage = self.client, self.case["stage"]
        if self.how == "starttls":
            starttls(client, trusting(), hello="client.sender.test")
        else:
            if self.how:
                wrap(client, trusting())
            client.expect(220)
            client.command("EHLO client.sender.test", 250)
        client.command(f"MAIL FROM:<{self.carrier}>", 250)
        if stage == "after-rejected-rcpt":
            client.command("RCPT TO:<bob@evil.test>", 554)
            client.command("RCPT TO:<reject@example.com>", 550)
            return
        client.command("RCPT TO:<bob@example.com>", 250)
        if stage == "data":
            client.command("DATA", 354)
        else:
            assert stage == "commands", stage

    def finish(self):
        """What else comes, to the end of the connection: QUIT brings it where it is not expected
        to be closed; where it is, waiting for it is the proof."""
        client = self.client
        if self.case.get("fin"):
            client.half_close()
        elif not self.expect.get("close"):
            client.send("QUIT\r\n")
        self.replies += client.replies()

    def run(self):
        self.begin()
        try:
            for data, optional in self.parts():
                if optional is not None:
                    self.wait_for_354()
                self.send(data)
            self.finish()
        except (Closed, OSError):
            pass  # before all was sent
        self.client.close()
        return self


def matches(code, pattern):
    """Is the code of the class that the case wants? "none": there is no reply."""
    wanted = pattern.split("|")
    if code is None:
        return "none" in wanted
    return any(str(code) == word or word[1:] == "xx" and str(code)[0] == word[0]
               for word in wanted)


def complaints(run, messages):
    """What is wrong with one run; messages: how many of its own are committed."""
    case, expect = run.case, run.expect
    lawful = {expect["messages"], *([case["alt_messages"]] if "alt_messages" in case else [])}
    if messages not in lawful:
        yield f"{messages} messages"
    first = run.replies[0].code if run.replies else None
    if not matches(first, expect.get("reply", "none|2xx|4xx|5xx")) and \
            messages == expect["messages"]:
        yield f"reply {first}"
    codes = [reply.code for reply in run.replies]
    if codes.count(250) and not messages and case["stage"] == "data":
        yield f"250 without a message: {codes}"


def check_record(backend, forbidden):
    """The backend saw nothing that is not canonical, and no sender from inside a message."""
    for message in backend.messages():
        assert (message["bare_cr"], message["bare_lf"], message["nul"]) == (0, 0, 0), message
        body = message["body"].replace(b"\r\n", b"")
        assert b"\r" not in body and b"\n" not in body and b"\0" not in body
    assert backend.violations() == []
    senders = [event["line"] for event in backend.events("command")
               if event["line"].upper().startswith("MAIL")]
    assert [line for line in senders if any(name in line for name in forbidden)] == []


def run_all(gatepost, backend, size, expect_of, how=None):
    """Runs all cases side by side; returns the runs and what is wrong with them."""
    def run(case):
        return Run(gatepost, case, size, expect_of(case), how).run()
    only_small = how or size == 1
    tried = [case for case in cases() if "fault" not in case and
             (not only_small or len(expand(case["bytes"])) <= SMALL)]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        runs = list(pool.map(run, tried))
    gatepost.wait_idle()
    senders = [message["mail_from"] for message in backend.messages()]
    wrong = {}
    for one in runs:
        count = sum(senders.count(name) for name in (one.carrier, one.second, one.smuggled))
        found = list(complaints(one, count))
        if found:
            wrong[one.case["id"]] = found
    return runs, wrong


def reference(data):
    """The message of a canonical stream, by a slow and obvious way."""
    whole = b"\r\n" + data
    content = whole[:whole.index(b"\r\n.\r\n") + 2]
    return content.replace(b"\r\n.", b"\r\n")[2:]


@pytest.fixture(scope="module", params=["strict", "lenient", "chunks"])
def backend(request):
    options = ["--lenient-eod"] if request.param == "lenient" else []
    extensions = "PIPELINING,SIZE,8BITMIME,CHUNKING" if request.param == "chunks" else None
    with Backend(*options, extensions=extensions) as started:
        yield started
        if request.param == "chunks":
            assert started.messages() and not started.commands("DATA")


@pytest.fixture(scope="module")
def gatepost(backend):
    config = {"limits": {"message_size": MESSAGE_SIZE, "connections_per_client": 0}}
    with Gatepost(config, backend=backend) as started:
        yield started


@pytest.mark.parametrize("size", ["whole", "given", 7, 1])
def test_cases(gatepost, backend, size):
    before = len(backend.messages())
    runs, wrong = run_all(gatepost, backend, size, lambda case: case["expect"])
    assert wrong == {}
    check_record(backend, ["smuggled", "evil.test"])
    # Byte for byte, behind our own field.
    bodies = {message["mail_from"]: message["body"] for message in backend.messages()[before:]}
    compared = 0
    for run in runs:
        if run.case["group"] == "canonical" and run.carrier in bodies and \
                "@@" not in run.case["bytes"]:
            assert bodies[run.carrier].startswith(b"Received: from client.sender.test")
            field, _, rest = bodies[run.carrier].partition(b" +0000\r\n")
            assert rest == reference(next(run.parts())[0]), run.case["id"]
            if "body" in run.case:
                assert rest.endswith(run.case["body"].encode("latin-1")), run.case["id"]
            compared += 1
    assert compared >= 20
    # Every transaction has its record, and only those that the backend has are accepted.
    records = gatepost.log_records("transaction")
    assert len({record["uuid"] for record in records}) == len(records)
    accepted = sorted(record["mail_from"] for record in records if record["outcome"] == "accepted")
    assert accepted == sorted(message["mail_from"] for message in backend.messages())


# ---- Under TLS

@pytest.fixture(scope="module")
def secured(backend, tmp_path_factory):
    pair = Authority(tmp_path_factory.mktemp("certificates")).make("mx", ["mx.example.net"])
    listeners = [{"name": mode, "bind": ["127.0.0.1:0"], "proxy": "required",
                  "trusted_proxies": ["127.0.0.1"],
                  "tls": {"mode": mode, "certificate": str(pair.certificate), "key": str(pair.key)}}
                 for mode in ("starttls", "implicit")]
    config = {"listeners": listeners,
              "limits": {"message_size": MESSAGE_SIZE, "connections_per_client": 0}}
    with Gatepost(config, backend=backend) as started:
        yield started


@pytest.mark.parametrize("size", ["given", 1])
@pytest.mark.parametrize("how", ["starttls", "implicit"])
def test_cases_over_tls(secured, backend, how, size):
    """A record of TLS is a segment: where one ends says no more than where the other does."""
    _, wrong = run_all(secured, backend, size, lambda case: case["expect"], how)
    assert wrong == {}
    check_record(backend, ["smuggled", "evil.test"])


def starttls_cases():
    lines = VECTORS.read_text().splitlines()
    return [case for case in map(json.loads, lines) if case.get("needs") == "STARTTLS"]


def go_on(client, case):
    """The replies to what the case says comes then."""
    for step in case["then"].split("; ") if "then" in case else ():
        if step == "tls-handshake":
            wrap(client, trusting())
        elif step.startswith("TCP FIN"):
            client.half_close()
        else:
            yield client.command(step)


@pytest.mark.parametrize("case", starttls_cases(), ids=lambda case: case["id"])
def test_starttls_case(secured, backend, case):
    before = len(backend.messages())
    with Client(("127.0.0.1", secured.port("starttls")), header=proxy_v2()) as client:
        if case["stage"] == "data":
            starttls(client, trusting())
            client.envelope("carrier@sender.test", ["bob@example.com"])
            client.command("DATA", 354)
        else:
            client.hello()
        client.send(case["bytes"])
        if case["expect"]["reply"] != "none":
            first = client.reply()
            assert matches(first.code, case["expect"]["reply"])
            last = first if case["bytes"].count("\r\n") == 1 else None
            try:
                while last is None or last.code not in (220, 501, 503):
                    last = client.reply()
                # What was said before TLS is not known behind it.
                if last.code == 220:
                    assert [reply.code for reply in go_on(client, case)][-1] == 503
            except Closed:
                pass
        else:
            list(go_on(client, case))
            assert client.is_ended()
    secured.wait_idle()
    assert len(backend.messages()) == before
    check_record(backend, ["injected@evil.test"])


def test_what_is_left_out_is_not_offered(gatepost):
    with Client(gatepost.address) as client:
        offered = {line.split()[0] for line in client.hello().lines[1:]}
        assert not offered & NOT_OFFERED
        assert client.command("STARTTLS").code in (500, 502, 503)
        client.quit()
    left_out = [case for case in map(json.loads, VECTORS.read_text().splitlines())
                if not is_possible(case)]
    assert {case["group"] for case in left_out} == {"bdat", "starttls"}


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("how", ["listener", "network"])
def test_normalising(lenient, how):
    """Lone CR and LF become CR LF; the end of data stays what it is."""
    listener = {"bare_newline": "normalise"} if how == "listener" else \
        {"normalise_networks": ["127.0.0.1"]}
    config = {"limits": {"message_size": MESSAGE_SIZE, "connections_per_client": 0}}
    options = ["--lenient-eod"] if lenient else []
    with Backend(*options) as backend, \
            Gatepost(config, backend=backend, listener=listener) as gatepost:
        def expect_of(case):
            return case.get("expect_normalize", case["expect"])
        for size in ("whole", 7) if how == "listener" else ("given",):
            runs, wrong = run_all(gatepost, backend, size, expect_of)
            assert wrong == {}
            allowed = {run.smuggled for run in runs if run.case.get("true_eod")}
            forbidden = {run.smuggled for run in runs} - allowed
            check_record(backend, forbidden)
            bodies = {m["mail_from"]: m["body"] for m in backend.messages()}
            for run in runs:
                if run.carrier not in bodies or "expect_normalize" not in run.case or \
                        run.case.get("true_eod"):
                    continue
                # What is not a line end, a dot or a NUL is as it came.
                data = (b"\r\n" + next(run.parts())[0]).partition(b"\r\n.\r\n")[0]
                came = bodies[run.carrier].partition(b" +0000\r\n")[2]
                assert re.sub(rb"[\r\n.\0]", b"", came) == re.sub(rb"[\r\n.\0]", b"", data), \
                    run.case["id"]


def test_network_that_normalises_is_not_everybody():
    listener = {"normalise_networks": ["127.0.0.2"]}
    with Backend() as backend, Gatepost(backend=backend, listener=listener) as gatepost:
        for source, code in ((None, 550), ("127.0.0.2", 250)):
            with Client(gatepost.address, source=source) as client:
                client.hello()
                client.envelope()
                client.command("DATA", 354)
                client.send(b"Subject: x\r\n\r\na\nb\rc\r\n.\r\n")
                client.expect(code)
        assert [m["body"].endswith(b"a\r\nb\r\nc\r\n") for m in backend.messages()] == [True]


@pytest.mark.parametrize("size", ["whole", 7])
def test_backend_that_refuses_in_the_middle(size):
    """The rest of the message stays a message; the refusal is told at its end."""
    case = next(case for case in cases() if "fault" in case)
    fault = "body:reply-close=554 5.6.0 Stop it:65536"
    with Backend(faults=[fault]) as backend, Gatepost(backend=backend) as gatepost:
        run = Run(gatepost, case, size, case["expect"]).run()
        assert [reply.code for reply in run.replies] == [554, 221]
        assert "Stop it" in run.replies[0].text
        assert backend.messages() == []
        check_record(backend, ["smuggled"])
        assert gatepost.wait_log("transaction")["outcome"] == "refused"


# ---- Beside the cases of the file

@pytest.mark.parametrize("behind", [b"", b"MAIL FROM:<next@sender.test>\r\n"])
def test_lone_line_end_at_the_very_end_of_the_bytes(gatepost, behind):
    """A CR that ends a segment is judged by what comes later."""
    for end in (b"body\r", b"body\r\n.\r", b"body\r\n."):
        with Client(gatepost.address) as client:
            client.hello()
            client.envelope("tail@sender.test")
            client.command("DATA", 354)
            client.send(b"Subject: x\r\n\r\n" + end)
            assert client.is_silent(0.05)
            client.send(b"x\r\n.\r\n" + behind)
            # A CR with an x behind it is bare; a dot with an x behind it is content.
            assert client.reply().code == (250 if end.endswith(b".") else 550)


def test_refused_for_line_ends_is_closed_and_what_follows_is_not_run(gatepost, backend):
    with Client(gatepost.address) as client:
        client.hello()
        client.envelope("closed@sender.test")
        client.command("DATA", 354)
        client.send(b"Subject: x\r\n\r\na\nb\r\n.\r\nMAIL FROM:<after@sender.test>\r\n"
                    b"RCPT TO:<b@example.com>\r\nDATA\r\n")
        replies = client.replies()
        assert [reply.code for reply in replies] == [550]
        assert replies[0].enhanced == "5.5.2"
    record = gatepost.wait_log("transaction", mail_from="closed@sender.test")
    assert (record["outcome"], record["by"]) == ("refused", "edge")
    uuid = record["uuid"].rpartition(".")[0]
    assert gatepost.wait_log("connection", uuid=uuid)["ending"] == "bare_newline"
    assert "after@sender.test" not in str(backend.commands("MAIL"))


def test_transactions_one_behind_the_other_in_one_segment(gatepost, backend):
    """RFC 2920: the end of a message, MAIL, RCPT and DATA are a legal group."""
    with Client(gatepost.address) as client:
        client.hello()
        client.send("MAIL FROM:<p1@sender.test>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
        client.expect(250), client.expect(250), client.expect(354)
        for number in range(2, 8):
            client.send(f"Subject: {number}\r\n\r\nx\r\n.\r\nMAIL FROM:<p{number}@sender.test>\r\n"
                        "RCPT TO:<b@example.com>\r\nDATA\r\n")
            client.expect(250), client.expect(250), client.expect(250), client.expect(354)
        client.send(".\r\nQUIT\r\n")
        client.expect(250), client.expect(221)
    senders = [m["mail_from"] for m in backend.messages() if m["mail_from"].startswith("p")]
    assert senders == [f"p{number}@sender.test" for number in range(1, 8)]


def test_pipelined_data_with_its_body_is_closed(gatepost, backend):
    """The body comes before the 354: it could as well be commands."""
    with Client(gatepost.address) as client:
        client.hello()
        client.envelope("early@sender.test")
        client.send(b"DATA\r\nSubject: x\r\n\r\nx\r\n.\r\n")
        assert [reply.code for reply in client.replies()] == [554]
    assert "early@sender.test" not in [m["mail_from"] for m in backend.messages()]


def test_client_that_is_gone_before_the_dot_is_forwarded(gatepost, backend):
    """The whole message, and a reset right behind it: no answer could be heard."""
    before = len(backend.messages())
    for _ in range(20):
        client = Client(gatepost.address)
        client.hello()
        client.envelope("gone@sender.test")
        client.command("DATA", 354)
        client.send(b"Subject: x\r\n\r\nhalf of it")
        time.sleep(0.002)
        client.reset()
    gatepost.wait_idle()
    assert len(backend.messages()) == before
    outcomes = [r["outcome"] for r in gatepost.log_records("transaction",
                                                           mail_from="gone@sender.test")]
    assert outcomes == ["aborted"] * 20
