"""Who may send where: test/vectors/relay-probes.jsonl through the program, by three routes.

The own domain is example.com; the client is a stranger at 198.51.100.7, or reaches us directly.
"""

import json
from pathlib import Path

import pytest
from backend import Backend
from client import CLIENT, Client, proxy_v1, proxy_v2
from gatepost import Gatepost

VECTORS = Path(__file__).parent.parent / "vectors" / "relay-probes.jsonl"
ROUTES = {"direct": b"", "proxy-v1": proxy_v1(), "proxy-v2": proxy_v2()}
SYNTAX = (500, 501, 553, 555)


def probes():
    return [json.loads(line) for line in VECTORS.read_text().splitlines()]


def encoded(probe, verb, text):
    return (verb + text).encode(probe.get("encoding", "latin-1"))


def verdict_of(code):
    if code == 503:
        return "sequence-error"
    if code in SYNTAX:
        return "syntax-error"
    return "accept" if code < 300 else "reject" if code >= 500 else "deferred"


def run(gatepost, header, probe, before_mail):
    """The reply that decides, and whether it is one to RCPT that accepts."""
    with Client(gatepost.address, header) as client:
        client.hello()
        if before_mail:
            for command in probe.get("before", []):
                client.command(command)
        reply = client.command(encoded(probe, "MAIL FROM:", probe["mail_from"]))
        if reply.code >= 400 and not probe.get("before"):
            client.quit()
            return reply, False
        if not before_mail:
            for command in probe.get("before", []):
                client.command(command)
        reply = client.command(encoded(probe, "RCPT TO:", probe["rcpt_to"]))
        client.quit()
        return reply, reply.code < 300


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("balancer_may_relay_elsewhere", [False, True])
def test_probes(route, balancer_may_relay_elsewhere):
    """The second time there are networks that may relay, and the client is in none of them."""
    config = {"hostname": "mx.example.net"}
    if balancer_may_relay_elsewhere:
        config["relay"] = {"networks": ["192.0.2.0/24", "10.0.0.0/8"]}
    proxy = "off" if route == "direct" else "required"
    wrong, accepted = {}, []
    with Backend() as backend, Gatepost(config, backend=backend, proxy=proxy) as gatepost:
        for probe in probes():
            for before_mail in (False, True) if "before" in probe else (False,):
                reply, is_accepted = run(gatepost, ROUTES[route], probe, before_mail)
                if is_accepted:
                    accepted.append(probe["id"])
                if verdict_of(reply.code) not in [probe["expect"], *probe.get("also_ok", [])]:
                    wrong[probe["id"]] = str(reply)
        gatepost.wait_idle()
        recipients = backend.commands("RCPT")
        assert wrong == {}
        # Only what was accepted went on, and only to our domain.
        assert len(recipients) == len(accepted)
        for line in recipients:
            address = line[len("RCPT TO:<"):].rpartition(">")[0]
            assert address.rpartition("@")[2] == "example.com" or \
                address.lower() == "postmaster", line
            assert not set("%!@") & set(address.rpartition("@")[0])
        assert len(accepted) >= 8
        assert backend.violations() == []
        assert backend.messages() == []


def test_good_and_refused_recipients_in_one_transaction():
    with Backend() as backend, Gatepost(backend=backend) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net>", 250)
            client.command("RCPT TO:<one@example.com>", 250)
            client.command("RCPT TO:<two@elsewhere.example>", 554)
            client.command("RCPT TO:<reject@example.com>", 550)
            client.command("RCPT TO:<defer@example.com>", 450, 451)
            client.command("RCPT TO:<three@EXAMPLE.com>", 250)
            assert client.data().code == 250
            client.quit()
        assert [m["rcpt_to"] for m in backend.messages()] == [
            ["one@example.com", "three@example.com"]]
        assert not any("elsewhere" in line for line in backend.commands())
        record = gatepost.wait_log("transaction")
        assert record["rcpt"] == "one@example.com three@example.com"
        line = gatepost.trace()[0]
        assert line["rcpt_count"] == {"accept": 2, "tempfail": 1, "reject": 2}
        assert line["transactions"][0]["rcpt_count"] == {"accept": 2, "tempfail": 1, "reject": 2}
        rejects = gatepost.log_records("reject")
        assert [(r["rcpt"], r["check"]) for r in rejects] == [
            ("two@elsewhere.example", "relay"), ("reject@example.com", None),
            ("defer@example.com", None)]
        assert rejects[0]["reply"].startswith("554 5.7.1 <two@elsewhere.example>")


def test_data_after_refused_recipients_only():
    with Backend() as backend, Gatepost(backend=backend) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net>", 250)
            client.command("RCPT TO:<a@elsewhere.example>", 554)
            assert client.command("DATA").code in (503, 554)
            client.command("RSET", 250)
            client.quit()
        # The backend was not even asked: the probe of its extensions is all it saw.
        assert backend.commands("MAIL") == []
        record = gatepost.wait_log("transaction")
        assert (record["outcome"], record["by"]) == ("refused", "edge")


@pytest.mark.parametrize("route", ["direct", "proxy-v1", "proxy-v2"])
def test_networks_that_may_relay(route):
    """By the client's address, wherever that comes from; source routes are refused even so."""
    address = "127.0.0.1" if route == "direct" else CLIENT[0]
    config = {"relay": {"networks": [address]}}
    options = {"proxy": "off"} if route == "direct" else {"proxy": "required"}
    with Backend() as backend, Gatepost(config, backend=backend, **options) as gatepost:
        with Client(gatepost.address, ROUTES[route]) as client:
            client.hello()
            client.envelope(recipients=["a@elsewhere.example", "b@example.com"])
            client.command("RCPT TO:<@x.example:a@elsewhere.example>", 550)
            assert client.data().code == 250
            client.quit()
        assert backend.messages()[0]["rcpt_to"] == ["a@elsewhere.example", "b@example.com"]
        line = gatepost.trace()[0]
        assert line["relaying"] is True
        assert "relay.networks" in str(line["results"]["relay"])


def test_domains_below_a_dot():
    config = {"relay": {"domains": [".example.org", "b\u00fccher.example"]}}
    with Backend() as backend, Gatepost(config, backend=backend) as gatepost:
        with Client(gatepost.address) as client:
            client.hello()
            client.command("MAIL FROM:<a@example.net>", 250)
            for recipient, code in (("a@x.example.org", 250), ("a@y.x.EXAMPLE.ORG", 250),
                                    ("a@example.org", 554), ("a@xexample.org", 554),
                                    ("a@x.example.org.evil.test", 554),
                                    ("a@xn--bcher-kva.example", 250), ("a@example.com", 554)):
                client.command(f"RCPT TO:<{recipient}>", code)
            client.quit()
        assert len(backend.commands("RCPT")) == 3
