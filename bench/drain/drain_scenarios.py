"""The scenarios of drain.py: a table, and the functions that run one.

A run function gets a running server and returns its figures. It calls `leave` when the clients are done, and
may then go on waiting for the exit.
"""

from __future__ import annotations

import collections
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import peers
from peer_server import Broken, Server, group_pids
from listener_watch import ListenerWatch

if TYPE_CHECKING:
    from drain_bench import Bench

EXIT_PATIENCE_S = 15.0  # then the server is killed, and shown as "> 15 s"
QUEUED = 20  # clients of the accept-queue test
SILENT = 10
GATHER_S = 2.0  # until 10,000 idle connections are open

Figures = dict[str, Any]


# ---- the scenarios ----


@dataclass(frozen=True)
class Scenario:
    """One shape of load. `ask` names a path in the server's Launch."""

    name: str
    title: str
    ask: str = "small"
    load: tuple[str, ...] = ()  # for lastcall-load
    slow_ms: int = 0
    warm_ms: tuple[int, int] = (200, 400)  # the signal is sent at a random instant between
    after_ms: int = 1400  # the clients disconnect this long after the signal; no server polls more slowly
    together: int = 1  # runs at once; more than one if the machine mostly waits
    idle: bool = False  # with 10,000 idle connections that have had one answer
    storm: float = 0.0  # open loop: this multiple of the capacity
    h2: bool = False
    tls: bool = False
    starved: bool = False
    kind: str = "load"

    @property
    def is_proxy(self) -> bool:
        """The server is a proxy to lastcall-upstream, one for each run."""
        return self.ask == "proxied"


def scenario_table() -> tuple[Scenario, ...]:
    def load(text: str) -> tuple[str, ...]:
        return tuple(text.split())

    return (
        Scenario("new-connection", "a new connection for every request",
                 load=load("--protocol close --connections 32")),
        Scenario("keepalive", "keep-alive, always busy", load=load("--connections 32")),
        Scenario("pause-5", "keep-alive, 5 ms between requests",
                 load=load("--connections 64 --pause 5ms")),
        Scenario("pause-50", "keep-alive, 50 ms between requests",
                 load=load("--connections 128 --pause 50ms")),
        Scenario("pause-300", "keep-alive, 300 ms between requests", together=2,
                 warm_ms=(300, 700), load=load("--connections 256 --pause 300ms")),
        Scenario("pause-2000", "keep-alive, 2 s between requests", after_ms=2500, together=5,
                 warm_ms=(300, 2300), load=load("--connections 128 --pause 2s")),
        Scenario("post", "POST of 1 kB, keep-alive", ask="post",
                 load=load("--connections 32 --method POST --body 1000")),
        Scenario("slow-50", "responses that take 50 ms", ask="slow", slow_ms=50,
                 load=load("--connections 48")),
        Scenario("slow-400", "responses that take 400 ms", ask="slow", slow_ms=400, together=3,
                 warm_ms=(200, 600), load=load("--connections 48")),
        Scenario("slow-2000", "responses that take 2 s", ask="slow", slow_ms=2000, after_ms=2300,
                 together=5, warm_ms=(200, 600), load=load("--connections 48")),
        Scenario("download", "downloads of 8 MB under way, 10 MB/s each", ask="large", together=2,
                 load=load("--connections 32 --read-rate 10000000")),
        Scenario("upload", "uploads of 4 MB under way, 5 MB/s each", ask="upload", together=2,
                 load=load("--connections 32 --method POST --body 4194304 --send-rate 5000000")),
        Scenario("http2", "HTTP/2, 8 streams a connection", h2=True,
                 load=load("--protocol h2 --connections 16 --streams 8")),
        Scenario("tls", "TLS, keep-alive, 5 ms between requests", tls=True, warm_ms=(500, 800),
                 load=load("--tls --connections 64 --pause 5ms")),
        Scenario("tls-new", "a new TLS connection for every request", tls=True, warm_ms=(500, 800),
                 load=load("--tls --protocol close --connections 16")),
        Scenario("tls-h2", "HTTP/2 over TLS, 8 streams a connection", h2=True, tls=True,
                 warm_ms=(500, 800), load=load("--tls --protocol h2 --connections 16 --streams 8")),
        Scenario("proxy-new", "reverse proxy, a new connection for every request", ask="proxied",
                 load=load("--protocol close --connections 32")),
        Scenario("proxy-keepalive", "reverse proxy, keep-alive", ask="proxied",
                 load=load("--connections 32")),
        Scenario("proxy-post", "reverse proxy, POST of 1 kB, keep-alive", ask="proxied",
                 load=load("--connections 32 --method POST --body 1000")),
        Scenario("idle-10k", "10,000 idle connections beside a busy keep-alive load", idle=True,
                 load=load("--connections 32")),
        Scenario("storm", "new connections, arriving at twice the capacity", storm=2.0,
                 load=load("--protocol close --connections 1000")),
        Scenario("queue", f"{QUEUED} requests in the accept queue of a stopped process",
                 kind="queue", together=2),
        Scenario("silent", f"{SILENT} connections that never send a byte", kind="silent",
                 together=24),
        Scenario("starved", "new connections, the server on one core with a busy neighbour",
                 starved=True, load=load("--protocol close --connections 16")),
        # restart.py measures restarts.
    )


# ---- the ways to run a scenario; each returns the figures of one run ----


def path_of(server: Server, scenario: Scenario) -> str:
    return getattr(server.launch, scenario.ask).format(ms=scenario.slow_ms)


def port_of(server: Server, scenario: Scenario) -> int:
    if scenario.tls:
        return server.site.tls_port
    return server.site.h2_port if scenario.h2 and server.launch.h2_on_own_port else server.site.port


def call_load(bench: Bench, server: Server, scenario: Scenario, extra: list[str], leave: Callable[[], None],
              leave_s: float) -> Figures:
    """Run the load client; call `leave` when its clients are done with the server."""
    client = subprocess.Popen(
        [str(bench.load), "--json", "--path", path_of(server, scenario), *scenario.load, *extra,
         f"127.0.0.1:{port_of(server, scenario)}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        timer = threading.Timer(leave_s, leave)
        timer.start()
        try:
            out, err = client.communicate(timeout=leave_s + EXIT_PATIENCE_S + 10)
        finally:
            timer.cancel()
    except subprocess.TimeoutExpired:
        raise Broken("the load client did not end") from None
    finally:
        if client.poll() is None:
            client.kill()
        client.wait()
        leave()
    if client.returncode not in (0, 1) or not out.startswith("{"):
        reason = (err.strip().splitlines() or ["no connect succeeded" if client.returncode == 69 else
                                               f"exit status {client.returncode}"])[-1]
        raise Broken(f"the load client: {reason}")
    return json.loads(out)


def run_load(bench: Bench, server: Server, scenario: Scenario, leave: Callable[[], None]) -> Figures:
    signal_ms = bench.instant(scenario)
    duration_ms = signal_ms + scenario.after_ms
    timeline = server.site.temp / "timeline"
    extra = ["--signal", f"{server.pid}:{signal_ms}ms:{server.peer.stop.name[3:]}",
             "--duration", f"{duration_ms}ms", "--timeline", str(timeline),
             "--patience", f"{int(EXIT_PATIENCE_S * 1000) - scenario.after_ms}ms"]
    if scenario.idle:
        extra += ["--idle", str(bench.options.idle)]
    if scenario.storm:
        extra += ["--rate", str(int(capacity(bench, server, scenario) * scenario.storm))]
    with ExitStack() as stack:
        if scenario.starved:
            stack.enter_context(BusyNeighbour())
        once = threading.Lock()

        def part() -> None:  # the neighbour ends when the clients disconnect
            with once:
                stack.close()
                leave()

        with ListenerWatch(server, port_of(server, scenario), signal_ms / 1000 - 0.05) as watch:
            got = call_load(bench, server, scenario, extra, part,
                            duration_ms / 1000 + (GATHER_S if scenario.idle else 0.05))
    if got["idle_failed"]:
        bench.problem(f"{scenario.name}: {server.peer.name} took only {got['idle_opened']} of "
                      f"{bench.options.idle} idle connections")
    figures = {key: got[key] for key in got
               if key not in ("wall_ms", "answered_per_s", "signal_monotonic_us")}
    figures["signal_at_ms"] = signal_ms
    gone = got["signal_to_gone_ms"]
    figures["exit_ms"] = gone
    figures["held"] = gone is None or gone > scenario.after_ms
    figures["lag_ms"] = exit_lag_ms(gone, got["last_answer_after_signal_us"] / 1000)
    figures["closed_ms"] = closed_ms(got, watch)
    figures["timeline"] = read_timeline(timeline)
    if figures["closed_ms"] is not None:
        marks = figures["timeline"]["marks"]
        marks["listener_closed"] = round(marks["signal"] + figures["closed_ms"], 3)
    return figures


def closed_ms(got: Figures, watch: ListenerWatch) -> float | None:
    """When the listener closed, after the signal. Without the time of the signal from the load client, compute
    it from the exit, which both saw; a busy client sees the exit late."""
    if watch.closed_at is None:
        return None
    if "signal_monotonic_us" in got:
        return max(0.0, watch.closed_at * 1000 - got["signal_monotonic_us"] / 1000)
    if watch.gone_at is None or got["signal_to_gone_ms"] is None:
        return None
    return max(0.0, got["signal_to_gone_ms"] - (watch.gone_at - watch.closed_at) * 1000)


def exit_lag_ms(gone: float | None, last_answer: float) -> float | None:
    """Both are times since the signal. Zero if the server exited before its clients had read everything: the
    kernel still delivers that."""
    return None if gone is None else max(0.0, gone - last_answer)


def read_timeline(path: Path) -> Figures:
    """Columns need a fifth of the space of rows."""
    columns: dict[str, list[float]] = {"t_ms": [], "answered": [], "lost": [], "refused": []}
    marks = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if "mark" in row:
            marks[row["mark"]] = row["t_ms"]
        elif "t_ms" in row:
            for name, column in columns.items():
                column.append(row[name])
    return {**columns, "marks": marks}


def capacity(bench: Bench, server: Server, scenario: Scenario) -> int:
    """Requests per second, each on a new connection; measured once for each server."""
    name = server.peer.name
    if name not in bench.capacity:
        got = call_load(bench, server, Scenario("capacity", "", load=("--protocol", "close",
                        "--connections", "64")), ["--duration", "400ms"], lambda: None, 0.4)
        bench.capacity[name] = max(100, got["answered_per_s"])
    return bench.capacity[name]


class BusyNeighbour:
    """A busy loop on the first core, where the server runs."""

    def __enter__(self) -> BusyNeighbour:
        self.process = subprocess.Popen(
            ["taskset", "-c", first_core(), sys.executable, "-c", "while True: pass"],
            stdin=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def first_core() -> str:
    return str(min(os.sched_getaffinity(0)))


def wait_for_exit(server: Server, since: float) -> float | None:
    """Milliseconds from `since` to the exit."""
    if server.is_gone(EXIT_PATIENCE_S - (time.monotonic() - since)):
        return (time.monotonic() - since) * 1000
    return None


def own_figures(sent: int, outcome: collections.Counter[str], exit_ms: float | None,
                lag_ms: float | None) -> Figures:
    lost = outcome["reset"] + outcome["eof"] + outcome["truncated"]
    return {"sent": sent, "answered": outcome["answered"], "refused": outcome["refused"],
            "lost": lost, "lost_reset": outcome["reset"], "lost_eof": outcome["eof"],
            "lost_truncated": outcome["truncated"], "waiting": outcome["waiting"],
            "exit_ms": exit_ms, "lag_ms": lag_ms, "held": False, "first_loss": ""}


def run_silent(bench: Bench, server: Server, scenario: Scenario, leave: Callable[[], None]) -> Figures:
    """Does the server wait for connections that send nothing?"""
    with ExitStack() as stack:
        for _ in range(SILENT):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.site.port)))
        time.sleep(bench.instant(scenario) / 1000)
        begin = time.monotonic()
        os.kill(server.pid, server.peer.stop)
        gone = wait_for_exit(server, begin)
    leave()
    return own_figures(0, collections.Counter(), gone, gone)


def run_queue(bench: Bench, server: Server, scenario: Scenario, leave: Callable[[], None]) -> Figures:
    """Requests in the accept queue when the server gets the signal."""
    time.sleep(bench.random.uniform(0, 0.1))
    server.signal_group(signal.SIGSTOP)
    wait_until_stopped(server)
    request = (f"GET {server.launch.small} HTTP/1.1\r\nHost: 127.0.0.1:{server.site.port}\r\n"
               "Connection: close\r\n\r\n").encode()
    outcome: collections.Counter[str] = collections.Counter()
    last = 0.0
    with selectors.DefaultSelector() as watch, ExitStack() as stack:
        for _ in range(QUEUED):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.site.port),
                                                                timeout=5))
            sock.sendall(request)
            sock.setblocking(False)
            watch.register(sock, selectors.EVENT_READ, bytearray())
        begin = time.monotonic()
        os.kill(server.pid, server.peer.stop)
        server.signal_group(signal.SIGCONT)
        while watch.get_map() and time.monotonic() - begin < EXIT_PATIENCE_S:
            for key, _ in watch.select(1):
                end = read_queued(key.fileobj, key.data)
                if end is None:
                    continue
                outcome[end] += 1
                watch.unregister(key.fileobj)
                if end == "answered":
                    last = time.monotonic()
        outcome["waiting"] = len(watch.get_map())
    leave()
    exit_ms = wait_for_exit(server, begin)
    lag = exit_ms if exit_ms is None or not last else max(0.0, exit_ms - (last - begin) * 1000)
    return own_figures(QUEUED, outcome, exit_ms, lag)


def read_queued(sock: Any, got: bytearray) -> str | None:
    """The outcome of the request; None: not known yet."""
    try:
        piece = sock.recv(65536)
    except BlockingIOError:
        return None
    except OSError:
        return "truncated" if got else "reset"
    got += piece
    head, gap, body = bytes(got).partition(b"\r\n\r\n")
    if gap and peers.HELLO in body:
        return "answered" if head[9:12] == b"200" else "truncated"
    return None if piece else "truncated" if got else "eof"


def wait_until_stopped(server: Server) -> None:
    for pid in group_pids(server.pid):
        for _ in range(200):
            try:
                with open(f"/proc/{pid}/stat") as file:
                    state = file.read().rpartition(")")[2].split()[0]
            except OSError:
                break
            if state in "TZ":
                break
            time.sleep(0.005)


KINDS = {"load": run_load, "queue": run_queue, "silent": run_silent}
