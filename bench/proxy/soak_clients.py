#!/usr/bin/env python3
"""The HTTP/1 clients of soak.py: some wait for each answer, some read slowly, some leave, some send several requests at
once. Each answer is compared with what its request may get (soak_faults.py). SIGTERM ends them: no request begins after
it, those under way end, and the counts are printed in a line of JSON.

    soak_clients.py PORT SEED

  - requests: written whole; left: by clients that did not wait for the answer;
  - status 200 ..., cut: the outcomes of the others;
  - not begun: sent behind a request whose answer closed the connection;
  - race: a POST that met a connection which ended in that moment;
  - wrong: none of what the request may get. `complaints` has the first ones.
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

from soak_faults import CUT, KINDS, RACE, Request, bytes_of, draw

PATIENCE_S = 30.0
LONG_S = 3.0
COMPLAINTS_MOST = 20
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


class Clients:
    def __init__(self, port: int, seed: int) -> None:
        self.port, self.seed = port, seed
        self.counts: collections.Counter[str] = collections.Counter()
        self.numbers = itertools.count(1)
        self.complaints: list[str] = []
        self.stop = False

    # ---- one connection ----

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.counts["connections"] += 1
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)

    def bytes_of(self, request: Request) -> bytes:
        body = bytes_of(request.number, request.body)
        more = f"Content-Length: {request.body}\r\n" if request.method == "POST" else ""
        return f"{request.method} {request.path} HTTP/1.1\r\nHost: soak\r\n{more}\r\n".encode() + body

    async def send(self, writer: asyncio.StreamWriter, *requests: Request) -> None:
        """The server may answer, and close, before it has all of a body."""
        self.counts["requests"] += len(requests)
        try:
            writer.write(b"".join(map(self.bytes_of, requests)))
            await writer.drain()
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
        except (asyncio.IncompleteReadError, ConnectionError):
            answer.outcome, answer.closes = (CUT if answer.status else "lost"), True
        except (ValueError, IndexError, asyncio.LimitOverrunError) as error:
            answer.outcome, answer.closes = f"{answer.status} and no HTTP ({error})", True
        return answer

    # ---- the judgement ----

    def complain(self, request: Request, what: str) -> None:
        self.counts["wrong"] += 1
        if len(self.complaints) < COMPLAINTS_MOST:
            self.complaints.append(f"{request.method} {request.path}, body {request.body}: {what}")

    def judge(self, request: Request, answer: Answer) -> None:
        kind, outcome = KINDS[request.kind], answer.outcome
        self.counts["cut" if outcome in (CUT, "lost") else f"status {outcome}"] += 1
        if outcome in kind.outcomes:
            self.compare(request, answer)
        elif request.method == "POST" and outcome == RACE:
            self.counts["race"] += 1
        else:
            self.complain(request, f"{outcome}, {len(answer.body)} bytes {answer.body[:80]!r}")

    def compare(self, request: Request, answer: Answer) -> None:
        want = NOTHING if request.method == "HEAD" else bytes_of(request.number, request.size)
        if answer.outcome in ("200", "413") and answer.body != want:
            self.complain(request, f"{answer.outcome} with another body: {answer.body[:80]!r}")
        elif answer.outcome == CUT and not want.startswith(answer.body):
            self.complain(request, f"a part of another body: {answer.body[:80]!r}")

    # ---- the ways of clients ----

    async def patient(self, rng: random.Random, pause_s: float, kinds: list[str] | None) -> None:
        """One request after the other; with a pause, it reads slowly."""
        reader, writer = await self.connect()
        try:
            for _ in range(rng.randint(1, 100)):
                if self.stop:
                    return
                request = draw(rng, next(self.numbers), kinds)
                begun = time.monotonic()
                sent = asyncio.ensure_future(self.send(writer, request))
                answer = await asyncio.wait_for(self.read(reader, request, pause_s), PATIENCE_S)
                sent.cancel()
                self.judge(request, answer)
                # The server counts the connection as idle since its kernel has all of the answer.
                if answer.closes or time.monotonic() - begun > LONG_S:
                    return
                await asyncio.sleep(rng.choice([0, 0, 0.001, 0.02]))
        finally:
            writer.close()

    async def hasty(self, rng: random.Random) -> None:
        """Several requests at once."""
        reader, writer = await self.connect()
        try:
            for _ in range(rng.randint(1, 20)):
                if self.stop:
                    return
                requests = [draw(rng, next(self.numbers), WHOLE) for _ in range(rng.randint(2, 6))]
                await self.send(writer, *requests)
                for i, request in enumerate(requests):
                    answer = await asyncio.wait_for(self.read(reader, request), PATIENCE_S)
                    self.judge(request, answer)
                    if answer.closes:
                        self.counts["not begun"] += len(requests) - i - 1
                        return
        finally:
            writer.close()

    async def leaving(self, rng: random.Random) -> None:
        """It leaves before the answer, in the middle of it, or with a reset."""
        reader, writer = await self.connect()
        request = draw(rng, next(self.numbers), [n for n in KINDS if n not in ("upload", "early")])
        await self.send(writer, request)
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
                "leaving": lambda: self.leaving(rng)}
        while not self.stop:
            try:
                await ways[name]()
            except asyncio.TimeoutError:
                self.counts["wrong"] += 1
                self.complaints.append(f"{name}: no answer in {PATIENCE_S:.0f} s")
            except ConnectionError as error:
                self.counts["wrong"] += 1
                self.complaints.append(f"{name}: {error}")

    async def run(self) -> None:
        def end() -> None:
            self.stop = True

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
        crowd = {"patient": 24, "slow": 8, "hasty": 8, "leaving": 8}
        await asyncio.gather(*(self.again(name, i) for name, count in crowd.items() for i in range(count)))
        print(json.dumps({**self.counts, "complaints": self.complaints[:COMPLAINTS_MOST]}), flush=True)


NOTHING = b""

if __name__ == "__main__":
    asyncio.run(Clients(int(sys.argv[1]), int(sys.argv[2])).run())
