"""Each public header compiles alone, with every compiler there is."""
import concurrent.futures
import shutil
import subprocess

from project import Findings, ROOT, files

FLAGS = ["-std=gnu17", "-D_GNU_SOURCE", '-DGATEPOST_VERSION="0"', "-Wall", "-Wextra", "-Werror",
         "-Wno-unused-function", "-fsyntax-only", "-x", "c", "-I", str(ROOT / "include")]


def compile_alone(job):
    compiler, header = job
    text = f'#include "{header.relative_to(ROOT / "include")}"\n' * 2  # and twice
    result = subprocess.run([compiler, *FLAGS, "-"], input=text, capture_output=True, text=True)
    return header, compiler, result


def main():
    findings = Findings()
    headers = list(files("include", suffixes=(".h",)))
    compilers = [c for c in ("gcc", "clang") if shutil.which(c)]
    if not compilers:
        findings.add("lint", "neither gcc nor clang is installed")
    jobs = [(compiler, header) for header in headers for compiler in compilers]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for header, compiler, result in pool.map(compile_alone, jobs):
            if result.returncode != 0:
                findings.add(header, f"{compiler}:\n{result.stderr}")
    findings.finish(len(jobs), "headers, one compiler each,")


main()
