#!/usr/bin/env python3
"""The house rules that a compiler does not check. docs/dev/architecture.md holds the tables; this holds the code to them.

  - A folder includes headers of the folders that its row names, and of itself. Nothing else.
  - A CMake target links the libraries of those folders, and no others.
  - What README, CONTRIBUTING.md, SECURITY.md and docs/dev/ name in backticks exists.
  - A folder holds at most 25 sources, a file at most 500 lines, a function at most 60. Exceptions stand in a table with
    their reason; an exception that is not needed any more is an error, too.

With --plant it proves that it can fail: it adds an include that points upward to a copy of each folder, and a link to a
copy of each CMakeLists.txt, and expects an error for each."""

import argparse
import os
import re
import shutil
import sys
import tempfile

SOURCES_IN_FOLDER = 25
LINES_IN_FILE = 500
LINES_IN_FUNCTION = 60
# These folders hold programs outside the product: only the rules about size and circles apply there.
ROOTS = ["base", "pool", "journal", "coord", "redis", "app", "restart", "server", "lastcall", "library", "program", "cli"]


def rows(text, title):
    """The rows of the first table after a heading, as lists of cells without backticks."""
    at = text.index("\n## " + title + "\n")
    found = []
    for line in text[at:].splitlines()[2:]:
        if line.startswith("|"):
            found.append([cell.strip().replace("`", "") for cell in line.strip("|\n ").split("|")])
        elif found or line.startswith("## "):
            break
    return found[2:]


def read_rules(root):
    with open(os.path.join(root, "docs/dev/architecture.md"), encoding="utf-8") as f:
        text = f.read()
    may_use = {}
    for folder, uses, *_ in rows(text, "Which folder may use which"):
        may_use[folder] = [] if uses == "nothing" else [use.strip() for use in uses.split(",")]
    exceptions = {what: int(limit) for what, limit, _ in rows(text, "Exceptions to the sizes")}
    return may_use, exceptions


def sources(root, folders):
    for top in folders:
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(folder, name), root)


def room_of(path, may_use):
    """The row that a file belongs to: the longest folder of the table that the path begins with."""
    fits = [folder for folder in may_use if path.startswith(folder + "/")]
    return max(fits, key=len) if fits else None


def check_includes(root, may_use):
    headers = {}
    for path in sources(root, ROOTS):
        if path.endswith(".h"):
            headers.setdefault(os.path.basename(path), []).append(path)
    wrong = []
    for path in sources(root, ROOTS):
        room = room_of(path, may_use)
        if room is None:
            wrong.append(f"{path}: its folder is not in the table of docs/dev/architecture.md")
            continue
        with open(os.path.join(root, path), encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
                for header in headers.get(os.path.basename(match.group(1)), []) if match else []:
                    other = room_of(header, may_use)
                    if other is not None and other != room and other not in may_use[room]:
                        wrong.append(f"{path}:{number}: includes {header}, but {room} may not use {other}")
    return wrong


def check_links(root, may_use):
    """Which target belongs to which folder is read from the CMakeLists.txt that makes it."""
    folder_of, uses = {}, []
    for top in ROOTS:
        for folder, _, names in os.walk(os.path.join(root, top)):
            if "CMakeLists.txt" not in names:
                continue
            with open(os.path.join(folder, "CMakeLists.txt"), encoding="utf-8") as f:
                text = re.sub(r"#[^\n]*", "", f.read())
            here = os.path.relpath(folder, root)
            for name in re.findall(r"add_(?:library|executable)\(\s*([\w-]+)", text):
                folder_of[name] = here
            for target, rest in re.findall(r"target_link_libraries\(\s*([\w-]+)([^)]*)\)", text):
                uses += [(here, target, use) for use in re.findall(r"lastcall[\w-]*", rest)]
    wrong = []
    for here, target, use in uses:
        room, other = room_of(here + "/", may_use), room_of(folder_of.get(use, "") + "/", may_use)
        if use not in folder_of:
            wrong.append(f"{here}/CMakeLists.txt: {target} links {use}, which no folder makes")
        elif other != room and other not in may_use[room]:
            wrong.append(f"{here}/CMakeLists.txt: {target} links {use}, but {room} may not use {other}")
    return wrong


def functions(text):
    """Name and length of each function, as clang-format lays them out: a brace in the first column opens and closes."""
    lines = text.splitlines()
    opened = None
    for i, line in enumerate(lines):
        if line == "{":
            head = i
            while head > 0 and lines[head - 1] and not lines[head - 1].startswith(("}", "#", "/*", " */")):
                head -= 1
            opened = (re.search(r"(\w+)\(", " ".join(lines[head:i])), i)
        elif line == "}" and opened is not None:
            yield (opened[0].group(1) if opened[0] else "?"), i - opened[1] - 1
            opened = None


def check_sizes(root, exceptions):
    sizes, wrong = {}, []
    for path in sources(root, ROOTS + ["bench"]):
        with open(os.path.join(root, path), encoding="utf-8") as f:
            text = f.read()
        sizes[path] = (text.count("\n"), LINES_IN_FILE, "lines")
        folder = os.path.dirname(path)
        count = sizes.get(folder, (0,))[0]
        sizes[folder] = (count + 1, SOURCES_IN_FOLDER, "sources")
        for name, length in functions(text):
            sizes[f"{path}: {name}()"] = (length, LINES_IN_FUNCTION, "lines")
    for what, (size, limit, unit) in sorted(sizes.items()):
        allowed = max(limit, exceptions.get(what, 0))
        if size > allowed:
            wrong.append(f"{what}: {size} {unit}, {allowed} are allowed; part it, or name the reason in the table")
        elif what in exceptions and size <= limit:
            wrong.append(f"{what}: {size} {unit} need no exception any more; take it out of the table")
    wrong += [f"{what}: an exception for what is not there" for what in exceptions if what not in sizes]
    return wrong


def check_docs(root):
    """Paths and functions that the contributors' pages name in backticks exist."""
    pages = ["README.md", "CONTRIBUTING.md", "SECURITY.md"]
    pages += [os.path.join("docs/dev", name) for name in sorted(os.listdir(os.path.join(root, "docs/dev")))]
    code = ""
    for path in sources(root, ROOTS + ["bench", "tests"]):
        with open(os.path.join(root, path), encoding="utf-8") as f:
            code += f.read()
    wrong = []
    for page in pages:
        with open(os.path.join(root, page), encoding="utf-8") as f:
            text = f.read()
        for path in re.findall(r"`((?:[\w-]+/)+[\w.-]*)`", text):
            if path.split("/")[0] in ROOTS + ["tests", "bench", "docs", "deploy", "scripts"]:
                if not os.path.exists(os.path.join(root, path)):
                    wrong.append(f"{page}: {path} is not there")
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            if not os.path.exists(os.path.join(root, os.path.dirname(page), link)):
                wrong.append(f"{page}: links to {link}, which is not there")
        for name in re.findall(r"`(\w+)\(\)`", text):
            if not re.search(rf"\b{name}\(", code):
                wrong.append(f"{page}: {name}() is not there")
    return wrong


def check(root, what):
    may_use, exceptions = read_rules(root)
    checks = {
        "includes": lambda: check_includes(root, may_use),
        "links": lambda: check_links(root, may_use),
        "sizes": lambda: check_sizes(root, exceptions),
        "docs": lambda: check_docs(root),
    }
    return [line for name in checks if name in what for line in checks[name]()]


def plant_one(copy, may_use, room, other, header):
    source, lists, missed = os.path.join(copy, room, "planted.c"), os.path.join(copy, room, "CMakeLists.txt"), []
    with open(lists, encoding="utf-8") as f:
        before = f.read()
    with open(source, "w", encoding="utf-8") as f:
        f.write(f'#include "{header}"\n')
    if not any("planted.c:1" in line for line in check_includes(copy, may_use)):
        missed.append(f"an include of {header} in {room} is not found")
    with open(lists, "a", encoding="utf-8") as f:
        f.write("target_link_libraries(planted PRIVATE lastcall_" + other.split("/")[-1] + ")\n")
    if not any("planted links" in line for line in check_links(copy, may_use)):
        missed.append(f"a link to the target of {other} in {room} is not found")
    os.remove(source)
    with open(lists, "w", encoding="utf-8") as f:
        f.write(before)
    return missed


def plant(root):
    """An include and a link that point upward, in each folder: each has to be found."""
    may_use, _ = read_rules(root)
    headers = {}
    for path in sources(root, ROOTS):
        if path.endswith(".h"):
            headers.setdefault(room_of(path, may_use), path)
    missed, planted = [], 0
    with tempfile.TemporaryDirectory() as copy:
        for top in ROOTS:
            shutil.copytree(os.path.join(root, top), os.path.join(copy, top))
        for room, allowed in may_use.items():
            for other in [o for o in may_use if o != room and o not in allowed and o in headers]:
                planted += 1
                missed += plant_one(copy, may_use, room, other, os.path.basename(headers[other]))
    print(f"{planted} includes and links planted, {planted - len(missed)} found")
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--plant", action="store_true", help="prove that planted includes are found")
    parser.add_argument("--check", default="includes,links,sizes,docs", help="which of these to check (all)")
    args = parser.parse_args()
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    wrong = plant(root) if args.plant else check(root, args.check.split(","))
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
