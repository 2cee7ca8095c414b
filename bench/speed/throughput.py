#!/usr/bin/env python3
"""How many requests per second, compared with other servers?

Four servers answer the same twelve bytes on loopback, each with two threads: lastcall /hello, the
same handler on bare libh2o, and the packaged h2o and nginx with a file. All are started once and
keep running (an idle one costs nothing). wrk loads one at a time, in rounds; every other round runs
in reverse order, so that changes of the machine's speed favour none.

Which thread gets a connection depends on a race in accept, and that matters more than the code: on
two cores, one of which wrk needs, a server that accepts all connections on one thread is up to a
third faster than the same server with two busy threads. The column "busiest" has the share of the
busiest thread. If it differs between two servers, their ratio means little: measure again with
--threads 1.

The rows static, proxy and tls compare lastcall -c FILE with h2o -c FILE; the files differ only in the
ports. Both serve the same twelve bytes from a file, over HTTP and over TLS with keep-alive, and as a
proxy to the same upstream (lastcall-upstream, one thread). --rows selects rows; one run interleaves all
selected rows.

With --together these rows are also measured as in the next paragraph: on a machine that is busy
otherwise the CPU time of a request means more than the rate.

The cost of the active count is the smallest difference here, far below the variation of such a machine
from one second to the next. So it has its own rounds: lastcall and bare libh2o, with one loop each, share
one core, both under load at the same time, each from a wrk on another core. So every change of the
machine affects both. The CPU time of a request is compared.

Every ratio is given as ratio of the medians and as median of the ratios of single rounds, with the
95 % interval of the latter (by order statistics; fewer than 6 rounds: the whole range). Verdicts
compare the first with the limit, and are UNDECIDED if the limit lies within the interval: that is
noise, and needs more rounds on a quieter machine. A lastcall that is faster than bare libh2o is NOT
CREDIBLE, because it does the same and more: something else was measured.

With --pool: one server, /hello (inline, on the loop) beside /sleep?ms=0 (through the worker pool).

Exit status: 0 all limits are met; 1 they are not, or it is undecided; 64 wrong usage; 69 something is
missing.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import peers
from speed_measure import Progress, measure_together, run_rounds, url_of, url_of_row
from speed_report import (
    COST_SECONDS, ROW_TITLES, compare, doubts, interval_of_median, judge, print_head, print_others,
    print_ratios, print_split, print_table, print_together, write_json)
from speed_servers import (
    BODY, Broken, Missing, first_match, need_program, start_all, start_bare, start_lastcall, start_pair,
    write)

EXIT_FAILED, EXIT_USAGE, EXIT_MISSING = 1, 64, 69
BUILD = str(Path(__file__).resolve().parents[2] / "build" / "release")
ROWS = ("hello", "static", "proxy", "tls", "cost")


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
    """Start everything that the selected rows need. Returns name -> (server, URL), the pairs of names to
    compare, name -> label, and the skipped servers."""
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
                f"expected a whole number from {smallest} to {largest}, not {text!r}")
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
                        help="the upstream of the proxies (default: the release build)")
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
        os.chmod(temp, 0o755)  # if root starts them, h2o and nginx serve as another user
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
