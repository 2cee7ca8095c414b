#!/usr/bin/env python3
"""Three lastcalls behind a proxy are stopped and restarted in turn. What do the clients notice?

In front: lastcall, nginx or HAProxy, one after the other, each with the same three members and the same load: GET and
POST over kept connections (lastcall-load), and WebSocket clients that connect again when they get Close 1001
(websocket.py). The WebSocket server stands behind the members, and is not stopped.

A step takes one member. In turn, each of the three is stopped (SIGTERM; it drains and exits; --down later it is started
again), and then each is restarted in place (SIGHUP). The next step begins when the member is back, --every later.

  - lost: the request was written whole, and there was no whole answer;
  - failed: it was answered, but not with 2xx; a WebSocket handshake: not with 101;
  - cut: WebSocket connections that ended without a Close.

HAProxy checks the health of the members, because its servers are "up" forever without checks; --checks has lastcall check
them, too. nginx has no checks. All keep connections to the members.

Exit status: 0 nothing was lost, failed or cut with lastcall in front; 1 something was; 64 wrong usage; 69 nothing could
be run.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import peers
from peer_server import Broken, Server, http_get
from peers import Launch, Missing, Site

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "release"
MEMBERS = 3
WAIT_S = 30.0

MEMBER = """\
listen: {{host: 127.0.0.1, port: {port}}}
num-threads: 1
restart: {{probation: 100ms}}
drain: {{deadline: 10s, lame-duck: {lame_duck}ms, deadlines: {{tunnel: 3s}}}}
hosts:
  default:
    paths:
      /: {{handler: hello}}
      /ready: {{handler: ready}}
      /ws:
        proxy.websocket: ON
        proxy.reverse.url: "http://127.0.0.1:{echo}/"
"""

LASTCALL = """\
listen: {{host: 127.0.0.1, port: {port}}}
num-threads: 2
drain: {{deadline: 10s}}
{checks}
hosts:
  default:
    paths:
      /:
        proxy.reverse.url: [{urls}]
      /ws:
        proxy.websocket: ON
        proxy.reverse.url: [{ws_urls}]
"""

NGINX = """\
daemon off;
{user}
worker_processes 2;
pid {temp}/nginx.pid;
error_log {temp}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {temp}/body;
    proxy_temp_path {temp}/proxy;
    fastcgi_temp_path {temp}/fastcgi;
    uwsgi_temp_path {temp}/uwsgi;
    scgi_temp_path {temp}/scgi;
    map $http_upgrade $connection_field {{ default upgrade; '' ''; }}
    upstream back {{ {servers} keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://back;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_field;
        }}
    }}
}}
"""

HAPROXY = """\
global
    nbthread 2
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout tunnel 1h
    option redispatch
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    balance roundrobin
    {servers}
"""


class Member:
    """One of the three: a process that is replaced again and again, on one port."""

    def __init__(self, temp: Path, lastcall: Path, port: int, echo: int, lame_duck: int) -> None:
        self.temp, self.lastcall, self.port = temp, lastcall, port
        temp.mkdir()
        temp.chmod(0o777)
        self.conf, self.pid_file = temp / "conf", temp / "pid"
        self.conf.write_text(MEMBER.format(port=port, echo=echo, lame_duck=lame_duck))
        self.leaders: list[subprocess.Popen[bytes]] = []
        self.start()

    def pid(self) -> int:
        return int(self.pid_file.read_text().split()[0])

    def start(self) -> None:
        self.pid_file.unlink(missing_ok=True)
        with open(self.temp / "output", "ab") as out:
            self.leaders.append(subprocess.Popen(
                [str(self.lastcall), "-c", str(self.conf), "--pid-file", str(self.pid_file)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True))
        wait_for(self.is_up, f"member {self.port} does not start")

    def is_up(self) -> bool:
        try:
            return self.pid_file.exists() and http_get(self.port, "/hello")[0] == 200
        except (OSError, ValueError):
            return False

    def stop(self) -> None:
        pid = self.pid()
        signal_and_wait(pid, signal.SIGTERM)

    def restart(self) -> None:
        """It is over when the old process has exited: its connections are drained then."""
        old = self.pid()
        signal_and_wait(old, signal.SIGHUP)
        if not self.is_up() or self.pid() == old:
            raise Broken(f"member {self.port} has no successor: {self.last_line()}")

    def last_line(self) -> str:
        lines = (self.temp / "output").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "no output"

    def end(self) -> None:
        for leader in self.leaders:  # none was reaped, so each is still a group of its own
            try:
                os.killpg(leader.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            leader.wait()


def wait_for(ready: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WAIT_S
    while not ready():
        if time.monotonic() > until:
            raise Broken(what)
        time.sleep(0.005)


def signal_and_wait(pid: int, number: int) -> None:
    fd = os.pidfd_open(pid)
    try:
        os.kill(pid, number)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(WAIT_S * 1000):
            raise Broken(f"process {pid} does not end after {signal.Signals(number).name}")
    finally:
        os.close(fd)


# ---- the fronts ----


def launch_lastcall(site: Site, ports: list[int], options: argparse.Namespace) -> list[str]:
    checks = "proxy.health: {path: /ready, interval: 100, timeout: 1000, rise: 1, fall: 1}" if options.checks else ""
    conf = peers.write(site, "lastcall.conf", LASTCALL.format(
        port=site.port, checks=checks,
        urls=", ".join(f'"http://127.0.0.1:{port}/"' for port in ports),
        ws_urls=", ".join(f'"http://127.0.0.1:{port}/ws"' for port in ports)))
    return [str(options.lastcall), "-c", conf]


def launch_nginx(site: Site, ports: list[int], options: argparse.Namespace) -> list[str]:
    user = "user root;" if os.geteuid() == 0 else ""
    conf = peers.write(site, "nginx.conf", NGINX.format(
        port=site.port, temp=site.temp, user=user,
        servers=" ".join(f"server 127.0.0.1:{port};" for port in ports)))
    return [peers.find_program("nginx", "nginx-light"), "-p", str(site.temp), "-c", conf,
            "-e", str(site.temp / "error.log")]


def launch_haproxy(site: Site, ports: list[int], options: argparse.Namespace) -> list[str]:
    check = "check inter 200ms"
    conf = peers.write(site, "haproxy.cfg", HAPROXY.format(
        port=site.port,
        servers="\n    ".join(f"server s{i} 127.0.0.1:{port} {check}" for i, port in enumerate(ports))))
    return [peers.find_program("haproxy", "haproxy"), "-db", "-f", conf]


FRONTS = {"lastcall": launch_lastcall, "nginx": launch_nginx, "haproxy": launch_haproxy}


# ---- the load ----


class Load:
    """A load client that prints a line of JSON when it gets SIGTERM."""

    def __init__(self, argv: list[str]) -> None:
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def end(self) -> dict[str, Any]:
        self.process.terminate()
        try:
            out, _ = self.process.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Broken("a load client does not end") from None
        if not out:
            raise Broken(f"a load client has no result: status {self.process.returncode}")
        return json.loads(out)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def start_loads(options: argparse.Namespace, port: int) -> dict[str, Load]:
    http = [str(options.load), "--json", "--until-signal", "--duration", "60m", "--patience", "12s",
            "--path", "/hello", "--pause", f"{options.pause}ms"]
    address = f"127.0.0.1:{port}"
    return {
        "get": Load([*http, "--connections", str(options.connections), address]),
        "post": Load([*http, "--connections", str(options.connections // 2), "--method", "POST",
                      "--body", "1000", address]),
        "websocket": Load([sys.executable, str(HERE / "websocket.py"), "load", str(port), "--path", "/ws",
                           "--clients", str(options.connections)]),
    }


def figures_of(front: str, got: dict[str, dict[str, Any]], steps: int, seconds: float) -> dict[str, Any]:
    get, post, ws = got["get"], got["post"], got["websocket"]
    bad = {kind: {"lost": r["lost"] + r["waiting"], "failed": r["answered_503"] + r["answered_other"],
                  "refused": r["refused"]} for kind, r in (("get", get), ("post", post))}
    bad["websocket"] = {"lost": ws["lost_handshake"] + ws["waiting"] + ws["wrong"], "failed": ws["failed"],
                        "refused": ws["refused"]}
    return {"front": front, "steps": steps, "seconds": round(seconds, 1), "get": get["sent"],
            "post": post["sent"], "messages": ws["messages"], "moved": ws["moved"],
            "cut": ws["cut"] + ws["other_close"], "repeated": ws["repeated"],
            **{f"{kind}_{what}": bad[kind][what] for kind in bad for what in bad[kind]},
            "p99_ms": max(get["latency_p99_us"], post["latency_p99_us"]) / 1000,
            "max_ms": max(get["latency_max_us"], post["latency_max_us"]) / 1000,
            "first_loss": get["first_loss"] or post["first_loss"] or ws["first_trouble"]}


# ---- a run ----


class Bench:
    def __init__(self, options: argparse.Namespace, temp: Path) -> None:
        self.options, self.temp = options, temp
        options.lastcall = Path(shutil.copy2(options.lastcall, temp / "lastcall"))
        self.echo_port, = peers.free_ports(1)
        self.echo = subprocess.Popen([sys.executable, str(HERE / "websocket.py"), "serve", str(self.echo_port)],
                                     stdin=subprocess.DEVNULL)
        wait_for(self.has_echo, "the WebSocket server does not start")

    def has_echo(self) -> bool:
        try:
            return http_get(self.echo_port, "/")[0] == 200
        except OSError:
            return False

    def end(self) -> None:
        self.echo.terminate()
        self.echo.wait()

    def site(self, name: str) -> Site:
        temp = self.temp / f"front-{name}"
        temp.mkdir()
        temp.chmod(0o777)
        port, h2_port = peers.free_ports(2)
        return Site(temp, self.temp, port, h2_port, 0, self.options.lastcall, BUILD / "peers")

    def start_front(self, name: str, ports: list[int]) -> Server:
        site = self.site(name)
        argv = FRONTS[name](site, ports, self.options)
        front = Server(peers.PEERS[name], argv, Launch(argv, small="/hello"), site)
        try:
            front.wait_until_up()
        except Broken:
            front.end()
            raise
        return front

    def steps(self, members: list[Member]) -> None:
        for step in range(self.options.steps):
            member = members[step % MEMBERS]
            if step // MEMBERS % 2 == 0:
                member.stop()
                time.sleep(self.options.down / 1000)
                member.start()
            else:
                member.restart()
            time.sleep(self.options.every / 1000)
            if sys.stderr.isatty():
                print(f"\r\033[Kstep {step + 1}/{self.options.steps}", end="", file=sys.stderr, flush=True)

    def run(self, name: str) -> dict[str, Any]:
        members: list[Member] = []
        loads: dict[str, Load] = {}
        front = None
        try:
            ports = peers.free_ports(MEMBERS)
            for i, port in enumerate(ports):
                members.append(Member(self.temp / f"{name}-member-{i}", self.options.lastcall, port,
                                      self.echo_port, self.options.lame_duck))
            front = self.start_front(name, ports)
            loads = start_loads(self.options, front.site.port)
            begun = time.monotonic()
            time.sleep(0.5)
            self.steps(members)
            seconds = time.monotonic() - begun
            return figures_of(name, {kind: load.end() for kind, load in loads.items()}, self.options.steps, seconds)
        finally:
            for load in loads.values():
                load.kill()
            if front is not None:
                self.keep_log(front, name)
                front.end()
            for member in members:
                member.end()

    def keep_log(self, front: Server, name: str) -> None:
        if self.options.logs:
            self.options.logs.mkdir(parents=True, exist_ok=True)
            shutil.copy(front.log, self.options.logs / f"{name}.log")
            for path in self.temp.glob(f"{name}-member-*/output"):
                shutil.copy(path, self.options.logs / f"{path.parent.name}.log")


# ---- output ----


COLUMNS = (("front", "front"), ("steps", "steps"), ("GET", "get"), ("lost", "get_lost"), ("failed", "get_failed"),
           ("POST", "post"), ("lost", "post_lost"), ("failed", "post_failed"), ("messages", "messages"),
           ("lost", "websocket_lost"), ("failed", "websocket_failed"), ("moved", "moved"), ("cut", "cut"),
           ("p99 ms", "p99_ms"), ("worst ms", "max_ms"))


def print_rows(results: list[dict[str, Any]]) -> None:
    rows = [[title for title, _ in COLUMNS]]
    rows += [[f"{r[key]:.1f}" if isinstance(r[key], float) else str(r[key]) for _, key in COLUMNS] for r in results]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    for row in rows:
        print("  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]))
    for r in results:
        if r["first_loss"]:
            print(f"{r['front']}: the first trouble: {r['first_loss']}")


def is_clean(r: dict[str, Any]) -> bool:
    return not r["cut"] and not any(r[f"{kind}_{what}"] for kind in ("get", "post", "websocket")
                                    for what in ("lost", "failed", "refused"))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Stop and restart three lastcalls behind a proxy in turn, and count the effects on its clients.")
    parser.add_argument("--fronts", default=",".join(FRONTS), help="default: lastcall,nginx,haproxy")
    parser.add_argument("--steps", type=int, default=200, help="stops and restarts with each front (default: 200)")
    parser.add_argument("--every", type=int, default=200, metavar="MS", help="between two steps (default: 200)")
    parser.add_argument("--down", type=int, default=200, metavar="MS", help="a stopped member is away (default: 200)")
    parser.add_argument("--lame-duck", type=int, default=0, metavar="MS", help="of the members (default: 0)")
    parser.add_argument("--checks", action="store_true", help="lastcall checks the health of its members")
    parser.add_argument("--connections", type=int, default=16,
                        help="for GET, half as many for POST, as many for WebSocket (default: 16)")
    parser.add_argument("--pause", type=int, default=5, metavar="MS", help="between an answer and the next request")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep what the servers have logged")
    parser.add_argument("--lastcall", type=Path, default=BUILD / "lastcall")
    parser.add_argument("--load", type=Path, default=BUILD / "lastcall-load")
    options = parser.parse_args()
    options.fronts = options.fronts.split(",")
    for name in options.fronts:
        if name not in FRONTS:
            print(f"rolling: there is no {name}; there are {', '.join(FRONTS)}", file=sys.stderr)
            sys.exit(64)
    return options


def main() -> int:
    options = parse()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="lastcall-rolling-") as directory:
        os.chmod(directory, 0o755)
        bench = Bench(options, Path(directory))
        try:
            for name in options.fronts:
                try:
                    results.append(bench.run(name))
                except (Broken, Missing, OSError) as error:
                    print(f"rolling: {name} is skipped: {error}", file=sys.stderr)
        finally:
            bench.end()
    if not results:
        return 69
    print_rows(results)
    if options.json:
        options.json.write_text(json.dumps({"format": 1, "results": results}, indent=1) + "\n")
    return int(not all(is_clean(r) for r in results if r["front"] == "lastcall"))


if __name__ == "__main__":
    sys.exit(main())
