#!/usr/bin/env python3
"""A proxy between clients that misbehave and an upstream that fails, for a long time. Is every request accounted for?

The upstream (soak_upstream.py) fails as the path of a request says, in any phase; the clients (soak_clients.py, soak_h2.js)
know what each request may get, read slowly, leave, and send several requests at once, over HTTP/1.1 and HTTP/2. All draws
have a seed. At the end, when nobody asks any more:

  - no client got what its request may not get: no other body, no cut that looks whole, no wait without end. A time-out
    is excused where the upstream says that it stood still meanwhile, and a request without an answer where the server
    had ended the connection after its wait for one (soak_clients.py);
  - the server's counters of answers, by status, and of cut requests are the sums of what the clients saw; only requests
    whose clients left have two possible outcomes;
  - no request is in flight, no connection is open to a client or to the upstream, and there are as many descriptors as
    in the beginning;
  - the memory in the last three tenths of the time is not more than in the first three, by more than --growth. A tenth
    has the median of a sample a second: large answers make peaks.

Exit status: 0 all of that holds; 1 it does not; 69 it could not be run.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import peers
from peer_server import Broken, http_get
from soak_faults import CUT, FIRST_BYTE_MS, IO_MS, KEPT_MS, KEPT_S, KINDS, REFUSED, ROUTE

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build"
QUIET_S = 20.0
COMPLAINTS_MOST = 40  # in the report

CONF = """\
{user}
listen: {{host: 127.0.0.1, port: {port}}}
admin: {{listen: "127.0.0.1:{admin}"}}
num-threads: 2
drain: {{deadline: 10s}}
http1-request-timeout: {kept_s}
proxy.timeout.first_byte: {first_byte}
proxy.timeout.io: {io}
proxy.timeout.keepalive: {kept}
hosts:
  default:
    paths:
      {route}: {{proxy.reverse.url: "http://127.0.0.1:{upstream}{route}"}}
      {refused}: {{proxy.reverse.url: "http://127.0.0.1:{closed}{refused}"}}
"""


class Child:
    """A program that prints a line of JSON when it gets SIGTERM."""

    def __init__(self, *argv: str) -> None:
        self.name = Path(argv[1]).name
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def end(self) -> dict[str, Any]:
        self.process.terminate()
        try:
            out, _ = self.process.communicate(timeout=90)
            return json.loads(out)
        except (subprocess.TimeoutExpired, ValueError) as error:
            self.kill()
            raise Broken(f"{self.name} has no result: {error}") from None

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Front:
    """The server under test."""

    def __init__(self, options: argparse.Namespace, temp: Path, upstream: int) -> None:
        self.port, self.admin, closed = peers.free_ports(3)
        conf = temp / "conf"
        conf.write_text(CONF.format(
            user="user: root" if os.geteuid() == 0 else "", port=self.port, admin=self.admin, upstream=upstream,
            closed=closed, route=ROUTE, refused=REFUSED, first_byte=FIRST_BYTE_MS, io=IO_MS, kept=KEPT_MS,
            kept_s=KEPT_S))
        self.log = temp / "front.log"
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen([*options.under, str(options.lastcall), "-c", str(conf)],
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=temp)
        until = time.monotonic() + 60
        while not self.is_up():
            if self.process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise Broken(f"the front does not start: {self.log.read_text(errors='replace')[-500:]}")
            time.sleep(0.05)

    def is_up(self) -> bool:
        try:
            return http_get(self.admin, "/livez")[0] == 200
        except OSError:
            return False

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in
                (line.rpartition(" ") for line in lines if line and not line.startswith("#"))}

    def memory_kb(self) -> int:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) if found else 0

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            return -9

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


# ---- accounts ----


def by_status(metrics: dict[str, float]) -> dict[str, int]:
    found: collections.Counter[str] = collections.Counter()
    for name, value in metrics.items():
        if match := re.match(r'lastcall_requests_total\{.*route="proxy".*status="(\dxx)"', name):
            found[match[1]] += int(value)
    return found


def total(metrics: dict[str, float], name: str) -> int:
    return int(sum(value for key, value in metrics.items() if key.partition("{")[0] == name))


class Accounts:
    def __init__(self, clients: list[dict[str, Any]], upstream: dict[str, Any], metrics: dict[str, float]) -> None:
        self.seen: collections.Counter[str] = collections.Counter()
        self.complaints: list[str] = []
        self.stalls, self.stalled = upstream.pop("stalls"), 0
        for client in clients:
            for complaint in client.pop("complaints"):
                self.take(*complaint)
            self.seen.update(client)
        self.upstream, self.metrics, self.faults = upstream, metrics, []

    def take(self, outcome: str, begun_s: float, ended_s: float, text: str) -> None:
        """The front is right to give up on an upstream that got no processor for half of its time-out."""
        stalled_s = sum(max(0.0, min(end_s, ended_s) - max(from_s, begun_s)) for from_s, end_s in self.stalls)
        if outcome in ("504", CUT) and stalled_s * 1000 >= min(FIRST_BYTE_MS, IO_MS) / 2:
            self.stalled += 1
        else:
            self.complaints.append(text)

    def within(self, what: str, value: int, low: int, high: int) -> None:
        if not low <= value <= high:
            self.faults.append(f"{what}: the server counts {value}, the clients {low}" +
                               (f" to {high}" if high != low else ""))

    def check(self) -> list[str]:
        seen, left, m = self.seen, self.seen["left"], self.metrics
        answered = by_status(m)
        for status in ("2xx", "4xx", "5xx"):
            mine = sum(n for key, n in seen.items() if key.startswith(f"status {status[0]}"))
            self.within(f"answers {status}", answered[status], mine, mine + left)
        aborted = total(m, "lastcall_requests_aborted_total")
        self.within("aborted", aborted, seen["cut"], seen["cut"] + left)
        # A reset may overtake the request that came before it.
        sent = seen["requests"] - seen["not begun"] - seen["crossed"]
        self.within("all requests", sum(answered.values()) + aborted, sent - seen["left by reset"], sent)
        failures = total(m, "lastcall_upstream_failures_total")
        failed = seen["status 502"] + seen["status 504"] + seen["cut"]
        self.within("failures of the upstream", failures, failed, failed + left)
        for name in ("lastcall_requests_in_flight", "lastcall_upstream_connections",
                     "lastcall_upstream_connections_idle", "lastcall_requests_shed_total"):
            self.within(name, total(m, name), 0, 0)
        if self.upstream.get("wrong bodies"):
            self.faults.append(f"{self.upstream['wrong bodies']} requests came to the upstream with another body")
        if self.complaints:
            self.faults.append(f"{len(self.complaints)} requests got what they may not get")
        return self.faults


# ---- the run ----


def watch(front: Front, children: list[Child], seconds: float) -> list[int]:
    """Memory in kB: the median of each tenth of the time."""
    medians, begun = [], time.monotonic()
    for i in range(1, 11):
        samples = []
        while (left := begun + seconds * i / 10 - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
            for child in children:
                if child.process.poll() is not None:
                    raise Broken(f"{child.name} has ended")
            if front.process.poll() is not None:
                raise Broken(f"the front has ended with {front.process.returncode}: "
                             f"{front.log.read_text(errors='replace')[-2000:]}")
            samples.append(front.memory_kb())
        medians.append(int(statistics.median(samples)))
        print(f"{i}0 %: {medians[-1]} kB, at most {max(samples)} kB, {front.descriptors()} descriptors", file=sys.stderr,
              flush=True)
    return medians


def wait_until_quiet(front: Front) -> dict[str, float]:
    until = time.monotonic() + QUIET_S
    while True:
        metrics = front.metrics()
        if (total(metrics, "lastcall_requests_in_flight") == 0 and
                total(metrics, "lastcall_upstream_connections") == 0) or time.monotonic() > until:
            return metrics
        time.sleep(0.2)


def wait_until_open(port: int, child: Child) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if child.process.poll() is not None or time.monotonic() > until:
                raise Broken(f"{child.name} does not listen") from None
            time.sleep(0.05)


def soak(options: argparse.Namespace, temp: Path) -> list[str]:
    port, = peers.free_ports(1)
    upstream = Child(sys.executable, str(HERE / "soak_upstream.py"), str(port), str(options.seed))
    children, front = [upstream], None
    try:
        wait_until_open(port, upstream)
        front = Front(options, temp, port)
        descriptors = front.descriptors()
        faults = json.dumps({"kinds": {name: dataclasses.asdict(kind) for name, kind in KINDS.items()},
                             "route": ROUTE, "refused": REFUSED, "cut": CUT})
        clients = [
            Child(sys.executable, str(HERE / "soak_clients.py"), str(front.port), str(options.seed)),
            Child(peers.find_program("node", "nodejs"), str(HERE / "soak_h2.js"), str(front.port), str(options.seed), faults),
        ]
        children += clients
        samples = watch(front, children, options.minutes * 60)
        seen = [client.end() for client in clients]
        metrics = wait_until_quiet(front)
        accounts = Accounts(seen, upstream.end(), metrics)
        found = accounts.check()
        report(accounts, samples)
        found += after(front, options, descriptors, samples)
        return found
    finally:
        for child in children:
            child.kill()
        if front is not None:
            front.kill()
            if options.log:
                shutil.copy(front.log, options.log)


def after(front: Front, options: argparse.Namespace, descriptors: int, samples: list[int]) -> list[str]:
    found = []
    if front.descriptors() > descriptors:
        found.append(f"{front.descriptors()} descriptors, {descriptors} in the beginning")
    grown = (max(samples[-3:]) / max(samples[:3]) - 1) * 100
    if options.growth and grown > options.growth:
        found.append(f"memory has grown by {grown:.0f} %")
    status = front.stop()
    if status != 0:
        found.append(f"the front exits with {status}: {front.log.read_text(errors='replace')[-2000:]}")
    return found


def report(accounts: Accounts, samples: list[int]) -> None:
    seen = accounts.seen
    print(f"requests {seen['requests']}, not begun {seen['not begun']}, left {seen['left']}, cut {seen['cut']}, "
          f"race {seen['race']}, " + ", ".join(f"{key[7:]}: {seen[key]}" for key in sorted(seen) if key.startswith("status")))
    print(f"ends of the wait for a request: {seen['end of the wait']}, of them while the client still read the last answer "
          f"{seen['end of the wait while reading']}; requests that crossed with one: {seen['crossed']}")
    m = accounts.metrics
    kinds = {match[1]: int(value) for name, value in m.items()
             if (match := re.match(r'lastcall_upstream_failures_total\{kind="(.*)"\}', name))}
    print(f"the server: {dict(by_status(m))}, aborted {total(m, 'lastcall_requests_aborted_total')}, failures {kinds}, "
          f"repeats {total(m, 'lastcall_upstream_repeats_total')}, connects {total(m, 'lastcall_upstream_connects_total')}")
    longest_s = max((end_s - from_s for from_s, end_s in accounts.stalls), default=0)
    print(f"the upstream: {accounts.upstream.get('requests')} requests on {accounts.upstream.get('connections')} connections; "
          f"it stood still for {longest_s:.1f} s at most, and the front gave up on {accounts.stalled} requests then")
    print(f"memory in kB, medians: {' '.join(map(str, samples))}")
    for complaint in accounts.complaints[:COMPLAINTS_MOST]:
        print(f"  {complaint}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A proxy, clients that misbehave, and an upstream that fails.")
    parser.add_argument("minutes", type=float, nargs="?", default=30, help="default: 30")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--growth", type=float, default=10, metavar="PERCENT",
                        help="of memory that is allowed (default: 10; 0: any, for sanitizers)")
    parser.add_argument("--lastcall", type=Path, default=BUILD / "release" / "lastcall")
    parser.add_argument("--under", default="", metavar="COMMAND", help="start the server with it, as in 'valgrind -q'")
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep the log of the server")
    options = parser.parse_args()
    options.under, options.lastcall = options.under.split(), options.lastcall.resolve()
    return options


def main() -> int:
    options = parse()
    with tempfile.TemporaryDirectory(prefix="lastcall-soak-") as directory:
        os.chmod(directory, 0o755)
        try:
            faults = soak(options, Path(directory))
        except (Broken, peers.Missing, OSError) as error:
            print(f"soak: {error}", file=sys.stderr)
            return 69
    for fault in faults:
        print(f"soak: {fault}")
    print("soak: " + ("NOT MET" if faults else "every request is accounted for"))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
