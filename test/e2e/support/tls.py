"""TLS for tests: certificates that are made when they are asked for, and a client whose every byte
on the wire is decided by the test.

    authority = Authority(folder)
    mx = authority.make("mx", names=["mx.example.net"])
    with Client(address) as client:
        client.hello()
        client.command("STARTTLS", 220)
        wrap(client, trusting(authority), "mx.example.net")

What is made here is valid for two days and worth nothing anywhere else.
"""

import hashlib
import socket
import ssl
import subprocess
import time
from collections import namedtuple
from pathlib import Path

from patience import PATIENCE

Pair = namedtuple("Pair", "certificate key")

EXTENSIONS = """\
[req]
distinguished_name = name
prompt = no
x509_extensions = {section}
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
subjectKeyIdentifier = hash
{alternatives}
"""

KINDS = {"ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
         "rsa": ["-newkey", "rsa:2048"]}


class Authority:
    """A certificate authority in a folder. `certificate` is what others trust it by."""

    def __init__(self, directory, name="authority"):
        self.directory = Path(directory)
        self._own = None
        self._own = self.make(name)
        self.certificate = self._own.certificate

    def make(self, name, names=(), kind="ec", own_authority=False, expired=False):
        """A certificate with this CN for these DNS names, and its key: two PEM files. Signed by
        itself when own_authority; out of date when expired."""
        pair = Pair(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        config = self.directory / f"{name}.cnf"
        config.write_text(EXTENSIONS.format(
            name=name, section="leaf" if self._own else "authority",
            alternatives="subjectAltName = " + ", ".join(f"DNS:{dns}" for dns in names)
            if names else ""))
        signer = ["-CA", self._own.certificate, "-CAkey", self._own.key] \
            if self._own and not own_authority and not expired else []
        subprocess.run(
            ["openssl", "req", "-x509", "-config", config, *KINDS[kind], "-nodes", "-days", "2",
             "-keyout", pair.key, "-out", pair.certificate, *signer],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=True)
        if expired:
            self._expire(pair.certificate)
        return pair

    def _expire(self, path):
        """Takes the place of the signature of its own: good until yesterday."""
        subprocess.run(
            ["openssl", "x509", "-in", path, "-out", path, "-days", "-1", "-CA",
             self._own.certificate, "-CAkey", self._own.key],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=True)


def joined(pair):
    """Certificate and key in one file, as HAProxy wants them."""
    path = pair.certificate.with_suffix(".pem")
    path.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
    return path


def der(certificate):
    return ssl.PEM_cert_to_DER_cert(certificate.read_text())


def fingerprint(certificate):
    """SHA-256, as `openssl x509 -fingerprint` without colons and in lower case."""
    return hashlib.sha256(der(certificate)).hexdigest()


# ---- Contexts of clients

def trusting(authority=None, *, certificate=None, alpn=None, oldest=None, newest=None,
             ciphers=None):
    """Verifies by the authority; without one it believes everything. Never by the authorities of the
    system, whose reading takes a tenth of a second."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority:
        context.load_verify_locations(authority.certificate)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(*certificate)
    if alpn:
        context.set_alpn_protocols(alpn)
    if oldest or ciphers:
        # Debian's level of security would not even try what is old or weak.
        context.set_ciphers(ciphers or "ALL:@SECLEVEL=0")
    if oldest:
        context.minimum_version = oldest
    if newest:
        context.maximum_version = newest
    return context


# ---- TLS on a socket, byte by byte

class TlsSocket:
    """What a Client needs of a socket, with TLS on it. `state` is the ssl.SSLObject.

    before: bytes that go in front of the ClientHello. cut: how both are sent: None (one segment),
    "two" (before, and then the ClientHello), or "bytes" (each byte a segment).
    """

    def __init__(self, plain, context, name=None, before=b"", cut=None, server_side=False):
        self.plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.state = context.wrap_bio(self._incoming, self._outgoing, server_side, name)
        self._first = (before, cut)
        self._until_done(self.state.do_handshake)

    def _flush(self):
        data = self._outgoing.read()
        if not data:
            return
        (before, cut), self._first = self._first, (b"", None)
        if cut == "two":
            self.plain.sendall(before)
            time.sleep(0.03)
            before = b""
        pieces = [before + data]
        if cut == "bytes":
            pieces = [pieces[0][i:i + 1] for i in range(len(pieces[0]))]
        for piece in pieces:
            self.plain.sendall(piece)

    def _until_done(self, step, *arguments):
        while True:
            try:
                result = step(*arguments)
                self._flush()
                return result
            except ssl.SSLWantReadError:
                self._flush()
                data = self.plain.recv(65536)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                try:
                    self._flush()  # the alert
                except OSError:
                    pass
                raise

    def sendall(self, data):
        self.state.write(data)
        self._flush()

    def send_records(self, pieces, together):
        """Each piece a record of its own, all in one segment when together."""
        for piece in pieces:
            self.state.write(piece)
            if not together:
                self._flush()
        self._flush()

    def send_broken(self, data):
        """The data, and behind it in the same segment what is no TLS."""
        self.state.write(data)
        self.plain.sendall(self._outgoing.read() + b"no record" * 8)

    def recv(self, size):
        try:
            return self._until_done(self.state.read, size)
        except ssl.SSLZeroReturnError:
            return b""

    def close_notify(self):
        try:
            self.state.unwrap()
        except ssl.SSLError:
            pass
        self._flush()

    def __getattr__(self, name):
        return getattr(self.plain, name)


def wrap(client, context, name=None, before=b"", cut=None):
    """The client goes on under TLS; returns what was negotiated (ssl.SSLObject)."""
    assert not client.received, f"plaintext before the handshake: {client.received!r}"
    client.socket = TlsSocket(client.socket, context, name, before, cut)
    return client.socket.state


def starttls(client, context, name=None, hello="client.example.net"):
    """From the banner on: EHLO, STARTTLS, the handshake, EHLO again; returns the last reply."""
    client.hello(hello)
    client.command("STARTTLS", 220)
    wrap(client, context, name)
    return client.command(f"EHLO {hello}", 250)


def client_hello(name="mx.example.net"):
    """A whole ClientHello, as bytes."""
    outgoing = ssl.MemoryBIO()
    tls = trusting().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def is_closed(plain, timeout=PATIENCE):
    """Whether the other end closes or resets, whatever it sends before."""
    plain.settimeout(timeout)
    try:
        while plain.recv(65536):
            pass
    except socket.timeout:
        return False
    except ConnectionError:
        pass
    return True
