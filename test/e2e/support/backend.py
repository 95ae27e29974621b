"""The test backend as an object: starts smtp-backend, reads what it recorded, ends it.

    with Backend("--proxy", "v2") as backend:
        ... send mail to 127.0.0.1:backend.port ...
        assert [m["mail_from"] for m in backend.messages()] == ["a@example.net"]

Text from the record holds one code point for each byte; encode("latin-1") gives the bytes.
"""

import base64
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from patience import PATIENCE, START
from ports import keep_port, leave_port
from tail import Records


def program():
    """Where smtp-backend is: $SMTP_BACKEND, or below $GATEPOST_BUILD."""
    if "SMTP_BACKEND" in os.environ:
        return os.environ["SMTP_BACKEND"]
    build = os.environ.get("GATEPOST_BUILD", "build")
    return str(Path(build) / "test" / "backend" / "smtp-backend")


class Backend:
    """One running smtp-backend. Further options are given as they are on its command line.

    path: listens on this unix socket and nowhere else; `address` is where it listens. auth: a user
    and a password.
    """

    def __init__(self, *options, faults=(), host="127.0.0.1", port=0, path=None, extensions=None,
                 record_body=True, allow_die=False, lmtp=False, auth=None, auth_required=False):
        self.options = list(options)
        self.host = host
        self.port = port
        self.path = path
        self.address = None
        self.addresses = []
        self.summary = None
        self.process = None
        self._faults = list(faults)
        self.settings = []
        if extensions is not None:
            self.settings += ["--extensions", extensions]
        if record_body:
            self.settings.append("--record-body")
        if auth:
            self.settings += ["--auth", ":".join(auth)]
        self.settings += [option for option, is_set in (
            ("--allow-die", allow_die), ("--lmtp", lmtp), ("--auth-required", auth_required))
            if is_set]
        self._directory = None
        self._records = None
        self._has_port = False
        self._lines = []
        self._arrived = threading.Condition()

    # ---- Life

    def __enter__(self):
        return self.start()

    def __exit__(self, *exception):
        self.stop()
        if self._has_port:
            leave_port(self.port, self.host)
            self._has_port = False
        if self._directory:
            self._directory.cleanup()
            self._directory = None

    def start(self):
        """Starts it, or starts it again on the port that it had; the record goes on."""
        if not self._directory:
            self._directory = tempfile.TemporaryDirectory(prefix="smtp-backend-")
            self._records = Records(self.record)
            self._write_faults()
        if not self.path and not self._has_port:
            self.port = keep_port(self.host, self.port)
            self._has_port = True
        self._mend_record()
        self._lines = []
        name = f"[{self.host}]" if ":" in self.host else self.host
        where = f"unix:{self.path}" if self.path else f"{name}:{self.port}"
        command = [program(), "--die-with-parent", "--listen", where,
                   "--record", str(self.record), "--fault-file", str(self.fault_file)]
        # A search for leaks takes as long as all else of a start. test/backend asks for it.
        environment = {"ASAN_OPTIONS": "detect_leaks=0", **os.environ}
        self.process = subprocess.Popen(command + self.settings + self.options, env=environment,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()
        wanted = 1 + self.options.count("--listen")
        self._wait(lambda: len(self._addresses()) == wanted or self.process.poll() is not None, START)
        self.addresses = self._addresses()
        if len(self.addresses) < wanted:
            raise RuntimeError(f"smtp-backend did not start (exit code {self.process.poll()})")
        self.address = self.addresses[0]
        return self

    def stop(self):
        """Ends it with SIGTERM; returns its summary, None if it had ended before."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            if self.process.wait(START) != 0:
                raise RuntimeError(f"smtp-backend ended with exit code {self.process.returncode}")
            self._wait(lambda: any("messages" in line for line in self._lines))
            self.summary = next(line for line in self._lines if "messages" in line)
        return self.summary

    def kill(self):
        """Ends it at once, as a crash would."""
        self.process.kill()
        self.process.wait(START)

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def wait_for_exit(self, timeout=PATIENCE):
        return self.process.wait(timeout)

    # ---- Faults

    def set_faults(self, faults):
        """From now on these faults, and their counts begin anew. Sessions go on."""
        self._faults = list(faults)
        self._write_faults()
        before = self._count("faults")
        self.process.send_signal(signal.SIGHUP)
        self._wait(lambda: self._count("faults") > before)

    def drop_connections(self):
        """Closes all that are open."""
        before = self._count("connections")
        self.process.send_signal(signal.SIGUSR1)
        self._wait(lambda: self._count("connections") > before)

    # ---- What happened

    @property
    def record(self):
        return Path(self._directory.name) / "record.jsonl"

    @property
    def fault_file(self):
        return Path(self._directory.name) / "faults"

    def events(self, kind=None):
        """All records in order, or those of one kind."""
        return [event for event in self._records.all() if kind in (None, event["event"])]

    def messages(self):
        """Committed messages; `body` is bytes, `rcpt_to` the plain list of addresses: in LMTP of
        those to whom it was delivered."""
        messages = [dict(message) for message in self.events("message")]
        for message in messages:
            message["rcpt_to"] = [rcpt["address"] for rcpt in message["rcpts"]
                                  if rcpt.get("delivered", True)]
            if "body" in message:
                message["body"] = base64.b64decode(message["body"])
        return messages

    def commands(self, verb=None):
        """Command lines without their line ends, of one verb if given."""
        lines = [event["line"] for event in self.events("command")]
        return [line for line in lines
                if verb is None or line.partition(" ")[0].upper() == verb.upper()]

    def envelopes(self):
        """Command lines of transactions: without those of a greeting, which a probe sends too."""
        return [line for line in self.commands()
                if line.partition(" ")[0].upper() not in ("EHLO", "HELO", "STARTTLS", "QUIT")]

    def xclients(self):
        """The attributes of each XCLIENT that was accepted."""
        return [event["attributes"] for event in self.events("xclient")]

    def xforwards(self):
        """Of each message what XFORWARD had said of it, or None."""
        return [event["xforward"] for event in self.events("message")]

    def auths(self):
        """(mechanism, user, outcome) of each exchange of AUTH."""
        return [(event["mechanism"], event["user"], event["outcome"])
                for event in self.events("auth")]

    def connections(self):
        return self.events("connection")

    def endings(self):
        return self.events("end")

    def violations(self):
        """What the peer did wrong: commands with control characters, bytes too early."""
        return [event for event in self.events()
                if event["event"] == "violation" or event.get("control")]

    def struck(self):
        """How often a fault has struck, or a delay begun."""
        return len(self.events("fault"))

    def wait_struck(self, before, timeout=PATIENCE):
        """Waits until one has since `before`."""
        self._wait(lambda: self.struck() > before, timeout)

    def wait_for(self, kind, count=1, timeout=PATIENCE):
        """Waits until there are `count` records of the kind; returns them."""
        self._wait(lambda: len(self.events(kind)) >= count, timeout)
        return self.events(kind)

    # ---- Inside

    def _mend_record(self):
        """Who is killed in the middle of a line has not done what it tells of: no 250 was said."""
        if self.record.exists():
            before, newline, half = self.record.read_bytes().rpartition(b"\n")
            if half:
                os.truncate(self.record, len(before) + len(newline))

    def _write_faults(self):
        self.fault_file.write_text("".join(f"{fault}\n" for fault in self._faults))

    def _read(self, stream):
        with stream:
            for line in stream:
                with self._arrived:
                    self._lines.append(json.loads(line))
                    self._arrived.notify_all()
        with self._arrived:
            self._arrived.notify_all()

    def _addresses(self):
        return [line["listening"] for line in self._lines if "listening" in line]

    def _count(self, key):
        return sum(key in line for line in self._lines)

    def _wait(self, is_true, timeout=PATIENCE):
        deadline = time.monotonic() + timeout
        with self._arrived:
            while not is_true():
                if time.monotonic() > deadline:
                    raise TimeoutError("smtp-backend: nothing came in time")
                self._arrived.wait(0.01)
