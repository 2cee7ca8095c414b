"""The runs of a scenario, and their sums."""

from __future__ import annotations

import collections
import json
import shutil
import statistics
import threading
import time
from typing import Callable

from drain_bench import Bench
from drain_scenarios import EXIT_PATIENCE_S, KINDS, Figures, Scenario, first_core
from peer_server import Broken, Server
from peers import Missing

UPSTREAM_COUNTS = tuple(f"upstream_{key}" for key in (
    "connections", "requests", "answered", "cut_reset", "cut_eof", "reset_after", "refused"))


class Schedule:
    """Runs of one scenario, each on a thread; at most `together` runs are in their active part at once."""

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
            if name not in self.failed:  # report it once and skip its other runs
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
            self.bench.problem(f"{self.scenario.name}: {name}, run {run + 1}: {server.left_behind} processes "
                               "were still running after the main process had exited")
        return {"run": run + 1, **figures, "status": status}

    def is_over(self) -> bool:
        return not any(thread.is_alive() for thread in self.threads)

    def join(self) -> None:
        for thread in self.threads:
            thread.join()


def seen_by(upstream: Server) -> Figures:
    status, counts = upstream.get("/upstream-stats")
    if status != 200:
        raise Broken(f"the upstream does not show its counts: {status}")
    return {f"upstream_{key}": value for key, value in json.loads(counts).items()}


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
                "lost_on_reused", "waiting", *UPSTREAM_COUNTS):
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
    """Without the timeline, and without figures that are zero or missing."""
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
