#!/usr/bin/env python3
"""Do h2o and lastcall answer alike, given the same configuration?

Starts both with each configuration of tests/differential/, A the packaged h2o and B `lastcall -c`, on
loopback; sends both the same requests over HTTP/1.1 and HTTP/2, with TLS and without; and compares all
that comes back: status lines, headers, bodies, how connections end, at last the access logs. Then both
look at configurations good and bad (`-t -c`), and must come to the same verdict.

What may differ is listed in compare.py (ALLOWED), with the reason.

    differential.py --lastcall build/release/lastcall

Exit status: 0 no difference; 1 some; 64 wrong usage; 69 something did not work that is neither server's
fault; 77 h2o, curl or openssl is not installed (ctest: skipped).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Callable, NoReturn, Sequence

import cases as requests
import clients
import compare
import fixtures
import servers
import upstream
from cases import Case, Check, Handshake, Raw
from clients import Exchange
from compare import Difference
from servers import Server

EXIT_DIFFERENT, EXIT_BROKEN, EXIT_MISSING = 1, 69, 77
SEARCH = "/usr/local/sbin:/usr/sbin:/sbin"
# Requests a curl, for HTTP/2 with TLS. Without, curl 7.88 fails on a connection that it uses again, so every
# request costs a process; and as all of them go over TLS, a part of them is enough.
CURL_CASES = 25
CLEAR_EVERY = 3
THREADS = 24
CHECK_S = 60
WHOLE_S = 240.0  # far more than it takes; a minute on two busy cores
BLOCKS_MOST = 60  # of differences that are printed; the count has all
HERE = Path(__file__).resolve().parent
# With --self-test, B gets this configuration changed, and the differences it must lead to are looked for.
CHANGED = ("files", "text/x-note", "text/x-changed", r"/types/add/note\.txt")


class Tally:
    """What was compared and what differed; filled by several threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.comparisons: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()  # both sides; equal silence proves less
        self.blocks: list[tuple[str, str]] = []
        self.allowed: Counter[str] = Counter()
        self.allowed_marks: set[tuple[str, str]] = set()  # configuration, and the mark in its access log

    def add(self, kind: str, title: str, found: list[Difference], count: int = 1, mark: str = "") -> None:
        entry = compare.allowed_by(title, found) if found else None
        with self.lock:
            self.comparisons[kind] += count
            if entry is not None:
                self.allowed[entry.reason] += 1
                self.allowed_marks.add((title.partition(":")[0], mark))
            elif found:
                self.blocks.append((kind, compare.block(title, kind, found)))

    def add_exchange(self, pair: tuple[Server, Server], transport: str, name: str, a: Exchange, b: Exchange,
                     at_least_s: float = 0.0, mark: str = "") -> None:
        if a.answers and b.answers:
            with self.lock:
                self.answered[transport] += 1
        self.add(transport, f"{pair[0].config}: {name}", compare.compare(pair, a, b, at_least_s), mark=mark)


# ---- running the requests ----


def jobs(pairs: dict[str, tuple[Server, Server]], tally: Tally, temp: Path,
         chosen: Callable[[str, str], bool]) -> list[Callable[[], None]]:
    """One for every exchange, or every curl. What takes longest comes first."""
    both = [case for case in requests.all_requests() if case.config in pairs and chosen(case.config, case.name)]
    slow: list[Callable[[], None]] = []
    quick: list[Callable[[], None]] = []
    for case in both:
        pair = pairs[case.config]
        if isinstance(case, Raw):
            slow.append(lambda case=case, pair=pair: raw_job(pair, case, tally))  # type: ignore[misc]
        elif isinstance(case, Handshake):
            quick.append(lambda case=case, pair=pair: handshake_job(pair, case, tally))  # type: ignore[misc]
    for config, pair in pairs.items():
        own = [case for case in both if isinstance(case, Case) and case.config == config]
        for number, case in enumerate(own):
            for tls in ((False,) if case.port else (False, True)):
                quick.append(lambda case=case, pair=pair, tls=tls, number=number:  # type: ignore[misc]
                             h1_job(pair, case, tls, number, tally))
        marked = [(number, case) for number, case in enumerate(own) if case.h2 and not case.port]
        for transport, step, size in ((clients.H2, CLEAR_EVERY, 1), (clients.H2_TLS, 1, CURL_CASES)):
            some = marked[::step]
            for begin in range(0, len(some), size):
                part = some[begin:begin + size]
                folder = temp / "curl" / f"{config}-{begin}-{transport.replace(' ', '-').replace('/', '')}"
                slow.append(lambda part=part, pair=pair, transport=transport, folder=folder:  # type: ignore[misc]
                            h2_job(pair, part, transport, folder, tally))
    return slow + quick


def h1_job(pair: tuple[Server, Server], case: Case, tls: bool, number: int, tally: Tally) -> None:
    transport = clients.H1_TLS if tls else clients.H1
    server_case = case if case.port else Case(**{**case.__dict__, "port": "TLS" if tls else "CLEAR"})
    mark = f"{transport.replace(' ', '-')}:{number}"
    a, b = (clients.run_h1(server, server_case, tls, mark) for server in pair)
    name = case.name + (f" (listener {case.port})" if case.port else "")
    tally.add_exchange(pair, transport, name, a, b, case.at_least_s, mark)


def h2_job(pair: tuple[Server, Server], part: Sequence[tuple[int, Case]], transport: str, folder: Path,
           tally: Tally) -> None:
    marked = [(case, f"{transport.replace(' ', '-')}:{number}") for number, case in part]
    sides = [clients.run_curl(server, marked, transport, folder / server.side) for server in pair]
    for (case, mark), a, b in zip(marked, *sides):
        tally.add_exchange(pair, transport, case.name, a, b, case.at_least_s, mark)


def raw_job(pair: tuple[Server, Server], case: Raw, tally: Tally) -> None:
    port = case.port or ("TLS" if case.tls else "CLEAR")
    placed = Raw(**{**case.__dict__, "port": port})
    a, b = (clients.run_raw(server, placed) for server in pair)
    tally.add_exchange(pair, "raw bytes" + (" over TLS" if case.tls else ""), case.name, a, b)


def handshake_job(pair: tuple[Server, Server], case: Handshake, tally: Tally) -> None:
    a, b = (clients.run_handshake(server, case) for server in pair)
    tally.add_exchange(pair, "TLS handshake", case.name, a, b)


# ---- configurations that are only checked ----


def check_job(binaries: tuple[str, str], check: Check, number: int, temp: Path, tally: Tally) -> None:
    """The same exit status, and when it is refused, a line that h2o names, too (it names warnings as well)."""
    folder = temp / "checks"
    conf = folder / f"{number}.conf"
    conf.write_text(check.text.replace("@TMP@", str(temp)), encoding="utf-8")
    verdicts = []
    for binary in binaries:
        done = subprocess.run([binary, "-t", "-c", str(conf)], cwd=folder, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=CHECK_S, check=False)
        said = done.stdout.decode(errors="replace")
        lines = set(re.findall(re.escape(conf.name) + r"(?::| line )(\d+)", said))
        verdicts.append((done.returncode, lines, said.strip()))
    (status_a, lines_a, said_a), (status_b, lines_b, said_b) = verdicts
    found: list[Difference] = []
    if status_a != status_b:
        found.append(Difference("exit status", f"{status_a}, {said_a}", f"{status_b}, {said_b}"))
    elif status_a != 0 and check.line and lines_a and not lines_a & lines_b:
        found.append(Difference("line", said_a, said_b))
    tally.add("-t -c FILE", f"configuration check: {check.name}", found)


# ---- the whole ----


def find(name: str, given: str | None) -> str | None:
    if given is not None:
        return shutil.which(given)
    return shutil.which(name) or shutil.which(name, path=SEARCH)


def leave(*_: object) -> NoReturn:
    """On SIGTERM, as on Ctrl+C: leave through the `finally` that ends the servers."""
    raise KeyboardInterrupt


def start(options: argparse.Namespace, temp: Path, shared: dict[str, object], started: list[Server],
          tally: Tally) -> dict[str, tuple[Server, Server]]:
    """Starts all servers, and returns the pairs of which both accept."""
    pairs: dict[str, tuple[Server, Server]] = {}
    for config in options.config or servers.CONFIGS:
        pair = tuple(servers.make_server(side, config, binary, temp, shared)
                     for side, binary in (("A", options.h2o), ("B", options.lastcall)))
        if options.self_test and config == CHANGED[0]:
            text = pair[1].conf.read_text(encoding="utf-8")
            assert CHANGED[1] in text
            pair[1].conf.write_text(text.replace(CHANGED[1], CHANGED[2]), encoding="utf-8")
        for server in pair:
            server.start()
            started.append(server)
        pairs[config] = pair  # type: ignore[assignment]
    for config, pair in list(pairs.items()):
        verdicts = [server.wait_ready() for server in pair]
        if verdicts[0] is not None:
            raise RuntimeError(f"h2o does not start with {config}.conf: {verdicts[0]}")
        tally.add("start", f"{config}: starts",
                  [Difference("start", "accepts", verdicts[1])] if verdicts[1] is not None else [])
        if verdicts[1] is not None:
            del pairs[config]
    return pairs


def run(options: argparse.Namespace, temp: Path, tally: Tally) -> None:
    fixtures.make_documents(temp / "docs")
    fixtures.make_certificates(temp)
    (temp / "checks").mkdir()
    (temp / "docs" / "note.yaml").write_text("file.dir: /tmp\n", encoding="utf-8")
    behind = upstream.Upstream(temp)
    started: list[Server] = []
    matches = re.compile(options.only or "")

    def chosen(config: str, name: str) -> bool:
        return matches.search(f"{config}: {name}") is not None

    try:
        shared = {"UPSTREAM": behind.port, "UPSTREAMTLS": behind.tls_port, "CLOSED": servers.free_ports(1)[0]}
        pairs = start(options, temp, shared, started, tally)
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            todo = [pool.submit(job) for job in jobs(pairs, tally, temp, chosen)]
            binaries = (options.h2o, options.lastcall)
            todo += [pool.submit(check_job, binaries, check, number, temp, tally)
                     for number, check in enumerate(requests.checks())
                     if not options.config and chosen("configuration check", check.name)]
            try:
                for done in concurrent.futures.as_completed(todo, WHOLE_S):
                    done.result()
            except TimeoutError as error:
                pool.shutdown(wait=False, cancel_futures=True)
                raise RuntimeError(f"not done after {WHOLE_S:.0f} s") from error
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        for server in started:
            server.begin_stop()
        for server in started:
            server.finish_stop()
        behind.close()
    for config, (_, server) in pairs.items():
        # h2o may wait for unused connections longer than this program does. lastcall must not.
        tally.add("stop", f"{config}: stops", [] if server.stopped == "exit status 0" else [
            Difference("end of the process", "(not compared)", f"{server.stopped}: {server.complaint()}")])
    for pair in pairs.values():
        for log in ("access.log", "host.log", "combined.log"):
            if any((server.logs / log).exists() for server in pair):
                log_job(pair, log, tally)


def log_job(pair: tuple[Server, Server], log: str, tally: Tally) -> None:
    sides = [compare.plain_log(server, log) for server in pair]
    if log == "combined.log":  # its format has the time in it
        sides = [[re.sub(r"\[\d\d/\w+/\d{4}:\d\d:\d\d:\d\d [-+]\d{4}\]", "[NOW]", line) for line in side]
                 for side in sides]
    count, found = compare.compare_logs(*sides)
    tally.add("access log", "", [], count)
    for mark, differences in found:
        if (pair[0].config, mark) not in tally.allowed_marks:
            tally.add("access log", f"{pair[0].config}/{log}: {mark}", differences, 0)


def report(tally: Tally, took_s: float, blocks_most: int) -> int:
    blocks = sorted(tally.blocks, key=lambda entry: entry[1])
    for _, text in blocks[:blocks_most]:
        print(text + "\n")
    if len(blocks) > blocks_most:
        print(f"({len(blocks) - blocks_most} more differences are not printed; --all prints them)\n")
    differing = Counter(kind for kind, _ in blocks)
    for kind, count in sorted(tally.comparisons.items()):
        answered = f", {tally.answered[kind]} answered" if kind in tally.answered else ""
        print(f"  {kind:20} {count:5} compared, {differing[kind]} different{answered}")
    for reason, count in tally.allowed.items():
        print(f"  allowed ({count}): {reason}")
    print(f"  in {took_s:.1f} s")
    print(f"differential: {tally.comparisons.total()} comparisons, {len(blocks)} differences")
    return EXIT_DIFFERENT if blocks else 0


def self_test(tally: Tally) -> int:
    """Only what was changed may differ, and over every transport it must."""
    hits = [kind for kind, text in tally.blocks if re.search(CHANGED[3], text)]
    others = len(tally.blocks) - len(hits)
    missing = [kind for kind in (*clients.TRANSPORTS, "access log") if kind not in hits]
    print(f"self-test: {len(hits)} differences of the one change, {others} others"
          + (f"; not seen over {', '.join(missing)}" if missing else ""))
    return 1 if missing else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares lastcall -c with h2o on the same configurations.")
    parser.add_argument("--lastcall", metavar="PATH", required=True, help="B: called with -c FILE")
    parser.add_argument("--h2o", metavar="PATH", help="A (default: h2o in PATH, or in the sbin directories)")
    parser.add_argument("--config", action="append", choices=servers.CONFIGS, help="only this one; repeatable")
    parser.add_argument("--only", metavar="REGEX", help="only requests whose title (as printed) matches")
    parser.add_argument("--all", action="store_true", help=f"print more than {BLOCKS_MOST} differences")
    parser.add_argument("--keep", action="store_true", help="keep the files of the run, and say where")
    parser.add_argument("--self-test", action="store_true",
                        help="change one line of one configuration for B, and expect that to be noticed")
    try:
        options = parser.parse_args()
    except SystemExit as wrong:
        return 64 if wrong.code else 0
    for name, given in (("h2o", options.h2o), ("curl", None), ("openssl", None)):
        path = find(name, given)
        if path is None:
            print(f"skipped: needs {given or name} (scripts/setup.sh ci)")
            return EXIT_MISSING
        setattr(options, name, path)
    lastcall = shutil.which(options.lastcall)
    if lastcall is None:
        print(f"differential: {options.lastcall} is not a program", file=sys.stderr)
        return 64
    options.lastcall = str(Path(lastcall).resolve())
    signal.signal(signal.SIGTERM, leave)
    temp = Path(tempfile.mkdtemp(prefix="differential-"))
    temp.chmod(0o755)
    tally, began = Tally(), time.monotonic()
    try:
        run(options, temp, tally)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"differential: {error}", file=sys.stderr)
        return EXIT_BROKEN
    except KeyboardInterrupt:
        return EXIT_BROKEN
    finally:
        if options.keep:
            print(f"kept: {temp}")
        else:
            shutil.rmtree(temp, ignore_errors=True)
    status = report(tally, time.monotonic() - began, len(tally.blocks) if options.all else BLOCKS_MOST)
    return self_test(tally) if options.self_test else status


if __name__ == "__main__":
    sys.exit(main())
