#!/usr/bin/env python3
"""Run ctest, then list the tests that were skipped, by reason. The exit status is that of ctest.

Most tests wait most of the time, so three run at once for each processor; -j N or CTEST_PARALLEL_LEVEL says otherwise.

    check.py PRESET [--test NAME[:PATTERN]] [argument of ctest]...

NAME is a program as ctest calls it, or a regular expression for several; PATTERN, such as `test_full*`, selects
tests within them.

A test that is skipped prints `skipped: REASON` first (tests/support/skip.h); a script prints that line alone, or
`skipped PART: REASON`.
"""

import os
import re
import subprocess
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
AT_ONCE_FOR_A_PROCESSOR = 3
AT_ONCE_MOST = 24


def outputs(log):
    """The name and the output of each test in LastTest.log."""
    for part in re.split(r"^\d+/\d+ Testing: ", log, flags=re.MULTILINE)[1:]:
        name = part.split("\n", 1)[0]
        output = re.search(r"^Output:\n-+\n(.*?)^<end of output>", part, re.MULTILINE | re.DOTALL)
        yield name, output.group(1) if output else ""


def skips(output):
    """What was skipped, and why: (test or part, "" for all; reason)."""
    reason = None
    for line in output.splitlines():
        if found := re.match(r"skipped(?: (\w+))?: (.*)", line):
            part, reason = found.groups()
            if not re.search(r"^\[ RUN", output, re.MULTILINE):  # a script
                yield part or "", reason
        elif found := re.match(r"\[ +RUN +\]", line):
            reason = None
        elif found := re.match(r"\[  SKIPPED \] (\S.*)", line):
            if not re.match(r"\d+ test\(s\)", found.group(1)) and reason != "listed":
                yield found.group(1).removeprefix("test_"), reason or "no reason given"
            else:
                reason = "listed"  # cmocka repeats the names at the end


def show_skips(log):
    reasons = defaultdict(lambda: defaultdict(list))
    count = 0
    for program, output in outputs(log):
        for what, reason in skips(output):
            reasons[reason][program].append(what)
            count += 1
    if count == 0:
        return
    print(f"\n{count} {'test' if count == 1 else 'tests'} skipped:")
    for reason, programs in sorted(reasons.items()):
        print(f"    {reason}")
        for program, names in sorted(programs.items()):
            text = f"{program}: {', '.join(names)}" if names != [""] else program
            print(textwrap.fill(text, 110, initial_indent=" " * 8, subsequent_indent=" " * 12))


def at_once(arguments):
    if "CTEST_PARALLEL_LEVEL" in os.environ:
        return ["-j", os.environ["CTEST_PARALLEL_LEVEL"]]  # that of the preset would count more
    if any(re.match(r"-j|--parallel", argument) for argument in arguments):
        return []
    return ["-j", str(min(AT_ONCE_MOST, AT_ONCE_FOR_A_PROCESSOR * len(os.sched_getaffinity(0))))]


def main(arguments):
    preset, arguments = arguments[0], arguments[1:]
    pattern = None
    if arguments[:1] == ["--test"]:
        name, _, pattern = arguments[1].partition(":")
        arguments = ["-R", f"^{name}$" if re.fullmatch(r"\w+", name) else name, *arguments[2:]]
    env = {**os.environ, "LASTCALL_TEST": pattern} if pattern else None
    path = ROOT / "build" / preset / "Testing" / "Temporary" / "LastTest.log"
    path.unlink(missing_ok=True)  # where no test is found, ctest would leave the old one
    command = ["ctest", "--preset", preset, "--no-tests=error", *at_once(arguments), *arguments]
    status = subprocess.run(command, cwd=ROOT, env=env).returncode
    log = path.read_text(errors="replace") if path.exists() else ""
    show_skips(log)
    if pattern and not re.search(r"^\[ RUN", log, re.MULTILINE):
        print(f"\nno test is called {pattern}")
        status = status or 1
    return status


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
