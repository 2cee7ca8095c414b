#!/usr/bin/env python3
"""Build the program of this folder against an installed lastcall, and run it: found by CMake and by pkg-config, as C11
and C++11, with the shared library and the static one, with each compiler that is here.

    build.py [--root FOLDER] [--prefix /usr]

FOLDER is the DESTDIR of the installation. Needs no file of lastcall's tree but this folder."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMPILERS = (("gcc", "g++"), ("clang", "clang++"))
LIMIT_S = 300


class Failed(Exception):
    pass


def run(*command: str | Path, **more) -> str:
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=LIMIT_S, **more)
    if done.returncode != 0:
        raise Failed(f"{' '.join(str(word) for word in command)}: status {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout


class Installation:
    def __init__(self, root: Path, prefix: str):
        self.top = root / prefix.lstrip("/")
        found = list(self.top.glob("lib/**/lastcall.pc"))
        if len(found) != 1:
            raise Failed(f"no lastcall.pc below {self.top}/lib")
        self.libraries = found[0].parents[1]
        self.env = {**os.environ, "PKG_CONFIG_PATH": str(found[0].parent), "LD_LIBRARY_PATH": str(self.libraries)}
        self.env.pop("CPATH", None)
        if str(root) != "/":
            # Only what is lastcall's lies below FOLDER: the paths of the libraries that it needs must stay.
            folder = Path(tempfile.mkdtemp(prefix="pc-", dir=root))
            for name in ("lastcall.pc", "lastcall-static.pc"):
                text = (found[0].parent / name).read_text()
                (folder / name).write_text(text.replace(f"={prefix}", f"={self.top}"))
            self.env["PKG_CONFIG_PATH"] = str(folder)

    def run_program(self, program: Path, what: str) -> None:
        said = run(program, env=self.env)
        if ": ok" not in said:
            raise Failed(f"{what}: {said}")
        loads = "liblastcall.so.0" in run("ldd", program, env=self.env)
        if loads == ("static" in what):
            raise Failed(f"{what}: the program {'loads' if loads else 'does not load'} liblastcall.so.0")
        print(f"ok      {what}", flush=True)


def with_cmake(here: Installation, cc: str, cxx: str, folder: Path) -> None:
    build = folder / f"cmake-{cc}"
    run("cmake", "-S", HERE, "-B", build, f"-DCMAKE_PREFIX_PATH={here.top}", f"-DCMAKE_C_COMPILER={cc}",
        f"-DCMAKE_CXX_COMPILER={cxx}", "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror", "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror",
        env=here.env)
    run("cmake", "--build", build, env=here.env)
    for language in ("c", "cxx"):
        for library in ("lastcall", "static"):
            kind = "shared" if library == "lastcall" else "static"
            here.run_program(build / f"{language}_{library}", f"find_package, {cc if language == 'c' else cxx}, {kind}")


def with_pkg_config(here: Installation, compiler: str, language: str, standard: str, folder: Path) -> None:
    for module, kind in (("lastcall", "shared"), ("lastcall-static", "static")):
        flags = run("pkg-config", "--cflags", "--libs", module, env=here.env).split()
        program = folder / f"{compiler}-{kind}"
        run(compiler, f"-std={standard}", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-x", language, HERE / "main.c", "-x", "none",
            "-pthread", "-o", program, *flags, env=here.env)
        here.run_program(program, f"pkg-config, {compiler}, {kind}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build a program against an installed lastcall.")
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--prefix", default="/usr")
    args = parser.parse_args()
    try:
        here = Installation(args.root, args.prefix)
        built = 0
        for cc, cxx in COMPILERS:
            if shutil.which(cc) is None or shutil.which(cxx) is None:
                print(f"skipped {cc}: {cc} and {cxx} are not installed")
                continue
            with tempfile.TemporaryDirectory(prefix="lastcall-consumer-") as name:
                with_cmake(here, cc, cxx, Path(name))
                with_pkg_config(here, cc, "c", "c11", Path(name))
                with_pkg_config(here, cxx, "c++", "c++11", Path(name))
            built += 1
    except (Failed, subprocess.TimeoutExpired) as error:
        print(f"FAILED  {error}")
        return 1
    return 0 if built else 77


if __name__ == "__main__":
    sys.exit(main())
