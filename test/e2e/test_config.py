"""The command line and the configuration: every mistake at once, with its place, and nothing started.

What can be said wrongly about each setting is tested beside the reader (test/unit/conf); here it is
the program: exit codes, what goes where, and files of all kinds of brokenness.
"""

import json
import os
import re
import socket
import stat
import tempfile
from pathlib import Path

import pytest
from backend import Backend
from client import Client
from gatepost import Gatepost, run
from tls import Authority

SMALLEST = """\
hostname: mx.example.net
listeners:
  - {bind: ["127.0.0.1:0"], proxy: required}
relay: {domains: [example.com]}
backends:
  - {servers: ["127.0.0.1:1"]}
"""


@pytest.fixture
def file(tmp_path):
    """Writes a configuration; returns its path."""
    def write(text, name="gatepost.yaml"):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path
    return write


def mistakes(path, done):
    """(line, column, key, words) of each line of the report."""
    found = []
    for line in done.stderr.splitlines():
        if re.fullmatch(re.escape(str(path)) + r": and \d+ more mistakes", line):
            continue
        match = re.fullmatch(r"(.*?):(\d+):(\d+): (?:([\w.\[\]]+): )?(.*)", line)
        assert match and match[1] == str(path), line
        found.append((int(match[2]), int(match[3]), match[4], match[5]))
    return found


def refused(path, *arguments):
    """Runs with it, which must fail as a bad configuration does; returns the mistakes."""
    for way in ([], ["-c"], ["-p"]):
        done = run(*way, *arguments, "-f", str(path))
        assert done.returncode == 78, (way, done)
        assert done.stdout == ""
        assert done.stderr
    return done


# ---- Mistakes

def test_every_mistake_at_once(file, tmp_path):
    path = file(f"""\
hostname: mx_1..example
workers: 0
listners: []
listeners:
  - name: mx
    bind: ["127.0.0.1:99999", "localhost:25"]
    proxy: maybe
    trusted_proxies: [10.0.0.0/33]
  - name: mx
    proxy: required
    plan: edge2
relay: {{domains: ["exa mple"], networks: [0.0.0.0/0]}}
backends:
  - servers: []
    identity: xclient2
routes:
  - {{backend: nobody}}
limits: {{message_size: 1KB, recipients: none, connections_per_client: -1, recipient: 5}}
timeouts: {{proxy: 5 parsecs, command: 1ms}}
log: {{format: xml, level: loud, target: {tmp_path}/log, trace: {tmp_path}/trace}}
plans:
  edge: {{rcpt: [relai], foo: []}}
""")
    found = mistakes(path, refused(path))
    places = {(line, key) for line, _, key, _ in found}
    assert places >= {
        (1, "hostname"), (2, "workers"), (3, "listners"), (6, "listeners[0].bind[0]"),
        (6, "listeners[0].bind[1]"), (7, "listeners[0].proxy"),
        (8, "listeners[0].trusted_proxies[0]"), (9, "listeners[1].bind"),
        (9, "listeners[1].name"), (11, "listeners[1].plan"), (12, "relay.domains[0]"),
        (12, "relay.networks"), (14, "backends[0].servers"), (15, "backends[0].identity"),
        (17, "routes[0].backend"), (18, "limits.message_size"), (18, "limits.recipients"),
        (18, "limits.connections_per_client"), (18, "limits.recipient"), (19, "timeouts.proxy"),
        (19, "timeouts.command"), (20, "log.format"), (20, "log.level"),
        (22, "plans.edge.rcpt[0]"), (22, "plans.edge.foo"),
    }, sorted(places)
    assert len(found) == len(set(found))
    assert found == sorted(found, key=lambda entry: entry[:2])
    by_key = {key: words for _, _, key, words in found}
    assert 'did you mean "listeners"' in by_key["listners"]
    assert 'did you mean "recipients"' in by_key["limits.recipient"]
    assert 'did you mean "relay"' in by_key["plans.edge.rcpt[0]"]
    # Nothing was begun.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gatepost.yaml"]


@pytest.mark.parametrize("text,words", [
    ("hostname: [a\n", ""), ("hostname: 'a\n", ""), ("\thostname: a\n", ""), ("- a\n- b\n", ""),
    ("just words\n", ""), ("", "missing"), ("# nothing\n", "missing"), ("---\n---\n", ""),
    ("hostname: a.example\nhostname: b.example\n", "hostname"), (b"hostname: \xff\xfe\n", ""),
    (b"\xff\xfeh\0o\0s\0t\0", ""), (b"\0" * 100, ""), ("a: &a [*a]\n", ""),
    ("hostname: *nobody\n", ""), ("? [a, b]\n: c\n", ""), ("[" * 5000, ""), ("{a: " * 5000, ""),
    ("- " * 5000, ""), ("hostname: !!python/object:os.system ls\n", ""), ("%YAML 9.9\n---\na: b\n", ""),
    ("hostname: ${NOBODY_SET_THIS}\n", "NOBODY_SET_THIS"), ("hostname: ${\n", ""),
    ("hostname: " + "a" * 70000 + "\n", ""), ("a" * 70000 + ": b\n", ""),
    ("hostname: {a: b}\nlisteners: text\nlimits: [1]\n", "listeners"),
    ("x\x1b[31m: \x07\n", ""), ("hostname: \"\\u001b[31m\"\n", ""),
    ("<<: {hostname: a}\n", ""), ("hostname: a\n" + "k: v\n" * 5000, ""),
], ids=lambda value: repr(value[:16]))
def test_broken_files(file, text, words):
    """One or more mistakes with their places, whatever the file is; never a crash or a long wait."""
    path = file(text)
    done = refused(path)
    found = mistakes(path, done)
    assert found
    assert all(line >= 1 and column >= 1 for line, column, _, _ in found)
    assert words in done.stderr
    assert len(done.stderr) < 256 * 1024
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", done.stderr)


def test_aliases_that_would_grow_without_end(file):
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for n in range(1, 30):
        text += f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 9) + "]\n"
    refused(file(text))


def test_files_that_cannot_be_read(tmp_path):
    missing = tmp_path / "missing.yaml"
    for path in (missing, tmp_path):
        done = refused(path)
        assert done.stderr.startswith(f"{path}: ")
    huge = tmp_path / "huge.yaml"
    with open(huge, "wb") as stream:
        stream.truncate(100 * 1024 * 1024)
    refused(huge)


def test_every_setting_with_nonsense(file, tmp_path):
    """Each key of the effective configuration gets a map, a list and words in turn: no crash."""
    printed = run("-p", "-f", str(file(SMALLEST)))
    assert printed.returncode == 0
    keys = re.findall(r"^(\w+):$", printed.stdout, re.M)
    assert {"limits", "timeouts", "log", "relay", "dns"} <= set(keys)
    for section in ("limits", "timeouts", "log", "relay", "dns"):
        names = re.findall(r"^  (?:# )?(\w+)[: ]", printed.stdout.partition(f"\n{section}:\n")[2]
                           .partition("\n\n")[0].split("\n# ")[0], re.M)
        for value in ("{a: b}", "[[x]]", '"\\0"', "99999999999999999999999", "-1", "1e9", "~"):
            text = SMALLEST.replace("relay: {domains: [example.com]}\n", "") + \
                f"{section}:\n" + "".join(f"  {name}: {value}\n" for name in names[:3])
            done = run("-c", "-f", str(file(text)))
            assert done.returncode in (0, 78), (section, value, done)


# ---- What is right

def test_smallest_file(file):
    done = run("-c", "-f", str(file(SMALLEST)))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def effective(path):
    done = run("-p", "-f", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_trusted_proxies_without_proxies(file):
    """Said for a listener that takes no header, it is a mistake; what -p prints is none."""
    text = SMALLEST.replace("required", '"off", trusted_proxies: [10.0.0.0/24]')
    assert "trusted_proxies has no meaning" in refused(file(text)).stderr
    for harmless in ("[]", '[127.0.0.0/8, "::1"]', '[127.0.0.0/8, "::1/128"]'):
        text = SMALLEST.replace("required", f'"off", trusted_proxies: {harmless}')
        assert run("-c", "-f", str(file(text))).returncode == 0


def settings_of(text):
    """Without the marks and notes behind the settings."""
    return [line.partition(" #")[0] for line in text.splitlines() if not line.startswith("#")]


FULL = {
    "hostname": "mx1.example.com", "workers": 1, "user": "nobody",
    "listeners": [
        {"name": "mx", "bind": ["127.0.0.1:0", "[::1]:0"], "proxy": "required",
         "trusted_proxies": ["10.0.0.0/24", "2001:db8::/32"], "health_checkers": ["10.0.0.9"],
         "plan": "edge", "bare_newline": "normalise", "normalise_networks": ["10.9.0.0/16"]},
        {"name": "direct", "bind": ["127.0.0.1:0"], "proxy": "off"},
        {"bind": ["127.0.0.1:0"], "proxy": "optional"},
    ],
    "relay": {"domains": ["example.com", ".example.org"], "networks": ["10.9.0.0/16"]},
    "plans": {"edge": {"connect": ["limits", {"client_acl": {"reject": ["198.51.100.0/24"]}},
                                   "early_talker"], "hello": ["hello"], "rcpt": ["relay"]}},
    "backends": [{"name": "mta", "servers": ["127.0.0.1:1", "[::1]:2"], "balance": "leastconn",
                  "identity": "proxy-v2", "hello": "client"},
                 {"name": "legacy", "servers": ["127.0.0.1:3"]}],
    "routes": [{"domains": ["example.org"], "backend": "legacy"}, {"backend": "mta"}],
    "limits": {"message_size": "50MB", "recipients": 50, "connections_per_client": 0},
    "timeouts": {"proxy": "3s", "command": "90s", "session": "1h"},
    "dns": {"servers": ["127.0.0.1:53"], "timeout": "1500ms", "reverse": False},
    "log": {"format": "postfix", "level": "warning", "trace_restricted": True},
}


@pytest.mark.parametrize("text", [SMALLEST, SMALLEST.replace("required", '"off"'),
                                  SMALLEST.replace("required", "optional"), json.dumps(FULL)],
                         ids=["required", "off", "optional", "full"])
def test_what_is_printed_reads_back(file, text):
    """The effective configuration is a configuration, and prints itself."""
    first = effective(file(text))
    second = effective(file(first, "again.yaml"))
    assert settings_of(second) == settings_of(first)
    assert "# default" in first
    assert "plan default" in first
    assert not re.search(r"hostname: .*# default", first)


def test_sample_is_a_good_configuration(file):
    sample = run("-d", "sample")
    assert sample.returncode == 0
    done = run("-c", "-f", str(file(sample.stdout)))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_variables_of_the_environment(file):
    path = file(SMALLEST.replace("mx.example.net", "${MX_NAME:-mx.example.org}"))
    assert "hostname: mx.example.org" in effective(path)
    done = run("-p", "-f", str(path), env=dict(os.environ, MX_NAME="mx9.example.org"))
    assert "hostname: mx9.example.org" in done.stdout
    done = run("-c", "-f", str(path), env=dict(os.environ, MX_NAME="not a name"))
    assert done.returncode == 78


USERS = 'proxy: "off", auth: {users: FILE, allow_plaintext: [127.0.0.1]}'
CREDENTIALS = '"127.0.0.1:1"], tls: {mode: required%s}, auth: {user: me, password_file: FILE}'


@pytest.mark.parametrize("text,content,line,key,said", [
    (SMALLEST.replace("relay: {domains: [example.com]}\n", ""), "", 1, None,
     "relay.domains and relay.networks are empty"),
    (SMALLEST + "workers: 4\n", "", 7, "workers", "this version runs one process"),
    (SMALLEST + "routes: [{domains: [example.com], backend: backend1}]\n", "", 7, "routes[0]",
     "the last route"),
    (SMALLEST + "routes: [{map: FILE}]\n", "", 7, "routes[0]", "the last route"),
    (SMALLEST + "plans: {edge: {mail: [sender_login]}}\n", "", 7, "plans.edge",
     "it has sender_login"),
    (SMALLEST.replace("proxy: required", USERS), "", 3, "listeners[0].auth.users",
     "FILE: nobody is in it"),
    (SMALLEST.replace("proxy: required", 'proxy: "off", auth: {sender_login: FILE, '
                      "unauthenticated_senders: reject}"), "", 3,
     "listeners[0].auth.sender_login", "FILE: no sender is in it"),
    (SMALLEST.replace('"127.0.0.1:1"]', CREDENTIALS % ", verify: none"), "x\n", 6,
     "backends[0]", "auth with tls.verify: none"),
    (SMALLEST.replace('"127.0.0.1:1"]', CREDENTIALS % ", verify: none"), "x\n", 6,
     "backends[0].auth.password_file", "FILE: everybody on this machine can read it"),
])
def test_notices_are_no_errors(file, text, content, line, key, said):
    """Told as mistakes are, and not at all beside them."""
    named = file(content, "named")
    named.chmod(0o644)
    path = file(text.replace("FILE", str(named)))
    done = run("-c", "-f", str(path))
    assert (done.returncode, done.stdout) == (0, "")
    told = [(at, where, words) for at, _, where, words in mistakes(path, done)]
    assert any((at, where) == (line, key) and words.startswith(said.replace("FILE", str(named)))
               for at, where, words in told), told
    assert run("-p", "-f", str(path)).stderr == ""
    path.write_text(path.read_text() + "typo: 1\n")
    assert [key for _, _, key, _ in mistakes(path, run("-c", "-f", str(path)))] == ["typo"]


# ---- The files that it names

WITH_FILES = """\
hostname: mx.example.net
user: no-such-user
listeners:
  - proxy: "off"
    bind: "127.0.0.1:0"
    tls: {mode: starttls, certificate: DIR/none.pem, key: DIR/none.key, client_ca: DIR/a.crt}
    auth: {users: DIR/users, sender_login: DIR/none.senders}
  - proxy: "off"
    bind: "127.0.0.1:0"
    tls: {mode: starttls, certificate: DIR/a.crt, key: DIR/b.key}
    auth: {users: DIR/none.users}
  - proxy: "off"
    bind: "127.0.0.1:0"
    tls:
      mode: implicit
      certificates:
        - {certificate: DIR/a.crt, key: DIR/a.key}
        - {certificate: DIR/users, key: DIR/b.key}
backends:
  - name: mta
    servers: "127.0.0.1:1"
    tls: {mode: required, verify: ca, ca: DIR/none.ca}
    auth: {user: me, password_file: DIR/empty}
routes:
  - {map: DIR/map}
  - {backend: nowhere}
log: {target: DIR/none/log, trace: DIR}
"""


def test_files_that_are_wrong(file, tmp_path):
    """Each at the setting that names it, all in one run, mistakes of the settings beside them. The start
    finds the first; -p opens none, for a configuration of another machine."""
    authority = Authority(tmp_path)
    for name in "ab":
        authority.make(name, [f"{name}.example.net"])
    for name, text in (("users", "bob;x\ncarol\n"), ("empty", ""), ("map", "example.org nowhere\n")):
        file(text, name)
    path = file(WITH_FILES.replace("DIR", str(tmp_path)))
    done = run("-c", "-f", str(path))
    assert done.returncode == 78 and done.stdout == ""
    gone = "No such file or directory"
    assert [(line, key, said.replace(f"{tmp_path}/", "")) for line, _, key, said in mistakes(path, done)] == [
        *([(2, "user", "there is no user no-such-user")] if os.geteuid() == 0 else []),
        (6, "listeners[0].tls.certificate", f"none.pem: {gone}"),
        (6, "listeners[0].tls.key", f"none.key: {gone}"),
        (7, "listeners[0].auth.users", "users:1: must be name:hash (and 1 more); lines for it are made by "
                                       "gatepostctl hash-password"),
        (7, "listeners[0].auth.sender_login", f"none.senders: cannot open: {gone}"),
        (10, "listeners[1].tls.key", "b.key: the key does not belong to the certificate in a.crt"),
        (11, "listeners[1].auth.users", f"none.users: cannot open: {gone}; lines for it are made by "
                                       "gatepostctl hash-password"),
        (18, "listeners[2].tls.certificates[1].certificate", "users: there is no certificate in it"),
        (22, "backends[0].tls.ca", f"none.ca: {gone}"),
        (23, "backends[0].auth.password_file", "empty: there is no password in it"),
        (25, "routes[0].map", 'map:1: example.org: there is no backend "nowhere"'),
        (26, "routes[1].backend", 'there is no backend "nowhere"'),
        (27, "log.target", f"none/log: {gone}"),
        (27, "log.trace", f"{tmp_path}: Is a directory"),
    ]
    text = path.read_text().replace("backend: nowhere", "backend: mta")
    path.write_text(text)
    assert run("-f", str(path)).returncode == 71
    path.write_text(text.partition("log:")[0])
    assert run("-f", str(path)).returncode == 78
    assert run("-p", "-f", str(path)).returncode == 0


NAMED = """\
hostname: mx.example.net
listeners:
  - proxy: "off"
    bind: "127.0.0.1:0"
    tls: {mode: starttls, certificate: DIR/a.crt, key: DIR/a.key}
    auth: {users: DIR/users}
relay: {domains: [example.com]}
backends:
  - {name: mta, servers: "127.0.0.1:1"}
routes:
  - {map: DIR/map}
  - {backend: mta}
log: {target: DIR/open/log, trace: DIR/closed/trace}
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_files_that_the_user_could_not_open_anew(file):
    """The start reads them as root, a renewal is read by `user`."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "open").mkdir(mode=0o755)
        (folder / "closed").mkdir(mode=0o700)
        Authority(folder).make("a", ["a.example.net"])
        (folder / "users").write_text("bob:!\n")
        (folder / "map").write_text("example.org mta\n")
        for name, mode in (("a.crt", 0o644), ("a.key", 0o600), ("users", 0o640), ("map", 0o600)):
            (folder / name).chmod(mode)
        text = NAMED.replace("DIR", str(folder))
        assert run("-c", "-f", str(file(text))).stderr == ""
        path = file(text + "user: nobody\n")
        done = run("-c", "-f", str(path))
        assert (done.returncode, done.stdout) == (0, "")
        denied = "the user could not read it anew when it changes: Permission denied"
        assert [(line, key, said.replace(f"{folder}/", ""))
                for line, _, key, said in mistakes(path, done)] == [
            (5, "listeners[0].tls.key", f"a.key: {denied}"),
            (6, "listeners[0].auth.users", f"users: {denied}"),
            (11, "routes[0].map", f"map: {denied}"),
            (13, "log.trace", "closed/trace: the user could not open it anew at HUP: Permission denied"),
        ]
        assert list((folder / "open").iterdir()) == []


# ---- The command line

@pytest.mark.parametrize("arguments", [["-x"], ["stray"], ["-f"], ["-c", "stray"], ["-d"],
                                       ["-d", "nothing"], ["--help-me"]])
def test_usage(arguments):
    done = run(*arguments)
    assert done.returncode == 64
    assert done.stdout == ""
    assert done.stderr


def test_help_and_versions():
    assert "usage:" in run("-h").stdout
    assert re.fullmatch(r"gatepost \d+\.\d+\.\d+\n", run("-v").stdout)
    long = run("-vv").stdout
    for library in ("libev", "OpenSSL", "c-ares"):
        assert library in long


def test_topics():
    listed = run("-d", "nothing").stderr
    topics = [line.split()[0] for line in run("-d", "topics").stdout.splitlines()]
    assert {"configuration", "connection", "replies", "states", "log-events", "endings"} <= set(
        topics)
    for topic in topics:
        assert topic in listed
        done = run("-d", topic)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(done.stdout) > 100
    json.loads(run("-d", "schema").stdout)


# ---- What the system refuses

def fails(config, code, *words, **options):
    gatepost = Gatepost(config)
    gatepost.config_file.write_text(json.dumps(gatepost.config))
    for path in (gatepost.directory, gatepost.config_file):
        path.chmod(0o755)
    done = run("-f", str(gatepost.config_file), **options)
    assert done.returncode == code, done
    for word in words:
        assert word in done.stderr, done.stderr
    assert "Sanitizer" not in done.stderr
    return done


def test_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        fails({"listeners": [{"name": "mx", "bind": ["127.0.0.1:0", f"127.0.0.1:{port}"],
                              "proxy": "off"}]},
              71, "listener mx", f"127.0.0.1:{port}", "in use")


def test_address_that_is_not_ours():
    fails({"listeners": [{"name": "mx", "bind": ["198.51.100.1:0"], "proxy": "off"}]},
          71, "listener mx", "198.51.100.1")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up root")
def test_what_needs_permission(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    try:
        fails({"log": {"target": f"{closed}/log"}}, 77, f"{closed}/log", user=65534)
    except PermissionError:
        pytest.skip("the folder of the program is closed to other users")
    fails({"user": "no-such-user"}, 77, "no-such-user")


@pytest.mark.parametrize("key", ["target", "trace"])
def test_files_that_cannot_be_created(key):
    fails({"log": {key: "/nonexistent/folder/file"}}, 71, "/nonexistent/folder/file")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up root")
def test_root_is_given_up():
    with Backend() as backend, Gatepost({"user": "nobody"}, backend=backend) as gatepost:
        with open(f"/proc/{gatepost.pid}/status") as stream:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)
        assert set(status["Uid"].split()) == {"65534"}
        assert "0" not in status["Gid"].split()
        assert status["CapEff"] == "0" * 16
        assert stat.S_IMODE(os.stat(gatepost.trace_file).st_mode) == 0o640
        with Client(gatepost.address) as client:
            client.hello()
            assert client.message().code == 250
            client.quit()
        gatepost.trace()
