"""One gatepost and its servers, in which the cells of a setting of matrix.py are tried one after the
other; each has a backend section of its own, so that no server's health tells of the cell before.

    with Rig(setting, cells) as rig:
        for cell in cells:
            rig.try_cell(cell)

try_all() does so with the deadlines that each cell needs.
"""

import os
import time

from backend import Backend
from client import Client
from gatepost import FLAT, Gatepost
from matrix import EXTENSIONS, OFFERS, STEPS, expected, fault_line, is_reused
from patience import PATIENCE
from tail import Tail

# Longer than a busy machine keeps an honest server from answering; and short, where a server that stalls
# is waited for.
PATIENT, HASTY = ({**dict.fromkeys(("backend_connect", "backend_greeting", "backend_command", "backend_data",
                                    "backend_final"), time), "backend_idle": "60s"}
                  for time in ("60s", os.environ.get("GATEPOST_MATRIX_TIMEOUT", "500ms")))
TRIES = 4  # of a cell with short deadlines
HEADER = b"Subject: matrix\r\n\r\n"
# The first part is a chunk of its own with BDAT.
PARTS = {True: (HEADER + (b"h" * 98 + b"\r\n") * 400, (b"t" * 98 + b"\r\n") * 600),
         False: (HEADER + b"h" * 200 + b"\r\n", b"tail\r\n" * 3)}
RECEIVED_MAX = 700


class Rig:
    def __init__(self, setting, cells, timeouts=PATIENT):
        self.setting = setting
        self.timeouts = timeouts
        self.numbers = {cell: number for number, cell in enumerate(cells)}
        options = ["--extensions", EXTENSIONS[setting.framing] + OFFERS[setting.identity]]
        self.servers = [Backend(*options, record_body=False, lmtp=setting.framing == "lmtp") for _ in range(setting.servers)]
        self.gatepost = None

    # ---- Life

    def __enter__(self):
        try:
            for server in self.servers:
                server.start()
            self.gatepost = Gatepost(self._config(), environment=FLAT).start()
            self.gatepost.wait_idle()
        except BaseException:
            self.__exit__(RuntimeError)
            raise
        self.log = Tail(self.gatepost.log_file)
        self.trace = Tail(self.gatepost.trace_file)
        self.records = [Tail(server.record) for server in self.servers]
        self.read_all()
        self.baseline = self.gatepost.fds()
        return self

    def __exit__(self, kind, *exception):
        try:
            if self.gatepost:
                self.gatepost.__exit__(kind, *exception)
        finally:
            for server in self.servers:
                server.__exit__()

    def _config(self):
        backends, routes = [], []
        for number in self.numbers.values():
            backends.append({
                "name": f"c{number}", "balance": "first",
                "servers": [f"127.0.0.1:{server.port}" for server in self.servers],
                "identity": self.setting.identity,
                "protocol": "lmtp" if self.setting.framing == "lmtp" else "smtp",
                "chunking": "auto" if self.setting.framing == "bdat" else "off",
                "health": {"check": "connect", "fall": 100},
                "reuse": {"mode": "safe" if self.setting.connection == "pooled" else "never"}})
            routes.append({"recipients": self.recipients(number), "backend": f"c{number}"})
        return {"timeouts": self.timeouts, "backends": backends, "routes": routes,
                "limits": {"connections_per_client": 0}}

    @staticmethod
    def recipients(number):
        return [f"c{number}-{name}@example.com" for name in ("one", "two")]

    def read_all(self):
        """(records of the log, lines of the trace, events of each server) since the last time."""
        return self.log.read(), self.trace.read(), [record.read() for record in self.records]

    # ---- The client

    def transact(self, client, cell, sender, wanted=None):
        """As far as it goes; codes and the last reply."""
        codes = {}
        client.command(f"MAIL FROM:<{sender}>", 250)
        for step, recipient in zip(STEPS, self.recipients(self.numbers[cell])):
            reply = client.command(f"RCPT TO:<{recipient}>")
            codes[step] = reply.code
        if not any(code // 100 == 2 for code in codes.values()):
            client.command("RSET", 250)
            return codes, reply
        reply = client.command("DATA")
        codes["data"] = reply.code
        if reply.code != 354:
            return codes, reply
        head, tail = PARTS[self.setting.framing == "bdat"]
        client.send(head)
        if wanted and wanted.is_lost_inside:
            self._wait_failed(cell, wanted.failed[1])
        client.send(tail + b".\r\n")
        reply = client.reply()
        codes["final"] = reply.code
        return codes, reply

    def failures(self, cell, records):
        """Those of this cell's clients: servers that failed are probed a few seconds later."""
        return [record for record in records if record["event"] == "backend_failed"
                and record["uuid"] and record["backend"] == f"c{self.numbers[cell]}"]

    def wait_log(self, sender):
        """Waits for the record of this sender's transaction."""
        self.early_records = []
        self.gatepost._wait(lambda: self._has_arrived(sender), PATIENCE, f"no transaction of {sender}")

    def _has_arrived(self, sender):
        self.early_records += self.log.read()
        return any(record["event"] == "transaction" and record["mail_from"] == sender
                   for record in self.early_records)

    def _wait_failed(self, cell, count):
        deadline = time.monotonic() + PATIENCE
        while len(self.failures(cell, self.early_records)) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {count} records of backend_failed: {self.early_records}")
            time.sleep(0.005)
            self.early_records += self.log.read()

    def _warm_up(self, client, cell):
        """A connection to the first server that has served already."""
        if cell.state == "rset" and self.setting.connection == "kept":
            client.envelope("warm@example.net", self.recipients(self.numbers[cell]))
            return
        codes, _ = self.transact(client, cell, "warm@example.net")
        assert codes.get("final") == 250, f"warming up: {codes}"

    def _wait_connections(self, count):
        self.gatepost._wait(lambda: self.gatepost.connections() == count, PATIENCE,
                            f"{self.gatepost.connections()} connections instead of {count}")

    # ---- A cell

    def _strike(self, cell):
        first = self.servers[0]
        line = fault_line(cell)
        if line is None:
            first.kill()
        else:
            first.set_faults([line])
        if hasattr(cell, "second"):
            self.servers[1].set_faults([cell.second])

    def prepare(self, cell, client):
        """Up to the transaction that is looked at, of this client."""
        if cell.state == "idle":
            self._strike(cell)
        if is_reused(self.setting):
            if self.setting.connection == "kept":
                self._warm_up(client, cell)
            else:
                with Client(self.gatepost.address) as other:
                    other.hello()
                    self._warm_up(other, cell)
                    other.quit()
        if cell.state == "idle":
            if cell.fault != "stall":
                self._wait_connections(1)
        else:
            self._strike(cell)
        if cell.state == "rset" and self.setting.connection == "kept":
            client.command("RSET", 250)

    def come_to_rest(self, cell):
        """Nothing is kept, as all servers close what is idle."""
        if "die" in cell.fault:
            self.gatepost._wait(lambda: not self.servers[0].is_running(), PATIENCE,
                                "the server has not died")
        for server in self.servers:
            if server.is_running():
                server.set_faults([])
                server.drop_connections()
            else:
                server.fault_file.write_text("")
                server.start()
        self.gatepost.wait_idle()
        self.gatepost.wait_fds(self.baseline)

    def try_cell(self, cell, wanted=None):
        """wanted: where it does not follow from the cell alone."""
        wanted = wanted or expected(cell)
        sender = f"c{self.numbers[cell]}@example.net"
        self.early_records = []
        with Client(self.gatepost.address) as client:
            client.hello()
            self.prepare(cell, client)
            codes, last = self.transact(client, cell, sender, wanted)
            client.command("NOOP", 250)
            client.quit()
        if self.setting.connection != "pooled":
            self.gatepost.wait_idle()  # by itself
        self.come_to_rest(cell)
        log, trace, records = self.read_all()
        Judge(self, cell, wanted, sender).judge(codes, last, self.early_records + log, trace, records)


class Judge:
    """What has come of a cell, against what had to."""

    def __init__(self, rig, cell, wanted, sender):
        self.rig, self.cell, self.wanted, self.sender = rig, cell, wanted, sender

    def judge(self, codes, last, log, trace, records):
        transaction = self._transaction(log, trace, last)
        commits = [self._commits(events) for events in records]
        self._invariants(codes, transaction, commits)
        if self.wanted.is_loose:
            return
        assert codes == self.wanted.codes, f"codes {codes}, not {self.wanted.codes}: {last}"
        assert (transaction["outcome"], transaction["by"]) == (
            self.wanted.outcome, self.wanted.by), transaction
        for count, (fewest, most) in zip(commits, self.wanted.commits):
            assert fewest <= count <= most, f"commits {commits}, not {self.wanted.commits}"
        self._events(log)

    def _transaction(self, log, trace, last):
        """Exactly one record, and the trace says the same."""
        [found] = [record for record in log
                   if record["event"] == "transaction" and record["mail_from"] == self.sender]
        traced = [(one["outcome"], one["by"]) for line in trace for one in line["transactions"]
                  if one["uuid"] == found["uuid"]]
        assert traced == [(found["outcome"], found["by"])], traced
        if found["outcome"] != "aborted":
            assert found["reply"] == str(last).replace("\n", "\r\n"), (found, str(last))
        return found

    def _commits(self, events):
        whole = sum(map(len, PARTS[self.rig.setting.framing == "bdat"]))
        found = [event for event in events
                 if event["event"] == "message" and event["mail_from"] == self.sender]
        for message in found:
            assert whole < message["size"] < whole + RECEIVED_MAX, message
            assert (message["framing"] == "bdat") <= (self.rig.setting.framing == "bdat"), message
        return len(found)

    def _invariants(self, codes, transaction, commits):
        """Whatever the server does."""
        is_accepted = codes.get("final") == 250
        assert (transaction["outcome"] == "accepted") == is_accepted, transaction
        assert sum(commits) <= 1, f"committed twice: {commits}"
        if is_accepted:
            assert sum(commits) == 1, "250 without a commit"

    def _events(self, log):
        failed = self.rig.failures(self.cell, log)
        fewest, most = self.wanted.failed
        assert fewest <= len(failed) <= most, f"backend_failed {failed}, not {self.wanted.failed}"
        at_fault = [f"127.0.0.1:{server.port}" for server in self.rig.servers]
        if not hasattr(self.cell, "second"):
            at_fault = at_fault[:1]
        assert all(record["server"] in at_fault and record["error"] for record in failed), failed
        backend = f"c{self.rig.numbers[self.cell]}"
        for event in ("outcome_unknown", "backend_blames_us", "identity_refused",
                      "partly_delivered"):
            found = [record for record in log if record["event"] == event
                     and record["backend"] == backend]
            assert bool(found) == (event in self.wanted.events), (event, found)


def is_stalling(cell):
    return any("stall" in part for part in cell[1:] if isinstance(part, str))


def try_each(setting, cells, act, timeouts):
    """What went wrong, by the cell."""
    wrong = {}
    if not cells:
        return wrong
    with Rig(setting, cells, timeouts) as rig:
        for cell in cells:
            try:
                act(rig, cell)
            except Exception as error:  # reported by the caller
                if not rig.gatepost.is_running():
                    raise RuntimeError(f"{cell}: {rig.gatepost.stderr}") from error
                wrong[cell] = f"{type(error).__name__}: {error}"
                rig.come_to_rest(cell._replace(fault=""))
                rig.read_all()
    return wrong


def try_all(setting, cells, act):
    """What went wrong, by the name of the cell. With short deadlines an honest server that this machine
    keeps from answering is taken for one that stalls: such a cell is tried again before it is told of."""
    wrong = try_each(setting, [cell for cell in cells if not is_stalling(cell)], act, PATIENT)
    late = [cell for cell in cells if is_stalling(cell)]
    for _ in range(TRIES):
        late = try_each(setting, list(late), act, HASTY)
    return {" ".join(map(str, cell[1:])): text for cell, text in {**wrong, **late}.items()}


def grow(setting, cells, is_enough, most=24):
    """KB of memory after each round of these, until there are enough rounds, or so many."""
    with Rig(setting, cells) as rig:
        sizes = []
        while not is_enough(sizes) and len(sizes) < most:
            for cell in cells:
                rig.try_cell(cell)
            sizes.append(rig.gatepost.rss_kb())
    return sizes
