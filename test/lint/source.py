"""What must not stand in the source: dangerous calls, unfinished places, paths of a machine."""
import re

from project import Findings, ROOT, code_only, files, line_of, name

# Unbounded, or with a hidden state, or silently wrong.
BANNED = {
    "strcpy": "str_copy_to", "stpcpy": "str_copy_to", "strncpy": "str_copy_to",
    "strcat": "struct buf", "strncat": "struct buf", "sprintf": "snprintf or buf_printf",
    "vsprintf": "vsnprintf", "gets": "fgets", "scanf": "a parser", "sscanf": "a parser",
    "strtok": "str_cut", "strtok_r": "str_cut", "atoi": "str_to_u64", "atol": "str_to_u64",
    "atof": "a parser", "alloca": "an arena", "strdupa": "str_dup", "tmpnam": "mkstemp",
    "mktemp": "mkstemp", "system": "posix_spawn", "popen": "posix_spawn",
    "gethostbyname": "net/resolver", "getaddrinfo": "net/resolver",
    "localtime": "localtime_r", "gmtime": "gmtime_r", "ctime": "strftime",
    "inet_addr": "ipaddr_parse", "inet_ntoa": "ipaddr_print", "rand": "getrandom",
    "random": "getrandom", "setjmp": "a return value", "longjmp": "a return value",
    "vfork": "posix_spawn",
}
# Allocation that may return NULL is in one place.
ALLOCATION = {"malloc", "calloc", "realloc", "strdup", "strndup"}
CALL = re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(sorted(set(BANNED) | ALLOCATION)))

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
MACHINE = re.compile(r"(?<![\w.])/(home|root|work|Users|opt/build)/|/tmp/build")

TEXT_SUFFIXES = (".c", ".h", ".def", ".py", ".txt", ".md", ".yaml", ".json", ".cfg", ".sh", ".smtp",
                 ".service", ".jsonl")
TOP = ("src", "include", "test", "docs", "config", "deploy")


def check_calls(findings, path, text):
    allowed = ALLOCATION if name(path) == "src/base/xalloc.c" else set()
    for match in CALL.finditer(code_only(text)):
        if match[1] not in allowed:
            findings.add(path, f"{match[1]}(): use {BANNED.get(match[1], 'base/xalloc.h')}",
                         line_of(text, match.start()))


def check_text(findings, path, text):
    for pattern, what in ((UNFINISHED, "unfinished"), (MACHINE, "a path of one machine")):
        for match in pattern.finditer(text):
            findings.add(path, f"{what}: {match[0]}", line_of(text, match.start()))


def check_tables(findings, path, text):
    """Indentation is by tabs (.clang-format); a stray space at an end of line hides in diffs."""
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            findings.add(path, "white space at the end of the line", number)


def main():
    findings, seen = Findings(), 0
    for path in files("src", "include", suffixes=(".c", ".h")):
        check_calls(findings, path, path.read_text())
    own = [p for p in files(*TOP, suffixes=TEXT_SUFFIXES) if "corpus" not in p.parts]
    for path in own + [ROOT / "CMakeLists.txt", ROOT / "README.md"]:
        if path.name == "source.py" or not path.exists():
            continue
        seen += 1
        text = path.read_text(errors="replace")
        check_text(findings, path, text)
        if path.suffix in (".c", ".h", ".def", ".py"):
            check_tables(findings, path, text)
    findings.finish(seen, "files")


main()
