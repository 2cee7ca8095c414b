#!/usr/bin/env python3
"""How many requests a second, beside the others?

Four servers answer the same twelve bytes on loopback, each with two threads: lastcall /hello, the
same handler on bare libh2o, and the packaged h2o and nginx with a file. All are started once and
stay up (an idle one costs nothing); wrk then loads one at a time, in rounds. Every other round runs
backwards, so that a machine which drifts favours nobody.

Which thread gets a connection is the accept race's doing, and it matters more than the code does:
on two cores, where wrk wants one, a server that happens to take all connections on one thread is up
to a third faster than the same server with two busy threads. The column "busiest" shows the share
of the busiest thread; where it differs between two servers, their ratio says little about them:
look again with --threads 1.

The rows static, proxy and tls are lastcall -c FILE beside h2o -c FILE: the files are the same but for
the ports. Both serve the same twelve bytes from a file, over HTTP and over TLS with keep-alive, and as
a proxy in front of one server that is common to both (lastcall-upstream, one thread). --rows chooses
among the rows; all that are chosen are interleaved in one run.

With --together those rows are measured in the manner of the next paragraph, too: rates say little on a
machine that others use, the CPU time of a request still does.

The cost of the active count is the smallest difference asked about, far below what such a machine
drifts from one second to the next. So it has rounds of its own: lastcall and bare libh2o with one loop
each share one core, both under load at the same time, each from a wrk on another core. Whatever the
machine does, it does to both. What is compared is the CPU time a request costs.

Every ratio is given as ratio of the medians and as median of the ratios of single rounds, with the
95 % interval of the latter (by order statistics; fewer than 6 rounds: the whole range). Verdicts
compare the first with the limit, and are UNDECIDED where the limit lies within the interval: that
is noise, not a result, and wants more rounds on a quieter machine. A lastcall that beats bare
libh2o is NOT CREDIBLE, for it does the same and more: something else was measured.

With --pool: one server, /hello (inline, on the loop) beside /sleep?ms=0 (through the worker pool).

Exit status: 0 all that was promised holds; 1 it does not, or is not decided; 64 wrong usage;
69 something is missing.
"""

import argparse
import collections
import http.client
import json
import math
import os
import platform
import random
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peers
from drain_server import http_get

EXIT_FAILED, EXIT_USAGE, EXIT_MISSING = 1, 64, 69
HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(os.path.dirname(HERE), "build", "release")
BODY = b"Hello World\n"
ROWS = ("hello", "static", "proxy", "tls", "cost")
ROW_TITLES = {"static": "static file", "proxy": "reverse proxy", "tls": "static file over TLS"}
H2O_LEAST = 0.97  # of the packaged h2o's rate
START_PATIENCE_S = 5.0
STOP_PATIENCE_S = 5.0
COST_SECONDS, COST_MOST = 2, 2  # percent of a request's CPU time
OTHERS_MOST = 0.05  # of the CPU, in the median; beyond it a run decides nothing
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")

H2O_CONF = """\
num-threads: {threads}
listen:
  host: 127.0.0.1
  port: {port}
hosts:
  default:
    paths:
      /:
        file.dir: {root}
"""
# For lastcall and for h2o. Started by root, both serve as nobody.
SAME_CONF = """\
num-threads: {threads}
listen:
  host: 127.0.0.1
  port: {port}
listen:
  host: 127.0.0.1
  port: {tls_port}
  ssl:
    certificate-file: {temp}/tls.pem
    key-file: {temp}/tls.key
    ocsp-update-interval: 0
hosts:
  default:
    paths:
      /back:
        proxy.reverse.url: http://127.0.0.1:{upstream}/
        proxy.timeout.keepalive: 60000
      /:
        file.dir: {root}
"""
NGINX_CONF = """\
daemon off;
worker_processes {threads};
pid {temp}/nginx.pid;
error_log {temp}/nginx.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
    types {{ text/plain txt; }}
    client_body_temp_path {temp}/nginx-body;
    proxy_temp_path {temp}/nginx-proxy;
    fastcgi_temp_path {temp}/nginx-fastcgi;
    uwsgi_temp_path {temp}/nginx-uwsgi;
    scgi_temp_path {temp}/nginx-scgi;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""

Sample = collections.namedtuple("Sample", "rps cpu_us busiest latency_us others")
Figures = collections.namedtuple("Figures", "rate requests latency_us")  # of wrk


class Missing(Exception):
    """Something that the benchmark can not do without."""


class Broken(Exception):
    """A server that does not start or does not answer: there is nothing to measure."""


# ---- servers ----


def tree(pid):
    """`pid` and its children: nginx serves from those."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [pid] + [int(child) for child in file.read().split()]
    except OSError:
        return [pid]


def cpu_by_thread(pid):
    """Seconds on a core of each thread of the server."""
    seconds = {}
    for process in tree(pid):
        for thread in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{thread}/schedstat") as file:
                seconds[thread] = int(file.read().split()[0]) / 1e9
    return seconds


def on_core(core, command):
    return command if core is None else ["taskset", "-c", str(core)] + command


class Server:
    def __init__(self, name, path, version, command, port, log, core=None):
        self.name, self.path, self.version, self.port = name, path, version, port
        self.log = log
        self.tls_port = self.upstream = None  # where it has them
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                on_core(core, command), stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT)

    def probe(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_PATIENCE_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def wait_until_up(self, expect):
        until = time.monotonic() + START_PATIENCE_S
        got = None
        while time.monotonic() < until and self.process.poll() is None:
            try:
                got = self.probe(self.path)
                break
            except OSError:
                time.sleep(0.02)
        if got != (200, expect):
            with open(self.log, errors="replace") as file:
                said = file.read().strip()[-500:]
            raise Broken(f"{self.name} does not serve {self.path} (answer: {got}); it said: {said}")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def first_match(command, pattern):
    """Programs print their version on either stream."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    match = re.search(pattern, done.stdout)
    return match.group(1) if match else "?"


def need_program(name, package):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise Missing(f"{name} is missing. Install it with: apt-get install {package}")
    return path


def need_built(path, target):
    if not os.access(path, os.X_OK):
        raise Missing(f"{path} is missing. Build it with: "
                      f"cmake --preset release && cmake --build --preset release --target {target}")
    return path


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def start_lastcall(options, temp, threads, core=None):
    binary = need_built(options.lastcall, "lastcall")
    port, = peers.free_ports(1)
    return Server("lastcall", "/hello", first_match([binary, "--version"], r"lastcall (\S+)"),
                  [binary, "--quiet", "--listen", f"127.0.0.1:{port}", "--threads", str(threads)],
                  port, os.path.join(temp, f"lastcall-{threads}.out"), core)


def start_bare(options, temp, threads, core=None):
    binary = need_built(options.bare, "lastcall-bare-h2o")
    port, = peers.free_ports(1)
    library = first_match([options.lastcall, "--version"], r"libh2o: (\S+)")
    return Server("bare-h2o", "/hello", f"libh2o {library}",
                  [binary, "--port", str(port), "--threads", str(threads)],
                  port, os.path.join(temp, f"bare-h2o-{threads}.out"), core)


def start_h2o(_options, temp, threads):
    binary = need_program("h2o", "h2o")
    port, = peers.free_ports(1)
    conf = write(os.path.join(temp, "h2o.conf"),
                 H2O_CONF.format(threads=threads, port=port, root=os.path.join(temp, "root")))
    return Server("h2o", "/hello.txt", first_match([binary, "--version"], r"version (\S+)"),
                  [binary, "-c", conf], port, os.path.join(temp, "h2o.out"))


def start_conf(options, temp, name, upstream, threads, core=None):
    """`lastcall` or `h2o`, with the configuration that both understand."""
    binary = (need_built(options.lastcall, "lastcall") if name == "lastcall"
              else need_program("h2o", "h2o"))
    # Below the range that wrk's connections come from.
    port, tls_port = peers.free_ports(2)
    conf = write(os.path.join(temp, f"{name}-{port}.conf"),
                 SAME_CONF.format(threads=threads, port=port, tls_port=tls_port, temp=temp,
                                  root=os.path.join(temp, "root"), upstream=upstream.port))
    version = first_match([binary, "--version"], r"(?:version|lastcall) (\S+)")
    server = Server(name, "/hello.txt", version, [binary, "-c", conf], port,
                    os.path.join(temp, f"{name}-{port}.out"), core)
    server.tls_port, server.upstream = tls_port, upstream
    return server


def start_upstream(options, temp, core=None):
    binary = need_built(options.upstream, "lastcall-upstream")
    port, = peers.free_ports(1)
    return Server("upstream", "/", "", [binary, "--port", str(port)], port,
                  os.path.join(temp, f"upstream-{port}.out"), core)


def start_pair(options, temp, servers, threads, core=None, upstream_core=None):
    """Lastcall and h2o with the same file. Whatever is in `servers` is stopped in the end."""
    certificate = Path(temp, "tls.pem")
    peers.make_certificate(certificate, Path(temp, "tls.key"))
    upstream = start_upstream(options, temp, upstream_core)
    servers.append(upstream)
    upstream.wait_until_up(BODY)
    pair = []
    for name in ("lastcall", "h2o"):
        server = start_conf(options, temp, name, upstream, threads, core)
        servers.append(server)
        pair.append(server)
        server.wait_until_up(BODY)
        for got in (http_get(server.port, "/back/"),
                    http_get(server.tls_port, server.path, trust=certificate)):
            if got != (200, BODY):
                raise Broken(f"{name} with the common configuration answers wrongly: {got}")
    return pair


def start_nginx(_options, temp, threads):
    binary = need_program("nginx", "nginx-light")
    port, = peers.free_ports(1)
    conf = write(os.path.join(temp, "nginx.conf"),
                 NGINX_CONF.format(threads=threads, port=port, temp=temp,
                                   root=os.path.join(temp, "root")))
    return Server("nginx", "/hello.txt", first_match([binary, "-v"], r"nginx/(\S+)"),
                  [binary, "-p", temp, "-c", conf, "-e", os.path.join(temp, "nginx.log")],
                  port, os.path.join(temp, "nginx.out"))


def start_all(options, temp, servers):
    """Append to `servers` as they start, so that the caller can stop them whatever happens."""
    skipped = {}
    for start in (start_lastcall, start_bare):
        servers.append(start(options, temp, options.threads))
    for name, start in (("h2o", start_h2o), ("nginx", start_nginx)):
        if name in options.skip:
            skipped[name] = "asked to"
            continue
        try:
            servers.append(start(options, temp, options.threads))
        except Missing as missing:
            skipped[name] = str(missing)
    for server in servers:
        server.wait_until_up(BODY)
    return skipped


# ---- measuring ----


def machine_busy_seconds():
    """User, nice, system and stolen time of all cores; interrupts belong to nobody."""
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


def measure(options, server, url, seconds):
    busy, own = machine_busy_seconds(), children_seconds()
    before = cpu_by_thread(server.process.pid)
    behind = cpu_behind(server)
    began = time.monotonic()
    wrk = start_wrk(options, url, seconds, options.connections, None)
    said = wrk.communicate()[0]
    elapsed = time.monotonic() - began
    threads = [seconds_now - before.get(thread, 0.0)
               for thread, seconds_now in cpu_by_thread(server.process.pid).items()]
    serving = sum(threads)
    own = children_seconds() - own + cpu_behind(server) - behind
    busy = machine_busy_seconds() - busy

    figures = read_wrk(server, wrk, said)
    cores = os.cpu_count() or 1
    return Sample(rps=figures.rate, cpu_us=serving / figures.requests * 1e6,
                  busiest=max(threads) / serving if serving > 0 else 1.0,
                  latency_us=figures.latency_us,
                  others=max(0.0, busy - own - serving) / (elapsed * cores))


def cpu_behind(server):
    """Of the upstream, which belongs to the measurement as wrk does."""
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
    """All under load at once, in any order. `urls`: server -> URL. Returns the CPU time of a request in
    microseconds for each."""
    servers = list(urls)
    before = {server: sum(cpu_by_thread(server.process.pid).values()) for server in servers}
    wrks = {server: start_wrk(options, urls[server], seconds,
                              max(1, options.connections // len(servers)), core)
            for server in random.sample(servers, len(servers))}
    said = {server: wrk.communicate()[0] for server, wrk in wrks.items()}
    return [(sum(cpu_by_thread(server.process.pid).values()) - before[server]) * 1e6 /
            read_wrk(server, wrks[server], said[server]).requests for server in servers]


class Progress:
    """One line, rewritten, and only for people."""

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


# ---- reporting ----


def describe_machine():
    model = "?"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"


def median_of(samples, field):
    return statistics.median(getattr(sample, field) for sample in samples)


def interval_of_median(ordered):
    """The narrowest pair of order statistics that holds the median in 95 % of cases."""
    n, tail, k = len(ordered), 0.0, 0
    while True:
        tail += math.comb(n, k) / 2.0 ** n
        if tail > 0.025 or k >= (n - 1) // 2:
            break
        k += 1
    k = max(0, k - 1)
    return ordered[k], ordered[n - 1 - k]


def compare(samples, a, b):
    rates_a, rates_b = ([sample.rps for sample in samples[name]] for name in (a, b))
    by_round = sorted(x / y for x, y in zip(rates_a, rates_b))
    low, high = interval_of_median(by_round)
    return {"of_medians": statistics.median(rates_a) / statistics.median(rates_b),
            "by_round": statistics.median(by_round), "low": low, "high": high,
            "cpu": median_of(samples[a], "cpu_us") / median_of(samples[b], "cpu_us")}


def print_table(samples, labels):
    width = max(len(label) for label in labels.values())
    print(f"{'server':{width}}  {'k req/s':>8}  {'min - max':>13}  {'CPU us/req':>10}  "
          f"{'busiest':>7}  {'p50 us':>7}")
    for name, rounds in samples.items():
        rates = [sample.rps / 1e3 for sample in rounds]
        print(f"{labels[name]:{width}}  {statistics.median(rates):8.1f}  "
              f"{min(rates):5.1f} - {max(rates):5.1f}  {median_of(rounds, 'cpu_us'):10.2f}  "
              f"{median_of(rounds, 'busiest'):7.0%}  {median_of(rounds, 'latency_us'):7.0f}")


def print_ratios(ratios):
    width = max(len(name) for name in ratios)
    print(f"\n{'ratio':{width}}  {'of medians':>10}  {'median by round':>15}  "
          f"{'95 % interval':>13}  {'CPU/req':>8}")
    for name, ratio in ratios.items():
        print(f"{name:{width}}  {ratio['of_medians']:10.3f}  {ratio['by_round']:15.3f}  "
              f"{ratio['low']:5.3f} - {ratio['high']:5.3f}  {ratio['cpu']:8.3f}")


def others_of(samples):
    return sorted(sample.others for rounds in samples.values() for sample in rounds)


def doubts(samples, ratios):
    """Reasons why this run proves nothing, however good it looks."""
    found = []
    if samples and statistics.median(others_of(samples)) > OTHERS_MOST:
        found.append(f"others took more than {OTHERS_MOST:.0%} of the CPU")
    if "lastcall/bare-h2o" in ratios and ratios["lastcall/bare-h2o"]["low"] > 1:
        found.append("lastcall beats bare libh2o, which does the same and less")
    return found


def print_others(samples):
    others = others_of(samples)
    print(f"\nCPU taken by others: median {statistics.median(others):.0%}, most {others[-1]:.0%}")


def print_split(samples, pairs):
    """Warn of ratios that the accept race has made; see the top."""
    def apart_by(a, b):
        return abs(median_of(samples[a], "busiest") - median_of(samples[b], "busiest"))

    apart = [pair for pair in pairs if apart_by(*pair) > 0.10]
    if apart:
        print(f"caution: connections were not spread alike over the threads of "
              f"{', '.join(' and '.join(pair) for pair in apart)}: compare with --threads 1")


def print_together(apart):
    print("\nCPU time of a request beside h2o's, both under load at once on one core:")
    for name, one in apart.items():
        print(f"{name.partition(',')[0]:8}{one['percent']:+.1f} %  "
              f"(95 % interval {one['low']:+.1f} to {one['high']:+.1f} %)")


def decide(ratio, limit, strict=False):
    if ratio["low"] <= limit <= ratio["high"]:
        return "UNDECIDED"
    figure = ratio["of_medians"]
    return "ok" if figure > limit or (figure == limit and not strict) else "NOT MET"


def judge(ratios):
    """What is promised: (text, verdict) a line."""
    lines = []
    if "lastcall/h2o" in ratios:
        ratio = ratios["lastcall/h2o"]
        lines.append((f"/hello vs h2o (file): {ratio['of_medians']:.2f} (want >= {H2O_LEAST})",
                      decide(ratio, H2O_LEAST)))
    for row, title in ROW_TITLES.items():
        name = f"{row}: lastcall/h2o"
        if name in ratios:
            lines.append((f"{title} vs h2o: {ratios[name]['of_medians']:.2f} (want >= {H2O_LEAST})",
                          decide(ratios[name], H2O_LEAST)))
    if "lastcall/nginx" in ratios:
        ratio = ratios["lastcall/nginx"]
        lines.append((f"/hello vs nginx (file): {ratio['of_medians']:.2f} (want > 1.00)",
                      decide(ratio, 1.00, strict=True)))
    if "cost" in ratios:
        lines.append(judge_cost(ratios["cost"]))
    return lines


def judge_cost(ratio):
    cost, low, high = (ratio[key] for key in ("percent", "low", "high"))
    verdict = ("NOT CREDIBLE" if high < 0 else "ok" if high <= COST_MOST
               else "NOT MET" if low > COST_MOST else "UNDECIDED")
    return (f"cost of the active count vs bare libh2o: {cost:.1f} % of a request's CPU time "
            f"(want <= {COST_MOST} %; 95 % interval {low:.1f} to {high:.1f} %)", verdict)


def settings_of(options):
    parts = []
    if options.pool or set(options.rows) != {"cost"}:
        parts.append(f"{options.rounds} rounds of {options.seconds} s, interleaved, every other one "
                     f"backwards; wrk -t1 -c{options.connections}; {options.threads} threads a server; "
                     f"all stay up")
    if options.together and not options.pool:
        parts.append(f"{options.together} rounds of {COST_SECONDS} s for both on one core")
    if "cost" in options.rows and not options.pool:
        parts.append(f"{options.cost_rounds} rounds of {COST_SECONDS} s for the cost, both on one core")
    return "; then ".join(parts)


def print_head(options, servers, skipped):
    print(f"machine:  {describe_machine()}")
    versions = dict.fromkeys(f"{server.name} {server.version}" for server in servers)
    print("versions: " + ", ".join([*versions, f"wrk {options.wrk_version}"]))
    print(f"settings: {settings_of(options)}")
    for name, why in skipped.items():
        print(f"skipped:  {name}: {why}")
    print()


def write_json(options, servers, skipped, samples, ratios, verdict):
    if options.json is None:
        return
    result = {
        "machine": describe_machine(), "settings": settings_of(options),
        "wrk": options.wrk_version,
        "versions": {server.name: server.version for server in servers}, "skipped": skipped,
        "rounds": {name: [sample._asdict() for sample in rounds]
                   for name, rounds in samples.items()},
        "ratios": ratios,
        "verdict": [{"line": line, "verdict": word} for line, word in verdict],
    }
    with open(options.json, "w") as file:
        json.dump(result, file, indent=2)
        file.write("\n")


# ---- the two questions ----


def measure_cost(options, temp, servers):
    """One loop each, both on one core, and both wrks on another (if there are two)."""
    core, wrk_core = two_cores()
    urls = {}
    for start in (start_lastcall, start_bare):
        servers.append(start(options, temp, 1, core))
        servers[-1].wait_until_up(BODY)
        urls[servers[-1]] = url_of(servers[-1], servers[-1].path)
    return rounds_together(options, {"cost": urls}, options.cost_rounds, wrk_core)["cost"]


def two_cores():
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


def rounds_together(options, pairs, rounds, wrk_core):
    """`pairs`: name -> {server: URL}, ours first. How many percent more CPU time ours takes."""
    progress = Progress(options.quiet)
    for urls in pairs.values():
        measure_together(options, urls, 1, wrk_core)  # to warm up
    costs = {name: [] for name in pairs}
    for i in range(rounds):
        for name, urls in pairs.items():
            progress.show(f"{name}: round {i + 1}/{rounds}")
            ours, other = measure_together(options, urls, COST_SECONDS, wrk_core)
            costs[name].append((ours / other - 1) * 100)
    progress.clear()
    result = {}
    for name, of_name in costs.items():
        low, high = interval_of_median(sorted(of_name))
        result[name] = {"percent": statistics.median(of_name), "low": low, "high": high,
                        "rounds": of_name}
    return result


def measure_rows_together(options, temp, servers):
    """The common configuration with one loop each, both on one core, the rest on another."""
    core, wrk_core = two_cores()
    pair = start_pair(options, temp, servers, 1, core, wrk_core)
    urls = {f"{row}, together": {server: url_of_row(server, row) for server in pair}
            for row in ROW_TITLES if row in options.rows}
    return rounds_together(options, urls, options.together, wrk_core)


def contenders_of(options, temp, servers):
    """All that the chosen rows want, started. Returns name -> (server, URL), pairs of names to be
    compared, name -> label, and who was skipped."""
    contenders, pairs, labels, skipped = {}, {}, {}, {}
    if "hello" in options.rows:
        skipped = start_all(options, temp, servers)
        contenders = {server.name: (server, url_of(server, server.path)) for server in servers}
        pairs = {f"lastcall/{name}": ("lastcall", name) for name in list(contenders)[1:]}
        labels = {server.name: f"{server.name} {server.path}" for server in servers}
    rows = [row for row in ROW_TITLES if row in options.rows]
    if rows and "h2o" in options.skip:
        skipped[", ".join(rows)] = "nothing to compare with, as h2o is skipped"
    elif rows:
        pair = start_pair(options, temp, servers, options.threads)
        for row in rows:
            for server in pair:
                contenders[f"{row}: {server.name}"] = (server, url_of_row(server, row))
            pairs[f"{row}: lastcall/h2o"] = (f"{row}: lastcall", f"{row}: h2o")
    return contenders, pairs, {name: labels.get(name, name) for name in contenders}, skipped


def side_by_side(options, temp, servers):
    contenders, pairs, labels, skipped = contenders_of(options, temp, servers)
    seen = [server for server in servers if server.version]
    print_head(options, seen, skipped)
    samples = run_rounds(options, contenders, options.rounds, options.seconds)
    cost = measure_cost(options, temp, servers) if "cost" in options.rows else None
    ratios = {name: compare(samples, *pair) for name, pair in pairs.items()}
    if samples:
        print_table(samples, labels)
        print_ratios(ratios)
        print_others(samples)
        print_split(samples, pairs.values())
    if cost:
        ratios["cost"] = cost
    if options.together:
        apart = measure_rows_together(options, temp, servers)
        ratios.update(apart)
        print_together(apart)
    verdict = judge(ratios)
    for doubt in doubts(samples, ratios):
        print(f"caution: {doubt}: nothing is decided")
        verdict = [(line, "UNDECIDED" if word in ("ok", "NOT MET") else word)
                   for line, word in verdict]
    print()
    for line, word in verdict:
        print(f"{line} {word}")
    write_json(options, seen, skipped, samples, ratios, verdict)
    return 0 if all(word == "ok" for _, word in verdict) else EXIT_FAILED


def pool_beside_inline(options, temp, servers):
    servers.append(start_lastcall(options, temp, options.threads))
    server = servers[0]
    server.wait_until_up(BODY)
    print_head(options, servers, {})
    contenders = {"inline": (server, url_of(server, "/hello")),
                  "pool": (server, url_of(server, "/sleep?ms=0"))}
    samples = run_rounds(options, contenders, options.rounds, options.seconds)
    print_table(samples, {"inline": "inline /hello", "pool": "pool /sleep?ms=0"})
    ratios = {"pool/inline": compare(samples, "pool", "inline")}
    print_ratios(ratios)
    print_others(samples)
    write_json(options, servers, {}, samples, ratios, [])
    return 0


# ---- main ----


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def whole(smallest, largest):
    def parse(text):
        if not text.isdecimal() or not smallest <= int(text) <= largest:
            raise argparse.ArgumentTypeError(
                f"want a whole number from {smallest} to {largest}, not {text!r}")
        return int(text)
    return parse


def chosen_rows(text):
    rows = text.split(",")
    unknown = [row for row in rows if row not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no {unknown[0]}; there are {', '.join(ROWS)}")
    return rows


def parse_options():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=whole(1, 1000), default=7, help="default: 7")
    parser.add_argument("--seconds", type=whole(1, 3600), default=3,
                        help="of load, for each server in each round (default: 3)")
    parser.add_argument("--connections", type=whole(1, 4096), default=64, help="default: 64")
    parser.add_argument("--threads", type=whole(1, 64), default=2, help="a server (default: 2)")
    parser.add_argument("--cost-rounds", type=whole(1, 10000), default=60, metavar="N",
                        help=f"rounds of {COST_SECONDS} s for the cost of the active count "
                             "(default: 60)")
    parser.add_argument("--together", type=whole(0, 10000), default=0, metavar="N",
                        help=f"besides, N rounds of {COST_SECONDS} s for each of static, proxy and tls "
                             "with both servers on one core: for machines that others use, too")
    parser.add_argument("--pool", action="store_true",
                        help="measure the way through the worker pool beside the inline one")
    parser.add_argument("--rows", type=chosen_rows, default=ROWS, metavar="NAME,...",
                        help=f"only these: {', '.join(ROWS)} (default: all)")
    parser.add_argument("--skip", action="append", choices=("h2o", "nginx"), default=[],
                        help="leave this peer out")
    parser.add_argument("--lastcall", metavar="FILE", default=os.path.join(BUILD, "lastcall"),
                        help="the server's binary (default: the release build)")
    parser.add_argument("--bare", metavar="FILE", default=os.path.join(BUILD, "lastcall-bare-h2o"),
                        help="the bare libh2o binary (default: the release build)")
    parser.add_argument("--upstream", metavar="FILE", default=os.path.join(BUILD, "lastcall-upstream"),
                        help="what stands behind the proxies (default: the release build)")
    parser.add_argument("--json", metavar="FILE", help="write every sample and ratio to FILE")
    parser.add_argument("--quiet", action="store_true", help="no progress on a terminal")
    options = parser.parse_args()
    if options.together and ("h2o" in options.skip or not set(ROW_TITLES) & set(options.rows)):
        parser.error("--together compares with h2o, in rows that have it")
    return options


def end_politely(signum, _frame):
    raise SystemExit(128 + signum)


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, end_politely)
    servers = []
    with tempfile.TemporaryDirectory(prefix="lastcall-throughput-") as temp:
        os.chmod(temp, 0o755)  # started by root, h2o and nginx serve as somebody else
        os.mkdir(os.path.join(temp, "root"))
        write(os.path.join(temp, "root", "hello.txt"), BODY.decode())
        try:
            options.wrk = need_program("wrk", "wrk")
            need_program("taskset", "util-linux")
            options.wrk_version = first_match([options.wrk, "-v"], r"wrk (\S+)")
            ask = pool_beside_inline if options.pool else side_by_side
            return ask(options, temp, servers)
        except (Missing, peers.Missing) as missing:
            print(f"throughput.py: {missing}", file=sys.stderr)
            return EXIT_MISSING
        except (Broken, OSError) as broken:
            print(f"throughput.py: {broken}", file=sys.stderr)
            return EXIT_FAILED
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        finally:
            for server in servers:
                server.stop()


if __name__ == "__main__":
    sys.exit(main())
