"""A Debian of its own, in a folder: made once by debootstrap, booted by systemd-nspawn without a network.

It gets its packages from where this machine gets them. All commands have limits; the container ends with `with`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "package"
RELEASE = "bookworm"
# What a small server has beside the packages that are tested.
BASICS = "systemd systemd-sysv dbus init-system-helpers ca-certificates curl logrotate procps"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


class Failed(Exception):
    pass


def run(*command: str | Path, limit_s: float = 600, check: bool = True, **more) -> subprocess.CompletedProcess[str]:
    """Run a command; output of both kinds is in stdout."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, timeout=limit_s, env={**os.environ, **ENVIRONMENT}, **more)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(str(word) for word in command)}: status {done.returncode}\n{done.stdout[-3000:]}")
    return done


def mirror() -> str:
    """Where this machine gets Debian's main archive."""
    said = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)").stdout
    for line in said.splitlines():
        uri, _, release = line.partition(" ")
        if release == RELEASE:
            return uri.rstrip("/")
    raise Failed(f"apt's configuration on this machine names no archive of {RELEASE}")


def depends_of(packages: list[Path]) -> list[str]:
    """What the packages need beside each other: the first alternative of each."""
    own = {path.name.partition("_")[0] for path in packages}
    needed = set()
    for path in packages:
        said = run("dpkg-deb", "--field", path, "Depends").stdout
        needed |= {re.split(r"[ (|]", name.strip())[0].partition(":")[0] for name in said.split(",") if name.strip()}
    return sorted(needed - own)


def base(name: str, more: list[str], source: Path | None = None) -> Path:
    """The folder of a Debian with these packages too, begun as a copy of another one. It is made once, and again when the
    list changes."""
    folder, stamp = BUILD / name, BUILD / f"{name}.stamp"
    wanted = f"{RELEASE} {mirror()} {BASICS} {source} {' '.join(more)}\n"
    if stamp.exists() and stamp.read_text() == wanted:
        return folder
    print(f"Making a Debian: {folder}", flush=True)
    stamp.unlink(missing_ok=True)
    if source is not None:
        copy_of(source, name)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run("debootstrap", "--variant=minbase", "--include=" + BASICS.replace(" ", ","), RELEASE, folder, mirror())
    policy = folder / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    for file in Path("/etc/apt/apt.conf.d").glob("*proxy*"):
        shutil.copy(file, folder / "etc/apt/apt.conf.d")
    shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")
    run("chroot", folder, "apt-get", "update", "-qq")
    if more:
        run("chroot", folder, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *more)
    run("chroot", folder, "apt-get", "clean")
    policy.unlink()
    stamp.write_text(wanted)
    return folder


def copy_of(source: Path, name: str) -> Path:
    folder = BUILD / name
    shutil.rmtree(folder, ignore_errors=True)
    run("cp", "-a", "--reflink=auto", source, folder)
    return folder


class Container:
    """A Debian in which systemd runs as process 1, with a loopback interface of its own and no other network."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.log = BUILD / f"{folder.name}.log"
        self.leader = 0

    def __enter__(self) -> "Container":
        with self.log.open("w") as log:
            self.nspawn = subprocess.Popen(
                ["systemd-nspawn", "--quiet", "--directory", self.folder, "--register=no", "--keep-unit",
                 "--private-network", "--boot", "--console=pipe"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            self.wait_until(self.is_up, "systemd in the container is up", 90)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if self.leader and self.nspawn.poll() is None:
            self.run("systemctl", "poweroff", check=False)
        try:
            self.nspawn.wait(90)
        except subprocess.TimeoutExpired:
            self.nspawn.kill()
            self.nspawn.wait()

    def is_up(self) -> bool:
        if self.nspawn.poll() is not None:
            raise Failed(f"systemd-nspawn ended: {self.log.read_text()[-1000:]}")
        children = Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text().split()
        if not children:
            return False
        self.leader = int(children[0])
        said = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return said in ("running", "degraded")

    def wait_until(self, done, what: str, limit_s: float = 30) -> None:
        deadline = time.monotonic() + limit_s
        while not done():
            if time.monotonic() > deadline:
                raise Failed(f"not within {limit_s} s: {what}")
            time.sleep(0.1)

    def enter(self, *command: str) -> list[str]:
        return ["nsenter", "--target", str(self.leader), "--all", *command]

    def run(self, *command: str, check: bool = True, limit_s: float = 120) -> subprocess.CompletedProcess[str]:
        return run(*self.enter(*command), check=check, limit_s=limit_s)

    def text(self, *command: str) -> str:
        return self.run(*command).stdout.strip()
