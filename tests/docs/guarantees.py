#!/usr/bin/env python3
"""Every test that docs/guarantees.md and docs/dev/mends.md name exists.

guarantees.md writes `program: test`, mends.md writes `program` and test_name.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tests_of(program):
    source = next((ROOT / "tests").glob(f"*/*/test_{program}.c"), None)
    return set(re.findall(r"\btest_(\w+)", source.read_text())) if source else None


def main():
    missing = []
    rows = [line for line in (ROOT / "docs" / "guarantees.md").read_text().splitlines() if line.startswith("|")]
    named = re.findall(r"`(\w+): (\w+)`", "\n".join(rows))
    for program, test in named:
        tests = tests_of(program)
        if tests is None or test not in tests:
            missing.append(f"docs/guarantees.md names `{program}: {test}`: no such test")
    every = set()
    for source in (ROOT / "tests").glob("*/*/test_*.c"):
        every |= set(re.findall(r"\btest_(\w+)", source.read_text()))
    for test in re.findall(r"\btest_(\w+)", (ROOT / "docs" / "dev" / "mends.md").read_text()):
        if test not in every:
            missing.append(f"docs/dev/mends.md names test_{test}: no such test")
    for line in missing:
        print(line)
    print(f"{len(named)} guarantees, {len(missing)} without a test")
    return 1 if missing or not named else 0


if __name__ == "__main__":
    sys.exit(main())
