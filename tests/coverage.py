#!/usr/bin/env python3
"""Show how many lines and branches the tests ran, by folder, from gcc's coverage data.

    coverage.py BUILD

The exit status is 1 if a folder runs fewer lines than LEAST requires. The pages with each line are in BUILD/coverage.
"""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = "base pool coord journal redis app restart server lastcall cli".split()
LEAST = {"pool": 90, "coord": 90, "journal": 90}  # per cent of the lines


def percent(covered, total):
    return 100 * covered / total if total else 100


def main():
    if len(sys.argv) != 2:
        sys.exit("coverage.py: expected the folder of the build, such as build/coverage")
    build = Path(sys.argv[1])
    pages = build / "coverage"
    pages.mkdir(exist_ok=True)
    summary = pages / "summary.json"
    subprocess.run(
        ["gcovr", "--root", ROOT, "--object-directory", build, "--filter", f"{ROOT}/({'|'.join(FOLDERS)})/",
         "--exclude-unreachable-branches", "--json-summary", summary, "--html-details", pages / "index.html", "--print-summary",
         build],
        check=True, stdout=subprocess.DEVNULL)
    counts = defaultdict(lambda: [0, 0, 0, 0])
    files = defaultdict(list)
    for file in json.loads(summary.read_text())["files"]:
        folder = file["filename"].split("/")[0]
        for i, key in enumerate(("line_covered", "line_total", "branch_covered", "branch_total")):
            counts[folder][i] += file[key]
        files[folder].append((percent(file["line_covered"], file["line_total"]), file["filename"]))
    print(f"{'folder':10}{'lines':>8}{'covered':>10}{'branches':>11}{'covered':>10}")
    for folder in FOLDERS:
        lines, line_total, branches, branch_total = counts[folder]
        print(f"{folder:10}{line_total:8}{percent(lines, line_total):9.1f}%{branch_total:11}"
              f"{percent(branches, branch_total):9.1f}%")
    print(f"each line: {pages / 'index.html'}")
    below = {folder: least for folder, least in LEAST.items() if percent(*counts[folder][:2]) < least}
    for folder, least in below.items():
        lowest = ", ".join(f"{name} ({share:.0f} %)" for share, name in sorted(files[folder])[:3])
        print(f"{folder}: fewer than {least} % of the lines ran; lowest: {lowest}", file=sys.stderr)
    sys.exit(1 if below else 0)


if __name__ == "__main__":
    main()
