#!/usr/bin/env python3
"""What liblastcall.so and liblastcall.a show.

    symbols.py SOURCE SHARED ARCHIVE

All functions that include/lastcall/lastcall.h declares, those of the table in server/mends/library.h, and nothing else:
a name of ours that could be seen would be one that a program must not use."""

import pathlib
import re
import subprocess
import sys


def declared(source):
    text = (source / "include/lastcall/lastcall.h").read_text()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    return set(re.findall(r"^LC_API [^;]*?\b(lc_\w+)\(", text, flags=re.M))


def replaced(source):
    return set(re.findall(r"^    X\((\w+)\)", (source / "server/mends/library.h").read_text(), flags=re.M))


def defined(path, *options):
    out = subprocess.run(["nm", "--defined-only", *options, path], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in out.splitlines()]
    return {row[2].split("@")[0] for row in rows if len(row) == 3 and row[1] in "TDBRVWi"}


def main():
    source, shared, archive = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    wrong = []
    for path, found in ((shared, defined(shared, "--dynamic")), (archive, defined(archive, "--extern-only"))):
        wrong += [f"{path} shows {name}" for name in sorted(found - declared(source) - replaced(source))]
        wrong += [f"{path} lacks {name}, which the header declares" for name in sorted(declared(source) - found)]
        wrong += [f"{path} lacks {name}, which libh2o must find" for name in sorted(replaced(source) - found)]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
