#!/usr/bin/env python3
"""Files that need each other in a circle.

    circles.py SOURCE BUILD [-v]

Two graphs, of all files below the production folders: which file includes which, and, from the
object files in BUILD, which file uses functions and variables of which other. The files of a circle
(a strongly connected component) can only be understood together, so one of more than MOST files is
an error: a lower file that needs an upper one takes a callback, which the upper one sets at the
start.

A call to a function of libh2o is a call to the library, also where mends/replaced.c has its
replacement, which the caller does not know. So names that begin with h2o_ or phr_ do not count.

Exit status: 0; 1: a circle was found; 77: the object files cannot be read (LTO).
"""

import pathlib
import re
import subprocess
import sys

FOLDERS = "base pool journal coord redis app restart server lastcall library program cli bench".split()
BUILT_AS = {"lastcall": "process"}  # lastcall/CMakeLists.txt builds in process/
MOST = 3


def components(edges):
    """Tarjan's strongly connected components, without recursion; those of one file are left out."""
    index, low, on_stack, stack, found = {}, {}, set(), [], []
    for root in edges:
        if root in index:
            continue
        work = [(root, iter(sorted(edges[root])))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            for to in rest:
                if to not in index:
                    index[to] = low[to] = len(index)
                    stack.append(to)
                    on_stack.add(to)
                    work.append((to, iter(sorted(edges.get(to, ())))))
                    break
                if to in on_stack:
                    low[node] = min(low[node], index[to])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    part = []
                    while not part or part[-1] != node:
                        part.append(stack.pop())
                        on_stack.discard(part[-1])
                    if len(part) > 1:
                        found.append(sorted(part))
    return found


def sources(source):
    for folder in FOLDERS:
        for path in sorted((source / folder).rglob("*.[ch]")):
            yield path.relative_to(source).as_posix()


def include_graph(source):
    names = list(sources(source))
    by_name = {}
    for name in names:
        by_name.setdefault(pathlib.PurePosixPath(name).name, []).append(name)
    edges = {name: set() for name in names}
    for name in names:
        for line in (source / name).read_text().splitlines():
            match = re.match(r'\s*#\s*include\s+"(?:.*/)?([^"/]+)"', line)
            found = by_name.get(match.group(1), []) if match else []
            here = [other for other in found if other.rsplit("/", 1)[0] == name.rsplit("/", 1)[0]]
            for other in here or found:
                edges[name].add(other)
    return edges


def symbols(paths):
    """For each object file its (defined, undefined) names."""
    text = subprocess.run(["nm", "-g", "-A", *map(str, paths)], capture_output=True, text=True, check=True).stdout
    found = {str(path): (set(), set()) for path in paths}
    for line in text.splitlines():
        path, rest = line.rsplit(":", 1)
        kind, name = rest.split()[-2:]
        if re.match(r"(h2o_|phr_)", name):
            continue
        if kind == "U":
            found[path][1].add(name)
        elif kind not in "wv":
            found[path][0].add(name)
    return found


def call_graph(source, build):
    names, why = {}, {}
    for folder in FOLDERS:
        root = build / BUILT_AS.get(folder, folder)
        for path in sorted(root.rglob("*.c.o")):
            part = path.as_posix().split(".dir/", 1)[1][: -len(".o")]
            name = path.as_posix().split("/CMakeFiles/", 1)[0]
            name = (pathlib.PurePosixPath(name).relative_to(root.as_posix()) / part).as_posix()
            name = f"{folder}/{name}"
            if (source / name).exists():  # otherwise an earlier build has left the object
                names[str(path)] = name
    objects = {names[path]: found for path, found in symbols(names).items()}
    home = {}
    for name, (defined, _) in objects.items():
        for symbol in defined:
            if symbol != "main":
                home.setdefault(symbol, name)
    edges = {name: set() for name in objects}
    for name, (_, undefined) in objects.items():
        for symbol in undefined:
            to = home.get(symbol)
            if to is not None and to != name:
                edges[name].add(to)
                why.setdefault((name, to), []).append(symbol)
    return edges, why


def report(kind, edges, why, verbose):
    bad = 0
    for part in components(edges):
        if len(part) > MOST:
            bad += 1
        elif not verbose:
            continue
        note = "" if len(part) > MOST else " (allowed)"
        print(f"{kind}: {len(part)} files in a circle{note}:")
        for name in part:
            for to in sorted(edges[name] & set(part)):
                uses = ": " + " ".join(sorted(why[name, to])) if (name, to) in why else ""
                print(f"    {name} -> {to}{uses}")
    return bad


def main():
    verbose = "-v" in sys.argv
    source, build = (pathlib.Path(arg) for arg in sys.argv[1:3])
    includes = include_graph(source)
    calls, why = call_graph(source, build)
    used = sum(len(to) for to in calls.values())
    if used == 0:
        print("SKIP: nm(1) finds no symbols in the object files of this build (LTO)")
        return 77
    bad = report("includes", includes, {}, verbose) + report("calls", calls, why, verbose)
    print(f"{len(includes)} files, {len(calls)} objects, {used} uses; {bad} circles of more than {MOST}")
    return 1 if bad else 0


sys.exit(main())
