"""When does a server stop listening? The kernel knows.

A sock_diag(7) request for the socket that listens on an address takes a few microseconds, for any number of
connections; /proc/net/tcp would list them all. The request is made every millisecond, from shortly before the
signal until there is no listener. So the result is late by up to a millisecond, and by scheduling delays.

All times are in seconds of CLOCK_MONOTONIC, like time.monotonic().
"""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time

from peer_server import Server

EVERY_S = 0.001
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, NLMSG_ERROR = 4, 20, 1, 2
TCP_LISTEN = 10
ANY = 0xffffffff  # cookie


def is_listening(netlink: socket.socket, port: int) -> bool:
    """On 127.0.0.1. OSError: the kernel does not support it."""
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
    """A context for a load; afterwards it has the time of the listener's close and of the exit."""

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
        except OSError:  # not supported: there is no mark
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
