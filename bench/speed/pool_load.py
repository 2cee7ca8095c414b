"""The loads of pool.py: wrk for HTTP/1, h2load for HTTP/2 and where the latency of a 200 counts apart from that of
a 503, lastcall-load beside them and where some handlers sleep."""

from __future__ import annotations

import collections
import json
import os
import re
import subprocess
from pathlib import Path

from speed_measure import Meter
from speed_servers import Broken, on_core

# Latencies in microseconds; those of h2load are of answers with status 200 alone. `shed` are other answers, `failed`
# are errors of sockets and requests without an answer. `beside_p99` is that of /hello, from the second load.
Sample = collections.namedtuple(
    "Sample", "rps cpu_us busiest others p50 p99 p999 shed failed beside_p50 beside_p99")

WARM_UP_MS = 200
PATIENCE_S = 60
BESIDE = ["--connections", "4", "--rate", "1000", "--path", "/hello", "--patience", "5s", "--json"]
SCRIPT = Path(__file__).resolve().parent / "pool.lua"


def percentile(ordered, percent):
    """The smallest value that at least `percent` of all do not exceed."""
    if not ordered:
        return None
    rank = -(-len(ordered) * percent * 10 // 1000)  # rounded up; percent has one decimal
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]


def run(options, command):
    done = subprocess.run(on_core(options.load_cores, command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S + options.seconds)
    if done.returncode != 0:
        raise Broken(f"{command[0]} failed: {done.stdout.strip()[-300:]}")
    return done.stdout


def threads_of(options, cell):
    return f"-t{min(options.load_threads, cell.connections)}"


def url_of(server, cell, path):
    return f"http://127.0.0.1:{server.h2_port if cell.protocol == 'h2' else server.port}{path}"


def h2load_of(options, cell, *more):
    protocol = ["-m", str(options.streams)] if cell.protocol == "h2" else ["--h1"]
    return [options.h2load, *protocol, "-c", str(cell.connections), threads_of(options, cell), *more]


def warm_up(options, server, cell, path):
    run(options, h2load_of(options, cell, "-D", f"{WARM_UP_MS}ms", url_of(server, cell, path)))


def run_wrk(options, server, cell, path):
    said = run(options, [options.wrk, threads_of(options, cell), f"-c{cell.connections}", f"-d{options.seconds}s",
                         "-s", str(SCRIPT), url_of(server, cell, path)])
    match = re.search(r"^figures (\{.*\})$", said, re.MULTILINE)
    if not match:
        raise Broken(f"wrk said: {said.strip()[-300:]}")
    figures = json.loads(match.group(1))
    figures["rps"] = (figures["answers"] - figures["refused"]) / (figures["us"] / 1e6)
    return figures


def run_h2load(options, server, cell, path, temp):
    """Its log has a line for each answer: when, status, microseconds."""
    log = os.path.join(temp, "h2load.log")
    Path(log).unlink(missing_ok=True)
    how_long = ["-n", str(cell.requests)] if cell.requests else ["-D", f"{options.seconds}s"]
    said = run(options, h2load_of(options, cell, *how_long, "--log-file", log, url_of(server, cell, path)))
    seconds = re.search(r"^finished in ([\d.]+)(us|ms|s),", said, re.MULTILINE)
    counts = re.search(r"^requests: (\d+) total, (\d+) started, (\d+) done, .* (\d+) errored, (\d+) timeout", said,
                       re.MULTILINE)
    if not seconds or not counts:
        raise Broken(f"h2load said: {said.strip()[-300:]}")
    total, _, answered, errored, timed_out = map(int, counts.groups())
    with open(log) as file:
        answers = [line.split("\t") for line in file]
    good = sorted(int(answer[2]) for answer in answers if answer[1] == "200")
    elapsed = float(seconds.group(1)) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[seconds.group(2)]
    return {"answers": len(answers), "rps": len(good) / elapsed, "refused": len(answers) - len(good),
            "p50": percentile(good, 50), "p99": percentile(good, 99), "p999": percentile(good, 99.9),
            # Only a run of a given number of requests waits for the last answer.
            "failed": max(errored + timed_out, total - answered if cell.requests else 0)}


def run_own_load(options, server, cell, path):
    """For the latency of handlers that sleep now and then. wrk adds requests that it would have sent while a
    connection waited, so there the 99th percentile of the quicker server is the greater one."""
    said = run(options, [options.load, "--connections", str(cell.connections), "--path", path, "--duration",
                         f"{options.seconds}s", "--json", f"127.0.0.1:{server.port}"])
    result = json.loads(said)
    return {"answers": result["answered"], "rps": result["answered_2xx"] / options.seconds,
            "refused": result["answered"] - result["answered_2xx"], "p50": result["latency_p50_us"],
            "p99": result["latency_p99_us"], "p999": None, "failed": result["lost"] + result["waiting"]}


def start_beside(options, server):
    return subprocess.Popen(
        on_core(options.load_cores, [options.load, *BESIDE, "--duration", f"{options.seconds}s",
                                     f"127.0.0.1:{server.port}"]),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def read_beside(load):
    said = load.communicate(timeout=PATIENCE_S)[0]
    result = json.loads(said)
    if not result["answered"]:
        raise Broken(f"no answer to the second load: {said.strip()[-300:]}")
    return {"beside_p50": result["latency_p50_us"], "beside_p99": result["latency_p99_us"],
            "failed": result["lost"]}


def measure(options, server, cell, path, temp):
    """One Sample of one cell."""
    meter = Meter(server)
    beside = start_beside(options, server) if cell.beside else None
    try:
        if cell.protocol == "h2" or cell.requests:
            figures = run_h2load(options, server, cell, path, temp)
        elif cell.handler in ("rare", "never"):
            figures = run_own_load(options, server, cell, path)
        else:
            figures = run_wrk(options, server, cell, path)
        extra = read_beside(beside) if beside else {"beside_p50": None, "beside_p99": None, "failed": 0}
    finally:
        if beside is not None and beside.poll() is None:
            beside.kill()
            beside.wait()
    use = meter.read()
    if figures["answers"] == 0:
        raise Broken("no answer at all")
    return Sample(rps=figures["rps"], cpu_us=use.serving_s * 1e6 / figures["answers"], busiest=use.busiest,
                  others=use.others, p50=figures["p50"], p99=figures["p99"], p999=figures["p999"],
                  shed=figures["refused"], failed=figures["failed"] + extra["failed"],
                  beside_p50=extra["beside_p50"], beside_p99=extra["beside_p99"])
