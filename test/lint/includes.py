"""Who includes whom: the table of docs/architecture.md, read against every #include line."""
import re

from project import Findings, ROOT, files, name, without_comments

BELOW = {
    "base": set(),
    "proto": {"base"},
    "conf": {"base"},
    "net": {"base"},
    "connection": {"base", "proto"},
    "auth": {"base", "proto", "net", "connection"},
    "policy": {"base", "proto", "connection"},
    "smtp": {"base", "proto", "connection"},
    "backend": {"base", "proto", "connection", "smtp", "net", "auth"},
    "edge": {"base", "proto", "connection", "policy", "smtp", "net", "auth", "backend"},
    "gatepostctl": {"base", "auth"},
    "app": {"base", "proto", "conf", "connection", "policy", "smtp", "backend", "edge",
            "net"},
}

# Headers of a module above, or beside, that may be included all the same.
ALSO = {
    "connection": {"policy/verdict.h"},  # types only: stages and verdicts are in the trace
    "policy": {"conf/schema.h", "conf/schema_doc.h"},
    "smtp": {"policy/verdict.h"},
    "backend": {"conf/schema.h"},
    "edge": {"conf/schema.h"},
}

# Whose header only these files may include.
LIBRARIES = {
    r"uuid/.*": {"src/base/ident.c"},
    r"idn2\.h": {"src/base/idn.c"},
    r"yaml\.h": {"src/conf/document.c"},
    r"ev\.h": {"include/net/loop.h", "src/app/main.c"},
    r"ares.*\.h": {"src/net/resolver_channel_priv.h", "src/app/main.c"},
    r"openssl/.*": {"src/net/tls_priv.h", "src/net/tls.c", "src/net/tls_files.c",
                    "src/net/tls_server.c", "src/net/tls_client.c", "src/net/stream_tls.c",
                    "src/auth/digest.c", "src/auth/secret.c", "src/app/main.c"},
    r"crypt\.h": {"src/auth/password.c"},
    r"event2?/.*|event\.h": set(),  # libevent: never, see test/lint/binary.py
}

# The parsers have neither sockets nor files nor a clock.
NOT_IN_PURE = re.compile(r"sys/socket\.h|netinet/.*|sys/epoll\.h|fcntl\.h|unistd\.h|sys/time\.h")
PURE = {"proto", "smtp", "connection", "policy"}
CLOCK = re.compile(r"\b(time|gettimeofday|clock_gettime)\s*\(")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+([<"])([^>"]+)[>"]', re.MULTILINE)


def check_own(findings, path, line, module, header):
    target = header.split("/")[0] if "/" in header else None
    if target is None:
        if not (path.parent / header).exists():
            findings.add(path, f"includes {header}, which is not in its folder", line)
        return
    if target in ("tables", module):
        return
    if target not in BELOW:
        findings.add(path, f"includes {header}, which is of no module", line)
    elif target not in BELOW[module] and header not in ALSO.get(module, ()):
        findings.add(path, f"{module} must not include {header}", line)


def check_foreign(findings, path, line, module, header):
    for pattern, allowed in LIBRARIES.items():
        if re.fullmatch(pattern, header) and name(path) not in allowed:
            findings.add(path, f"includes <{header}>, which only {sorted(allowed) or 'nobody'} may",
                         line)
    if module in PURE and NOT_IN_PURE.fullmatch(header):
        findings.add(path, f"{module} has no sockets, files or clock: <{header}>", line)


def check_first(findings, path, text):
    """A source file begins with its own header, which so is seen to stand alone."""
    header = ROOT / "include" / path.relative_to(ROOT / "src").with_suffix(".h")
    first = INCLUDE.search(text)
    if header.exists() and first and first[2] != str(header.relative_to(ROOT / "include")):
        findings.add(path, "does not include its own header first")


def main():
    findings, seen = Findings(), 0
    for path in files("src", "include", suffixes=(".c", ".h")):
        seen += 1
        module = path.relative_to(ROOT).parts[1]
        if module not in BELOW:
            findings.add(path, f"the module {module} is not in the table")
            continue
        text = without_comments(path.read_text())
        for match in INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            check = check_own if match[1] == '"' else check_foreign
            check(findings, path, line, module, match[2])
        if module in PURE and CLOCK.search(text):
            findings.add(path, f"{module} has no clock of its own")
        if path.suffix == ".c":
            check_first(findings, path, text)
    findings.finish(seen, "files")


main()
