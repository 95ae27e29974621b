"""A mail server with TLS that does what a test wants of it, faults above all; smtp-backend knows no
TLS.

    with TlsBackend(authority.make("mta")) as mta, Gatepost(backend=mta, ...):
        ...
        session, = mta.with_mail()
        assert session.tls["version"] == "TLSv1.3"

It accepts every message. A session's `commands` are (is it TLS, line), without what answered an AUTH;
`auths` are (is it TLS, mechanism, user, outcome), `xclients` the attributes as they came.
"""

import base64
import contextlib
import re
import socket
import ssl
import struct
import threading
import time

from patience import PATIENCE

OFFER = ("PIPELINING", "SIZE 10485760", "8BITMIME")


class Session:
    """One connection, as the server saw it."""

    def __init__(self):
        self.commands = []
        self.tls = None
        self.handshake_error = None
        self.messages = []
        self.auths = []
        self.xclients = []
        self.is_over = False

    def lines(self, is_tls=None):
        return [line for tls, line in self.commands if is_tls in (None, tls)]

    def verbs(self, is_tls=None):
        return [re.split("[ :]", line)[0].upper() for line in self.lines(is_tls)]

    def has_mail(self):
        return "MAIL" in self.verbs()


class TlsBackend:
    """pair: certificate and key. mode: "starttls", or "implicit".

    offers: whether STARTTLS is in the reply to EHLO. answer: the reply to STARTTLS, bytes, with
    whatever is to come behind it in the same segment. injected: what follows in a segment of its
    own `wait` seconds later. handshake: None, or a fault: "close", "reset", "garbage", "stall",
    "plaintext". offer and offer_tls: extensions before and under TLS. client_ca: wants a
    certificate signed by it. newest: version of TLS. tickets: whether sessions can be resumed.
    on_mail: the reply to MAIL. auth: a user and a password; AUTH PLAIN and LOGIN are offered under
    TLS alone, on_auth is the reply to the right ones. XCLIENT is taken when it is in the offer.
    """

    def __init__(self, pair, mode="starttls", *, offers=True, answer=b"220 2.0.0 go ahead\r\n",
                 injected=b"", wait=0.0, handshake=None, offer=OFFER, offer_tls=None,
                 client_ca=None, newest=None, tickets=True, on_mail=b"250 2.1.0 Ok\r\n",
                 auth=None, on_auth=b"235 2.7.0 welcome\r\n"):
        self.mode, self.offers, self.answer = mode, offers, answer
        self.injected, self.wait, self.handshake = injected, wait, handshake
        self.offer, self.offer_tls = offer, offer if offer_tls is None else offer_tls
        self.on_mail = on_mail
        self.auth, self.on_auth = auth, on_auth
        self.sessions = []
        self.names = []  # that clients asked for (SNI)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*pair)
        self._context.sni_callback = lambda tls, name, context: self.names.append(name)
        if not tickets:
            self._context.num_tickets = 0
            self._context.options |= ssl.OP_NO_TICKET
        if client_ca:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(client_ca)
        if newest:
            self._context.maximum_version = newest
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._is_stopped = False
        self._open = set()

    # ---- Life

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self._is_stopped = True
        self._listening.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def use(self, pair):
        """Another certificate, for the connections that come."""
        self._context.load_cert_chain(*pair)

    # ---- What happened

    def with_mail(self):
        """Sessions that carried mail: not the probes."""
        return [session for session in self.sessions if session.has_mail()]

    def messages(self):
        return [message for session in self.sessions for message in session.messages]

    def wait_over(self, timeout=PATIENCE):
        """Waits until all sessions have ended."""
        deadline = time.monotonic() + timeout
        while not all(session.is_over for session in self.sessions):
            assert time.monotonic() < deadline, "sessions of the backend are open"
            time.sleep(0.01)

    # ---- Inside

    def _accept(self):
        while not self._is_stopped:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(2 * PATIENCE)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        session = Session()
        self.sessions.append(session)
        self._open.add(connection)
        try:
            _Dialogue(self, session, connection).run()
        except (OSError, EOFError):
            pass
        finally:
            session.is_over = True
            self._open.discard(connection)
            connection.close()


class _Dialogue:
    def __init__(self, server, session, connection):
        self.server, self.session, self.connection = server, session, connection
        self.raw = connection
        self.received = b""
        self.is_tls = False

    def send(self, data):
        self.connection.sendall(data)

    def line(self):
        while b"\r\n" not in self.received:
            data = self.connection.recv(65536)
            if not data:
                raise EOFError
            self.received += data
        line, _, self.received = self.received.partition(b"\r\n")
        return line

    def message(self):
        """Up to the dot, with the dots in front of lines taken off."""
        lines = []
        while True:
            line = self.line()
            if line == b".":
                return b"".join(one + b"\r\n" for one in lines)
            lines.append(line[1:] if line.startswith(b".") else line)

    def spoil(self):
        """The fault where a handshake is due; does not come back."""
        fault = self.server.handshake
        if fault == "close":
            raise EOFError
        if fault == "reset":
            self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise EOFError
        self.raw.recv(65536)
        if fault == "garbage":
            self.raw.sendall(b"\x15\x03\x03\xff\xff" + b"\xaa" * 64)
        elif fault == "plaintext":
            self.raw.sendall(b"250-mta.example.com\r\n250 PIPELINING\r\n")
        while self.raw.recv(65536):
            pass
        raise EOFError

    def start_tls(self):
        if self.server.handshake:
            self.spoil()
        assert not self.received, "plaintext behind STARTTLS"
        try:
            self.connection = self.server._context.wrap_socket(self.raw, server_side=True)
        except (ssl.SSLError, OSError) as problem:
            self.session.handshake_error = str(problem)
            raise EOFError from problem
        self.server._open.add(self.connection)
        self.raw = self.connection
        self.is_tls = True
        certificate = self.connection.getpeercert()
        self.session.tls = {
            "version": self.connection.version(), "reused": self.connection.session_reused,
            "name": self.server.names[-1] if self.server.names else None,
            "certificate": dict(field[0] for field in certificate["subject"])["commonName"]
            if certificate else None}

    def hello(self):
        words = list(self.server.offer_tls if self.is_tls else self.server.offer)
        if self.server.mode == "starttls" and self.server.offers and not self.is_tls:
            words.append("STARTTLS")
        if self.server.auth and self.is_tls:
            words.append("AUTH PLAIN LOGIN")
        lines = ["mta.example.com", *words]
        self.send("".join(f"250{' ' if i == len(lines) - 1 else '-'}{line}\r\n"
                          for i, line in enumerate(lines)).encode())

    def response(self, challenge, initial=b""):
        """What the client answers, or began with."""
        if not initial:
            self.send(b"334 " + base64.b64encode(challenge) + b"\r\n")
            initial = self.line()
        return base64.b64decode(b"" if initial == b"=" else initial)

    def authenticate(self, line):
        _, mechanism, initial = (line + "  ").split(" ", 2)
        mechanism, initial = mechanism.upper(), initial.strip().encode()
        if not (self.server.auth and self.is_tls) or mechanism not in ("PLAIN", "LOGIN"):
            self.send(b"504 5.5.4 no such mechanism\r\n")
            return
        if mechanism == "PLAIN":
            user, _, password = self.response(b"", initial).partition(b"\0")[2].partition(b"\0")
        else:
            user = self.response(b"Username:", initial)
            password = self.response(b"Password:")
        is_right = (user.decode(), password.decode()) == tuple(self.server.auth)
        reply = self.server.on_auth if is_right else b"535 5.7.8 no\r\n"
        outcome = "ok" if reply.startswith(b"235") else "refused"
        self.session.auths.append((self.is_tls, mechanism, user.decode(), outcome))
        self.send(reply)

    def xclient(self, line):
        offer = self.server.offer_tls if self.is_tls else self.server.offer
        if not any(word.startswith("XCLIENT") for word in offer):
            self.send(b"550 5.7.0 not authorised\r\n")
            return
        self.session.xclients.append(dict(part.split("=", 1) for part in line.split()[1:]))
        self.send(b"220 mta.example.com ESMTP\r\n")

    def starttls(self):
        self.send(self.server.answer)
        if self.server.injected:
            time.sleep(self.server.wait)
            self.send(self.server.injected)
        if self.server.answer.startswith(b"220"):
            self.start_tls()

    def run(self):
        if self.server.mode == "implicit":
            self.start_tls()
        self.send(b"220 mta.example.com ESMTP\r\n")
        while True:
            line = self.line().decode("latin-1")
            verb = re.split("[ :]", line)[0].upper()
            shown = " ".join(line.split(" ")[:2]) if verb == "AUTH" else line
            self.session.commands.append((self.is_tls, shown))
            if verb in ("EHLO", "HELO"):
                self.hello()
            elif verb == "STARTTLS":
                self.starttls()
            elif verb == "AUTH":
                self.authenticate(line)
            elif verb == "XCLIENT":
                self.xclient(line)
            elif verb == "MAIL":
                self.send(self.server.on_mail)
            elif verb == "DATA":
                self.send(b"354 go\r\n")
                self.session.messages.append(self.message())
                self.send(b"250 2.0.0 queued\r\n")
            elif verb == "QUIT":
                self.send(b"221 2.0.0 bye\r\n")
                return
            else:
                self.send(b"250 2.0.0 Ok\r\n")
