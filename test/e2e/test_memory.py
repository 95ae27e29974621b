"""Memory depends neither on the size of a message nor on how fast anybody is.

$GATEPOST_RELEASE may name a program without sanitizers: then it is measured, with tight bounds. The
sanitized one keeps shadow memory beside each allocation, so its bounds are wider; both are far
below what is sent. $GATEPOST_LARGE=1 sends 1 GB instead of 300 MB.
"""

import os
import struct
import threading
import time
from pathlib import Path

import pytest
from backend import Backend
from client import Client
from gatepost import FLAT, Gatepost, is_sanitized, merge
from patience import tight, wait_until

MB = 1024 * 1024
LARGE = (1024 if os.environ.get("GATEPOST_LARGE") else 300) * MB
CHUNK = (b"z" * 998 + b"\r\n") * 1024
STUFFED = (b".." + b"z" * 60 + b"\r\n") * 16384
LONG_LINE = b"z" * MB
SIZE = {"limits": {"message_size": "4GB", "message_line": "1GB"},
        "timeouts": {"backend_data": "60s"}}


@pytest.fixture(scope="module", autouse=True)
def program_without_sanitizers():
    """The release build for this file, if there is one."""
    before = os.environ.get("GATEPOST")
    if os.environ.get("GATEPOST_RELEASE"):
        os.environ["GATEPOST"] = os.environ["GATEPOST_RELEASE"]
    yield
    if before is None:
        os.environ.pop("GATEPOST", None)
    else:
        os.environ["GATEPOST"] = before


def allowed_kb():
    """How much more than for 10 KB."""
    return 4096 if is_sanitized() else 1536


def start(backend, config=None):
    return Gatepost(merge(SIZE, config or {}), backend=backend, environment=FLAT)


def send_message(client, size, chunk=CHUNK, code=250):
    client.envelope("large@example.net")
    client.command("DATA", 354)
    client.send(b"Subject: large\r\n\r\n")
    sent = 0
    while sent < size:
        client.send(chunk)
        sent += len(chunk)
    client.send(b"\r\n.\r\n")
    client.expect(code)
    return sent


def peak_after(gatepost, size, **options):
    """Peak memory once a message of this size went through; how much was sent."""
    with Client(gatepost.address, timeout=120) as client:
        client.hello()
        sent = send_message(client, size, **options)
        client.quit()
    return gatepost.rss_kb(peak=True), sent


@pytest.mark.parametrize("chunk", [CHUNK, STUFFED, LONG_LINE], ids=["lines", "dots", "one-line"])
def test_large_message_costs_no_more_than_a_small_one(chunk):
    size = LARGE if chunk is CHUNK else LARGE // 4
    with Backend(record_body=False, extensions="PIPELINING,8BITMIME") as backend, \
            start(backend) as gatepost:
        peak_after(gatepost, 10 * 1024, chunk=chunk[:10 * 1024])
        small, _ = peak_after(gatepost, 10 * 1024, chunk=chunk[:10 * 1024])
        large, sent = peak_after(gatepost, size, chunk=chunk)
        assert large - small < allowed_kb(), f"{small} KB, then {large} KB"
        taken = backend.messages()[-1]["size"]
        dots = 2 * 16384 // 2 * (sent // len(chunk)) if chunk is STUFFED else 0
        assert 0 <= taken - (sent - dots) < 1000


def test_refused_message_costs_no_more():
    """Without a line end, above the longest line: refused once it is sure, and not kept."""
    with Backend(record_body=False) as backend, \
            start(backend, {"limits": {"message_size": "100MB"}}) as gatepost:
        peak_after(gatepost, 10 * 1024, chunk=CHUNK[:10000])
        small = gatepost.rss_kb(peak=True)
        with Client(gatepost.address, timeout=120) as client:
            client.hello()
            client.envelope()
            client.command("DATA", 354)
            try:
                for _ in range(1024):  # 1 GiB, if it were let
                    client.send(LONG_LINE)
            except OSError:
                pass
            codes = [reply.code for reply in client.replies()]
            assert codes and codes[0] // 100 == 5
        assert gatepost.rss_kb(peak=True) - small < allowed_kb()
        # 100 MB may come; four times that is swallowed to be answered at its end, and not more.
        assert gatepost.wait_log("connection", count=2)["ending"] == "message_too_big"


@tight
def test_slow_backend_makes_the_client_slow():
    """The client is held back: what is under way is what the buffers hold."""
    config = {"timeouts": {"backend_data": "6s"}}
    with Backend(record_body=False) as backend, start(backend, config) as gatepost:
        peak_after(gatepost, 10 * 1024, chunk=CHUNK[:10000])
        small = gatepost.rss_kb(peak=True)
        backend.set_faults(["body:stall:1000"])
        sent = 0
        with Client(gatepost.address) as client:
            client.hello()
            client.envelope()
            client.command("DATA", 354)
            client.send(b"Subject: slow\r\n\r\n")
            client.socket.settimeout(1)
            try:
                while sent < 200 * MB:
                    sent += client.socket.send(CHUNK)
            except TimeoutError:
                pass
            assert sent < 60 * MB  # sockets on loopback hold some megabytes each
            assert gatepost.rss_kb(peak=True) - small < allowed_kb()
            cpu = gatepost.cpu_seconds()
            time.sleep(0.5)
            assert gatepost.cpu_seconds() - cpu < 0.1
        # The backend is given up, what the sockets held is read, and nothing of it is left.
        gatepost.wait_idle()
        assert gatepost.wait_log("transaction", outcome="aborted")


def test_many_large_messages_side_by_side():
    with Backend(record_body=False) as backend, \
            start(backend, {"limits": {"connections_per_client": 0, "message_size": "100MB"}}) \
            as gatepost:
        peak_after(gatepost, 10 * 1024, chunk=CHUNK[:10000])
        small = gatepost.rss_kb(peak=True)
        threads = [threading.Thread(target=peak_after, args=(gatepost, 8 * MB))
                   for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Bounded by the number of connections, not by what they carry.
        assert gatepost.rss_kb(peak=True) - small < 12 * 512 + allowed_kb()
        assert len(backend.messages()) == 13


def test_idle_connections_are_small():
    with Backend() as backend, \
            start(backend, {"limits": {"connections_per_client": 0}}) as gatepost:
        gatepost.wait_idle()

        def hold(count):
            clients = [Client(gatepost.address) for _ in range(count)]
            for client in clients:
                client.hello()
            return clients
        first = hold(50)
        before = gatepost.rss_kb()
        second = hold(200)
        each = (gatepost.rss_kb() - before) / 200
        assert each < (60 if is_sanitized() else 16), f"{each} KB each"
        for client in first + second:
            client.close()
        gatepost.wait_idle()


@pytest.mark.parametrize("extensions", ["PIPELINING", "PIPELINING,CHUNKING"])
def test_connections_stopped_within_a_message_are_small(extensions):
    """What their messages have passed through is given back; chunks left ten times as much in holes."""
    with Backend(record_body=False, extensions=extensions) as backend, start(
            backend, {"limits": {"connections_per_client": 0}}) as gatepost:
        peak_after(gatepost, 512 * 1024)
        before = gatepost.rss_kb()
        clients = [Client(gatepost.address) for _ in range(100)]
        for client in clients:
            client.hello()
            client.envelope()
            client.command("DATA", 354)
        for client in clients:
            client.send(b"Subject: half\r\n\r\n" + CHUNK[:512 * 1024])

        def is_small():
            return gatepost.rss_kb() - before < 100 * (60 if is_sanitized() else 9)
        wait_until(is_small, complaint="they stay large")
        for client in clients:
            client.close()
        gatepost.wait_idle()


COUNTER = Path(os.environ.get("GATEPOST_BUILD", "build")).resolve() / "test/e2e/count_malloc.so"
QUIET = {"log": {"level": "info", "trace": None}}  # the trace of a connection grows with it


def test_a_message_takes_no_memory_of_malloc(tmp_path):
    """What it needs was kept of those before it (include/base/block.h)."""
    if is_sanitized():
        pytest.skip("under AddressSanitizer nothing is kept")
    file = tmp_path / "taken"
    file.write_bytes(bytes(8))
    environment = {"LD_PRELOAD": str(COUNTER), "COUNT_MALLOC": str(file)}

    def taken():
        return struct.unpack("=Q", file.read_bytes())[0]
    with Backend(record_body=False) as backend, \
            Gatepost(QUIET, backend=backend, environment=environment) as gatepost, \
            Client(gatepost.address) as client:
        assert taken() > 0

        def messages(count):
            before = taken()
            for number in range(count):
                client.envelope()
                assert client.data((b"y" * 70 + b"\r\n") * (1 + number % 50)).code == 250
            return taken() - before
        client.hello()
        messages(100)
        # Something else may happen once in a while, but not in each of them.
        assert min(messages(100) for _ in range(3)) == 0


def test_memory_comes_back_to_where_it_was():
    """Sessions of every kind, again and again: no growth from one round to the next."""
    with Backend() as backend, \
            start(backend, {"limits": {"connections_per_client": 0}}) as gatepost:
        def round_of_sessions():
            for number in range(60):
                with Client(gatepost.address) as client:
                    client.hello()
                    client.command("MAIL FROM:<a@example.net>", 250)
                    client.command("RCPT TO:<reject@example.com>", 550)
                    client.command("RCPT TO:<b@elsewhere.example>", 554)
                    if number % 3 == 0:
                        client.command("RCPT TO:<b@example.com>", 250)
                        assert client.data(b"x\r\n" * 2000).code == 250
                    if number % 3 == 1:
                        client.reset()
                    else:
                        client.quit()
            gatepost.wait_idle()
            return gatepost.rss_kb()
        for _ in range(2):
            before = round_of_sessions()
        for _ in range(3):
            after = round_of_sessions()
        assert after - before < 1024, f"{before} KB, then {after} KB"
