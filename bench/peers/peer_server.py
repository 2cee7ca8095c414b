"""One server of a run: its process group, its exit, and its listening sockets."""

from __future__ import annotations

import os
import select
import signal
import socket
import ssl
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import peers
from peers import Launch, Peer, Site

START_PATIENCE_S = 10.0


class Broken(Exception):
    """This run or this server cannot be measured; the text is the reason, in one line."""


class Server:
    """A process group: end() ends it with all its children, and nothing else."""

    def __init__(self, peer: Peer, argv: list[str], launch: Launch, site: Site) -> None:
        self.peer, self.launch, self.site = peer, launch, site
        self.log = site.temp / "output"
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True, cwd=site.temp, env={**os.environ, **launch.env})
        self.pid = self.process.pid
        self.pidfd = os.pidfd_open(self.pid)
        self.left_behind = 0  # processes that still ran after the main process had exited

    def last_line(self) -> str:
        """The last line that it printed, usually the reason."""
        lines: list[str] = []
        for path in (self.log, self.site.temp / "error.log"):
            if path.exists():
                lines += path.read_text(errors="replace").strip().splitlines()[-1:]
        return lines[0][-200:] if lines else "no output"

    def is_gone(self, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(max(0, timeout_s) * 1000))

    def signal_group(self, number: int) -> None:
        """Safe until the leader is reaped: until then its id cannot be reused."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def wait_until_up(self) -> None:
        until = time.monotonic() + START_PATIENCE_S
        while time.monotonic() < until:
            if self.is_gone(0):
                raise Broken(f"exited while it started: {self.last_line()}")
            try:
                status, body = self.get(self.launch.small)
                if not self.has_port():  # it will fail with an error about the port
                    raise OSError
                if (status, body) != (200, peers.HELLO):
                    raise Broken(f"answers {self.launch.small} with {status}, {body[:40]!r}")
                return
            except OSError:
                time.sleep(0.01)
        raise Broken(f"does not answer {START_PATIENCE_S:.0f} s after its start: {self.last_line()}")

    def get(self, path: str, method: str = "GET", body: bytes = b"") -> tuple[int, bytes]:
        """Over TLS, if it was started with TLS."""
        tls_port = self.site.tls_port
        return http_get(tls_port or self.site.port, path, method, body, self.site.cert if tls_port else None)

    def has_port(self) -> bool:
        """Does this server own the port? Another process may have taken it first."""
        try:
            return (self.site.tls_port or self.site.port) in {port for _, _, port in listeners(self.pid)}
        except PermissionError:  # only root can list the descriptors of a process that is ending, or has ended
            return not self.is_gone(1)

    def end(self) -> int | None:
        """Kill the rest of the group. Returns the exit status; None if the main process had to be killed."""
        went = self.is_gone(0)
        self.left_behind = len(group_pids(self.pid)) - 1 if went else 0
        self.signal_group(signal.SIGKILL)
        self.process.wait()
        os.close(self.pidfd)
        return self.process.returncode if went else None


def connect(port: int, trust: Path | None) -> socket.socket:
    """With a certificate in `trust`: over TLS, and only that certificate is accepted."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=5)
    if trust is None:
        return sock
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(trust)
    with sock:  # wrap_socket() detaches the descriptor
        return context.wrap_socket(sock, server_hostname="localhost")


def http_get(port: int, path: str, method: str = "GET", body: bytes = b"",
             trust: Path | None = None) -> tuple[int, bytes]:
    """One request on its own connection. http.client would hide a truncated answer."""
    with connect(port, trust) as sock:
        sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
                     f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        pieces = []
        while piece := sock.recv(1 << 20):
            pieces.append(piece)
    head, _, rest = b"".join(pieces).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1."):
        raise ConnectionResetError("no answer")
    if b"transfer-encoding: chunked" in head.lower():
        rest = dechunk(rest)
    return int(head[9:12]), rest


def dechunk(rest: bytes) -> bytes:
    out = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        n = int(size.split(b";")[0] or b"0", 16)
        out.append(rest[:n])
        rest = rest[n + 2:]
    return b"".join(out)


def group_pids(group: int) -> list[int]:
    """The processes of a group; of the zombies only its leader."""
    pids = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and (fields[0] != "Z" or int(entry) == group):
                pids.append(int(entry))
    return pids


def socket_inodes(group: int) -> set[str]:
    inodes = set()
    for pid in group_pids(group):
        with suppress(FileNotFoundError, ProcessLookupError):  # the process has exited
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with suppress(FileNotFoundError):  # the descriptor was closed meanwhile
                    link = os.readlink(f"/proc/{pid}/fd/{fd}")
                    if link.startswith("socket:["):
                        inodes.add(link[8:-1])
    return inodes


def listeners(group: int) -> list[tuple[str, str, int]]:
    """Table, address and port of all listeners of a process group."""
    inodes, found = socket_inodes(group), []
    for table in ("tcp", "tcp6"):
        if not os.path.exists(f"/proc/net/{table}"):
            continue
        with open(f"/proc/net/{table}") as file:
            next(file)
            for fields in map(str.split, file):
                if fields[3] != "0A":  # the kernel lists listeners first; there may be many connections
                    break
                address, port = fields[1].split(":")
                if fields[9] in inodes:
                    found.append((table, address, int(port, 16)))
    return found


def listens_beyond_loopback(group: int) -> str | None:
    """An address of a listener of this process group that is not loopback; None: there is none."""
    try:
        found = listeners(group)
    except PermissionError:
        return None  # its descriptors cannot be listed
    for table, address, port in found:
        loopback = address.endswith("7F") if table == "tcp" else address in (
            "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
        if not loopback:
            return f"{address}:{port}"
    return None
