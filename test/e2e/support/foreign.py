"""nodemailer's smtp-server as an object: a server that is nobody's we know, in JavaScript.

    with Foreign(refuse={"nobody": 550}) as foreign, Gatepost(backend=foreign) as gatepost: …
        message, = foreign.wait_messages()

$NODEMAILER is a folder with node_modules/smtp-server (test/run makes it, where there is npm).
"""

import base64
import json
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from patience import START
from ports import keep_port

PROGRAM = """
const { SMTPServer } = require(process.argv[2] + "/node_modules/smtp-server");
const { refuse, closeAfter, how, port, options } = JSON.parse(process.argv[3]);
const tell = (event) => console.log(JSON.stringify(event));
const counts = new Map();

/* Once the reply is out. */
function end(id) {
  for (const connection of server.connections) {
    if (connection.session.id === id) {
      const socket = connection._socket;
      setTimeout(() => how === "reset" ? socket.resetAndDestroy() : socket.destroy(), 20);
    }
  }
}

const server = new SMTPServer({
  name: "foreign.example.net", authOptional: true, hideSTARTTLS: true, disableReverseLookup: true,
  logger: false, ...options,
  onRcptTo(address, session, callback) {
    const code = refuse[address.address.split("@")[0]];
    const error = code && Object.assign(new Error("not here"), { responseCode: code });
    callback(error || undefined);
  },
  onData(stream, session, callback) {
    const chunks = [];
    stream.on("data", (chunk) => chunks.push(chunk));
    stream.on("end", () => {
      const count = (counts.get(session.id) || 0) + 1;
      counts.set(session.id, count);
      tell({ session: session.id, client: session.remoteAddress, hello: session.hostNameAppearsAs,
        user: session.user || null, from: session.envelope.mailFrom.address,
        to: session.envelope.rcptTo.map((rcpt) => rcpt.address),
        body: Buffer.concat(chunks).toString("base64") });
      if (stream.sizeExceeded)
        return callback(Object.assign(new Error("too much"), { responseCode: 552 }));
      callback(null, "taken");
      if (count === closeAfter)
        end(session.id);
    });
  },
  onClose(session) { tell({ closed: session.id }); },
  onAuth(auth, session, callback) { callback(null, { user: auth.username }); },
});
server.on("error", () => {});
server.listen(port, "127.0.0.1", () => tell({ port }));
"""


def folder():
    """Where smtp-server was installed, or None."""
    path = os.environ.get("NODEMAILER", "")
    return path if path and (Path(path) / "node_modules/smtp-server").is_dir() else None


class Foreign:
    """refuse: local part -> code of the reply to RCPT. close_after: so many messages on a
    connection; how: "close" or "reset". Other options are smtp-server's."""

    def __init__(self, refuse=None, close_after=0, how="close", **options):
        self.port = keep_port()
        self._settings = {"refuse": refuse or {}, "closeAfter": close_after, "how": how,
                          "options": options}
        self._directory = tempfile.TemporaryDirectory(prefix="foreign-")
        self._process = None
        self._events = []
        self._arrived = threading.Condition(threading.RLock())

    def __enter__(self):
        return self.start()

    def __exit__(self, *exception):
        self.stop()
        self._directory.cleanup()

    def start(self):
        program = Path(self._directory.name) / "server.js"
        program.write_text(PROGRAM)
        before = len(self._events)
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "node", str(program), folder(),
             json.dumps({**self._settings, "port": self.port})],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        threading.Thread(target=self._read, args=[self._process.stdout], daemon=True).start()
        self._wait(lambda: len(self._events) > before)
        return self

    def stop(self):
        """At once: what was open is reset or closed by the kernel."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait(START)

    def messages(self):
        with self._arrived:
            return [{**event, "body": base64.b64decode(event["body"])}
                    for event in self._events if "body" in event]

    def sessions(self):
        """How many different ones brought mail."""
        return len({message["session"] for message in self.messages()})

    def wait_messages(self, count=1):
        self._wait(lambda: len(self.messages()) >= count)
        return self.messages()

    def wait_closed(self, session):
        self._wait(lambda: {"closed": session} in self._events)

    def _read(self, stream):
        with stream:
            for line in stream:
                with self._arrived:
                    self._events.append(json.loads(line))
                    self._arrived.notify_all()

    def _wait(self, is_true, timeout=START):
        deadline = time.monotonic() + timeout
        with self._arrived:
            while not is_true():
                if time.monotonic() > deadline:
                    raise TimeoutError("smtp-server: nothing came in time")
                self._arrived.wait(0.05)
