"""What the lint scripts share: the files of the project, C source without its comments, findings."""
import os
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

C_TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)


def files(*folders, suffixes):
    """The project's files below the folders, sorted; suffixes such as (".c", ".h")."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.name.endswith(tuple(suffixes)):
                yield path


def name(path):
    return str(path.relative_to(ROOT))


def blank(text):
    """Spaces instead of text, so that line numbers and columns stay."""
    return re.sub(r"[^\n]", " ", text)


def without_comments(text):
    return C_TOKEN.sub(lambda m: blank(m[0]) if m[0].startswith(("//", "/*")) else m[0], text)


def code_only(text):
    """Neither comments nor what is inside quotes."""
    return C_TOKEN.sub(lambda m: blank(m[0]) if m[0].startswith(("//", "/*"))
                       else m[0][0] + blank(m[0][1:-1]) + m[0][0], text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


class Findings:
    def __init__(self):
        self.count = 0

    def add(self, where, text, line=None):
        where = name(where) if isinstance(where, pathlib.Path) else where
        print(f"{where}:{line}: {text}" if line else f"{where}: {text}")
        self.count += 1

    def finish(self, seen, of_what):
        """Nothing looked at is a finding, too: the script has lost its way."""
        if seen == 0:
            self.add("lint", f"no {of_what} were found to look at")
        print(f"{seen} {of_what} looked at, {self.count} findings")
        sys.exit(1 if self.count else 0)


def table_rows(table, macro):
    """The rows of an X-macro file: lists of their arguments, strings without quotes."""
    text = without_comments((ROOT / "include/tables" / table).read_text())
    for match in re.finditer(rf"^{macro}\((.*)\)\s*$", text, re.MULTILINE):
        yield split_arguments(match[1])


def split_arguments(text):
    """Arguments at the top level of a call; a plain string literal loses its quotes."""
    parts, depth, start = [], 0, 0
    plain = code_only(text)
    for i, c in enumerate(plain):
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    parts.append(text[start:].strip())
    return [p[1:-1] if re.fullmatch(r'"(?:\\.|[^"\\])*"', p) else p for p in parts]


def calls(text, function):
    """(position, text between the parentheses) of each call in C source."""
    plain = code_only(text)
    for match in re.finditer(rf"\b{function}\(", plain):
        depth, i = 1, match.end()
        while depth > 0 and i < len(plain):
            depth += {"(": 1, ")": -1}.get(plain[i], 0)
            i += 1
        yield match.start(), text[match.end():i - 1]


def program_argument():
    return os.path.abspath(sys.argv[1])
