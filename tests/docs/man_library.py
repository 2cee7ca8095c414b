#!/usr/bin/env python3
"""The manual pages of the library have each function, value and section of include/lastcall/lastcall.h, once.

man/header.py fills them in from the header. This checks what it made, by looking at the header in another way; that the
examples compile; and that scdoc(1) accepts the pages, if it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "man"))
import header as pages  # noqa: E402

HEADER = ROOT / "include" / "lastcall" / "lastcall.h"
TEMPLATES = sorted((ROOT / "man").glob("*.3.scd.in"))


def declarations(text: str) -> list[str]:
    """The functions that a text declares, each on one line, without comments and attributes."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"^[ \t]*#(?:.*\\\n)*.*$", "", text, flags=re.M)
    text = re.sub(r"\b(LC_API|LC_MUST|LC_END_OF_LIST)\b|\bLC_PRINTF\([^)]*\)", " ", text)
    found = re.findall(r"(?:^|(?<=[;{}]))([^;{}]*?\blc_\w+\s*\((?:[^()]|\([^()]*\))*\))\s*;", text)
    plain = [re.sub(r"\s*([*(),])\s*", r"\1", " ".join(one.split())) for one in found]
    return [one for one in plain if not one.startswith("typedef")]


def literals(page: str) -> str:
    return "\n".join(re.findall(r"^```\n(.*?)^```$", page, re.M | re.S))


def check_functions(header: str, made: dict[str, str]) -> list[str]:
    """Each function is declared in one page, as in the header."""
    c_part = header.partition("#ifdef __cplusplus\n} /* extern")[0]
    wanted = Counter(declarations(c_part.partition('extern "C" {\n#endif')[2]))
    if len(wanted) < 90:
        return [f"only {len(wanted)} functions were found in the header"]
    got = Counter()
    for name, page in made.items():
        got.update(declarations(literals(page.partition("\n# DESCRIPTION\n")[2].partition("\n# EXAMPLES\n")[0])))
    wrong = [f"no page declares: {one}" for one in wanted - got]
    return wrong + [f"declared twice, or not in the header: {one}" for one in got - wanted]


def check_values(header: str, made: dict[str, str]) -> list[str]:
    every = "".join(made.values()).replace("\\", "")
    names = set(re.findall(r"^#define (LC_\w+)", header.partition("typedef struct lc_server")[2], re.M)) - {"LC_OK"}
    return [f"no page has {name}" for name in sorted(names) if not re.search(rf"\b{name}\b", every)]


def check_sections(header: str) -> list[str]:
    uses = Counter()
    for template in TEMPLATES:
        for title in pages.titles_in(template.read_text()):
            uses.update(heading for heading in pages.sections(header) if heading.startswith(title))
    return [f"the section `{heading}` of the header is in {uses[heading]} pages" for heading in pages.sections(header)
            if uses[heading] != 1]


def check_aliases(header: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        pages.write_aliases(Path(folder), TEMPLATES, header)
        have = {path.name for path in Path(folder).iterdir()} | {path.name.removesuffix(".scd.in") for path in TEMPLATES}
    named = {match.group(1) for one in declarations(header) if (match := re.search(r"\b(lc_\w+)\(", one))}
    return [f"`man {name}` finds nothing" for name in sorted(named) if f"{name}.3" not in have]


def check_examples(made: dict[str, str]) -> list[str]:
    wrong = []
    for name, page in made.items():
        for example in re.findall(r"^```\n(#include.*?)^```$", page.partition("\n# EXAMPLES\n")[2], re.M | re.S):
            done = subprocess.run(["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{ROOT}/include",
                                   "-x", "c", "-"], input=example, capture_output=True, text=True)
            wrong += [f"{name}: the example does not compile: {done.stderr.strip()}"] if done.returncode else []
    return wrong


def check_format(made: dict[str, str]) -> list[str]:
    if shutil.which("scdoc") is None:
        print("scdoc is not installed: the pages are not formatted")
        return []
    wrong = []
    for name, page in made.items():
        done = subprocess.run(["scdoc"], input=page, capture_output=True, text=True)
        wrong += [f"{name}: scdoc: {done.stderr.strip()}"] if done.returncode else []
    return wrong


def main() -> int:
    header = HEADER.read_text()
    made = {path.name.removesuffix(".scd.in"): pages.fill(path.read_text(), header) for path in TEMPLATES}
    wrong = (check_sections(header) + check_functions(header, made) + check_values(header, made) + check_aliases(header)
             + check_examples(made) + check_format(made))
    for line in wrong:
        print(line)
    print(f"{len(made)} pages, {len(declarations(header))} functions, {len(wrong)} mistakes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
