"""A private Dovecot that delivers: LMTP over TCP and on a unix socket, mailboxes in its own folder.

    with DovecotLmtp({"alice": None, "bob": 1}) as dovecot:
        ... servers: [f"127.0.0.1:{dovecot.port}"] or [f"unix:{dovecot.socket}"], protocol: lmtp ...
        assert dovecot.messages("alice") == [...]

users: local parts of example.com, each with the KB that its mailbox may hold, or None.
"""

import re

from daemon import run_as_root
from dovecot import Dovecot
from ports import keep_port

CONFIG = """\
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
protocols = lmtp
ssl = no
hostname = store.example.net
postmaster_address = postmaster@example.com
# XCLIENT is offered to these.
login_trusted_networks = 127.0.0.0/8
mail_location = maildir:{directory}/mail/%n
mail_plugins = quota
quota_full_tempfail = {tempfail}
plugin {{
  quota = count:User quota
  quota_vsizes = yes
  quota_grace = 0
}}
passdb {{
  driver = passwd-file
  args = username_format=%n {directory}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {directory}/users
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
  unix_listener {directory}/auth {{
    mode = 0666
  }}
}}
"""


class DovecotLmtp(Dovecot):
    """tempfail: whether a mailbox that is full is a refusal for now."""

    def __init__(self, users, tempfail=False):
        self.port = keep_port()
        self._tempfail = "yes" if tempfail else "no"
        super().__init__(users)

    def _write(self):
        def line(name, kilobytes):
            rule = f" userdb_quota_rule=*:storage={kilobytes}K" if kilobytes else ""
            return (f"{name}:{{PLAIN}}x:nobody:nogroup::{self.directory}/mail/{name}::"
                    f"userdb_uid=nobody userdb_gid=nogroup{rule}\n")
        (self.directory / "users").write_text(
            "".join(line(name, kilobytes) for name, kilobytes in self._users.items()))
        (self.directory / "dovecot.conf").write_text(CONFIG.format(
            directory=self.directory, port=self.port, tempfail=self._tempfail))
        (self.directory / "mail").mkdir()
        run_as_root("chmod", "-R", "a+rX", str(self.directory))
        run_as_root("chmod", "a+rwx", str(self.directory / "mail"))

    def messages(self, user):
        """What is in the mailbox, bytes each, oldest first."""
        folder = self.directory / "mail" / user / "new"
        found = run_as_root("find", str(folder), "-type", "f").stdout if folder.exists() else ""
        return [run_as_root("cat", name).stdout for name in sorted(found.split(), key=delivered_at)]


def delivered_at(path):
    """Seconds and microseconds, of a name in a Maildir; the latter are without leading zeros there."""
    seconds, micros = re.search(r"/(\d+)\.M(\d+)P[^/]*$", path).groups()
    return int(seconds), int(micros)
