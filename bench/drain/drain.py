#!/usr/bin/env python3
"""What does a graceful stop cost the clients, and how long does the server take?

For every scenario and server, some runs: start the server, load it, send the signal for a graceful stop at
a random instant, and wait for its exit. lastcall-load reports which requests were answered, which connects
were refused, and which requests were lost: written to an established connection, and then a reset, an end
of file or a truncated response.

A run has two parts. While its clients are active it has the machine for itself, unless the scenario mostly
waits ("together"). Then the clients disconnect; if the server has not exited, the run waits for it beside
the next run. "Held" marks these servers: they exited because the clients disconnected.

If no response followed the signal, the exit after the last response counts from the signal.

In the proxy scenarios each run has its own upstream (lastcall-upstream), which is not stopped. A separate
table has the requests that the proxy cut there: the upstream was reading them, or had not answered yet, when
a reset or an end of file arrived.

Files: drain_scenarios.py has the scenarios, drain_bench.py and drain_runs.py run them, drain_preflight.py checks the
servers first, drain_verdict.py prints the tables. peers.py starts the servers. report.py draws the charts and
the HTML page from the JSON file.

Exit status: 0 lastcall lost and cut nothing (or was not among the servers); 1 it did; 64 wrong usage;
69 nothing could be run, or not all runs of lastcall.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import peers
import report
from drain_bench import BUILD, Bench
from drain_preflight import machine, preflight, raise_open_files, usable
from drain_runs import Schedule, result_of
from drain_scenarios import Figures, Scenario, scenario_table
from drain_verdict import cut_short, line_of, print_verdict
from peer_server import Broken
from peers import Missing

EXIT_USAGE, EXIT_MISSING = 64, 69
TAILS_MOST = 32  # runs that only wait for the exit


def guess_s(scenario: Scenario, servers: int, runs: int) -> float:
    """An estimate from runs with ten servers: most exit soon after the signal."""
    one = 0.25 + (sum(scenario.warm_ms) / 2 + scenario.slow_ms) / 1000
    one += {"silent": 10.0}.get(scenario.kind, 0.0) + (2.0 if scenario.idle else 0.0)
    one += 1.2 if scenario.ask in ("large", "upload") else 0.0
    return one * runs * servers / min(scenario.together, runs * servers)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"drain: {message}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def parse(argv: list[str]) -> argparse.Namespace:
    known = {s.name: s for s in scenario_table()}
    parser = Parser(
        description="Stop servers gracefully under load, and count what the clients lose.",
        epilog=f"Servers: {', '.join(peers.PEERS)}. Scenarios: {', '.join(known)}.")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--short", action="store_true", help="5 runs each (default)")
    length.add_argument("--long", action="store_true", help="20 runs each")
    parser.add_argument("--runs", type=int, help="number of runs each")
    parser.add_argument("--servers", help="only these, comma-separated")
    parser.add_argument("--scenarios", help="only these, comma-separated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report page to FILE")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the summary chart to FILE")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"),
                        help="seed of the random instants of the signal")
    parser.add_argument("--lastcall", type=Path, default=BUILD / "lastcall", metavar="FILE")
    parser.add_argument("--load", type=Path, default=BUILD / "lastcall-load", metavar="FILE")
    parser.add_argument("--upstream", type=Path, metavar="FILE",
                        help="the upstream of the proxies (default: lastcall-upstream beside --load)")
    options = parser.parse_args(argv)
    options.upstream = options.upstream or options.load.parent / "lastcall-upstream"
    options.runs = options.runs or (20 if options.long else 5)
    if options.runs < 1:
        parser.error("--runs: expected a number from 1")
    for what, table in (("servers", peers.PEERS), ("scenarios", known)):
        names = getattr(options, what)
        chosen = names.split(",") if names else list(table)
        unknown = [name for name in chosen if name not in table and
                   not (what == "servers" and name in peers.TEST_PEERS)]
        if unknown:
            parser.error(f"--{what}: there is no {unknown[0]}; there are {', '.join(table)}")
        setattr(options, what, chosen)
    options.scenarios = [known[name] for name in options.scenarios]
    return options


def run_all(bench: Bench, scenarios: list[Scenario], names: list[str]) -> dict[tuple[str, str], Figures]:
    runs = bench.options.runs
    guesses = [guess_s(s, len(usable(bench, s, names)), runs) for s in scenarios]
    tails = threading.Semaphore(TAILS_MOST)
    schedules: list[tuple[Scenario, Schedule]] = []
    printed = 0
    begun = time.monotonic()

    def print_finished(everything: bool) -> int:
        count = printed
        while count < len(schedules) and (everything or schedules[count][1].is_over()):
            scenario, schedule = schedules[count]
            schedule.join()
            bench.progress.clear()
            print(line_of(scenario, names, schedule.runs, schedule.active_s), flush=True)
            count += 1
        return count

    print(f"{len(scenarios)} scenarios, {len(names)} servers, {runs} runs each: about "
          f"{sum(guesses) / 60:.0f} minutes (seed {bench.options.seed})", flush=True)
    for i, scenario in enumerate(scenarios):
        schedule = Schedule(bench, scenario, tails)

        def tick(name: str, run: int, i: int = i, scenario: Scenario = scenario,
                 schedule: Schedule = schedule) -> None:
            spent = time.monotonic() - begun
            expected = sum(guesses[:i])
            share = min(1.0, run / runs)
            pace = spent / (expected + guesses[i] * share) if expected + guesses[i] * share > 20 else 1
            left = (sum(guesses[i + 1:]) + guesses[i] * (1 - share)) * pace
            bench.progress.show(f"{i + 1}/{len(scenarios)} {scenario.name}: {name}, run {run + 1}/{runs}, "
                                f"about {left / 60:.1f} min left")

        here = usable(bench, scenario, names)
        if here:
            schedule.go(here, runs, tick)
        schedules.append((scenario, schedule))
        printed = print_finished(False)
    bench.progress.show("waiting for the last servers to exit")
    printed = print_finished(True)
    print(f"took {(time.monotonic() - begun) / 60:.1f} minutes", flush=True)
    return {(scenario.name, name): result_of(scenario, name, schedule.runs[name])
            for scenario, schedule in schedules for name in names if schedule.runs.get(name)}


def write_results(options: argparse.Namespace, bench: Bench, begun: str, names: list[str],
                  skipped: dict[str, str], results: dict[tuple[str, str], Figures]) -> None:
    document = {
        "format": 1, "command": shlex.join(["bench/drain/drain.py", *sys.argv[1:]]), "date": begun,
        "seed": options.seed, "runs": options.runs, "machine": machine(),
        "idle_connections": options.idle, "capacity_per_s": bench.capacity,
        "servers": {name: {"version": bench.versions[name], "signal": peers.ALL[name].stop.name}
                    for name in names},
        "skipped": skipped, "without_tls": bench.without_tls, "without_proxy": bench.without_proxy,
        "problems": bench.problems,
        "scenarios": [{"name": s.name, "title": s.title, "load": " ".join(s.load),
                       "after_ms": s.after_ms, "together": s.together} for s in options.scenarios],
        "results": list(results.values())}
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document, separators=(",", ":")) + "\n")
    report.write(options.html, report.page(document) if options.html else "")
    report.write(options.svg, report.summary_chart(document) if options.svg else "")


def main() -> int:
    options = parse(sys.argv[1:])
    begun = time.strftime("%Y-%m-%d %H:%M:%S %z")
    lacking = report.no_pictures()
    if lacking and (options.html or options.svg):  # report it before the long run
        print(lacking, flush=True)
    limit = raise_open_files(peers.OPEN_FILES_MOST)
    with tempfile.TemporaryDirectory(prefix="lastcall-drain-") as directory:
        os.chmod(directory, 0o755)
        try:
            bench = Bench(options, Path(directory))
        except Missing as error:
            print(f"drain: {error}", file=sys.stderr)
            return EXIT_MISSING
        try:
            bench.start_backend()
            # A proxy may reserve two descriptors for each connection.
            options.idle = min(10000, max(100, (limit - 1500) // 2))
            if options.idle < 10000 and any(s.idle for s in options.scenarios):
                bench.problem(f"idle-10k runs with {options.idle} connections: ulimit -n is {limit}")
            names, skipped = preflight(bench, options.servers)
            if not names:
                print("drain: no server is left to run", file=sys.stderr)
                return EXIT_MISSING
            results = run_all(bench, options.scenarios, names)
            status = print_verdict(options.scenarios, names, results)
            for name, why in bench.without_tls.items():
                print(f"no TLS: {name}: {why}")
            write_results(options, bench, begun, names, skipped, results)
            for text in bench.problems:
                print(f"note: {text}")
            short = cut_short(bench, results)
            if short:
                print(f"runs of lastcall are missing in: {', '.join(short)}")
            return status or (EXIT_MISSING if short else 0)
        except Broken as broken:
            print(f"drain: {broken}", file=sys.stderr)
            return EXIT_MISSING
        finally:
            bench.end_all()


def interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # also if a shell has ignored SIGINT
        signal.signal(number, interrupt)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
