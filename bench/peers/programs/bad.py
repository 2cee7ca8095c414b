#!/usr/bin/env python3
"""A server that loses requests on purpose and counts them exactly: drain_selftest.py compares the figures of
drain.py with these counts.

    bad.py PORT ROOT MODE

It answers like the other peers, on one thread. MODE is what it does after SIGTERM:

    good        Loses nothing: goes on, with `Connection: close`, until no client has been connected for 300 ms.
    cut         Like good, but does not answer some dozens of requests: see CYCLE.
    hang-up     Like good, but first sends an end of file on every connection, in use or not.
    drop-queue  Answers the first seven connections in the accept queue, then closes the listener.
    mute        Like good, but never answers some requests, and keeps their connections open.
    no-start    Exits at once, with a message.

At its exit after SIGTERM it writes its counts to a new file in the directory $LASTCALL_PLANTED. A killed server
writes none; only mute, which has to be killed, writes it every second.

Why the numbers are exact

A request is counted when the server has read all of it. So the client has written it, and counts it as sent.
(Requests by which the runner checks that a server is up do not count: they have `Content-Length: 0`.) Each
request has one fate and is counted once. The client has one request at a time on a connection, so at that
moment nothing else is under way on it, and no unread input turns an orderly close into a reset.

hang-up sends the end of file while the client may be writing. It only closes its sending half, so writes of the
client cause no reset, and it reads the connection until the client closes it. Three things can happen:
  - The client sees the end before it writes: it closes, and neither side counts anything.
  - The client has written a whole request: the server reads it (planted), and the client finds the end instead
    of the answer (lost).
  - The client has written a part and stops when it sees the end: the server has no whole request, and the client
    counts it as `unsent`, not as lost.
An answer that was under way is cut: it is lost as truncated if the kernel had a byte of it, because the kernel
still delivers that, otherwise as end of file.

For a listening socket tcpi_unacked is the length of the accept queue. No client connects any more when drop-queue
reads it, and the close of the listener resets all connections in it.

"Reused" is a connection that has had a request before this one. With one request at a time, that request was
answered.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import re
import selectors
import signal
import socket
import struct
import sys
import time
from pathlib import Path

LIFE_S = 60  # at most
HELLO = b"Hello World\n"
HEAD_MOST, BODY_MOST, SLOW_MOST_MS = 16384, 64 << 20, 60000
CONNECTIONS_MOST = 16384
PIECE = 1 << 18
SEND_BUFFER = 1 << 18  # far less than large.bin, so that hang-up cuts it

# Quiet time is counted in turns of the loop: if the whole machine stalls, that is one turn, not 300 ms.
TURN_S, QUIET_TURNS, MUTE_WRITE_TURNS = 0.01, 30, 100

# Each with a different count, so that a mix-up is visible.
CYCLE = ("reset", "eof", "truncated", "answered", "eof", "truncated", "answered", "truncated")
CUT_LEAST, CUT_MOST = 40, 120  # requests; random, so that the worst run differs from the others
MUTE_LEAST, MUTE_MOST = 5, 20  # fewer than there are connections
QUEUE_ANSWERED = 7
TCPI_UNACKED = 24  # offset in struct tcp_info
BOOKS = ("received", "answered", "reset", "eof", "truncated", "muted", "on_reused")
RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.got = bytearray()
        self.need = 0  # bytes of the request, once its head is there
        self.path = ""  # of the request that is to be answered; empty: none
        self.counts = True  # it is not the runner's own
        self.wants_close = False  # so the client says
        self.out = memoryview(b"")  # the rest of the answer
        self.begun = False  # a byte of the answer is with the kernel
        self.closes = False  # after the answer
        self.cut = False  # the answer ends too early
        self.answered = 0
        self.ended = False  # our side has sent the end of file
        self.hung_up = False  # and did so under the client's hands


def answer(status: str, body: bytes, closes: bool) -> bytes:
    return (f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
            f"{'Connection: close' if closes else 'Connection: keep-alive'}\r\n\r\n").encode() + body


def half_of(whole: bytes) -> memoryview:
    """The head, and half of the body."""
    head = whole.index(b"\r\n\r\n") + 4
    return memoryview(whole)[:head + (len(whole) - head) // 2]


def delay_of(path: str) -> float:
    found = re.search(r"^/(?:slow|sleep)\?ms=(\d{1,5})$", path)
    return min(int(found.group(1)), SLOW_MOST_MS) / 1000 if found else 0.0


class Bad:
    def __init__(self, port: int, root: Path, mode: str) -> None:
        self.mode = mode
        large = (root / "large.bin").read_bytes()
        self.larges = [answer("200 OK", large, closes) for closes in (False, True)]
        self.planted = dict.fromkeys(BOOKS, 0)
        self.connections: set[Connection] = set()
        self.due: list[tuple[float, int, Connection]] = []  # slow answers, a heap
        self.serial = 0
        self.signalled = self.stopping = self.over = False
        self.to_cut = self.to_mute = self.quiet = self.turns = 0
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.listener.setblocking(False)
        self.watch = selectors.DefaultSelector()
        self.watch.register(self.listener, selectors.EVENT_READ)
        # The signal only sets a flag; the byte in the pipe ends a select() that has just begun.
        self.wake, end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch.register(self.wake, selectors.EVENT_READ)
        signal.set_wakeup_fd(end)
        signal.signal(signal.SIGTERM, self.on_signal)

    def on_signal(self, *_: object) -> None:
        self.signalled = True

    # ---- the loop ----

    def run(self) -> None:
        while not self.over:
            events = self.watch.select(self.timeout())
            if self.signalled and not self.stopping:  # before the events of this turn
                self.stopping = True
                self.begin_stop()
            for key, mask in events:
                self.event(key.fileobj, key.data, mask)
            while self.due and self.due[0][0] <= time.monotonic():
                self.send_answer(heapq.heappop(self.due)[2])
            if self.stopping:
                self.leave_if_quiet()
            if self.stopping and self.mode == "mute":
                self.write_now_and_then()

    def timeout(self) -> float | None:
        until = [TURN_S] if self.stopping else []
        if self.due:
            until.append(max(0.0, self.due[0][0] - time.monotonic()))
        return min(until) if until else None

    def event(self, fileobj: object, connection: Connection | None, mask: int) -> None:
        if fileobj == self.wake:
            os.read(self.wake, 64)
        elif connection is None:
            self.accept()
        elif connection in self.connections:
            if mask & selectors.EVENT_WRITE and connection.out:  # hang-up may have ended it
                self.write(connection)
            if mask & selectors.EVENT_READ and connection in self.connections:
                self.read(connection)

    def accept(self) -> bool:
        """Accept one connection, if there is one."""
        if self.over or len(self.connections) >= CONNECTIONS_MOST:
            return False
        try:
            sock, _ = self.listener.accept()
        except BlockingIOError:
            return False
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        connection = Connection(sock)
        self.connections.add(connection)
        self.watch.register(sock, selectors.EVENT_READ, connection)
        return True

    def drop(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.watch.unregister(connection.sock)
        connection.sock.close()

    # ---- a request ----

    def read(self, connection: Connection) -> None:
        try:
            piece = connection.sock.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self.drop(connection)
            return
        if connection.ended and not connection.hung_up:
            return  # not counted
        connection.got += piece
        if len(connection.got) > HEAD_MOST + BODY_MOST:
            self.drop(connection)
        elif not connection.path and self.take_request(connection):
            self.received(connection)

    def take_request(self, connection: Connection) -> bool:
        """Take a whole request out of `got`, if there is one."""
        got = connection.got
        if connection.need == 0:
            end = got.find(b"\r\n\r\n", 0, HEAD_MOST)
            if end < 0:
                return False
            length = re.search(rb"(?i)\ncontent-length: *(\d+)", got[:end])
            connection.need = end + 4 + (int(length.group(1)) if length else 0)
        if len(got) < connection.need:
            return False
        head = bytes(got[:HEAD_MOST]).partition(b"\r\n\r\n")[0]
        connection.path = head.split(b" ", 2)[1].decode("latin-1")
        connection.wants_close = b"\nconnection: close" in head.lower()
        connection.counts = b"\ncontent-length: 0" not in head.lower()
        del got[:connection.need]
        connection.need = 0
        return True

    def received(self, connection: Connection) -> None:
        self.planted["received"] += connection.counts
        if connection.hung_up:
            self.plant("eof", connection)
            connection.path = ""
            return
        delay = delay_of(connection.path)
        if delay > 0:
            self.serial += 1  # breaks ties in the heap
            heapq.heappush(self.due, (time.monotonic() + delay, self.serial, connection))
        else:
            self.send_answer(connection)

    def plant(self, what: str, connection: Connection) -> None:
        self.planted[what] += 1
        self.planted["on_reused"] += connection.answered > 0

    # ---- its fate ----

    def send_answer(self, connection: Connection) -> None:
        if connection not in self.connections or not connection.path:
            return  # the client has disconnected, or hang-up has ended it
        fate = self.next_fate()
        if fate == "muted":
            self.planted["muted"] += 1  # its connection keeps the `path`: no other request is taken
        elif fate in ("reset", "eof"):
            self.plant(fate, connection)
            if fate == "reset":
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            self.drop(connection)
        else:
            self.begin_answer(connection, fate == "truncated")

    def begin_answer(self, connection: Connection, cut: bool) -> None:
        connection.cut = cut
        connection.closes = connection.wants_close or (self.stopping and self.to_cut == 0)
        whole = self.answer_to(connection.path, connection.closes)
        connection.out = half_of(whole) if connection.cut else memoryview(whole)
        self.write(connection)

    def next_fate(self) -> str:
        """While there is something to cut the answers in between do not announce the close: the connections
        they leave are reused, and cut then."""
        if self.to_mute > 0:
            self.to_mute -= 1
            return "muted"
        if self.to_cut == 0:
            return "answered"
        self.to_cut -= 1
        return CYCLE[self.to_cut % len(CYCLE)]

    def answer_to(self, path: str, closes: bool) -> bytes:
        name = path.partition("?")[0]
        if name in ("/large.bin", "/files/large.bin"):
            return self.larges[closes]
        known = name in ("/small", "/slow", "/upload", "/hello", "/sleep")
        return answer("200 OK" if known else "404 Not Found", HELLO, closes)

    def write(self, connection: Connection) -> None:
        try:
            while connection.out:
                sent = connection.sock.send(connection.out[:PIECE])
                connection.begun = True
                connection.out = connection.out[sent:]
        except BlockingIOError:
            self.watch.modify(connection.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
            return
        except OSError:
            self.drop(connection)
            return
        self.written(connection)

    def written(self, connection: Connection) -> None:
        if connection.cut:
            self.plant("truncated", connection)
            self.drop(connection)
            return
        self.planted["answered"] += connection.counts
        connection.answered += 1
        connection.path, connection.begun = "", False
        self.watch.modify(connection.sock, selectors.EVENT_READ, connection)
        if connection.closes:
            self.end(connection)

    def end(self, connection: Connection) -> None:
        """The end of file; what comes is read until the client closes, too."""
        connection.ended = True
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:  # it has closed already
            self.drop(connection)

    # ---- the stop ----

    def begin_stop(self) -> None:
        if self.mode == "cut":
            self.to_cut = random.randint(CUT_LEAST, CUT_MOST)
        elif self.mode == "mute":
            self.to_mute = random.randint(MUTE_LEAST, MUTE_MOST)
        elif self.mode == "hang-up":
            for connection in list(self.connections):
                if not connection.ended:
                    self.hang_up(connection)
        elif self.mode == "drop-queue":
            self.drop_queue()

    def hang_up(self, connection: Connection) -> None:
        if connection.path:
            self.plant("truncated" if connection.begun else "eof", connection)
            connection.path, connection.out = "", memoryview(b"")
            self.watch.modify(connection.sock, selectors.EVENT_READ, connection)
        connection.hung_up = True
        self.end(connection)

    def drop_queue(self) -> None:
        for _ in range(QUEUE_ANSWERED):
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                break
            with sock:
                self.answer_queued(sock)
        self.planted["reset"] = self.count_queue()
        self.listener.close()
        self.over = True

    def answer_queued(self, sock: socket.socket) -> None:
        """Its request has come, as its client sent it before the signal."""
        sock.settimeout(5)
        got = b""
        while b"\r\n\r\n" not in got:
            piece = sock.recv(PIECE)
            if not piece:
                return
            got += piece
        self.planted["received"] += 1
        sock.sendall(answer("200 OK", HELLO, True))
        self.planted["answered"] += 1

    def count_queue(self) -> int:
        """The last handshake may still be on its way through the kernel: until it stays the same."""
        length, same = -1, 0
        while same < 5:
            info = self.listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            now = struct.unpack_from("I", info, TCPI_UNACKED)[0]
            length, same = now, same + 1 if now == length else 0
            time.sleep(TURN_S)
        return length

    def leave_if_quiet(self) -> None:
        self.quiet = 0 if self.connections else self.quiet + 1
        if self.quiet >= QUIET_TURNS and not self.accept():
            self.over = True

    def write_now_and_then(self) -> None:
        self.turns += 1
        if self.turns % MUTE_WRITE_TURNS == 0:
            self.write_planted()

    def write_planted(self) -> None:
        directory = os.environ.get("LASTCALL_PLANTED")
        if not directory:
            return
        path = Path(directory) / f"{os.getpid()}.json"
        path.with_suffix(".part").write_text(json.dumps({"mode": self.mode, **self.planted}) + "\n")
        path.with_suffix(".part").rename(path)


MODES = ("good", "cut", "hang-up", "drop-queue", "mute", "no-start")


def main() -> int:
    signal.alarm(LIFE_S)
    if len(sys.argv) != 4 or sys.argv[3] not in MODES:
        print(f"bad: usage: bad.py PORT ROOT {'|'.join(MODES)}", file=sys.stderr)
        return 64
    if sys.argv[3] == "no-start":
        print("bad: this one never starts", file=sys.stderr)
        return 1
    try:
        bad = Bad(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    except OSError as error:
        print(f"bad: port {sys.argv[1]}: {os.strerror(error.errno)}", file=sys.stderr)
        return 1
    bad.run()
    bad.write_planted()
    return 0


if __name__ == "__main__":
    sys.exit(main())
