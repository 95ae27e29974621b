"""fail2ban's filter for Postfix reads the log's postfix form.

The lines are those of test/unit/base/test_log.c, which prints them when it is asked to; the
filter is the one that fail2ban installs. Without fail2ban these tests fail: the postfix form
exists for it.
"""

import os
import shutil
import subprocess
import textwrap
import time
from pathlib import Path

import pytest
from auth import auth_plain, hash_password
from client import Client
from gatepost import Gatepost

FILTER = "/etc/fail2ban/filter.d/postfix.conf"

RELAYING = ("203.0.113.9", "NOQUEUE: reject: RCPT from mail.example.org[203.0.113.9]")
HELLO = ("203.0.113.10", "NOQUEUE: reject: HELO from unknown[203.0.113.10]")
DISGUISED = ("203.0.113.11", "NOQUEUE: reject: RCPT from a?198.51.100.66?:?554?5.7.1?x[")
PIPELINING = ("203.0.113.13", "improper command pipelining after HELO from unknown[203.0.113.13]")
ERRORS = ("203.0.113.9", "too many errors after RCPT from unknown[203.0.113.9]")
ERRORS_UNKNOWN = ("203.0.113.9", "too many errors after UNKNOWN from unknown[203.0.113.9]")
GUESS = ("203.0.113.14", "warning: unknown[203.0.113.14]: SASL PLAIN authentication failed: auth")
NO_BASE64 = ("203.0.113.15", "warning: unknown[203.0.113.15]: SASL LOGIN authentication failed: malf")
LOST = ("203.0.113.12", "lost connection after MAIL from unknown[203.0.113.12]")

NORMAL = {RELAYING, HELLO, DISGUISED, PIPELINING, ERRORS, ERRORS_UNKNOWN}
MODES = {
    "normal": NORMAL,
    "more": NORMAL,
    "extra": NORMAL | {GUESS, NO_BASE64},
    "aggressive": NORMAL | {LOST, GUESS, NO_BASE64},
    "ddos": {LOST},
    "errors": {ERRORS, ERRORS_UNKNOWN},
    "auth": {GUESS, NO_BASE64},
}


def printer():
    if "GATEPOST_LOG_PRINTER" in os.environ:
        return os.environ["GATEPOST_LOG_PRINTER"]
    build = os.environ.get("GATEPOST_BUILD", "build")
    return str(Path(build) / "test" / "unit_base_test_log")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "mail.log"
    with open(path, "wb") as file:
        subprocess.run([printer(), "print"], stdout=file, check=True, timeout=30)
    assert path.stat().st_size > 0
    return path


def matches(path, mode, what):
    """What fail2ban-regex found: a list of `ip`, `msg` or `row`, one for each matching line."""
    assert shutil.which("fail2ban-regex"), "fail2ban is not installed"
    done = subprocess.run(
        ["fail2ban-regex", "-o", what, str(path), f"{FILTER}[mode={mode}]"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    return done.stdout.splitlines()


@pytest.mark.parametrize("mode", MODES)
def test_matches_what_it_should_and_nothing_else(log, mode):
    addresses = matches(log, mode, "ip")
    lines = matches(log, mode, "msg")
    assert len(addresses) == len(lines)
    found = set()
    for address, line in zip(addresses, lines):
        known = [w for w in MODES[mode] if w[0] == address and f"]: {w[1]}" in line]
        assert len(known) == 1, f"{address}: {line}"
        found.add(known[0])
    assert found == MODES[mode]
    assert len(lines) == len(MODES[mode])


def test_understands_the_time(log):
    """The lines carry local time without a year."""
    rows = matches(log, "normal", "row")
    assert rows
    for row in rows:
        assert abs(float(row.split(",")[1]) - time.time()) < 300


def test_reads_the_line_prefix(log):
    """A name of the program that is not Postfix's is not matched: the prefix counts."""
    other = log.with_name("other.log")
    other.write_text(log.read_text().replace("postfix-gatepost/smtpd", "gatepost"))
    assert matches(other, "normal", "ip") == []


def test_filter_of_the_document(tmp_path):
    """That of docs/auth.md for the form json, with what the program has written."""
    text = (Path(__file__).parents[2] / "docs/auth.md").read_text()
    definition = text[text.index("    [Definition]"):].split("\n\n")[0]
    (tmp_path / "gatepost.conf").write_text(textwrap.dedent(definition))
    users = tmp_path / "users"
    users.write_text(hash_password("bob", "right", "bcrypt"))
    one = {"auth": {"users": str(users), "allow_plaintext": ["127.0.0.0/8"], "failure_delay": "10ms"}}
    with Gatepost(listener=one) as gatepost, Client(gatepost.address) as client:
        client.hello()
        assert auth_plain(client, 'x","client":"198.51.100.66', "wrong").code == 535
        client.command("AUTH PLAIN AAAA", 501)
        assert auth_plain(client, "bob", "right").code == 235
        done = subprocess.run(["fail2ban-regex", "-o", "ip", gatepost.log_file,
                               tmp_path / "gatepost.conf"], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["127.0.0.1"] * 2
