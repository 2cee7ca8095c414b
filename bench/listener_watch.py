"""When does a server stop listening? Seen from outside, by asking the kernel.

A sock_diag request for the one socket that listens on an address takes a few microseconds, however many
connections there are; /proc/net/tcp would list them all. It is made every ms, from shortly before the
signal until nobody listens any more: what comes out is late by that and by the scheduler's delays.

All times are of CLOCK_MONOTONIC, in seconds, as time.monotonic() has it.
"""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time

from drain_server import Server

EVERY_S = 0.001
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, NLMSG_ERROR = 4, 20, 1, 2
TCP_LISTEN = 10
ANY = 0xffffffff  # cookie


def is_listening(netlink: socket.socket, port: int) -> bool:
    """On 127.0.0.1. OSError: the kernel does not tell."""
    ends = struct.pack("!HH4s12x16x", port, 0, socket.inet_aton("127.0.0.1"))
    request = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, 1 << TCP_LISTEN)
    request += ends + struct.pack("=III", 0, ANY, ANY)
    netlink.send(struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0) + request)
    answer = netlink.recv(4096)
    if struct.unpack_from("=H", answer, 4)[0] != NLMSG_ERROR:
        return True
    error = -struct.unpack_from("=i", answer, 16)[0]
    if error == errno.ENOENT:
        return False
    raise OSError(error, "sock_diag")


class ListenerWatch:
    """With it around a load: afterwards it knows when the server stopped listening, and when it exited."""

    def __init__(self, server: Server, port: int, after_s: float) -> None:
        self.server, self.port, self.after_s = server, port, after_s
        self.closed_at: float | None = None
        self.gone_at: float | None = None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self) -> ListenerWatch:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.thread.join()

    def watch(self) -> None:
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
                self.watch_listener(netlink)
        except OSError:  # no such sockets here: then there is no mark
            return
        while self.gone_at is None and not self.stopped.is_set():
            if self.server.is_gone(0.1):
                self.gone_at = time.monotonic()

    def watch_listener(self, netlink: socket.socket) -> None:
        if self.stopped.wait(self.after_s) or not is_listening(netlink, self.port):
            return
        while not self.stopped.is_set():
            gone = self.server.is_gone(EVERY_S)
            now = time.monotonic()
            if not is_listening(netlink, self.port):
                self.closed_at = now
            if gone:
                self.gone_at = now
            if gone or self.closed_at:
                return
