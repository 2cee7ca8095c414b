#!/usr/bin/env python3
"""Install, upgrade, remove and purge the packages in build/deb, in a Debian of their own with systemd. Clients send
requests meanwhile.

    check.py

At last it builds a program with the library in a Debian that has nothing else of this tree, stops the examples there
under load, and follows the tutorial. Needs root, debootstrap, systemd-container and, the first time, a network. The
first run takes ten minutes, most of them to make the two Debians; later ones five."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import debian
from debian import BUILD, ROOT, Container, Failed

HERE = Path(__file__).resolve().parent
UNIT = "lastcall.service"
COMPILERS = ["gcc", "g++", "clang", "libc6-dev", "cmake", "make", "pkg-config", "python3", "libsqlite3-dev"]
# What dpkg, apt and the tools for users write for any package.
NOT_OURS = re.compile(r"/(proc|sys|dev|tmp|run|packages)(/|$)|/var/(cache|backups|log/(journal|apt|dpkg.log))|"
                      r"/var/lib/(dpkg|apt|systemd|logrotate)|/etc/(passwd|shadow|group|gshadow|subuid|subgid)-|"
                      r"/var/tmp/systemd-private-|/etc/\.pwd\.lock|/root/")


def packages() -> list[Path]:
    found = sorted(path for path in (ROOT / "build" / "deb").glob("*.deb") if "-dbgsym_" not in path.name)
    if not any(path.name.startswith("lastcall_") for path in found):
        raise Failed("no packages in build/deb: make deb")
    return found


def suggests() -> list[str]:
    """What liblastcall-dev suggests, for programs that link the static library."""
    dev = next(path for path in packages() if path.name.startswith("liblastcall-dev_"))
    return debian.run("dpkg-deb", "--field", dev, "Suggests").stdout.replace("lastcall-doc,", "").replace(",", " ").split()


def changed(source: Path, version: str, change) -> Path:
    """The package as another version of it would be: change(folder) edits its files."""
    with tempfile.TemporaryDirectory(prefix="lastcall-deb-") as folder:
        tree = Path(folder) / "tree"
        debian.run("dpkg-deb", "--raw-extract", source, tree)
        control = tree / "DEBIAN" / "control"
        control.write_text(re.sub(r"(?m)^(Version: .*)$", rf"\1{version}", control.read_text()))
        # Packages of one source depend on each other's exact version.
        control.write_text(re.sub(r"(\(= [^)]*)\)", rf"\1{version})", control.read_text()))
        change(tree)
        made = BUILD / "packages" / source.name.replace("_", f"_next{version}_", 1)
        debian.run("dpkg-deb", "--build", tree, made)
    return made


def files(folder: Path) -> set[str]:
    found = set()
    for top, folders, names in os.walk(folder):
        here = "/" + os.path.relpath(top, folder).removeprefix(".")
        folders[:] = [name for name in folders if not NOT_OURS.match(os.path.join(here, name))]
        found |= {os.path.join(here, name) for name in folders + names}
    return {path for path in found if not NOT_OURS.match(path)}


class Load:
    """Clients in the container's network, until `with` ends: then none may have failed."""

    def __init__(self, box: Container, path: str = "/"):
        self.command = ["nsenter", "--target", str(box.leader), "--net", sys.executable, "-B", str(HERE / "load.py"),
                        f"http://127.0.0.1{path}", "8"]

    def __enter__(self) -> "Load":
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, kind, *_) -> None:
        said, _ = self.process.communicate(timeout=120)
        if kind is None:
            print(f"    clients: {said.strip()}")
            if self.process.returncode != 0:
                raise Failed(f"clients: {said}")


def install(box: Container, paths: list[Path]) -> str:
    """With what is on the disk alone: the container has no network."""
    inside = box.folder / "packages"
    shutil.rmtree(inside, ignore_errors=True)
    inside.mkdir()
    for path in paths:
        shutil.copy(path, inside)
    names = [f"/packages/{path.name}" for path in paths]
    return box.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *names).stdout


def main_pid(box: Container) -> int:
    return int(box.text("systemctl", "show", "--value", "--property=MainPID", UNIT))


def status(box: Container) -> dict:
    return json.loads(box.text("lastcall", "status", "--json"))


def curl(box: Container, path: str) -> str:
    return box.text("curl", "-sS", "--fail", "--max-time", "30", f"http://127.0.0.1{path}")


def expect(true: bool, what: str) -> None:
    if not true:
        raise Failed(what)


# ---- steps of one life; each finds what the one before it left ----


def step_install(box: Container) -> None:
    install(box, packages())
    expect(box.text("systemctl", "is-active", UNIT) == "active", "the service is not active")
    expect(box.text("systemctl", "is-enabled", UNIT) == "enabled", "the service is not enabled")
    box.run("lastcall", "-t", "-c", "/etc/lastcall/lastcall.conf")
    expect("lastcall serves" in curl(box, "/"), "the first page is not served")
    expect(curl(box, "/ready") != "", "/ready")
    owner = box.text("ps", "-o", "user=", "-p", str(status(box)["pid"]))
    expect(owner == "lastcall", f"the worker runs as {owner}")
    expect(box.run("sh", "-c", "type lastcall-cli && test -s /usr/share/man/man1/lastcall-drain.1.gz").returncode == 0, "files")


def step_boot(box: Container) -> None:
    """The container was booted again in between."""
    box.wait_until(lambda: box.run("systemctl", "is-active", UNIT, check=False).stdout.strip() == "active",
                   "the service starts with the machine")
    expect("lastcall serves" in curl(box, "/"), "the page is not served after a boot")


def step_logrotate(box: Container) -> None:
    log = box.folder / "var/log/lastcall/access.log"
    curl(box, "/?before")
    box.wait_until(lambda: "/?before" in log.read_text(), "a line in the access log")
    box.run("logrotate", "--force", "/etc/logrotate.d/lastcall")

    def reopened() -> bool:
        curl(box, "/?after")
        return log.exists() and "/?after" in log.read_text()

    box.wait_until(reopened, "lines in the new access log")
    expect("/?before" not in log.read_text(), "the access log was not rotated")


def step_configure(box: Container) -> None:
    """An operator's own settings, which upgrades must keep."""
    path = box.folder / "etc/lastcall/lastcall.conf"
    path.write_text(path.read_text() + "      /sleep: {handler: sleep}\n")
    with Load(box):
        box.run("systemctl", "reload", UNIT)
    expect(box.run("curl", "-sS", "--fail", "http://127.0.0.1/sleep?ms=1").returncode == 0, "the new route")


def step_upgrade(box: Container) -> None:
    def change(tree: Path) -> None:
        page = tree / "usr/share/lastcall/html/index.html"
        page.write_text(page.read_text().replace("lastcall serves", "the next version serves"))

    pid, generation, old = main_pid(box), status(box)["generation"], status(box)["pid"]
    with Load(box):
        slow = subprocess.Popen(box.enter("curl", "-sS", "--fail", "http://127.0.0.1/sleep?ms=3000"),
                                stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        box.wait_until(lambda: status(box)["requests"]["in_flight"] > 0, "the slow request arrives")
        install(box, [changed(path, "+next1", change if path.name.startswith("lastcall_") else lambda tree: None)
                      for path in packages()])
        expect(slow.wait(30) == 0, "a request in flight was lost in the upgrade")
    now = status(box)
    expect(now["generation"] == generation + 1, f"generation {generation} -> {now['generation']}")
    expect(main_pid(box) == pid and now["pid"] != old, "the upgrade was not a restart in place")
    expect("the next version serves" in curl(box, "/"), "the next version does not serve")
    expect("/sleep:" in (box.folder / "etc/lastcall/lastcall.conf").read_text(), "the configuration was replaced")


def step_broken_upgrade(box: Container) -> None:
    def change(tree: Path) -> None:
        (tree / "usr/bin/lastcall").write_text("#!/bin/sh\necho 'this version is broken' >&2\nexit 69\n")

    source = next(path for path in packages() if path.name.startswith("lastcall_"))
    generation = status(box)["generation"]
    everything = [changed(path, "+next2", change if path == source else lambda tree: None) for path in packages()]
    with Load(box):
        said = install(box, everything)
    expect("the old one goes on" in said, f"the upgrade does not say that it did not serve: {said}")
    expect(box.text("dpkg-query", "-W", "-f", "${db:Status-Status}", "lastcall") == "installed", "left half configured")
    expect(box.text("systemctl", "is-active", UNIT) == "active", "the old version has ended")
    with Load(box):
        install(box, [changed(path, "+next3", lambda tree: None) for path in packages()])
    expect(status(box)["generation"] == generation + 1, "the mended version does not serve")


def step_stopped_stays_stopped(box: Container) -> None:
    box.run("systemctl", "stop", UNIT)
    install(box, [changed(path, "+next4", lambda tree: None) for path in packages()])
    expect(box.run("systemctl", "is-active", UNIT, check=False).stdout.strip() == "inactive", "an upgrade started it")
    box.run("systemctl", "start", UNIT)


def step_remove(box: Container) -> None:
    slow = subprocess.Popen(box.enter("curl", "-sS", "--fail", "http://127.0.0.1/sleep?ms=10000"),
                            stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    box.wait_until(lambda: status(box)["requests"]["in_flight"] > 0, "the slow request arrives")
    box.run("apt-get", "remove", "-y", "-qq", "lastcall")
    expect(slow.wait(60) == 0, "the removal lost a request")
    expect(box.run("pgrep", "-x", "lastcall", check=False).stdout == "", "the removal does not stop the service")
    last = box.text("journalctl", "--unit", UNIT, "--no-pager", "--lines", "10")
    expect(re.search(r"drained in .* 1 answered", last) is not None, f"the stop was no drain: {last}")
    expect((box.folder / "etc/lastcall/lastcall.conf").exists(), "a removal takes the configuration along")


def step_install_again(box: Container) -> None:
    """After a removal that was no purge, beside the library of the last version."""
    install(box, [changed(path, "+next5", lambda tree: None) for path in packages()])
    expect(box.text("systemctl", "is-active", UNIT) == "active", "the service is not active")
    expect("/sleep:" in (box.folder / "etc/lastcall/lastcall.conf").read_text(), "the configuration was replaced")
    box.run("apt-get", "remove", "-y", "-qq", "lastcall")


def step_purge(box: Container) -> None:
    box.run("apt-get", "purge", "-y", "-qq", *(path.name.partition("_")[0] for path in packages()))
    left = files(box.folder) - box.files_before
    expect(not left, f"purge leaves {sorted(left)[:20]}")
    info = [path.name for path in (box.folder / "var/lib/dpkg/info").iterdir() if "lastcall" in path.name]
    expect(not info, f"dpkg still knows {info}")
    helper = [str(path) for path in (box.folder / "var/lib/systemd").rglob("*lastcall*")]
    expect(not helper, f"systemd still knows {helper}")
    expect(box.run("getent", "passwd", "lastcall", check=False).returncode == 0, "the user is gone, its files may not be")
    expect(box.run("sh", "-c", "ls -d /run/lastcall*", check=False).returncode != 0, "/run/lastcall is left")


def life(folder: Path) -> None:
    before = files(folder)

    def steps(*these) -> None:
        with Container(folder) as box:
            box.files_before = before
            for step in these:
                step(box)
                print(f"ok      {step.__name__.removeprefix('step_')}", flush=True)

    steps(step_install)
    steps(step_boot, step_logrotate, step_configure, step_upgrade, step_broken_upgrade, step_stopped_stays_stopped,
          step_remove, step_install_again, step_purge)


def without_systemd(folder: Path) -> None:
    """The maintainer's scripts where systemd does not run, as in the build of a container."""
    before = files(folder)
    inside = folder / "packages"
    inside.mkdir()
    for path in packages():
        shutil.copy(path, inside)
    debian.run("chroot", folder, "apt-get", "install", "-y", "-qq", "--no-install-recommends",
               *(f"/packages/{path.name}" for path in packages()))
    debian.run("chroot", folder, "lastcall", "-t", "-c", "/etc/lastcall/lastcall.conf")
    debian.run("chroot", folder, "apt-get", "purge", "-y", "-qq", *(path.name.partition("_")[0] for path in packages()))
    left = files(folder) - before
    expect(not left, f"purge leaves {sorted(left)[:20]}")
    print("ok      without_systemd", flush=True)


def outside(folder: Path) -> None:
    """A program that knows nothing but the packages: tests/package/consumer."""
    inside = folder / "packages"
    inside.mkdir()
    for path in packages():
        shutil.copy(path, inside)
    shutil.copytree(HERE / "consumer", inside / "consumer")
    debian.run("chroot", folder, "apt-get", "install", "-y", "-qq", "--no-install-recommends",
               *(f"/packages/{path.name}" for path in packages()))
    said = debian.run("chroot", folder, "/packages/consumer/build.py").stdout
    print("".join(f"    {line}\n" for line in said.splitlines()), end="")
    expect(said.count("ok ") == 16 and "skipped" not in said, "a program was not built in each way")
    pages = debian.run("chroot", folder, "sh", "-c", "ls /usr/share/man/man3/lc_send.3.gz /usr/share/man/man3/lc_answer.3.gz")
    expect(pages.returncode == 0, "no manual pages of the library")
    print("ok      outside", flush=True)


def examples(folder: Path) -> None:
    """The examples of the packages that `outside` has installed, each stopped twenty times under load."""
    said = debian.run("unshare", "--mount", "sh", "-c", 'mount -t proc proc "$1/proc" && '
                      'exec chroot "$1" python3 -B /packages/consumer/examples.py', "sh", folder, limit_s=1800).stdout
    print("".join(f"    {line}\n" for line in said.splitlines()), end="")
    expect(said.count("ok ") == 5, "an example was not built, or loses a request")
    print("ok      examples", flush=True)


def tutorial(folder: Path) -> None:
    """docs/tutorial.md, word for word, with the packages that `outside` has installed."""
    inside = folder / "packages"
    for name in ("docs/tutorial.md", "tests/docs/tutorial.py", "tests/differential/servers.py"):
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, inside / name)
    said = debian.run("unshare", "--mount", "sh", "-c", 'mount -t proc proc "$1/proc" && exec chroot "$1" '
                      "python3 -B /packages/tests/docs/tutorial.py --keep /packages/tutorial", "sh", folder).stdout
    print(f"    {said.strip()}")
    expect("steps followed" in said, "the tutorial was not followed")
    print("ok      tutorial", flush=True)


def tutorials_service(folder: Path) -> None:
    """What root does at its end: the lines that begin with "# "."""
    kept = folder / "packages" / "tutorial"
    port = re.search(r"127\.0\.0\.1:(\d+)", (kept / "visits.c").read_text())[1]
    page = (ROOT / "docs" / "tutorial.md").read_text().partition("## A service")[2]
    commands = re.findall(r"(?m)^    # (.*)$", page)
    expect(len(commands) == 4, f"the page has other commands: {commands}")
    with Container(folder) as box:
        for command in commands:
            box.run("sh", "-c", f"cd /packages/tutorial && {command}")
        for _ in range(2):
            expect(box.text("curl", "-sS", "--fail", "-X", "POST", f"http://127.0.0.1:{port}/visits/Ada") == "noted", "no answer")
        box.run("systemctl", "stop", "visits")
        log = box.text("journalctl", "--unit", "visits", "--no-pager")
        expect(re.search(r"drained in ", log) is not None, f"the stop was no drain: {log}")
        expect(box.text("systemctl", "show", "--value", "--property=Result", "visits") == "success", f"it failed: {log}")
    print("ok      tutorials_service", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Install, upgrade and purge the packages.")
    parser.parse_args()
    if os.geteuid() != 0:
        print("check.py: only root can make a Debian and boot it: sudo make check-package", file=sys.stderr)
        return 69
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the container ends, too
    try:
        (BUILD / "packages").mkdir(parents=True, exist_ok=True)
        base = debian.base("base", debian.depends_of(packages()))
        without_systemd(debian.copy_of(base, "plain"))
        life(debian.copy_of(base, "life"))
        devel = debian.base("devel", COMPILERS + suggests(), base)
        own = debian.copy_of(devel, "outside")
        outside(own)
        examples(own)
        tutorial(own)
        tutorials_service(own)
    except (Failed, subprocess.TimeoutExpired) as error:
        print(f"FAILED  {error}")
        return 1
    print("The packages install, upgrade and purge cleanly, and a program is built with them.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
