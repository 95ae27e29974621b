"""The built program: what it loads, and how it is hardened."""
import re
import subprocess
import sys

from project import Findings, program_argument

# Debian's libev exports the names of libevent; both in one process corrupt the heap.
FORBIDDEN = re.compile(r"libevent|libpthread_event|libmicrohttpd|libgnutls")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def check_libraries(findings, program):
    closure = run("ldd", program)
    for line in closure.splitlines():
        if FORBIDDEN.search(line) or "not found" in line:
            findings.add(program, f"loads {line.strip()}")
    for needed in ("libev.so", "libssl.so|libcrypto.so", "libcares.so", "libyaml", "libuuid"):
        if not re.search(needed, closure):
            findings.add(program, f"does not load {needed}")


def check_headers(findings, program):
    if not re.search(r"Type:\s+DYN", run("readelf", "-hW", program)):
        findings.add(program, "is not position independent")
    dynamic, segments = run("readelf", "-dW", program), run("readelf", "-lW", program)
    if "GNU_RELRO" not in segments or not re.search(r"BIND_NOW|FLAGS_1.*\bNOW\b", dynamic):
        findings.add(program, "has no full RELRO")
    if re.search(r"GNU_STACK.*\bRWE\b", segments) or "GNU_STACK" not in segments:
        findings.add(program, "has an executable stack")
    if re.search(r"\b(RPATH|RUNPATH)\b", dynamic):
        findings.add(program, "has a run path")


def check_functions(findings, program):
    symbols = run("readelf", "--dyn-syms", "-W", program)
    if "__stack_chk_fail" not in symbols:
        findings.add(program, "has no stack protector")
    if not re.search(r"__\w+_chk@", symbols.replace("__stack_chk_fail", "")):
        findings.add(program, "has none of the checked functions of FORTIFY_SOURCE")


def main():
    findings, program = Findings(), program_argument()
    check_libraries(findings, program)
    check_headers(findings, program)
    if "--optimised" in sys.argv:  # sanitizers, and builds without optimisation, have none
        check_functions(findings, program)
    findings.finish(1, "program")


main()
