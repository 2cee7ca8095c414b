#!/usr/bin/env python3
"""lastcall as a reverse proxy, beside h2o, nginx and HAProxy, in one run.

All have one thread, the same upstreams, kept connections on both sides, and no access log. The server has a core of its
own, the load and the upstreams another one (where there are two): so the CPU time of a request tells more than the rate,
which the load may limit. Rounds are interleaved, every other one backwards.

  small    12 bytes over kept connections (wrk)
  large    1 MiB over kept connections (wrk)
  h2       12 bytes, HTTP/2 in front (h2load)
  calls    system calls for a small answer, by name (strace -c)
  slow     what each holds for 1,000 clients that ask for 100 MiB and read a little: memory, and files

    proxy.py                              some 4 minutes
    proxy.py --docs docs/bench/proxy.md   and what it prints, between the marks of that page

Exit status: 0 what is expected of lastcall holds; 1 it does not; 64 wrong usage; 69 something is missing.
"""

import argparse
import collections
import contextlib
import io
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from proxy_servers import HUGE_BYTES, PATHS, STARTS, Site, count_calls, disk_kb, memory_kb, start_all
from speed_measure import Meter, on_core, to_us
from speed_report import describe_machine
from speed_servers import Broken, Missing, need_program
from throughput import BUILD, two_cores, whole

ROWS = ("small", "large", "h2", "calls", "slow")
Sample = collections.namedtuple("Sample", "rps cpu_us p99_us")
LEAST = {("small", "nginx"): 1.0, ("small", "haproxy"): 0.9, ("large", "nginx"): 0.9, ("h2", "nginx"): 1.5}
CPU_MOST = {"nginx": 1.0, "haproxy": 1.15}  # of their time a small answer
MARKS = ("<!-- proxy.py -->", "<!-- proxy.py ends -->")
SLOW_MOST_KB = 100 * 1024
STOP_KB = 1024 * 1024  # a server that holds more is not loaded further, for the sake of the machine
NOT_IN_A_REQUEST = ("epoll_ctl", "fcntl")
CALLS_A_REQUEST_MOST = 0.01  # of these: some connections are opened meanwhile


# ---- rates ----


def wrk(site, server, row, seconds):
    connections = {"small": 64, "large": 16}[row]
    return [site.options.wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
            f"http://127.0.0.1:{server.port}{PATHS[row]}"]


def h2load(site, server, seconds):
    return [site.options.h2load, "-t1", "-c16", "-m16", f"-D{seconds}", f"http://127.0.0.1:{server.h2_port}{PATHS['small']}"]


def measure(site, server, row, seconds):
    meter = Meter(server)
    command = h2load(site, server, seconds) if row == "h2" else wrk(site, server, row, seconds)
    done = subprocess.run(on_core(site.load_core, command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    use = meter.read()
    rate, count, p99_us = (read_h2load if row == "h2" else read_wrk)(server, done.stdout)
    return Sample(rate, use.serving_s / count * 1e6, p99_us)


def read_wrk(server, said):
    rate, count = re.search(r"Requests/sec:\s+([\d.]+)", said), re.search(r"(\d+) requests in", said)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    if not (rate and count and p99) or re.search(r"Socket errors|Non-2xx", said):
        raise Broken(f"wrk failed against {server.name}: {said.strip()}")
    return float(rate.group(1)), int(count.group(1)), to_us(*p99.groups())


def read_h2load(server, said):
    rate, count = re.search(r"([\d.]+) req/s", said), re.search(r"(\d+) succeeded, 0 failed, 0 errored", said)
    if not (rate and count) or int(count.group(1)) == 0:
        raise Broken(f"h2load failed against {server.name}: {said.strip()}")
    most = re.search(r"time for request:\s+\S+\s+([\d.]+)(us|ms|s)", said)
    return float(rate.group(1)), int(count.group(1)), to_us(*most.groups()) if most else 0.0


def rounds(site, servers, row):
    samples = {name: [] for name in servers}
    for name in servers:
        measure(site, servers[name], row, 1)
    for i in range(site.options.rounds):
        for name in list(servers) if i % 2 == 0 else list(reversed(servers)):
            samples[name].append(measure(site, servers[name], row, site.options.seconds))
    return samples


def median(samples, field):
    return statistics.median(getattr(sample, field) for sample in samples)


def print_rates(row, samples):
    last = "worst us" if row == "h2" else "p99 us"
    print(f"\n{row:10}{'req/s':>10}{'CPU us/req':>12}{last:>10}{'of nginx':>10}{'of haproxy':>12}")
    for name, mine in samples.items():
        ratios = [f"{median(mine, 'rps') / median(samples[other], 'rps'):.2f}" if other in samples else "-"
                  for other in ("nginx", "haproxy")]
        print(f"{name:10}{median(mine, 'rps'):10.0f}{median(mine, 'cpu_us'):12.2f}{median(mine, 'p99_us'):10.0f}"
              f"{ratios[0]:>10}{ratios[1]:>12}")


def judge_rates(row, samples):
    """Rates may be limited by the load, which shares a core with the upstreams; so a server that reaches the rate with
    less CPU time is not worse."""
    verdict = []
    for (of_row, other), least in LEAST.items():
        if of_row == row and other in samples and "lastcall" in samples:
            ratio = median(samples["lastcall"], "rps") / median(samples[other], "rps")
            verdict.append((f"{row}: {ratio:.2f} of {other}'s rate (expected >= {least})", ratio >= least))
    for other, most in CPU_MOST.items() if row == "small" else ():
        if other in samples and "lastcall" in samples:
            ratio = median(samples["lastcall"], "cpu_us") / median(samples[other], "cpu_us")
            verdict.append((f"small: {ratio:.2f} of {other}'s CPU time (expected <= {most})", ratio <= most))
    if row == "large" and "nginx" in samples and "lastcall" in samples:
        mine, other = (median(samples[name], "p99_us") for name in ("lastcall", "nginx"))
        verdict.append((f"large: p99 {mine:.0f} us, nginx {other:.0f} us (expected: no worse)", mine <= other))
    return verdict


# ---- system calls ----


def calls(site, servers):
    verdict, names = [], list(servers)
    counted = {name: calls_of(site, servers[name]) for name in names}
    print(f"\n{'calls a request':18}" + "".join(f"{name:>12}" for name in names))
    for call in sorted({call for of_name in counted.values() for call in of_name},
                       key=lambda call: -max(of_name.get(call, 0) for of_name in counted.values())):
        row = [counted[name].get(call, 0.0) for name in names]
        if max(row) >= 0.005:
            print(f"{call:18}" + "".join(f"{value:12.2f}" for value in row))
    for call in NOT_IN_A_REQUEST if "lastcall" in counted else ():
        value = counted["lastcall"].get(call, 0.0)
        verdict.append((f"calls: {value:.3f} {call} a request (expected: none)", value <= CALLS_A_REQUEST_MOST))
    return verdict


def calls_of(site, server):
    """wrk runs longer on both sides than strace looks; the rate in that time is that of recvfrom or read of clients,
    so requests are counted by the upstream."""
    load = subprocess.Popen(on_core(site.load_core, wrk(site, server, "small", 4)), stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    before = upstream_requests(site)
    counted = count_calls(server, 2)
    requests = upstream_requests(site) - before
    load.wait()
    if requests == 0:
        raise Broken(f"{server.name} hands nothing on under strace")
    return {name: count / requests for name, count in counted.items()}


def upstream_requests(site):
    _, body = site.small.probe("/upstream-stats")
    return int(re.search(rb'"requests": (\d+)', body).group(1))


# ---- slow clients ----


class Crowd:
    """Clients that ask for a large file, and read a little of it now and then."""

    def __init__(self, port, path, count):
        self.socks = []
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port), timeout=20)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            sock.setblocking(False)
            self.socks.append(sock)
        self.got = [0] * count

    def read(self, seconds, a_second, is_enough):
        until = time.monotonic() + seconds
        while time.monotonic() < until and not is_enough():
            time.sleep(0.2)
            for i, sock in enumerate(self.socks):
                try:
                    self.got[i] += len(sock.recv(a_second // 5))
                except BlockingIOError:
                    pass

    def close(self):
        for sock in self.socks:
            sock.close()


def slow(site, servers):
    verdict = []
    print(f"\n{'slow clients':14}{'before kB':>11}{'with them kB':>14}{'files kB':>10}{'CPU s':>8}{'clients with bytes':>20}")
    for name, server in servers.items():
        before, meter = memory_kb(server), Meter(server)
        crowd = Crowd(server.port, PATHS["huge"], site.options.clients)
        crowd.read(site.options.slow_seconds, 20000,
                   lambda: max(memory_kb(server), disk_kb(server)) > STOP_KB)
        held, files, use = memory_kb(server), disk_kb(server), meter.read()
        with_bytes = sum(got > 0 for got in crowd.got)
        crowd.close()
        print(f"{name:14}{before:11}{held:14}{files:10}{use.serving_s:8.1f}{with_bytes:20}")
        if name == "lastcall":
            verdict = [(f"slow: {held / 1024:.0f} MiB for {site.options.clients} clients of {HUGE_BYTES >> 20} MiB "
                        f"(expected <= {SLOW_MOST_KB >> 10})", held <= SLOW_MOST_KB),
                       (f"slow: {files} kB in files (expected: none)", files == 0),
                       (f"slow: {with_bytes} of {site.options.clients} clients are served", with_bytes == site.options.clients)]
        time.sleep(1)
    return verdict


# ---- main ----


def run(options, temp):
    core, load_core = two_cores()
    site = Site(options, temp, core, load_core)
    verdict = []
    try:
        servers = start_all(site, options.servers)
        print(f"machine:  {describe_machine()}")
        print("versions: " + ", ".join(f"{server.name} {server.version}" for server in servers.values()))
        print(f"settings: {options.rounds} rounds of {options.seconds} s, interleaved; {options.threads} thread a server")
        for row in options.rows:
            if row in ("small", "large", "h2"):
                samples = rounds(site, servers, row)
                print_rates(row, samples)
                verdict += judge_rates(row, samples)
            else:
                verdict += {"calls": calls, "slow": slow}[row](site, servers)
    finally:
        site.stop()
    print()
    for line, holds in verdict:
        print(f"{line}: {'ok' if holds else 'NOT MET'}")
    return 0 if all(holds for _, holds in verdict) else 1


class Both(io.StringIO):
    """Keeps what is printed, and shows it."""

    def write(self, text):
        sys.__stdout__.write(text)
        sys.__stdout__.flush()
        return super().write(text)


def run_and_publish(options, temp):
    with open(options.docs) as file:
        before, first, rest = file.read().partition(MARKS[0])
    _, last, after = rest.partition(MARKS[1])
    if not (first and last):
        raise Broken(f"{options.docs} lacks {MARKS[0]} or {MARKS[1]}")
    with contextlib.redirect_stdout(Both()) as said:
        status = run(options, temp)
    with open(options.docs, "w") as file:
        file.write(f"{before}{MARKS[0]}\n\n```\n{said.getvalue()}```\n\n{MARKS[1]}{after}")
    return status


def chosen(table):
    def parse(text):
        names = text.split(",")
        for name in names:
            if name not in table:
                raise argparse.ArgumentTypeError(f"there is no {name}; there are {', '.join(table)}")
        return names
    return parse


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=whole(1, 1000), default=5, help="default: 5")
    parser.add_argument("--seconds", type=whole(1, 600), default=2, help="of load in each round (default: 2)")
    parser.add_argument("--threads", type=whole(1, 64), default=1, help="a server (default: 1)")
    parser.add_argument("--clients", type=whole(1, 4000), default=1000, help="slow ones (default: 1000)")
    parser.add_argument("--slow-seconds", type=whole(1, 600), default=10, help="that they read (default: 10)")
    parser.add_argument("--rows", type=chosen(ROWS), default=list(ROWS), metavar="NAME,...")
    parser.add_argument("--servers", type=chosen(STARTS), default=list(STARTS), metavar="NAME,...")
    parser.add_argument("--docs", metavar="FILE", help="write what is printed between the marks of this Markdown file")
    parser.add_argument("--lastcall", metavar="FILE", default=os.path.join(BUILD, "lastcall"))
    parser.add_argument("--upstream", metavar="FILE", default=os.path.join(BUILD, "lastcall-upstream"))
    return parser.parse_args()


def main():
    options = parse_options()
    with tempfile.TemporaryDirectory(prefix="lastcall-proxy-") as temp:
        os.chmod(temp, 0o755)
        try:
            options.wrk, options.h2load = need_program("wrk", "wrk"), need_program("h2load", "nghttp2-client")
            return run_and_publish(options, temp) if options.docs else run(options, temp)
        except Missing as missing:
            print(f"proxy.py: {missing}", file=sys.stderr)
            return 69
        except (Broken, OSError) as broken:
            print(f"proxy.py: {broken}", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
