"""The figures of all rounds as Markdown."""

from statistics import median

from servers import SERVERS
from workloads import WORKLOADS

PEER = "HAProxy"


def number(value, digits=None):
    """Three digits that count, unless told how many behind the point."""
    if value is None:
        return "–"
    if digits is None:
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text


def table(heads, rows):
    lines = [heads, ["---"] + ["--:"] * (len(heads) - 1)] + rows
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def values(runs, key):
    return [run[key] for run in runs if run[key] is not None]


def middle(runs, key):
    return median(values(runs, key)) if values(runs, key) else None


def ratios(runs, others, key):
    """Each round beside the other server's of the same round: median (least–most)."""
    found = [run[key] / other[key] for run, other in zip(runs, others)
             if run[key] is not None and other[key]]
    if not found:
        return "–"
    spread = f" ({min(found):.2f}–{max(found):.2f})" if len(found) > 1 else ""
    return f"{median(found):.2f}{spread}"


def differences(runs, others, key):
    found = [run[key] - other[key] for run, other in zip(runs, others)
             if run[key] is not None and other[key] is not None]
    return number(median(found)) if found else "–"


# ---- Tables

def columns_of(name):
    is_tls = WORKLOADS[name].tls != "off"
    if WORKLOADS[name].sends:
        yield from (("messages/s", "messages_per_second"),
                    ("connections/s", "connections_per_second"), ("MB/s", "megabytes_per_second"))
    else:
        yield "connections/s", "connections_per_second"
    yield from (("p50 µs", "p50_us"), ("p99 µs", "p99_us"))
    if is_tls:
        yield "handshake p50 µs", "handshake_p50_us"
    unit = "message" if WORKLOADS[name].sends else "connection"
    yield f"CPU µs a {unit}", "cpu_us"


def noise(runs):
    foreign = [run["foreign_share"] * 100 for own in runs.values() for run in own]
    return (f"Other processes, interrupts outside any process and the hypervisor took "
            f"{median(foreign):.1f} % of the machine meanwhile (median; at most "
            f"{max(foreign):.1f} %).")


def tls_of(runs):
    """All agreed upon the same."""
    seen = next(iter(runs.values()))[0]["tls"]
    return f"{seen}; full handshakes only." if seen else ""


def timed(name, runs):
    columns = list(columns_of(name))
    heads = ["", *(head for head, _ in columns)]
    heads += ["throughput, HAProxy = 1", "CPU, HAProxy = 1"]
    if name == "W7":
        heads.append("p50 more than direct, µs")
    rows = []
    for server, own in runs.items():
        row = [server, *(number(middle(own, key)) for _, key in columns)]
        row += [ratios(own, runs.get(PEER, []), key) for key in ("throughput", "cpu_us")]
        if name == "W7":
            row.append(differences(own, runs.get("direct", []), "p50_us"))
        rows.append(row)
    return table(heads, rows) + "\n\n" + " ".join(filter(None, [tls_of(runs), noise(runs)]))


def held(_, runs):
    heads = ["", "RSS, KiB a connection", "RSS, HAProxy = 1", "TCP sockets, all ends",
             "their kernel memory, KiB a connection", "more than direct"]
    rows = [[server, number(middle(own, "rss_kib")), ratios(own, runs.get(PEER, []), "rss_kib"),
             number(middle(own, "sockets"), 1), number(middle(own, "kernel_kib")),
             differences(own, runs.get("direct", []), "kernel_kib")]
            for server, own in runs.items()]
    connections = next(iter(runs.values()))[0]["connections"]
    return table(heads, rows) + "\n\n" + " ".join(
        filter(None, [f"{connections} connections.", tls_of(runs)]))


def overview(figures, servers):
    """Throughput and, in brackets, CPU time beside HAProxy: medians."""
    names = [name for name in figures if not WORKLOADS[name].holds]
    rows = []
    for server in servers:
        if not any(server in figures[name] for name in names):
            continue
        row = [server]
        for name in names:
            own, peer = (figures[name].get(each, []) for each in (server, PEER))
            pair = [ratios(own, peer, key).split(" ")[0] for key in ("throughput", "cpu_us")]
            row.append("–" if pair[0] == "–" else "{} ({})".format(*pair))
        rows.append(row)
    return table(["", *names], rows) if names else ""


# ---- The whole

def preamble(head):
    facts = "; ".join(f"{key}: {value}" for key, value in head["facts"].items())
    return "\n".join([
        f"`{head['command']}`", "", f"{facts}.", "",
        f"Rounds: {head['rounds']}, of {head['seconds']} s a run; load average before: "
        f"{head['load_average_before']:.2f}. Figures are medians of the rounds, ratios are taken "
        "within a round: median (least–most). gatepost: one process, default plan, JSON log to a "
        "file, reverse DNS off. HAProxy: TCP mode, no log. All get a PROXY header of version 2.",
        "", *(f"* {name}: {SERVERS[name].what}" for name in head["servers"]), "",
        "smtp-load saw no error in any run, and the sink took exactly the messages that were "
        "acknowledged."])


def write(head, figures):
    parts = [preamble(head)]
    if overview(figures, head["servers"]):
        parts += ["### Throughput (CPU time) beside HAProxy", overview(figures, head["servers"])]
    for name, runs in figures.items():
        row = WORKLOADS[name]
        parts += [f"### {name}: {row.what}", (held if row.holds else timed)(name, runs)]
    return "\n\n".join(parts)
