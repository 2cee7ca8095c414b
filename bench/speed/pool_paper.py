#!/usr/bin/env python3
"""The figures of "On 64 cores, on paper" in docs/bench/pool.md: how long the pool's mutex is held and a cache line
takes here (lastcall-pool-lock), and what that means for 32 loops and 128 workers (pool_lines.py).

    pool_paper.py --docs docs/bench/pool.md     write them between the marks of that file
    pool_paper.py                               print them
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
from speed_report import describe_machine
from speed_servers import Missing, need_built, need_program
from throughput import BUILD, EXIT_MISSING, Parser

BEGIN, END = "<!-- paper: written by bench/speed/pool_paper.py --docs -->", "<!-- end of paper -->"
LINES = str(Path(__file__).resolve().parent / "pool_lines.py")


def run(command, shown):
    """What it prints, under a line that shows the command."""
    said = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True).stdout
    return said, f"$ {shown}\n{said.strip()}\n"


def figures(lock):
    taskset = need_program("taskset", "util-linux")
    name = "lastcall-pool-lock"
    alone = ["--submitters", "1", "--workers", "1", "--inflight", "1"]
    _, first = run([taskset, "-c", "0", lock, *alone], " ".join(["taskset -c 0", name, *alone]))
    cold, second = run([lock, "--apart", *alone], " ".join([name, "--apart", *alone]))
    _, busy = run([lock], name)
    full = ["--workers", "32", "--inflight", "64", "--sleep-us", "1000"]
    scans = [run([lock, *full, "--teams", n], " ".join([name, *full, "--teams", n]))[1] for n in ("1", "32")]
    far, third = run([lock, "--transfer"], f"{name} --transfer")
    hold_ns = re.search(r"^together +(\d+) ns a job", cold, re.MULTILINE).group(1)
    transfer_ns = re.search(r"other core in (\d+) ns", far).group(1)
    costs = ["--hold-ns", hold_ns, "--transfer-ns", transfer_ns]
    blocks = [first, second, busy, *scans, third]
    many = ["--loops", "32", "--workers", "128"]
    for more in (["--loops", "2", "--workers", "8"], many, [*many, "--shards", "32"]):
        blocks.append(run([sys.executable, LINES, *more, *costs], " ".join(["pool_lines.py", *more, *costs]))[1])
    return [f"# {describe_machine()}\n", *blocks]


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, metavar="FILE")
    parser.add_argument("--lock", metavar="FILE", default=str(Path(BUILD) / "lastcall-pool-lock"),
                        help="default: the release build")
    options = parser.parse_args()
    try:
        text = "\n".join(figures(need_built(options.lock, "lastcall-pool-lock")))
    except Missing as missing:
        print(f"pool_paper.py: {missing}", file=sys.stderr)
        return EXIT_MISSING
    if options.docs is None:
        print(text)
        return 0
    head, begin, rest = options.docs.read_text().partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        parser.error(f"{options.docs} lacks the lines `{BEGIN}` and `{END}`")
    options.docs.write_text(f"{head}{BEGIN}\n\n```\n{text}```\n\n{END}{tail}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
