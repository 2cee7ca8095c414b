#!/usr/bin/env python3
"""WebSocket for rolling.py: an echo server, and clients that count what happens to their messages.

    websocket.py serve PORT
    websocket.py load PORT --path /ws --clients 16 --pause 20

A client sends a message, waits for its echo, pauses, and so on. When the server closes with 1001 (going away,
RFC 6455 section 7.4.1), it answers the Close, connects again, and repeats a message whose echo had not come. SIGTERM
ends the load, which then prints its counts in a line of JSON:

  - opened: handshakes that succeeded; moved: connections that ended with 1001;
  - messages: echoed; repeated: sent again after 1001;
  - cut: connections that ended without a Close; other_close: with another code than 1001;
  - failed: handshakes that were answered with something else than 101; lost_handshake: that were not answered;
  - refused: connects; waiting: messages without an echo at the end of patience; wrong: echoes of another message.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import collections
import hashlib
import json
import os
import signal
import struct
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
GOING_AWAY, NORMAL = 1001, 1000
PATIENCE_S = 10.0
HEAD_MOST = 65536


class Ended(Exception):
    """The connection has ended without a Close."""


def frame(opcode: int, payload: bytes, masked: bool) -> bytes:
    mask_bit = 0x80 if masked else 0
    size = (bytes([mask_bit | len(payload)]) if len(payload) < 126
            else bytes([mask_bit | 126]) + struct.pack(">H", len(payload)))
    if not masked:
        return bytes([0x80 | opcode]) + size + payload
    key = os.urandom(4)
    return bytes([0x80 | opcode]) + size + key + bytes(b ^ key[i % 4] for i, b in enumerate(payload))


class Frames:
    """Frames of a connection. A wait that is cancelled loses nothing."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.reader, self.bytes = reader, b""

    async def more(self) -> None:
        try:
            got = await self.reader.read(65536)
        except ConnectionError as error:
            raise Ended from error
        if not got:
            raise Ended
        self.bytes += got

    async def head(self) -> bytes:
        while b"\r\n\r\n" not in self.bytes:
            if len(self.bytes) > HEAD_MOST:
                raise Ended
            await self.more()
        head, _, self.bytes = self.bytes.partition(b"\r\n\r\n")
        return head

    def take(self) -> tuple[int, bytes] | None:
        """None: the frame is not whole yet. Messages here are short, and in one frame."""
        if len(self.bytes) < 2:
            return None
        at, size = 2, self.bytes[1] & 0x7F
        if size == 126:
            if len(self.bytes) < 4:
                return None
            at, size = 4, struct.unpack(">H", self.bytes[2:4])[0]
        key = b""
        if self.bytes[1] & 0x80:
            key, at = self.bytes[at:at + 4], at + 4
        if len(self.bytes) < at + size:
            return None
        opcode, payload = self.bytes[0] & 0x0F, self.bytes[at:at + size]
        self.bytes = self.bytes[at + size:]
        return opcode, bytes(b ^ key[i % 4] for i, b in enumerate(payload)) if key else payload

    async def next(self) -> tuple[int, bytes]:
        while (got := self.take()) is None:
            await self.more()
        return got


# ---- the server ----


def accept_of(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def field(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    frames = Frames(reader)
    try:
        key = field(await frames.head(), b"sec-websocket-key")
        if not key:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nup\n")
            await writer.drain()
            return
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Accept: " + accept_of(key) + b"\r\n\r\n")
        while True:
            opcode, payload = await frames.next()
            if opcode == CLOSE:
                writer.write(frame(CLOSE, payload, False))
                await writer.drain()
                return
            writer.write(frame(PONG if opcode == PING else opcode, payload, False))
            await writer.drain()
    except (Ended, ConnectionError):
        pass
    finally:
        writer.close()


async def serve(port: int) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", port)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with server:
        await stop.wait()


# ---- the load ----


class Load:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.counts: collections.Counter[str] = collections.Counter()
        self.stop = asyncio.Event()
        self.first_trouble = ""

    def trouble(self, what: str, detail: str) -> None:
        self.counts[what] += 1
        if not self.first_trouble:
            self.first_trouble = f"{what}: {detail}"

    async def open(self) -> tuple[Frames, asyncio.StreamWriter] | None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.options.port)
        except OSError as error:
            self.counts["refused"] += 1
            self.first_trouble = self.first_trouble or f"refused: {error}"
            await asyncio.sleep(0.02)
            return None
        frames = Frames(reader)
        key = base64.b64encode(os.urandom(16))
        writer.write(b"GET " + self.options.path.encode() + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                     b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     b"Sec-WebSocket-Key: " + key + b"\r\n\r\n")
        try:
            head = await asyncio.wait_for(frames.head(), PATIENCE_S)
        except (Ended, asyncio.TimeoutError) as error:
            self.trouble("lost_handshake", type(error).__name__)
            writer.close()
            return None
        if not head.startswith(b"HTTP/1.1 101 ") or field(head, b"sec-websocket-accept") != accept_of(key):
            self.trouble("failed", head.split(b"\r\n")[0].decode(errors="replace"))
            writer.close()
            await asyncio.sleep(0.02)
            return None
        self.counts["opened"] += 1
        return frames, writer

    def closed(self, writer: asyncio.StreamWriter, payload: bytes) -> None:
        code = struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else 0
        if code == GOING_AWAY:
            self.counts["moved"] += 1
        else:
            self.trouble("other_close", str(code))
        writer.write(frame(CLOSE, payload[:2], True))

    async def one_message(self, frames: Frames, writer: asyncio.StreamWriter, text: bytes) -> bool:
        """True: its echo has come. False: the connection was closed in order."""
        writer.write(frame(TEXT, text, True))
        while True:
            opcode, payload = await asyncio.wait_for(frames.next(), PATIENCE_S)
            if opcode == CLOSE:
                self.closed(writer, payload)
                return False
            if opcode == TEXT:
                if payload != text:
                    self.trouble("wrong", repr(payload[:40]))
                self.counts["messages"] += 1
                return True

    async def pause(self, frames: Frames, writer: asyncio.StreamWriter) -> bool:
        """False: the connection was closed meanwhile, in order."""
        until = asyncio.get_running_loop().time() + self.options.pause / 1000
        while (left := until - asyncio.get_running_loop().time()) > 0:
            try:
                opcode, payload = await asyncio.wait_for(frames.next(), left)
            except asyncio.TimeoutError:
                return True
            if opcode == CLOSE:
                self.closed(writer, payload)
                return False
        return True

    async def client(self, number: int) -> None:
        serial, again = 0, False
        while not self.stop.is_set():
            opened = await self.open()
            if opened is None:
                continue
            frames, writer = opened
            try:
                while not self.stop.is_set():
                    if again:
                        self.counts["repeated"] += 1
                    again = True
                    if not await self.one_message(frames, writer, b"%d:%d" % (number, serial)):
                        break
                    serial, again = serial + 1, False
                    if not await self.pause(frames, writer):
                        break
                else:
                    writer.write(frame(CLOSE, struct.pack(">H", NORMAL), True))
            except (Ended, ConnectionError) as error:
                self.trouble("cut", f"{type(error).__name__} with an echo due: {again}")
            except asyncio.TimeoutError:
                self.trouble("waiting", "no echo")
            finally:
                writer.close()

    async def run(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stop.set)
        await asyncio.gather(*(self.client(i) for i in range(self.options.clients)))
        keys = ("opened", "moved", "messages", "repeated", "cut", "other_close", "failed",
                "lost_handshake", "refused", "waiting", "wrong")
        print(json.dumps({**{key: self.counts[key] for key in keys}, "first_trouble": self.first_trouble}))


def main() -> int:
    parser = argparse.ArgumentParser(description="A WebSocket echo, and clients of it that count.")
    parser.add_argument("what", choices=("serve", "load"))
    parser.add_argument("port", type=int)
    parser.add_argument("--path", default="/")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--pause", type=int, default=20, metavar="MS", help="between an echo and the next message")
    options = parser.parse_args()
    asyncio.run(serve(options.port) if options.what == "serve" else Load(options).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
