"""What all runs of drain.py share: the binaries, the ports, the servers that run, the progress line."""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import sys
import threading
from pathlib import Path
from typing import Callable, Iterable

import peers
from drain_scenarios import Scenario
from peer_server import Broken, Server
from peers import Launch, Missing, Site

BUILD = Path(__file__).resolve().parents[2] / "build" / "release"


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
        self.without_tls: dict[str, str] = {}  # name: reason
        self.without_proxy: dict[str, str] = {}
        self.backend: Server | None = None
        self.running: set[Server] = set()
        self.serial = 0
        self.stopping = False
        # Copies: the binaries may be rebuilt during the run.
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
            if self.stopping:  # a consequence of the interruption
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
        """One for each run of a proxy, so that its counts belong to that run."""
        def create() -> Server:
            site = self.site("upstream")
            launch = Launch([str(self.upstream), "--port", str(site.port)])
            return Server(peers.UPSTREAM, launch.argv, launch, site)

        return self.bring_up(create)

    def bring_up(self, create: Callable[[], Server]) -> Server:
        """Another process may take the port before the server listens on it, so try twice."""
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
        """After an interruption: end the process groups that were started here."""
        self.stopping = True
        for server in list(self.running):
            self.end(server)

    def start_backend(self) -> None:
        """For the servers that have no handlers of their own."""
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
    """One line that is rewritten, on a terminal only."""

    def __init__(self) -> None:
        self.on = sys.stderr.isatty()

    def show(self, text: str) -> None:
        if self.on:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        self.show("")
