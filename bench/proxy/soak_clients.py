#!/usr/bin/env python3
"""The HTTP/1 clients of soak.py: some wait for each answer, some read slowly, some leave, some send several requests at
once. Each answer is compared with what its request may get (soak_faults.py). SIGTERM ends them: no request begins after
it, those under way end, and the counts are printed in a line of JSON.

    soak_clients.py PORT SEED

  - requests: written whole; left: by clients that did not wait for the answer;
  - status 200 ..., cut: the outcomes of the others;
  - not begun: sent behind a request whose answer closed the connection;
  - race: a POST that met a connection of the upstream which ended in that moment;
  - crossed: requests on kept connections that the server ended at this moment, because its wait for them was over;
  - complaints: what was none of what the request may get: [outcome, from, to, text], in seconds of CLOCK_MONOTONIC.
    stderr has them as they happen.

A request without an answer has crossed with the end of its connection if two things hold. The server may have waited for
KEPT_S: the request before it was sent that long ago, or longer (the wait begins later, with the end of its answer). And
the server has not read it: the sums of soak.py show that. Everything else is a lost request. `end of the wait` counts
connections that had ended before their clients sent anything: the kernel knows.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import random
import signal
import socket
import struct
import sys
import time

from soak_faults import CUT, KEPT_S, KINDS, LOST, RACE, Request, bytes_of, draw

PATIENCE_S = 30.0
TCP_ESTABLISHED = 1
# The server's clock moves once in a turn of its loop, and a busy machine makes turns long.
KEPT_LEAST_S = KEPT_S - 0.1
READING_S = 1.0  # much shorter than KEPT_S, longer than a client pauses between an answer and the next request
WHOLE = [name for name, kind in KINDS.items() if kind.ends_whole and name not in ("upload", "close")]


def chunk_size(line: bytes) -> int:
    """A chunk that is none is how a server shows that an answer is cut, before it closes the connection."""
    try:
        return int(line.split(b";")[0], 16)
    except ValueError:
        raise asyncio.IncompleteReadError(line, None) from None


class Answer:
    def __init__(self) -> None:
        self.status, self.body, self.outcome, self.closes = 0, b"", "", False
        self.end = ""  # of the connection, if it has ended


class Connection:
    def __init__(self, begun_s: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.port = writer.get_extra_info("sockname")[1]
        self.sent, self.sent_s = 0, begun_s  # requests; when the last of them was sent
        self.waited_s = 0.0  # between the last one and the one before it
        self.answers = 0  # to what was sent last
        self.read_s = self.sent_s  # when the last answer was read

    def note_sent(self, count: int) -> None:
        now_s = time.monotonic()
        self.waited_s, self.sent_s = now_s - self.sent_s, now_s
        self.sent += count
        self.answers = 0

    def is_open(self) -> bool:
        """Neither a FIN nor a reset has come from the server."""
        try:
            info = self.writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        except OSError:
            return False
        return info[0] == TCP_ESTABLISHED

    def may_have_crossed(self) -> bool:
        return self.answers == 0 and self.waited_s >= KEPT_LEAST_S

    def evidence(self, answer: Answer) -> str:
        return (f"port {self.port}, {self.sent} requests, {answer.end or 'its end'} "
                f"{(time.monotonic() - self.sent_s) * 1000:.0f} ms after it was sent, which was "
                f"{self.waited_s * 1000:.0f} ms after the one before it")


class Clients:
    def __init__(self, port: int, seed: int) -> None:
        self.port, self.seed = port, seed
        self.counts: collections.Counter[str] = collections.Counter()
        self.numbers = itertools.count(1)
        self.complaints: list[tuple[str, float, float, str]] = []
        self.stop = False

    # ---- one connection ----

    async def connect(self) -> Connection:
        self.counts["connections"] += 1
        return Connection(time.monotonic(), *await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20))

    def bytes_of(self, request: Request) -> bytes:
        body = bytes_of(request.number, request.body)
        more = f"Content-Length: {request.body}\r\n" if request.method == "POST" else ""
        return f"{request.method} {request.path} HTTP/1.1\r\nHost: soak\r\n{more}\r\n".encode() + body

    async def send(self, conn: Connection, *requests: Request) -> None:
        """The server may answer, and close, before it has all of a body."""
        self.counts["requests"] += len(requests)
        conn.note_sent(len(requests))
        try:
            conn.writer.write(b"".join(map(self.bytes_of, requests)))
            await conn.writer.drain()
        except ConnectionError:
            pass

    async def body_of(self, reader: asyncio.StreamReader, head: dict[str, str], answer: Answer,
                      request: Request, pause_s: float) -> None:
        if request.method == "HEAD" or answer.status in (204, 304):
            return
        if head.get("transfer-encoding") == "chunked":
            while True:
                size = chunk_size(await reader.readuntil(b"\r\n"))
                piece = await reader.readexactly(size + 2)
                answer.body += piece[:-2]
                await asyncio.sleep(pause_s)
                if size == 0:
                    return
        elif "content-length" in head:
            left = int(head["content-length"])
            while left > 0:
                piece = await reader.read(min(left, 16384))
                if not piece:
                    raise asyncio.IncompleteReadError(b"", left)
                answer.body += piece
                left -= len(piece)
                if pause_s:
                    await asyncio.sleep(pause_s)
        else:
            answer.body, answer.closes = await reader.read(-1), True

    async def read(self, reader: asyncio.StreamReader, request: Request, pause_s: float = 0.0) -> Answer:
        answer = Answer()
        try:
            text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = text.split("\r\n")
            head = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            answer.status = int(lines[0].split(" ")[1])
            answer.closes = head.get("connection") == "close"
            await self.body_of(reader, head, answer, request, pause_s)
            answer.outcome = str(answer.status)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            answer.outcome, answer.closes = (CUT if answer.status else LOST), True
            answer.end = "FIN" if isinstance(error, asyncio.IncompleteReadError) else f"reset ({error})"
            if not answer.status and getattr(error, "partial", b""):
                answer.end += f" after {error.partial!r}"
        except (ValueError, IndexError, asyncio.LimitOverrunError) as error:
            answer.outcome, answer.closes = f"{answer.status} and no HTTP ({error})", True
        return answer

    # ---- the judgement ----

    def note_wrong(self, outcome: str, begun_s: float, text: str) -> None:
        print(f"{time.time():.3f} {text}", file=sys.stderr, flush=True)
        self.complaints.append((outcome, begun_s, time.monotonic(), text))

    def complain(self, request: Request, answer: Answer, conn: Connection, what: str) -> None:
        self.note_wrong(answer.outcome, conn.sent_s, f"{request.method} {request.path}, body {request.body}: {what}; "
                        f"{conn.evidence(answer)}")

    def judge(self, request: Request, answer: Answer, conn: Connection) -> None:
        kind, outcome = KINDS[request.kind], answer.outcome
        if outcome == LOST and answer.end != "" and conn.may_have_crossed():
            self.counts["crossed"] += 1
            return
        conn.answers += 1
        conn.read_s = time.monotonic()
        self.counts["cut" if outcome in (CUT, LOST) else f"status {outcome}"] += 1
        if outcome in kind.outcomes:
            self.compare(request, answer, conn)
        elif request.method == "POST" and outcome == RACE:
            self.counts["race"] += 1
        else:
            self.complain(request, answer, conn, f"{outcome}, {len(answer.body)} bytes {answer.body[:80]!r}")

    def has_ended(self, conn: Connection) -> bool:
        """Before a request is sent on it, as a careful client does."""
        if conn.is_open():
            return False
        now_s = time.monotonic()
        waited_s = now_s - conn.sent_s
        if waited_s >= KEPT_LEAST_S:
            self.counts["end of the wait"] += 1
            if now_s - conn.read_s < READING_S:
                self.counts["end of the wait while reading"] += 1
                print(f"{time.time():.3f} port {conn.port} has ended after {waited_s:.3f} s, while its client still read "
                      f"answer {conn.sent}", file=sys.stderr, flush=True)
        else:
            self.note_wrong("end", conn.sent_s, f"port {conn.port} has ended {waited_s * 1000:.0f} ms after request "
                            f"{conn.sent} was sent, which has its answer")
        return True

    def compare(self, request: Request, answer: Answer, conn: Connection) -> None:
        want = NOTHING if request.method == "HEAD" else bytes_of(request.number, request.size)
        if answer.outcome in ("200", "413") and answer.body != want:
            self.complain(request, answer, conn, f"another body: {answer.body[:80]!r}")
        elif answer.outcome == CUT and not want.startswith(answer.body):
            self.complain(request, answer, conn, f"a part of another body: {answer.body[:80]!r}")

    # ---- the ways of clients ----

    async def patient(self, rng: random.Random, pause_s: float, kinds: list[str] | None) -> None:
        """One request after the other; with a pause, it reads slowly."""
        conn = await self.connect()
        try:
            for _ in range(rng.randint(1, 100)):
                if self.stop or self.has_ended(conn):
                    return
                request = draw(rng, next(self.numbers), kinds)
                sent = asyncio.ensure_future(self.send(conn, request))
                answer = await asyncio.wait_for(self.read(conn.reader, request, pause_s), PATIENCE_S)
                sent.cancel()
                self.judge(request, answer, conn)
                if answer.closes:
                    return
                await asyncio.sleep(rng.choice([0, 0, 0.001, 0.02]))
        finally:
            conn.writer.close()

    async def sleepy(self, rng: random.Random) -> None:
        """It sends just as the server stops waiting."""
        conn = await self.connect()
        try:
            while not self.stop and not self.has_ended(conn):
                request = draw(rng, next(self.numbers), ["length", "chunked"])
                await self.send(conn, request)
                answer = await asyncio.wait_for(self.read(conn.reader, request), PATIENCE_S)
                self.judge(request, answer, conn)
                if answer.closes:
                    return
                begun_s = time.monotonic()
                while not self.stop and (left_s := begun_s + KEPT_S + rng.uniform(-0.01, 0.002) - time.monotonic()) > 0:
                    await asyncio.sleep(min(left_s, 0.5))
        finally:
            conn.writer.close()

    async def hasty(self, rng: random.Random) -> None:
        """Several requests at once."""
        conn = await self.connect()
        try:
            for _ in range(rng.randint(1, 20)):
                if self.stop or self.has_ended(conn):
                    return
                requests = [draw(rng, next(self.numbers), WHOLE) for _ in range(rng.randint(2, 6))]
                await self.send(conn, *requests)
                for i, request in enumerate(requests):
                    answer = await asyncio.wait_for(self.read(conn.reader, request), PATIENCE_S)
                    self.judge(request, answer, conn)
                    if answer.closes:
                        self.counts["not begun"] += len(requests) - i - 1
                        return
        finally:
            conn.writer.close()

    async def leaving(self, rng: random.Random) -> None:
        """It leaves before the answer, in the middle of it, or with a reset."""
        conn = await self.connect()
        reader, writer = conn.reader, conn.writer
        request = draw(rng, next(self.numbers), [n for n in KINDS if n not in ("upload", "early")])
        await self.send(conn, request)
        self.counts["left"] += 1
        await asyncio.sleep(rng.choice([0, 0.001, 0.005, 0.05, 0.3]))
        if rng.random() < 0.3:
            try:
                await asyncio.wait_for(reader.read(rng.randint(1, 3000)), 0.2)
            except (asyncio.TimeoutError, ConnectionError):
                pass
        if rng.random() < 0.5:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.counts["left by reset"] += 1
            writer.transport.abort()
        else:
            writer.close()
        await asyncio.sleep(rng.random() * 0.02)

    async def again(self, name: str, number: int) -> None:
        rng = random.Random(f"{self.seed} {name} {number}")
        ways = {"patient": lambda: self.patient(rng, 0, None), "hasty": lambda: self.hasty(rng),
                "slow": lambda: self.patient(rng, 0.03, ["large", "chunked", "cut-length", "slow"]),
                "leaving": lambda: self.leaving(rng), "sleepy": lambda: self.sleepy(rng)}
        while not self.stop:
            begun_s = time.monotonic()
            try:
                await ways[name]()
            except asyncio.TimeoutError:
                self.note_wrong("none", begun_s, f"{name}: no answer in {PATIENCE_S:.0f} s")
            except ConnectionError as error:
                self.note_wrong("none", begun_s, f"{name}: {error}")

    async def run(self) -> None:
        def end() -> None:
            self.stop = True

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
        crowd = {"patient": 24, "slow": 8, "hasty": 8, "leaving": 8, "sleepy": 16}
        await asyncio.gather(*(self.again(name, i) for name, count in crowd.items() for i in range(count)))
        print(json.dumps({**self.counts, "complaints": self.complaints}), flush=True)


NOTHING = b""

if __name__ == "__main__":
    asyncio.run(Clients(int(sys.argv[1]), int(sys.argv[2])).run())
