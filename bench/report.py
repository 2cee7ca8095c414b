#!/usr/bin/env python3
"""Pictures and the HTML page of a drain.py result: what happened, for people.

    report.py RESULT.json --html FILE --svg FILE    the page, and the summary chart alone
    report.py RESULT.json --timelines DIR           one SVG a scenario
    report.py RESULT.json --markdown FILE           the tables, for docs/

The page needs nothing but itself: SVG within it, no script, no request to anywhere. The SVG is written by
hand, on a white ground of its own, so that it can be read on any page.
"""

from __future__ import annotations

import argparse
import json
import math
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
    """`held`: it went only because its clients had."""
    if s is None:
        return "–"
    return ms_text(s["lag_ms"]) + (" held" if mostly_held(s) else "")


def mostly_held(s: Summary) -> bool:
    return s["held"] * 2 > s["runs"] and s["lag_ms"] < CAP_MS


def statuses_text(s: Summary) -> str:
    if len(s["statuses"]) == 1:
        return next(iter(s["statuses"]))
    return ", ".join(f"{status} ({n})" for status, n in s["statuses"].items())


# ---- SVG ----


class Svg:
    def __init__(self, width: float, height: float, title: str) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}" role="img" '
            'font-family="system-ui, sans-serif" font-size="12">',
            f"<title>{escape(title)}</title>", f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>']

    def text(self, x: float, y: float, text: str, *, anchor: str = "start", fill: str = INK,
             size: int = 12, weight: str = "normal") -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" '
                          f'font-size="{size}" font-weight="{weight}">{escape(text)}</text>')

    def rect(self, x: float, y: float, w: float, h: float, fill: str, hint: str = "") -> None:
        inside = f"<title>{escape(hint)}</title>" if hint else ""
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" '
                          f'fill="{fill}">{inside}</rect>')

    def line(self, x1: float, y1: float, x2: float, y2: float, color: str, width: float = 1,
             dash: str = "") -> None:
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
                          f'stroke="{color}" stroke-width="{width}"{dashes}/>')

    def bars(self, bars: Iterable[tuple[float, float, float, float]], fill: str) -> None:
        """One path for all: a tenth of the bytes of so many rects."""
        path = "".join(f"M{x:.1f} {y:.1f}h{w:.1f}v{h:.1f}h-{w:.1f}z" for x, y, w, h in bars)
        if path:
            self.parts.append(f'<path d="{path}" fill="{fill}"/>')

    def __str__(self) -> str:
        return "\n".join([*self.parts, "</svg>\n"])


def mix(share: float, low: tuple[int, int, int], high: tuple[int, int, int]) -> str:
    share = min(1.0, max(0.0, share))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(low, high))


def lost_color(s: Summary | None) -> str:
    if s is None:
        return "#f6f8fa"
    bad = s["lost_worst"] + s["waiting"]
    if bad == 0:
        return "#d2ecd8"
    return mix(math.log10(bad) / 2.5, (253, 226, 215), (214, 69, 65))


def lag_color(s: Summary | None) -> str:
    if s is None:
        return "#f6f8fa"
    return mix((math.log10(max(1.0, s["lag_ms"])) - 0.3) / 3.6, (224, 238, 250), (76, 110, 190))


# ---- the summary chart ----

LEFT, CELL_W, CELL_H, TOP, GAP = 118, 76, 22, 62, 44


def scenarios_run(document: Document) -> list[dict[str, Any]]:
    ran = {result["scenario"] for result in document["results"]}
    return [s for s in document["scenarios"] if s["name"] in ran]


def summaries(document: Document) -> dict[tuple[str, str], Summary]:
    return {(r["scenario"], r["server"]): r["summary"] for r in document["results"]}


def chart_block(svg: Svg, document: Document, top: float, title: str, note: str,
                text_of: Callable[[Summary | None], str], color_of: Callable[[Summary | None], str]) -> None:
    servers, found = list(document["servers"]), summaries(document)
    svg.text(12, top + 18, title, size=14, weight="600")
    svg.text(12, top + 34, note, fill=FAINT, size=11)
    for i, name in enumerate(servers):
        svg.text(LEFT + (i + 0.5) * CELL_W, top + TOP - 8, name, anchor="middle",
                 weight="600" if name == "lastcall" else "normal")
    for j, scenario in enumerate(scenarios_run(document)):
        y = top + TOP + j * CELL_H
        svg.text(12, y + 15, scenario["name"])
        for i, name in enumerate(servers):
            s = found.get((scenario["name"], name))
            svg.rect(LEFT + i * CELL_W + 1, y + 1, CELL_W - 2, CELL_H - 2, color_of(s),
                     f"{name}, {scenario['title']}: {text_of(s)}")
            svg.text(LEFT + (i + 0.5) * CELL_W, y + 15, text_of(s), anchor="middle", size=11,
                     fill=FAINT if s is None else INK)


def summary_chart(document: Document) -> str:
    rows = len(scenarios_run(document))
    block = TOP + rows * CELL_H
    svg = Svg(LEFT + len(document["servers"]) * CELL_W + 12, 2 * block + GAP + 12,
              "Graceful stop: requests lost, and exit after the last response")
    runs = document["runs"]
    chart_block(svg, document, 0, "Requests lost in a graceful stop",
                f"all {runs} runs / the worst run; w: not answered within 15 s", lost_text, lost_color)
    chart_block(svg, document, block + GAP, "Exit after the last response, ms",
                f"median of {runs} runs; held: the server went only because its clients had", lag_text,
                lag_color)
    return str(svg)


# ---- timelines ----

ROW_H, UP, DOWN, PLOT_W = 78, 40, 22, 760


def plot_window(results: list[dict[str, Any]]) -> tuple[float, float]:
    """Milliseconds around the signal: all exits, but no more than two seconds of waiting."""
    before, after = 150.0, 60.0
    for result in results:
        marks = result["timeline"]["marks"]
        signal = marks.get("signal", 0.0)
        before = max(before, min(signal, 300.0))
        after = max(after, marks.get("gone", math.inf) - signal)
    return -before, min(after * 1.06, 2600.0)


def tick_step(span_ms: float) -> int:
    return next(step for step in (20, 50, 100, 200, 500, 1000) if span_ms / step <= 12 or step == 1000)


def timeline_row(svg: Svg, result: dict[str, Any], y: float, x_of: Callable[[float], float],
                 window: tuple[float, float]) -> None:
    t, marks = result["timeline"], result["timeline"]["marks"]
    signal, base = marks.get("signal", 0.0), y + UP + 8
    seen = [i for i, at in enumerate(t["t_ms"]) if window[0] <= at - signal < window[1]]
    width = max(0.8, x_of(10) - x_of(0) - 0.3)
    most_up = max([t["answered"][i] for i in seen], default=0) or 1
    most_down = max([t["lost"][i] + t["refused"][i] for i in seen], default=0) or 1

    def down(i: int, name: str, below: str | None) -> tuple[float, float, float, float]:
        skip = DOWN * t[below][i] / most_down if below else 0
        return x_of(t["t_ms"][i] - signal), base + skip, width, DOWN * t[name][i] / most_down

    svg.bars([(x_of(t["t_ms"][i] - signal), base - UP * t["answered"][i] / most_up, width,
               UP * t["answered"][i] / most_up) for i in seen if t["answered"][i]], ANSWERED)
    svg.bars([down(i, "lost", None) for i in seen if t["lost"][i]], LOST)
    svg.bars([down(i, "refused", "lost") for i in seen if t["refused"][i]], REFUSED)
    svg.line(x_of(window[0]), base, x_of(window[1]), base, GRID)
    run = next(r for r in result["runs"] if r["run"] == t["run"])
    svg.text(12, base - 14, result["server"], weight="600" if result["server"] == "lastcall" else "normal")
    svg.text(12, base, f"lost {run['lost']}, refused {run['refused']}", fill=FAINT, size=10)
    svg.text(LEFT + PLOT_W + 20, base - UP + 8, f"{most_up} answered", fill=ANSWERED, size=10)
    svg.text(LEFT + PLOT_W + 20, base + DOWN, f"{most_down} lost or refused", fill=FAINT, size=10)
    for name, color, dash in (("listener_closed", CLOSED, "2 3"), ("gone", EXIT, "")):
        at = marks.get(name)
        if at is not None and at - signal < window[1]:
            svg.line(x_of(at - signal), base - UP - 3, x_of(at - signal), base + DOWN, color, 1.5, dash)
    gone = marks.get("gone")
    if gone is None or gone - signal >= window[1]:
        when = "after 15 s: killed" if gone is None else f"{gone - signal:,.0f} ms"
        svg.text(LEFT + PLOT_W, base - 4, f"exit → {when}", anchor="end", fill=EXIT, size=10)


def timeline_chart(document: Document, name: str) -> str | None:
    """All servers of one scenario, below each other, with the signal at 0."""
    results = [r for r in document["results"] if r["scenario"] == name and r["timeline"]]
    if not results:
        return None
    title = next(s["title"] for s in document["scenarios"] if s["name"] == name)
    window = plot_window(results)

    def x_of(ms: float) -> float:
        return LEFT + 12 + (ms - window[0]) / (window[1] - window[0]) * PLOT_W

    height = 58 + len(results) * ROW_H + 26
    svg = Svg(LEFT + PLOT_W + 130, height, f"Timelines: {title}")
    svg.text(12, 20, f"{name}: {title}", size=14, weight="600")
    x = 12.0
    for label, color in (("answered", ANSWERED), ("lost", LOST), ("refused", REFUSED),
                         ("signal", INK), ("listener closed", CLOSED), ("exit", EXIT)):
        is_mark = label in ("signal", "listener closed", "exit")
        svg.rect(x, 31, 2 if is_mark else 9, 9, color)
        svg.text(x + 13, 40, label, size=11, fill=FAINT)
        x += 28 + 6.2 * len(label)
    svg.text(x + 6, 40, "a 10 ms; the run that lost the most; each row has its own scales", size=11, fill=FAINT)
    step = tick_step(window[1] - window[0])
    bottom = height - 24
    for at in range(math.ceil(window[0] / step) * step, int(window[1]) + 1, step):
        svg.line(x_of(at), 54, x_of(at), bottom, INK if at == 0 else GRID, 1.2 if at == 0 else 0.6)
        svg.text(x_of(at), bottom + 15, f"{at} ms" if at else "signal", anchor="middle", fill=FAINT, size=10)
    for i, result in enumerate(results):
        timeline_row(svg, result, 56 + i * ROW_H, x_of, window)
    return str(svg)


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
    ("lost", "the request was written whole to an established connection, and then came a reset, an end of "
             "file or a cut response"),
    ("refused", "connect() failed, or the HTTP/2 stream was above GOAWAY's last id: not a loss, any client "
                "may try elsewhere"),
    ("handshakes cut", "the connection was established, and ended within the TLS handshake: no request had "
                       "been sent on it, so it is not counted as lost"),
    ("not wholly sent", "the connection ended before the whole request was written: not counted as lost"),
    ("listener closed", "seen from outside, by asking the kernel every millisecond: late by that and a little"),
    ("exit after the last response", "from the last byte of the last answer at a client (or from the signal, "
                                     "if nothing was answered after it) to the end of the main process"),
    ("held", "the clients leave some time after the signal (1.4 s in most scenarios), and only then did the "
             "server go; by itself it would have stayed longer"),
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


def page(document: Document) -> str:
    parts = ["<!doctype html>", '<html lang="en"><head><meta charset="utf-8">',
             '<meta name="viewport" content="width=device-width">',
             f"<title>Graceful stops, measured</title><style>{STYLE}</style></head><body>",
             "<h1>What a graceful stop loses, and how long it takes</h1>", "<dl>"]
    parts += [f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in about(document)]
    parts += ["</dl>", f'<div class="wide">{summary_chart(document)}</div>', "<h2>What the words mean</h2><dl>"]
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
            parts.append('<p>The first loss of each:</p><ul class="said">'
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
              "Median; held: the server went only because its clients had.", "",
              markdown_table(matrix(document, lag_text)), "", "## Words", ""]
    parts += [f"- **{name}**: {text}." for name, text in DEFINITIONS]
    for scenario in scenarios_run(document):
        parts += ["", f"## {scenario['name']}: {scenario['title']}", "",
                  markdown_table(details(document, scenario["name"]))]
    return "\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Pictures and pages of a drain.py result.")
    parser.add_argument("result", type=Path, metavar="RESULT.json")
    parser.add_argument("--html", type=Path, metavar="FILE")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="the summary chart")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--timelines", type=Path, metavar="DIR", help="one SVG a scenario")
    options = parser.parse_args()
    try:
        document = json.loads(options.result.read_text())
    except (OSError, ValueError) as error:
        print(f"report: {options.result}: {error}", file=sys.stderr)
        return 69
    for path, make in ((options.html, page), (options.svg, summary_chart), (options.markdown, markdown)):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(make(document))
    if options.timelines:
        options.timelines.mkdir(parents=True, exist_ok=True)
        for scenario in scenarios_run(document):
            chart = timeline_chart(document, scenario["name"])
            if chart:
                (options.timelines / f"{scenario['name']}.svg").write_text(chart)
    return 0


if __name__ == "__main__":
    sys.exit(main())
