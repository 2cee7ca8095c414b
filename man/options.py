#!/usr/bin/env python3
"""Fill in a manual page: the options come from --help, so that the page cannot fall behind it.

    options.py --lastcall PROGRAM TEMPLATE    print the page in scdoc(5) format

In a template these lines are replaced:

    @options@              the options of `lastcall --help`, with their headings
    @commands@             the commands that it lists, with their texts
    @synopsis NAME@        the usage of `lastcall NAME --help`
    @command NAME@         its text, options and exit statuses, with a heading for each but the first
    @setting PATH --NAME@  a setting of the configuration file, with the text of the option --NAME

Within a line, @summary NAME@ is what `lastcall --help` says about the command.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

OPTION_COLUMN = 30  # where lastcall --help begins the text of an option


class Option(NamedTuple):
    heading: str  # of its group
    short: str  # "c"; "": none
    name: str
    argument: str  # "FILE"; "": none
    text: str


def escape(text: str) -> str:
    """Keep scdoc from reading text as markup."""
    text = re.sub(r"([\\*_])", r"\\\1", text)
    return "\\" + text if text[:1] in ("#", "-", ".", "[", "|", "]", "+", "`") else text


def help_of(program: Path, *command: str) -> str:
    return subprocess.run([program, *command, "--help"], check=True, capture_output=True, text=True).stdout


def options_of(text: str) -> list[Option]:
    """The options of a help text, with the indented lines that continue them."""
    found: list[Option] = []
    heading = ""
    for line in text.splitlines():
        if re.match(r"\S.*:$", line):
            heading = line[:-1]
        match = re.match(r"  (?:-(\w), |    )?--([\w-]+)(.*)$", line)
        if match:
            short, name, rest = match.group(1) or "", match.group(2), match.group(3)
            if line[OPTION_COLUMN - 1:OPTION_COLUMN] == " " and re.match(r"(  -\w, |      )", line):
                argument, words = line[match.end(2):OPTION_COLUMN].strip(), line[OPTION_COLUMN:]
            else:  # of a command: the argument is a word or quoted, and two spaces or more end it
                argument, words = re.match(r"(?: ('[^']*'|\S+))?(?:\s+(.*))?$", rest).groups(default="")
            found.append(Option(heading, short, name, argument, words.strip()))
        elif found and re.match(r"\s{10,}\S", line):
            found[-1] = found[-1]._replace(text=f"{found[-1].text} {line.strip()}".strip())
    return found


def sentence(text: str) -> str:
    """With a capital, unless the text begins with a value such as `worker:`."""
    if not re.match(r"[\w-]+:", text):
        text = text[:1].upper() + text[1:]
    return escape(text) + "."


def format_option(option: Option) -> list[str]:
    short = f"*-{option.short}*, " if option.short else ""
    argument = f" {escape(option.argument)}" if option.argument else ""
    return [f"{short}*--{option.name}*{argument}", f"\t{sentence(option.text)}", ""]


def format_options(text: str) -> list[str]:
    lines, heading = [], None
    for option in options_of(text):
        if option.heading != heading:
            heading = option.heading
            lines += [f"## {escape(heading)}", ""] if heading else []
        lines += format_option(option)
    return lines


def commands_of(text: str) -> dict[str, str]:
    """The commands that `lastcall --help` lists, each with its line."""
    part = text.partition("\nCommands, each with its own --help:\n")[2].partition("\n\n")[0]
    return dict(re.findall(r"^  (\w+) +(.*)$", part, re.M))


def format_commands(commands: dict[str, str]) -> list[str]:
    return [line for name, text in commands.items() for line in (f"*lastcall-{name}*(1)", f"\t{sentence(text)}", "")]


def format_synopsis(name: str, text: str) -> list[str]:
    usage = text.partition("\n\n")[0].removeprefix(f"Usage: lastcall {name}").strip()
    return [f"*lastcall* *{name}* {escape(usage)}"]


def format_command(text: str) -> list[str]:
    lines, ends = [], []
    for paragraph in text.split("\n\n")[1:]:
        said = escape(" ".join(paragraph.split()))
        if paragraph.startswith("Exit status: "):
            ends = ["# EXIT STATUS", "", said.removeprefix("Exit status: ")]
        elif not paragraph.lstrip().startswith("--"):
            lines += [said, ""]
    lines += ["# OPTIONS", ""]
    for option in options_of(text):
        lines += format_option(option)
    return lines + ends


def format_setting(path: str, option: Option) -> list[str]:
    argument = escape(option.argument) if option.argument else "ON | OFF"
    return [f"*{escape(path)}*: {argument}", f"\t{sentence(option.text)} Option: *--{option.name}*.", ""]


def fill(template: str, program: Path) -> str:
    help_text = help_of(program)
    options = {option.name: option for option in options_of(help_text)}
    commands = commands_of(help_text)
    template = re.sub(r"@summary (\w+)@", lambda found: escape(commands[found.group(1)].partition(";")[0]), template)
    lines: list[str] = []
    for line in template.splitlines():
        words = line.strip("@").split() if re.fullmatch(r"@[^@]+@", line) else []
        if words == ["options"]:
            lines += format_options(help_text)
        elif words == ["commands"]:
            lines += format_commands(commands)
        elif words and words[0] == "synopsis":
            lines += format_synopsis(words[1], help_of(program, words[1]))
        elif words and words[0] == "command":
            lines += format_command(help_of(program, words[1]))
        elif words and words[0] == "setting":
            name = words[2].removeprefix("--")
            if name not in options:
                sys.exit(f"options.py: lastcall --help has no --{name}, which {words[1]} names")
            lines += format_setting(words[1], options[name])
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Fill in the options of a manual page.")
    parser.add_argument("--lastcall", type=Path, required=True, metavar="PROGRAM")
    parser.add_argument("template", type=Path)
    arguments = parser.parse_args()
    sys.stdout.write(fill(arguments.template.read_text(), arguments.lastcall))


if __name__ == "__main__":
    main()
