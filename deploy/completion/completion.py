#!/usr/bin/env python3
"""Write the completion of lastcall for a shell, from --help, so that a new flag cannot be missing.

    completion.py bash|zsh --lastcall PROGRAM

man/options.py reads the help. What completes an argument follows from its name there (FILE, DIR, text|json ...)."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "man"))
import options  # noqa: E402

SOCKETS = '/run/lastcall/*.sock "${XDG_RUNTIME_DIR:-/nonexistent}"/lastcall/*.sock'


def kind_of(option: options.Option) -> str:
    """What completes its argument: "" for no argument, a word for a kind, or "=a b" for these values."""
    argument = option.argument.strip("'")
    if "|" in argument:
        return "=" + argument.replace("|", " ")
    if argument == "MODE":
        return "=" + " ".join(re.findall(r"(?:^|; )(\w+): ", option.text))
    if option.name in ("socket", "user"):
        return option.name
    if option.name == "app-health":  # the PATH is that of a URL
        return "text"
    return {"": "", "FILE": "file", "PATH": "file", "PLACE": "file", "DIR": "folder", "PID": "process"}.get(argument, "text")


# ---- bash ----

BASH_KINDS = {
    "file": 'mapfile -t COMPREPLY < <(compgen -f -- "$cur"); compopt -o filenames',
    "folder": 'mapfile -t COMPREPLY < <(compgen -d -- "$cur"); compopt -o filenames',
    "user": 'mapfile -t COMPREPLY < <(compgen -u -- "$cur")',
    "process": 'mapfile -t COMPREPLY < <(compgen -W "$(pgrep -x lastcall)" -- "$cur")',
    "socket": f'mapfile -t COMPREPLY < <(compgen -W "$(printf "%s\\n" {SOCKETS} | grep -v "\\*")" -- "$cur"); '
              'compopt -o filenames',
    "text": ":",
}


def bash_values(found: list[options.Option]) -> list[str]:
    """The arms of a case: after this option, these words."""
    by_kind: dict[str, list[str]] = {}
    for option in found:
        names = [f"--{option.name}"] + ([f"-{option.short}"] if option.short else [])
        by_kind.setdefault(kind_of(option), []).extend(names)
    lines = []
    for kind, names in by_kind.items():
        if kind:
            action = f'mapfile -t COMPREPLY < <(compgen -W "{kind[1:]}" -- "$cur")' if kind[0] == "=" else BASH_KINDS[kind]
            lines += [f"    {'|'.join(names)})", f"        {action}", "        return 0 ;;"]
    return lines


def bash_words(found: list[options.Option]) -> str:
    return " ".join([f"--{option.name}" for option in found] + [f"-{option.short}" for option in found if option.short])


def bash_function(name: str, found: list[options.Option], more: str) -> list[str]:
    return [f"{name}()", "{", "    local cur=$1 prev=$2", '    case "$prev" in', *bash_values(found), "    esac",
            f'    mapfile -t COMPREPLY < <(compgen -W "{bash_words(found)}{more}" -- "$cur")', "}", ""]


BASH_MAIN = """_lastcall()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} i
    COMPREPLY=()
    # `--option=value` is three words to bash.
    if [[ $cur == "=" ]]; then
        cur=
    elif [[ $prev == "=" ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case "${COMP_WORDS[1]}" in
@commands@
    esac
    # The application, `lastcall --proxy URL -- COMMAND`.
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == "--" ]]; then
            if ((i == COMP_CWORD - 1)); then
                mapfile -t COMPREPLY < <(compgen -c -- "$cur")
            else
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
                compopt -o filenames
            fi
            return 0
        fi
    done
    if ((COMP_CWORD == 1)) && [[ $cur != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "@names@" -- "$cur")
        return 0
    fi
    _lastcall_server "$cur" "$prev"
}
complete -F _lastcall lastcall
"""


def bash(server: list[options.Option], commands: dict[str, list[options.Option]]) -> str:
    lines = ["# bash completion for lastcall. Written by deploy/completion/completion.py from --help.", ""]
    lines += bash_function("_lastcall_server", server, " --")
    for name, found in commands.items():
        lines += bash_function(f"_lastcall_{name}", found, "")
    arms = "\n".join(f'    {name}) ((COMP_CWORD > 1)) && {{ _lastcall_{name} "$cur" "$prev"; return 0; }} ;;'
                     for name in commands)
    return "\n".join(lines) + BASH_MAIN.replace("@commands@", arms).replace("@names@", " ".join(commands))


# ---- zsh ----

ZSH_KINDS = {"file": "_files", "folder": "_files -/", "user": "_users", "process": "_pids",
             "socket": "_files -g \"*.sock\"", "text": " "}


def zsh_text(text: str) -> str:
    """What an option does, without its default and its details, quoted for _arguments."""
    if re.match(r"\w+: .*; \w+: ", text):
        text = " or ".join(re.findall(r"(?:^|; )(\w+): ", text))
    text = re.split(r";| \(", text)[0].strip()
    return re.sub(r"([\[\]\\])", r"\\\1", text).replace("'", "'\\''").replace("`", "")


def zsh_spec(option: options.Option) -> str:
    kind = kind_of(option)
    if not kind:
        action = ""
    elif kind[0] == "=":
        action = f":{option.name}:({kind[1:]})"
    else:
        argument = option.argument.strip("'").replace(":", "\\:")
        action = f":{argument}:{ZSH_KINDS[kind]}"
    rest = f"[{zsh_text(option.text)}]{action}'"
    again = "*" if "may be given several times" in option.text or "may be repeated" in option.text \
        or option.name == "header" else ""
    if option.short:
        return f"'(-{option.short} --{option.name})'{{-{option.short},--{option.name}}}'{rest}"
    return f"'{again}--{option.name}{rest}"


def zsh(server: list[options.Option], commands: dict[str, list[options.Option]], texts: dict[str, str]) -> str:
    lines = ["#compdef lastcall", "# Written by deploy/completion/completion.py from --help.", "",
             "local -a commands server", "commands=("]
    lines += [f"    '{name}:{zsh_text(text)}'" for name, text in texts.items()]
    lines += [")", "server=(", *[f"    {zsh_spec(option)}" for option in server], ")", "",
              "# The application, `lastcall --proxy URL -- COMMAND`.",
              "integer at=${words[(i)--]}",
              "if (( at < CURRENT )); then",
              "    shift $at words", "    (( CURRENT -= at ))", "    _normal", "    return", "fi",
              "if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then",
              "    _describe -t commands 'command of lastcall' commands", "    return", "fi",
              'case "$words[2]" in']
    for name, found in commands.items():
        lines += [f"{name})", "    shift words", "    (( CURRENT-- ))",
                  "    _arguments \\", " \\\n".join(f"        {zsh_spec(option)}" for option in found), "    ;;"]
    lines += ["*)", "    _arguments $server ;;", "esac"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the completion of lastcall for a shell.")
    parser.add_argument("--lastcall", type=Path, required=True, metavar="PROGRAM")
    parser.add_argument("shell", choices=("bash", "zsh"))
    arguments = parser.parse_args()
    program = arguments.lastcall
    text = options.help_of(program)
    texts = options.commands_of(text)
    if not texts:
        sys.exit("completion.py: lastcall --help lists no commands")
    server = options.options_of(text)
    commands = {name: options.options_of(options.help_of(program, name)) for name in texts}
    sys.stdout.write(bash(server, commands) if arguments.shell == "bash" else zsh(server, commands, texts))


if __name__ == "__main__":
    main()
