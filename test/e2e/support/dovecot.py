"""A private Dovecot as an object, for its auth service alone: users, tokens, a socket.

    with Dovecot({"carol": "harmless"}) as dovecot:
        ... auth: {sasl: f"unix:{dovecot.socket}"} ...
        client.command("AUTH XOAUTH2 " + xoauth2("carol", dovecot.token("carol")), 235)

All its files are in one folder. It needs root: others need sudo, without a password.
"""

import base64
import hmac
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

from daemon import Daemon, as_root, run_as_root

CONFIG = """\
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
protocols =
ssl = no
auth_mechanisms = {mechanisms}
auth_failure_delay = {failure_delay} secs
auth_verbose = yes
# It refuses what comes without TLS, as it is told of each client.
disable_plaintext_auth = yes
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {directory}/oauth2.conf
}}
passdb {{
  driver = passwd-file
  args = {directory}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
# Each wrong password would make all that come from the same address wait longer, up to 15 seconds.
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  unix_listener {directory}/auth {{
    mode = 0666
  }}
}}
"""

OAUTH = """\
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={directory}/keys/
"""

MECHANISMS = "plain login scram-sha-256 xoauth2 oauthbearer"


class Dovecot(Daemon):
    """users: passwords by name. failure_delay: seconds that a refusal waits."""

    name = "Dovecot"

    def __init__(self, users, mechanisms=MECHANISMS, failure_delay=0):
        self.directory = Path(tempfile.mkdtemp(prefix="dovecot-"))
        self.socket = self.directory / "auth"
        self._key = base64.b64encode(os.urandom(32))
        self._users = dict(users)
        self._config = dict(mechanisms=mechanisms, failure_delay=failure_delay)
        self._write()

    # ---- Life

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *exception):
        self.kill()
        if as_root():
            run_as_root("rm", "-rf", "--", str(self.directory))
        else:
            shutil.rmtree(self.directory)

    def _write(self):
        keys = self.directory / "keys" / "default" / "HS256"
        keys.mkdir(parents=True)
        (keys / "default").write_bytes(self._key)
        (self.directory / "oauth2.conf").write_text(OAUTH.format(directory=self.directory))
        (self.directory / "users").write_text(
            "".join(f"{name}:{{PLAIN}}{password}\n" for name, password in self._users.items()))
        (self.directory / "dovecot.conf").write_text(
            CONFIG.format(directory=self.directory, **self._config))
        run_as_root("chmod", "-R", "a+rX", str(self.directory))

    def start(self):
        """Starts it, or starts it again."""
        before = self.log().count("starting up")
        self.spawn(["dovecot", "-F", "-c", self.directory / "dovecot.conf"],
                   lambda: self.log().count("starting up") > before and self.socket.exists(),
                   needs_root=True, start_new_session=True)
        return self

    def signal(self, number):
        """To it and all its processes."""
        if self.is_running():
            run_as_root("kill", f"-{int(number)}", "--", f"-{self.process.pid}")

    def kill(self):
        """Ends it at once, as a crash would."""
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.wait(10)

    # ---- What it knows

    def log(self):
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def token(self, name, padding=0, seconds=3600):
        """A token (JWT) that names this user, longer by so many bytes; good for some seconds."""
        def part(data):
            return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=")
        now = int(time.time())
        text = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(
            {"sub": name, "email": name, "iat": now, "exp": now + seconds,
             "padding": "x" * padding})
        signature = hmac.digest(base64.b64decode(self._key), text, "sha256")
        return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
