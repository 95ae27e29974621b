"""What the kernel says about processes and the machine. Everything is read from /proc."""

import os
import platform
import re
import subprocess
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") / 1024

# What sockets are made of. Their dentries (0.2 KiB each) are left out: that cache belongs to
# everything that opens files, and moves too much by itself.
SOCKET_CACHES = {"TCP", "TCPv6", "sock_inode_cache", "filp", "eventpoll_epi", "eventpoll_pwq",
                 "skbuff_head_cache", "skbuff_small_head", "skbuff_fclone_cache"}


# ---- Processes

def _stat(pid):
    """The fields of /proc/PID/stat behind the name, or None when it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _tree(root):
    """The process and all that descend from it, with their fields."""
    every = {int(entry): _stat(entry) for entry in os.listdir("/proc") if entry.isdigit()}
    found = [root]
    for pid in found:
        found += [child for child, fields in every.items() if fields and int(fields[1]) == pid]
    return {pid: every[pid] for pid in found if every.get(pid)}


def cpu_seconds(pid):
    """User and system time of a process and its children, those that have ended included."""
    return sum(sum(map(int, fields[11:15])) for fields in _tree(pid).values()) / TICKS


def rss_kib(pid):
    """Resident memory of a process and its children; that in /proc/PID/stat is not exact."""
    every = [Path(f"/proc/{each}/smaps_rollup").read_text() for each in _tree(pid)]
    return sum(int(re.search(r"^Rss:\s+(\d+)", text, re.MULTILINE)[1]) for text in every)


# ---- The machine

class Machine:
    """Its CPU time since it was asked last: what was busy, and what others than we took."""

    def __init__(self):
        self._before = self._read()

    def _read(self):
        user, nice, system, idle, wait, irq, soft, steal = map(
            int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
        busy = user + nice + system + irq + soft
        return {"busy": busy, "steal": steal, "all": busy + steal + idle + wait}

    def foreign_share(self, ours):
        """The share of all cores that went to others than `ours` (seconds), or was stolen."""
        now = self._read()
        spent = {key: (now[key] - self._before[key]) / TICKS for key in now}
        self._before = now
        return max(0.0, spent["busy"] - ours + spent["steal"]) / max(spent["all"], 1 / TICKS)


def _sockstat(key):
    return int(re.search(rf"TCP:.* {key} (\d+)", Path("/proc/net/sockstat").read_text())[1])


def socket_count():
    """TCP sockets of this machine that are open."""
    return _sockstat("inuse")


def socket_kib():
    """Kernel memory of all TCP sockets of this machine; None where only root may know."""
    try:
        lines = Path("/proc/slabinfo").read_text().splitlines()
    except PermissionError:
        return None
    rows = [line.split() for line in lines[2:]]
    objects = sum(int(row[1]) * int(row[3]) for row in rows if row[0] in SOCKET_CACHES) / 1024
    return objects + _sockstat("mem") * PAGE_KIB


# ---- Facts for the reader

def _first_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return "unknown"
    return (done.stdout or done.stderr).split("\n")[0].strip()


def _value(path, pattern):
    try:
        found = re.search(pattern, Path(path).read_text())
    except OSError:
        return "unknown"
    return found[1] if found else "unknown"


def facts(gatepost):
    """What a reader must know of the machine and the programs, in the order to print."""
    here = Path(__file__).parent
    memory = int(_value("/proc/meminfo", r"MemTotal:\s+(\d+)")) / 1048576
    return {
        "date": time.strftime("%Y-%m-%d"),
        "CPU": _value("/proc/cpuinfo", r"model name\s*: (.*)"),
        "cores": os.cpu_count(),
        "memory": f"{memory:.1f} GiB",
        "kernel": platform.release(),
        "system": _value("/etc/os-release", r'PRETTY_NAME="(.*)"'),
        "gatepost": f"{_first_line(gatepost, '-v')}, commit "
                    + _first_line("git", "-C", str(here), "describe", "--always", "--dirty"),
        "HAProxy": _first_line("haproxy", "-v"),
        "compiler": _first_line("cc", "--version"),
    }
