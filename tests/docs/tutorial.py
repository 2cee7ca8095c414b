#!/usr/bin/env python3
"""Follow docs/tutorial.md word for word: save its files, type its commands, compare the answers.

    tutorial.py                                     with the library that is installed
    tutorial.py --include FOLDER --library FOLDER   with that of a build

A block after "Save this as `NAME`" is a file. In the other blocks a line that begins with "$ " is typed, and the lines after
it are its answer. A command that begins with "./" and gives no answer keeps its terminal: it is a server, until a paragraph
says "Press Ctrl+C". A line that begins with "# " is for root, and left out: what apt-get names must be installed, and
tests/package/check.py starts the service. The port is another, free one.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "differential"))
from servers import free_ports

LIMIT_S = 120
EXIT_SKIPPED = 77


def paragraphs(text: str) -> list[tuple[str, str]]:
    """("text" or "block", its lines), a block without its indentation; blank lines within a block stay."""
    parts: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        kind = "block" if line.startswith("    ") else "text"
        if line == "":
            if parts:
                parts[-1][1].append("")
            continue
        if not parts or parts[-1][0] != kind:
            parts.append((kind, []))
        parts[-1][1].append(line[4:] if kind == "block" else line)
    return [(kind, "\n".join(lines).rstrip("\n")) for kind, lines in parts]


class Reader:
    """Who follows the page."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env
        self.server: subprocess.Popen[bytes] | None = None
        self.steps = 0

    def fail(self, text: str) -> None:
        log = self.folder / "server.log"
        raise SystemExit(f"tutorial: {text}" + (f"\n{log.read_text()}" if log.exists() else ""))

    def save(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text + "\n")
        self.steps += 1

    def start(self, command: str) -> None:
        with open(self.folder / "server.log", "wb") as log:
            self.server = subprocess.Popen(["sh", "-c", f"exec {command}"], cwd=self.folder, env=self.env,
                                           stdout=log, stderr=log)
        until = time.monotonic() + LIMIT_S
        while "listening on " not in (self.folder / "server.log").read_text():
            if self.server.poll() is not None or time.monotonic() > until:
                self.fail(f"`{command}` does not listen")
            time.sleep(0.02)

    def type(self, command: str, answer: list[str]) -> None:
        self.steps += 1
        if command.startswith("./") and not answer:
            self.start(command)
            return
        done = subprocess.run(["sh", "-c", command], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False)
        if done.returncode != 0 or done.stdout.split("\n")[:-1] != answer:
            self.fail(f"`{command}` ended with {done.returncode}: {done.stdout}{done.stderr}; the page says: {answer}")

    def press_ctrl_c(self) -> None:
        if self.server is None:
            self.fail("Ctrl+C without a server")
            return
        self.server.send_signal(signal.SIGINT)
        status = self.server.wait(timeout=LIMIT_S)
        if status != 0:
            self.fail(f"after Ctrl+C the status is {status}")
        self.server = None
        self.steps += 1

    def follow(self, block: str) -> None:
        block = re.sub(r"(?m)^# .*\n?", "", block)
        commands = [part.split("\n") for part in re.split(r"(?m)^\$ ", block) if part.strip()]
        for lines in commands:
            self.type(lines[0], [line for line in lines[1:] if line])


def follow_page(page: str, reader: Reader) -> None:
    before = ""
    for kind, text in paragraphs(page):
        if kind == "text":
            # Where the page says to press it while an answer is awaited, the paragraph is before the commands.
            if re.search(r"(?m)^Press Ctrl\+C", text):
                reader.press_ctrl_c()
            before = text
            continue
        name = re.search(r"[Ss]ave this as `([^`]+)`:$", before)
        at = re.search(r"(?m)^\$ ", text)
        if name:
            cut = at.start() if at else len(text)
            reader.save(name.group(1), text[:cut].rstrip("\n"))
            text = text[cut:]
        if text:
            reader.follow(text)
        before = ""


def write_pkg_config(folder: Path, include: str, library: str) -> None:
    (folder / "lastcall.pc").write_text(
        "Name: lastcall\nDescription: liblastcall of a build\nVersion: 0\n"
        f"Cflags: -I{include}\nLibs: -L{library} -Wl,-rpath,{library} -llastcall\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--page", default=str(HERE.parents[1] / "docs" / "tutorial.md"))
    parser.add_argument("--include", metavar="FOLDER", help="that has lastcall/lastcall.h")
    parser.add_argument("--library", metavar="FOLDER", help="that has liblastcall.so")
    parser.add_argument("--keep", metavar="FOLDER", help="leave the files and programs there")
    args = parser.parse_args()
    for command, package in (("curl --version", "curl"), ("pkg-config --exists sqlite3", "libsqlite3-dev")):
        if subprocess.run(command, shell=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          check=False).returncode != 0:
            print(f"tutorial: skipped: {package} is not installed")
            return EXIT_SKIPPED
    port, = free_ports(1)
    page = Path(args.page).read_text().replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    env = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="lastcall-tutorial-") as name:
        folder = Path(name)
        if args.include and args.library:
            write_pkg_config(folder, args.include, args.library)
            env["PKG_CONFIG_PATH"] = name
        reader = Reader(folder, env)
        try:
            follow_page(page, reader)
        finally:
            if reader.server is not None:
                reader.server.kill()
                reader.server.wait()
        if args.keep:
            shutil.copytree(folder, args.keep)
    print(f"tutorial: {reader.steps} steps followed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
