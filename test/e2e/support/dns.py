"""A name server for tests: answers PTR, A and AAAA from dicts, with names of any bytes.

    with NameServer({"198.51.100.7": b"mail.example.net"},
                    {"mail.example.net": ["198.51.100.7"]}) as dns:
        ... dns: {servers: [dns.address]}

A name is bytes; its dots part the labels. None as an answer: silence; an int: that response code.
set() changes what a name leads to. hold() keeps answers back until release().
"""

import ipaddress
import socket
import struct
import threading

A, PTR, AAAA = 1, 12, 28
NAME_ERROR = 3


def encode_name(name):
    return b"".join(bytes([len(label)]) + label for label in name.split(b".") if label) + b"\0"


class NameServer:
    def __init__(self, pointers, addresses=None, ttl=60):
        self.pointers = {ipaddress.ip_address(ip).reverse_pointer.encode(): name
                         for ip, name in pointers.items()}
        self.addresses = {name.encode() if isinstance(name, str) else name: found
                          for name, found in (addresses or {}).items()}
        self.ttl = ttl
        self.questions = []
        self.may_answer = threading.Event()
        self.release()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.release()
        self.socket.close()

    def set(self, name, found):
        self.addresses[name.encode()] = found

    def hold(self):
        self.may_answer.clear()

    def release(self):
        self.may_answer.set()

    def _serve(self):
        while True:
            try:
                query, client = self.socket.recvfrom(4096)
                answer = self._answer(query)
                self.may_answer.wait()
                if answer:
                    self.socket.sendto(answer, client)
            except OSError:
                return

    def _records(self, name, kind):
        """A response code, or a list of the data of the answers; None: no answer at all."""
        if kind == PTR:
            found = self.pointers.get(name.lower(), NAME_ERROR)
            if found is None or isinstance(found, int):
                return found
            return [encode_name(one) for one in (found if isinstance(found, list) else [found])]
        found = self.addresses.get(name, NAME_ERROR)
        if found is None or isinstance(found, int):
            return found
        version = 4 if kind == A else 6
        return [ip.packed for ip in map(ipaddress.ip_address, found) if ip.version == version]

    def _answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]])
            at += 1 + query[at]
        question = query[12:at + 5]
        kind = struct.unpack("!H", query[at + 1:at + 3])[0]
        name = b".".join(labels)
        self.questions.append((name, kind))
        records = self._records(name, kind)
        if records is None:
            return None
        code = records if isinstance(records, int) else 0
        records = [] if isinstance(records, int) else records
        header = query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(records), 0, 0)
        return header + question + b"".join(
            b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, self.ttl, len(data)) + data for data in records)
