"""What the tests of AUTH share: users, their passwords, listeners, sessions, and that nothing of a
secret is ever written.

    from auth_rig import backend, pair, quick_users  # fixtures, a set for each file
"""

import contextlib
import functools
import re
import time

import pytest
from auth import (BRISK, Discreet, assert_absent, auth_login, auth_plain, auth_scram, hash_password,
                  quick_hash)
from backend import Backend
from client import Client
from dovecot import Dovecot
from gatepost import merge
from tls import Authority, trusting, wrap

SENDER, ELSEWHERE = "alice@example.net", "somebody@elsewhere.example"
MX = "mx.example.net"
WRONG = "wrong-horse-battery-4711"
# Each long and like nothing else, so that it is found wherever it leaks to.
SECRETS = {
    "yves": "Yv3s-correct-horse-0815",
    "bea": "B3a-correct-staple-0816",
    "shane": "Sh4ne-correct-battery-0817",
    "scott": "Sc0tt-correct-donkey-0818",
    "both": "B0th-correct-mule-0819",
    "jörg": "Jörg-größer-als-0820",
    "a,b=c": "C0mma-equals-zebra-0821",
    "carol": "C4rol-dovecot-pony-0822",
    "dave": "D4ve-dovecot-pigeon-0823",
}
METHODS = {"yves": ["yescrypt"], "bea": ["bcrypt"], "shane": ["sha512"], "scott": ["scram"],
           "both": ["bcrypt", "scram"], "jörg": ["scram"], "a,b=c": ["scram"]}
DELAY_SECONDS = 0.2


# ---- Nothing of a secret is ever written

def assert_no_secrets(text, where, further=()):
    assert_absent([*SECRETS.values(), WRONG, *further], text, where)


class Gatepost(Discreet):
    secrets = (*SECRETS.values(), WRONG)


# ---- The parts

@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates")).make("mx", [MX])


def users_file(folder, hashed):
    path = folder / "users"
    path.write_text("# name:hash\n\n" + "".join(
        hashed(name, SECRETS[name], method)
        for name, methods in METHODS.items() for method in methods)
        + hashed("locked", SECRETS["yves"], "bcrypt").replace(":", ":!"))
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    """With hashes as gatepostctl makes them: a check takes a tenth of a second, and longer when the
    machine is busy. For tests of just that."""
    return users_file(tmp_path_factory.mktemp("users"), hash_password)


@pytest.fixture(scope="module")
def quick_users(tmp_path_factory):
    """The same users with hashes of the same kinds, as cheap as they may be."""
    return users_file(tmp_path_factory.mktemp("users"), quick_hash)


@pytest.fixture(scope="module")
def brisk_users(tmp_path_factory):
    """The same again: many checks at a time are a load, and yet are over soon on a busy machine."""
    return users_file(tmp_path_factory.mktemp("users"), functools.partial(quick_hash, settings=BRISK))


@pytest.fixture(scope="module")
def backend():
    with Backend() as running:
        yield running


def secured(pair, mode="implicit"):
    return {"mode": mode, "certificate": str(pair.certificate), "key": str(pair.key)}


def listener(name, pair=None, mode="implicit", proxy="off", **auth):
    trusted = {"trusted_proxies": ["127.0.0.1"]} if proxy != "off" else {}
    return {"name": name, "bind": ["127.0.0.1:0"], "proxy": proxy, **trusted,
            "tls": secured(pair, mode) if pair else {"mode": "off"},
            "auth": {"failure_delay": f"{int(DELAY_SECONDS * 1000)}ms", "failures_per_client": 0,
                     "failures_per_user": 0, **auth}}


def configured(*listeners, **more):
    return merge({"listeners": list(listeners),
                  "limits": {"connections_per_client": 1000, "auth_failures": 3}}, more)


@contextlib.contextmanager
def session(gatepost, name="mx", **options):
    """Under TLS where that is from the first byte; EHLO is said."""
    seen = len(gatepost.trace(count=0))
    with Client(("127.0.0.1", gatepost.port(name)), **options) as client:
        client.seen = seen
        mode = next(one["tls"]["mode"] for one in gatepost.config["listeners"]
                    if one["name"] == name)
        if mode == "implicit":
            wrap(client, trusting(), MX)
        client.hello()
        yield client


def offered(client):
    """Mechanisms in the reply to EHLO."""
    for line in client.command("EHLO client.example.net", 250).lines:
        if line.startswith("AUTH "):
            return line.split()[1:]
    return []


def latest(gatepost, client):
    """The trace of this client's session, which it ends."""
    port = client.port
    client.close()
    deadline = time.monotonic() + 30
    while True:
        # Ports are used again: what was in the trace before is somebody else's.
        found = [line for line in gatepost.trace(count=0)[client.seen:]
                 if line["remote"]["port"] == port]
        if found:
            return found[-1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def received(backend, uuid):
    return next(re.sub(rb"\r\n[ \t]+", b" ", message["body"]).decode("latin-1")
                for message in backend.messages()
                if f" id {uuid}\r\n".encode() in message["body"])


EXCHANGES = {
    "plain": (auth_plain, {}, "PLAIN"),
    "plain-later": (auth_plain, {"initial": False}, "PLAIN"),
    "login": (auth_login, {}, "LOGIN"),
    "login-initial": (auth_login, {"initial": True}, "LOGIN"),
    "scram": (auth_scram, {}, "SCRAM-SHA-256"),
    "scram-later": (auth_scram, {"initial": False}, "SCRAM-SHA-256"),
}


# ---- Limits

def limited(backend, users, pair, failure_delay="50ms", **auth):
    return Gatepost(configured(
        listener("mx", pair, users=str(users), failure_delay=failure_delay, **auth),
        limits={"auth_failures": 100}), backend=backend)


def fail(gatepost, name, source, times):
    with session(gatepost, source=source) as client:
        return [auth_plain(client, name, WRONG).code for _ in range(times)]


def succeed(gatepost, name, source):
    with session(gatepost, source=source) as client:
        return auth_plain(client, name, SECRETS[name]).code


# ---- Dovecot

@pytest.fixture(scope="module")
def dovecot():
    with Dovecot({name: SECRETS[name] for name in ("carol", "dave")}) as running:
        yield running
