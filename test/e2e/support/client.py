"""A client that does what it is told to, byte by byte, and builders of PROXY headers.

    with Client(gatepost.address) as client:
        client.expect(220)
        client.command("EHLO client.example.net", 250)
        client.envelope("a@example.net", ["b@example.com"])
        assert client.data(b"Subject: x\r\n\r\nHello\r\n").code == 250

The headers are written from the specification and share nothing with the program.
"""

import socket
import struct
import time
from collections import namedtuple

from patience import PATIENCE

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0, 1
UNSPEC, TCP4, UDP4, TCP6, UDP6, UNIX_STREAM, UNIX_DGRAM = 0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32
TLV_ALPN, TLV_AUTHORITY, TLV_CRC32C, TLV_NOOP, TLV_UNIQUE_ID = 0x01, 0x02, 0x03, 0x04, 0x05

CLIENT = ("198.51.100.7", 40007)
SERVER = ("203.0.113.25", 25)


# ---- PROXY headers

def proxy_v1(source=CLIENT, destination=SERVER):
    word = "TCP6" if ":" in source[0] else "TCP4"
    line = f"PROXY {word} {source[0]} {destination[0]} {source[1]} {destination[1]}\r\n"
    return line.encode()


def _crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def _block(family, source, destination):
    if family == UNSPEC:
        return b""
    if family in (UNIX_STREAM, UNIX_DGRAM):
        return source[0].encode().ljust(108, b"\0") + destination[0].encode().ljust(108, b"\0")
    kind = socket.AF_INET if family in (TCP4, UDP4) else socket.AF_INET6
    return (socket.inet_pton(kind, source[0]) + socket.inet_pton(kind, destination[0])
            + struct.pack("!HH", source[1], destination[1]))


def proxy_v2(source=CLIENT, destination=SERVER, tlvs=(), command=PROXY, family=None, crc=False):
    """tlvs: bytes made by tlv(). family: by the source unless given."""
    if family is None:
        family = TCP6 if ":" in source[0] else TCP4
    rest = _block(family, source, destination) + b"".join(tlvs)
    if crc:
        rest += tlv(TLV_CRC32C, b"\0\0\0\0")
    header = SIGNATURE + struct.pack("!BBH", 0x20 | command, family, len(rest)) + rest
    return header[:-4] + struct.pack("!I", _crc32c(header)) if crc else header


def proxy_v2_local():
    return proxy_v2(command=LOCAL, family=UNSPEC)


# ---- The client

class Reply(namedtuple("Reply", "code lines")):
    """code: number; lines: without code and line end. str() is all of it as it was sent."""

    @property
    def text(self):
        return self.lines[-1]

    @property
    def enhanced(self):
        """The enhanced status code, as in 5.7.1, or an empty string."""
        word = self.text.partition(" ")[0]
        return word if len(word.split(".")) == 3 and word.replace(".", "").isdigit() else ""

    def __str__(self):
        last = len(self.lines) - 1
        return "\n".join(f"{self.code}{'-' if i < last else ' '}{line}"
                         for i, line in enumerate(self.lines))


class Closed(ConnectionError):
    """The other end closed or reset where a reply was waited for; `rest` is what came before."""

    def __init__(self, rest):
        super().__init__(f"connection closed; received: {rest!r}")
        self.rest = rest


class Client:
    """address: (host, port), of Gatepost.address. source: address to connect from. header: PROXY
    header to send first, bytes. Text is sent as latin-1, one byte a code point."""

    def __init__(self, address, header=b"", source=None, timeout=PATIENCE, receive_buffer=None):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(address)
        self.received = b""  # not yet taken by reply()
        self.transcript = b""  # all that ever came
        self.is_closed = False
        if header:
            self.send(header)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    @property
    def port(self):
        return self.socket.getsockname()[1]

    # ---- Sending

    def send(self, data):
        self.socket.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def send_pieces(self, data, size=1, delay=0.0):
        """In pieces of `size` bytes, each a segment of its own."""
        for start in range(0, len(data), size):
            self.socket.sendall(data[start:start + size])
            if delay:
                time.sleep(delay)

    def send_cut(self, data, cuts, delay=0.005):
        """Cut at these offsets, with a pause between the pieces."""
        edges = [0, *sorted(cuts), len(data)]
        for start, end in zip(edges, edges[1:]):
            self.socket.sendall(data[start:end])
            if end < len(data):
                time.sleep(delay)

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        """Ends with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()

    # ---- Receiving

    def _receive(self):
        """Some more bytes; False at the end."""
        if self.is_closed:
            return False
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            data = b""
        self.is_closed = not data
        self.received += data
        self.transcript += data
        return bool(data)

    def _take_line(self):
        while b"\r\n" not in self.received:
            if not self._receive():
                raise Closed(self.received)
        line, _, self.received = self.received.partition(b"\r\n")
        assert b"\r" not in line and b"\n" not in line and b"\0" not in line, line
        return line.decode("latin-1")

    def reply(self):
        """One complete reply."""
        lines = []
        while True:
            line = self._take_line()
            assert line[:3].isdigit() and line[3:4] in ("-", " ", ""), f"not a reply: {line!r}"
            lines.append(line)
            if line[3:4] != "-":
                break
        codes = {line[:3] for line in lines}
        assert len(codes) == 1, f"codes differ in one reply: {lines}"
        return Reply(int(lines[0][:3]), [line[4:] for line in lines])

    def expect(self, *codes):
        """One complete reply, of one of these codes."""
        reply = self.reply()
        assert reply.code in codes, f"{codes} expected: {reply}"
        return reply

    def rest(self):
        """All that comes until the other end closes."""
        while self._receive():
            pass
        rest, self.received = self.received, b""
        return rest

    def replies(self):
        """All replies until the other end closes."""
        found = []
        while True:
            try:
                found.append(self.reply())
            except Closed as closed:
                assert closed.rest == b"", f"cut short: {closed.rest!r}"
                return found

    def is_silent(self, seconds=0.3):
        """Whether nothing, not even an end, comes for so long."""
        if self.received or self.is_closed:
            return False
        before = self.socket.gettimeout()
        self.socket.settimeout(seconds)
        try:
            self._receive()
            return False
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(before)

    def is_ended(self):
        """Waits for the end; whether nothing came before it."""
        return self.rest() == b""

    # ---- Dialogue

    def command(self, line, *codes):
        """Sends the line and returns its reply; one of these codes, if given."""
        self.send((line.encode("latin-1") if isinstance(line, str) else line) + b"\r\n")
        return self.expect(*codes) if codes else self.reply()

    def hello(self, name="client.example.net", verb="EHLO"):
        """Banner and hello."""
        self.expect(220)
        return self.command(f"{verb} {name}", 250)

    def envelope(self, sender="a@example.net", recipients=("b@example.com",), parameters=""):
        """MAIL and RCPT, all accepted."""
        self.command(f"MAIL FROM:<{sender}>{' ' + parameters if parameters else ''}", 250)
        for recipient in recipients:
            self.command(f"RCPT TO:<{recipient}>", 250)

    def data(self, body=b"Subject: test\r\n\r\ntext\r\n"):
        """DATA, the body with its dots doubled, the end; returns the last reply."""
        self.command("DATA", 354)
        stuffed = body.replace(b"\r\n.", b"\r\n..")
        if stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        self.send(stuffed + b".\r\n")
        return self.reply()

    def message(self, sender="a@example.net", recipients=("b@example.com",),
                body=b"Subject: test\r\n\r\ntext\r\n"):
        """A whole transaction; returns the reply to its end."""
        self.envelope(sender, recipients)
        return self.data(body)

    def quit(self):
        self.command("QUIT", 221)
        assert self.is_ended()
