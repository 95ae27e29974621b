"""The longest functions, the most branchy ones, the longest files. To be read; it never fails."""
import re

from project import code_only, files, name

START = re.compile(r"^(?!typedef|struct \w+ \{|enum|static const struct \w* ?\{|#)"
                   r"[a-zA-Z_][^;={}]*\)\n\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
BRANCH = re.compile(r"\b(if|for|while|case)\b|&&|\|\||\?")
SHOWN = 10


def functions():
    for path in files("src", suffixes=(".c",)):
        text = code_only(path.read_text())
        for match in START.finditer(text):
            signature = match[0].split("\n{")[0]
            word = re.search(r"(\w+)\(", signature)
            yield (match[1].count("\n"), len(BRANCH.findall(match[1])) + 1,
                   word[1] if word else "?", name(path))


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def main():
    found = list(functions())
    lengths = [f[0] for f in found]
    print(f"{len(found)} functions; lines: median {percentile(lengths, 0.5)}, "
          f"95 % {percentile(lengths, 0.95)}, longest {max(lengths)}\n")
    print("longest functions")
    for lines, _, word, path in sorted(found, reverse=True)[:SHOWN]:
        print(f"  {lines:4}  {word} ({path})")
    print("\nmost branches")
    for _, branches, word, path in sorted(found, key=lambda f: -f[1])[:SHOWN]:
        print(f"  {branches:4}  {word} ({path})")
    print("\nlongest files")
    sizes = [(p.read_text().count("\n"), name(p)) for p in files("src", suffixes=(".c",))]
    for lines, path in sorted(sizes, reverse=True)[:SHOWN]:
        print(f"  {lines:4}  {path}")


main()
