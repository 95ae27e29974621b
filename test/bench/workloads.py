"""The workloads that are compared; smtp-load knows them by the same names."""

from typing import NamedTuple, Optional


class Workload(NamedTuple):
    what: str
    tls: str = "off"             # of the server under test: off, starttls, implicit
    holds: bool = False          # its figures are memory
    sends: bool = True           # messages; else connections are counted
    warm_up: int = 200           # messages before, so that no run pays for memory touched first
    size: int = 4096
    haproxy: Optional[str] = None  # what HAProxy is given instead


WORKLOADS = {
    "W1": Workload("one message of 4 KiB a connection, 50 connections at a time"),
    "W2": Workload("100 messages of 4 KiB a connection, 20 connections"),
    "W2p": Workload("as W2, the client pipelines MAIL, RCPT and DATA"),
    "W3": Workload("messages of 10 MiB, 4 connections", warm_up=4, size=10485760),
    "W4": Workload("1000 idle connections after EHLO", holds=True, warm_up=1),
    "W5": Workload("connect, PROXY header, banner, QUIT; 50 at a time", sends=False),
    "W6": Workload("STARTTLS, one message of 4 KiB a connection, 20 connections at a time "
                   "(HAProxy: TLS from the first byte, as W6i)", tls="starttls", haproxy="W6i"),
    "W6i": Workload("as W6, TLS from the first byte behind the PROXY header", tls="implicit"),
    "W6h": Workload("as W6i, no message: handshake, banner, QUIT", tls="implicit", sends=False),
    "W6m": Workload("100 messages of 4 KiB a connection under TLS from the first byte, "
                    "20 connections", tls="implicit"),
    "W4t": Workload("1000 idle connections after EHLO under TLS 1.3", tls="implicit", holds=True,
                    warm_up=1),
    "W4t12": Workload("1000 idle connections after EHLO under TLS 1.2", tls="implicit",
                      holds=True, warm_up=1),
    "W7": Workload("one connection, one message of 4 KiB at a time"),
    "W8": Workload("200 connections stopped half way through a message of 1 MiB", holds=True,
                   warm_up=1),
}
