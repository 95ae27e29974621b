"""A server of other people as a process: Postfix, Exim, Dovecot, HAProxy.

    class Thing(Daemon):
        name = "Thing"
        ...
        self.spawn(["thing", "-c", ...], lambda: "started" in self.log())

All its files are in `directory`, made by who derives from this; what the process says goes to "output"
there. It ends with whoever runs the tests, or, where it needs another user's rights, with __exit__.
"""

import os
import re
import subprocess
import time

from patience import START


def as_root():
    """In front of a command that needs root: others need sudo, without a password."""
    return [] if os.geteuid() == 0 else ["sudo", "-n"]


def run_as_root(*command):
    return subprocess.run([*as_root(), *command], stdin=subprocess.DEVNULL, check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=START)


class Daemon:
    name = None
    directory = None
    process = None

    # ---- Life

    def spawn(self, command, is_ready, *, needs_root=False, **options):
        """Comes back when it is ready; raises, with all that it said, when it ends or is not in time.
        options: of Popen."""
        rights = as_root() if needs_root else []
        ties = [] if rights else ["setpriv", "--pdeathsig", "KILL"]  # sudo would undo them
        with open(self.directory / "output", "ab") as output:
            self.process = subprocess.Popen(
                [*ties, *rights, *map(str, command)], stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, **options)
        self._wait(lambda: self._is_alive() and is_ready(), f"{self.name} did not start")

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def _is_alive(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with exit code {self.process.returncode}:\n"
                               f"{self.output}{self.log()}")
        return True

    # ---- What it says

    @property
    def output(self):
        return (self.directory / "output").read_text(errors="replace")

    def log(self):
        """Its log, if it has one beside its output."""
        return ""

    def log_lines(self, pattern):
        """Lines of the log that match."""
        return [line for line in self.log().splitlines() if re.search(pattern, line)]

    def wait_log(self, pattern, count=1, timeout=START):
        """At least so many lines that match."""
        return self._wait(
            lambda: self.log_lines(pattern) if len(self.log_lines(pattern)) >= count else None,
            f"no {count} lines with {pattern} in {self.name}'s log:\n{self.log()}", timeout)

    @staticmethod
    def _wait(look, complaint, timeout=START):
        deadline = time.monotonic() + timeout
        while True:
            found = look()
            if found:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(complaint)
            time.sleep(0.02)
