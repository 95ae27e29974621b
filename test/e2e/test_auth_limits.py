"""AUTH: how many guesses there are, how long they take, and that they are nobody else's trouble."""

import base64
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from auth import Scram, auth_plain, encode, hash_password, plain, quick_hash
from auth_rig import (MX, SECRETS, WRONG, Gatepost, backend, brisk_users, configured, fail, latest,
                      limited, listener, pair, quick_users, session, succeed, users)
from client import Client, proxy_v1
from patience import tight, wait_until
from processes import children
from threaded import Workers
from tls import trusting, wrap

# ---- Limits

def test_limit_of_a_connection(backend, quick_users, pair):
    one = listener("mx", pair, users=str(quick_users))
    with Gatepost(configured(one), backend=backend) as gatepost, session(gatepost) as client:
        for _ in range(2):
            assert auth_plain(client, "bea", WRONG).code == 535
        assert auth_plain(client, "bea", WRONG).code == 535
        reply = client.reply()
        assert (reply.code, reply.enhanced) == (421, "4.7.0")
        assert client.is_ended()
        assert latest(gatepost, client)["ending"] == "auth_failures"


@tight
def test_limit_of_a_client(backend, quick_users, pair):
    """Across connections and users; others are not touched by it, and it passes."""
    with limited(backend, quick_users, pair, failures_per_client=4, failure_window="3s") as gatepost:
        assert fail(gatepost, "bea", "127.0.0.2", 3) == [535] * 3
        assert succeed(gatepost, "bea", "127.0.0.2") == 235
        assert fail(gatepost, "nobody", "127.0.0.2", 3) == [535, 454, 454]
        # Even the right one is not looked at now.
        assert succeed(gatepost, "shane", "127.0.0.2") == 454
        assert succeed(gatepost, "bea", "127.0.0.3") == 235
        log = gatepost.wait_log("auth_limited")
        assert log["client"] == "127.0.0.2"
        # Written once a connection, whatever it tries; failures are all there for who counts them.
        assert len(gatepost.log_records("auth_limited")) == 2
        assert len(gatepost.log_records("auth_failed", client="127.0.0.2", result="refused")) == 4
        time.sleep(3.2)
        assert succeed(gatepost, "bea", "127.0.0.2") == 235


def test_limit_of_a_client_behind_a_balancer(backend, quick_users, pair):
    """The client is the client, not the balancer."""
    one = listener("mx", pair, proxy="required", users=str(quick_users), failure_delay="50ms",
                   failures_per_client=2)
    with Gatepost(configured(one), backend=backend) as gatepost:
        for source, codes in (("198.51.100.7", [535, 535]), ("198.51.100.8", [535, 535]),
                              ("198.51.100.7", [454])):
            with Client(("127.0.0.1", gatepost.port())) as client:
                wrap(client, trusting(), MX, before=proxy_v1((source, 1025)))
                client.hello()
                assert [auth_plain(client, "bea", WRONG).code for _ in codes] == codes


@tight
def test_limit_of_a_user(backend, quick_users, pair):
    """Guessed at from many addresses: those that guess are put off, the user is not locked out."""
    with limited(backend, quick_users, pair, failures_per_user=4, failure_window="4s") as gatepost:
        for number in range(4):
            assert fail(gatepost, "bea", f"127.0.0.{10 + number}", 1) == [535]
        # Who has failed as this user is not believed, not even the right password.
        assert succeed(gatepost, "bea", "127.0.0.10") == 454
        assert gatepost.wait_log("auth_limited")
        assert succeed(gatepost, "bea", "127.0.0.20") == 235
        # One try each is all that others have.
        assert fail(gatepost, "bea", "127.0.0.21", 3) == [535, 454, 454]
        assert succeed(gatepost, "shane", "127.0.0.10") == 235
        time.sleep(4.2)
        assert succeed(gatepost, "bea", "127.0.0.10") == 235


def last_replies_of_scram(gatepost, name, source, password):
    """The reply to the proof, without what follows a challenge."""
    with session(gatepost, source=source) as client:
        exchange = Scram(name, password)
        first = client.command(f"AUTH SCRAM-SHA-256 {encode(exchange.first)}", 334)
        return str(client.command(encode(exchange.final(base64.b64decode(first.text)))))


def test_scram_tells_nothing_of_a_user_who_is_put_off(backend, quick_users, pair):
    """The server's signature would tell a guesser that the password is right."""
    with limited(backend, quick_users, pair, failures_per_user=2) as gatepost:
        for number in range(20):
            fail(gatepost, "scott", f"127.0.0.{21 + number}", 1)
        told = {last_replies_of_scram(gatepost, "scott", f"127.0.0.{51 + number}", password)
                for number, password in enumerate((WRONG, SECRETS["scott"]))}
        assert len(told) == 1 and told.pop().startswith("454 ")


@pytest.mark.parametrize("password", [WRONG, SECRETS["bea"]])
def test_limit_of_a_client_does_not_tell_what_was_right(backend, quick_users, pair, password):
    """A try that is put off counts for the client, also with the right password: else a guesser
    would see by when his limit comes whether the right one was among his guesses."""
    with limited(backend, quick_users, pair, failures_per_user=1, failures_per_client=4) as gatepost:
        for number in range(10):
            fail(gatepost, "bea", f"127.0.0.{21 + number}", 1)
        for guess in (WRONG, password, WRONG, WRONG):
            with session(gatepost, source="127.0.0.51") as client:
                assert auth_plain(client, "bea", guess).code == 454
        with session(gatepost, source="127.0.0.51") as client:
            assert auth_plain(client, "shane", SECRETS["shane"]).code == 454


def test_honest_logins_pass_while_many_guess_at_that_user(backend, quick_users, pair):
    """A brute force from very many addresses is closed out after ten times the limit; where the user
    has logged in from before, he still does."""
    with limited(backend, quick_users, pair, failures_per_user=3) as gatepost:
        assert succeed(gatepost, "bea", "127.0.0.2") == 235
        codes = [fail(gatepost, "bea", f"127.0.1.{number}", 2) for number in range(1, 41)]
        assert codes.count([535, 535]) == 1  # the first two of three
        assert codes.count([535, 454]) == 28
        assert codes.count([454, 454]) == 11
        assert succeed(gatepost, "bea", "127.0.0.2") == 235
        assert succeed(gatepost, "bea", "127.0.0.3") == 454, "nobody knows that it is the user"
        assert fail(gatepost, "bea", "127.0.0.2", 1) == [535]
        assert succeed(gatepost, "bea", "127.0.0.2") == 235
        assert succeed(gatepost, "shane", "127.0.0.3") == 235


def test_failures_tell_who_was_tried(backend, quick_users, pair):
    """As an operator wants to know whose password is guessed at."""
    with limited(backend, quick_users, pair) as gatepost:
        fail(gatepost, "bea", "127.0.0.2", 1)
        assert gatepost.wait_log("auth_failed")["user"] == "bea"


class Attack(Workers):
    """Guesses by some threads, each with connections of its own, until it is left."""

    def __init__(self, gatepost, source, threads=6):
        super().__init__(threads)
        self.codes = []
        self._gatepost, self._source = gatepost, source

    def work(self, number):
        while not self.stopped.is_set():
            with contextlib.suppress(OSError, AssertionError):
                with session(self._gatepost, source=self._source) as client:
                    while not self.stopped.is_set():
                        self.codes.append(auth_plain(client, f"guess{number}", WRONG).code)


@pytest.mark.parametrize("per_client", [0, 10])
def test_honest_logins_pass_while_one_guesses(backend, brisk_users, pair, per_client):
    with limited(backend, brisk_users, pair, failures_per_client=per_client) as gatepost:
        with Attack(gatepost, "127.0.0.66") as attack:
            wait_until(lambda: len(attack.codes) >= 20, 60)
            for name in ("bea", "shane", "scott", "yves"):
                started = time.monotonic()
                assert succeed(gatepost, name, "127.0.0.3") == 235
                assert time.monotonic() - started < 12
        assert 235 not in attack.codes
        if per_client:
            assert attack.codes.count(535) <= per_client + 6  # those under way at a time
        assert succeed(gatepost, "bea", "127.0.0.4") == 235


@tight
def test_the_loop_does_not_wait_for_passwords(backend, users, pair):
    """While many are checked, others are served as fast as ever."""
    with limited(backend, users, pair) as gatepost, Attack(gatepost, "127.0.0.66", 12) as attack:
        wait_until(lambda: len(attack.codes) >= 5, 60)
        slowest = 0
        with session(gatepost) as client:
            for _ in range(30):
                started = time.monotonic()
                client.command("NOOP", 250)
                slowest = max(slowest, time.monotonic() - started)
        assert slowest < 0.5


# Of crypt(3), for no password: a check takes a good part of a second.
DEAR_HASH = "$6$rounds=1000000$saltsaltsaltsalt$" + "x" * 86


def quickest_refusals(gatepost, *names, times, most, is_enough):
    """Of so many tries, or of more: a busy machine makes some of them slow."""
    quickest, tries = {}, 0
    while tries < times or (tries < most and not is_enough(quickest)):
        tries += 1
        with session(gatepost) as client:
            for name in names:
                started = time.monotonic()
                assert auth_plain(client, name, WRONG).code == 535
                took = time.monotonic() - started
                quickest[name] = min(took, quickest.get(name, took))
    return quickest


def test_unknown_users_cost_the_same(backend, pair, tmp_path):
    """All hashes of one kind: the quickest of some tries are of a size."""
    path = tmp_path / "users"
    path.write_text(hash_password("shane", SECRETS["shane"], "sha512"))
    path.chmod(0o600)
    with limited(backend, path, pair, failure_delay="0ms") as gatepost:
        def are_of_a_size(quickest):
            return min(quickest.values()) > max(quickest.values()) * 0.6
        assert are_of_a_size(quickest_refusals(gatepost, "shane", "nobody", times=6, most=60,
                                               is_enough=are_of_a_size))
        assert not gatepost.log_records("config_notice")


def test_the_delay_hides_the_check(backend, pair, tmp_path):
    """A user with a dear hash among many with cheap ones was told from nobody by the time."""
    path = tmp_path / "users"
    path.write_text(f"dear:{DEAR_HASH}\n" + quick_hash("bea", SECRETS["bea"], "bcrypt")
                    + quick_hash("yves", SECRETS["yves"], "bcrypt"))
    path.chmod(0o600)
    with limited(backend, path, pair, failure_delay="0ms") as gatepost:
        def tells(quickest):
            return quickest["dear"] > quickest["nobody"] + 0.2
        quickest = quickest_refusals(gatepost, "dear", "nobody", times=1, most=20, is_enough=tells)
        assert tells(quickest), "the hash is not dear enough to tell"
        assert "hashes are of 2 kinds or costs" in gatepost.wait_log("config_notice")["detail"]
    with limited(backend, path, pair, failure_delay="3s") as gatepost:
        def are_the_same(quickest):
            return abs(quickest["dear"] - quickest["nobody"]) < 0.1
        assert are_the_same(quickest_refusals(gatepost, "dear", "nobody", times=1, most=20,
                                              is_enough=are_the_same))


def test_client_that_goes_during_the_check(backend, users, pair):
    """In the middle of a check, of a delay, of an exchange: nothing is left behind."""
    with limited(backend, users, pair, failure_delay="200ms") as gatepost:
        before = gatepost.fds()
        for last in (None, plain("yves", SECRETS["yves"]), plain("yves", WRONG)):
            for wait in (0, 0.05, 0.2):
                with session(gatepost) as client:
                    if last:
                        client.send(f"AUTH PLAIN {last}\r\n")
                    else:
                        client.command("AUTH SCRAM-SHA-256 " + encode(Scram("scott", "").first), 334)
                    time.sleep(wait)
        gatepost.wait_fds(before)
        assert succeed(gatepost, "bea", None) == 235


# ---- The process that checks

@tight
def test_process_that_checks_dies(backend, quick_users, pair):
    """Who waits gets a temporary refusal; the next are checked by a new one."""
    with limited(backend, quick_users, pair) as gatepost:
        assert succeed(gatepost, "bea", None) == 235
        worker, = children(gatepost.pid)
        with session(gatepost) as client:
            os.kill(worker, signal.SIGSTOP)
            client.send(f"AUTH PLAIN {plain('bea', SECRETS['bea'])}\r\n")
            time.sleep(0.3)  # until it is asked; nothing tells
            os.kill(worker, signal.SIGKILL)
            assert client.reply().code == 454
            assert gatepost.wait_log("auth_service_failed")["service"] == "users"
            assert auth_plain(client, "bea", SECRETS["bea"]).code == 235
        assert children(gatepost.pid) != [worker]


def test_process_that_checks_ends_with_the_program(backend, quick_users, pair):
    with limited(backend, quick_users, pair) as gatepost:
        succeed(gatepost, "bea", None)
        worker, = children(gatepost.pid)
        assert len(os.listdir(f"/proc/{worker}/fd")) <= 6  # no client's socket
    wait_until(lambda: not Path(f"/proc/{worker}").exists())
