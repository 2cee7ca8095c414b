#!/usr/bin/env python3
"""`cmake --install` puts what belongs to it below DESTDIR, in one consistent whole.

    install.py --build FOLDER --lastcall PROGRAM [--consumer]

With --consumer it builds and runs a program with the installed library (tests/package/consumer) instead."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120
# Below the prefix. Pages are there if scdoc was.
FILES = """bin/lastcall bin/lastcall-cli lib/systemd/system/lastcall.service lib/sysusers.d/lastcall.conf
    etc/lastcall/lastcall.conf etc/logrotate.d/lastcall share/lastcall/html/index.html
    share/bash-completion/completions/lastcall share/zsh/site-functions/_lastcall
    lib/liblastcall.a lib/liblastcall.so lib/liblastcall.so.0 include/lastcall/lastcall.h lib/pkgconfig/lastcall.pc
    lib/pkgconfig/lastcall-static.pc lib/cmake/lastcall/lastcall-config.cmake
    lib/cmake/lastcall/lastcall-config-version.cmake share/doc/lastcall/examples/static-site.conf share/doc/lastcall/examples/lastcall.socket"""


def install(build: Path, root: Path) -> None:
    done = subprocess.run(["cmake", "--install", build], env={**os.environ, "DESTDIR": str(root)}, timeout=LIMIT_S,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    outside = [line for line in done.stdout.splitlines()
               if re.match(r"-- (Installing|Up-to-date): ", line) and f": {root}/" not in line]
    assert not outside, f"not below DESTDIR: {outside}"


def prefix_of(build: Path) -> Path:
    cache = (build / "CMakeCache.txt").read_text()
    return Path(re.search(r"^CMAKE_INSTALL_PREFIX:PATH=(.*)$", cache, re.M).group(1))


def check_files(top: Path) -> None:
    missing = [name for name in FILES.split() if not (top / name).is_file()]
    assert not missing, f"not installed: {missing}"


def check_paths(root: Path, top: Path) -> None:
    """What the files name is where it was installed, or in a folder that the system makes."""
    unit = (top / "lib/systemd/system/lastcall.service").read_text()
    conf = (top / "etc/lastcall/lastcall.conf").read_text()
    named = re.findall(r"^Exec\w+=(\S+)", unit, re.M) + re.findall(r" -c (\S+)", unit)
    named += re.findall(r"file\.dir: (\S+)", conf)
    assert len(named) >= 5, named
    wrong = [path for path in named if not (root / path.lstrip("/")).exists()]
    assert not wrong, f"named, but not installed: {wrong}"


def check_configuration(program: Path, root: Path, top: Path) -> None:
    """The configuration that is installed is correct, moved to where a test may look at it."""
    path = top / "etc/lastcall/lastcall.conf"
    mine = os.environ.get("USER") or subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()
    text = path.read_text().replace("user: lastcall", f"user: {mine}").replace("listen: 80", "listen: {port: 0}")
    for folder in ("/run/", "/var/log/lastcall/"):
        text = text.replace(folder, f"{root}/")
    text = re.sub(r"file\.dir: (\S+)", lambda found: f"file.dir: {root}{found.group(1)}", text)
    moved = root / "moved.conf"
    moved.write_text(text)
    done = subprocess.run([program, "-t", "-c", moved], capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr


def check_programs(top: Path) -> None:
    done = subprocess.run([top / "bin/lastcall", "status", "--help"], capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0 and "Usage: lastcall status" in done.stdout, done.stderr


def check_again(build: Path, root: Path, top: Path) -> None:
    """A second installation keeps the configuration of an operator, and renews the rest."""
    conf, unit = top / "etc/lastcall/lastcall.conf", top / "lib/systemd/system/lastcall.service"
    conf.write_text("# mine\n")
    unit.write_text("# old\n")
    install(build, root)
    assert conf.read_text() == "# mine\n", "a second installation replaced the configuration"
    assert "ExecStart=" in unit.read_text(), "a second installation did not renew the unit"


def check_versions(program: Path) -> None:
    version = re.search(r"project\(lastcall VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text()).group(1)
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=LIMIT_S).stdout
    assert version in said, f"lastcall --version: {said}"
    header = re.search(r'#define LC_VERSION "([^"]+)"', (ROOT / "include/lastcall/lastcall.h").read_text()).group(1)
    assert header == version, f"lastcall.h has {header}, CMakeLists.txt {version}"
    package = re.match(r"lastcall \(([^)-]+)-\d+\)", (ROOT / "debian/changelog").read_text()).group(1)
    assert package == version, f"debian/changelog has {package}, CMakeLists.txt {version}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Check what is installed.")
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--lastcall", type=Path, required=True, metavar="PROGRAM")
    parser.add_argument("--consumer", action="store_true", help="build a program with what is installed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lastcall-install-") as folder:
        root = Path(folder)
        top = root / str(prefix_of(args.build)).lstrip("/")
        consumer = [ROOT / "tests/package/consumer/build.py", "--root", root, "--prefix", str(prefix_of(args.build))]
        if args.consumer:
            install(args.build, root)
            return subprocess.run([sys.executable, "-B", *consumer], timeout=LIMIT_S * 4).returncode
        checks = [lambda: install(args.build, root), lambda: check_files(top), lambda: check_paths(root, top),
                  lambda: check_configuration(args.lastcall, root, top), lambda: check_programs(top),
                  lambda: check_again(args.build, root, top), lambda: check_versions(args.lastcall)]
        try:
            for check in checks:
                check()
        except AssertionError as error:
            print(f"FAILED  {error}")
            return 1
    print("ok      what is installed fits together")
    return 0


if __name__ == "__main__":
    sys.exit(main())
