#!/usr/bin/env python3
"""The upstream of soak.py: it fails as the path of each request says (soak_faults.py). SIGTERM ends it, and it prints
its counts in a line of JSON, and `stalls`: when it stood still itself, as [from, to] in seconds of CLOCK_MONOTONIC. A busy
machine may give a process no processor for seconds, and to the front that is an upstream that does not answer."""

from __future__ import annotations

import asyncio
import collections
import json
import random
import signal
import socket
import struct
import sys
import time

from soak_faults import FIRST_BYTE_MS, IO_MS, bytes_of

counts: collections.Counter[str] = collections.Counter()
stalls: list[tuple[float, float]] = []
rng = random.Random()
BEAT_S, STALL_S = 0.05, 0.2
HANG_S = 3 * max(FIRST_BYTE_MS, IO_MS) / 1000
NOTHING, HERE = b"", b"HTTP/1.1 200 OK\r\n"


class Gone(Exception):
    """The front has closed the connection."""


class Conn:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *pieces: bytes) -> None:
        try:
            for piece in pieces:
                self.writer.write(piece)
                await self.writer.drain()
        except ConnectionError as error:
            raise Gone from error

    async def reset(self) -> None:
        """What was sent is on its way; a reset may overtake it."""
        await asyncio.sleep(0.005)
        sock = self.writer.get_extra_info("socket")
        if sock.fileno() < 0:  # the front was faster
            raise Gone
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def hang(self) -> None:
        """Until the front has enough of it."""
        try:
            await asyncio.wait_for(self.reader.read(1 << 20), HANG_S)
        except (asyncio.TimeoutError, ConnectionError):
            pass

    async def in_pieces(self, data: bytes, pause_s: float = 0.0) -> None:
        while data:
            n = rng.randint(1, max(1, len(data)))
            await self.send(data[:n])
            data = data[n:]
            await asyncio.sleep(pause_s)


def length(size: int, more: bytes = b"") -> bytes:
    return HERE + b"Content-Length: %d\r\n" % size + more + b"\r\n"


def chunks(data: bytes) -> bytes:
    out = []
    while data:
        n = rng.randint(1, 16384)
        out += [b"%x\r\n" % len(data[:n]), data[:n], b"\r\n"]
        data = data[n:]
    return b"".join(out)


CHUNKED = HERE + b"Transfer-Encoding: chunked\r\n\r\n"


async def answer(conn: Conn, kind: str, method: str, data: bytes) -> bool:
    """True: the connection can carry another request."""
    half = data[:rng.randint(0, max(0, len(data) - 1))]
    body = NOTHING if method == "HEAD" else data
    if kind in ("length", "large", "upload"):
        await conn.send(length(len(data)) + body)
        return True
    if kind == "chunked":
        await conn.send(CHUNKED + (NOTHING if method == "HEAD" else chunks(data) + b"0\r\n\r\n"))
        return True
    if kind == "interims":
        await conn.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n",
                        length(len(data)), data)
        return True
    if kind == "slow":
        await conn.send(length(len(data)))
        await conn.in_pieces(data, 0.03)
        return True
    await fail(conn, kind, data, half, body)
    return False


async def fail(conn: Conn, kind: str, data: bytes, half: bytes, body: bytes) -> None:
    if kind == "close":
        await conn.send(HERE + b"Connection: close\r\n\r\n", data)
    elif kind == "hang-up":
        await conn.send(length(len(data)) + body)
    elif kind == "early":
        await conn.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        await conn.hang()
    elif kind == "mute-reset":
        await conn.reset()
    elif kind in ("head-close", "head-reset"):
        await conn.send(length(len(data))[:rng.randint(1, 20)])
        if kind == "head-reset":
            await conn.reset()
    elif kind == "after-head":
        await conn.send(length(len(data)))
    elif kind == "garbage":
        await conn.send(rng.choice([b"220 mail\r\n", b"\x15\x03\x01\x00\x02", b"<html>", b"\x00" * 100]))
        await conn.hang()
    elif kind == "large-head":
        await conn.send(HERE + b"X: ")
        await conn.send(*[b"a" * 65536] * 16)
    elif kind == "endless":
        await conn.send(*[b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * 20] * 1000)
    elif kind == "two-lengths":
        await conn.send(HERE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab")
        await conn.hang()
    elif kind == "hang":
        await conn.hang()
    elif kind == "hang-head":
        await conn.send(HERE + b"X: ")
        await conn.hang()
    elif kind == "cut-length":
        await conn.send(length(len(data)), half)
    elif kind == "cut-chunked":
        await conn.send(CHUNKED, chunks(half))
    elif kind == "reset-length":
        await conn.send(length(len(data)), half)
        await conn.reset()
    elif kind == "bad-chunk":
        await conn.send(CHUNKED, chunks(half), b"zz\r\n")
        await conn.hang()
    elif kind == "hang-body":
        await conn.send(length(len(data)), half)
        await conn.hang()
    # mute-close, and the end of all others


def content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def take_body(conn: Conn, size: int, number: int) -> bool:
    """Is it the one that belongs to the request?"""
    return await conn.reader.readexactly(size) == bytes_of(number, size)


async def one(conn: Conn) -> bool:
    try:
        head = await conn.reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            counts["half a request"] += 1
        return False
    method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
    kind, size, number = path.split("/")[-3:]
    counts["requests"] += 1
    counts[f"kind {kind}"] += 1
    expected = content_length(head)
    if kind != "early" and not await take_body(conn, expected, int(number)):
        counts["wrong bodies"] += 1
        await conn.send(b"HTTP/1.1 400 Wrong Body\r\nContent-Length: 0\r\n\r\n")
        return False
    return await answer(conn, kind, method, bytes_of(int(number), int(size)))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    counts["connections"] += 1
    conn = Conn(reader, writer)
    try:
        while await one(conn):
            pass
    except (Gone, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        counts["left by the front"] += 1
    except asyncio.CancelledError:
        pass
    finally:
        writer.close()


async def note_stalls() -> None:
    while True:
        begun_s = time.monotonic()
        await asyncio.sleep(BEAT_S)
        if time.monotonic() - begun_s > BEAT_S + STALL_S:
            stalls.append((begun_s + BEAT_S, time.monotonic()))


async def main(port: int) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=1 << 20, backlog=1024)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    beats = asyncio.ensure_future(note_stalls())
    async with server:
        await stop.wait()
    beats.cancel()
    print(json.dumps({**counts, "stalls": stalls}), flush=True)


if __name__ == "__main__":
    rng.seed(int(sys.argv[2]))
    asyncio.run(main(int(sys.argv[1])))
