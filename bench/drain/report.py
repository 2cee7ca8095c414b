#!/usr/bin/env python3
"""Charts, tables and the HTML page of a drain.py result.

    report.py RESULT.json --html FILE --svg FILE    the page, and the summary chart alone
    report.py RESULT.json --timelines DIR           one SVG per scenario
    report.py RESULT.json --markdown FILE           the tables, for docs/

The page is self-contained: inline SVG, no scripts, no requests. gnuplot draws the charts; without gnuplot the
page has none.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from html import escape
from pathlib import Path
from typing import Any, Callable, Iterable

Document = dict[str, Any]
Summary = dict[str, Any]

INK, FAINT, GRID = "#24292f", "#6e7781", "#d8dee4"
ANSWERED, LOST, REFUSED, CLOSED, EXIT = "#4c86c6", "#c8102e", "#e08a00", "#8250df", "#1a7f37"
CAP_MS = 15000


# ---- words ----


def lost_text(s: Summary | None) -> str:
    if s is None:
        return "–"
    text = "0" if s["lost"] == 0 else f"{s['lost']} / {s['lost_worst']}"
    return text + (f" +{s['waiting']} w" if s["waiting"] else "")


def ms_text(ms: float | None) -> str:
    if ms is None:
        return "–"
    if ms >= CAP_MS:
        return "> 15 s"
    return f"{ms:.1f}" if ms < 100 else f"{ms:,.0f}"


def lag_text(s: Summary | None) -> str:
    """`held`: it exited only after its clients had disconnected."""
    if s is None:
        return "–"
    return ms_text(s["lag_ms"]) + (" held" if mostly_held(s) else "")


def mostly_held(s: Summary) -> bool:
    return s["held"] * 2 > s["runs"] and s["lag_ms"] < CAP_MS


def statuses_text(s: Summary) -> str:
    if len(s["statuses"]) == 1:
        return next(iter(s["statuses"]))
    return ", ".join(f"{status} ({n})" for status, n in s["statuses"].items())


# ---- pictures ----


def no_pictures() -> str | None:
    """The reason why there are no pictures, and the remedy; None: there are."""
    if shutil.which("gnuplot"):
        return None
    return "no pictures: gnuplot is not installed. Install it with: apt-get install gnuplot-nox"


def label(text: str, at: str, look: str = "", bold: bool = False) -> str:
    """Escape the text: gnuplot's enhanced mode treats `_`, `^` and others as markup."""
    text = re.sub(r"([\\{}^_@&~])", r"\\\1", text).replace("'", "''")
    return f"set label '{'{/:Bold ' * bold}{text}{'}' * bold}' at {at} {look}"


def block(name: str, rows: Iterable[Iterable[object]]) -> list[str]:
    return [f"${name} << EOD", *("\t".join(map(str, row)) for row in rows), "EOD"]


def draw(name: str, title: str, said: str, plots: tuple[int, int, int], edges: tuple[int, int, int, int],
         commands: list[str]) -> str:
    """An SVG with a white background; "" without gnuplot.

    In pixels: `plots` is count, width and height of the plots below each other; `edges` is left, top, bottom,
    and the gap between plots.
    """
    if no_pictures():
        return ""
    count, width, height = plots
    left, top, bottom, gap = edges
    x, y = left + width + 14, top + count * (height + gap) - gap + bottom
    head = [f"set terminal svg size {x},{y} enhanced font 'sans-serif,11' background '#ffffff'",
            r"set encoding utf8; set datafile separator '\t'; set style fill solid noborder",
            f"set multiplot layout {count},1 margins {left / x},{1 - 14 / x},{bottom / y},{1 - top / y} "
            f"spacing 0,{gap / y}"]
    done = subprocess.run(["gnuplot", "--default-settings"], input="\n".join([*head, *commands, ""]),
                          capture_output=True, encoding="utf-8")
    if done.returncode:
        print(f"report: {name} is not drawn: gnuplot: {done.stderr.strip()}", file=sys.stderr)
        return ""
    svg = done.stdout[done.stdout.index("<svg"):].replace("<svg", '<svg role="img"', 1)
    words = f"<title>{escape(title)}</title>\n<desc>{escape(said)}</desc>"
    svg = re.sub(r"<title>.*?</desc>", lambda _: words, svg, count=1, flags=re.DOTALL)
    # These are half of the bytes: empty groups, names like gnuplot_plot_1, attributes with their initial values.
    svg = re.sub(r'<g [^>]*>\s*(<text></text>\s*)?</g>\s*|<title>gnuplot_plot_\w+</title>|'
                 r' stroke-(linecap="butt"|linejoin="miter"|width="1.00")', "", svg)
    # gnuplot uses the same ids in every picture, and a page has several.
    return re.sub(r"""(\bid=["']|href=["']#|url\(#)""", rf"\g<1>{name}-", svg)


# ---- the summary chart ----


def scenarios_run(document: Document) -> list[dict[str, Any]]:
    ran = {result["scenario"] for result in document["results"]}
    return [s for s in document["scenarios"] if s["name"] in ran]


def summaries(document: Document) -> dict[tuple[str, str], Summary]:
    return {(r["scenario"], r["server"]): r["summary"] for r in document["results"]}


def columns_of(document: Document) -> int:
    """At least 7, for the headings."""
    return max(7, len(document["servers"]))


def chart_block(document: Document, title: str, note: str, palette: str,
                text_of: Callable[[Summary | None], str], value_of: Callable[[Summary], float]) -> list[str]:
    """A table whose cells are coloured by value on a logarithmic scale; zero has its own colour."""
    servers, scenarios, found = list(document["servers"]), scenarios_run(document), summaries(document)
    cells = []
    for j, scenario in enumerate(scenarios):
        for i, name in enumerate(servers):
            s = found.get((scenario["name"], name))
            cells.append((i, j, "NaN" if s is None else value_of(s), text_of(s)))
    box, columns, rows = "2:(.485):(.46)", columns_of(document), len(scenarios)
    return [*block("cells", cells), "unset label",
            label(title, "-1.8, -2.7", "font ',14'", bold=True), label(note, "-1.8, -2", f"textcolor '{FAINT}'"),
            *(label(name, f"{i}, -1", "center font ',12'", name == "lastcall")
              for i, name in enumerate(servers)),
            *(label(scenario["name"], f"-.6, {j}", "right") for j, scenario in enumerate(scenarios)),
            f"set xrange [-.5:{columns - .5}]; set yrange [{rows - .5}:-.5]",
            "unset key; unset border; unset xtics; unset ytics; set cbtics scale 0 offset 0,.6 font ',9'",
            f"set logscale cb; set palette defined {palette}",
            f"set colorbox horizontal user noborder origin graph {1 - 2 / columns}, graph {1 + 2.1 / rows} "
            f"size graph {1.8 / columns}, graph {.4 / rows}",
            f"plot $cells using ($3 == 0 ? $1 : NaN):{box} with boxxyerror linecolor rgb '#d2ecd8', "
            f"'' using ($3 > 0 ? $1 : NaN):{box}:3 with boxxyerror linecolor palette, "
            f"'' using 1:2:4 with labels textcolor '{INK}'"]


def summary_chart(document: Document) -> str:
    lost = {name: 0 for name in document["servers"]}
    for r in document["results"]:
        lost[r["server"]] += r["summary"]["lost"] + r["summary"]["waiting"]
    commands = chart_block(
        document, "Requests lost in a graceful stop",
        f"all {document['runs']} runs / the worst run, which gives the color; w: not answered within 15 s",
        "(0 '#fde6dc', 1 '#ee6f68'); set cbrange [1:1000]", lost_text, lambda s: s["lost_worst"] + s["waiting"])
    commands += chart_block(
        document, "Exit after the last response, ms",
        f"median of {document['runs']} runs; held: the server exited only after its clients had disconnected",
        "(0 '#e6f1fb', 1 '#7f9fdf'); set cbrange [1:10000]", lag_text, lambda s: max(1.0, s["lag_ms"]))
    return draw("summary", "Graceful stop: requests lost, and exit after the last response",
                f"Lost or never answered in all scenarios: {', '.join(f'{k} {v}' for k, v in lost.items())}",
                (2, 76 * columns_of(document), 22 * len(scenarios_run(document))), (112, 66, 12, 84), commands)


# ---- timelines ----

BEFORE_MS = 250
# Heights on a logarithmic scale cannot be stacked, so the lost are narrower bars in front of the refused.
BARS = (("answered", ANSWERED, 1, 5), ("refused", REFUSED, -1, 5), ("lost", LOST, -1, 4))
MARKS = (("signal", "signal", f"'{INK}'"), ("listener_closed", "listener closed", f"'{CLOSED}' dashtype (3,3)"),
         ("gone", "exit", f"'{EXIT}'"))


def facts_of(result: dict[str, Any]) -> list[str]:
    marks = result["timeline"]["marks"]
    run = next(r for r in result["runs"] if r["run"] == result["timeline"]["run"])
    exit_ms = marks["gone"] - marks.get("signal", 0.0) if "gone" in marks else CAP_MS
    return [f"lost {run['lost']}", f"refused {run['refused']}",
            f"exit {ms_text(exit_ms)}" + " ms" * (exit_ms < CAP_MS)]


def timeline_row(result: dict[str, Any]) -> list[str]:
    t, server, words = result["timeline"], result["server"], facts_of(result)
    colors = (FAINT if words[0] == "lost 0" else LOST, FAINT, FAINT)
    signal, blocks, plots = t["marks"].get("signal", 0.0), [], []
    for name, color, up, half in BARS:
        blocks += block(name, ((round(at - signal, 2), n) for at, n in zip(t["t_ms"], t[name])
                               if n and at > signal - BEFORE_MS))
        # A border, because far from the signal an interval is narrower than a pixel.
        plots.append(f"${name} using ($1 + 5):({up} * height($2) / 2):({half}):(height($2) / 2) with boxxyerror "
                     f"linecolor '{color}' fill solid border notitle")
    plots.append(f"0 linecolor '{FAINT}' linewidth .6 notitle")
    plots += [f"keyentry with boxes linecolor '{color}' title '{name}'" for name, color, _, _ in BARS]
    plots += [f"keyentry with lines linewidth 1.5 linecolor {look} title '{name}'" for _, name, look in MARKS]
    return [*blocks, label(server, "graph -.18, graph .77", "font ',12'", bold=server == "lastcall"),
            *(label(text, f"graph -.18, graph {.57 - .19 * i:.2f}", f"textcolor '{color}'")
              for i, (text, color) in enumerate(zip(words, colors))),
            *(f"set arrow from {t['marks'][mark] - signal}, graph 0 rto 0, graph 1 nohead front linewidth 1.5 "
              f"linecolor {look}" for mark, _, look in MARKS if mark in t["marks"]),
            "plot " + ", ".join(plots), "unset key; unset label; unset arrow"]


def timeline_chart(document: Document, name: str) -> str:
    """All servers of one scenario, one below the other, with the signal at 0."""
    results = [r for r in document["results"] if r["scenario"] == name and r["timeline"]]
    if not results:
        return ""
    title = next(s["title"] for s in document["scenarios"] if s["name"] == name)
    lines = [r["timeline"] for r in results]
    up = max(n for t in lines for n in [0, *t["answered"]])
    down = max(n for t in lines for n in [0, *t["lost"], *t["refused"]])
    signals = [t["marks"].get("signal", 0.0) for t in lines]
    after = max(t["marks"].get("gone", signal + CAP_MS) - signal for t, signal in zip(lines, signals))
    ticks = ", ".join(f"'{n}' height({n}), '{n}' -height({n})" for n in (10, 100, 1000, 10000))
    commands = [
        # Some servers exit after 5 ms, some after 5 s.
        "set nonlinear x via asinh(x / 50) inverse 50 * sinh(x); height(count) = log10(1 + count)",
        f"set xrange [{-min(BEFORE_MS, max(signals))}:{after * 1.1 + 10}]",
        f"set yrange [-height({down * 1.2 + 1}):height({up * 1.2 + 1})]",
        "set xtics (-200, -100, -50, -20, 0, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000) scale 0 format ''",
        f"set ytics ('0' 0, {ticks}) nomirror scale .4 font ',9'; set border 2 linecolor '{FAINT}'",
        f"set grid linetype 1 linecolor '{GRID}' linewidth .6",
        "set key at graph -.18, graph 1.45 left top horizontal Left reverse maxrows 1 samplen 1 width -3",
        label(f"{name}: {title}", "graph -.18, graph 1.8", "font ',14'", bold=True),
        label("Requests per 10 ms, of the run that lost the most. Logarithmic scales, the same in all rows; "
              "the time is linear up to about 50 ms.", "graph -.18, graph 1.57", f"textcolor '{FAINT}'")]
    for result in results:
        if result is results[-1]:
            commands.append("set xtics format '%.0f'; set xlabel 'ms after the signal' offset 0,.7")
        commands += timeline_row(result)
    said = "; ".join(f"{r['server']}: {', '.join(facts_of(r))} after the signal" for r in results)
    return draw(f"timeline-{name}", f"Timelines: {title}", said, (len(results), 760, 80), (150, 82, 42, 12),
                commands)


# ---- tables ----

COLUMNS: tuple[tuple[str, Callable[[Summary], str]], ...] = (
    ("runs", lambda s: str(s["runs"])),
    ("sent", lambda s: f"{s['sent']:,}"),
    ("lost", lambda s: f"{s['lost']:,}"),
    ("worst run", lambda s: f"{s['lost_worst']:,}"),
    ("reset", lambda s: f"{s['lost_reset']:,}"),
    ("end of file", lambda s: f"{s['lost_eof']:,}"),
    ("cut", lambda s: f"{s['lost_truncated']:,}"),
    ("on a reused connection", lambda s: f"{s['lost_on_reused']:,}"),
    ("never answered", lambda s: f"{s['waiting']:,}"),
    ("refused", lambda s: f"{s['refused'] + s['refused_streams']:,}"),
    ("handshakes cut", lambda s: f"{s.get('failed_handshakes', 0):,}"),
    ("not wholly sent", lambda s: f"{s['unsent']:,}"),
    ("listener closed after signal, ms: median", lambda s: ms_text(s.get("closed_ms"))),
    ("exit after signal, ms: median, max", lambda s: f"{ms_text(s['exit_ms'])}, {ms_text(s['exit_max_ms'])}"),
    ("after last response, ms: median, max", lambda s: f"{lag_text(s)}, {ms_text(s['lag_max_ms'])}"),
    ("latency before, µs: p50, p99, max", lambda s: latency_text(s, "before")),
    ("latency in the drain, µs", lambda s: latency_text(s, "after")),
    ("exit status", statuses_text),
)


def latency_text(s: Summary, when: str) -> str:
    values = [s[f"{when}_{what}_us"] for what in ("p50", "p99", "max")]
    return ", ".join("–" if v is None else f"{v:,.0f}" for v in values)


def matrix(document: Document, text_of: Callable[[Summary | None], str]) -> list[list[str]]:
    found, servers = summaries(document), list(document["servers"])
    return [["scenario", *servers]] + [
        [s["name"], *(text_of(found.get((s["name"], name))) for name in servers)]
        for s in scenarios_run(document)]


def details(document: Document, scenario: str) -> list[list[str]]:
    return [["server", *(name for name, _ in COLUMNS)]] + [
        [r["server"], *(text(r["summary"]) for _, text in COLUMNS)]
        for r in document["results"] if r["scenario"] == scenario]


def first_losses(document: Document, scenario: str) -> list[str]:
    lines = []
    for r in document["results"]:
        said = next((run["first_loss"] for run in r["runs"] if run.get("first_loss")), None)
        if r["scenario"] == scenario and said:
            lines.append(f"{r['server']}: {said}")
    return lines


DEFINITIONS = (
    ("lost", "the whole request was written to an established connection, and a reset, an end of file or a "
             "truncated response followed"),
    ("refused", "connect() failed, or the HTTP/2 stream was above GOAWAY's last id: not a loss, because the "
                "client may retry elsewhere"),
    ("handshakes cut", "the connection ended during the TLS handshake: no request had been sent on it, so it does "
                       "not count as lost"),
    ("not wholly sent", "the connection ended before the whole request was written: this does not count as lost"),
    ("listener closed", "from sock_diag requests every millisecond, so up to about a millisecond late"),
    ("exit after the last response", "from the last byte of the last answer at a client (or from the signal, "
                                     "if no answer followed it) to the exit of the main process"),
    ("held", "the clients disconnect some time after the signal (1.4 s in most scenarios), and the server exited "
             "only then; otherwise it would have stayed longer"),
)


def html_table(rows: list[list[str]]) -> str:
    def row(cells: list[str], tag: str) -> str:
        mine = ' class="mine"' if cells[0] == "lastcall" else ""
        return f"<tr{mine}>" + "".join(f"<{tag}>{escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = "\n".join(row(cells, "td") for cells in rows[1:])
    return (f'<div class="wide"><table><thead>{row(rows[0], "th")}</thead>\n'
            f"<tbody>{body}</tbody></table></div>")


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #24292f; background: #fff; max-width: 1080px;
       margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em } h2 { font-size: 1.2em; margin-top: 2.2em } code { background: #f6f8fa; padding: 1px 4px }
.wide { overflow-x: auto } svg { max-width: 100%; height: auto }
table { border-collapse: collapse; font-size: 12px; font-variant-numeric: tabular-nums; margin: .8em 0 }
th, td { border-bottom: 1px solid #d8dee4; padding: 3px 8px; text-align: right; vertical-align: bottom }
th:first-child, td:first-child { text-align: left } tr.mine { font-weight: 600 }
dt { font-weight: 600 } ul.said { font-size: 12px; color: #57606a }
"""


def about(document: Document) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {s['version']} ({s['signal'][3:]})" for name, s in document["servers"].items())
    rows = [("command", document["command"]), ("date", document["date"]),
            ("machine", ", ".join(f"{k}: {v}" for k, v in document["machine"].items())),
            ("servers, and the signal that stops them", versions)]
    rows += [("skipped", f"{name}: {why}") for name, why in document["skipped"].items()]
    rows += [("no TLS", f"{name}: {why}") for name, why in document.get("without_tls", {}).items()]
    rows += [("note", text) for text in document["problems"]]
    return rows


def summary_tables(document: Document) -> str:
    """The contents of the chart as tables."""
    return "\n".join(f"<h2>{title}</h2>{html_table(matrix(document, text_of))}" for title, text_of in (
        ("Requests lost: all runs / the worst run", lost_text), ("Exit after the last response, ms", lag_text)))


def page(document: Document) -> str:
    chart = summary_chart(document)
    parts = ["<!doctype html>", '<html lang="en"><head><meta charset="utf-8">',
             '<meta name="viewport" content="width=device-width">',
             f"<title>Graceful stops, measured</title><style>{STYLE}</style></head><body>",
             "<h1>What a graceful stop loses, and how long it takes</h1>", "<dl>"]
    parts += [f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in about(document)]
    parts += ["</dl>", f'<div class="wide">{chart}</div>' if chart else summary_tables(document),
              "<h2>Terms</h2><dl>"]
    parts += [f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in DEFINITIONS]
    parts.append("</dl>")
    for scenario in scenarios_run(document):
        name = scenario["name"]
        parts.append(f'<h2 id="{name}">{escape(name)}: {escape(scenario["title"])}</h2>')
        if scenario["load"]:
            parts.append(f"<p>Load: <code>{escape(scenario['load'])}</code></p>")
        chart = timeline_chart(document, name)
        if chart:
            parts.append(f'<div class="wide">{chart}</div>')
        parts.append(html_table(details(document, name)))
        losses = first_losses(document, name)
        if losses:
            parts.append('<p>The first loss of each server:</p><ul class="said">'
                         + "".join(f"<li>{escape(line)}</li>" for line in losses) + "</ul>")
    return "\n".join([*parts, "</body></html>\n"])


# ---- Markdown ----


def markdown_table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(rows[0]) + " |", "| --- |" + " ---: |" * (len(rows[0]) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows[1:]])


def markdown(document: Document) -> str:
    parts = ["# Graceful stops, measured", ""]
    parts += [f"- {name}: {'`' + text + '`' if name == 'command' else text}" for name, text in about(document)]
    parts += ["", "## Requests lost", "", "All runs / the worst run; w: not answered within 15 s.", "",
              markdown_table(matrix(document, lost_text)), "", "## Exit after the last response, ms", "",
              "Median; held: the server exited only after its clients had disconnected.", "",
              markdown_table(matrix(document, lag_text)), "", "## Terms", ""]
    parts += [f"- **{name}**: {text}." for name, text in DEFINITIONS]
    for scenario in scenarios_run(document):
        parts += ["", f"## {scenario['name']}: {scenario['title']}", "",
                  markdown_table(details(document, scenario["name"]))]
    return "\n".join(parts) + "\n"


def write(path: Path | None, text: str) -> None:
    """Write nothing if nothing was drawn."""
    if path and text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description="Charts and pages of a drain.py result.")
    parser.add_argument("result", type=Path, metavar="RESULT.json")
    parser.add_argument("--html", type=Path, metavar="FILE")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="the summary chart")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--timelines", type=Path, metavar="DIR", help="one SVG per scenario")
    options = parser.parse_args()
    try:
        document = json.loads(options.result.read_text())
    except (OSError, ValueError) as error:
        print(f"report: {options.result}: {error}", file=sys.stderr)
        return 69
    for path, make in ((options.html, page), (options.svg, summary_chart), (options.markdown, markdown)):
        write(path, make(document) if path else "")
    for name in [s["name"] for s in scenarios_run(document)] if options.timelines else []:
        write(options.timelines / f"{name}.svg", timeline_chart(document, name))
    lacking = no_pictures() if options.html or options.svg or options.timelines else None
    if lacking:
        print(f"report: {lacking}", file=sys.stderr)
    return 69 if lacking and (options.svg or options.timelines) else 0


if __name__ == "__main__":
    sys.exit(main())
