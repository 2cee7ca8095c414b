"""Before the runs: which servers are installed, and do they answer as the scenarios require?"""

from __future__ import annotations

import os
import platform
import re
import resource
from pathlib import Path

import peers
from drain_bench import Bench
from drain_runs import seen_by
from drain_scenarios import Scenario
from peer_server import Broken, Server, listens_beyond_loopback
from peers import Missing


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
            bench.problem(f"{name} is skipped: {error}")
    bench.progress.clear()
    return ready, skipped


def check_tls(bench: Bench, name: str) -> None:
    """A server that does not answer over TLS still runs in the other scenarios."""
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
        bench.problem(f"{name} is skipped over TLS: {error}")


def check_proxy(bench: Bench, name: str) -> None:
    """Do requests reach the upstream? Its counts show it."""
    upstream = bench.start_upstream()
    try:
        server = bench.start(name, upstream=upstream)
        try:
            path = server.launch.proxied
            before = seen_by(upstream)["upstream_answered"]
            for method, body in (("GET", b""), ("POST", b"x" * 1000)):
                if server.get(path, method, body) != (200, peers.HELLO):
                    raise Broken(f"{method} {path} does not get the upstream's answer")
            reached = seen_by(upstream)["upstream_answered"] - before
            if reached != 2:
                raise Broken(f"the upstream had {reached} requests, not 2")
        finally:
            bench.end(server)
    except (Broken, OSError) as error:
        bench.without_proxy[name] = str(error)
        bench.problem(f"{name} is skipped as a proxy: {error}")
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
    """Raise the limit on open files; returns the limit that this process and its children have."""
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


def usable(bench: Bench, scenario: Scenario, names: list[str]) -> list[str]:
    def is_able(peer: peers.Peer) -> bool:
        return ((not scenario.h2 or (peer.tls_h2 if scenario.tls else peer.h2))
                and not (scenario.tls and peer.name in bench.without_tls)
                and not (scenario.is_proxy and
                         (not peer.proxies or peer.name in bench.without_proxy)))

    return [name for name in names if is_able(peers.ALL[name])]
