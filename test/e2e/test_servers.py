"""The servers of a backend: weights, backups, limits with a queue, names, unix sockets, health."""

import pytest
from backend import Backend
from client import Client
from dns import NameServer
from gatepost import NOWHERE, Gatepost
from ports import keep_port, leave_port


def config(servers, dns=None, timeouts=None, **backend):
    return {"timeouts": timeouts or {},
            "limits": {"connections_per_client": 0},
            "backends": [{"name": "mta", "servers": servers, **backend}],
            "dns": {"reverse": False, **(dns or {})}}


def local(backend):
    return f"127.0.0.1:{backend.port}"


def send_one(gatepost):
    """The reply to a message, or to its recipient if that was refused."""
    with Client(gatepost.address) as client:
        client.hello()
        client.command("MAIL FROM:<a@example.net>", 250)
        reply = client.command("RCPT TO:<b@example.com>")
        if reply.code == 250:
            reply = client.data()
        client.quit()
    return reply


def begin(gatepost):
    """A client whose recipient is on its way to a server."""
    client = Client(gatepost.address)
    client.hello()
    client.command("MAIL FROM:<a@example.net>", 250)
    client.send("RCPT TO:<b@example.com>\r\n")
    return client


def failed_for_clients(gatepost):
    """Without probes, which come five seconds after a failure."""
    return [record for record in gatepost.log_records("backend_failed") if record["uuid"]]


# ---- Balance

def test_weights():
    with Backend() as first, Backend() as second:
        servers = [{"address": local(first), "weight": 3}, local(second)]
        with Gatepost(config(servers, balance="roundrobin")) as gatepost:
            for _ in range(12):
                assert send_one(gatepost).code == 250
        assert [len(b.messages()) for b in (first, second)] == [9, 3]


def test_no_weight_no_mail():
    with Backend() as first, Backend() as second:
        servers = [{"address": local(first), "weight": 0}, local(second)]
        with Gatepost(config(servers)) as gatepost:
            assert send_one(gatepost).code == 250
            second.kill()
            assert send_one(gatepost).code == 451
        assert first.messages() == []


def test_backup():
    with Backend() as backup, Backend() as usual:
        servers = [{"address": local(backup), "backup": True}, local(usual)]
        with Gatepost(config(servers)) as gatepost:
            assert send_one(gatepost).code == 250
            assert [len(b.messages()) for b in (backup, usual)] == [0, 1]
            usual.kill()
            for _ in range(3):
                assert send_one(gatepost).code == 250
            assert len(backup.messages()) == 3
            # The first one noticed it, for all.
            assert len(failed_for_clients(gatepost)) == 1


# ---- Limits and the queue

@pytest.mark.parametrize("end", ["reply-close=421 4.7.0 too many errors", "reset"])
def test_who_tries_addresses_brings_no_server_down(end):
    """Some such clients, and everybody's mail went to the backup."""
    with Backend() as first, Backend() as backup:
        first.set_faults([f"rcpt8:{end}"])
        servers = [local(first), {"address": local(backup), "backup": True}]
        with Gatepost(config(servers, health={"fall": 2})) as gatepost:
            for _ in range(3):
                with Client(gatepost.address) as client:
                    client.hello()
                    client.command("MAIL FROM:<a@example.net>", 250)
                    for _ in range(17):
                        client.command("RCPT TO:<reject@example.com>", 550)
                    client.quit()
            assert send_one(gatepost).code == 250
            assert not gatepost.log_records("server_down")
        assert len(first.messages()) == 1
        assert not backup.commands("MAIL")


def test_full_server_is_passed_over():
    with Backend() as first, Backend() as second:
        servers = [{"address": local(first), "max_connections": 1}, local(second)]
        with Gatepost(config(servers)) as gatepost:
            gatepost.wait_idle()
            clients = []
            for _ in range(3):
                clients.append(begin(gatepost))
                clients[-1].expect(250)
            for client in clients:
                assert client.data().code == 250
                client.quit()
        assert [len(b.messages()) for b in (first, second)] == [1, 2]


def test_queue_is_served_in_order():
    with Backend() as backend:
        servers = [{"address": local(backend), "max_connections": 1}]
        with Gatepost(config(servers, timeouts={"backend_queue": "20s"})) as gatepost:
            gatepost.wait_idle()
            with begin(gatepost) as first:
                first.expect(250)
                waiting = [begin(gatepost) for _ in range(3)]
                assert all(client.is_silent(0.2) for client in waiting)
                assert first.data().code == 250
                first.quit()
            for client in waiting:
                client.expect(250)
                assert client.data().code == 250
                client.quit()
        assert len(backend.messages()) == 4


def test_queue_is_bounded_and_ends():
    with Backend() as backend:
        servers = [{"address": local(backend), "max_connections": 1}]
        with Gatepost(config(servers, queue=1, timeouts={"backend_queue": "1s"})) as gatepost:
            gatepost.wait_idle()
            with begin(gatepost) as first:
                first.expect(250)
                with begin(gatepost) as waiting:
                    assert waiting.is_silent(0.2)
                    with begin(gatepost) as refused:
                        assert refused.expect(451).enhanced == "4.3.2"
                        refused.quit()
                    assert waiting.expect(451).enhanced == "4.3.2"
                    waiting.quit()
                assert first.data().code == 250
                first.quit()
        assert len(backend.messages()) == 1


def test_who_leaves_the_queue_leaves_nothing():
    with Backend() as backend:
        servers = [{"address": local(backend), "max_connections": 1}]
        with Gatepost(config(servers, timeouts={"backend_queue": "20s"})) as gatepost:
            gatepost.wait_idle()
            with begin(gatepost) as first:
                first.expect(250)
                begin(gatepost).reset()
                with begin(gatepost) as last:
                    assert last.is_silent(0.2)
                    first.command("RSET", 250)
                    first.quit()
                    last.expect(250)
                    assert last.data().code == 250
                    last.quit()


def test_stop_while_somebody_waits():
    with Backend() as backend:
        servers = [{"address": local(backend), "max_connections": 1}]
        settings = config(servers, timeouts={"backend_queue": "60s"})
        with Gatepost(settings) as gatepost:
            gatepost.wait_idle()
            with begin(gatepost) as first, begin(gatepost) as waiting:
                first.expect(250)
                assert waiting.is_silent(0.2)
                gatepost.stop()


def test_no_queue():
    with Backend() as backend:
        servers = [{"address": local(backend), "max_connections": 1}]
        with Gatepost(config(servers, queue=0)) as gatepost:
            gatepost.wait_idle()
            with begin(gatepost) as first:
                first.expect(250)
                with begin(gatepost) as second:
                    second.expect(451)
                    second.quit()
                first.quit()


# ---- Names

def port_of_two(tries=20):
    """One that is free at 127.0.0.1 and at 127.0.0.2."""
    port = keep_port()
    try:
        return keep_port("127.0.0.2", port)
    except OSError:
        leave_port(port)
        if tries == 1:
            raise
        return port_of_two(tries - 1)


@pytest.fixture(name="pair")
def fixture_pair():
    """Backends at both, with the same port."""
    port = port_of_two()
    with Backend(port=port) as first, Backend(host="127.0.0.2", port=port) as second:
        yield first, second


def test_name_leads_elsewhere_later(pair):
    first, second = pair
    with NameServer({}, {"mta.test": ["127.0.0.1"]}, ttl=1) as dns:
        name = f"mta.test:{first.port}"
        with Gatepost(config([name], dns={"servers": [dns.address]})) as gatepost:
            assert gatepost.wait_log("name_resolved")["addresses"] == "127.0.0.1"
            assert send_one(gatepost).code == 250
            dns.set("mta.test", ["127.0.0.2"])
            assert gatepost.wait_log("name_resolved", count=2)["addresses"] == "127.0.0.2"
            assert send_one(gatepost).code == 250
            # What stops being resolved stays where it was; that is said once.
            dns.set("mta.test", 3)
            record = gatepost.wait_log("name_failed")
            assert (record["server"], record["reason"], record["addresses"]) == (name, "none", 1)
            assert send_one(gatepost).code == 250
            dns.set("mta.test", ["127.0.0.2"])
            gatepost.wait_log("name_resolved", count=3)
            assert len(gatepost.log_records("name_failed")) == 1
            assert [r["server"] for r in gatepost.log_records("transaction")] == [name] * 3
    assert [len(b.messages()) for b in pair] == [1, 2]


def test_addresses_of_a_name_are_used_in_turn_and_dead_ones_cost_nothing(pair):
    first, second = pair
    with NameServer({}, {"mta.test": ["127.0.0.1", "127.0.0.2", "::1"]}) as dns:
        with Gatepost(config([f"mta.test:{first.port}"], reuse={"mode": "never"},
                             dns={"servers": [dns.address]})) as gatepost:
            for _ in range(6):
                assert send_one(gatepost).code == 250
            assert min(len(b.messages()) for b in pair) >= 2
            first.kill()
            for _ in range(4):
                assert send_one(gatepost).code == 250
            assert gatepost.log_records("backend_failed") == []


def test_name_that_does_not_resolve_at_first(pair):
    first, _ = pair
    with NameServer({}, {}) as dns:
        with Gatepost(config([f"mta.test:{first.port}"],
                             dns={"servers": [dns.address]})) as gatepost:
            assert gatepost.wait_log("name_failed")["addresses"] == 0
            with Client(gatepost.address) as client:
                assert client.expect(421).enhanced == "4.4.1"
            dns.set("mta.test", ["127.0.0.1"])
            gatepost.wait_log("name_resolved")
            assert send_one(gatepost).code == 250


def test_name_of_the_hosts_file():
    with Backend() as backend:
        with Gatepost(config([f"localhost:{backend.port}"])) as gatepost:
            gatepost.wait_log("name_resolved")
            assert send_one(gatepost).code == 250


def test_name_that_leads_to_ourselves(pair):
    first, _ = pair
    port = keep_port()
    with NameServer({}, {"mta.test": ["127.0.0.3"]}, ttl=1) as dns:
        settings = config([f"mta.test:{port}"], dns={"servers": [dns.address]})
        with Gatepost(settings, listener={"bind": [f"127.0.0.1:{port}"]}) as gatepost:
            gatepost.wait_log("name_resolved")
            assert gatepost.log_records("config_notice") == []
            dns.set("mta.test", ["127.0.0.1"])
            assert "listener of our own" in gatepost.wait_log("config_notice")["detail"]
            with begin(gatepost) as client:
                assert "loop" in str(client.expect(451, 554))
                client.quit()
            assert len(gatepost.log_records("config_notice")) == 1


# ---- Unix sockets

@pytest.mark.parametrize("identity", ["none", "proxy-v1", "proxy-v2"])
def test_unix_socket(identity, tmp_path):
    path = str(tmp_path / "mta.sock")
    options = [] if identity == "none" else ["--proxy", identity[6:]]
    with Backend(*options, path=path) as backend:
        settings = config([f"unix:{path}"], identity=identity)
        with Gatepost(settings) as gatepost:
            assert send_one(gatepost).code == 250
            assert gatepost.log_records("transaction")[0]["server"] == f"unix:{path}"
            assert gatepost.log_records("backend_failed") == []
        assert len(backend.messages()) == 1
        # The probe says what it can: a real Postfix takes no header with the address "::".
        if identity == "proxy-v1":
            assert backend.connections()[0]["proxy"]["source"] == "127.0.0.1:25"


# ---- Health

def test_down_and_up():
    """Three failures, whoever has them; then probes, until it is there again."""
    with Backend() as first, Backend() as second:
        settings = config([local(first), local(second)], timeouts={"backend_probe": "1s"})
        with Gatepost(settings) as gatepost:
            gatepost.wait_idle()
            first.kill()
            down = gatepost.wait_log("server_down")
            assert (down["backend"], down["server"]) == ("mta", local(first))
            assert down["reason"] == "cannot be connected to"
            failed = len(failed_for_clients(gatepost))
            for _ in range(5):
                assert send_one(gatepost).code == 250
            assert len(failed_for_clients(gatepost)) == failed
            first.start()
            gatepost.wait_log("server_up", server=local(first))
            assert len(gatepost.log_records("server_down")) == 1


def test_one_client_finds_out_for_all():
    """Probes come by themselves then, although they are rare otherwise (1h)."""
    with Backend() as first, Backend() as second:
        with Gatepost(config([local(first), local(second)])) as gatepost:
            gatepost.wait_idle()
            first.kill()
            assert send_one(gatepost).code == 250
            gatepost.wait_log("server_down")
            assert send_one(gatepost).code == 250
            failed = gatepost.log_records("backend_failed")
            assert [bool(record["uuid"]) for record in failed[:3]] == [True, False, False]
            assert len(failed_for_clients(gatepost)) == 1


def test_all_down_are_tried_all_the_same():
    with Backend() as backend:
        with Gatepost(config([NOWHERE, local(backend)], health={"fall": 1}),
                      listener={"unavailable": "rcpt"}) as gatepost:
            gatepost.wait_log("server_down", server=NOWHERE)
            backend.kill()
            assert send_one(gatepost).code == 451
            gatepost.wait_log("server_down", server=local(backend))
            backend.start()
            assert send_one(gatepost).code == 250


@pytest.mark.parametrize("fault", ["dot:reply=451 4.3.0 later", "dot:reply=554 5.7.1 Relay access denied",
                                   "mail:reply=530 5.7.0 Authentication required"])
def test_too_many_temporary_refusals(fault):
    """Who blames us for the set-up refuses no less: that server took all the mail and kept none of it."""
    with Backend() as first, Backend() as second:
        with Gatepost(config([local(first), local(second)])) as gatepost:
            gatepost.wait_idle()
            first.set_faults([fault])
            replies = [send_one(gatepost).code for _ in range(24)]
            assert replies == [451] * 20 + [250] * 4
            record = gatepost.wait_log("server_down")
            assert record["reason"] == "too many temporary refusals"


@pytest.mark.parametrize("reply", ["421 4.3.2 going down", "251 2.0.0 perhaps"])
@pytest.mark.parametrize("extensions", ["PIPELINING", "PIPELINING,CHUNKING"])
def test_nonsense_and_goodbyes_at_the_end_of_a_message_are_noted(reply, extensions):
    """Each message went to that server, and to no other."""
    with Backend(extensions=extensions) as first, Backend() as second:
        with Gatepost(config([local(first), local(second)])) as gatepost:
            gatepost.wait_idle()
            first.set_faults([f"dot:reply={reply}"])
            assert [send_one(gatepost).code for _ in range(4)] == [451] + [250] * 3
            assert len(second.messages()) == 3


@pytest.mark.parametrize("check", ["ehlo", "banner", "connect"])
def test_check(check):
    with Backend() as backend:
        with Gatepost(config([local(backend)], health={"check": check})) as gatepost:
            assert send_one(gatepost).code == 250
            learned = gatepost.log_records("backend_learned")
            assert bool(learned) == (check == "ehlo")
            assert gatepost.log_records("backend_failed") == []
