"""Who is the client: PROXY headers, trust, health checks, and what is granted to whom."""

import concurrent.futures
import json
import time
from pathlib import Path

import pytest
from backend import Backend
from client import (CLIENT, LOCAL, SERVER, SIGNATURE, TCP4, TLV_ALPN, TLV_AUTHORITY, TLV_NOOP,
                    TLV_UNIQUE_ID, UDP4, UNIX_DGRAM, UNIX_STREAM, UNSPEC, Client, proxy_v1,
                    proxy_v2, proxy_v2_local, tlv)
from gatepost import Gatepost, run
from patience import tight

VECTORS = Path(__file__).parent.parent / "vectors"
UNTRUSTED = "127.0.0.2"
CHECKER = "127.0.0.3"
TRUSTED = ["127.0.0.1", "::1"]
HEADERS = {
    "v1-tcp4": proxy_v1(),
    "v1-tcp6": proxy_v1(("2001:db8::7", 40007), ("2001:db8::25", 25)),
    "v2-tcp4": proxy_v2(),
    "v2-tcp6": proxy_v2(("2001:db8::7", 40007), ("2001:db8::25", 25)),
    "v2-tlvs": proxy_v2(tlvs=[tlv(TLV_NOOP, b"\0" * 9), tlv(TLV_UNIQUE_ID, b"id-7"),
                              tlv(TLV_AUTHORITY, b"mx.example.com"), tlv(TLV_ALPN, b"smtp"),
                              tlv(0xe4, b"\x01\x02")], crc=True),
}
NO_CLIENT = {
    "v1-unknown": b"PROXY UNKNOWN\r\n",
    "v1-unknown-addresses": b"PROXY UNKNOWN 198.51.100.7 203.0.113.25 40007 25\r\n",
    "v2-local": proxy_v2_local(),
    "v2-local-tcp4": proxy_v2(command=LOCAL),
    "v2-local-tlv": proxy_v2(command=LOCAL, family=UNSPEC, tlvs=[tlv(0xe0, b"x")], crc=True),
    "v2-local-udp4": proxy_v2(command=LOCAL, family=UDP4),
    "v2-unspec": proxy_v2(family=UNSPEC),
    "v2-unix": proxy_v2(("/run/client", 0), ("/run/server", 0), family=UNIX_STREAM),
}
BAD = {
    "smtp": b"EHLO client.example.net\r\n",
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "lower": b"proxy TCP4 198.51.100.7 203.0.113.25 40007 25\r\n",
    "too-long-v1": b"PROXY UNKNOWN " + b"x" * 200,
    "v1-lf": b"PROXY TCP4 198.51.100.7 203.0.113.25 40007 25\n",
    "v1-two-spaces": b"PROXY TCP4  198.51.100.7 203.0.113.25 40007 25\r\n",
    "v2-length": SIGNATURE + b"\x21\x11\xff\xff",
    "v2-length-4097": SIGNATURE + b"\x21\x11\x10\x01",
    "v2-crc": proxy_v2(crc=True)[:-1] + b"\xff",
    "v2-tlv-cut": proxy_v2(tlvs=[b"\x04\0\x09"]),
    "v2-version": SIGNATURE + b"\x31\x11\0\x0c" + b"\0" * 12,
    "udp": proxy_v2(family=UDP4),
    "unix-dgram": proxy_v2(("/a", 0), ("/b", 0), family=UNIX_DGRAM),
}
PROXY, PROXY_WAIT = 1.2, 0.6  # seconds
WITH_RELAY = {"relay": {"domains": ["example.com"], "networks": ["198.51.100.0/24"]}}


def vectors():
    lines = (VECTORS / "proxy-vectors.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def captures():
    folder = VECTORS / "proxy-captures"
    lines = (folder / "expected.txt").read_text().splitlines()
    return {line.split()[0]: (bytes.fromhex((folder / f"{line.split()[0]}.hex").read_text()),
                              line.split()[1:]) for line in lines}


def make(timeouts, **options):
    """Listeners of every kind in one program."""
    def listener(name, proxy, **more):
        trusted = {} if proxy == "off" else {"trusted_proxies": TRUSTED}
        return {"name": name, "bind": ["127.0.0.1:0"], "proxy": proxy, **trusted, **more}
    config = {
        "listeners": [
            listener("mx", "required", bind=["127.0.0.1:0", "[::1]:0"],
                     health_checkers=[CHECKER]),
            listener("optional", "optional"),
            listener("off", "off"),
            listener("checked", "required", health_checkers=["127.0.0.1"]),
        ],
        "timeouts": timeouts,
    }
    return Gatepost(config, **options)


@pytest.fixture(scope="module")
def backend():
    with Backend() as started:
        yield started


@pytest.fixture(scope="module")
def gatepost(backend):
    """Nobody is too late, however busy the machine is."""
    with make({"proxy": "30s", "proxy_wait": "30s"}, backend=backend) as started:
        yield started


@pytest.fixture(scope="module")
def hasty(backend):
    """Where it is waited for what does not come."""
    timeouts = {"proxy": f"{int(PROXY * 1000)}ms", "proxy_wait": f"{int(PROXY_WAIT * 1000)}ms"}
    with make(timeouts, backend=backend) as started:
        yield started


@pytest.fixture(scope="module")
def tracing(backend):
    """Restricted sessions are traced here."""
    config = {"log": {"trace_restricted": True}, **WITH_RELAY}
    with Gatepost(config, backend=backend, proxy="required", trusted=TRUSTED) as started:
        yield started


def connect(gatepost, listener="mx", **options):
    """`since` of the client: how long the log was before it."""
    since = len(gatepost.log_records())
    client = Client(("127.0.0.1", gatepost.port(listener)), **options)
    client.since = since
    return client


def traced(gatepost, act):
    """What the trace gets by `act`, which has one connection end."""
    gatepost.wait_idle()
    before = len(gatepost.trace(0))
    act()
    lines = gatepost.trace(before + 1)
    assert len(lines) == before + 1
    return lines[-1]


def session(gatepost, header, expected=250):
    """A connection with this header to its QUIT; MAIL is answered as expected."""
    with Client(gatepost.address, header) as client:
        client.hello()
        client.command("MAIL FROM:<a@example.net>", expected)
        client.quit()


def refused(gatepost, client, listener="mx"):
    """The record of this client's refusal; there is exactly one."""
    record = gatepost.wait_log("proxy_refused", since=client.since, peer_port=client.port)
    assert record["level"] == "warning"
    assert record["listener"] == listener
    assert record["peer"] == client.socket.getsockname()[0]
    assert len(gatepost.log_records("proxy_refused", client.since, peer_port=client.port)) == 1
    return record


# ---- Good headers

@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("size", [None, 1, 7])
def test_header_whole_and_in_pieces(tracing, name, size):
    header = HEADERS[name]

    def act():
        with Client(tracing.address) as client:
            client.send_pieces(header, size or len(header), 0.0005 if size else 0)
            client.hello()
            client.quit()
    line = traced(tracing, act)
    is_v6 = "tcp6" in name
    assert line["remote"]["ip"] == ("2001:db8::7" if is_v6 else CLIENT[0])
    assert line["remote"]["port"] == 40007
    assert line["local"]["ip"] == ("2001:db8::25" if is_v6 else SERVER[0])
    assert line["local"]["port"] == 25
    proxy = line["proxy"]
    assert (proxy["allowed"], proxy["ip"], proxy["type"]) == (True, "127.0.0.1", "haproxy")
    assert (proxy["version"], proxy["command"]) == (int(name[1]), "PROXY")
    assert (proxy["local_ip"], proxy["local_port"]) == tracing.address
    if name == "v2-tlvs":
        assert (proxy["authority"], proxy["alpn"]) == ("mx.example.com", "smtp")
        assert proxy["unique_id"] == "id-7"
        assert proxy["tlvs"] == [{"type": "0xE4", "value": "0102"}]
    assert line["is_restricted"] is False
    assert not line["early_talker"]


@pytest.mark.parametrize("name", HEADERS)
def test_no_byte_of_banner_before_the_header_is_complete(gatepost, name):
    header = HEADERS[name]
    with connect(gatepost) as client:
        client.send(header[:-1])
        assert client.is_silent(0.1)
        client.send(header[-1:])
        client.hello()


@pytest.mark.parametrize("name", HEADERS)
def test_header_and_smtp_in_the_same_segment(tracing, name):
    """The rest of the segment is the client's, who has spoken before the banner by it."""
    def act():
        with Client(tracing.address, HEADERS[name] + b"EHLO client.example.net\r\n") as client:
            assert client.expect(220).text.startswith("mx.example.net")
            assert client.expect(250).lines[0] == "mx.example.net"
            client.quit()
    line = traced(tracing, act)
    assert line["hello"]["host"] == "client.example.net"
    assert line["early_talker"] is True


def test_message_through_each_header_says_whose_it_is(gatepost, backend):
    for header in HEADERS.values():
        before = len(backend.messages())
        with connect(gatepost, header=header) as client:
            client.hello()
            assert client.message().code == 250
            client.quit()
        body = backend.messages()[before]["body"]
        ip = b"[IPv6:2001:db8::7]" if b"2001:db8" in header or header[13:14] == b"\x21" \
            else b"[198.51.100.7]"
        assert ip in body.partition(b"\r\n")[0]
        assert b"127.0.0.1" not in body


@pytest.mark.parametrize("address,host", [(0, "127.0.0.1"), (1, "::1")])
def test_every_address_family_of_the_socket(gatepost, address, host):
    port = gatepost.port("mx", address)
    with Client((host, port), proxy_v1()) as client:
        client.hello()
        client.quit()
    assert gatepost.log_records("connect")[-1]["proxy"] == host


def test_mapped_source_is_an_ipv4_client(tracing):
    for header in (proxy_v1(("::ffff:198.51.100.7", 1), ("::ffff:203.0.113.25", 25)),
                   proxy_v2(("::ffff:198.51.100.7", 1), ("::ffff:203.0.113.25", 25))):
        def act(header=header):
            with Client(tracing.address, header) as client:
                client.hello()
                client.command("MAIL FROM:<a@example.net>", 250)
                client.command("RCPT TO:<b@elsewhere.example>", 250)  # by relay.networks
                client.quit()
        line = traced(tracing, act)
        assert (line["remote"]["ip"], line["local"]["ip"]) == (CLIENT[0], SERVER[0])
        assert line["relaying"]


def test_rights_come_from_the_header_only(tracing):
    """203.0.113.9 may not relay; that the balancer speaks for it changes nothing."""
    with Client(tracing.address, proxy_v1(("203.0.113.9", 1))) as client:
        client.hello()
        client.command("MAIL FROM:<a@example.net>", 250)
        client.command("RCPT TO:<b@elsewhere.example>", 554)
        client.quit()


# ---- The client behind the balancer sends another one

@pytest.mark.parametrize("first", ["v1-tcp4", "v2-tcp4"])
@pytest.mark.parametrize("second", ["v1", "v2", "v1-unknown", "v2-local"])
@pytest.mark.parametrize("when", ["same-segment", "after-banner", "after-ehlo", "after-mail"])
def test_second_header_changes_nothing(tracing, first, second, when):
    forged = {"v1": proxy_v1(("198.51.100.99", 9)), "v2": proxy_v2(("198.51.100.99", 9)),
              "v1-unknown": b"PROXY UNKNOWN\r\n", "v2-local": proxy_v2_local()}[second]
    outside = ("203.0.113.9", 40009)
    header = proxy_v1(outside) if first == "v1-tcp4" else proxy_v2(outside)

    def act():
        with Client(tracing.address) as client:
            client.send(header + (forged if when == "same-segment" else b""))
            client.expect(220)
            if when in ("after-ehlo", "after-mail"):
                client.command("EHLO client.example.net", 250)
            if when == "after-mail":
                client.command("MAIL FROM:<a@example.net>", 250)
            if when != "same-segment":
                client.send(forged)
            # An unknown command, or bytes that are no command at all.
            assert client.reply().code // 100 in (4, 5)
            try:
                client.send("EHLO again.example.net\r\nMAIL FROM:<a@example.net>\r\n"
                            "RCPT TO:<b@elsewhere.example>\r\nQUIT\r\n")
                replies = client.replies()
            except OSError:
                replies = []
            # Never a recipient that only 198.51.100.0/24 may send to.
            assert not any(reply.code == 250 and reply.enhanced == "2.1.5" for reply in replies)
    line = traced(tracing, act)
    assert line["remote"]["ip"] == outside[0]
    assert not line["relaying"]
    assert not line["is_restricted"]


# ---- Peers that may not

@pytest.mark.parametrize("name", [*HEADERS, *NO_CLIENT, "nothing", "smtp"])
def test_required_and_untrusted_is_told_and_closed(gatepost, name):
    header = {**HEADERS, **NO_CLIENT, "nothing": b"", "smtp": BAD["smtp"]}[name]
    with connect(gatepost, source=UNTRUSTED, header=header) as client:
        replies = client.replies()
        assert [reply.code for reply in replies] == [421]
        assert "trusted proxies" in replies[0].text
        record = refused(gatepost, client)
    assert record["peer"] == UNTRUSTED
    assert record["reason"] == "untrusted"


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("size", [None, 1])
def test_required_and_trusted_without_a_valid_header(gatepost, name, size):
    with connect(gatepost) as client:
        try:
            client.send_pieces(BAD[name], size or len(BAD[name]), 0.0005 if size else 0)
        except ConnectionError:  # closed before the last piece
            pass
        replies = client.replies()
        assert [reply.code for reply in replies] == [421], replies
        assert b"220" not in client.transcript
        record = refused(gatepost, client)
        assert record["detail"] and record["detail"] in replies[0].text
    first = record["bytes"]
    assert first and BAD[name].hex().startswith(first)


@tight
def test_half_a_header_and_silence(hasty):
    """One deadline for the whole header, however often a byte comes."""
    with connect(hasty) as client, connect(hasty) as dripping:
        start = time.monotonic()
        client.send(b"PROXY TCP4 198.51.100.7 203.")
        for byte in range(8):
            dripping.send(proxy_v1()[byte:byte + 1])
            time.sleep(0.1)
        assert [reply.code for reply in client.replies()] == [421]
        assert [reply.code for reply in dripping.replies()] == [421]
        assert PROXY * 0.9 < time.monotonic() - start < PROXY * 1.6
        for one in (client, dripping):
            assert refused(hasty, one)["reason"] == "timeout"


def test_nothing_at_all_from_a_trusted_peer(hasty):
    with connect(hasty) as client:
        start = time.monotonic()
        assert [reply.code for reply in client.replies()] == [421]
        assert PROXY * 0.9 < time.monotonic() - start
        assert refused(hasty, client)["reason"] == "timeout"


@pytest.mark.parametrize("cut", [1, 5, 12, 15, 27])
def test_end_of_file_inside_the_header(gatepost, cut):
    with connect(gatepost, header=proxy_v2()[:cut]) as client:
        client.half_close()
        assert client.is_ended()
        assert refused(gatepost, client)["reason"] == "cut_short"


def test_closing_at_once_is_no_warning(gatepost):
    """The plain check of a balancer, with FIN and with RST."""
    gatepost.wait_idle()
    before = len(gatepost.log_records())
    with connect(gatepost) as client:
        client.half_close()
        assert client.is_ended()
    connect(gatepost).reset()
    time.sleep(0.1)
    gatepost.wait_idle()
    assert [record for record in gatepost.log_records()[before:]
            if record["level"] != "debug"] == []


# ---- optional and off

@pytest.mark.parametrize("name", HEADERS)
def test_optional_and_trusted_with_a_header(gatepost, name):
    with connect(gatepost, "optional", header=HEADERS[name]) as client:
        client.hello()
        assert client.message().code == 250
        client.quit()
    record = gatepost.log_records("transaction")[-1]
    assert record["client"] == ("2001:db8::7" if "tcp6" in name else CLIENT[0])


@tight
def test_optional_and_trusted_says_nothing(hasty):
    with connect(hasty, "optional") as client:
        start = time.monotonic()
        client.expect(220)
        assert PROXY_WAIT * 0.9 < time.monotonic() - start < PROXY * 0.9
        client.command("EHLO client.example.net", 250)
        assert client.message().code == 250
        client.quit()
    assert hasty.log_records("transaction")[-1]["client"] == "127.0.0.1"


def test_optional_and_trusted_speaks_smtp(gatepost):
    """Bytes that cannot be a header end the wait; they are the client's, too early."""
    with connect(gatepost, "optional", header=b"EHLO client.example.net\r\n") as client:
        client.expect(220)
        client.expect(250)
        client.quit()


@tight
def test_optional_and_trusted_with_half_a_header(hasty):
    with connect(hasty, "optional", header=b"PROXY TCP4 198.") as client:
        start = time.monotonic()
        assert [reply.code for reply in client.replies()] == [421]
        # Not proxy_wait and then proxy.
        assert PROXY * 0.9 < time.monotonic() - start < PROXY + PROXY_WAIT * 0.9
        assert refused(hasty, client, "optional")["reason"] == "timeout"


def test_optional_and_trusted_with_a_broken_header(gatepost):
    for header in (b"PROXY TCP4 198.51.100.7\r\n", BAD["v2-crc"], BAD["v2-length"]):
        with connect(gatepost, "optional", header=header) as client:
            assert [reply.code for reply in client.replies()] == [421]
            refused(gatepost, client, "optional")


def test_optional_and_untrusted_is_a_direct_client_at_once(gatepost):
    with connect(gatepost, "optional", source=UNTRUSTED) as client:
        start = time.monotonic()
        client.expect(220)
        assert time.monotonic() - start < 10  # of 30
        client.command("EHLO client.example.net", 250)
        assert client.message().code == 250
        client.quit()
    assert gatepost.log_records("transaction")[-1]["client"] == UNTRUSTED


@pytest.mark.parametrize("listener,source", [("optional", UNTRUSTED), ("off", None)])
@pytest.mark.parametrize("name", HEADERS)
def test_header_that_does_not_count_is_a_syntax_error(gatepost, listener, source, name):
    with connect(gatepost, listener, source=source) as client:
        client.expect(220)
        before = len(gatepost.log_records("proxy_hint"))
        client.send(HEADERS[name])
        assert client.reply().code // 100 in (4, 5)
        hint = gatepost.wait_log("proxy_hint", count=before + 1)
        assert (hint["listener"], hint["peer"]) == (listener, source or "127.0.0.1")
        ended = gatepost.log_records("connect", client_port=client.port)[-1]
    assert ended["client"] == (source or "127.0.0.1")
    assert ended["proxy"] is None


def test_optional_peer_itself_never_gains_rights(backend):
    """The guard at start-up looks at lists; this holds whatever they say."""
    config = {
        "listeners": [
            {"name": "mx", "bind": ["127.0.0.1:0"], "proxy": "optional",
             "trusted_proxies": ["127.0.0.1"]},
            {"name": "direct", "bind": ["127.0.0.1:0"], "proxy": "off"},
        ],
        "relay": {"networks": ["127.0.0.2"]},
        "timeouts": {"proxy_wait": "50ms"},
    }
    with Gatepost(config, backend=backend) as gatepost:
        for listener, source, code in [("mx", "127.0.0.1", 554), ("mx", "127.0.0.2", 250),
                                       ("direct", "127.0.0.2", 250), ("direct", None, 554)]:
            with connect(gatepost, listener, source=source) as client:
                client.hello()
                client.command("MAIL FROM:<a@example.net>", 250)
                client.command("RCPT TO:<b@elsewhere.example>", code)
                client.quit()


def test_loopback_from_a_header_may_not_relay(backend):
    """It is some process beside the balancer, or whoever reached us by way of one."""
    config = {"relay": {"networks": ["127.0.0.128/25", "::1"]}}
    with Gatepost(config, backend=backend, proxy="required", trusted=["127.0.0.1"]) as gatepost:
        for source in ("127.0.0.129", "::1"):
            with Client(gatepost.address, proxy_v2((source, 1), ("::1", 25) if ":" in source
                                                   else SERVER)) as client:
                client.hello()
                client.command("MAIL FROM:<a@example.net>", 250)
                client.command("RCPT TO:<b@elsewhere.example>", 554)
                client.command("RCPT TO:<b@example.com>", 250)
                client.quit()


@pytest.mark.parametrize("source", ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1"])
def test_client_that_cannot_be(tracing, source):
    """The header is believed and shown, but nobody sends mail from there."""
    def act():
        with Client(tracing.address, proxy_v2((source, 1), ("2001:db8::25", 25) if ":" in source
                                              else SERVER)) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net>", 250)
            assert source in client.command("RCPT TO:<b@example.com>", 550).text
            client.quit()
    line = traced(tracing, act)
    assert (line["remote"]["ip"], line["is_restricted"]) == (source, False)
    assert line["events"][0]["check"] == "relay"


# ---- No client, no mail

def check_restricted(client):
    """A restricted session from the banner on."""
    banner = client.expect(220)
    assert len(banner.lines) == 1
    client.command("EHLO check.example.net", 250)
    client.command("HELO check.example.net", 250)
    client.command("NOOP", 250)
    client.command("RSET", 250)
    reply = client.command("MAIL FROM:<a@example.net>", 550)
    assert reply.enhanced == "5.7.1"
    assert client.command("RCPT TO:<b@example.com>").code // 100 == 5
    assert client.command("DATA").code // 100 == 5
    client.command("RSET", 250)
    client.quit()


@pytest.mark.parametrize("name", NO_CLIENT)
@pytest.mark.parametrize("listener", ["mx", "optional"])
def test_restricted(gatepost, name, listener):
    gatepost.wait_idle()
    traces = len(gatepost.trace(0))
    records = len(gatepost.log_records())
    checks = len(gatepost.log_records("checker"))
    with connect(gatepost, listener, header=NO_CLIENT[name]) as client:
        check_restricted(client)
    record = gatepost.wait_log("checker", count=checks + 1)
    assert (record["level"], record["peer"]) == ("debug", "127.0.0.1")
    assert record["proxy_command"] == ("LOCAL" if "local" in name else "PROXY")
    assert record["ending"] == "quit"
    # Neither in the trace nor among the records of clients.
    assert len(gatepost.trace(0)) == traces
    assert {record["event"] for record in gatepost.log_records()[records:]} <= {"checker"}


@pytest.mark.parametrize("name", NO_CLIENT)
def test_restricted_is_traced_when_wanted(tracing, name):
    line = traced(tracing, lambda: session(tracing, NO_CLIENT[name], 550))
    assert line["is_restricted"] is True
    assert line["remote"]["ip"] == "127.0.0.1"
    assert (line["remote"]["host"], line["remote"]["host_status"]) == (None, "off")
    assert line["relaying"] is False
    assert line["tran_count"] == 0 and line["transactions"] == []
    assert line["proxy"]["ip"] == "127.0.0.1"


def test_health_checker_without_a_header(hasty):
    """From its network a connection without a header is a check, whether trusted or not."""
    before = len(hasty.log_records("checker"))
    with connect(hasty, "mx", source=CHECKER) as client:
        check_restricted(client)
    with connect(hasty, "checked") as client:
        check_restricted(client)
    with connect(hasty, "checked", header=b"EHLO check.example.net\r\n") as client:
        client.expect(220)
        client.expect(250)
        client.quit()
    record = hasty.wait_log("checker", count=before + 3)
    assert record["proxy_command"] is None


def test_health_checker_that_is_a_balancer_as_well(gatepost):
    """With a header it speaks for a client."""
    with connect(gatepost, "checked", header=proxy_v1()) as client:
        client.hello()
        assert client.message().code == 250
        client.quit()
    assert gatepost.log_records("transaction")[-1]["client"] == CLIENT[0]


def test_checks_are_not_in_the_limits(backend):
    config = {"limits": {"connections_per_client": 2}}
    with Gatepost(config, backend=backend, proxy="required", trusted=TRUSTED) as gatepost:
        checks = [Client(gatepost.address, proxy_v2_local()) for _ in range(6)]
        for check in checks:
            check.hello()
        for check in checks:
            check.quit()


# ---- The open relay that the configuration would be

def overlap(gatepost_config):
    """Exit code and words for this configuration."""
    gatepost = Gatepost(gatepost_config)
    gatepost.config_file.write_text(json.dumps(gatepost.config))
    done = run("-f", str(gatepost.config_file))
    checked = run("-c", "-f", str(gatepost.config_file))
    assert (checked.returncode, checked.stderr) == (done.returncode, done.stderr)
    assert not gatepost.log_file.exists()
    return done


@pytest.mark.parametrize("trusted,networks,named", [
    ("10.0.0.5", "10.0.0.0/8", ("10.0.0.5", "10.0.0.0/8")),
    ("10.0.0.0/8", "10.9.0.0/16", ("10.0.0.0/8", "10.9.0.0/16")),
    ("10.0.0.0/24", "10.0.0.0/24", ("10.0.0.0/24", "10.0.0.0/24")),
    ("::ffff:10.0.0.5", "10.0.0.0/24", ("10.0.0.5", "10.0.0.0/24")),
    ("2001:db8::/64", "2001:db8::/48", ("2001:db8::/64", "2001:db8::/48")),
    (None, "127.0.0.0/8", ("127.0.0.0/8", "127.0.0.0/8")),
    (None, "::1", ("::1", "::1")),
])
@pytest.mark.parametrize("proxy", ["required", "optional"])
def test_open_relay_is_refused_at_start(trusted, networks, named, proxy):
    listener = {"name": "mx", "bind": ["127.0.0.1:0"], "proxy": proxy}
    if trusted:
        listener["trusted_proxies"] = ["192.0.2.1", trusted]
    done = overlap({"listeners": [listener], "relay": {"networks": ["192.0.2.77", networks]}})
    assert done.returncode == 78
    line = next(line for line in done.stderr.splitlines() if "overlaps" in line)
    for entry in named:
        assert entry in line
    assert "trusted_proxies" in line and "relay.networks" in line
    assert "proxy: off" in line  # how to mend it


def test_networks_that_do_not_meet_are_no_open_relay():
    listener = {"name": "mx", "bind": ["127.0.0.1:0"], "proxy": "required",
                "trusted_proxies": ["10.0.0.0/25"]}
    gatepost = Gatepost({"listeners": [listener], "relay": {"networks": ["10.0.0.128/25"]}})
    gatepost.config_file.write_text(json.dumps(gatepost.config))
    assert run("-c", "-f", str(gatepost.config_file)).returncode == 0


# ---- Vectors and captures

def proxy_tls_of(ssl):
    """What the trace must say of an SSL TLV of the vectors."""
    texts = {0x21: "version", 0x22: "cn", 0x23: "cipher", 0x24: "sig_alg", 0x25: "key_alg",
             0x26: "group", 0x27: "sig_scheme"}  # the certificate itself is not kept
    has_certificate = bool(ssl["client"] & 6)
    return {"used": bool(ssl["client"] & 1), "client_certificate": has_certificate,
            "certificate_verified": has_certificate and ssl["verify"] == 0,
            "verify": ssl["verify"],
            **{texts[sub["type"]]: bytes.fromhex(sub["value_hex"]).decode() or None
               for sub in ssl["sub"] if sub["type"] in texts}}


def check_proxy(line, vector):
    """A line of the trace against a vector whose header names a client."""
    proxy = line["proxy"]
    values = {}
    for item in vector["tlvs"]:
        values.setdefault(item["type"], item)
    assert proxy["version"] == vector["version"]
    for kind, name in ((1, "alpn"), (2, "authority"), (5, "unique_id"), (0x30, "netns")):
        wanted = bytes.fromhex(values[kind]["value_hex"]).decode() if kind in values else None
        assert proxy[name] == wanted, name
    assert [(item["type"], item["value"].lower()) for item in proxy["tlvs"]] == [
        (f"0x{item['type']:02X}", item["value_hex"].lower()) for item in vector["tlvs"]
        if item["type"] > 0x30]
    if 0x20 in values:
        for name, value in proxy_tls_of(values[0x20]).items():
            assert proxy["tls"][name] == value, name
    else:
        assert proxy["tls"] is None


def names_client(vector):
    return (vector["expect"] == "ok" and vector["addr_from"] == "header"
            and vector["family"] in ("TCP4", "TCP6"))


def announces_datagrams(vector):
    return (vector["command"] == "PROXY"
            and vector["family"] in ("UDP4", "UDP6", "UNIX_DGRAM"))


@pytest.mark.parametrize("vector", [v for v in vectors() if names_client(v)],
                         ids=lambda vector: vector["id"])
def test_vector_that_names_a_client(tracing, vector):
    data = bytes.fromhex(vector["hex"])

    def act():
        with Client(tracing.address, data) as client:
            client.expect(220)
            if len(data) > vector["consumed"]:
                client.reply()  # to what came behind the header
                client.half_close()
                client.rest()
            else:
                client.quit()
    line = traced(tracing, act)
    for key, ip, port in (("remote", "src", "sport"), ("local", "dst", "dport")):
        assert line[key]["ip"] == vector[ip].replace("::ffff:192.0.2.", "192.0.2.") \
            .replace("::ffff:198.51.", "198.51.")
        assert line[key]["port"] == vector[port]
    check_proxy(line, vector)


@pytest.mark.parametrize("vector", [v for v in vectors() if not names_client(v)],
                         ids=lambda vector: vector["id"])
def test_vector_that_names_none(gatepost, vector):
    data = bytes.fromhex(vector["hex"])
    with connect(gatepost, header=data) as client:
        client.half_close()
        if vector["expect"] == "incomplete":
            assert client.is_ended()
            if data:
                assert refused(gatepost, client)["reason"] == "cut_short"
        elif vector["expect"] == "error" or announces_datagrams(vector):
            replies = client.replies()
            is_tls = data.startswith(b"\x16")
            assert [reply.code for reply in replies] == ([] if is_tls else [421])
            assert refused(gatepost, client)["reason"] not in ("untrusted", "timeout")
        else:
            follows = [250] if b"EHLO" in data[vector["consumed"]:] else []
            assert [reply.code for reply in client.replies()] == [220, *follows]


@pytest.mark.parametrize("name", captures())
def test_header_recorded_from_haproxy(tracing, name):
    data, expected = captures()[name]

    def act():
        with Client(tracing.address, data) as client:
            client.expect(220)
            client.command("EHLO client.example.net", 250)
            client.quit()
    line = traced(tracing, act)
    version, command, family = expected[:3]
    assert (f"v{line['proxy']['version']}", line["proxy"]["command"]) == (version, command)
    assert line["is_restricted"] == (family in ("UNSPEC", "UNKNOWN"))
    if not line["is_restricted"]:
        for key, end in (("remote", expected[3]), ("local", expected[5])):
            host, _, port = end.rpartition(":")
            assert (line[key]["ip"], line[key]["port"]) == (host.strip("[]"), int(port))
    for word in expected:
        name_of, _, value = word.partition("=")
        key = {"AUTHORITY": "authority", "ALPN": "alpn", "UNIQUE_ID": "unique_id",
               "NETNS": "netns"}.get(name_of)
        if key:
            assert line["proxy"][key] == value.strip("'")


# ---- Many at once

@tight
def test_silent_peers_are_all_closed_in_time(hasty):
    """Headers that never come hold descriptors only until the deadline, and disturb nobody."""
    hasty.wait_idle()
    baseline = hasty.fds()
    silent = [connect(hasty) for _ in range(100)]
    with connect(hasty, header=proxy_v1()) as client:
        client.hello()
        assert client.message().code == 250
        client.quit()
    start = time.monotonic()
    for one in silent:
        assert [reply.code for reply in one.replies()] == [421]
        one.close()
    assert time.monotonic() - start < PROXY * 3
    hasty.wait_fds(baseline)


def test_headers_of_many_clients_are_not_mixed_up(gatepost, backend):
    def send(number):
        header = (proxy_v1, proxy_v2)[number % 2]((f"198.51.100.{number}", 1000 + number))
        with connect(gatepost) as client:
            client.send_pieces(header, 5, 0.001)
            client.hello(f"client{number}.example.net")
            assert client.message(f"a{number}@example.net").code == 250
            client.quit()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        list(pool.map(send, range(1, 61)))
    found = {m["mail_from"]: m["body"].partition(b"\r\n")[0] for m in backend.messages()}
    for number in range(1, 61):
        line = found[f"a{number}@example.net"]
        assert b"client%d.example.net" % number in line
        assert b"[198.51.100.%d]" % number in line
