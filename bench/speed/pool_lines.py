#!/usr/bin/env python3
"""How many cache lines go from one core to another for a request, and when does the pool's mutex bind?

A count, not a measurement. Each loop, each worker and the monitor have a core of their own, and requests touch the
lines of struct pool, pool_team, pool_worker, job, place and of the loop's doors in the order of the code
(pool_layout.py says which field is on which line). A core that reads a line which another core has written since, or
writes a line of which another core has a copy, needs a transfer. What happens under the mutex is one step.

    in place    the thread that drives the loop calls the handler; the monitor reads each team's token now and then
    beside      the same while one request of fifty has a handler of 100 us and goes through the queue; only the
                transfers of those in place are counted
    queue       handlers of 100 us, and three workers of ten are busy: each job wakes a worker and often its loop
    brief       handlers of 5 us in a route that stays in the queue: such jobs share a wake-up
    busy        handlers of 100 us, and more jobs than workers: no worker parks

A loop spends 10 us on a request; a wake-up takes 30 us; a client sends its next request some 50 us after the answer.
In "queue" it waits longer.

Not counted: lines of the kernel (each wake-up touches some: eventfd, futex, run queue), of libh2o and of sockets; the
mutex is never waited for. Wake-ups are counted as such.

The mutex binds when requests hold it all the time. One request takes --hold-ns, with the lines that it touches in
another core's cache (`lastcall-pool-lock --apart --submitters 1 --workers 1 --inflight 1` measures it: the processor
fetches several lines at a time), and --transfer-ns each time that the mutex itself comes from another core
(`lastcall-pool-lock --transfer`). Waking a thread that waits for the mutex comes on top.

    pool_lines.py                          2 loops and 8 workers, then 32 and 128: the defaults on 2 and 32 cores
    pool_lines.py --loops 32 --workers 128 --shards 32
    pool_lines.py --binary build/debug/lastcall --move pool.team=48
"""

import argparse
import random
import sys

from pool_layout import JOB_BYTES, OFFSETS, layouts, read_offsets
from pool_model import BRIEF_US, LONG_US, THINK_US, WAKE_US, Model, Way

REQUESTS, WARM_UP = 10000, 2000  # the first touches bring each line from memory
BUSY_WORKERS, BESIDE = 0.3, 0.02

# ---- the table ----


def ways(args):
    clients = args.loops * args.inflight
    calm_us = clients * (LONG_US + WAKE_US) / (BUSY_WORKERS * args.workers)
    return (Way("in place", 0, False, THINK_US, 0, True), Way("beside", LONG_US, False, THINK_US, BESIDE, True),
            Way("queue", LONG_US, False, calm_us, 1, False), Way("brief", BRIEF_US, True, THINK_US, 1, False),
            Way("busy", LONG_US, False, THINK_US, 1, False))


def count(args, way):
    """A request's transfers, by line; and the rest that the table shows."""
    random.seed(args.seed)
    model = Model(args, way)
    model.run(WARM_UP)
    model.run(REQUESTS)
    purpose = "place" if way.queued < 1 else "queue"
    n = model.counts[purpose]
    lines = {name: hits / n for (why, name), hits in model.m.count.items() if why == purpose}
    rest = {"of these with the mutex held": model.m.held, "wake-ups of workers": model.counts["wakes"],
            "wake-ups of loops": model.counts["rings"], "teams looked at, mutex held": model.counts["teams"]}
    if purpose == "place":
        rest = dict.fromkeys(rest, 0)
    rest["mutex taken in place"] = model.counts["locks"]
    rest["in the queue for want of a permit"] = model.counts["not placed"]
    rest = {name: hits / n for name, hits in rest.items()}
    return lines, rest


def print_counts(args):
    columns = {way.name: count(args, way) for way in ways(args)}
    print(f"{args.loops} loops, {args.workers} workers, {args.shards} queue{'s' * (args.shards > 1)}, "
          f"{args.inflight} clients a loop; the monitor looks every {args.look_us} us\n")
    print(f"{'transfers a request':33}" + "".join(f"{name:>10}" for name in columns))
    for name in sorted(set().union(*(lines for lines, _ in columns.values()))):
        if max(lines.get(name, 0) for lines, _ in columns.values()) >= 0.02:
            print(f"{name:33}" + "".join(f"{lines.get(name, 0):10.2f}" for lines, _ in columns.values()))
    print(f"{'all':33}" + "".join(f"{sum(lines.values()):10.2f}" for lines, _ in columns.values()))
    for name in columns["queue"][1]:
        print(f"{name:33}" + "".join(f"{rest[name]:10.2f}" for _, rest in columns.values()))
    print()
    for name in ("queue", "brief", "busy"):
        moves = columns[name][0].get("pool.mu", 0)
        held_ns = args.hold_ns + moves * args.transfer_ns
        bound = args.shards * 1e6 / held_ns
        print(f"{name}: the mutex takes {args.hold_ns} ns + {moves:.2f} x {args.transfer_ns} ns = {held_ns:.0f} ns a "
              f"request,\n    and binds at {bound:,.0f} k requests/s")
    print()


def whole(smallest, largest):
    def parse(text):
        if not text.isdecimal() or not smallest <= int(text) <= largest:
            raise argparse.ArgumentTypeError(f"want a whole number from {smallest} to {largest}, not {text!r}")
        return int(text)
    return parse


def moved(text):
    field, _, offset = text.partition("=")
    struct, _, field = field.partition(".")
    if field not in OFFSETS.get(struct, ()) or not offset.isdecimal():
        raise argparse.ArgumentTypeError(f"want STRUCT.FIELD=OFFSET with a field of pool_layout.py, not {text!r}")
    return struct, field, int(offset)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loops", type=whole(1, 1024), help="default: 2, then 32")
    parser.add_argument("--workers", type=whole(1, 4096), help="default: 8, then 128")
    parser.add_argument("--shards", type=whole(1, 1024), default=1, help="queues, each with its loops and workers")
    parser.add_argument("--inflight", type=whole(1, 1024), default=32, help="clients of a loop (default: 32)")
    parser.add_argument("--look-us", type=whole(1, 1000000), default=100, help="of the monitor (default: 100)")
    parser.add_argument("--hold-ns", type=whole(0, 100000), default=300, help="see above (default: 300)")
    parser.add_argument("--transfer-ns", type=whole(1, 100000), default=190, help="see above (default: 190)")
    parser.add_argument("--bodies", action="store_true", help="each request has a body, which is counted")
    parser.add_argument("--seed", type=int, default=1, help="of arrivals and times (default: 1)")
    parser.add_argument("--binary", metavar="FILE", help="read the offsets from its debug information, with gdb(1)")
    parser.add_argument("--move", type=moved, action="append", default=[], metavar="STRUCT.FIELD=OFFSET",
                        help="what if this field were there?")
    args = parser.parse_args()
    try:
        offsets, job_bytes = read_offsets(args.binary) if args.binary else (OFFSETS, JOB_BYTES)
    except OSError as error:
        parser.error(str(error))
    for struct, field, offset in args.move:
        offsets = offsets | {struct: offsets[struct] | {field: offset}}
    args.layouts = layouts(offsets, job_bytes)
    given = args.loops is not None or args.workers is not None
    sizes = [(args.loops or 2, args.workers or 8)] if given else [(2, 8), (32, 128)]
    for args.loops, args.workers in sizes:
        if args.shards > min(args.loops, args.workers):
            parser.error("each shard needs a loop and a worker")
        if args.workers < args.loops:
            parser.error("each loop needs a worker")
        print_counts(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
