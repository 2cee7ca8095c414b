#!/usr/bin/env python3
"""What does a handler in liblastcall cost, beside the built-in route of lastcall and beside other libraries?

All answer the same twelve bytes on loopback: lastcall's built-in route in place (`pool`), a program of liblastcall
(`library`), Go's net/http, libmicrohttpd with a pool of epoll threads, civetweb with a thread for each connection.
Each has two threads for its loops (--threads), apart from civetweb. wrk loads with 64 and with 512 connections.

One server at a time is up. A round measures each server once; every other round runs backwards. Figures are medians
over the rounds; ratios to `pool` are medians of the ratios of single rounds, with their 95 % interval. CPU time is
that of the server's threads a request (/proc/PID/task/*/schedstat). On two cores that server and load share, single
rounds differ by a fifth: a core for each, and one thread a server, shows smaller differences.

    library.py                                      9 rounds of 2 seconds, some 5 minutes
    library.py --docs docs/bench/library.md         and the tables between the marks of that page
    library.py --threads 1 --server-cores 0 --load-cores 1 --servers pool,library --rounds 31 --seconds 1

Exit status: 0 `library` reaches 0.97 of `pool`; 1 it does not, or that is undecided; 64 wrong usage; 69 something is
missing.
"""

import argparse
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers"))
import peers
from pool_servers import Stand, conf_of
from speed_measure import measure
from speed_report import describe_machine, interval_of_median
from speed_servers import BODY, Broken, Missing, Server, first_match, need_built, need_program, write
from throughput import BUILD, EXIT_FAILED, EXIT_MISSING, Parser, end_politely, whole

CONNECTIONS = (64, 512)
MUST = 0.97
MARKS = ("<!-- library.py -->", "<!-- library.py ends -->")
# name -> (what pkg-config or the linker wants, the Debian package)
C_PEERS = {"libmicrohttpd": ("-lmicrohttpd", "libmicrohttpd-dev"), "civetweb": ("-lcivetweb", "libcivetweb-dev")}
SUBJECTS = ("pool", "library", "go", *C_PEERS)
COMPARED = ("pool", "library")


def build_peer(options, temp, name):
    flag, package = C_PEERS[name]
    program = os.path.join(temp, name)
    source = str(HERE.parent / "peers" / "programs" / f"{name}.c")
    done = subprocess.run(["cc", "-O2", source, flag, "-lpthread", "-o", program], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Missing(f"{name} is missing. Install it with: apt-get install {package}")
    return program


def version_of(package):
    return first_match(["dpkg-query", "-W", "-f", "${Version}", package], r"([\d.]+)")


def prepare(options, temp):
    """name -> (version, function that makes the command for a port, path)."""
    lastcall = need_built(os.path.join(BUILD, "lastcall"), "lastcall")
    hello = need_built(os.path.join(BUILD, "lastcall-library-hello"), "lastcall-library-hello")
    version = first_match([lastcall, "--version"], r"lastcall (\S+)")
    options.directive, options.takes_directive = "place", True

    def pool(port):
        conf = write(os.path.join(temp, "pool.conf"), conf_of(options, Stand("place"), port))
        return [lastcall, "--quiet", "-c", conf]

    ways = {"pool": (version, pool, "/once?us=0"),
            "library": (version, lambda port: [hello, str(port), str(options.threads)], "/once")}
    for name in C_PEERS:
        if name not in options.servers:
            continue
        try:
            program = build_peer(options, temp, name)
        except Missing as missing:
            print(f"library.py: skipped: {missing}", file=sys.stderr)
            continue
        ways[name] = (version_of(C_PEERS[name][1]),
                      lambda port, program=program: [program, str(port), str(options.threads)], "/once")
    if "go" not in options.servers:
        return ways
    try:
        peer = peers.PEERS["go"]
        program = peers.program_of(peer, Path(lastcall))
        site = peers.Site(temp=Path(temp), root=Path(temp, "root"), port=0, h2_port=0, backend=0, lastcall=Path(lastcall),
                          build=Path(BUILD).parent / "bench" / "peers")
        path = peer.launch(program, site).small
        ways["go"] = (peers.version_of(peer, program), None, path)
        options.go = (peer, program, site)
    except peers.Missing as missing:
        print(f"library.py: skipped: {missing}", file=sys.stderr)
    return ways


def start(options, temp, name, way):
    version, command, path = way
    port, = peers.free_ports(1)
    env = None
    if name == "go":
        peer, program, site = options.go
        launch = peer.launch(program, dataclasses.replace(site, port=port))
        argv, env = launch.argv, {**launch.env, "GOMAXPROCS": str(options.threads)}
    else:
        argv = command(port)
    server = Server(name, path, version, argv, port, os.path.join(temp, f"{name}.out"), options.server_cores,
                    env)
    try:
        server.wait_until_up(BODY)
    except BaseException:
        server.stop()
        raise
    return server


def run_round(options, temp, ways, number, samples):
    names = list(ways)
    for name in names if number % 2 == 0 else names[::-1]:
        server = start(options, temp, name, ways[name])
        try:
            url = f"http://127.0.0.1:{server.port}{server.path}"
            for options.connections in CONNECTIONS:
                measure(options, server, url, 1, options.load_cores)  # warms up
                samples.setdefault((name, options.connections), []).append(
                    measure(options, server, url, options.seconds, options.load_cores))
        finally:
            server.stop()
        if not options.quiet:
            print(f"round {number + 1}/{options.rounds}: {name}", file=sys.stderr, flush=True)


def table(options, ways, samples):
    lines = ["| server | connections | requests/s, thousands | of `pool` | CPU us a request | of `pool` |",
             "| --- | --- | --- | --- | --- | --- |"]
    for connections in CONNECTIONS:
        base = samples["pool", connections]
        for name in (n for n in SUBJECTS if n in ways):
            own = samples[name, connections]
            rate = spread([a.rps / b.rps for a, b in zip(own, base)])
            cost = spread([a.cpu_us / b.cpu_us for a, b in zip(own, base)])
            lines.append(f"| {name} {ways[name][0]} | {connections} | {median(s.rps for s in own) / 1e3:.1f} | "
                         f"{show(rate)} | {median(s.cpu_us for s in own):.1f} | {show(cost)} |")
    return lines


def spread(values):
    low, high = interval_of_median(sorted(values))
    return median(values), low, high


def show(interval):
    middle, low, high = interval
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def judge(samples):
    """One line and whether it is reached, for each number of connections."""
    verdicts = []
    for connections in CONNECTIONS:
        ratios = [a.rps / b.rps for a, b in zip(samples["library", connections], samples["pool", connections])]
        middle, low, high = spread(ratios)
        word = "ok" if low >= MUST else "missed" if high < MUST else "undecided"
        verdicts.append((word, f"library / pool, {connections} connections: must be {MUST} or more, seen "
                               f"{show((middle, low, high))}: {word}"))
    return verdicts


def write_docs(path, lines):
    page = Path(path).read_text()
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    Path(path).write_text(f"{before}{MARKS[0]}\n\n" + "\n".join(lines) + f"\n\n{MARKS[1]}{after}")


def chosen(text):
    names = text.split(",")
    for name in names:
        if name not in SUBJECTS:
            raise argparse.ArgumentTypeError(f"there is no {name}; there are {', '.join(SUBJECTS)}")
    return (*COMPARED, *(name for name in names if name not in COMPARED))


def parse_options():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=whole(1, 1000), default=9, help="default: 9")
    parser.add_argument("--seconds", type=whole(1, 3600), default=2, help="of each load (default: 2)")
    parser.add_argument("--threads", type=whole(1, 256), default=2, help="a server (default: 2)")
    parser.add_argument("--server-cores", metavar="LIST", help="as for taskset -c: where servers run (default: all)")
    parser.add_argument("--load-cores", metavar="LIST", help="where wrk runs (default: all)")
    parser.add_argument("--servers", type=chosen, default=SUBJECTS, metavar="NAME,...",
                        help=f"of {', '.join(SUBJECTS)}; pool and library always take part")
    parser.add_argument("--docs", metavar="FILE", help="write the table between the marks of this Markdown file")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser.parse_args()


def bench(options, temp):
    options.wrk = need_program("wrk", "wrk")
    ways = prepare(options, temp)
    samples = {}
    for number in range(options.rounds):
        run_round(options, temp, ways, number, samples)
    lines = table(options, ways, samples)
    verdicts = judge(samples)
    lines += ["", f"{describe_machine()}; {options.rounds} rounds of {options.seconds} s; threads a server: {options.threads}; "
                  f"cores of the server: {options.server_cores or 'all'}, of the load: {options.load_cores or 'all'}.", ""]
    lines += [f"- {text}" for _, text in verdicts]
    print("\n".join(lines))
    if options.docs:
        write_docs(options.docs, lines)
    return 0 if all(word == "ok" for word, _ in verdicts) else EXIT_FAILED


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, end_politely)
    with tempfile.TemporaryDirectory(prefix="lastcall-library-") as temp:
        os.chmod(temp, 0o755)
        os.mkdir(os.path.join(temp, "root"))
        write(os.path.join(temp, "root", "hello.txt"), BODY.decode())
        try:
            return bench(options, temp)
        except (Missing, peers.Missing) as missing:
            print(f"library.py: {missing}", file=sys.stderr)
            return EXIT_MISSING
        except (Broken, OSError) as broken:
            print(f"library.py: {broken}", file=sys.stderr)
            return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
