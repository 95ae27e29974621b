"""The figures of all rounds as Markdown."""

from statistics import median

WHAT = {
    "W1": "one message of 4 KiB a connection, 50 connections at a time",
    "W2": "100 messages of 4 KiB a connection, 20 connections",
    "W2p": "as W2, the client pipelines MAIL, RCPT and DATA",
    "W3": "messages of 10 MiB, 4 connections",
    "W4": "1000 idle connections after EHLO",
    "W5": "connect, PROXY header, banner, QUIT; 50 at a time",
    "W7": "one connection, one message of 4 KiB at a time",
    "W8": "200 connections stopped half way through a message of 1 MiB",
}
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

def timed(name, runs):
    unit = "connection" if name == "W5" else "message"
    columns = [("messages/s", "messages_per_second"), ("connections/s", "connections_per_second"),
               ("MB/s", "megabytes_per_second"), ("p50 µs", "p50_us"), ("p99 µs", "p99_us"),
               (f"CPU µs a {unit}", "cpu_us")]
    if name == "W5":
        columns = [column for column in columns if column[0] not in ("messages/s", "MB/s")]
    heads = ["", *(head for head, _ in columns)]
    heads += ["throughput, HAProxy = 1", "CPU, HAProxy = 1"]
    if name == "W7":
        heads.append("p50 more than direct, µs")
    rows = []
    for server, own in runs.items():
        row = [server, *(number(middle(own, key)) for _, key in columns)]
        row += [ratios(own, runs[PEER], key) for key in ("throughput", "cpu_us")]
        if name == "W7":
            row.append(differences(own, runs["direct"], "p50_us"))
        rows.append(row)
    foreign = [run["foreign_share"] * 100 for own in runs.values() for run in own]
    noise = (f"Other processes, interrupts outside any process and the hypervisor took "
             f"{median(foreign):.1f} % of the machine meanwhile (median; at most "
             f"{max(foreign):.1f} %).")
    return table(heads, rows) + "\n\n" + noise


def held(_, runs):
    heads = ["", "RSS, KiB a connection", "RSS, HAProxy = 1", "TCP sockets, all ends",
             "their kernel memory, KiB a connection", "more than direct"]
    rows = [[server, number(middle(own, "rss_kib")), ratios(own, runs[PEER], "rss_kib"),
             number(middle(own, "sockets"), 1), number(middle(own, "kernel_kib")),
             differences(own, runs["direct"], "kernel_kib")] for server, own in runs.items()]
    return table(heads, rows)


def overview(figures):
    """Throughput and, in brackets, CPU time beside HAProxy: medians."""
    names = [name for name, runs in figures.items() if "cpu_us" in runs[PEER][0]]
    rows = []
    for server in figures[names[0]] if names else []:
        row = [server]
        for name in names:
            own, peer = figures[name][server], figures[name][PEER]
            pair = [ratios(own, peer, key).split(" ")[0] for key in ("throughput", "cpu_us")]
            row.append("{} ({})".format(*pair))
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
        "file, reverse DNS off; `identity` is the backend's setting. HAProxy: TCP mode, "
        "one thread, no log. All get a PROXY header of version 2.", "",
        "smtp-load saw no error in any run, and the sink took exactly the messages that were "
        "acknowledged."])


def write(head, figures):
    parts = [preamble(head)]
    if overview(figures):
        parts += ["### Throughput (CPU time) beside HAProxy", overview(figures)]
    for name, runs in figures.items():
        is_timed = "cpu_us" in runs[PEER][0]
        parts += [f"### {name}: {WHAT[name]}", (timed if is_timed else held)(name, runs)]
    return "\n\n".join(parts)
