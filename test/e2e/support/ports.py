"""Ports that are ours from now on.

A port that is free now may be somebody else's by the time that a server binds it, or while the server
that had it is down: another test's, or that of a connection to which the kernel gave it. So it is kept
by a socket that is bound to it and never listens. A server with SO_REUSEADDR, as all of ours are, can
listen there all the same; whoever asks for any port is not given it; and whoever connects while nobody
listens is refused.
"""

import socket

_kept = {}  # (host, port) -> (socket, how many have asked for it)


def _bind(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kept = socket.socket(family, socket.SOCK_STREAM)
    try:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind((host, port))
    except OSError:
        kept.close()
        raise
    return kept


def keep_port(host="127.0.0.1", port=0):
    """A port of this address, or this one; OSError when it is somebody else's."""
    if (host, port) not in _kept:
        kept = _bind(host, port)
        port = kept.getsockname()[1]
        _kept[host, port] = kept, 0
    kept, count = _kept[host, port]
    _kept[host, port] = kept, count + 1
    return port


def leave_port(port, host="127.0.0.1"):
    """Nobody here needs it any more."""
    kept, count = _kept.pop((host, port))
    if count > 1:
        _kept[host, port] = kept, count - 1
    else:
        kept.close()
