"""The documents hold: links, names of files and settings, examples that can be copied."""
import pathlib
import re
import shutil
import subprocess
import tempfile

from project import Findings, ROOT, files, program_argument, table_rows

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```([\w.]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SOURCE_PATH = re.compile(r"`((?:src|include|test|docs|config|deploy)/[\w./*<>{},-]*)`")
SHORT_PATH = re.compile(r"\b([du])/([\w/.-]+\.(?:smtp|c))\b")  # of docs/rfc-coverage.md
FOLDERS = {"d": "test/dialogue", "u": "test/unit"}
SETTING = re.compile(r"`((?:limits|timeouts|log|dns|relay)\.[a-z_]+)`")
REPLY = re.compile(r"`((?!VERDICT_|RESULT_|GATEPOST_|CMAKE_)[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`")
CELL = re.compile(r"(?<!\\)\|")
CERTIFICATE = "/etc/haproxy/mail.pem"
OURS = re.compile(r"/etc/gatepost/([\w./-]+)")

# What a fragment of a configuration lacks to be a whole one.
REST = {
    "hostname": "hostname: mx1.example.com\n",
    "listeners": 'listeners: [{name: mx, bind: "127.0.0.1:2525", proxy: "off"}]\n',
    "backends": 'backends: [{name: mta, servers: "127.0.0.1:2526"}]\n',
}


def documents():
    yield ROOT / "README.md"
    yield from files("docs", suffixes=(".md",))


def anchors(text):
    """As GitHub names them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE):
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found


def check_links(findings, path, text):
    for target in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        if not other.exists():
            findings.add(path, f"link to {target}: there is no such file")
        elif anchor and anchor not in anchors(other.read_text()):
            findings.add(path, f"link to {target}: there is no such heading")


def check_paths(findings, path, text):
    for name in SOURCE_PATH.findall(FENCE.sub("", text)):
        pattern = re.sub(r"<\w+>", "*", name)
        wanted = [pattern]
        choice = re.search(r"\{(.*?)\}", pattern)
        if choice:
            wanted = [pattern.replace(choice[0], word) for word in choice[1].split(",")]
        for one in wanted:
            if not any(ROOT.glob(one.rstrip("/"))):
                findings.add(path, f"names {name}, which is not there")
    if path.name == "rfc-coverage.md":
        for letter, file in SHORT_PATH.findall(text):
            if not (ROOT / FOLDERS[letter] / file).exists():
                findings.add(path, f"names {letter}/{file}, which is not there")


def cells(line):
    return [cell.strip().strip("`") for cell in CELL.split(line)[1:-1]]


def rows(text):
    """{section: {key: cells}} of the tables with a `key` or `setting` column in front."""
    found, section, inside = {}, None, False
    for line in text.splitlines():
        if line.startswith("## "):
            section = line[3:].strip()
        if re.match(r"\| (key|setting) \|", line):
            inside = True
        elif inside and line.startswith("|---"):
            continue
        elif inside and line.startswith("|"):
            found.setdefault(section, {})[cells(line)[0]] = cells(line)
        else:
            inside = False
    return found


def show(program, topic):
    return subprocess.run([program, "-d", topic], check=True, capture_output=True,
                          text=True).stdout


def check_help(findings, tables):
    for section, keys in tables.items():
        for key, row in keys.items():
            if not row[-1]:
                findings.add("the program", f"the setting {key} of {section} has no help")


def check_settings(findings, path, text, tables):
    for name in SETTING.findall(text):
        section, key = name.split(".")
        if key not in tables.get(section, {}):
            findings.add(path, f"names the setting {name}, which there is not")


def check_replies(findings, path, text, known):
    for name in REPLY.findall(text):
        if name not in known:
            findings.add(path, f"names the reply {name}, which there is not")


def check_policy_pages(findings, checks):
    """docs/policy/<check>.md names the settings of the check, and no others."""
    step = {"deadline", "on_deadline", "hold"}  # every check may have them
    for check, keys in checks.items():
        path = ROOT / "docs/policy" / f"{check}.md"
        if not path.exists():
            findings.add(path, f"is not there, and the check {check} is")
            continue
        named = set().union(*[set(table) for table in rows(path.read_text()).values()], set())
        root = {"domains", "networks"} if check == "relay" else set()
        for key in sorted(set(keys) - named - step):
            findings.add(path, f"lacks the setting {key}")
        for key in sorted(named - set(keys) - root):
            findings.add(path, f"names the setting {key}, which the check has not")


def provide(folder, name, pem):
    """A file that an example names, as the program can use it: empty for users and maps."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".pem"):
        shutil.copy(pem, file)
    elif name.endswith(".key"):
        shutil.copy(f"{pem}.key", file)
    else:
        file.write_text("secret\n" if name.endswith(".password") else "")


def check_yaml(findings, path, text, program, folder):
    """Each example is a configuration, or completes to one; the files that it names are provided."""
    count = 0
    for language, example in FENCE.findall(text):
        if language != "yaml":
            continue
        count += 1
        for key, rest in REST.items():
            if not re.search(rf"^{key}:", example, re.MULTILINE):
                example += rest
        for name in set(OURS.findall(example)):
            provide(folder, name, folder / "mail.pem")
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(OURS.sub(rf"{folder}/\1", example))
            file.flush()
            result = subprocess.run([program, "-c", "-f", file.name], capture_output=True,
                                    text=True)
        if result.returncode != 0:
            findings.add(path, f"an example is refused: {result.stderr}{example}")
    return count


def certificate(folder):
    file = folder / "mail.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                    "/CN=mx1.example.com", "-keyout", str(file) + ".key", "-out", str(file)],
                   check=True, capture_output=True)
    file.write_text(file.read_text() + pathlib.Path(f"{file}.key").read_text())
    return file


def check_haproxy(findings, path, text):
    haproxy = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    examples = [e for language, e in FENCE.findall(text) if language == "haproxy"]
    if path.suffix == ".cfg":
        examples = [text]
    if not examples or not haproxy:
        return len(examples)
    with tempfile.TemporaryDirectory() as folder:
        pem = certificate(pathlib.Path(folder))
        for number, example in enumerate(examples):
            file = pathlib.Path(folder) / f"{number}.cfg"
            file.write_text(example.replace(CERTIFICATE, str(pem)))
            result = subprocess.run([haproxy, "-c", "-f", str(file)], capture_output=True,
                                    text=True)
            if result.returncode != 0 or "[WARNING]" in result.stderr:
                findings.add(path, f"haproxy -c: {result.stderr}{example}")
    return len(examples)


def main():
    findings, program = Findings(), program_argument()
    configuration, checks = rows(show(program, "configuration")), rows(show(program, "checks"))
    replies = {row[0] for row in table_rows("replies.def", "REPLY")}
    seen = examples = 0
    check_help(findings, configuration)
    check_help(findings, checks)
    check_policy_pages(findings, checks)
    for path in files("config", suffixes=(".yaml",)):
        result = subprocess.run([program, "-c", "-f", path], capture_output=True, text=True)
        if result.returncode != 0:
            findings.add(path, f"is refused: {result.stderr}")
    for path in files("deploy", suffixes=(".cfg",)):
        examples += check_haproxy(findings, path, path.read_text())
    with tempfile.TemporaryDirectory() as folder:
        certificate(pathlib.Path(folder))
        for path in documents():
            if not path.exists():
                findings.add(path, "is not there")
                continue
            seen += 1
            text = path.read_text()
            check_links(findings, path, text)
            check_paths(findings, path, text)
            check_settings(findings, path, text, configuration)
            check_replies(findings, path, text, replies)
            examples += check_yaml(findings, path, text, program, pathlib.Path(folder))
            examples += check_haproxy(findings, path, text)
    print(f"{examples} examples tried")
    findings.finish(seen, "documents")


main()
