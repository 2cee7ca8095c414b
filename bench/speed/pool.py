#!/usr/bin/env python3
"""What does the worker pool cost, beside handlers on the loop and beside other servers?

Seven subjects answer on loopback, each with two threads (or as many as --threads says): bare libh2o and lastcall
with a handler on the loop, lastcall with handlers that may block, in place and through the queue, Go's net/http,
nginx with `return 200`, Node's http. The configuration says `place: auto` for the third and `place: queue` for the
fourth; a lastcall that does not know this directive has its pool routes measured as they are, under `queue`.

Handlers return at once, compute for 20 us, sleep 1 ms, 5 ms, or 20 ms in every 1,000th request. Loads are 1, 64 and
512 connections, by wrk over HTTP/1 and by h2load over HTTP/2 (in cleartext, so without Go and Node; 10 requests at a
time on a connection, --streams). The sleeping ones run with 2 to 256 workers.

One server at a time is up: an idle one that polls would cost the others. A round starts each server once, measures
all that it takes part in, and stops it; every other round runs backwards. Figures are medians over the rounds;
ratios are medians of the ratios of single rounds, with their 95 % interval (by order statistics; fewer than 6
rounds: the whole range). CPU time is that of the server's process and its children, from /proc/PID/task/*/schedstat
(/proc/PID/stat has the same in steps of 10 ms).

The table "must / seen" has what the pool is to reach. UNDECIDED: the limit lies within the interval; measure more
rounds, on a quieter machine.

    pool.py --quick                   the rows of that table, in 3 minutes
    pool.py                           all rows, 3 rounds, some 10 minutes
    pool.py --rounds 9 --docs docs/bench/pool.md     as published, some 30 minutes

Exit status: 0 everything that must be reached is; 1 it is not, or undecided; 64 wrong usage; 69 something is missing.
"""

import argparse
import collections
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import peers
from pool_cells import plan
from pool_load import WARM_UP_MS, Sample, measure, warm_up
from pool_report import judge, print_report, write_docs, write_json
from pool_servers import PATHS, SUBJECTS, Broken, Missing, missing_subjects, start
from speed_servers import BODY, first_match, need_built, need_program, write
from throughput import EXIT_FAILED, EXIT_MISSING, BUILD, Parser, end_politely, whole

START_S = 0.4  # of a server, and its end: for the estimate


class Run:
    """Everything that is measured: cell -> subject -> one Sample a round, None where it failed."""

    def __init__(self, options, temp, stands, skipped):
        self.options, self.temp, self.stands, self.skipped = options, temp, stands, skipped
        self.samples = collections.defaultdict(dict)
        self.versions, self.broken = {}, {}
        self.began = time.monotonic()

    def note(self, text):
        if not self.options.quiet:
            print(text, file=sys.stderr, flush=True)

    def round(self, number):
        stands = list(self.stands.items())
        for stand, cells in stands if number % 2 == 0 else reversed(stands):
            began = time.monotonic()
            self.serve(number, stand, cells if number % 2 == 0 else cells[::-1])
            self.note(f"round {number + 1}/{self.options.rounds}: {stand.subject}"
                      f"{f', {stand.workers} workers' if stand.workers else ''}: {len(cells)} loads, "
                      f"{time.monotonic() - began:.0f} s; {(time.monotonic() - self.began) / 60:.1f} min in all")

    def serve(self, number, stand, cells):
        try:
            server = start(self.options, self.temp, stand)
        except (Broken, OSError) as broken:
            self.give_up(stand, "start", broken)
            return
        try:
            self.versions[stand.subject] = server.version
            warm = None
            for cell in cells:
                kind = (cell.handler, cell.protocol)
                try:
                    sample = self.load(server, stand, cell, warm != kind)
                except (Broken, subprocess.TimeoutExpired) as broken:
                    self.give_up(stand, f"{cell.handler}, {cell.protocol}, {cell.connections} connections", broken)
                    continue
                warm = kind
                self.samples[cell].setdefault(stand.subject, [None] * self.options.rounds)[number] = sample
        finally:
            server.stop()

    def load(self, server, stand, cell, is_new):
        if server.process.poll() is not None:
            raise Broken(f"the server has exited with status {server.process.returncode}")
        path = PATHS[stand.subject][cell.handler]
        if is_new:
            warm_up(self.options, server, cell, path)
        return measure(self.options, server, cell, path, self.temp)

    def give_up(self, stand, what, why):
        """This one is missing in this round; the others go on."""
        workers = f", {stand.workers} workers" if stand.workers else ""
        self.broken[f"{stand.subject}{workers}: {what}"] = str(why)
        self.note(f"broken: {stand.subject}{workers}: {what}: {why}")


def estimate_s(options, stands):
    loads = sum(len(cells) for cells in stands.values())
    return options.rounds * (loads * (options.seconds + 0.15 + WARM_UP_MS / 2000) + len(stands) * START_S)


# ---- main ----


def names(text):
    unknown = [name for name in text.split(",") if name not in SUBJECTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no {unknown[0]}; there are {', '.join(SUBJECTS)}")
    return text.split(",")


def parse_options():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=whole(1, 1000), default=3, help="default: 3; as published: 9")
    parser.add_argument("--seconds", type=whole(1, 3600), default=1, help="of each load (default: 1)")
    parser.add_argument("--quick", action="store_true", help="only what the table must / seen needs")
    parser.add_argument("--threads", type=whole(1, 256), default=2, help="a server (default: 2)")
    parser.add_argument("--load-threads", type=whole(1, 64), default=1, help="of wrk and h2load (default: 1)")
    parser.add_argument("--streams", type=whole(1, 100), default=10,
                        help="requests at a time on an HTTP/2 connection (default: 10)")
    parser.add_argument("--server-cores", metavar="LIST", help="as for taskset -c: where servers run (default: all)")
    parser.add_argument("--load-cores", metavar="LIST", help="where the loads run (default: all)")
    parser.add_argument("--skip", type=names, default=[], metavar="NAME,...", help=f"of {', '.join(SUBJECTS)}")
    parser.add_argument("--directive", default="place", metavar="NAME",
                        help="which directive of a path chooses between auto and queue (default: place)")
    parser.add_argument("--lastcall", metavar="FILE", default=os.path.join(BUILD, "lastcall"),
                        help="default: the release build")
    parser.add_argument("--bare", metavar="FILE", default=os.path.join(BUILD, "lastcall-bare-h2o"),
                        help="default: the release build")
    parser.add_argument("--load", metavar="FILE", default=os.path.join(BUILD, "lastcall-load"),
                        help="default: the release build")
    parser.add_argument("--json", metavar="FILE", help="write every sample and ratio to FILE")
    parser.add_argument("--docs", metavar="FILE", help="write the tables between the marks of this Markdown file, and "
                                                       "the chart beside it, as .svg (needs gnuplot)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser.parse_args()


def find_tools(options):
    options.wrk = need_program("wrk", "wrk")
    options.h2load = need_program("h2load", "nghttp2-client")
    need_program("taskset", "util-linux")
    need_built(options.load, "lastcall-load")
    options.versions = {"wrk": first_match([options.wrk, "-v"], r"wrk (\S+)"),
                        "h2load": first_match([options.h2load, "--version"], r"nghttp2/(\S+)")}


def bench(options, temp):
    find_tools(options)
    skipped = missing_subjects(options, temp)
    stands = plan(options, skipped)
    run = Run(options, temp, stands, skipped)
    run.note(f"{sum(map(len, stands.values()))} loads of {len(stands)} servers, {options.rounds} rounds of "
             f"{options.seconds} s: about {estimate_s(options, stands) / 60:.0f} minutes")
    for name, why in skipped.items():
        run.note(f"skipped: {name}: {why}")
    for number in range(options.rounds):
        run.round(number)
    run.minutes = (time.monotonic() - run.began) / 60
    rows = judge(run)
    print_report(run, rows)
    if options.json:
        write_json(run, rows)
    if options.docs:
        write_docs(run, rows)
    return 0 if all(row.word in ("ok", "skipped") for row in rows) else EXIT_FAILED


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, end_politely)
    with tempfile.TemporaryDirectory(prefix="lastcall-pool-") as temp:
        os.chmod(temp, 0o755)  # if root starts it, nginx serves as another user
        os.mkdir(os.path.join(temp, "root"))
        write(os.path.join(temp, "root", "hello.txt"), BODY.decode())
        try:
            return bench(options, temp)
        except (Missing, peers.Missing) as missing:
            print(f"pool.py: {missing}", file=sys.stderr)
            return EXIT_MISSING
        except (Broken, OSError) as broken:
            print(f"pool.py: {broken}", file=sys.stderr)
            return EXIT_FAILED
        except KeyboardInterrupt:
            return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
