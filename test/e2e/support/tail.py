"""Files of JSON, a record a line, that somebody else is writing."""

import json
import os
import threading


class Tail:
    """What such a file has got since the last look; a file that has taken its place is read from its
    beginning. A line that is not whole yet is left for later, a file that is not there has nothing."""

    def __init__(self, path):
        self.path = path
        self.offset = 0
        self._file = None

    def read(self):
        try:
            with open(self.path, "rb") as file:
                whole = self._rest_of(file)
        except FileNotFoundError:
            self.begin_anew(None)
            return []
        records = [json.loads(line.decode("utf-8", "surrogateescape")) for line in whole.splitlines()]
        self.offset += len(whole) + bool(whole)
        return records

    def _rest_of(self, file):
        status = os.fstat(file.fileno())
        if self._file != (status.st_dev, status.st_ino) or status.st_size < self.offset:
            self.begin_anew((status.st_dev, status.st_ino))
        file.seek(self.offset)
        return file.read().rpartition(b"\n")[0]

    def begin_anew(self, file):
        self.offset = 0
        self._file = file


class Records(Tail):
    """All of such a file, of which each line is parsed once, however often it is looked at. Who looks
    must not change what he gets: others get the same."""

    def __init__(self, path):
        super().__init__(path)
        self._all = []
        self._lock = threading.Lock()

    def begin_anew(self, file):
        super().begin_anew(file)
        self._all = []

    def all(self):
        with self._lock:
            came = self.read()  # which may begin anew
            self._all += came
            return self._all[:]
