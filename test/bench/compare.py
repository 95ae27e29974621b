#!/usr/bin/python3
"""Runs the workloads of smtp-load against the servers in turn and prints what came of it."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import report
from servers import KINDS, SERVERS, Failure, Setup, make_pair, with_parent
from workloads import WORKLOADS

SETTLE_SECONDS = 4  # until what is held is where it stays, and what is not needed was given back


# ---- The load generator

class Load:
    """One run of smtp-load. A context: what is still running at the end is ended."""

    def __init__(self, target, workload, *options):
        command = [os.environ["SMTP_LOAD"], "--workload", workload, "--target", target,
                   "--proxy", "v2", *options]
        self._process = subprocess.Popen(with_parent(command), stdin=subprocess.DEVNULL,
                                         stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def wait_until_held(self):
        line = json.loads(self._process.stdout.readline() or "{}")
        if "holding" not in line:
            raise Failure(f"smtp-load holds nothing: {line.get('unexpected')}")
        return line["holding"]

    def end(self):
        self._process.send_signal(signal.SIGTERM)

    def result(self):
        """Its last line. Anything that went wrong is a failure: such figures mean nothing."""
        lines = self._process.stdout.read().splitlines()
        code = self._process.wait()
        result = json.loads(lines[-1]) if lines else {}
        if code != 0 or result.get("errors") != 0:
            raise Failure(f"smtp-load: exit code {code}, {result.get('errors')} errors: "
                          f"{result.get('unexpected')}")
        return result


def load_name(workload, server):
    return server == "HAProxy" and WORKLOADS[workload].haproxy or workload


def mode_of_tls(workload, server):
    return WORKLOADS[load_name(workload, server)].tls


def warm_up(setup, workload, tls):
    row = WORKLOADS[workload]
    with Load(setup.server.address, "W1", "--size", str(row.size), "--tls",
              tls.replace("off", "none"), "--messages", str(row.warm_up)) as load:
        return load.result()["messages"]


# ---- Runs

def run_for_time(setup, workload, options):
    """Throughput, latency and CPU time."""
    machine, cpu = measure.Machine(), measure.cpu_seconds(setup.server.pid)
    sink_cpu = measure.cpu_seconds(setup.sink.pid)
    own = os.times()
    with Load(setup.server.address, workload, "--seconds", str(options.seconds)) as load:
        result = load.result()
    cpu = measure.cpu_seconds(setup.server.pid) - cpu
    sink_cpu = measure.cpu_seconds(setup.sink.pid) - sink_cpu
    spent = sum(os.times()[:4]) - sum(own[:4]) + sink_cpu
    if setup.server.pid != setup.sink.pid:
        spent += cpu
    units = result["messages"] or result["connections"]
    if units == 0:
        raise Failure("smtp-load did nothing")
    if result.get("handshakes", result["connections"]) != result["connections"]:
        raise Failure("not every connection made a handshake of its own")
    elapsed = result["elapsed_ms"] / 1000
    return {
        "messages": result["messages"],
        "connections": result["connections"],
        "messages_per_second": result["messages"] / elapsed,
        "connections_per_second": result["connections"] / elapsed,
        "megabytes_per_second": result["messages"] * result["size"] / elapsed / 1e6,
        "throughput": units / elapsed,
        "p50_us": result["latency_us"]["p50"],
        "p99_us": result["latency_us"]["p99"],
        "cpu_us": cpu / units * 1e6,
        "handshake_p50_us": result["handshake_us"]["p50"] if "tls" in result else None,
        "tls": result.get("tls"),
        "foreign_share": machine.foreign_share(spent),
    }


def run_held(setup, workload, options):
    """Memory of what is held."""
    rss, kernel = measure.rss_kib(setup.server.pid), measure.socket_kib()
    sockets = measure.socket_count()
    more = ["--connections", str(options.held)] if options.held else []
    with Load(setup.server.address, workload, *more, "--seconds", "600") as load:
        count = load.wait_until_held()
        time.sleep(SETTLE_SECONDS)
        rss = measure.rss_kib(setup.server.pid) - rss
        grown = None if kernel is None else measure.socket_kib() - kernel
        sockets = measure.socket_count() - sockets
        load.end()
        tls = load.result().get("tls")
    return {
        "messages": 0,
        "connections": count,
        "sockets": sockets / count,
        "rss_kib": rss / count,
        "tls": tls,
        "kernel_kib": None if grown is None else grown / count,
    }


def run_once(name, workload, options):
    tls = mode_of_tls(workload, name)
    run_it = run_held if WORKLOADS[workload].holds else run_for_time
    with tempfile.TemporaryDirectory(prefix="gatepost-bench.") as folder:
        with Setup(name, folder, tls, options.pair) as setup:
            expected = warm_up(setup, workload, tls)
            run = run_it(setup, load_name(workload, name), options)
        expected += run["messages"]
        if setup.sink.messages() != expected:
            raise Failure(f"{expected} messages were acknowledged, "
                          f"but the sink took {setup.sink.messages()}")
    return run


def check_same_tls(workload, runs):
    """Different ciphers or keys would be compared otherwise."""
    seen = {run["tls"] for own in runs.values() for run in own}
    if len(seen) > 1:
        raise Failure(f"{workload}: not the same TLS: {seen}")


def run_rounds(workload, options):
    """Every server once in each round, each time beginning with another one."""
    names = [name for name in options.servers
             if SERVERS[name].has_tls or WORKLOADS[workload].tls == "off"]
    runs = {name: [] for name in names}
    for number in range(options.rounds):
        for i in range(len(names)):
            name = names[(number + i) % len(names)]
            print(f"{workload}, round {number + 1} of {options.rounds}: {name}", file=sys.stderr)
            try:
                runs[name].append(run_once(name, workload, options))
            except Failure as failure:
                raise Failure(f"{workload}, {name}: {failure}") from None
    check_same_tls(workload, runs)
    return runs


# ---- Command line

def names_of(allowed):
    def read(text):
        names = [name.strip() for name in text.split(",")]
        known = {name.lower(): name for name in allowed}
        wrong = [name for name in names if name.lower() not in known]
        if wrong:
            raise argparse.ArgumentTypeError(f"{wrong[0]}: not one of {', '.join(allowed)}")
        return [known[name.lower()] for name in names]
    return read


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def read_options():
    parser = argparse.ArgumentParser(prog="test/bench/run", description=(
        "Measures gatepost beside HAProxy in TCP mode and no proxy at all, in rounds, and prints "
        "a Markdown table. docs/performance.md says what is measured."))
    parser.add_argument("--rounds", type=positive, help="default 5")
    parser.add_argument("--seconds", type=positive, help="of each run; default 3")
    parser.add_argument("--workloads", type=names_of(WORKLOADS), default=list(WORKLOADS),
                        metavar="W1,W2,...", help="default: " + ",".join(WORKLOADS))
    parser.add_argument("--servers", type=names_of(SERVERS), default=list(SERVERS),
                        metavar="NAME,...", help="default: " + ",".join(SERVERS))
    parser.add_argument("--certificate", choices=KINDS, default="ecdsa", help=(
        "of the workloads with TLS: P-256 (the default) or RSA of 2048 bits"))
    parser.add_argument("--held", type=positive, metavar="N", help=(
        "how many connections the workloads that hold some hold"))
    parser.add_argument("--quick", action="store_true",
                        help="one round of one second: shows that it works, no more")
    parser.add_argument("--out", metavar="FILE", help="the figures of every run, as JSON")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 3)
    return options


def terminate(number, _):
    sys.exit(128 + number)


def main():
    options = read_options()
    signal.signal(signal.SIGTERM, terminate)
    head = {
        "command": os.environ.get("BENCH_COMMAND", " ".join(sys.argv)),
        "facts": measure.facts(os.environ["GATEPOST"]),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "load_average_before": os.getloadavg()[0],
        "servers": options.servers,
    }
    with tempfile.TemporaryDirectory(prefix="gatepost-bench.") as folder:
        options.pair = make_pair(folder, options.certificate)
        try:
            figures = {name: run_rounds(name, options) for name in options.workloads}
        except Failure as failure:
            sys.exit(f"test/bench/run: {failure}")
    if options.out:
        Path(options.out).write_text(json.dumps({**head, "runs": figures}, indent=1) + "\n")
    print(report.write(head, figures))


if __name__ == "__main__":
    main()
