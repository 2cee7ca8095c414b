#!/usr/bin/env python3
"""Checks the model of handlers in place (place.pml) with spin.

The model as it is must hold for each size, in every state, and no run of it is endless. Each of its statements is
reached. Each planted mistake is found. --wide checks greater sizes as well (1 GB)."""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODEL = HERE / "place.pml"
BUILD = ROOT / "build" / "model"
MEMORY_MB = 4000
LIMIT_S = 900

HOLDS, CYCLES, REACHED, MISTAKE = "holds", "no run is endless", "all is reached", "found"

SMALL = "-DLOOPS=2 -DWIDTH=1 -DJOBS=3 -DFIRST=2"
BRIEF = " -DBRIEF"
ONE_LOOP = "-DLOOPS=1 -DWIDTH=2 -DJOBS=4 -DFIRST=4"

# Name, what is checked, size.
CHECKS = [
    ("2 loops, teams of 2, jobs 2 + 1", HOLDS, SMALL),
    ("2 loops, teams of 2, jobs 2 + 1", CYCLES, SMALL),
    ("2 loops, teams of 2, jobs 2 + 1", REACHED, SMALL),
    ("2 loops, teams of 2, jobs 3 + 0", HOLDS, "-DLOOPS=2 -DWIDTH=1 -DJOBS=3 -DFIRST=3"),
    ("1 loop, team of 3, 4 jobs", HOLDS, ONE_LOOP),
    ("brief jobs: 2 loops, teams of 2, jobs 2 + 1", HOLDS, SMALL + BRIEF),
    ("brief jobs: 2 loops, teams of 2, jobs 2 + 1", CYCLES, SMALL + BRIEF),
    ("brief jobs: 1 loop, team of 3, 4 jobs", HOLDS, ONE_LOOP + BRIEF),
]
WIDE = [
    ("2 loops, teams of 3, jobs 2 + 1", HOLDS, "-DLOOPS=2 -DWIDTH=2 -DJOBS=3 -DFIRST=2"),
    ("2 loops, teams of 2, jobs 2 + 2", HOLDS, "-DLOOPS=2 -DWIDTH=1 -DJOBS=4 -DFIRST=2"),
    ("2 loops, teams of 2, jobs 3 + 1", HOLDS, "-DLOOPS=2 -DWIDTH=1 -DJOBS=4 -DFIRST=3"),
    ("1 loop, team of 3, 4 jobs", CYCLES, ONE_LOOP),
]

# Mistake, what it is, size.
MISTAKES = [
    ("STORE_FOR_CAS", "the driver stores DRIVEN, without CAS", SMALL),
    ("NO_SEQ", "the driver's CAS takes any HANDLER for its own", ONE_LOOP),
    ("LATE_CAS", "the monitor decides on one value and swaps another", SMALL),
    ("WAKE_FIRST", "the monitor wakes before it frees the token", SMALL),
    ("SLEEP_BLIND", "a thread looks at the token before it has mu, then sleeps", SMALL),
    ("OTHER_LOOP", "a thread drives another team's loop", SMALL),
    ("MONITOR_SLEEPS", "the monitor does not look again before it sleeps", SMALL),
    ("MONITOR_ORDER", "the driver reads monitor_asleep, then stores the token", SMALL),
    ("MONITOR_POLLS", "the monitor wakes up without a handler (a cycle)", SMALL),
    ("PERMIT_UNSEEN", "a permit is given back without a look at the queue", SMALL),
    ("PERMIT_ORDER", "the driver looks at the queue, then gives the permit back", SMALL),
    ("PUSHER_ORDER", "a pusher looks at the permits, then queues the job", SMALL),
    ("DRIVER_KEEPS_WAKE", "a thread woken for a job drives the loop, tells nobody", SMALL),
    ("SLEEPER_KEEPS_WAKE", "a thread woken for a job gets no permit, tells nobody", SMALL),
    ("POPPER_KEEPS_WAKE", "who takes a brief job does not wake the next thread", ONE_LOOP + BRIEF),
    ("TAKE_FIRST", "the loop takes the done-list, then reads the eventfd", SMALL),
]


def flags_of(kind, name, size):
    """Flags for spin, the compiler, and the checker that these make."""
    spin, cc, pan = size.split(), ["-O2", "-DNOREDUCE"], ["-m10000", "-w22"]
    if kind == MISTAKE:
        cc[0] = "-O0"  # the search is shorter than the compilation
        spin.append("-DMISTAKE_" + name)
    if kind == CYCLES or name == "MONITOR_POLLS":
        cc.append("-DNP")
        pan.append("-l")
    else:
        cc.append("-DSAFETY")
    if kind == REACHED:
        spin += ["-DSTEP=atomic", "-o3"]  # -o3: statements are not merged, so each is reported
    else:
        pan.append("-n")
    return spin, cc, pan


def run(args, folder):
    done = subprocess.run(args, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=LIMIT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{args[0]}: status {done.returncode}\n{done.stdout}")
    return done.stdout


def search(kind, name, size):
    """Returns the checker's output and its seconds."""
    folder = BUILD / re.sub(r"\W+", "_", f"{kind} {name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    spin, cc, pan = flags_of(kind, name, size)
    run(["spin", "-a", *spin, str(MODEL)], folder)
    run([os.environ.get("CC", "cc"), "-w", f"-DMEMLIM={MEMORY_MB}", *cc, "-o", "pan", "pan.c"], folder)
    trail = (folder / MODEL.name).relative_to(ROOT).with_suffix(MODEL.suffix + ".trail")
    began = time.monotonic()
    out = run(["./pan", *pan], folder)
    return out, time.monotonic() - began, f"spin -k {trail} -p -g {' '.join(spin)} {MODEL.relative_to(ROOT)}"


def judge(kind, out):
    """What is wrong, or None; and what to print."""
    errors = int(re.search(r"errors: (\d+)", out).group(1))
    states = int(float(re.search(r"([\d.e+]+) states, stored", out).group(1)))
    first = re.search(r"^pan:1: (.*?)(?: \(at depth \d+\))?$", out, re.M)
    said = first.group(1) if first else ""
    unreached = [line for line in re.findall(r"^\t(\S+:\d+, state .*)$", out, re.M) if '"-end-"' not in line]
    whole = "max search depth too small" not in out and "Search not completed" not in out
    if kind == MISTAKE:
        known = said.startswith(("assertion violated", "non-progress cycle"))
        return None if errors and known else f"not found {said}", states
    if errors or not whole:
        return said or "the search was not completed", states
    if kind == REACHED and unreached:
        return "never reached: " + "; ".join(unreached), states
    return None, states


def check(entry):
    kind, name, what, size = entry
    try:
        out, seconds, replay = search(kind, name, size)
        wrong, states = judge(kind, out)
    except (RuntimeError, subprocess.TimeoutExpired, AttributeError) as error:
        return f"{what:72} FAILED: {error}", False
    if wrong:
        return f"{what:72} FAILED: {wrong}\n    {replay}", False
    return f"{what:72} {kind:18} {states:>9,} states {seconds:6.1f} s", True


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--wide", action="store_true", help="check greater sizes as well")
    args = parser.parse_args()
    began = time.monotonic()
    entries = [(kind, name, name, size) for name, kind, size in CHECKS + (WIDE if args.wide else [])]
    entries += [(MISTAKE, name, f"{name}: {what}", size) for name, what, size in MISTAKES]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for line, good in pool.map(check, entries):
            print(line, flush=True)
            failed += not good
    print(f"{len(entries)} checks, {failed} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
