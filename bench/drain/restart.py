#!/usr/bin/env python3
"""What does a restart cost the clients?

For every shape of load and every server: one run without a restart, and runs in which the server restarts
several times, each server in its own way (by SIGHUP or its equivalent). Idle keep-alive connections that have
had one answer are open beside the load. lastcall-load reports the requests lost, the connects refused, the
connections that it opened again, the idle connections that the server closed, and the latency (p99 and worst)
with and without restarts. "near" is the p99 of the answers within a second of a restart, "far" that of the other
answers of the same runs, except for the first 200 ms. For these two use a longer time between restarts: --every 3.

peers.py starts the servers; this file has the changes for restarts, and triggers them.

Exit status: 0 lastcall lost, refused and closed nothing; 1 it did; 64 wrong usage; 69 nothing could be run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import peers
from peer_server import Broken, Server
from peers import Launch, Missing, Site

BUILD = Path(__file__).resolve().parents[2] / "build" / "release"
SHAPES = {
    "new": ("a new connection for every request", "--protocol close --connections 32", "small"),
    "keepalive": ("keep-alive, always busy", "--connections 64", "small"),
    "pause-5": ("keep-alive, 5 ms between requests", "--connections 64 --pause 5ms", "small"),
    "pause-300": ("keep-alive, 300 ms between requests", "--connections 256 --pause 300ms", "small"),
    "many": ("1,000 connections, keep-alive, always busy", "--connections 1000", "small"),
    "pause-5s": ("1,000 connections, keep-alive, 5 s between requests", "--connections 1000 --pause 5s", "small"),
    "proxy": ("through a proxy, keep-alive, 5 ms between requests", "--connections 64 --pause 5ms", "proxied"),
    "post": ("POST of 1 kB, keep-alive", "--connections 32 --method POST --body 1000", "post"),
    "tls": ("TLS, keep-alive, 5 ms between requests", "--tls --resume --connections 64 --pause 5ms", "small"),
    "http2": ("HTTP/2, 8 streams a connection", "--protocol h2 --connections 16 --streams 8", "small"),
}
FIRST_S = 0.5
NEAR_MS, SETTLED_MS, WINDOW_MS = 1000, 200, 100


# ---- the servers ----


@dataclass(frozen=True)
class Restarted:
    """A server of peers.py, started so that it can be restarted, and how that is asked of it."""

    name: str
    peer: str
    prepare: Callable[[Launch, Site], Launch]
    restart: Callable[[Server], None]


def same(launch: Launch, _: Site) -> Launch:
    return launch


def hup(server: Server) -> None:
    os.kill(server.pid, signal.SIGHUP)


def pid_in(path: Path) -> int:
    return int(path.read_text().split()[0])


def with_pid_file(launch: Launch, site: Site) -> Launch:
    launch.argv += ["--pid-file", str(site.temp / "pid"), "--restart-probation", "100ms"]
    return launch


def hup_serving_process(server: Server) -> None:
    os.kill(pid_in(server.site.temp / "pid"), signal.SIGHUP)


def as_master(launch: Launch, _: Site) -> Launch:
    launch.argv += ["-m", "master", "--restart-probation", "100ms"]
    return launch


def under_starter(launch: Launch, site: Site) -> Launch:
    """Like h2o -m master: start_server opens the ports."""
    starter = Path("/usr/share/h2o/start_server")
    if not starter.exists():
        raise Missing(f"{starter} is not there (Debian: h2o)")
    ports = [f"--port=127.0.0.1:{port}" for port in (site.port, site.tls_port) if port]
    launch.argv = [str(starter), *ports, "--", *launch.argv]
    return launch


def without_parent(launch: Launch, _: Site) -> Launch:
    """nginx ignores USR2 while its parent process lives; it stays in our process group."""
    launch.argv = ["sh", "-c", '("$@" & sleep 0.5); exec sleep 1000', "sh", *launch.argv]
    return launch


def upgrade_nginx(server: Server) -> None:
    """USR2 to the master, and when the new master has its workers, QUIT to the old one."""
    pid_file = server.site.temp / "nginx.pid"
    old = pid_in(pid_file)
    os.kill(old, signal.SIGUSR2)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if (server.site.temp / "nginx.pid.oldbin").exists() and pid_file.exists():
            time.sleep(0.1)  # nginx does not report that its workers are ready
            os.kill(old, signal.SIGQUIT)
            return
        time.sleep(0.01)
    raise Broken("nginx did not start its successor")


def as_master_worker(launch: Launch, _: Site) -> Launch:
    launch.argv.insert(1, "-W")
    return launch


def with_admin(launch: Launch, site: Site) -> Launch:
    """The h2 port is free: caddy has none of its own."""
    path = site.temp / "Caddyfile"
    path.write_text(path.read_text().replace("admin off", f"admin 127.0.0.1:{site.h2_port}"))
    return launch


def load_caddy(server: Server) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.site.h2_port}/load", method="POST",
        data=(server.site.temp / "Caddyfile").read_bytes(),
        headers={"Content-Type": "text/caddyfile", "Cache-Control": "must-revalidate"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        answer.read()


def send(number: signal.Signals) -> Callable[[Server], None]:
    return lambda server: os.kill(server.pid, number)


SERVERS = {s.name: s for s in (
    Restarted("lastcall", "lastcall", with_pid_file, hup_serving_process),
    Restarted("lastcall-master", "lastcall", as_master, hup),
    Restarted("nginx", "nginx", same, hup),
    Restarted("nginx-usr2", "nginx", without_parent, upgrade_nginx),
    Restarted("haproxy", "haproxy", as_master_worker, send(signal.SIGUSR2)),
    Restarted("h2o", "h2o", under_starter, hup),
    Restarted("caddy", "caddy", with_admin, load_caddy),
    Restarted("apache", "apache", same, send(signal.SIGUSR1)),
)}


# ---- runs ----


class Runner:
    def __init__(self, options: argparse.Namespace, temp: Path) -> None:
        self.options, self.temp, self.serial = options, temp, 0
        self.lastcall = Path(shutil.copy2(options.lastcall, temp / "lastcall"))
        self.load = Path(shutil.copy2(options.load, temp / "lastcall-load"))
        self.cert, self.key = temp / "tls.pem", temp / "tls.pem.key"
        peers.make_root(temp / "root")
        peers.make_certificate(self.cert, self.key)
        site = self.site("backend", 0, False)
        launch = Launch([str(self.lastcall), "--quiet", "--listen", f"127.0.0.1:{site.port}",
                         "--workers", "128", "--root", str(site.root)], small="/hello")
        self.backend = Server(peers.PEERS["lastcall"], launch.argv, launch, site)
        self.backend.wait_until_up()
        site = self.site("upstream", 0, False)
        launch = Launch([str(BUILD / "lastcall-upstream"), "--port", str(site.port)], small="/hello")
        self.upstream = Server(peers.PEERS["lastcall"], launch.argv, launch, site)
        self.upstream.wait_until_up()

    def end(self) -> None:
        self.upstream.end()
        self.backend.end()

    def site(self, name: str, backend: int, tls: bool, proxies: bool = False) -> Site:
        self.serial += 1
        temp = self.temp / f"{name}-{self.serial}"
        temp.mkdir()
        temp.chmod(0o777)
        port, h2_port, tls_port = peers.free_ports(3)
        return Site(temp, self.temp / "root", port, h2_port, backend, self.lastcall, BUILD / "peers",
                    tls_port if tls else 0, self.cert, self.key, proxies=proxies)

    def start(self, server: Restarted, tls: bool, proxies: bool) -> Server:
        peer = peers.ALL[server.peer]
        program = peers.program_of(peer, self.lastcall)
        behind = self.upstream if proxies else self.backend
        site = self.site(server.name, behind.site.port, tls, proxies)
        launch = server.prepare(peer.launch(program, site), site)
        started = Server(peer, launch.argv, launch, site)
        try:
            started.wait_until_up()
            # start_server reads no signal before; and nginx's parent has to be gone
            time.sleep({"h2o": 1.2, "nginx-usr2": 0.7}.get(server.name, 0.1))
        except Broken:
            started.end()
            raise
        return started

    def one(self, server: Restarted, shape: str, restarts: int) -> dict[str, Any]:
        _, load, ask = SHAPES[shape]
        every = self.options.every
        running = self.start(server, "--tls" in load, ask == "proxied")
        try:
            site, launch = running.site, running.launch
            port = (site.tls_port if "--tls" in load else
                    site.h2_port if "h2" in load and launch.h2_on_own_port else site.port)
            lasts = max(FIRST_S + every * self.options.restarts, 1.3 * pause_s(load))
            took, told = running.site.temp / "latencies", []
            idle = [] if "--tls" in load or "h2" in load else ["--idle", str(self.options.idle)]
            client = subprocess.Popen(
                [str(self.load), "--json", "--path", getattr(launch, ask), *load.split(), *idle,
                 "--duration", f"{int(lasts * 1000)}ms", "--patience", "12s",
                 "--latencies", str(took), f"127.0.0.1:{port}"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            begun = time.monotonic()
            try:
                for i in range(restarts):
                    time.sleep(max(0.0, begun + FIRST_S + i * every - time.monotonic()))
                    told.append(time.monotonic_ns())
                    server.restart(running)
                out, err = client.communicate(timeout=60)
            finally:
                if client.poll() is None:
                    client.kill()
                    client.wait()
            if client.returncode not in (0, 1):
                raise Broken(f"the load client: {(err.strip().splitlines() or ['no word'])[-1]}")
            near, far = near_and_far(took, told)
            return {**json.loads(out), "near": near, "far": far}
        finally:
            running.signal_group(signal.SIGKILL)
            running.process.wait()
            os.close(running.pidfd)
            shutil.rmtree(running.site.temp, ignore_errors=True)


def pause_s(load: str) -> float:
    """So that each pausing client sends at least once after a restart."""
    found = re.search(r"--pause (\d+)(ms|s)", load)
    return int(found[1]) * (0.001 if found[2] == "ms" else 1.0) if found else 0.0


def near_and_far(took: Path, told_ns: list[int]) -> tuple[Counter[int], Counter[int]]:
    """Latencies in microseconds and their counts: of answers within a second of a restart, and of the others."""
    near: Counter[int] = Counter()
    far: Counter[int] = Counter()
    start, *windows = map(json.loads, took.read_text().splitlines())
    for window in windows:
        at_ms = window["t_ms"]
        since_ms = [at_ms - (told - start["start_ns"]) / 1e6 for told in told_ns]
        if any(-WINDOW_MS < since < NEAR_MS for since in since_ms):
            near.update(dict(window["us"]))
        elif at_ms >= SETTLED_MS:
            far.update(dict(window["us"]))
    return near, far


def p99(us: Counter[int]) -> int:
    rank, seen = us.total() * 0.99, 0
    for value in sorted(us):
        seen += us[value]
        if seen >= rank:
            return value
    return 0


def figures(got: dict[str, Any], shape: str, restarts: int) -> dict[str, Any]:
    connections = int(SHAPES[shape][1].split("--connections ")[1].split()[0])
    again = 0 if "protocol close" in SHAPES[shape][1] else max(0, got["connects"] - connections)
    return {"sent": got["sent"], "lost": got["lost"] + got["waiting"],
            "refused": got["refused"] + got["failed_handshakes"], "reconnects": again,
            "idle_closed": got.get("idle_closed", 0), "p99_us": got["latency_p99_us"],
            "max_us": got["latency_max_us"], "restarts": restarts, "near": got["near"], "far": got["far"]}


def measure(runner: Runner, server: Restarted, shape: str) -> dict[str, Any]:
    alone = figures(runner.one(server, shape, 0), shape, 0)
    runs = [figures(runner.one(server, shape, runner.options.restarts), shape, runner.options.restarts)
            for _ in range(runner.options.runs)]
    result = {key: sum(run[key] for run in runs)
              for key in ("sent", "lost", "refused", "reconnects", "idle_closed", "restarts")}
    middle = sorted(runs, key=lambda run: run["p99_us"])[len(runs) // 2]
    return {"server": server.name, "shape": shape, **result, "p99_us": middle["p99_us"],
            "max_us": max(run["max_us"] for run in runs), "alone_p99_us": alone["p99_us"],
            "alone_max_us": alone["max_us"],
            "near_us": p99(sum((run["near"] for run in runs), Counter())),
            "far_us": p99(sum((run["far"] for run in runs), Counter()))}


# ---- output ----


HEADINGS = ("shape", "server", "sent", "lost", "refused", "reconnects", "idle closed", "p99 ms", "alone",
            "worst ms", "alone", "near ms", "far")


def row_of(r: dict[str, Any]) -> tuple[str, ...]:
    return (r["shape"], r["server"], str(r["sent"]), str(r["lost"]), str(r["refused"]),
            str(r["reconnects"]), str(r["idle_closed"]), f"{r['p99_us'] / 1000:.2f}",
            f"{r['alone_p99_us'] / 1000:.2f}", f"{r['max_us'] / 1000:.1f}", f"{r['alone_max_us'] / 1000:.1f}",
            f"{r['near_us'] / 1000:.2f}", f"{r['far_us'] / 1000:.2f}")


def print_rows(results: list[dict[str, Any]]) -> None:
    rows = [HEADINGS, *map(row_of, results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    for row in rows:
        print("  ".join([row[0].ljust(widths[0]), row[1].ljust(widths[1]),
                         *map(str.rjust, row[2:], widths[2:])]))


def draw(path: Path, results: list[dict[str, Any]]) -> None:
    """Bars for each server: the sums over all shapes, on a logarithmic scale from 0.5 up. Zero has no bar."""
    names = list(dict.fromkeys(r["server"] for r in results))
    kinds = ("lost", "refused", "reconnects", "idle_closed")
    lines = [" ".join([f'"{name}"', *(str(sum(r[kind] for r in results if r["server"] == name))
                                      for kind in kinds)]) for name in names]
    script = "\n".join([
        "set terminal svg size 900,360 font 'sans,12'", f"set output '{path}'",
        "set style data histograms", "set style histogram clustered gap 2", "set style fill solid 0.9",
        "set logscale y", "set yrange [0.5:*]", "set grid y", "set key outside top horizontal",
        "set title 'effects of the restarts on clients, all shapes (no bar: 0)'",
        "$data << END", *lines, "END",
        "plot " + ", ".join(f"$data using {i + 2}{':xtic(1)' if i == 0 else ''} "
                            f"title '{kind.replace('_', ' ')}'" for i, kind in enumerate(kinds))])
    done = subprocess.run(["gnuplot"], input=script, text=True, capture_output=True)
    if done.returncode != 0:
        print(f"restart: no picture: {(done.stderr.strip().splitlines() or ['gnuplot'])[-1]}",
              file=sys.stderr)


# ---- the command ----


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Restart servers under load, and count the effects on the clients.")
    parser.add_argument("--runs", type=int, default=1, help="so many runs each (default: 1)")
    parser.add_argument("--restarts", type=int, default=3, help="in each run (default: 3)")
    parser.add_argument("--every", type=float, default=1.2, metavar="SECONDS",
                        help="from one restart to the next (default: 1.2, since start_server waits for a second)")
    parser.add_argument("--idle", type=int, default=200, help="idle connections beside the load")
    parser.add_argument("--servers", default=",".join(SERVERS))
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="the chart; needs gnuplot")
    parser.add_argument("--lastcall", type=Path, default=BUILD / "lastcall")
    parser.add_argument("--load", type=Path, default=BUILD / "lastcall-load")
    options = parser.parse_args()
    options.servers, options.shapes = options.servers.split(","), options.shapes.split(",")
    for what, table in ((options.servers, SERVERS), (options.shapes, SHAPES)):
        for name in what:
            if name not in table:
                print(f"restart: there is no {name}; there are {', '.join(table)}", file=sys.stderr)
                sys.exit(64)
    return options


def main() -> int:
    options = parse()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="lastcall-restart-") as directory:
        os.chmod(directory, 0o755)
        runner = Runner(options, Path(directory))
        try:
            for shape in options.shapes:
                for name in options.servers:
                    try:
                        results.append(measure(runner, SERVERS[name], shape))
                        print(" ".join(row_of(results[-1])), file=sys.stderr, flush=True)
                    except (Broken, Missing, OSError) as error:
                        print(f"restart: {shape}: {name} is skipped: {error}", file=sys.stderr)
        finally:
            runner.end()
    if not results:
        return 69
    print_rows(results)
    if options.json:
        options.json.write_text(json.dumps({"format": 2, "results": results}, indent=1) + "\n")
    if options.svg:
        draw(options.svg, results)
    mine = [r for r in results if r["server"].startswith("lastcall")]
    return int(any(r["lost"] or r["refused"] or r["idle_closed"] for r in mine))


if __name__ == "__main__":
    sys.exit(main())
