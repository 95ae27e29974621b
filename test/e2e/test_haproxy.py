"""A real HAProxy in front: headers of both versions with every option, health checks, chains."""

import contextlib
import re
import socket
import ssl
import time

import pytest
from backend import Backend
from client import Client, proxy_v1
from gatepost import Gatepost
from haproxy import Certificates, HAProxy, client_context
from ports import keep_port

CLIENT = "127.0.0.9"  # where clients come from; HAProxy itself comes from 127.0.0.1
TRUSTED = ["127.0.0.1", "::1"]
UUID = re.compile(r"[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}")
QUIET = ("debug", "info")


class Chain:
    """Backend, gatepost and HAProxy, in front of each other."""

    def __init__(self, backend, gatepost, haproxy):
        self.backend = backend
        self.gatepost = gatepost
        self.haproxy = haproxy

    def alarms(self):
        """Records of the log that somebody would look into."""
        return [record for record in self.gatepost.log_records() if record["level"] not in QUIET]

    def sessions_with_mail(self):
        return self.backend.commands("MAIL")


@contextlib.contextmanager
def chain(server="send-proxy-v2", *, proxy="required", listener=None, config=None, **options):
    with Backend() as backend, \
            Gatepost(config, backend=backend, proxy=proxy, trusted=TRUSTED,
                     listener=listener or {}) as gatepost, \
            HAProxy(gatepost.address, server, **options) as haproxy:
        yield Chain(backend, gatepost, haproxy)


def send(client, subject="test"):
    """One message; the reply to its end."""
    client.hello()
    reply = client.message(body=f"Subject: {subject}\r\n\r\ntext\r\n".encode())
    client.quit()
    return reply


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


# ---- The client's address

@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("server, version", [("send-proxy", 1), ("send-proxy-v2", 2)])
def test_connection_object(server, version, host):
    with chain(server, host=host) as all_:
        source = CLIENT if host == "127.0.0.1" else "::1"
        with Client(all_.haproxy.address, source=source) as client:
            assert send(client).code == 250
            port = client.port
        trace, = all_.gatepost.trace()
        assert UUID.fullmatch(trace["uuid"])
        assert trace["remote"]["ip"] == source
        assert trace["remote"]["port"] == port
        assert trace["remote"]["host"] is None
        assert trace["remote"]["host_status"] == "off"
        assert trace["remote"]["is_local"] and trace["remote"]["is_private"]
        assert (trace["local"]["ip"], trace["local"]["port"]) == all_.haproxy.address
        assert trace["hello"] == {"verb": "EHLO", "host": "client.example.net"}
        proxy = trace["proxy"]
        assert proxy["allowed"] is True
        assert proxy["ip"] == "127.0.0.1"
        assert proxy["type"] == "haproxy"
        assert proxy["version"] == version
        assert proxy["command"] == "PROXY"
        assert proxy["family"] == ("TCP4" if host == "127.0.0.1" else "TCP6")
        assert (proxy["local_ip"], proxy["local_port"]) == all_.gatepost.address
        assert [proxy[name] for name in ("tls", "authority", "alpn", "unique_id", "netns")] \
            == [None] * 5
        assert proxy["tlvs"] == []
        assert trace["relaying"] is False and trace["is_restricted"] is False
        transaction, = trace["transactions"]
        assert transaction["uuid"] == trace["uuid"] + ".1"
        assert (transaction["outcome"], transaction["by"]) == ("accepted", "backend")
        assert trace["ending"] == "quit"
        message, = all_.backend.messages()
        assert f"[{source if host == '127.0.0.1' else 'IPv6:::1'}]".encode() in message["body"]
        assert all_.alarms() == []


def test_relaying_goes_by_the_client_not_by_haproxy():
    config = {"relay": {"domains": ["example.com"], "networks": ["198.51.100.0/24"]}}
    with chain(config=config, bind="accept-proxy") as all_:
        for source, code in (("198.51.100.7", 250), ("192.0.2.7", 554)):
            with Client(all_.haproxy.address, proxy_v1((source, 40007))) as client:
                client.hello()
                client.command("MAIL FROM:<a@example.net>", 250)
                reply = client.command("RCPT TO:<x@elsewhere.example>", code)
                assert reply.enhanced == ("2.1.5" if code == 250 else "5.7.1")
                client.quit()
        assert [trace["remote"]["ip"] for trace in all_.gatepost.trace(count=2)] \
            == ["198.51.100.7", "192.0.2.7"]
        assert [trace["relaying"] for trace in all_.gatepost.trace(count=2)] == [True, False]


def test_optional_listener_takes_haproxy_and_direct_clients():
    with chain(proxy="optional") as all_:
        with Client(all_.haproxy.address, source=CLIENT) as client:
            assert send(client).code == 250
        with Client(all_.gatepost.address, source="127.0.0.8") as client:
            assert send(client).code == 250
        seen = [(trace["remote"]["ip"], trace["proxy"]["type"])
                for trace in all_.gatepost.trace(count=2)]
        assert seen == [(CLIENT, "haproxy"), ("127.0.0.8", None)]


# ---- What the TLVs of version 2 say

NO_TLS = {"used": False, "version": None, "cipher": None, "cn": None, "verify": 0,
          "client_certificate": False, "certificate_verified": False}
OPTIONS = {
    # name: options of the server, of the bind line ({…}: certificates), of the client's TLS (None:
    # no TLS), further lines of the frontend, expected
    "ssl-clear": ("ssl", "", None, [], {"tls": NO_TLS}),
    "ssl": ("ssl", "ssl crt {server}", {}, [],
            {"tls": {"used": True, "version": "TLSv1.3", "cn": None, "client_certificate": False,
                     "certificate_verified": False}}),
    "ssl-1.2": ("ssl", "ssl crt {server}", {"newest": ssl.TLSVersion.TLSv1_2}, [],
                {"tls": {"used": True, "version": "TLSv1.2"}}),
    "cn": ("ssl,cert-cn", "ssl crt {server} ca-file {authority} verify optional",
           {"certificate": "client"}, [],
           {"tls": {"used": True, "cn": "client", "client_certificate": True, "verify": 0,
                    "certificate_verified": True}}),
    "cn-stranger": ("ssl,cert-cn", "ssl crt {server} ca-file {authority} verify optional "
                                   "crt-ignore-err all ca-ignore-err all",
                    {"certificate": "stranger"}, [],
                    {"tls": {"used": True, "cn": "stranger", "client_certificate": True,
                             "certificate_verified": False}}),
    "cn-none": ("ssl,cert-cn", "ssl crt {server} ca-file {authority} verify optional", {}, [],
                {"tls": {"used": True, "cn": None, "client_certificate": False,
                         "certificate_verified": False}}),
    "cipher": ("ssl,ssl-cipher", "ssl crt {server}", {}, [],
               {"tls": {"cipher": re.compile("TLS_AES_.*|TLS_CHACHA.*")}}),
    "cert-sig-key": ("ssl,cert-sig,cert-key", "ssl crt {server}", {}, [],
                     {"tls": {"sig_alg": "RSA-SHA256", "key_alg": "RSA2048"}}),
    "authority": ("authority", "ssl crt {server}", {"name": "mx.example.com"}, [],
                  {"authority": "mx.example.com", "tls": None}),
    "authority-without-sni": ("authority", "ssl crt {server}", {}, [], {"authority": None}),
    "alpn": ("ssl", "ssl crt {server} alpn smtp,h2", {"alpn": ["smtp"]}, [], {"alpn": "smtp"}),
    "crc32c": ("crc32c", "", None, [], {"tls": None, "tlvs": []}),
    "unique-id": ("unique-id", "", None, ["unique-id-format session-%[src_port]"],
                  {"unique_id": re.compile(r"session-\d+")}),
    "unique-id-unset": ("unique-id", "", None, [], {"unique_id": ""}),
    "all-clear": ("ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id", "", None,
                  ["unique-id-format %[uuid]"],
                  {"tls": NO_TLS, "authority": None, "unique_id": re.compile("[0-9a-f-]{36}")}),
    "all": ("ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id",
            "ssl crt {server} ca-file {authority} verify optional alpn smtp",
            {"certificate": "client", "name": "mx.example.com", "alpn": ["smtp"]},
            ["unique-id-format %[uuid]"],
            {"tls": {"used": True, "cn": "client", "certificate_verified": True,
                     "key_alg": "RSA2048", "sig_alg": "RSA-SHA256"},
             "authority": "mx.example.com", "alpn": "smtp",
             "unique_id": re.compile("[0-9a-f-]{36}"), "tlvs": []}),
}


def assert_is(found, wanted, where):
    """Mappings are compared in the keys that are wanted, patterns matched."""
    if isinstance(wanted, dict):
        assert found is not None, where
        for key, value in wanted.items():
            assert_is(found[key], value, f"{where}.{key}")
    elif isinstance(wanted, re.Pattern):
        assert wanted.fullmatch(found), f"{where}: {found!r}"
    else:
        assert found == wanted, where


def make_certificates(certificates):
    paths = {name: certificates.directory / f"{name}.pem" for name in ("server", "client")}
    for name, path in paths.items():
        if not path.exists():
            certificates.make(name)
    if not (certificates.directory / "stranger.pem").exists():
        certificates.make("stranger", signed_by=None)
    return {**paths, "authority": certificates.authority}


def wrap(client, certificates, certificate=None, name=None, **options):
    path = certificates.directory / f"{certificate}.pem" if certificate else None
    client.socket = client_context(path, **options).wrap_socket(client.socket,
                                                                server_hostname=name)


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_version_2(name, certificates):
    server, bind, tls, frontend, wanted = OPTIONS[name]
    paths = make_certificates(certificates)
    with chain(f"send-proxy-v2 proxy-v2-options {server}", bind=bind.format(**paths),
               frontend=frontend) as all_:
        with Client(all_.haproxy.address, source=CLIENT) as client:
            if tls is not None:
                wrap(client, certificates, **tls)
            assert send(client).code == 250
        trace, = all_.gatepost.trace()
        assert trace["remote"]["ip"] == CLIENT
        assert trace["proxy"]["version"] == 2
        assert_is(trace["proxy"], wanted, "proxy")
        assert all_.alarms() == []


def test_tls_at_haproxy_is_known(certificates):
    """`tls` says that the client used TLS, and that it was not ours."""
    paths = make_certificates(certificates)
    with chain("send-proxy-v2 proxy-v2-options ssl,ssl-cipher,authority",
               bind=f"ssl crt {paths['server']}") as all_:
        with Client(all_.haproxy.address, source=CLIENT) as client:
            wrap(client, certificates, name="mx.example.com")
            assert send(client).code == 250
        tls = all_.gatepost.trace()[0]["tls"]
        assert tls["offloaded"] is True
        assert tls["version"] == "TLSv1.3"
        assert tls["cipher"].startswith("TLS_")
        assert tls["sni"] == "mx.example.com"


# ---- Health checks

SMTPCHK = ["option smtpchk EHLO haproxy.example.com"]
CHECKS = {
    # name: options of the server, lines of the backend, settings of the listener
    "smtpchk-v2": ("send-proxy-v2 check", SMTPCHK, {}),
    "smtpchk-v2-default": ("send-proxy-v2 check", ["option smtpchk"], {}),
    "smtpchk-v2-all-tlvs": ("send-proxy-v2 proxy-v2-options ssl,authority,crc32c,unique-id check",
                            SMTPCHK, {}),
    "smtpchk-v1": ("send-proxy check", SMTPCHK, {}),
    "smtpchk-check-send-proxy": ("check check-send-proxy", SMTPCHK, {}),
    "smtpchk-v2-and-check-send-proxy": ("send-proxy-v2 check check-send-proxy", SMTPCHK, {}),
    "connect-v2": ("send-proxy-v2 check", [], {}),
    "connect-v1": ("send-proxy check", [], {}),
    "tcp-check-v2": ("send-proxy-v2 check",
                     ["option tcp-check", "tcp-check expect rstring ^220",
                      "tcp-check send QUIT\\r\\n", "tcp-check expect rstring ^221"], {}),
    "smtpchk-without-header": ("check", SMTPCHK, {"health_checkers": ["127.0.0.1"]}),
    "connect-without-header": ("check", [], {"health_checkers": ["127.0.0.1"]}),
    "smtpchk-optional": ("send-proxy-v2 check", SMTPCHK, {"proxy": "optional"}),
}


@pytest.mark.parametrize("name", CHECKS)
def test_health_check(name):
    """HAProxy says UP, the log has nothing to complain about, and no mail server is bothered."""
    server, backend, listener = CHECKS[name]
    with chain(f"{server} inter 100ms fastinter 100ms rise 1 fall 1", backend=backend,
               listener=listener) as all_:
        row = all_.haproxy.wait_checked("UP")
        if "option smtpchk" in " ".join(backend):
            assert row["check_status"] == "L7OK", row
            assert row["check_code"] in ("250", "221")
        if "send-proxy-v2" in server:
            all_.gatepost.wait_log("checker", count=5)
        else:
            time.sleep(0.5)  # some more of them
        row = all_.haproxy.wait_checked("UP")
        assert row["chkdown"] == "0" and row["chkfail"] == "0"
        assert all_.alarms() == []
        assert all_.sessions_with_mail() == []
        if "send-proxy-v2" in server:
            # Version 2 can tell a check from a client: nothing of it above debug, nor in the trace.
            assert all_.gatepost.log_records("connection") == []
            assert {record["level"] for record in all_.gatepost.log_records("checker")} \
                == {"debug"}
            assert all_.gatepost.trace(count=0) == []


def test_health_check_on_a_port_of_its_own():
    """`check port` sends no header: the port's listener knows the checker by its address."""
    health = {"name": "health", "bind": ["127.0.0.1:0"], "proxy": "required",
              "trusted_proxies": ["192.0.2.1"], "health_checkers": ["127.0.0.1"]}
    mx = {"name": "mx", "bind": ["127.0.0.1:0"], "proxy": "required", "trusted_proxies": TRUSTED}
    with Backend() as backend, \
            Gatepost({"listeners": [mx, health]}, backend=backend) as gatepost, \
            HAProxy(gatepost.address, f"send-proxy-v2 check port {gatepost.port('health')} "
                    "inter 100ms rise 1 fall 1", backend=SMTPCHK) as haproxy:
        all_ = Chain(backend, gatepost, haproxy)
        assert haproxy.wait_checked("UP")["check_status"] == "L7OK"
        with Client(haproxy.address, source=CLIENT) as client:
            assert send(client).code == 250
        assert all_.alarms() == []
        checker = gatepost.wait_log("checker")
        assert (checker["listener"], checker["peer"]) == ("health", "127.0.0.1")


def test_health_check_without_header_is_refused_elsewhere():
    """The opposite: a check that sends no header to a listener that requires one is DOWN."""
    with chain("check inter 100ms rise 1 fall 1", backend=SMTPCHK,
               config={"timeouts": {"proxy": "300ms"}}) as all_:
        all_.haproxy.wait_checked("DOWN")
        assert all_.gatepost.wait_log("proxy_refused")["peer"] == "127.0.0.1"


def test_health_checks_do_not_count_against_clients():
    """Checks of version 2 are in no limit, although they come more often than the limit allows."""
    config = {"limits": {"connections_per_client": 1}}
    with chain("send-proxy-v2 check inter 20ms rise 1 fall 1", backend=SMTPCHK,
               config=config) as all_:
        all_.haproxy.wait_checked("UP")
        with Client(all_.haproxy.address, source="127.0.0.1") as client:
            client.hello()
            checks = len(all_.gatepost.log_records("checker"))
            all_.gatepost.wait_log("checker", count=checks + 5)
            assert client.message().code == 250
            with Client(all_.haproxy.address, source="127.0.0.1") as second:
                second.expect(421)
            client.quit()
        assert all_.haproxy.wait_checked("UP")["chkdown"] == "0"


def test_haproxy_sees_gatepost_go_and_come_back():
    with chain("send-proxy-v2 check inter 100ms rise 1 fall 1", backend=SMTPCHK,
               listener={"bind": [f"127.0.0.1:{keep_port()}"]}) as all_:
        all_.haproxy.wait_checked("UP")
        all_.gatepost.stop()
        all_.haproxy.wait_checked("DOWN")
        all_.gatepost.start()
        all_.haproxy.wait_checked("UP")
        with Client(all_.haproxy.address, source=CLIENT) as client:
            assert send(client).code == 250


# ---- Clients without an address, and chains

@pytest.mark.parametrize("server", ["send-proxy", "send-proxy-v2",
                                    "send-proxy-v2 proxy-v2-options ssl,crc32c,unique-id"])
def test_client_over_a_unix_socket_sends_no_mail(server):
    """HAProxy announces it as UNKNOWN or LOCAL: nobody knows who it is."""
    with chain(server, host="unix", config={"log": {"trace_restricted": True}}) as all_:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(all_.haproxy.unix_path))
            stream = connection.makefile("rwb")
            assert stream.readline().startswith(b"220 ")
            replies = []
            for line in (b"HELO me\r\n", b"MAIL FROM:<a@example.net>\r\n", b"NOOP\r\n",
                         b"RCPT TO:<b@example.com>\r\n", b"QUIT\r\n"):
                stream.write(line)
                stream.flush()
                replies.append(stream.readline().split(b" ")[:2])
            assert stream.readline() == b""
        assert [code for code, _ in replies] == [b"250", b"550", b"250", b"550", b"221"]
        assert replies[1][1] == b"5.7.1"
        trace, = all_.gatepost.trace()
        assert trace["is_restricted"] is True
        assert trace["remote"]["ip"] == "127.0.0.1"
        assert trace["transactions"] == []
        assert all_.sessions_with_mail() == []
        assert all_.alarms() == []


@pytest.mark.parametrize("first, second", [("send-proxy", "send-proxy"),
                                           ("send-proxy", "send-proxy-v2"),
                                           ("send-proxy-v2", "send-proxy"),
                                           ("send-proxy-v2", "send-proxy-v2")])
def test_two_haproxies_in_a_row(first, second):
    with chain(second, bind="accept-proxy") as all_, \
            HAProxy(all_.haproxy.address, first) as outer:
        with Client(outer.address, source=CLIENT) as client:
            assert send(client).code == 250
        trace, = all_.gatepost.trace()
        assert trace["remote"]["ip"] == CLIENT
        assert (trace["local"]["ip"], trace["local"]["port"]) == outer.address


def test_authority_passes_a_chain(certificates):
    paths = make_certificates(certificates)
    options = "send-proxy-v2 proxy-v2-options authority,crc32c"
    with chain(options, bind="accept-proxy") as all_, \
            HAProxy(all_.haproxy.address, options, bind=f"ssl crt {paths['server']}") as outer:
        with Client(outer.address, source=CLIENT) as client:
            wrap(client, certificates, name="mx.example.com")
            assert send(client).code == 250
        assert all_.gatepost.trace()[0]["proxy"]["authority"] == "mx.example.com"


# ---- Load

def test_many_clients_at_once():
    """Each connection keeps its own client, whatever goes on beside it."""
    with chain() as all_:
        sources = [f"127.0.1.{n}" for n in range(1, 41)]
        with contextlib.ExitStack() as stack:
            clients = {source: stack.enter_context(Client(all_.haproxy.address, source=source))
                       for source in sources}
            for client in clients.values():
                client.hello()
            for source, client in clients.items():
                client.envelope(f"{source}@example.net")
            for source, client in reversed(clients.items()):
                assert client.data(f"Subject: {source}\r\n\r\ntext\r\n".encode()).code == 250
            for client in clients.values():
                client.quit()
        messages = all_.backend.messages()
        assert len(messages) == len(sources)
        for message in messages:
            source = message["mail_from"].partition("@")[0]
            assert f"[{source}]".encode() in message["body"]
            assert f"Subject: {source}\r\n".encode() in message["body"]
        traces = all_.gatepost.trace(count=len(sources))
        assert sorted(trace["remote"]["ip"] for trace in traces) == sorted(sources)
        assert len({trace["uuid"] for trace in traces}) == len(sources)
        assert all_.alarms() == []


def test_header_less_client_does_not_get_past_haproxy_s_listener():
    """Somebody who speaks to gatepost directly and is no balancer."""
    with chain() as all_, Client(all_.gatepost.address, source=CLIENT) as client:
        assert client.expect(421)
        assert client.is_ended()
