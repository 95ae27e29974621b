"""A client that hides nothing, for the tests of the test backend."""

import socket

from patience import PATIENCE


class Raw:
    """A socket with lines: sends bytes, reads replies."""

    def __init__(self, backend, first=b""):
        self.hello = "LHLO" if "--lmtp" in backend.settings else "EHLO"
        if backend.path:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(PATIENCE)
            self.socket.connect(str(backend.path))
        else:
            self.socket = socket.create_connection(("127.0.0.1", backend.port), PATIENCE)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        if first:
            self.socket.sendall(first)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.socket.close()

    def fill(self):
        piece = self.socket.recv(65536)
        self.buffer += piece
        return bool(piece)

    def line(self):
        while b"\n" not in self.buffer:
            if not self.fill():
                raise EOFError(self.buffer)
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line + b"\n"

    def reply(self):
        """All lines of one reply; returns the text of the last."""
        while True:
            line = self.line()
            if line[3:4] != b"-":
                return line.decode("latin-1").rstrip("\r\n")

    def ask(self, text):
        self.socket.sendall(text.encode("latin-1") + b"\r\n")
        return self.reply()

    def send(self, data):
        self.socket.sendall(data)

    def rest(self):
        """Everything until the server closes."""
        while self.fill():
            pass
        rest, self.buffer = self.buffer, b""
        return rest

    def is_silent(self, seconds=0.2):
        self.socket.settimeout(seconds)
        try:
            return not self.buffer and not self.socket.recv(1)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(PATIENCE)

    def envelope(self, to="bob@example.com"):
        assert self.reply().startswith("220")
        assert self.ask(f"{self.hello} client.example").startswith("250")
        assert self.ask("MAIL FROM:<a@example.net>").startswith("250")
        assert self.ask(f"RCPT TO:<{to}>").startswith("250")
        return self

    def data(self):
        assert self.ask("DATA").startswith("354")
        return self
