#!/usr/bin/env python3
"""Are the figures of drain.py right? This runs it against servers that lose requests on purpose
(peers/programs/bad.py). Its figures must equal theirs to the last request: how many, of which kind, and in which run.
For a server that loses nothing they must be zero, and for lastcall too.

Then come errors before the first figure: a server that does not start, a port that is in use, too low a limit on open
files. Each must be reported in one line, and the other servers must run.

Finally connections to the upstream of the proxies are cut on purpose: its counts must be exact.

Prints one line for each check. Exit status: 0 all as expected; 1 not; 69 something is not built.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import resource
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import peers
from drain_scenarios import QUEUED
from peer_server import http_get

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "release"
PATIENCE_S = 300
AT_ONCE = 6  # runs of drain.py at once: exact figures do not need a quiet machine
# Enough for 32 connections, not for 128: lastcall, which keeps a second descriptor for each, takes 35. One that has
# fewer places than connections closes the idle ones, and its clients may lose requests by that.
FEW_FILES = 120
CAP_SYS_RESOURCE = 24

Figures = dict[str, Any]


# ---- a run of drain.py, and the losses that its servers planted ----


@dataclass
class Outcome:
    status: int
    out: str
    err: str
    document: dict[str, Any] = field(default_factory=dict)
    planted: list[Figures] = field(default_factory=list)  # one a server that was stopped

    def result(self, scenario: str, server: str) -> Figures:
        found = [r for r in self.document.get("results", ())
                 if (r["scenario"], r["server"]) == (scenario, server)]
        return found[0] if found else {}

    def planted_by(self, server: str) -> list[Figures]:
        return [p for p in self.planted if f"bad-{p['mode']}" == server]

    def notes(self) -> list[str]:
        return [line[6:] for line in self.out.splitlines() if line.startswith("note: ")]

    def errors(self) -> list[str]:
        return [line[7:] for line in self.err.splitlines() if line.startswith("drain: ")]


@dataclass(frozen=True)
class Case:
    title: str
    check: Callable[[Checks, Case, Outcome], None]
    scenarios: str = ""
    servers: str = ""
    runs: int = 1
    arguments: str = ""  # more arguments for drain.py
    few_files: bool = False
    alone: bool = False  # after the others: its transfers have to fit into the deadline of lastcall

    def command(self, options: argparse.Namespace, result: Path) -> list[str]:
        command = [sys.executable, str(HERE / "drain.py"), "--lastcall", str(options.lastcall),
                   "--load", str(options.load), "--runs", str(self.runs), "--json", str(result)]
        if self.scenarios:
            command += ["--scenarios", self.scenarios]
        if self.servers:
            command += ["--servers", self.servers]
        return command + shlex.split(self.arguments)


def can_raise_limits() -> bool:
    status = Path("/proc/self/status").read_text()
    return bool(int(re.findall(r"CapEff:\s*(\w+)", status)[0], 16) >> CAP_SYS_RESOURCE & 1)


def lower_open_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES))


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """With SIGTERM first, so that it ends the processes that it has started."""
    process.terminate()
    try:
        return process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()


def run_drain(case: Case, options: argparse.Namespace, directory: Path) -> Outcome:
    planted, result = directory / "planted", directory / "result.json"
    planted.mkdir(parents=True)
    command = case.command(options, result)
    if case.few_files and can_raise_limits():  # else it would
        command = ["setpriv", "--inh-caps=-sys_resource", "--bounding-set=-sys_resource", *command]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "LASTCALL_PLANTED": str(planted)},
        preexec_fn=lower_open_files if case.few_files else None)
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        out, err = end(process)
    document = json.loads(result.read_text()) if result.exists() else {}
    return Outcome(process.returncode, out, err, document,
                   [json.loads(path.read_text()) for path in sorted(planted.glob("*.json"))])


# ---- the checks ----


class Checks:
    def __init__(self) -> None:
        self.failed = 0

    def equal(self, title: str, expected: Figures, got: Figures, note: str = "") -> None:
        """One line if all are; else one for each that is not."""
        wrong = [key for key in expected if expected[key] != got.get(key)]
        self.failed += len(wrong)
        for key in wrong:
            print(f"NOT  {title}: {key}: expected {expected[key]!r}, got {got.get(key)!r}")
        if not wrong:
            print(f"ok   {title}{': ' + note if note else ''}")


def total(rows: list[Figures], key: str) -> int:
    return sum(row.get(key, 0) for row in rows)


def lost_in(planted: Figures) -> int:
    return planted["reset"] + planted["eof"] + planted["truncated"]


def unaccounted(planted: Figures) -> int:
    """Received, but neither answered nor lost: a mistake of the bad server. What drop-queue loses it never
    received."""
    lost = 0 if planted["mode"] == "drop-queue" else lost_in(planted)
    return planted["received"] - planted["answered"] - planted["muted"] - lost


def expected_of(case: Case, planted: list[Figures]) -> Figures:
    """The summary that the runner must come to. What was still in the queue was never received."""
    in_queue = total(planted, "reset") if case.scenarios == "queue" else 0
    lost = [lost_in(p) for p in planted]
    killed = sum(p["muted"] > 0 for p in planted)  # it waits for its clients, and they for it
    return {
        "runs": len(planted), "sent": total(planted, "received") + in_queue,
        "answered": total(planted, "answered"), "refused": 0, "unsent": 0,
        "waiting": total(planted, "muted"), "killed": killed,
        "lost": sum(lost), "lost_reset": total(planted, "reset"), "lost_eof": total(planted, "eof"),
        "lost_truncated": total(planted, "truncated"), "lost_on_reused": total(planted, "on_reused"),
        "lost_worst": max(lost, default=None), "statuses": {"killed" if killed else "0": case.runs},
        "lost of each run": sorted(lost)}


NOTHING_LOST = {"lost": 0, "lost_reset": 0, "lost_eof": 0, "lost_truncated": 0, "lost_on_reused": 0,
                "lost_worst": 0, "waiting": 0, "unsent": 0, "killed": 0}


def printed_cell(out: str, scenario: str, server: str) -> str | None:
    """Of the first table, the one that people read."""
    lines = out.partition("requests lost")[2].splitlines()
    for line in lines[2:]:
        if line.split()[:1] == [scenario]:
            return dict(zip(lines[1].split(), line.split()[1:])).get(server)
    return None


def cell_of(summary: Figures) -> str:
    text = f"{summary['lost']}/{summary['lost_worst']}" if summary["lost"] else "0"
    return text + (f"+{summary['waiting']}w" if summary["waiting"] else "")


def got_from(case: Case, outcome: Outcome, server: str) -> Figures:
    result = outcome.result(case.scenarios, server)
    runs = result.get("runs", [])
    timeline = result.get("timeline") or {"lost": []}
    return {**result.get("summary", {}), "lost of each run": sorted(run["lost"] for run in runs),
            "sent, but neither answered, lost nor waiting, in a run": sorted(
                {run["sent"] - sum(run.get(key, 0) for key in ("answered", "lost", "waiting"))
                 for run in runs}),
            "printed": printed_cell(outcome.out, case.scenarios, server),
            "lost in the timeline": sum(timeline["lost"]) if result.get("timeline") else None}


def check_losses(checks: Checks, case: Case, outcome: Outcome) -> None:
    """Each server's figures against the losses that it planted, or against zero."""
    for server in case.servers.split(","):
        got = got_from(case, outcome, server)
        planted = outcome.planted_by(server)
        expected = expected_of(case, planted) if server in peers.TEST_PEERS else dict(NOTHING_LOST)
        expected["printed"] = cell_of(expected)
        expected["sent, but neither answered, lost nor waiting, in a run"] = [0]
        expected["runs"] = case.runs
        if case.scenarios != "queue":  # has none
            expected["lost in the timeline"] = expected["lost_worst"]
        expected["unaccounted for by the server"] = 0
        got["unaccounted for by the server"] = sum(map(unaccounted, planted))
        checks.equal(f"{case.title}: {server}", expected, got, figures_text(got))
    checks.equal(f"{case.title}: nothing to remark", {"status": 0, "err": ""},
                 {"status": outcome.status, "err": outcome.err})


def figures_text(got: Figures) -> str:
    got = collections.defaultdict(int, got)
    text = "{sent} sent, {answered} answered, {lost} lost".format_map(got)
    if got["lost"]:
        text += (" ({lost_reset} reset, {lost_eof} end of file, {lost_truncated} truncated; {lost_on_reused} "
                 "reused; worst {lost_worst})").format_map(got)
    return text + (f", {got['waiting']} never answered" if got["waiting"] else "")


# Of every kind something must have been lost: a test without would prove little. Not in every case: where
# connections mostly rest, hanging up may find no request under way, and on a slow machine no download
# begins after the signal.
MUST_PLANT = {"bad-cut": ("reset", "eof", "truncated", "on_reused"),
              "bad-hang-up": ("eof", "truncated", "on_reused"),
              "bad-drop-queue": ("reset",), "bad-mute": ("muted",)}


MORE_DOWNLOADS = 5


def planted_sums(outcomes: list[Outcome], server: str) -> Figures:
    planted = [p for outcome in outcomes for p in outcome.planted_by(server)]
    return {kind: total(planted, kind) for kind in MUST_PLANT[server]}


def is_truncation_missing(outcomes: list[Outcome]) -> bool:
    """Only a download that was under way at the signal has one, and the instant of that is chance."""
    return planted_sums(outcomes, "bad-hang-up")["truncated"] == 0


def check_planted(checks: Checks, outcomes: list[Outcome]) -> None:
    for server in MUST_PLANT:
        sums = planted_sums(outcomes, server)
        checks.equal(f"all that {server} lost", {"none": []}, {"none": [k for k in sums if sums[k] == 0]},
                     ", ".join(f"{kind} {count}" for kind, count in sums.items()))


def check_queue(checks: Checks, case: Case, outcome: Outcome) -> None:
    check_losses(checks, case, outcome)
    sent = got_from(case, outcome, "bad-drop-queue").get("sent")
    checks.equal(f"{case.title}: all {QUEUED} of each run", {"sent": QUEUED * case.runs}, {"sent": sent})


# ---- what goes wrong ----


def check_told(checks: Checks, case: Case, outcome: Outcome, patterns: list[str]) -> None:
    """Each trouble in one line when it happens, and again at the end; nothing else on stderr. Runs that go side by
    side end in any order."""
    errors = outcome.errors()
    for pattern in patterns:
        line = next((error for error in errors if re.fullmatch(pattern, error)), "")
        checks.equal(f"{case.title}: one line", {"line": pattern}, {"line": pattern if line else errors}, line)
    checks.equal(f"{case.title}: no other, and all again at the end",
                 {"lines": len(patterns), "notes": errors},
                 {"lines": len(outcome.err.splitlines()), "notes": outcome.notes()})


def check_start(checks: Checks, case: Case, outcome: Outcome) -> None:
    check_told(checks, case, outcome, [
        "bad-start is skipped: exited while it started: bad: this one never starts",
        r"bad-port is skipped: exited while it started: bad: port \d+: Address already in use"])
    summary = outcome.result("keepalive", "bad-good").get("summary", {})
    checks.equal(f"{case.title}: the other ran", {"runs": case.runs, "lost": 0, "status": 0},
                 {**summary, "status": outcome.status})


def check_files(checks: Checks, case: Case, outcome: Outcome) -> None:
    check_told(checks, case, outcome, [
        rf"pause-50: {server}, run 1: the load client: lastcall-load: 128 connections: "
        r"the limit on open files is too low \(ulimit -n\)" for server in ("bad-good", "lastcall")])
    for server in ("bad-good", "lastcall"):
        checks.equal(f"{case.title}: {server} ran where the files were enough",
                     {"runs": case.runs, "lost": 0}, outcome.result("keepalive", server).get("summary", {}))
    checks.equal(f"{case.title}: the status says that lastcall was not measured wholly",
                 {"status": 69}, {"status": outcome.status})


def check_verdict(checks: Checks, case: Case, outcome: Outcome) -> None:
    """A lastcall that is bad-cut: the same figures, and the runner says so."""
    planted = outcome.planted_by("bad-cut")
    expected = expected_of(case, planted)
    checks.equal(f"{case.title}: counted", expected, got_from(case, outcome, "lastcall"))
    line = (f"lastcall: {expected['lost']} lost of {expected['sent']} requests in {case.runs} runs: "
            "NOT MET")
    checks.equal(f"{case.title}: said", {"status": 1, "line": True},
                 {"status": outcome.status, "line": line in outcome.out.splitlines()}, line)


def check_no_backend(checks: Checks, case: Case, outcome: Outcome) -> None:
    checks.equal(case.title, {"status": 69, "err": "drain: /bin/false, as the backend: exited while it "
                              "started: no output\n"}, {"status": outcome.status, "err": outcome.err},
                 outcome.err.strip())


# How a proxy may cut a connection to its upstream, and which count must show it.
REQUEST = b"GET /?ms=%d HTTP/1.1\r\nHost: a\r\n\r\n"
CUTS: dict[str, tuple[bytes, bool]] = {  # the bytes sent, and whether a reset or an end of file follows
    "cut_reset": (REQUEST % 3000, True), "cut_eof": (REQUEST % 3000, False),
    "cut_reset, in the head": (REQUEST[:9], True), "cut_eof, in the head": (REQUEST[:9], False),
    "cut_eof, in the body": (b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n12345", False),
    "reset_after": (REQUEST % 0, True), "nothing": (REQUEST % 0, False), "nothing, idle": (b"", False)}


def cut_one(port: int, said: bytes, is_reset: bool, is_answered: bool) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(said)
        if is_answered:
            sock.recv(1)  # the rest of it is not read: closing is a reset
            if not is_reset:
                sock.recv(65536)
        elif is_reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def check_upstream(checks: Checks, binary: Path) -> None:
    port, = peers.free_ports(1)
    expected = {key: 0 for key in ("cut_reset", "cut_eof", "reset_after", "refused")}
    with subprocess.Popen([binary, "--port", str(port)], stdin=subprocess.DEVNULL) as process:
        try:
            for _ in range(500):
                try:
                    http_get(port, "/upstream-stats")
                    break
                except OSError:
                    time.sleep(0.01)
            for i, (what, (said, is_reset)) in enumerate(CUTS.items()):
                for _ in range(i + 1):  # each a different number of times
                    cut_one(port, said, is_reset, said == REQUEST % 0)
                if (key := what.partition(",")[0]) in expected:
                    expected[key] += i + 1
            got = json.loads(http_get(port, "/upstream-stats")[1])
            checks.equal("the upstream's book", expected, got, str(got))
        finally:
            process.terminate()


def check_usage(checks: Checks, case: Case, outcome: Outcome) -> None:
    err = "drain: --servers: there is no nobody; there are " + ", ".join(peers.PEERS) + "\n"
    checks.equal(case.title, {"status": 64, "err": err}, {"status": outcome.status, "err": outcome.err})


# ---- all of it ----


LOSING_LASTCALL = """\
#!{python}
import os, sys
def value(name):
    return sys.argv[sys.argv.index(name) + 1]
if "--version" in sys.argv:
    sys.exit(print("lastcall 0.0"))
if "--help" in sys.argv:
    sys.exit(0)
os.execv("{python}", ["{python}", "{bad}", value("--listen").rpartition(":")[2], value("--root"), "cut"])
"""


def write_patient_lastcall(directory: Path, lastcall: Path) -> Path:
    """Where tests run side by side, a client may get no processor for a second, which is the idle grace: its connection
    is idle then, and what it sends afterwards is lost."""
    path = directory / "patient-lastcall"
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(str(lastcall.resolve()))} "$@" --idle-grace 20s\n')
    path.chmod(0o755)
    return path


def write_losing_lastcall(directory: Path) -> Path:
    path = directory / "losing-lastcall"
    path.write_text(LOSING_LASTCALL.format(python=sys.executable, bad=HERE.parent / "peers" / "programs" / "bad.py"))
    path.chmod(0o755)
    return path


def cases(losing: Path) -> list[Case]:
    load = "bad-good,bad-cut,bad-hang-up,lastcall"
    few = [Case("few open files", check_files, "pause-50,keepalive", "bad-good,lastcall", 2,
                few_files=True)]
    if can_raise_limits() and shutil.which("setpriv") is None:
        print("--   few open files: skipped, because root needs setpriv (util-linux) to lower the limit")
        few = []
    return [  # the longest first
        Case("never answered", check_losses, "keepalive", "bad-mute"),
        Case("new-connection", check_losses, "new-connection", load, 2),
        Case("keepalive", check_losses, "keepalive", load, 2),
        Case("slow-50", check_losses, "slow-50", "bad-cut,bad-hang-up,lastcall", 2),
        Case("pause-5", check_losses, "pause-5", "bad-cut,bad-hang-up,lastcall"),
        Case("post", check_losses, "post", "bad-cut,bad-hang-up,lastcall"),
        Case("queue", check_queue, "queue", "bad-good,bad-drop-queue,lastcall", 3),
        Case("servers that do not start", check_start, "keepalive", "bad-start,bad-port,bad-good"),
        *few,
        Case("a lastcall that loses", check_verdict, "keepalive", "lastcall",
             arguments=f"--lastcall {shlex.quote(str(losing))}"),
        Case("a backend that does not start", check_no_backend, arguments="--lastcall /bin/false"),
        Case("a server that does not exist", check_usage, servers="nobody"),
        Case("download", check_losses, "download", load, alone=True),
    ]


def check_case(checks: Checks, case: Case, outcome: Outcome) -> Outcome:
    failed = checks.failed
    case.check(checks, case, outcome)
    if checks.failed > failed:
        print("".join(f"     | {line}\n" for line in outcome.err.splitlines()), end="")
    sys.stdout.flush()
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description="Check drain.py against servers that lose on purpose.")
    parser.add_argument("--lastcall", type=Path, default=BUILD / "lastcall", metavar="FILE")
    parser.add_argument("--load", type=Path, default=BUILD / "lastcall-load", metavar="FILE")
    parser.add_argument("--upstream", type=Path, metavar="FILE", help="default: beside --load")
    options = parser.parse_args()
    options.upstream = options.upstream or options.load.parent / "lastcall-upstream"
    for binary in (options.lastcall, options.load, options.upstream):
        if not os.access(binary, os.X_OK):
            print(f"drain_selftest: {binary} is not there", file=sys.stderr)
            return 69
    checks = Checks()
    check_upstream(checks, options.upstream)
    with tempfile.TemporaryDirectory(prefix="lastcall-selftest-") as temp:
        options.lastcall = write_patient_lastcall(Path(temp), options.lastcall)
        every = cases(write_losing_lastcall(Path(temp)))
        together = [case for case in every if not case.alone]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            outcomes = [pool.submit(run_drain, case, options, Path(temp) / str(i))
                        for i, case in enumerate(together)]
            results = [check_case(checks, case, outcome.result()) for case, outcome in zip(together, outcomes)]
        for case in every:
            if case.alone:
                results.append(check_case(checks, case, run_drain(case, options, Path(temp) / "alone")))
        download = next(case for case in every if case.scenarios == "download")
        for again in range(MORE_DOWNLOADS):
            if not is_truncation_missing(results):
                break
            results.append(run_drain(download, options, Path(temp) / f"download-{again}"))
            download.check(checks, download, results[-1])
        check_planted(checks, results)
    print(f"drain_selftest: {'all as expected' if checks.failed == 0 else f'{checks.failed} are NOT'}")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
