"""The tables and the verdict of drain.py."""

from __future__ import annotations

from typing import Callable

from drain_bench import Bench
from drain_preflight import usable
from drain_runs import summarise
from drain_scenarios import Figures, Scenario

EXIT_LOST = 1


def cell_lost(summary: Figures | None) -> str:
    """`total/worst run`; `w`: requests without an answer when the run ended."""
    if summary is None:
        return "-"
    text = "0" if summary["lost"] == 0 else f"{summary['lost']}/{summary['lost_worst']}"
    return text + (f"+{summary['waiting']}w" if summary["waiting"] else "")


def cell_lag(summary: Figures | None) -> str:
    if summary is None or summary["lag_ms"] is None:
        return "-"
    if summary["killed"] * 2 > summary["runs"]:
        return ">15 s"
    text = f"{summary['lag_ms']:.1f}" if summary["lag_ms"] < 100 else f"{summary['lag_ms']:.0f}"
    return text + ("h" if summary["held"] * 2 > summary["runs"] else "")


def cell_handshakes(summary: Figures | None) -> str:
    return "-" if summary is None else str(summary["failed_handshakes"])


def cut_of(summary: Figures) -> int:
    return summary["upstream_cut_reset"] + summary["upstream_cut_eof"]


def cell_upstream(summary: Figures | None) -> str:
    """Requests cut, and resets on connections without a request."""
    if summary is None:
        return "-"
    resets = summary["upstream_reset_after"]
    return str(cut_of(summary)) + (f"+{resets}r" if resets else "")


def print_table(title: str, scenarios: list[Scenario], names: list[str],
                results: dict[tuple[str, str], Figures], cell: Callable[[Figures | None], str]) -> None:
    rows = [[s.name] + [cell(results[s.name, n]["summary"] if (s.name, n) in results else None)
                        for n in names] for s in scenarios]
    widths = [max(len(row[i]) for row in [["", *names], *rows]) for i in range(len(names) + 1)]
    print(f"\n{title}")
    for row in [["", *names], *rows]:
        print("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]))


def line_of(scenario: Scenario, names: list[str], runs: dict[str, list[Figures]], seconds: float) -> str:
    parts = []
    for name in names:
        if runs.get(name):
            summary = summarise(runs[name])
            parts.append(f"{name} {cell_lost(summary)}")
    return f"{scenario.name:<15}{seconds:4.0f} s  lost: {', '.join(parts) or 'no server ran'}"


def print_verdict(scenarios: list[Scenario], names: list[str],
                  results: dict[tuple[str, str], Figures]) -> int:
    print_table("requests lost: all runs/worst run (w: never answered)", scenarios, names, results,
                cell_lost)
    print_table("exit after the last response, median ms (h: only when the clients had left)",
                scenarios, names, results, cell_lag)
    over_tls = [s for s in scenarios if s.tls]
    if over_tls:
        print_table("TLS handshakes cut, on connections without a request: not lost", over_tls, names,
                    results, cell_handshakes)
    proxies = [s for s in scenarios if s.is_proxy]
    if proxies:
        print_table("requests that the proxy cut at its upstream (r: resets without a request under way)",
                    proxies, names, results, cell_upstream)
    mine = [results[key]["summary"] for key in results if key[1] == "lastcall"]
    if not mine:
        return 0
    cut = sum(map(cut_of, mine))
    lost = sum(s["lost"] + s["waiting"] for s in mine)
    odd = sorted({status for s in mine for status in s["statuses"] if status != "0"})
    print(f"\nlastcall: {lost} lost of {sum(s['sent'] for s in mine)} requests in "
          f"{sum(s['runs'] for s in mine)} runs{'; exit status ' + ', '.join(odd) if odd else ''}: "
          f"{'NOT MET' if lost or odd else 'met'}")
    if proxies:
        print(f"lastcall: {cut} cut of {sum(s['upstream_requests'] for s in mine)} requests at the "
              f"upstream: {'NOT MET' if cut else 'met'}")
    return EXIT_LOST if lost or odd or cut else 0


def cut_short(bench: Bench, results: dict[tuple[str, str], Figures]) -> list[str]:
    """Scenarios in which lastcall has no runs, or fewer than requested."""
    if "lastcall" not in bench.options.servers:
        return []
    return [s.name for s in bench.options.scenarios if usable(bench, s, ["lastcall"]) and (
        (s.name, "lastcall") not in results
        or results[s.name, "lastcall"]["summary"]["runs"] < bench.options.runs)]
