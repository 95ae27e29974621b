"""Log and trace: complete, one record each, and true whatever a client says."""

import json
import random
import re
import signal
import time

import pytest
from backend import Backend
from client import Client, Closed, proxy_v1, proxy_v2
from dns import NameServer
from gatepost import NOWHERE, Gatepost, run
from patience import tight, wait_until

# What a client may say as its name or inside an address: each must stay inside its field.
HOSTILE = [
    'quote".example', "back\\slash", "a]: reject: x[198.51.100.66]", '","event":"forged', "{}[]:,",
    "$(reboot)", "%s%n%x", "<script>", "null", "\\u0000", "a=b c=d", "x" * 250, "\x7f", "\xff\xfe",
    "caf\xc3\xa9", "\xe2\x80\xae", "\xc2\x9b31m", "\xed\xa0\x80", "\xf4\x90\x80\x80",
]
CONTROL = ["\x1b[31mred", "bell\x07", "tab\there", "nul\x00nul", "cr\rcr", "\x08\x08"]
QUIET = {"limits": {"connections_per_client": 0, "errors": 1000, "unknown_commands": 1000}}


@pytest.fixture(scope="module")
def backend():
    with Backend() as started:
        yield started


def lines_of(path):
    """Whole lines of a file as bytes; nothing may stand behind the last line end."""
    data = path.read_bytes()
    assert data.endswith(b"\n")
    return data[:-1].split(b"\n")


def check_json(lines):
    """Each line is one object of JSON in ASCII or UTF-8 without control characters."""
    for line in lines:
        assert not re.search(rb"[\x00-\x1f\x7f]", line), line
        text = line.decode("utf-8")
        assert not re.search("[\x80-\x9f]", text), line  # C1: terminals obey some of them
        record = json.loads(text)
        assert isinstance(record, dict)
    return [json.loads(line) for line in lines]


def hostile_session(gatepost, text, header=b""):
    """Says it wherever something can be said. The server may close; it may not break."""
    with Client(gatepost.address, header) as client:
        client.expect(220)
        try:
            client.command(f"HELO {text}")
            client.command(f"EHLO {text}")
            client.command(f"MAIL FROM:<{text}@example.net>")
            client.command("RSET", 250)
            client.command('MAIL FROM:<"' + text.replace('"', '\\"') + '"@example.net> SMTPUTF8')
            client.command("RSET", 250)
            client.command("MAIL FROM:<a@example.net>")
            client.command(f"RCPT TO:<{text}@example.com>")
            client.command('RCPT TO:<"' + text.replace('"', '\\"') + '"@example.com>')
            client.command(f"RCPT TO:<b@example.com> ORCPT=rfc822;{text}")
            client.command(f"RCPT TO:<b@{text}.example>")
            client.command(text)
            client.command(f"VRFY {text}")
            if client.command("RCPT TO:<b@example.com>").code == 250:
                client.data(b"Subject: " + text.encode("latin-1") + b"\r\n\r\n")
            client.quit()
        except (Closed, ConnectionError):
            pass


@pytest.mark.parametrize("form", ["json", "postfix"])
def test_nothing_that_is_said_leaves_its_field(backend, form):
    config = {**QUIET, "log": {"format": form},
              "plans": {"any": {"connect": [{"client_acl": {"reject": ["203.0.113.66"]}}],
                                "rcpt": ["relay"]}}}
    with Gatepost(config, backend=backend, proxy="required",
                  listener={"plan": "any"}) as gatepost:
        for text in HOSTILE + CONTROL:
            if "\r" not in text:
                hostile_session(gatepost, text, proxy_v1())
        hostile_session(gatepost, "x", proxy_v1(("203.0.113.66", 1)))
        for junk in HOSTILE + CONTROL:
            with Client(gatepost.address, (junk + "\r\n").encode("latin-1")) as client:
                client.rest()
        gatepost.wait_idle()
        lines = lines_of(gatepost.log_file)
        sessions = len(HOSTILE) + len(CONTROL)
        if form == "json":
            records = check_json(lines)
            assert {record["event"] for record in records} <= {
                "listening", "started", "backend_learned", "connect", "reject", "transaction",
                "connection", "proxy_refused"}
            ended = [record for record in records if record["event"] == "connection"]
            assert len(ended) == sessions
            # What was said is what is read, byte for byte.
            said = {record["hello"].encode("utf-8", "surrogateescape") for record in ended
                    if record["hello"]}
            for text in HOSTILE:
                raw = text.encode("latin-1")
                shown = {raw, raw.decode("latin-1").encode("utf-8")}
                is_name = " " not in text and "\x7f" not in text  # not a syntax error
                assert bool(shown & said) == is_name, text
        else:
            known = re.compile(rb"[A-Z][a-z]{2} [ 1-3]\d \d\d:\d\d:\d\d mx\.example\.net "
                               rb"postfix-gatepost/smtpd\[\d+\]: [\x20-\x7e]+")
            for line in lines:
                assert known.fullmatch(line), line
                # A line is about whom it says first, whatever stands behind it.
                first = re.search(rb"\[([0-9a-f.:]+)\](?=[:,;]| |$)", line.partition(b"]: ")[2])
                assert first is None or first[1] in (b"198.51.100.7", b"203.0.113.66"), line
            assert sum(b"]: disconnect from " in line for line in lines) == sessions
        trace = check_json(lines_of(gatepost.trace_file))
        assert len([line for line in trace if line["remote"]["ip"] != "127.0.0.1"]) == sessions
    # What the backend got is clean as well.
    assert backend.violations() == []


NAMES = {
    "198.51.100.1": (b"mail.example.net", "ok", True),
    "198.51.100.2": (b"other.example.net", "ok", False),
    "198.51.100.3": (3, "none", False),
    "198.51.100.4": (2, "error", False),
    "198.51.100.5": (None, "timeout", False),
    "2001:db8::1": (b"v6.example.net", "ok", True),
}
BAD_NAMES = [b"a\r\nevil", b"a b", b"\x1b[31m", b'quo"te', b"a]: x[203.0.113.9", b"caf\xc3\xa9",
             b"nul\0nul", b"\xff" * 60, b"(comment)", b"a;b", b"<a>", b"x" * 63 + b"." + b"y" * 63,
             b"-", b"under_score"]


@tight
def test_names_of_clients(backend):
    """Reverse look-ups: what they say is kept, confirmed or not, and never believed as text."""
    pointers = {ip: answer for ip, (answer, _, _) in NAMES.items()}
    for number, name in enumerate(BAD_NAMES):
        pointers[f"203.0.113.{number + 1}"] = name + b".example.org"
    addresses = {"mail.example.net": ["198.51.100.1"], "other.example.net": ["198.51.100.99"],
                 "v6.example.net": ["2001:db8::1"]}
    for number, name in enumerate(BAD_NAMES):
        addresses[name + b".example.org"] = [f"203.0.113.{number + 1}"]
    with NameServer(pointers, addresses) as dns:
        config = {**QUIET, "dns": {"reverse": True, "servers": [dns.address], "timeout": "1s",
                                   "tries": 1}}
        with Gatepost(config, backend=backend, proxy="required") as gatepost:
            clients = {}
            for ip in pointers:
                destination = ("2001:db8::25", 25) if ":" in ip else ("203.0.113.250", 25)
                clients[ip] = Client(gatepost.address, proxy_v2((ip, 7), destination))
                clients[ip].hello()
            time.sleep(1.3)  # longer than the longest look-up
            before = len(backend.messages())
            for client in clients.values():
                assert client.message().code == 250
                client.quit()
            gatepost.wait_idle()
            lines = {line["remote"]["ip"]: line for line in gatepost.trace(len(clients))}
            check_json(lines_of(gatepost.trace_file))
            check_json(lines_of(gatepost.log_file))
            for ip, (answer, status, confirmed) in NAMES.items():
                remote = lines[ip]["remote"]
                name = answer.decode() if isinstance(answer, bytes) else None
                assert (remote["host"], remote["host_status"], remote["host_confirmed"]) == (
                    name, status, confirmed), ip
            for message in backend.messages()[before:]:
                # One Received field, of our words and clean ones; the body begins where it began.
                field, _, rest = message["body"].partition(b"\r\nSubject: test\r\n")
                assert rest == b"\r\ntext\r\n"
                assert re.fullmatch(
                    rb"Received: from client\.example\.net \((unknown|[A-Za-z0-9._-]+) \[[0-9.]+"
                    rb"\]\)\r\n\tby mx\.example\.net \(gatepost\) with ESMTP id [0-9A-F.-]+\r\n"
                    rb"\tfor <b@example\.com>; [\x20-\x7e]+",
                    field.replace(b"IPv6:2001:db8::1", b"1.2.3.4")), field
            confirmed = [m["body"].partition(b"\r\n")[0] for m in backend.messages()[before:]]
            assert sum(b"(mail.example.net [198.51.100.1])" in line for line in confirmed) == 1
            assert not any(b"other.example.net" in line for line in confirmed)


def test_look_ups_delay_nothing(backend):
    with NameServer({"198.51.100.7": None}) as dns:
        config = {"dns": {"reverse": True, "servers": [dns.address], "timeout": "30s"}}
        with Gatepost(config, backend=backend, proxy="required") as gatepost:
            start = time.monotonic()
            with Client(gatepost.address, proxy_v1()) as client:
                client.hello()
                assert client.message().code == 250
                client.quit()
            assert time.monotonic() - start < 15
            assert gatepost.trace()[0]["remote"]["host_status"] == "timeout"


# ---- The trace

ROWS = """uuid remote.ip remote.port remote.host remote.host_status remote.host_confirmed
remote.is_private remote.is_local local.ip local.port local.host proxy.allowed proxy.ip proxy.type
proxy.version proxy.command proxy.local_ip proxy.local_port proxy.tls proxy.authority proxy.alpn
proxy.unique_id proxy.tlvs hello.verb hello.host tls auth relaying notes results transaction
current_line last_response remote_closed early_talker errors tran_count rcpt_count.accept
rcpt_count.tempfail rcpt_count.reject msg_count.accept msg_count.tempfail msg_count.reject
total_bytes start_time transactions events ms ending""".split()
TRANSACTION_ROWS = """uuid mail_from.original mail_from.user mail_from.host mail_from.params rcpt_to
rcpt_count.accept rcpt_count.tempfail rcpt_count.reject data_bytes notes results outcome by backend
server reply""".split()


def has_row(record, name):
    for key in name.split("."):
        if not isinstance(record, dict) or key not in record:
            return False
        record = record[key]
    return True


def check_rows(line):
    assert [name for name in ROWS if not has_row(line, name)] == []
    for transaction in line["transactions"]:
        assert [name for name in TRANSACTION_ROWS if not has_row(transaction, name)] == []


def test_every_row_is_in_every_trace(backend):
    documented = re.findall(r"^\| `([\w.]+)` \|", run("-d", "connection").stdout, re.M)
    rows = documented[:documented.index("start_time") + 1]
    assert set(rows) >= {name for name in ROWS if "_count." not in name} - {
        "transactions", "events", "ms", "ending"}
    with Gatepost(QUIET, backend=backend, proxy="optional",
                  trusted=["127.0.0.1"]) as gatepost:
        for header, source in ((proxy_v1(), None), (proxy_v2(), None), (b"", "127.0.0.2")):
            with Client(gatepost.address, header, source=source) as client:
                client.hello()
                client.message()
                client.quit()
        Client(gatepost.address, source="127.0.0.2").close()
        for line in gatepost.trace(4):
            check_rows(line)
            assert [name for name in rows if not has_row(line, name)] == []


def test_values_of_a_session(backend):
    with Gatepost(QUIET, backend=backend, proxy="required") as gatepost:
        begun = time.time()
        with Client(gatepost.address, proxy_v1(("10.1.2.3", 4000), ("192.0.2.25", 25))) as client:
            client.expect(220)
            client.command("HELO old.example.net", 250)
            client.command("NONSENSE", 500)
            client.command("EHLO [10.1.2.3]", 250)
            client.message("A.B@Example.NET", ["one@Example.COM", "two@example.com"], b"1\r\n22\r\n")
            client.command("MAIL FROM:<c@example.net> SIZE=12", 250)
            client.command("RCPT TO:<reject@example.com>", 550)
            client.command("RCPT TO:<defer@example.com>", 450, 451)
            client.command("RSET", 250)
            client.command("MAIL FROM:<>", 250)
            client.command("RCPT TO:<three@example.com>", 250)
            client.command("noop  Some Text", 250)
            client.half_close()
            assert client.is_ended()
        line = gatepost.trace()[0]
        check_rows(line)
        assert re.fullmatch(r"[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}",
                            line["uuid"])
        assert (line["listener"], line["remote"]["ip"], line["remote"]["port"]) == (
            "mx", "10.1.2.3", 4000)
        assert (line["remote"]["is_private"], line["remote"]["is_local"]) == (True, False)
        assert (line["local"]["ip"], line["local"]["port"]) == ("192.0.2.25", 25)
        assert line["local"]["host"] == "mx.example.net"
        assert line["hello"] == {"verb": "EHLO", "host": "[10.1.2.3]"}
        assert line["tls"] is None and line["auth"] is None
        assert line["relaying"] is False
        assert line["transaction"] is None
        assert line["current_line"] == "noop  Some Text\r\n"
        assert line["last_response"] == "250 2.0.0 Ok\r\n"
        assert line["remote_closed"] is True
        assert (line["errors"], line["tran_count"]) == (1, 3)
        assert line["rcpt_count"] == {"accept": 3, "tempfail": 1, "reject": 1}
        assert line["msg_count"]["accept"] == 1
        assert line["total_bytes"] == 7
        assert abs(line["start_time"] / 1000 - begun) < 30
        assert line["ending"] == "client_closed"
        first, second, third = line["transactions"]
        assert [t["uuid"] for t in line["transactions"]] == [
            f"{line['uuid']}.{n}" for n in (1, 2, 3)]
        assert first["mail_from"]["original"] == "<A.B@Example.NET>"
        assert (first["mail_from"]["user"], first["mail_from"]["host"]) == ("A.B", "example.net")
        assert [r["host"] for r in first["rcpt_to"]] == ["example.com"] * 2
        assert (first["outcome"], first["by"], first["data_bytes"]) == ("accepted", "backend", 7)
        assert first["backend"] == "mta"
        assert first["server"] == f"127.0.0.1:{backend.port}"
        assert first["reply"].startswith("250 2.0.0")
        assert second["mail_from"]["params"] == {"size": 12}
        assert (second["outcome"], second["by"]) in (("refused", "backend"),
                                                     ("deferred", "backend"))
        assert second["rcpt_count"] == {"accept": 0, "tempfail": 1, "reject": 1}
        assert (third["outcome"], third["by"]) == ("aborted", "client")
        assert third["mail_from"]["original"] == "<>"
        # The backend's refusals are decisions as well.
        assert [(e["stage"], e["check"], e["verdict"], e["reply"][:3]) for e in line["events"]] == [
            ("RCPT", None, "reject", "550"), ("RCPT", None, "defer", second["reply"][:3])]
        assert all(0 <= event["ms"] <= line["ms"] for event in line["events"])


def test_decisions_of_checks_are_events(backend):
    config = {**QUIET, "plans": {"edge": {
        "connect": [{"client_acl": {"reject": ["198.51.100.66"], "defer": ["198.51.100.67"]}}],
        "hello": [{"hello": {"fqdn": "reject", "hold": False}}], "rcpt": ["relay"]}}}
    with Gatepost(config, backend=backend, proxy="required",
                  listener={"plan": "edge"}) as gatepost:
        for address, code in (("198.51.100.66", 554), ("198.51.100.67", 450)):
            with Client(gatepost.address, proxy_v1((address, 1))) as client:
                client.hello("a.example.net")
                client.command("MAIL FROM:<a@example.net>", 250)
                client.command("RCPT TO:<b@example.com>", code)  # held until here
                client.quit()
        with Client(gatepost.address, proxy_v1(("198.51.100.1", 1))) as client:
            client.expect(220)
            client.command("EHLO nodot", 504)
            client.command("EHLO a.example.net", 250)
            client.command("MAIL FROM:<a@example.net>", 250)
            client.command("RCPT TO:<b@elsewhere.example>", 554)
            client.quit()
        by_ip = {line["remote"]["ip"]: line for line in gatepost.trace(3)}
        events = [(e["stage"], e["check"], e["verdict"], e["reply"][:9])
                  for e in by_ip["198.51.100.1"]["events"]]
        assert events == [("HELO", "hello", "reject", "504 5.5.2"),
                          ("RCPT", "relay", "reject", "554 5.7.1")]
        for address, verdict, code in (("198.51.100.66", "reject", "554"),
                                       ("198.51.100.67", "defer", "450")):
            assert [(e["stage"], e["check"], e["verdict"], e["reply"][:3])
                    for e in by_ip[address]["events"]] == [
                ("CONNECT", "client_acl", verdict, code),
                ("RCPT", "client_acl", verdict, code)]
            transaction = by_ip[address]["transactions"][0]
            assert transaction["by"] == "edge"
            assert transaction["outcome"] == {"reject": "refused", "defer": "deferred"}[verdict]
        rejects = gatepost.log_records("reject", client="198.51.100.1")
        assert [(r["stage"], r["check"], r["mail_from"], r["rcpt"]) for r in rejects] == [
            ("HELO", "hello", "", ""), ("RCPT", "relay", "a@example.net", "b@elsewhere.example")]


@pytest.mark.parametrize("fault,outcome,by,ending", [
    ([], "accepted", "backend", "quit"),
    (["dot:reply=554 5.7.1 no"], "refused", "backend", "quit"),
    (["dot:reply=451 4.7.1 no"], "deferred", "backend", "quit"),
    (["dot:reset"], "unknown", "backend", "quit"),
])
def test_outcomes_in_the_trace(backend, fault, outcome, by, ending):
    with Gatepost(QUIET, backend=backend) as gatepost:
        gatepost.wait_idle()
        backend.set_faults(fault)
        with Client(gatepost.address) as client:
            client.hello()
            reply = client.message()
            client.quit()
        backend.set_faults([])
        line = gatepost.trace()[0]
        check_rows(line)
        transaction = line["transactions"][0]
        assert (transaction["outcome"], transaction["by"]) == (outcome, by)
        assert transaction["reply"] == str(reply)
        assert line["ending"] == ending
        counts = {"accepted": "accept", "refused": "reject"}
        assert line["msg_count"] == {"accept": 0, "tempfail": 0, "reject": 0,
                                     counts.get(outcome, "tempfail"): 1}


# ---- Sums

def random_session(gatepost, chance, expected):
    """Commands by chance. Counts in `expected` what the client was told."""
    with Client(gatepost.address) as client:
        client.hello()
        is_open = has_rcpt = False
        expected["sessions"] += 1
        for _ in range(chance.randrange(25)):
            what = chance.choice(["mail", "rcpt", "rcpt", "bad", "reject", "defer", "data", "rset",
                                  "noop", "nonsense", "ehlo", "lone"])
            if what == "mail":
                if client.command("MAIL FROM:<a@example.net>").code == 250:
                    expected["transactions"] += 1
                    is_open = True
                    has_rcpt = False
            elif what in ("rcpt", "bad", "reject", "defer"):
                to = {"rcpt": "b@example.com", "bad": "b@elsewhere.example",
                      "reject": "reject@example.com", "defer": "defer@example.com"}[what]
                code = client.command(f"RCPT TO:<{to}>").code
                if is_open:
                    kind = {2: "accept", 4: "tempfail", 5: "reject"}[code // 100]
                    expected[f"rcpt_{kind}"] += 1
                    has_rcpt = has_rcpt or code == 250
            elif what in ("data", "lone"):
                if client.command("DATA").code == 354:
                    client.send(b"x\ny\r\n.\r\n" if what == "lone" else b"x\r\n.\r\n")
                    code = client.reply().code
                    expected["msg_accept" if code == 250 else "msg_reject"] += 1
                    is_open = False
                    if what == "lone":
                        return  # is closed
            else:
                reply = client.command({"rset": "RSET", "noop": "NOOP", "nonsense": "XYZZY",
                                        "ehlo": "EHLO a.example.net"}[what])
                if reply.code == 554:
                    return  # behind a refused DATA it could be the body: is closed
                is_open = is_open and what not in ("rset", "ehlo")
        way = chance.choice(["quit", "close", "reset"])
        {"quit": client.quit, "close": client.close, "reset": client.reset}[way]()


def test_records_add_up(backend):
    """Every accepted MAIL has one record with one outcome; sums are those the clients counted."""
    chance = random.Random(20)
    names = ["sessions", "transactions", "rcpt_accept", "rcpt_tempfail", "rcpt_reject",
             "msg_accept", "msg_reject"]
    expected = dict.fromkeys(names, 0)
    before = len(backend.messages())
    with Gatepost(QUIET, backend=backend) as gatepost:
        for _ in range(80):
            random_session(gatepost, chance, expected)
        gatepost.wait_idle()
        sessions = gatepost.log_records("connection")
        transactions = gatepost.log_records("transaction")
        trace = gatepost.trace(expected["sessions"])
    assert len(sessions) == len(trace) == expected["sessions"]
    assert len(transactions) == expected["transactions"]
    assert len({record["uuid"] for record in transactions}) == len(transactions)
    for name in names[1:5]:
        assert sum(record[name] for record in sessions) == expected[name], name
    outcomes = [record["outcome"] for record in transactions]
    assert outcomes.count("accepted") == expected["msg_accept"] == \
        sum(record["msg_accept"] for record in sessions) == len(backend.messages()) - before
    assert set(outcomes) <= {"accepted", "refused", "deferred", "aborted"}
    traced = {t["uuid"]: t["outcome"] for line in trace for t in line["transactions"]}
    assert traced == {record["uuid"]: record["outcome"] for record in transactions}
    summaries = {record["uuid"]: record for record in sessions}
    for line in trace:
        record = summaries[line["uuid"]]
        assert record["transactions"] == line["tran_count"] == len(line["transactions"])
        assert record["errors"] == line["errors"]
        assert record["ending"] == line["ending"]
        check_rows(line)


def test_fields_of_the_records(backend):
    """As documented: every field of a client's records, in every one of them."""
    page = run("-d", "log-events").stdout
    fields = {}
    for part in page.split("\n## ")[1:]:
        match = re.search(r"^- Fields: (.*(?:\n  .*)*)", part, re.M)
        fields[part.splitlines()[0]] = re.findall(r"`(\w+)`", match[1]) if match else []
    with Gatepost(QUIET, backend=backend, proxy="required") as gatepost:
        with Client(gatepost.address, proxy_v1()) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net>", 250)
            client.command("RCPT TO:<b@elsewhere.example>", 554)
            client.command("RCPT TO:<b@example.com>", 250)
            client.data()
            client.quit()
        with Client(gatepost.address, b"PROXY UNKNOWN\r\n") as client:
            client.hello()
            client.quit()
        with Client(gatepost.address, b"x\r\n") as client:
            client.rest()
        gatepost.wait_idle()
        seen = set()
        for record in gatepost.log_records():
            names = list(record)
            assert names[:3] == ["time", "level", "event"]
            assert set(names[3:]) <= set(fields[record["event"]]), record
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])
            seen.add(record["event"])
            if record["event"] in ("connection", "transaction", "reject", "connect"):
                assert names[3:] == fields[record["event"]]
        assert seen >= {"listening", "started", "connect", "reject", "transaction", "connection",
                        "checker", "proxy_refused"}


@pytest.mark.parametrize("level,present", [("info", {"connection", "transaction"}),
                                           ("warning", {"backend_failed"}),
                                           ("error", set())])
def test_levels(level, present):
    config = {"log": {"level": level}, "timeouts": {"backend_connect": "200ms"}}
    with Gatepost(config, backend=NOWHERE) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net>", 250)
            client.command("RCPT TO:<b@example.com>", 451)
            client.quit()
        gatepost.trace(1 if level == "info" else 2)  # the start's probe of the port is one
        events = {record["event"] for record in gatepost.log_records()}
        assert present <= events
        rank = ["debug", "info", "warning", "error"]
        assert all(rank.index(record["level"]) >= rank.index(level)
                   for record in gatepost.log_records())


def test_log_that_cannot_be_written_stops_nothing(backend):
    config = {"log": {"level": "warning", "target": "/dev/full", "trace": "/dev/full"}}
    with Gatepost(config, backend=backend) as gatepost:
        before = len(backend.messages())
        for _ in range(5):
            with Client(gatepost.address) as client:
                client.hello()
                assert client.message().code == 250
                client.quit()
        assert len(backend.messages()) == before + 5


# ---- Signals

def test_hup_opens_log_and_trace_anew(backend):
    with Gatepost(QUIET, backend=backend) as gatepost:
        def session(number):
            with Client(gatepost.address) as client:
                client.hello(f"client{number}.example.net")
                client.quit()
            gatepost.wait_idle()
        session(1)
        with Client(gatepost.address) as lasting:
            lasting.hello("lasting.example.net")
            for path in (gatepost.log_file, gatepost.trace_file):
                path.rename(path.with_suffix(".old"))
            gatepost.signal(signal.SIGHUP)
            wait_until(lambda: gatepost.log_file.exists() and gatepost.trace_file.exists())
            assert lasting.message().code == 250
            lasting.quit()
        session(3)
        hellos = [record["hello"] for record in gatepost.log_records("connection")]
        assert hellos == ["lasting.example.net", "client3.example.net"]
        assert [line["hello"]["host"] for line in gatepost.trace(2)] == hellos
        old = gatepost.trace_file.with_suffix(".old").read_text().splitlines()
        assert [json.loads(line)["hello"]["host"] for line in old] == ["client1.example.net"]


def test_hup_without_a_place_goes_on_with_the_old_file(backend):
    with Gatepost(QUIET, backend=backend) as gatepost:
        trace = gatepost.trace_file
        moved = trace.with_suffix(".old")
        trace.rename(moved)
        trace.mkdir()
        gatepost.signal(signal.SIGHUP)
        gatepost.wait_log("config_notice")
        with Client(gatepost.address) as client:
            client.hello()
            client.quit()
        gatepost.wait_idle()
        assert len(moved.read_text().splitlines()) == 1
        trace.rmdir()


def ended(gatepost):
    """Waits for the end; the reason that the log gives."""
    gatepost.wait_for_exit()
    return gatepost.log_records("stopped")[-1]["reason"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_term_tells_sessions_and_ends(backend, number):
    """Idle ones get 421; a message whose end the backend has is waited for."""
    with Gatepost(QUIET, backend=backend) as gatepost:
        gatepost.wait_idle()
        backend.set_faults(["dot:delay=800"])
        before = len(backend.messages())
        idle, busy, half = (Client(gatepost.address) for _ in range(3))
        for client in (idle, busy, half):
            client.hello()
        busy.envelope()
        busy.command("DATA", 354)
        struck = backend.struck()
        busy.send(b"x\r\n.\r\n")
        half.envelope("half@example.net")
        half.command("DATA", 354)
        half.send(b"Subject: half of")
        backend.wait_struck(struck)
        begun = time.monotonic()
        gatepost.signal(number)
        for client in (idle, half):
            assert [reply.code for reply in client.replies()] == [421]
            client.close()
        with pytest.raises(OSError):
            Client(gatepost.address).expect(220)
        assert [reply.code for reply in busy.replies()] == [250, 421]
        busy.close()
        assert ended(gatepost) == ("terminated" if number == signal.SIGTERM else "interrupted")
        assert time.monotonic() - begun < 15
        backend.set_faults([])
        assert len(backend.messages()) == before + 1
        outcomes = sorted(r["outcome"] for r in gatepost.log_records("transaction"))
        assert outcomes == ["accepted", "deferred"]
        assert len(gatepost.trace(3)) == 3


def is_refused(address):
    try:
        Client(address).close()
    except OSError:
        return True
    return False


def test_usr1_lets_sessions_end_by_themselves(backend):
    with Gatepost(QUIET, backend=backend) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            gatepost.signal(signal.SIGUSR1)
            wait_until(lambda: is_refused(gatepost.address))
            assert client.message().code == 250
            assert gatepost.is_running()
            client.quit()
        assert ended(gatepost) == "drained"


def test_term_after_usr1_does_not_wait(backend):
    with Gatepost(QUIET, backend=backend) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            gatepost.signal(signal.SIGUSR1)
            wait_until(lambda: is_refused(gatepost.address))
            gatepost.signal(signal.SIGTERM)
            assert [reply.code for reply in client.replies()] == [421]
        assert ended(gatepost) == "terminated"


def test_term_without_sessions_ends_at_once():
    with Gatepost(QUIET) as gatepost:
        begun = time.monotonic()
        gatepost.signal(signal.SIGTERM)
        assert ended(gatepost) == "terminated"
        assert time.monotonic() - begun < 8  # and not after the 10 seconds that the last ones have


def test_pipe_that_nobody_reads_does_not_end_the_program(backend):
    config = {"log": {"target": "stderr", "level": "error"}}
    with Gatepost(config, backend=backend) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            gatepost.signal(signal.SIGPIPE)
            assert client.message().code == 250
            client.quit()
