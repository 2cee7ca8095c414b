#!/usr/bin/env python3
"""Shells complete every option that --help has, and no other.

    completion.py --lastcall PROGRAM

Bash and zsh are started with the completions that deploy/completion/completion.py writes, and asked as a person would:
for zsh, that is through a terminal."""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 60


def help_of(program: Path, *command: str) -> str:
    return subprocess.run([program, *command, "--help"], check=True, capture_output=True, text=True).stdout


def options_in(text: str) -> set[str]:
    return set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", text, re.M))


def write_completion(program: Path, shell: str, path: Path) -> None:
    generator = ROOT / "deploy" / "completion" / "completion.py"
    with path.open("w") as file:
        subprocess.run([sys.executable, "-B", generator, shell, "--lastcall", program], check=True, stdout=file)


class Bash:
    def __init__(self, program: Path, folder: Path):
        self.path = folder / "lastcall.bash"
        write_completion(program, "bash", self.path)

    def complete(self, *words: str) -> set[str]:
        """What is offered for the last word."""
        script = ('source "$1"; shift; COMP_WORDS=(lastcall "$@"); COMP_CWORD=$#; compopt() { :; }; _lastcall; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "--norc", "-c", script, "bash", self.path, *words], check=True,
                              capture_output=True, text=True, timeout=LIMIT_S)
        assert done.stderr == "", done.stderr
        return set(done.stdout.split())

    def close(self) -> None:
        pass


class Zsh:
    """A shell on a terminal. Completions are listed by a widget of its own, between two marks."""

    SETUP = """
        PROMPT= RPROMPT= LISTMAX=10000; unsetopt zle_bracketed_paste prompt_cr prompt_sp; TRAPWINCH() { : }
        fpath=("$LASTCALL_FOLDER" $fpath); autoload -Uz compinit; compinit -u -D
        compadd() {
            local -a found; local i
            for i in "$@"; do [[ $i == -O || $i == -A || $i == -D ]] && { builtin compadd "$@"; return; }; done
            builtin compadd -A found "$@"; print -rl -- "$found[@]" >> "$LASTCALL_FOLDER/found"; builtin compadd "$@"
        }
        ask() { zle complete-word; print END >> "$LASTCALL_FOLDER/found"; BUFFER=; zle redisplay }
        zle -N ask; zle -C complete-word complete-word _main_complete; bindkey '^X' ask; print READY >> "$LASTCALL_FOLDER/found"
    """

    def __init__(self, program: Path, folder: Path):
        write_completion(program, "zsh", folder / "_lastcall")
        self.found = folder / "found"
        self.found.touch()
        (folder / "setup").write_text(self.SETUP)
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="dumb", LASTCALL_FOLDER=str(folder), HOME=str(folder))
            os.environ["PATH"] = f"{program.resolve().parent}:{os.environ['PATH']}"
            os.execvp("zsh", ["zsh", "-f", "-i"])
        self.type(f"source {folder}/setup\n")
        self.wait_for("READY")

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def wait_for(self, mark: str) -> list[str]:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            if select.select([self.terminal], [], [], 0.02)[0]:
                os.read(self.terminal, 65536)  # what is on the screen is not looked at
            lines = self.found.read_text().splitlines()
            if lines and lines[-1] == mark:
                return lines[:-1]
        raise AssertionError(f"zsh: no {mark} within {LIMIT_S} s: {self.found.read_text()[-500:]}")

    def complete(self, *words: str) -> set[str]:
        self.found.write_text("")
        self.type(" ".join(("lastcall", *words)) + "\x18")
        return {word for word in self.wait_for("END") if word}

    def close(self) -> None:
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


def check(shell: Bash | Zsh, program: Path) -> list[str]:
    wrong = []

    def expect(words: tuple[str, ...], want: set[str]) -> None:
        got = shell.complete(*words)
        if got != want:
            wrong.append(f"{type(shell).__name__}: lastcall {' '.join(words)}: offered beside what is wanted: "
                         f"{sorted(got - want)}, missing: {sorted(want - got)}")

    text = help_of(program)
    commands = set(re.findall(r"^  ([a-z]+) {3,}\S", text.partition("\nCommands,")[2], re.M))
    assert len(commands) >= 7, commands
    expect(("",), commands) if isinstance(shell, Bash) else None
    expect(("dr",), {"drain"})
    options = options_in(text)
    assert len(options) > 60, options
    expect(("--",), options | ({"--"} if isinstance(shell, Bash) else set()))
    for name in commands:
        expect((name, "--"), options_in(help_of(program, name)))
    expect(("--mode", ""), {"worker", "master", "daemon", "test"})
    expect(("--quiet", "--log-format", "j"), {"json"})
    expect(("-c", str(ROOT / "deploy/logrotate/las")),
           {str(ROOT / "deploy/logrotate/lastcall") if isinstance(shell, Bash) else "lastcall"})
    expect(("drain", "--reason", ""), set())
    if isinstance(shell, Bash):
        expect(("--mode", "=", "ma"), {"master"})
        expect(("--proxy", "URL", "--", "lastcall-cl"), {"lastcall-cli"} & shell.complete("--", "lastcall-cl"))
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the completions of shells.")
    parser.add_argument("--lastcall", type=Path, required=True, metavar="PROGRAM")
    program = parser.parse_args().lastcall.resolve()
    wrong, asked = [], []
    for name, kind in (("bash", Bash), ("zsh", Zsh)):
        if shutil.which(name) is None:
            print(f"skipped {name}: {name} is not installed")
            continue
        with tempfile.TemporaryDirectory(prefix="lastcall-completion-") as folder:
            shell = kind(program, Path(folder))
            try:
                wrong += check(shell, program)
            finally:
                shell.close()
        asked.append(name)
    for line in wrong:
        print(line)
    print(f"{' and '.join(asked)} asked, {len(wrong)} mistakes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
