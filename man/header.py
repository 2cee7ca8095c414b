#!/usr/bin/env python3
"""Fill in the manual pages of the library from include/lastcall/lastcall.h, where each function is described.

    header.py --header HEADER TEMPLATE             print the page in scdoc(5) format
    header.py --header HEADER --aliases FOLDER TEMPLATE...
                                                   write FUNCTION.3 for each function, which refers to its page

In a template these lines are replaced:

    @story@             the comment at the top of the header, a heading for each of its parts
    @threads@           what the letters in brackets mean
    @results@           the section `results`, its values as a list
    @section TITLE@     the declarations of a section with their comments; TITLE is the beginning of its heading
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from options import escape  # noqa: E402

SECTION = re.compile(r"^/\* ---- (.+?) -{2,}\s*\*/\n", re.M)
COMMENT = re.compile(r"/\*(.*?)\*/", re.S)
FUNCTION = re.compile(r"^LC_API\s(?:[^;{]*?)\b(lc_\w+)\s*\(", re.M)
THREADS = ("The letter in brackets after a text names the threads that may call the functions: *[S]* one thread at a time, before "
           "the start; *[A]* any; *[H]* the one that holds the request; *[M]* any that holds none. *liblastcall*(3) has "
           "the rules.")


def sections(header: str) -> dict[str, str]:
    """The text of each section by its heading. The last one ends with the C part of the header."""
    body = header.partition("#ifdef __cplusplus\n} /* extern")[0]
    parts = SECTION.split(body)[1:]
    return dict(zip(parts[::2], parts[1::2]))


def functions(text: str) -> list[str]:
    """What a text declares with LC_API. lc_new() is a macro for one of them."""
    return [name for name in FUNCTION.findall(text)]


def words(comment: str) -> str:
    """A comment as running text."""
    return " ".join(re.sub(r"^\s*\*|\\$", "", line).strip() for line in comment.strip().splitlines()).strip(" \\")


def without_attributes(code: str) -> str:
    """As a caller sees it: no attributes, no bodies of macros."""
    code = re.sub(r"^(LC_API .*\*)\n(?=lc_)", r"\1", code, flags=re.M)
    code = re.sub(r"^LC_API .*(?:\n {10,}\S.*)*", lambda found: found.group().replace("\n       ", "\n"), code, flags=re.M)
    code = re.sub(r"^LC_API\s+", "", code, flags=re.M)
    code = re.sub(r"\s+LC_(?:PRINTF\([^)]*\)|MUST|END_OF_LIST)", "", code)
    code = re.sub(r"^(#define \w+(?:\([^)]*\))?)[ \t]*\\\n(?:.*\\\n)*.*$", r"\1 ...", code, flags=re.M)
    return "\n".join(line.rstrip() for line in code.strip("\n").splitlines())


def groups(text: str):
    """Each comment that begins a line, with the code that follows it without an empty line: (comment, code)."""
    starts = [match for match in re.finditer(r"^/\*(.*?)\*/\n", text, re.M | re.S)]
    first = text[: starts[0].start()] if starts else text
    if first.strip():
        yield "", without_attributes(first)
    for match, following in zip(starts, [*starts[1:], None]):
        parts = re.split(r"\n[ \t]*\n", text[match.end(): following.start() if following else None].strip("\n"))
        yield match.group(1), without_attributes(parts[0])
        for code in parts[1:]:
            if code.strip():
                yield "", without_attributes(code)


def format_section(text: str) -> list[str]:
    lines = []
    for comment, code in groups(text):
        if code.strip():
            lines += ["```", code, "```", ""]
        if comment:
            example, _, rest = comment.partition("\n *\n") if comment.startswith("     ") else ("", "", comment)
            if example:
                lines += ["```", example.strip(), "```", ""]
            lines += ["\t" + escape(words(rest)) if code.strip() else escape(words(rest)), ""]
    return lines


def format_results(text: str) -> list[str]:
    lines = []
    for name, number, comment in re.findall(r"#define (LC_E_\w+)\s*\\?\s*\((-\d+)\)\s*/\*(.*?)\*/", text, re.S):
        said = words(comment)
        if not said.startswith("lc_"):
            said = said[:1].upper() + said[1:]
        lines += [f"*{escape(name)}* ({number})", f"\t{escape(said)}.", ""]
    return lines


def format_story(header: str) -> list[str]:
    """Its paragraphs begin with a word or two and a full stop; what is laid out in columns stays so."""
    comment = COMMENT.match(header).group(1)
    text = "\n".join(re.sub(r"^ ?\* ?", "", line) for line in comment.splitlines()[1:])
    lines = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        head = re.match(r"(Threads|Memory|Results|ABI)\. ", paragraph)
        if head is None:
            continue
        rest = paragraph[head.end():]
        columns = re.findall(r"(?m)^ {4}\[(\w)\] (\w+) +((?:.|\n {10,})*)$", rest)
        plain = re.sub(r"(?m)^ {4}\[\w\](?:.|\n {10,})*$\n", "\0", rest)
        before, _, after = plain.partition("\0")
        lines += [f"# {head.group(1).upper()}", "", escape(" ".join(before.split())), ""]
        for letter, name, said in columns:
            lines += [f"*[{letter}]* {name}", f"\t{escape(' '.join(said.split()))}", ""]
        if after.strip("\0\n "):
            lines += [escape(" ".join(after.replace(chr(0), "").split())), ""]
    return lines


def find_section(all_sections: dict[str, str], title: str) -> str:
    found = [text for heading, text in all_sections.items() if heading.startswith(title)]
    if len(found) != 1:
        sys.exit(f"header.py: the header has {len(found)} sections that begin with `{title}`: {', '.join(all_sections)}")
    return found[0]


def titles_in(template: str) -> list[str]:
    return re.findall(r"^@section (.+)@$", template, re.M) + re.findall(r"^@(results)@$", template, re.M)


def fill(template: str, header: str) -> str:
    found, lines = sections(header), []
    for line in template.splitlines():
        match = re.fullmatch(r"@(\w+)(?: (.+))?@", line)
        kind = match.group(1) if match else ""
        if kind == "story":
            lines += format_story(header)
        elif kind == "threads":
            lines.append(THREADS)
        elif kind == "results":
            text = find_section(found, "results")
            lines += format_results(text) + format_section(text[text.index("/* One line"):])
        elif kind == "section":
            lines += format_section(find_section(found, match.group(2)))
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def write_aliases(folder: Path, templates: list[Path], header: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.3"):
        old.unlink()
    found = sections(header)
    for template in templates:
        page = template.name.removesuffix(".scd.in")
        for title in titles_in(template.read_text()):
            for name in functions(find_section(found, title)):
                if f"{name}.3" != page:
                    (folder / f"{name}.3").write_text(f".so man3/{page}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Fill in a manual page of the library.")
    parser.add_argument("--header", type=Path, required=True)
    parser.add_argument("--aliases", type=Path, metavar="FOLDER")
    parser.add_argument("templates", type=Path, nargs="+")
    arguments = parser.parse_args()
    header = arguments.header.read_text()
    if arguments.aliases:
        write_aliases(arguments.aliases, arguments.templates, header)
    else:
        sys.stdout.write(fill(arguments.templates[0].read_text(), header))


if __name__ == "__main__":
    main()
