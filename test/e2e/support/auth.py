"""Users with passwords, and SASL as clients speak it.

    path.write_text(hash_password("carol", secret, "bcrypt"))
    client.command("AUTH PLAIN " + plain("carol", secret), 235)
    assert scram(client, "carol", secret).code == 235
"""

import base64
import ctypes
import hashlib
import hmac
import os
import subprocess
from pathlib import Path

import gatepost
from patience import PATIENCE

# The least that crypt(3) takes; and a fortieth of a second, where many checks have to be some work.
QUICK = {"yescrypt": "$y$j75$abcdefghijklmnopqrstu/", "bcrypt": "$2b$04$abcdefghijklmnopqrstuu",
         "sha512": "$6$rounds=1000$abcdefghijklmnop"}
BRISK = {"yescrypt": "$y$j75$abcdefghijklmnopqrstu/", "bcrypt": "$2b$08$abcdefghijklmnopqrstuu",
         "sha512": "$6$rounds=40000$abcdefghijklmnop"}

_made = {}


def gatepostctl():
    """Where gatepostctl is: $GATEPOSTCTL, or beside gatepost."""
    return os.environ.get("GATEPOSTCTL", str(Path(gatepost.program()).parent / "gatepostctl"))


def hash_password(name, password, method="yescrypt"):
    """A line of a users file, by gatepostctl; each is made once."""
    key = name, password, method
    if key not in _made:
        done = subprocess.run([gatepostctl(), "hash-password", "--method", method, name],
                              input=password + "\n", capture_output=True, text=True, timeout=PATIENCE,
                              check=True)
        _made[key] = done.stdout
    return _made[key]


def quick_hash(name, password, method, settings=QUICK):
    """A line of a users file whose check takes no time, or little."""
    if method == "scram":
        return f"{name}:{quick_verifier(password)}\n"
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    return f"{name}:{crypt(password.encode(), settings[method].encode()).decode()}\n"


def quick_verifier(password):
    """Of SCRAM (RFC 5803), with as few iterations as may be (RFC 7677)."""
    salt, iterations = b"salt-of-16-bytes", 4096
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"{{SCRAM-SHA-256}}{iterations},{encode(salt)},{encode(stored)},{encode(server)}"


# ---- Base64

def encode(data):
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def plain(name, password, authzid=""):
    """The message of PLAIN, in base64."""
    return encode(f"{authzid}\0{name}\0{password}")


# ---- Exchanges

def auth_plain(client, name, password, initial=True):
    """The last reply."""
    if initial:
        return client.command("AUTH PLAIN " + plain(name, password))
    assert client.command("AUTH PLAIN", 334).text == ""
    return client.command(plain(name, password))


def auth_login(client, name, password, initial=False):
    if initial:
        first = client.command("AUTH LOGIN " + encode(name))
    else:
        first = client.command("AUTH LOGIN")
        if first.code == 334:
            assert base64.b64decode(first.text) == b"Username:"
            first = client.command(encode(name))
    if first.code != 334:
        return first
    assert base64.b64decode(first.text) == b"Password:"
    return client.command(encode(password))


class Scram:
    """The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), written from the RFC."""

    def __init__(self, name, password, gs2="n,,", binding=b""):
        self.password = password.encode()
        self._gs2 = gs2
        self._binding = binding
        self._nonce = base64.b64encode(os.urandom(18)).decode()
        escaped = name.replace("=", "=3D").replace(",", "=2C")
        self._bare = f"n={escaped},r={self._nonce}"
        self.first = gs2 + self._bare
        self._signature = b""

    def final(self, challenge):
        """The answer to the server's first message."""
        fields = dict(field.split("=", 1) for field in challenge.decode().split(","))
        assert fields["r"].startswith(self._nonce) and fields["r"] != self._nonce
        assert int(fields["i"]) >= 4096
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(fields["s"]),
                                     int(fields["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c={encode(self._gs2.encode() + self._binding)},r={fields['r']}"
        text = f"{self._bare},{challenge.decode()},{without_proof}".encode()
        proof = bytes(a ^ b for a, b in zip(
            key, hmac.digest(hashlib.sha256(key).digest(), text, "sha256")))
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), text, "sha256")
        return f"{without_proof},p={encode(proof)}"

    def server_is_right(self, message):
        return message == b"v=" + encode(self._signature).encode()


def auth_scram(client, name, password, initial=True, gs2="n,,", mechanism="SCRAM-SHA-256",
               binding=b""):
    """The last reply; asserts that the server has proved itself when it says 235."""
    exchange = Scram(name, password, gs2, binding)
    if initial:
        reply = client.command(f"AUTH {mechanism} {encode(exchange.first)}")
    else:
        assert client.command(f"AUTH {mechanism}", 334).text == ""
        reply = client.command(encode(exchange.first))
    if reply.code != 334:
        return reply
    reply = client.command(encode(exchange.final(base64.b64decode(reply.text))))
    if reply.code != 334:
        return reply
    assert exchange.server_is_right(base64.b64decode(reply.text))
    return client.command("")


def xoauth2(name, token):
    return encode(f"user={name}\1auth=Bearer {token}\1\1")


def oauthbearer(name, token, host="mx.example.net", port=587):
    """RFC 7628."""
    return encode(f"n,a={name},\1host={host}\1port={port}\1auth=Bearer {token}\1\1")


def shapes(secret):
    """How a secret could be written: as it is, and within base64 at each offset."""
    found = {secret}
    for offset in range(3):
        text = encode("x" * offset + secret)
        # What is shared by all that contain it at this offset: without the edges.
        found.add(text[4 if offset else 0:-4].rstrip("="))
    return {shape for shape in found if len(shape) >= 8}


def assert_absent(secrets, text, where):
    for secret in secrets:
        for shape in shapes(secret):
            assert shape not in text, f"{shape} in {where}: {text[max(0, text.find(shape) - 300):]}"


class Discreet(gatepost.Gatepost):
    """After whose end none of `secrets` may be in what it wrote."""
    secrets = ()

    def wait_for_exit(self, *arguments):
        try:
            return super().wait_for_exit(*arguments)
        finally:
            self.look_for_secrets()

    def look_for_secrets(self):
        assert_absent(self.secrets, self.log_text(), "the log")
        if self.trace_file.exists():
            assert_absent(self.secrets, self.trace_file.read_text(errors="surrogateescape"), "the trace")
        assert_absent(self.secrets, self.stderr, "stderr")
