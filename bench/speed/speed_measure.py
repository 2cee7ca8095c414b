"""The measurements of throughput.py: rounds of wrk, the rate and the CPU time of a request."""

import collections
import os
import random
import re
import resource
import subprocess
import sys
import time

from speed_servers import Broken, TICKS_A_SECOND, cpu_by_thread, on_core

Sample = collections.namedtuple("Sample", "rps cpu_us busiest latency_us others")
Use = collections.namedtuple("Use", "serving_s busiest others")  # of the processor
Figures = collections.namedtuple("Figures", "rate requests latency_us")  # of wrk


def machine_busy_seconds():
    """User, nice, system and stolen time of all cores, without interrupts."""
    with open("/proc/stat") as file:
        ticks = [int(field) for field in file.readline().split()[1:9]]
    return (ticks[0] + ticks[1] + ticks[2] + ticks[7]) / TICKS_A_SECOND


def children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def to_us(number, unit):
    return float(number) * {"us": 1.0, "ms": 1e3, "s": 1e6}[unit]


def start_wrk(options, url, seconds, connections, core):
    return subprocess.Popen(
        on_core(core, [options.wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url]),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def url_of(server, path):
    return f"http://127.0.0.1:{server.port}{path}"


def url_of_row(server, row):
    if row == "tls":
        return f"https://127.0.0.1:{server.tls_port}{server.path}"
    return url_of(server, "/back/" if row == "proxy" else server.path)


class Meter:
    """The CPU time of one server and of everything else, from here to read(). The load is a child that has been
    waited for by then."""

    def __init__(self, server):
        self.server = server
        self.busy, self.own = machine_busy_seconds(), children_seconds()
        self.threads = cpu_by_thread(server.process.pid)
        self.upstream = cpu_of_upstream(server)
        self.began = time.monotonic()

    def read(self):
        elapsed = time.monotonic() - self.began
        threads = [seconds_now - self.threads.get(thread, 0.0)
                   for thread, seconds_now in cpu_by_thread(self.server.process.pid).items()]
        serving = sum(threads)
        own = children_seconds() - self.own + cpu_of_upstream(self.server) - self.upstream
        busy = machine_busy_seconds() - self.busy
        cores = os.cpu_count() or 1
        return Use(serving_s=serving, busiest=max(threads) / serving if serving > 0 else 1.0,
                   others=max(0.0, busy - own - serving) / (elapsed * cores))


def measure(options, server, url, seconds, core=None):
    meter = Meter(server)
    wrk = start_wrk(options, url, seconds, options.connections, core)
    said = wrk.communicate()[0]
    use = meter.read()
    figures = read_wrk(server, wrk, said)
    return Sample(rps=figures.rate, cpu_us=use.serving_s / figures.requests * 1e6, busiest=use.busiest,
                  latency_us=figures.latency_us, others=use.others)


def cpu_of_upstream(server):
    """CPU time of the upstream, which belongs to the measurement like that of wrk."""
    return sum(cpu_by_thread(server.upstream.process.pid).values()) if server.upstream else 0.0


def read_wrk(server, wrk, said):
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    count = re.search(r"(\d+) requests in", said)
    latency = re.search(r"50%\s+([\d.]+)(us|ms|s)", said)
    wrong = re.search(r"(Socket errors|Non-2xx).*", said)
    if wrk.returncode != 0 or not rate or not count or not latency or int(count.group(1)) == 0:
        raise Broken(f"wrk failed against {server.name}: {said.strip()}")
    if wrong:
        raise Broken(f"{server.name} gave wrong answers: {wrong.group(0)}")
    return Figures(float(rate.group(1)), int(count.group(1)), to_us(*latency.groups()))


def measure_together(options, urls, seconds, core):
    """Load all servers at once. `urls`: server -> URL. Returns the CPU time of a request in microseconds for
    each."""
    servers = list(urls)
    before = {server: sum(cpu_by_thread(server.process.pid).values()) for server in servers}
    wrks = {server: start_wrk(options, urls[server], seconds,
                              max(1, options.connections // len(servers)), core)
            for server in random.sample(servers, len(servers))}
    said = {server: wrk.communicate()[0] for server, wrk in wrks.items()}
    return [(sum(cpu_by_thread(server.process.pid).values()) - before[server]) * 1e6 /
            read_wrk(server, wrks[server], said[server]).requests for server in servers]


class Progress:
    """One line that is rewritten, on a terminal only."""

    def __init__(self, quiet):
        self.on = sys.stderr.isatty() and not quiet

    def show(self, text):
        if self.on:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def clear(self):
        self.show("")


def run_rounds(options, contenders, rounds, seconds):
    """`contenders`: name -> (server, URL). Returns name -> one Sample a round."""
    samples = {name: [] for name in contenders}
    progress = Progress(options.quiet)
    for name, (server, url) in contenders.items():
        progress.show(f"warming up {name}")
        measure(options, server, url, 1)
    last = ""
    for i in range(rounds):
        order = list(contenders) if i % 2 == 0 else list(reversed(contenders))
        for name in order:
            progress.show(f"round {i + 1}/{rounds}  {name} ...{last}")
            sample = measure(options, *contenders[name], seconds)
            samples[name].append(sample)
            last = f"  ({name}: {sample.rps / 1e3:.1f} k/s)"
    progress.clear()
    return samples
