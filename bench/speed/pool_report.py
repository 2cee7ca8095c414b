"""The tables, the verdict and the chart of pool.py."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "drain"))
from pool_cells import HANDLERS, SHED, SHED_CONNECTIONS, SHED_QUEUE, SHED_WORKERS, Cell
from pool_servers import SUBJECTS
from report import block, draw, label
from speed_report import OTHERS_MOST, describe_machine, interval_of_median

BEGIN, END = "<!-- figures: written by bench/speed/pool.py --docs -->", "<!-- end of the figures -->"
COLORS = {"bare": "#9aa5b1", "inline": "#4c86c6", "place": "#1a7f37", "queue": "#e08a00", "go": "#8250df",
          "nginx": "#c8102e", "node": "#6e7781"}

# `seen` is the median over the rounds, `low` to `high` its 95 % interval.
Row = collections.namedtuple("Row", "what must seen low high word")


# ---- rounds ----


def pairs_of(run, one, other):
    """The Samples of the rounds in which both (cell, subject) were measured."""
    rounds = zip(*(run.samples.get(cell, {}).get(subject, []) for cell, subject in (one, other)))
    return [pair for pair in rounds if None not in pair]


def values_of(run, cell, subject, field):
    return [getattr(sample, field) for sample in run.samples.get(cell, {}).get(subject, [])
            if sample is not None and getattr(sample, field) is not None]


def median_of(run, cell, subject, field):
    values = values_of(run, cell, subject, field)
    return statistics.median(values) if values else None


def ratio_of(run, one, other, field):
    """The median of the ratios by round; None without a round."""
    ratios = [getattr(a, field) / getattr(b, field) for a, b in pairs_of(run, one, other) if getattr(b, field)]
    return statistics.median(ratios) if ratios else None


# ---- must / seen ----


def check(what, sign, limit, values, unit=""):
    """`sign` is >= or <=."""
    must = f"{sign} {limit:g}{unit}"
    if not values:
        return Row(what, must, None, None, None, "MISSING")
    low, high = interval_of_median(sorted(values))
    seen = statistics.median(values)
    holds = seen >= limit if sign == ">=" else seen <= limit
    crosses = low < limit < high
    return Row(what, must, seen, low, high, "UNDECIDED" if crosses else "ok" if holds else "NOT MET")


def check_ratio(run, what, sign, limit, one, other, field):
    return check(what, sign, limit,
                 [getattr(a, field) / getattr(b, field) for a, b in pairs_of(run, one, other) if getattr(b, field)])


def judge_once(run):
    rows = []
    once = {connections: Cell("once", "h1", connections) for connections in (64, 512)}
    for connections, cell in once.items():
        place = (cell, "place")
        rows += [
            check_ratio(run, f"(a) in place / inline, rate, {connections} connections", ">=", 0.85, place,
                        (cell, "inline"), "rps"),
            check_ratio(run, f"(a) in place / Go, rate, {connections} connections", ">=",
                        1.3 if connections == 64 else 1.05, place, (cell, "go"), "rps"),
            check_ratio(run, f"(a) in place / inline, CPU time, {connections} connections", "<=", 1.35, place,
                        (cell, "inline"), "cpu_us")]
    rows.append(check_ratio(run, "(b) queue / Go, rate, 64 connections", ">=", 1.0, (once[64], "queue"),
                            (once[64], "go"), "rps"))
    return rows


def judge_sleeping(run):
    rows = []
    cell = Cell("sleep5", "h1", 512, 128)
    for subject, words in (("place", "in place"), ("queue", "queue")):
        rows.append(check(f"(c) {words}: rate / (128 workers / 5 ms)", ">=", 0.95,
                          [rps * 0.005 / cell.workers for rps in values_of(run, cell, subject, "rps")]))
        samples = [s for s in run.samples.get(SHED, {}).get(subject, []) if s is not None and s.p50]
        rows += [
            check(f"(c) {words}, {SHED_WORKERS} workers: p99 / p50 of the answered", "<=", 1.5,
                  [sample.p99 / sample.p50 for sample in samples]),
            check(f"(c) {words}, {SHED_WORKERS} workers: shed", ">=", 1, [sample.shed for sample in samples]),
            check(f"(c) {words}, {SHED_WORKERS} workers: without answer", "<=", 0,
                  [sample.failed for sample in samples])]
    return rows


def judge_rare(run):
    rare, never = Cell("rare", "h1", 64), Cell("never", "h1", 64)
    beside = [(a.beside_p99 - b.beside_p99) / 1000
              for a, b in pairs_of(run, (rare, "place"), (never, "place"))]
    return [
        check_ratio(run, "(d) in place: p50 / p50 without sleepers", "<=", 1.2, (rare, "place"), (never, "place"),
                    "p50"),
        check_ratio(run, "(d) p99 in place / p99 through the queue", "<=", 1.0, (rare, "place"), (rare, "queue"),
                    "p99"),
        check("(d) p99 of /hello beside it, above its calm value", "<=", 2, beside, " ms")]


def judge(run):
    rows = judge_once(run) + judge_sleeping(run) + judge_rare(run)
    named = {"in place": "place", "queue": "queue", "Go": "go", "inline": "inline", "beside": "place"}
    others = others_of(run)
    noisy = run.options.rounds < 3 or not others or statistics.median(others) > OTHERS_MOST
    for i, row in enumerate(rows):
        counts = row.what.endswith(("shed", "without answer"))  # need no quiet machine
        if noisy and not counts and row.word in ("ok", "NOT MET"):
            rows[i] = row._replace(word="UNDECIDED")
        if row.word == "MISSING" and any(word in row.what and name in run.skipped for word, name in named.items()):
            rows[i] = row._replace(word="skipped")
    return rows


# ---- tables ----


def number(value, digits=2):
    return "–" if value is None else f"{value:,.{digits}f}"


def latency(us):
    return "–" if us is None else f"{us:,.0f}" if us < 10_000 else f"{us / 1000:,.1f} ms"


def table(heads, rows):
    """Markdown that can be read as it is. The first column is text."""
    rows = [[str(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(heads), *rows]) for i in range(len(heads))]
    lines = [[head.ljust(width) if i == 0 else head.rjust(width)
              for i, (head, width) in enumerate(zip(heads, widths))],
             ["-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]]
    lines += [[value.ljust(width) if i == 0 else value.rjust(width)
               for i, (value, width) in enumerate(zip(row, widths))] for row in rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def verdict_table(rows):
    return table(("must / seen", "must", "seen", "95 % interval", ""),
                 [(row.what, row.must, number(row.seen), f"{number(row.low)} to {number(row.high)}", row.word)
                  for row in rows])


def base_of(handler):
    """Who runs this handler on the loop."""
    return "inline" if handler == "once" else "bare"


def cell_row(run, cell, subject):
    def median(field):
        return median_of(run, cell, subject, field)

    alike = dataclasses.replace(cell, workers=0, requests=0)
    base, go = ratio_of(run, (cell, subject), (alike, base_of(cell.handler)), "rps"), ratio_of(
        run, (cell, subject), (alike, "go"), "rps")
    cost = ratio_of(run, (cell, subject), (alike, base_of(cell.handler)), "cpu_us")
    name = SUBJECTS[subject] + (f", {cell.workers} workers" if cell.workers else "")
    name += f", queue {SHED_QUEUE}" if cell == SHED else ""
    return [name, cell.connections, number(median("rps") / 1e3, 1), number(median("cpu_us"), 1),
            latency(median("p50")), latency(median("p99")), latency(median("p999")), number(base), number(cost),
            number(go), number(median("shed"), 0), number(median("failed"), 0)]


def measured(run, handler, protocol):
    """(cell, subject) in the order of the table."""
    found = [(cell, subject) for cell, subjects in run.samples.items() for subject in subjects
             if (cell.handler, cell.protocol) == (handler, protocol) and values_of(run, cell, subject, "rps")]
    order = list(SUBJECTS)
    return sorted(found, key=lambda one: (one[0].connections, order.index(one[1]), one[0].workers))


def figure_tables(run):
    """(title, lines) for each handler and protocol."""
    heads = ("", "connections", "k req/s", "CPU us/req", "p50 us", "p99 us", "p99.9 us", "rate x inline",
             "CPU x inline", "rate x Go", "shed", "failed")
    for handler, words in HANDLERS.items():
        for protocol, name in (("h1", "HTTP/1"), ("h2", f"HTTP/2, {run.options.streams} streams")):
            rows = [cell_row(run, *one) for one in measured(run, handler, protocol)]
            if rows:
                yield f"{words}; {name}", table(heads, rows)


def beside_table(run):
    rows = []
    for handler in ("never", "rare"):
        for cell, subject in measured(run, handler, "h1"):
            p50, p99 = (median_of(run, cell, subject, field) for field in ("beside_p50", "beside_p99"))
            if p99 is not None:
                rows.append((f"{SUBJECTS[subject]}: {HANDLERS[handler]}", cell.connections, latency(p50),
                             latency(p99)))
    return table(("/hello beside a load that", "connections", "p50 us", "p99 us"), rows) if rows else []


def others_of(run):
    return sorted(sample.others for subjects in run.samples.values() for rounds in subjects.values()
                  for sample in rounds if sample is not None)


def uneven(run):
    """Ratios that the race in accept has made, see throughput.py: one of the two had most connections on one thread."""
    for connections in (64, 512):
        shares = [median_of(run, Cell("once", "h1", connections), name, "busiest") for name in ("inline", "place")]
        if None not in shares and abs(shares[0] - shares[1]) > 0.10:
            yield (f"caution: with {connections} connections the busiest thread does {shares[0]:.0%} of the work inline "
                   f"and {shares[1]:.0%} in place: compare with --threads 1")


def facts(run):
    options, others = run.options, others_of(run)
    versions = {SUBJECTS[name].partition(",")[0]: version.removeprefix("libh2o ")
                for name, version in run.versions.items()} | options.versions
    lines = [f"command: `{' '.join(['bench/speed/pool.py', *command_of(sys.argv[1:])])}`",
             f"machine: {describe_machine()}",
             "versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()),
             f"settings: {options.rounds} rounds of {options.seconds} s, {run.minutes:.0f} minutes; "
             f"{options.threads} threads a server, {options.load_threads} of the load; "
             f"cores of the server: {options.server_cores or 'all'}, of the load: {options.load_cores or 'all'}"]
    if others:
        lines.append(f"CPU time taken by other processes: median {statistics.median(others):.0%}, "
                     f"most {others[-1]:.0%}")
        if statistics.median(others) > OTHERS_MOST:
            lines.append(f"caution: others took more than {OTHERS_MOST:.0%} of the CPU: nothing is decided")
    lines += uneven(run)
    if not options.takes_directive:
        lines.append("the pool routes are measured as they are: this lastcall knows no `place`")
    lines += [f"skipped: {name}: {why}" for name, why in run.skipped.items()]
    lines += [f"broken: {name}: {why}" for name, why in run.broken.items()]
    return lines


def command_of(arguments):
    """Without the files, whose paths mean nothing elsewhere."""
    kept = []
    for argument in arguments:
        if kept and kept[-1] in ("--json", "--lastcall", "--bare", "--load"):
            kept.pop()
        else:
            kept.append(argument)
    return kept


def print_report(run, rows):
    for line in facts(run):
        print(line)
    for title, lines in figure_tables(run):
        print(f"\n{title}\n\n" + "\n".join(lines))
    for lines in (beside_table(run), verdict_table(rows)):
        if lines:
            print("\n" + "\n".join(lines))


# ---- files ----


def write_json(run, rows):
    result = {"facts": facts(run), "must": [row._asdict() for row in rows], "loads": []}
    for cell, subjects in run.samples.items():
        for subject, rounds in subjects.items():
            result["loads"].append({
                **dataclasses.asdict(cell), "subject": subject,
                "rounds": [sample._asdict() if sample else None for sample in rounds]})
    with open(run.options.json, "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")


def bars(run, name, title, unit, field, scale):
    """Groups of bars: how many connections, and in each group the subjects."""
    data, ticks = [], []
    for group, connections in enumerate((1, 64, 512)):
        cell, at = Cell("once", "h1", connections), group * (len(SUBJECTS) + 1.5)
        ticks.append(f"'{connections} connection{'s' * (connections > 1)}' {at + (len(SUBJECTS) - 1) / 2}")
        for i, subject in enumerate(SUBJECTS):
            value = median_of(run, cell, subject, field)
            if value is not None:
                data.append((at + i, value / scale, int(COLORS[subject][1:], 16), number(value / scale, 0)))
    keys = ", ".join(f"keyentry with boxes linecolor rgb '{COLORS[subject]}' title '{words}'"
                     for subject, words in SUBJECTS.items())
    return [*block(name, data), "unset label", label(title, "graph 0, 1.06", "font ',13'", bold=True),
            f"set ylabel '{unit}'; set yrange [0:*]; set xrange [-1:{3 * (len(SUBJECTS) + 1.5) + 4.5}]",
            f"set xtics ({', '.join(ticks)}) scale 0; set grid ytics linecolor '#d8dee4'; set border 3",
            "set key right top; set boxwidth .9; set ytics nomirror",
            f"plot ${name} using 1:2:3 with boxes linecolor rgb variable notitle, "
            f"'' using 1:2:4 with labels offset 0,.5 font ',8' notitle, {keys}"]


def lines_by_workers(run):
    plots, blocks = [], []
    for subject in ("place", "queue"):
        data = sorted((cell.workers, median_of(run, cell, subject, "rps") / 1e3)
                      for cell, one in measured(run, "sleep5", "h1")
                      if one == subject and cell.connections == SHED_CONNECTIONS and cell != SHED)
        if data:
            blocks += block(subject, data)
            plots.append(f"${subject} using 1:2 with linespoints linewidth 2 pointtype 7 linecolor rgb "
                         f"'{COLORS[subject]}' title '{SUBJECTS[subject]}'")
    return [*blocks, "unset label; set logscale xy; set xrange [1.5:350]; set yrange [.2:100]; set key right bottom",
            label("Sleeps 5 ms, by workers; HTTP/1, 512 connections", "graph 0, 1.06", "font ',13'", bold=True),
            "set ylabel '1,000 requests a second'; set xtics (2, 8, 32, 128, 256) scale 1; set xlabel 'workers'",
            "plot " + ", ".join(["x / 5 with lines dashtype (4,3) linecolor '#6e7781' title 'workers / 5 ms'",
                                 *plots])]


def chart(run):
    return draw("pool", "The worker pool beside inline handlers and other servers",
                "Requests a second and CPU time of a request, as in the tables below",
                (3, 700, 220), (70, 40, 50, 80),
                [*bars(run, "rate", "Returns at once: rate, HTTP/1", "1,000 requests a second", "rps", 1e3),
                 *bars(run, "cost", "Returns at once: CPU time of the server", "us a request", "cpu_us", 1),
                 *lines_by_workers(run)])


def markdown(run, rows, picture):
    lines = [BEGIN, "", "## Must and seen", "", *verdict_table(rows), ""]
    lines += [f"- {fact}" for fact in facts(run)] + [""]
    if picture:
        lines += [f"![rate and CPU time of the pool beside other servers]({picture})", ""]
    lines += ["## All figures", "", "Medians over the rounds. `x inline` compares with lastcall's handler on the loop, "
              "and with bare libh2o where the handler computes.", ""]
    for title, rendered in figure_tables(run):
        lines += [f"### {title[0].upper()}{title[1:]}", "", *rendered, ""]
    rendered = beside_table(run)
    if rendered:
        lines += ["### The second load", "", *rendered, ""]
    return "\n".join([*lines, END])


def write_docs(run, rows):
    path = Path(run.options.docs)
    text = path.read_text()
    head, mark, rest = text.partition(BEGIN)
    _, closing, tail = rest.partition(END)
    if not mark or not closing:
        raise OSError(f"{path}: the lines `{BEGIN}` and `{END}` are missing; the tables go between them")
    svg = chart(run)
    if svg:
        path.with_suffix(".svg").write_text(svg)
    path.write_text(head + markdown(run, rows, os.path.basename(path.with_suffix(".svg")) if svg else "") + tail)
