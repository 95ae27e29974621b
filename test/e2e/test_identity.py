"""How a backend learns who the client is: XCLIENT, XFORWARD, PROXY headers and their TLVs."""
import pytest
from backend import Backend
from client import Client
from dns import NameServer
from gatepost import Gatepost

XCLIENT = "XCLIENT=NAME ADDR PORT PROTO HELO LOGIN REVERSE_NAME DESTADDR DESTPORT"
XFORWARD = "XFORWARD=NAME ADDR PORT PROTO HELO IDENT SOURCE"
HEADER = b"PROXY TCP4 198.51.100.7 203.0.113.25 40007 25\r\n"
HEADER6 = b"PROXY TCP6 2001:db8::7 2001:db8::25 40007 25\r\n"
BODY = b"Subject: who\r\n\r\ntext\r\n"


class Edge(Gatepost):
    """Behind a balancer, in front of a backend with these settings."""

    def __init__(self, *backends, **settings):
        mta = {"name": "mta", "servers": [f"127.0.0.1:{backend.port}" for backend in backends],
               **settings}
        super().__init__({"backends": [mta]}, proxy="required")


def deliver(gatepost, header=HEADER, hello="EHLO client.example.net", messages=1):
    """The reply of each message: to RCPT where that is refused, else the final one."""
    replies = []
    with Client(gatepost.address, header) as client:
        client.expect(220)
        client.command(hello, 250)
        for _ in range(messages):
            client.command("MAIL FROM:<a@example.net>", 250)
            reply = client.command("RCPT TO:<one@example.com>")
            replies.append(client.data(BODY) if reply.code == 250 else reply)
            if reply.code != 250:
                client.command("RSET", 250)
        client.quit()
    return replies


def codes(replies):
    return [reply.code for reply in replies]


def verbs(backend, connection):
    return [event["line"].split()[0] for event in backend.events("command")
            if event["id"] == connection]


def last_mail(backend):
    """The connection of the last message."""
    return [event["id"] for event in backend.events("command")
            if event["line"].startswith("MAIL")][-1]


# ---- XCLIENT


def test_xclient():
    with Backend(extensions=f"PIPELINING,SIZE,{XCLIENT}") as backend, \
            Edge(backend, identity="xclient") as gatepost:
        assert codes(deliver(gatepost, messages=2)) == [250, 250]
        assert codes(deliver(gatepost, HEADER6)) == [250]
        first, _, last = backend.messages()
        told = first["xclient"]
        assert told["ADDR"] == "198.51.100.7" and told["PORT"] == "40007"
        assert told["DESTADDR"] == "203.0.113.25" and told["DESTPORT"] == "25"
        assert told["PROTO"] == "ESMTP" and told["HELO"] == "client.example.net"
        assert last["xclient"]["ADDR"] == "IPV6:2001:db8::7"
        # EHLO with our name, then with the client's; a session is one client's.
        connection = last_mail(backend)
        assert verbs(backend, connection)[:4] == ["EHLO", "XCLIENT", "EHLO", "MAIL"]
        assert [line for line in backend.commands("EHLO")][-2:] == [
            "EHLO mx.example.net", "EHLO client.example.net"]
        assert len({event["id"] for event in backend.events("command")
                    if event["line"].startswith("MAIL")}) == 2
        assert backend.violations() == []


@pytest.mark.parametrize("header,literal", [(HEADER, "[198.51.100.7]"), (HEADER6, "[IPv6:2001:db8::7]")])
def test_client_whose_name_is_none_is_named_by_its_address(header, literal):
    """It was named by ours, and Postfix wrote so into the Received line."""
    with Backend(extensions=f"PIPELINING,{XCLIENT}") as backend:
        mta = {"name": "mta", "servers": [f"127.0.0.1:{backend.port}"], "identity": "xclient"}
        config = {"plans": {"lax": {"rcpt": ["relay"]}}, "backends": [mta]}
        with Gatepost(config, proxy="required", listener={"plan": "lax"}) as gatepost:
            assert codes(deliver(gatepost, header, hello="EHLO a..b")) == [250]
        assert backend.commands("EHLO")[-1] == f"EHLO {literal}"


def test_only_attributes_that_were_announced_are_said():
    with Backend(extensions="PIPELINING,XCLIENT=ADDR HELO") as backend, \
            Edge(backend, identity="xclient") as gatepost:
        assert codes(deliver(gatepost)) == [250]
        assert set(backend.messages()[0]["xclient"]) == {"ADDR", "HELO"}


@pytest.mark.parametrize("identity,extensions", [("xclient", "PIPELINING"),
                                                 ("xclient", "PIPELINING,XCLIENT=NAME"),
                                                 ("xforward", "PIPELINING"),
                                                 ("xforward", f"PIPELINING,{XCLIENT}")])
def test_server_that_does_not_offer_it(identity, extensions):
    """No mail under a false identity; an alarm at the start, before any mail."""
    with Backend(extensions=extensions) as backend, \
            Edge(backend, identity=identity) as gatepost:
        alarm = gatepost.wait_log("identity_refused")
        assert (alarm["level"], alarm["identity"], alarm["reply"]) == (
            "error", identity, "not offered")
        assert codes(deliver(gatepost)) == [451]
        assert backend.messages() == [] and backend.commands("MAIL") == []
    with Backend(extensions=extensions) as backend, \
            Edge(backend, identity=identity, identity_required=False) as gatepost:
        assert codes(deliver(gatepost)) == [250]


@pytest.mark.parametrize("extensions,code", [("PIPELINING", 451), (f"PIPELINING,{XCLIENT}", 554)])
def test_address_that_is_refused_is_ours_without_xclient(extensions, code):
    """Where XCLIENT is not required the server may not know the client: its mail must not bounce."""
    refusal = "rcpt:reply=554 5.7.1 <unknown[127.0.0.1]>: Client host rejected: Access denied"
    with Backend(extensions=extensions, faults=[refusal]) as backend, \
            Edge(backend, identity="xclient", identity_required=False) as gatepost:
        assert codes(deliver(gatepost)) == [code]
        assert bool(gatepost.log_records("backend_blames_us")) == (code == 451)


@pytest.mark.parametrize("check", ["banner", "connect"])
def test_server_that_does_not_offer_it_is_told_of_whatever_probes_look_at(check):
    """They ended before EHLO, and the first client found it out."""
    with Backend(extensions="PIPELINING") as backend, \
            Edge(backend, identity="xclient", health={"check": check}) as gatepost:
        assert gatepost.wait_log("identity_refused")["uuid"] is None
    with Backend(extensions=f"PIPELINING,{XCLIENT}") as backend, \
            Edge(backend, identity="xclient", health={"check": check}) as gatepost:
        assert codes(deliver(gatepost)) == [250]
        assert not gatepost.log_records("identity_refused")


def test_what_one_client_is_not_offered_no_client_is_promised():
    """Postfix can be told to offer some clients less. After each probe 8BITMIME was promised again, and
    then refused for good (554 5.6.3)."""
    with Backend(extensions=f"PIPELINING,8BITMIME,DSN,{XCLIENT}") as backend:
        mta = {"name": "mta", "servers": [f"127.0.0.1:{backend.port}"], "identity": "xclient"}
        config = {"backends": [mta], "timeouts": {"backend_probe": "1s"}}
        with Gatepost(config, proxy="required") as gatepost:
            assert {"8BITMIME", "DSN"} <= offered(gatepost)
            backend.set_faults(["ehlo2:raw=250-mx.example\\r\\n250 DSN\\r\\n"])  # behind XCLIENT
            assert codes(deliver(gatepost)) == [250]
            probes = len(gatepost.log_records("backend_learned"))
            gatepost.wait_log("backend_learned", count=probes + 2)
            assert "DSN" in offered(gatepost) and "8BITMIME" not in offered(gatepost)


def test_what_a_client_with_helo_is_not_offered_says_nothing():
    with Backend("--proxy", "v2", extensions="PIPELINING,8BITMIME") as backend, \
            Edge(backend, identity="proxy-v2") as gatepost:
        backend.wait_for("end")
        backend.set_faults(["ehlo:reply=500 5.5.1 not today@1"])
        assert codes(deliver(gatepost)) == [250]
        assert "8BITMIME" in offered(gatepost)


@pytest.mark.parametrize("identity", ["xclient", "none"])
def test_address_that_is_refused_before_xclient_is_ours(identity):
    refusal = "reply=550 5.7.1 <unknown[127.0.0.1]>: Client host rejected: Access denied"
    with Backend(extensions=f"PIPELINING,{XCLIENT}") as backend, \
            Edge(backend, identity=identity, hello="client") as gatepost:
        backend.wait_for("end")
        backend.set_faults([f"ehlo:{refusal}", f"helo:{refusal}"])
        assert codes(deliver(gatepost)) == [451]
        assert gatepost.log_records("backend_blames_us")


def offered(gatepost):
    with Client(gatepost.address, HEADER) as client:
        client.expect(220)
        lines = client.command("EHLO client.example.net", 250).lines
        client.quit()
        return set(lines)


@pytest.mark.parametrize("reply,code", [("550 5.7.0 insufficient authorization", 451),
                                        ("501 5.5.4 bad syntax", 451),
                                        ("503 5.5.1 not now", 451),
                                        ("421 4.3.2 not now", 451),
                                        ("421 not now", 451),
                                        ("421 4.7.0 too many connections from client", 451),
                                        ("554 5.7.1 client refused", 554),
                                        ("450 4.7.1 client greylisted", 450)])
def test_xclient_that_is_refused(reply, code):
    """What is about us becomes 451 and an alarm; the verdict on the client is the client's."""
    with Backend(extensions=f"PIPELINING,{XCLIENT}", faults=[f"xclient:reply={reply}"]) as backend, \
            Edge(backend, identity="xclient") as gatepost:
        [answer] = deliver(gatepost)
        assert answer.code == code
        verdict = reply.startswith(("554", "450", "421 4.7"))
        assert bool(gatepost.log_records("identity_refused")) == (
            not verdict)
        if verdict:
            assert reply[10:] in str(answer)
        assert backend.commands("MAIL") == []


@pytest.mark.parametrize("step", ["xclient", "ehlo2"])
def test_clients_with_too_many_connections_bring_no_server_down(step):
    """Postfix says 421 4.7.0 to XCLIENT then."""
    with Backend(extensions=f"PIPELINING,{XCLIENT}") as backend, \
            Edge(backend, identity="xclient") as gatepost:
        backend.wait_for("end")
        backend.set_faults([f"{step}:reply-close=421 4.7.0 Error: too many connections from you@5"])
        for _ in range(5):
            [answer] = deliver(gatepost)
            assert str(answer) == "451 4.7.0 Error: too many connections from you"
        assert codes(deliver(gatepost)) == [250]
        for event in ("server_down", "backend_failed", "identity_refused"):
            assert not gatepost.log_records(event)


@pytest.mark.parametrize("reply,code", [("554 5.7.1 client refused", 554),
                                        ("550 client refused", 550),
                                        ("450 4.7.1 client greylisted", 450),
                                        ("554 5.3.2 no mail here", 451),
                                        ("450 4.3.2 full", 451),
                                        ("521 no mail here", 451),
                                        ("421 4.7.0 not now", 451)])
@pytest.mark.parametrize("identity", ["proxy-v2", "proxy-v1", "none"])
def test_banner_that_refuses(identity, reply, code):
    """Behind a header that names the client it may be the client's; what is about the server never."""
    arguments = ["--proxy", identity[6:]] if identity != "none" else []
    with Backend(*arguments) as backend, Edge(backend, identity=identity) as gatepost:
        backend.wait_for("end")  # of the probe, which was greeted
        backend.set_faults([f"banner:reply={reply}@1"])
        [answer] = deliver(gatepost)
        assert answer.code == (451 if identity == "none" else code)
        is_clients = answer.code == code and "client" in reply
        assert bool(gatepost.log_records("backend_failed")) != is_clients
        assert codes(deliver(gatepost)) == [250]


@pytest.mark.parametrize("fault", ["reply=421 4.7.0 too many connections from you", "reset"])
def test_greeting_that_some_clients_do_not_get(fault):
    """A client with more connections than the server allows it brought the server down for all."""
    with Backend("--proxy", "v2") as backend, Edge(backend, identity="proxy-v2") as gatepost:
        backend.wait_for("end")
        backend.set_faults([f"banner:{fault}@4"])
        for _ in range(4):
            assert codes(deliver(gatepost)) == [451]
        assert codes(deliver(gatepost)) == [250]
        assert not gatepost.log_records("server_down")


def test_banner_that_begins_to_refuse_everybody():
    """Clients got its refusals until the next probe, a minute: now the first of them brings one."""
    with Backend("--proxy", "v2") as backend, Edge(backend, identity="proxy-v2") as gatepost:
        backend.wait_for("end")
        backend.set_faults(["banner:reply=554 5.7.1 no mail here"])
        assert codes(deliver(gatepost)) == [554]
        gatepost.wait_log("backend_failed", step="probe")
        assert codes(deliver(gatepost)) == [451]


def test_banner_that_refuses_everybody():
    """A server that has greeted nobody, not even a probe, refuses no client: it is ill."""
    with Backend("--proxy", "v2", faults=["banner:reply=554 5.7.1 client refused"]) as backend, \
            Edge(backend, identity="proxy-v2") as gatepost:
        backend.wait_for("end")
        assert codes(deliver(gatepost)) == [451]


@pytest.mark.parametrize("settings,code", [({"hello": "client"}, 550), ({"identity": "xclient"}, 550),
                                           ({"hello": "own"}, 451)],
                         ids=lambda value: str(value))
def test_name_in_ehlo_that_is_refused(settings, code):
    """The client's, where that is whose name was said."""
    second = settings == {"identity": "xclient"}  # of two EHLO: behind XCLIENT
    with Backend(extensions=f"PIPELINING,{XCLIENT}") as backend, \
            Edge(backend, **settings) as gatepost:
        backend.wait_for("end")
        backend.set_faults([f"ehlo{2 if second else ''}:reply=550 5.7.1 not this name@1",
                            "helo:reply=550 5.7.1 not this name@1"])
        assert codes(deliver(gatepost)) == [code]
        assert bool(gatepost.log_records("backend_failed")) == (code == 451)


def test_next_server_when_the_first_does_not_offer_it():
    with Backend(extensions="PIPELINING") as first, \
            Backend(extensions=f"PIPELINING,{XCLIENT}") as second, \
            Edge(first, second, identity="xclient") as gatepost:
        assert codes(deliver(gatepost)) == [250]
        assert first.messages() == []
        assert second.messages()[0]["xclient"]["ADDR"] == "198.51.100.7"


def test_local_and_xclient():
    """A port that wants a PROXY header gets one that names nobody, and then XCLIENT."""
    with Backend("--proxy", "v2", extensions=f"PIPELINING,{XCLIENT}") as backend, \
            Edge(backend, identity="local+xclient") as gatepost:
        assert codes(deliver(gatepost)) == [250]
        assert backend.messages()[0]["xclient"]["ADDR"] == "198.51.100.7"
        assert {event["proxy"]["command"] for event in backend.connections()} == {"LOCAL"}


# ---- XFORWARD


def test_xforward():
    """Before every MAIL, in one group with it; the session is anybody's."""
    with Backend(extensions=f"PIPELINING,{XFORWARD}") as backend, \
            Edge(backend, identity="xforward") as gatepost:
        assert codes(deliver(gatepost, messages=2)) == [250, 250]
        assert codes(deliver(gatepost, HEADER6)) == [250]
        messages = backend.messages()
        assert [message["xforward"]["ADDR"] for message in messages] == [
            "198.51.100.7", "198.51.100.7", "IPV6:2001:db8::7"]
        assert messages[0]["xforward"]["IDENT"].endswith(".1")
        assert messages[1]["xforward"]["IDENT"].endswith(".2")
        connection = last_mail(backend)
        assert {event["id"] for event in backend.events("command")
                if event["line"].startswith("MAIL")} == {connection}
        assert verbs(backend, connection)[:9] == ["EHLO", "XFORWARD", "MAIL", "RCPT", "DATA",
                                                  "RSET", "XFORWARD", "MAIL", "RCPT"]
        assert backend.violations() == []


@pytest.mark.parametrize("required,code", [(True, 451), (False, 250)])
def test_xforward_that_is_refused(required, code):
    with Backend(extensions=f"PIPELINING,{XFORWARD}",
                 faults=["xforward:reply=550 5.7.0 not you"]) as backend, \
            Edge(backend, identity="xforward", identity_required=required) as gatepost:
        assert codes(deliver(gatepost)) == [code]
        assert len(backend.messages()) == (code == 250)


# ---- The client's name


class NamingEdge(Gatepost):
    """Asks this name server for the names of clients."""

    def __init__(self, dns, backend, timeout="1m", **settings):
        mta = {"name": "mta", "servers": [f"127.0.0.1:{backend.port}"], **settings}
        super().__init__({"backends": [mta], "dns": {"reverse": True, "servers": [dns.address],
                                                     "timeout": timeout, "tries": 1}},
                         proxy="required")


def ask(gatepost, header=HEADER):
    """A client whose first recipient is not answered yet."""
    client = Client(gatepost.address, header)
    client.expect(220)
    client.command("EHLO client.example.net", 250)
    client.command("MAIL FROM:<a@example.net>", 250)
    client.send("RCPT TO:<one@example.com>\r\n")
    return client


NAMED = pytest.mark.parametrize("identity,extensions", [("xclient", XCLIENT), ("xforward", XFORWARD)])


@NAMED
def test_name_that_is_waited_for(identity, extensions):
    """A server with reject_unknown_client_hostname put off whoever was faster than DNS."""
    with Backend(extensions=f"PIPELINING,{extensions}") as backend, \
            NameServer({"198.51.100.7": b"mail.example.net"},
                       {"mail.example.net": ["198.51.100.7"]}) as dns, \
            NamingEdge(dns, backend, identity=identity, wait_for_name=True) as gatepost:
        backend.wait_for("end")  # of the probe
        dns.hold()
        with ask(gatepost) as client:
            assert client.is_silent()
            assert len(backend.connections()) == 1
            dns.release()
            client.expect(250)
            assert client.data(BODY).code == 250
            client.quit()
        assert backend.messages()[0][identity]["NAME"] == "mail.example.net"


@pytest.mark.parametrize("identity,extensions,word", [("xclient", XCLIENT, "[TEMPUNAVAIL]"),
                                                      ("xforward", XFORWARD, "[UNAVAILABLE]")])
def test_name_that_is_not_waited_for(identity, extensions, word):
    with Backend(extensions=f"PIPELINING,{extensions}") as backend, \
            NameServer({"198.51.100.7": None}) as dns, \
            NamingEdge(dns, backend, identity=identity) as gatepost:
        assert codes(deliver(gatepost)) == [250]
        assert backend.messages()[0][identity]["NAME"] == word


def test_name_that_does_not_come():
    """It is waited for as long as look-ups may take; the next message waits no more."""
    with Backend(extensions=f"PIPELINING,{XCLIENT}") as backend, \
            NameServer({"198.51.100.7": None}) as dns, \
            NamingEdge(dns, backend, "500ms", identity="xclient", wait_for_name=True) as gatepost:
        assert codes(deliver(gatepost, messages=2)) == [250, 250]
        assert [message["xclient"]["NAME"] for message in backend.messages()] == ["[TEMPUNAVAIL]"] * 2
        assert [name for name, _ in dns.questions if name.startswith(b"7.")] == [
            b"7.100.51.198.in-addr.arpa"]


def test_client_goes_before_its_name_comes():
    with Backend(extensions=f"PIPELINING,{XCLIENT}") as backend, \
            NameServer({"198.51.100.7": b"mail.example.net"}) as dns, \
            NamingEdge(dns, backend, identity="xclient", wait_for_name=True) as gatepost:
        backend.wait_for("end")
        dns.hold()
        client = ask(gatepost)
        assert client.is_silent()
        client.reset()
        assert gatepost.wait_log("transaction")["outcome"] == "aborted"
        gatepost.wait_log("connection")
        dns.release()
        assert codes(deliver(gatepost)) == [250]
        assert len(backend.commands("MAIL")) == 1


# ---- PROXY headers with TLVs


def test_tlvs():
    with Backend("--proxy", "v2") as backend, \
            Edge(backend, identity="proxy-v2",
                 proxy_tlvs=["unique-id", "crc32c", "ssl", "authority"]) as gatepost:
        assert codes(deliver(gatepost)) == [250]
        record = gatepost.wait_log("connection")
        header = backend.connections()[-1]["proxy"]
        assert header["source"] == "198.51.100.7:40007"
        # unique-id and crc32c; without TLS there is nothing to say of it.
        assert record["uuid"].encode().hex() in header["hex"]
        assert len(header["hex"]) // 2 == 16 + 12 + 3 + 36 + 3 + 4


def test_tlvs_of_tls_at_the_balancer():
    """What the balancer said of TLS is said on."""
    name = b"mx.example.net"
    ssl = bytes([1, 0, 0, 0, 0, 0x21, 0, 7]) + b"TLSv1.3"
    tlvs = bytes([2, 0, len(name)]) + name + bytes([0x20, 0, len(ssl)]) + ssl
    block = (bytes([198, 51, 100, 7, 203, 0, 113, 25]) + (40007).to_bytes(2, "big")
             + (25).to_bytes(2, "big") + tlvs)
    header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + len(block).to_bytes(2, "big") + block
    with Backend("--proxy", "v2") as backend, \
            Edge(backend, identity="proxy-v2", proxy_tlvs=["ssl", "authority"]) as gatepost:
        assert codes(deliver(gatepost, header)) == [250]
        sent = bytes.fromhex(backend.connections()[-1]["proxy"]["hex"])
        assert name in sent and b"TLSv1.3" in sent
