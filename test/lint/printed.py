"""Documents that the program prints are the ones that are kept. With --write: makes them so."""
import difflib
import subprocess
import sys

from project import Findings, ROOT, program_argument


def show(program, topic):
    return subprocess.run([program, "-d", topic], check=True, capture_output=True).stdout.decode()


def topics(program):
    """(topic, file) of every page; the list itself has none."""
    for line in show(program, "topics").splitlines():
        topic, file = line.split()[:2]
        if file != "-":
            yield topic, ROOT / file


def check(findings, topic, path, text):
    kept = path.read_text() if path.exists() else ""
    if kept == text:
        return
    findings.add(path, f"is not what gatepost -d {topic} prints; build the target `docs`")
    sys.stdout.writelines(list(difflib.unified_diff(
        kept.splitlines(True), text.splitlines(True), "kept", "printed", n=1))[:40])


def main():
    findings, seen, program = Findings(), 0, program_argument()
    for topic, path in topics(program):
        text = show(program, topic)
        seen += 1
        if "--write" in sys.argv:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        else:
            check(findings, topic, path, text)
    findings.finish(seen, "documents")


main()
