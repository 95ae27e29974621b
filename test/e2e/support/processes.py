"""What the kernel tells of a process: its children, and what it has in memory."""

import contextlib
import mmap
import re
from pathlib import Path

MAPPING_MAX = 1 << 30  # what is larger is the sanitizer's, and nearly all of it unused
# Of an entry of /proc/PID/pagemap the last byte: there is such a page, in memory or swapped out.
ENTRY_SIZE = 8
THERE = re.compile(rb"[\x40-\xff]+")


def children(pid):
    return [int(word) for word in
            Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _written(pagemap, start, end):
    """The parts of a mapping in which anything was ever written, as (start, end)."""
    page = mmap.PAGESIZE
    pagemap.seek(start // page * ENTRY_SIZE)
    flags = pagemap.read((end - start) // page * ENTRY_SIZE)[ENTRY_SIZE - 1::ENTRY_SIZE]
    for run in THERE.finditer(flags):
        yield start + run.start() * page, start + run.end() * page


def memory(pid):
    """All that the process may write to and that is not as it was mapped, as (name, bytes)."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem, \
            open(f"/proc/{pid}/pagemap", "rb") as pagemap:
        for line in maps:
            place, rights, *_ = line.split()
            start, end = (int(word, 16) for word in place.split("-"))
            if not rights.startswith("rw") or end - start > MAPPING_MAX:
                continue
            # A page that is shared may be there without having been looked at by this process.
            is_shared = rights.endswith("s")
            for first, last in [(start, end)] if is_shared else _written(pagemap, start, end):
                with contextlib.suppress(OSError):
                    mem.seek(first)
                    yield line.strip(), mem.read(last - first)


def leftovers(pid, texts):
    """Where any of these texts is in the memory of the process."""
    return [f"{text} at {data.find(text.encode())} of {name}" for name, data in memory(pid)
            for text in texts if text.encode() in data]
