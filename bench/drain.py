#!/usr/bin/env python3
"""What does a graceful stop cost the clients, and how long does the server take over it?

For every scenario and server, some runs: start the server, load it, send the signal that means "finish,
then go" at a random instant, and wait for its exit. Which requests were answered, which connects were
refused, and which requests were lost is what bench/lastcall-load saw; lost means that the request had
reached an established connection and got a reset, an end of file or a cut response.

A run has two parts. While clients are active it has the machine for itself, unless the scenario is one
that mostly waits ("together"). Then the clients leave, and a server that is still there is only waited
for, beside the next run. "Held" marks those: they exited because the clients left, not by themselves.

Exit after the last response is counted from the signal when nothing was answered after it.

In the proxy scenarios each run has a server of its own behind the proxy, which is not stopped
(lastcall-upstream). What the proxy has cut there is its own table: requests that the upstream was reading,
or had not answered yet, when a reset or an end of file came.

Servers and how they are started: peers.py. Pictures and the HTML page: report.py, from the JSON file.

Exit status: 0 lastcall lost and cut nothing (or was not among the servers); 1 it did; 64 wrong usage;
69 nothing could be run, or not all that lastcall was asked for.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import platform
import random
import re
import resource
import shlex
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Iterable, NoReturn

import peers
import report
from drain_scenarios import EXIT_PATIENCE_S, KINDS, Figures, Scenario, first_core, scenario_table
from drain_server import Broken, Server, listens_beyond_loopback
from peers import Launch, Missing, Site

EXIT_LOST, EXIT_USAGE, EXIT_MISSING = 1, 64, 69
BUILD = Path(__file__).resolve().parent.parent / "build" / "release"
TAILS_MOST = 32  # servers that are only waited for
UPSTREAM_BOOK = tuple(f"upstream_{key}" for key in (
    "connections", "requests", "answered", "cut_reset", "cut_eof", "reset_after", "refused"))


# ---- the bench: what all runs share ----


class Bench:
    def __init__(self, options: argparse.Namespace, temp: Path) -> None:
        self.options, self.temp = options, temp
        self.random = random.Random(options.seed)
        self.problems: list[str] = []
        self.progress = Progress()
        self.lock = threading.Lock()
        self.capacity: dict[str, int] = {}
        self.programs: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.without_tls: dict[str, str] = {}  # and why
        self.without_proxy: dict[str, str] = {}
        self.backend: Server | None = None
        self.running: set[Server] = set()
        self.serial = 0
        self.stopping = False
        # Others may build while we measure: take copies.
        self.lastcall = self.copy(options.lastcall)
        self.load = self.copy(options.load)
        if any(scenario.is_proxy for scenario in options.scenarios):
            self.upstream = self.copy(options.upstream)
        self.cert, self.key = temp / "tls.pem", temp / "tls.pem.key"  # the names haproxy looks for
        peers.make_root(temp / "root")
        (temp / "root").chmod(0o755)

    def copy(self, binary: Path) -> Path:
        if not os.access(binary, os.X_OK):
            raise Missing(f"{binary} is not there. Build it with: cmake --preset release && "
                          "cmake --build --preset release")
        return Path(shutil.copy2(binary, self.temp / binary.name))

    def problem(self, text: str) -> None:
        with self.lock:
            if self.stopping:  # what fails now fails because of that
                return
            self.progress.clear()
            print(f"drain: {text}", file=sys.stderr, flush=True)
            self.problems.append(text)

    def site(self, name: str, tls: bool = False, upstream: Server | None = None) -> Site:
        with self.lock:
            self.serial += 1
            serial = self.serial
        temp = self.temp / f"{name}-{serial}"
        temp.mkdir()
        temp.chmod(0o777)  # some servers switch to another user
        port, h2_port, tls_port = peers.free_ports(3)
        behind = upstream or self.backend
        return Site(temp, self.temp / "root", port, h2_port, behind.site.port if behind else 0,
                    self.lastcall, BUILD / "peers", tls_port if tls else 0, self.cert, self.key,
                    proxies=upstream is not None)

    def start(self, name: str, prefix: Iterable[str] = (), tls: bool = False,
              upstream: Server | None = None) -> Server:
        def create() -> Server:
            site = self.site(name, tls, upstream)
            launch = peers.ALL[name].launch(self.programs[name], site)
            if tls and not launch.tls:
                raise Missing("does not speak it")
            return Server(peers.ALL[name], [*prefix, *launch.argv], launch, site)

        return self.bring_up(create)

    def start_upstream(self) -> Server:
        """One for each run of a proxy: what it has seen is that proxy's doing."""
        def create() -> Server:
            site = self.site("upstream")
            launch = Launch([str(self.upstream), "--port", str(site.port)])
            return Server(peers.UPSTREAM, launch.argv, launch, site)

        return self.bring_up(create)

    def bring_up(self, create: Callable[[], Server]) -> Server:
        """Between finding a free port and listening on it another may take it: tried twice."""
        for attempt in (1, 2):
            server = create()
            self.running.add(server)
            try:
                server.wait_until_up()
                return server
            except Broken as broken:
                said = server.log.read_text(errors="replace")
                self.end(server)
                if attempt == 2 or not re.search(r"in use|EADDRINUSE|could not bind", said, re.I):
                    raise broken
        raise AssertionError("not reached")

    def end(self, server: Server) -> int | None:
        self.running.discard(server)
        return server.end()

    def end_all(self) -> None:
        """After an interruption: only what was started here, by its group."""
        self.stopping = True
        for server in list(self.running):
            self.end(server)

    def start_backend(self) -> None:
        """Behind the servers that have no handlers of their own."""
        site = self.site("backend")
        launch = Launch([str(self.lastcall), "--quiet", "--listen", f"127.0.0.1:{site.port}",
                         "--workers", "512", "--queue", "4096", "--root", str(site.root)],
                        small="/hello")
        self.backend = Server(peers.PEERS["lastcall"], launch.argv, launch, site)
        self.running.add(self.backend)
        try:
            self.backend.wait_until_up()
        except Broken as broken:
            raise Broken(f"{self.options.lastcall}, as the backend: {broken}") from None

    def instant(self, scenario: Scenario) -> int:
        with self.lock:
            return self.random.randint(*scenario.warm_ms)


class Progress:
    """One rewritten line on a terminal; elsewhere the lines of the finished scenarios do."""

    def __init__(self) -> None:
        self.on = sys.stderr.isatty()

    def show(self, text: str) -> None:
        if self.on:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        self.show("")


# ---- many runs ----


class Schedule:
    """Runs of one scenario, each on a thread; `together` of them in their active part at a time."""

    def __init__(self, bench: Bench, scenario: Scenario, tails: threading.Semaphore) -> None:
        self.bench, self.scenario, self.tails = bench, scenario, tails
        self.active = threading.Semaphore(scenario.together)
        self.threads: list[threading.Thread] = []
        self.runs: dict[str, list[Figures]] = collections.defaultdict(list)
        self.failed: set[str] = set()
        self.begun = time.monotonic()
        self.active_s = 0.0

    def go(self, names: list[str], runs: int, tick: Callable[[str, int], None]) -> None:
        for run in range(runs):
            for name in names[run % len(names):] + names[:run % len(names)]:
                self.active.acquire()
                self.tails.acquire()
                if name in self.failed:
                    self.active.release()
                    self.tails.release()
                    tick(name, run)
                    continue
                tick(name, run)
                thread = threading.Thread(target=self.one, args=(name, run), daemon=True)
                self.threads.append(thread)
                thread.start()
        for _ in range(self.scenario.together):
            self.active.acquire()
        self.active_s = time.monotonic() - self.begun

    def one(self, name: str, run: int) -> None:
        left = threading.Event()

        def leave() -> None:
            if not left.is_set():
                left.set()
                self.active.release()

        try:
            self.runs[name].append(self.measure(name, run, leave))
        except (Broken, Missing, OSError) as error:
            if name not in self.failed:  # told once; its other runs are left out, or fail alike
                self.failed.add(name)
                self.bench.problem(f"{self.scenario.name}: {name}, run {run + 1}: {error}")
        finally:
            leave()
            self.tails.release()

    def measure(self, name: str, run: int, leave: Callable[[], None]) -> Figures:
        if not self.scenario.is_proxy:
            return self.measure_before(None, name, run, leave)
        upstream = self.bench.start_upstream()
        try:
            return self.measure_before(upstream, name, run, leave)
        finally:
            self.bench.end(upstream)
            shutil.rmtree(upstream.site.temp, ignore_errors=True)

    def measure_before(self, upstream: Server | None, name: str, run: int,
                       leave: Callable[[], None]) -> Figures:
        prefix = ["taskset", "-c", first_core()] if self.scenario.starved else []
        server = self.bench.start(name, prefix, self.scenario.tls, upstream)
        try:
            figures = KINDS[self.scenario.kind](self.bench, server, self.scenario, leave)
            if upstream:
                figures |= seen_by(upstream)
        finally:
            status = self.bench.end(server)
            shutil.rmtree(server.site.temp, ignore_errors=True)
        if server.left_behind:
            self.bench.problem(f"{self.scenario.name}: {name}, run {run + 1}: the main process left "
                               f"{server.left_behind} others behind")
        return {"run": run + 1, **figures, "status": status}

    def is_over(self) -> bool:
        return not any(thread.is_alive() for thread in self.threads)

    def join(self) -> None:
        for thread in self.threads:
            thread.join()


def seen_by(upstream: Server) -> Figures:
    status, book = upstream.get("/upstream-stats")
    if status != 200:
        raise Broken(f"the upstream does not show its book: {status}")
    return {f"upstream_{key}": value for key, value in json.loads(book).items()}


def median(values: list[float]) -> float | None:
    return round(statistics.median(values), 3) if values else None


def summarise(runs: list[Figures]) -> Figures:
    def total(key: str) -> int:
        return sum(run.get(key) or 0 for run in runs)

    def of(key: str) -> list[float]:
        return [run[key] for run in runs if run.get(key) is not None]

    summary: Figures = {"runs": len(runs)}
    for key in ("sent", "answered", "answered_503", "answered_other", "refused", "refused_streams",
                "failed_handshakes", "unsent", "lost", "lost_reset", "lost_eof", "lost_truncated",
                "lost_on_reused", "waiting", *UPSTREAM_BOOK):
        summary[key] = total(key)
    summary["lost_worst"] = max(run["lost"] for run in runs)
    summary["held"] = sum(bool(run["held"]) for run in runs)
    summary["killed"] = sum(run["exit_ms"] is None for run in runs)
    capped = [EXIT_PATIENCE_S * 1000]
    for key in ("exit_ms", "lag_ms"):
        values = of(key) + capped * summary["killed"]
        summary[key] = median(values)
        summary[key.replace("_ms", "_max_ms")] = round(max(values), 3)
    summary["closed_ms"] = median(of("closed_ms"))
    for when in ("before", "after"):
        for what in ("p50", "p99", "max"):
            summary[f"{when}_{what}_us"] = median(of(f"latency_{when}_signal_{what}_us"))
    statuses = collections.Counter("killed" if run["status"] is None else str(run["status"])
                                   for run in runs)
    summary["statuses"] = dict(sorted(statuses.items()))
    return summary


def terse(run: Figures) -> Figures:
    """Without the timeline, and without the figures that are nought or did not come about."""
    always = ("run", "lost", "refused", "exit_ms", "lag_ms", "status")
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in run.items()
            if k in always or (v and k != "timeline")}


def result_of(scenario: Scenario, name: str, runs: list[Figures]) -> Figures:
    """The timeline of one run is kept: the one that lost the most."""
    runs = sorted(runs, key=lambda run: run["run"])
    worst = max(runs, key=lambda run: run["lost"])
    timeline = worst.get("timeline")
    return {"scenario": scenario.name, "server": name, "summary": summarise(runs),
            "runs": [terse(run) for run in runs],
            "timeline": timeline and {**timeline, "run": worst["run"]}}


# ---- before all: which servers are there, and do they do what the scenarios ask? ----


def preflight(bench: Bench, names: list[str]) -> tuple[list[str], dict[str, str]]:
    ready, skipped = [], {}
    for name in names:
        bench.progress.show(f"looking at {name}")
        peer = peers.ALL[name]
        try:
            bench.programs[name] = peers.program_of(peer, bench.lastcall)
            bench.versions[name] = peers.version_of(peer, bench.programs[name])
            server = bench.start(name)
            try:
                check_answers(server)
            finally:
                bench.end(server)
            ready.append(name)
            if any(scenario.tls for scenario in bench.options.scenarios):
                check_tls(bench, name)
            if peer.proxies and any(scenario.is_proxy for scenario in bench.options.scenarios):
                check_proxy(bench, name)
        except Missing as missing:
            skipped[name] = str(missing)
            bench.progress.clear()
            print(f"skipped: {name}: {missing}")
        except (Broken, OSError) as error:
            skipped[name] = str(error)
            bench.problem(f"{name} is left out: {error}")
    bench.progress.clear()
    return ready, skipped


def check_tls(bench: Bench, name: str) -> None:
    """Who does not answer over TLS still takes part in the other scenarios."""
    try:
        peers.make_certificate(bench.cert, bench.key)
        server = bench.start(name, tls=True)
        try:
            check_answers(server)
        finally:
            bench.end(server)
    except Missing as missing:
        bench.without_tls[name] = str(missing)
    except (Broken, OSError) as error:
        bench.without_tls[name] = str(error)
        bench.problem(f"{name} is left out of TLS: {error}")


def check_proxy(bench: Bench, name: str) -> None:
    """Do requests reach the upstream? It is the only one to know."""
    upstream = bench.start_upstream()
    try:
        server = bench.start(name, upstream=upstream)
        try:
            path = server.launch.proxied
            before = seen_by(upstream)["upstream_answered"]
            for method, body in (("GET", b""), ("POST", b"x" * 1000)):
                if server.get(path, method, body) != (200, peers.HELLO):
                    raise Broken(f"{method} {path} is not answered as the upstream does it")
            reached = seen_by(upstream)["upstream_answered"] - before
            if reached != 2:
                raise Broken(f"the upstream had {reached} requests, not 2")
        finally:
            bench.end(server)
    except (Broken, OSError) as error:
        bench.without_proxy[name] = str(error)
        bench.problem(f"{name} is left out of the proxies: {error}")
    finally:
        bench.end(upstream)


def check_answers(server: Server) -> None:
    launch = server.launch
    for path, method, body, want in (
            (launch.slow.format(ms=1), "GET", b"", None), (launch.post, "POST", b"x" * 1000, None),
            (launch.upload, "POST", b"x" * 100000, None),
            (launch.large, "GET", b"", peers.LARGE_BYTES)):
        status, got = server.get(path, method, body)
        if status != 200 or want not in (None, len(got)):
            raise Broken(f"{method} {path} is answered with {status} and {len(got)} bytes")
    beyond = listens_beyond_loopback(server.pid)
    if beyond:
        raise Broken(f"listens beyond loopback, on {beyond}")


def raise_open_files(wanted: int) -> int:
    """The limit on open files that this process and what it starts will have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((wanted, max(hard, wanted)), (hard, hard)):
        try:
            if soft < limits[0]:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            break
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def machine() -> dict[str, str]:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {"cpu": cpu.group(1) if cpu else platform.machine(), "cores": str(os.cpu_count()),
            "memory": f"{int(memory.group(1)) // 1048576 if memory else 0} GB",
            "kernel": platform.release(), "load": "%.1f %.1f %.1f" % os.getloadavg(),
            "open files": str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])}


# ---- what is printed ----


def cell_lost(summary: Figures | None) -> str:
    """`total/worst run`, a `w` for requests that nobody had answered when the run was given up."""
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
    """Requests cut, and the resets that came on connections without one."""
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
    return f"{scenario.name:<15}{seconds:4.0f} s  lost: {', '.join(parts) or 'nobody ran'}"


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
    """Scenarios of which nothing is known about lastcall, or less than was asked for."""
    if "lastcall" not in bench.options.servers:
        return []
    return [s.name for s in bench.options.scenarios if usable(bench, s, ["lastcall"]) and (
        (s.name, "lastcall") not in results
        or results[s.name, "lastcall"]["summary"]["runs"] < bench.options.runs)]


# ---- the command ----


def guess_s(scenario: Scenario, servers: int, runs: int) -> float:
    """From experience with ten servers: most go soon after the signal."""
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
    parser.add_argument("--runs", type=int, help="so many runs each")
    parser.add_argument("--servers", help="only these, comma-separated")
    parser.add_argument("--scenarios", help="only these, comma-separated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report page to FILE")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the summary chart to FILE")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"),
                        help="of the random instants of the signal")
    parser.add_argument("--lastcall", type=Path, default=BUILD / "lastcall", metavar="FILE")
    parser.add_argument("--load", type=Path, default=BUILD / "lastcall-load", metavar="FILE")
    parser.add_argument("--upstream", type=Path, metavar="FILE",
                        help="what stands behind the proxies (default: lastcall-upstream beside --load)")
    options = parser.parse_args(argv)
    options.upstream = options.upstream or options.load.parent / "lastcall-upstream"
    options.runs = options.runs or (20 if options.long else 5)
    if options.runs < 1:
        parser.error("--runs wants a number from 1")
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


def usable(bench: Bench, scenario: Scenario, names: list[str]) -> list[str]:
    def is_able(peer: peers.Peer) -> bool:
        return ((not scenario.h2 or (peer.tls_h2 if scenario.tls else peer.h2))
                and not (scenario.tls and peer.name in bench.without_tls)
                and not (scenario.is_proxy and
                         (not peer.proxies or peer.name in bench.without_proxy)))

    return [name for name in names if is_able(peers.ALL[name])]


def write_results(options: argparse.Namespace, bench: Bench, begun: str, names: list[str],
                  skipped: dict[str, str], results: dict[tuple[str, str], Figures]) -> None:
    document = {
        "format": 1, "command": shlex.join(["bench/drain.py", *sys.argv[1:]]), "date": begun,
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
    if lacking and (options.html or options.svg):  # told before the long wait
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
            # A proxy may need two descriptors a connection, also where none is proxied.
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
                print(f"lastcall did not have all its runs in: {', '.join(short)}")
            return status or (EXIT_MISSING if short else 0)
        except Broken as broken:
            print(f"drain: {broken}", file=sys.stderr)
            return EXIT_MISSING
        finally:
            bench.end_all()


def interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell has set SIGINT aside
        signal.signal(number, interrupt)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
