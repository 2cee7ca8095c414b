#!/usr/bin/env python3
"""What does it cost to keep requests on record?

Three servers that differ only in `journal`: off, on, and on with `hold: ON`. All run at the same time, with
two loops each. lastcall-load loads one at a time, in short rounds, in another order in each round, so that
changes of the machine's speed favour none. A row is a kind of request:

    post        POST of 1 KiB through the worker pool (/sleep?ms=0)
    post-inline POST of 1 KiB that is answered on the loop (/hello)
    get         GET /hello, which is not recorded

Two figures for each row, each the median of the ratios of single rounds with its 95 % interval: the rate, and
the CPU time of a request, which is also meaningful on a machine that is busy otherwise. `--limit` is the
smallest allowed ratio of rates for `on` in the rows with POST; --limit 0 allows any.

    ./bench/speed/journal.py                       two minutes
    ./bench/speed/journal.py --rounds 3 --seconds 0.5 --limit 0      a quick check

Exit status: 0 within the limit; 1 not, or the interval contains the limit; 69 something is missing.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "release"
TICK = os.sysconf("SC_CLK_TCK")
KINDS = {"off": "", "on": "", "hold": ", hold: ON"}
ROWS = {
    "post": ["--path", "/sleep?ms=0", "--body", "1024"],
    "post-inline": ["--path", "/hello", "--body", "1024"],
    "get": ["--path", "/hello"],
}


class Server:
    def __init__(self, kind, folder, binary):
        conf = Path(folder) / f"{kind}.conf"
        journal = Path(folder) / kind
        text = (
            "listen: {host: 127.0.0.1, port: 0}\nnum-threads: 2\nuser: %s\n"
            "hosts: {default: {paths: {/hello: {handler: hello}, /sleep: {handler: sleep}}}}\n"
            % ("root" if os.geteuid() == 0 else os.environ.get("USER", "nobody"))
        )
        if kind != "off":
            journal.mkdir(mode=0o700)
            text += "journal: {dir: %s%s}\n" % (journal, KINDS[kind])
        conf.write_text(text, encoding="utf-8")
        self.process = subprocess.Popen([binary, "--conf", conf], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "listening on " in line:
                self.address = line.split("listening on ")[1].strip()
                return
        sys.exit(f"journal.py: {binary} does not start")

    def cpu_s(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def stop(self):
        self.process.kill()
        self.process.wait()


def measure(server, row, args):
    before = server.cpu_s()
    command = [args.load, "--json", "--connections", str(args.connections), "--duration"]
    command += [f"{int(args.seconds * 1000)}ms", *ROWS[row], server.address]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    result = json.loads(done.stdout)
    if result["lost"] or not result["answered_2xx"]:
        sys.exit(f"journal.py: {row}: {result}")
    return result["answered"] / args.seconds, (server.cpu_s() - before) * 1e6 / result["answered"]


def interval(values):
    """The median, and its 95 % interval by order statistics."""
    values = sorted(values)
    n = len(values)
    k = max(0, int(n / 2 - 0.98 * n**0.5)) if n >= 6 else 0
    return statistics.median(values), values[k], values[n - 1 - k]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.7)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--limit", type=float, default=0.95)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--lastcall", default=BUILD / "lastcall")
    parser.add_argument("--load", default=BUILD / "lastcall-load")
    args = parser.parse_args()
    if not os.access(args.lastcall, os.X_OK) or not os.access(args.load, os.X_OK):
        print("journal.py: build first: make build/release/.configured", file=sys.stderr)
        return 69

    folder = tempfile.mkdtemp(prefix="lastcall-journal-")
    servers, status = {}, 0
    try:
        for kind in KINDS:
            servers[kind] = Server(kind, folder, args.lastcall)
        print(f"{args.rounds} rounds of {args.seconds} s, {args.connections} connections, "
              f"load average {os.getloadavg()[0]:.1f}")
        for row in args.rows.split(","):
            samples = {kind: [] for kind in KINDS}
            for _ in range(args.rounds):
                for kind in random.sample(list(KINDS), len(KINDS)):
                    samples[kind].append(measure(servers[kind], row, args))
            base = samples["off"]
            print(f"\n{row}: off {statistics.median(s[0] for s in base):,.0f} requests/s, "
                  f"{statistics.median(s[1] for s in base):.1f} us of CPU a request")
            for kind in ("on", "hold"):
                rates = interval([s[0] / b[0] for s, b in zip(samples[kind], base)])
                costs = interval([s[1] / b[1] for s, b in zip(samples[kind], base)])
                verdict = ""
                if args.limit and kind == "on" and row.startswith("post"):
                    verdict = ("  holds" if rates[1] >= args.limit else
                               "  FAILS" if rates[2] < args.limit else "  UNDECIDED")
                    status |= rates[1] < args.limit
                print("  %-5s rate %.3f (%.3f to %.3f), CPU %.3f (%.3f to %.3f)%s" % (kind, *rates, *costs, verdict))
    finally:
        for server in servers.values():
            server.stop()
        shutil.rmtree(folder)
    return status


if __name__ == "__main__":
    sys.exit(main())
