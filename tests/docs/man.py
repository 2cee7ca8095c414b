#!/usr/bin/env python3
"""The manual pages name every option and every setting, and none that lastcall does not know.

man/options.py fills in the options from --help. This checks the rest: that lastcall.conf(5) has each option that is
also a setting, that its settings are those that the server knows, that no example is wrong, and that scdoc(1) accepts
the pages, if it is installed."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAN = ROOT / "man"
sys.path.insert(0, str(MAN))
import options  # noqa: E402

PAGES = tuple(sorted(path.name.removesuffix(".scd.in") for path in MAN.glob("*.[15].scd.in")))
# Options that no setting of the file replaces: they choose the file, or are written as directives of h2o.
ONLY_OPTIONS = {"conf", "test", "mode", "listen", "cert", "key", "root", "proxy", "log-format", "quiet", "version", "help"}
OF_H2O = {"listen", "handler", "handler.cgi", "handler.module"}


def check_config(program: Path, text: str) -> str:
    """What `lastcall -t` prints about this configuration."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lastcall.conf"
        path.write_text(text)
        done = subprocess.run([program, "-t", "-c", path], capture_output=True, text=True)
        return done.stdout + done.stderr


def known_keys(program: Path, path: str) -> set[str]:
    """The keys of a group, from the message about an unknown one."""
    nested = "{no-such-key: 1}"
    for name in reversed(path.split(".")):
        nested = f"{{{name}: {nested}}}" if name != path.split(".")[0] else f"{name}: {nested}"
    said = check_config(program, f"hosts: {{default: {{paths: {{/: {{handler: hello}}}}}}}}\n{nested}\n")
    match = re.search(r"no-such-key.* (?:are|:) ?((?:[\w-]+, )*[\w-]+)\s*$", said)
    return set(match.group(1).split(", ")) if match else set()


def settings_of(page: str) -> set[str]:
    return set(re.findall(r"^\*([a-z][\w.-]*)\*: ", page.replace("\\", ""), re.M)) - OF_H2O


def check_settings(program: Path, page: str) -> list[str]:
    found, wrong = settings_of(page), []
    groups = {setting.rpartition(".")[0] for setting in found if "." in setting}
    groups |= {group.rpartition(".")[0] for group in groups if "." in group}
    for group in sorted(groups):
        written = {name[len(group) + 1:].split(".")[0] for name in found if name.startswith(group + ".")}
        known = known_keys(program, group)
        wrong += [f"lastcall.conf(5) lacks {group}.{key}" for key in sorted(known - written)]
        wrong += [f"lastcall.conf(5) has {group}.{key}, which lastcall does not know" for key in sorted(written - known)]
    for setting in sorted(name for name in found if "." not in name):
        said = check_config(program, f"{setting}: no-such-value\n")
        if "unknown command" in said:
            wrong.append(f"lastcall.conf(5) has {setting}, which lastcall does not know")
    return wrong


def check_options(program: Path, template: str) -> list[str]:
    named = re.findall(r"^@setting \S+ --([\w-]+)@$", template, re.M)
    every = {option.name for option in options.options_of(options.help_of(program))}
    wrong = [f"lastcall.conf(5) has no setting for --{name}" for name in sorted(every - set(named) - ONLY_OPTIONS)]
    wrong += [f"--{name} is no option any more" for name in sorted(ONLY_OPTIONS - every)]
    return wrong


def check_help(program: Path) -> list[str]:
    """Each option has a text, so the help was parsed as it is meant; each command has a page."""
    commands = options.commands_of(options.help_of(program))
    wrong = [] if commands else ["lastcall --help lists no commands"]
    wrong += [f"there is no page for lastcall {name}" for name in commands if f"lastcall-{name}.1" not in PAGES]
    for command in ((), *((name,) for name in commands)):
        found = options.options_of(options.help_of(program, *command))
        if not found:
            wrong.append(f"lastcall {' '.join(command)} --help: no options found")
        wrong += [f"lastcall {' '.join(command)} --help: --{option.name} has no text" for option in found
                  if not option.text]
    return wrong


def check_pages(pages: dict[str, str]) -> list[str]:
    if shutil.which("scdoc") is None:
        print("scdoc is not installed: the pages are not formatted")
        return []
    wrong = []
    for name, page in pages.items():
        done = subprocess.run(["scdoc"], input=page, capture_output=True, text=True)
        if done.returncode != 0:
            wrong.append(f"{name}: scdoc: {done.stderr.strip()}")
    return wrong


def check_examples(program: Path, page: str) -> list[str]:
    wrong = []
    for example in re.findall(r"^```\n(.*?)^```$", page, re.M | re.S):
        said = check_config(program, re.sub(r"/var/lib/lastcall/journal", "/tmp", example))
        if "unknown" in said or "want" in said:
            wrong.append(f"lastcall.conf(5): the example is wrong: {said.strip()}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the manual pages.")
    parser.add_argument("--lastcall", type=Path, required=True, metavar="PROGRAM")
    program = parser.parse_args().lastcall
    templates = {name: (MAN / f"{name}.scd.in").read_text() for name in PAGES}
    wrong = check_help(program) + check_options(program, templates["lastcall.conf.5"])
    pages = {name: options.fill(template, program) for name, template in templates.items()}
    wrong += check_settings(program, pages["lastcall.conf.5"])
    wrong += check_examples(program, pages["lastcall.conf.5"]) + check_pages(pages)
    for line in wrong:
        print(line)
    print(f"{len(PAGES)} pages, {len(settings_of(pages['lastcall.conf.5']))} settings, {len(wrong)} mistakes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
