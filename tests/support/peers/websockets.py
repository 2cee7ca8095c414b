#!/usr/bin/env python3
"""WebSocket clients of a front, and the upstream behind it, which echoes: a load that knows what is torn.

    websockets.py FRONT_PORT UPSTREAM_PORT CLIENTS

Prints `ready` when every client has its first echo. Ends when every connection has, and prints

    clients 40 told 40 torn 0 lost 0 messages 12345 late 12

told: the client got a Close frame 1001, after whole messages only. torn: what came to a client or to the upstream was no
WebSocket, ended without a Close frame 1001, or had bytes after it. lost: the upstream had sent more messages before its own Close frame than the client
got. late: the longest time, in milliseconds, that a thread of this process waited for its turn. Frames of RFC 6455, by hand: messages in one frame or two, with a Ping between."""

import os
import random
import socket
import struct
import sys
import threading
import time

TEXT, MORE, CLOSE, PING, PONG = 1, 0, 8, 9, 10
PATIENCE_S = 60


class Torn(Exception):
    pass


def frame(opcode, payload, masked, fin=True):
    size = len(payload)
    head = bytes([(0x80 if fin else 0) | opcode])
    bit = 0x80 if masked else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    key = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def message(payload, masked):
    """In one frame, or in two with a Ping between."""
    if random.random() < 0.7:
        return frame(TEXT, payload, masked)
    at = random.randrange(len(payload) + 1)
    return (frame(TEXT, payload[:at], masked, fin=False) + frame(PING, b"p", masked)
            + frame(MORE, payload[at:], masked))


def send_slowly(sock, data):
    """In two pieces, with time between: most of the time a frame is under way."""
    at = random.randrange(len(data))
    sock.sendall(data[:at])
    time.sleep(random.random() * 0.02)
    sock.sendall(data[at:])


class Reader:
    def __init__(self, sock, masked):
        self.file, self.masked, self.parts = sock.makefile("rb"), masked, None

    def exact(self, size):
        data = self.file.read(size)
        if len(data) != size:
            raise Torn(f"ended after {len(data)} of {size} bytes")
        return data

    def frame(self):
        first, second = self.exact(2)
        size = second & 0x7F
        if (second & 0x80 != 0) != self.masked:
            raise Torn("masked wrongly")
        if size == 126:
            size = struct.unpack(">H", self.exact(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.exact(8))[0]
        mask = self.exact(4) if self.masked else b"\0\0\0\0"
        payload = self.exact(size)
        if self.masked and size:
            key = (mask * (size // 4 + 1))[:size]
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
        return first & 0x80 != 0, first & 0x7F, payload

    def message(self):
        """The next whole message, or Close, as (opcode, payload)."""
        while True:
            fin, opcode, payload = self.frame()
            if opcode == CLOSE:
                return CLOSE, payload
            if opcode in (PING, PONG):
                continue
            if (opcode == MORE) != (self.parts is not None):
                raise Torn(f"opcode {opcode} in the wrong place")
            self.parts = (self.parts or b"") + payload
            if fin:
                whole, self.parts = self.parts, None
                return TEXT, whole


def read_head(sock):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise Torn("no head")
        head += byte
    return head


faults = []  # what the upstream saw before a Close frame
sent = {}  # messages that the upstream has sent, by the number of the client


def serve(sock):
    try:
        head = read_head(sock)
        number = int(head.split(b" ", 2)[1].split(b"/")[-1])
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        reader = Reader(sock, True)
        while True:
            opcode, payload = reader.message()
            if opcode == CLOSE:
                break
            sent[number] = sent.get(number, 0) + 1
            send_slowly(sock, message(payload, False))
        if payload[:2] != struct.pack(">H", 1001):
            raise Torn(f"Close with {payload}")
        sock.sendall(frame(CLOSE, payload, False))
        sock.recv(1)
    except (Torn, OSError) as error:
        faults.append(error)
        print(f"upstream: {error}", file=sys.stderr)
    finally:
        sock.close()


def accept_all(listener):
    while True:
        sock, _ = listener.accept()
        sock.settimeout(PATIENCE_S)
        threading.Thread(target=serve, args=(sock,), daemon=True).start()


class Client:
    def __init__(self, port, number):
        self.number, self.got, self.told, self.fault = number, 0, False, None
        self.first, self.closed = threading.Event(), threading.Event()
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self.lock = threading.Lock()

    def send_all(self):
        try:
            while not self.closed.is_set():
                size = random.choice((0, 1, 50, 125, 126, 1000, 9000, 70000))
                with self.lock:
                    if not self.closed.is_set():
                        send_slowly(self.sock, message(b"m" * size, True))
                self.closed.wait(random.random() * 0.01)
        except OSError:
            pass  # what the reader sees tells why

    def run(self):
        try:
            self.sock.sendall(b"GET /%d HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                              % self.number)
            if b" 101 " not in read_head(self.sock):
                raise Torn("no 101")
            threading.Thread(target=self.send_all, daemon=True).start()
            reader = Reader(self.sock, False)
            while True:
                opcode, payload = reader.message()
                if opcode == CLOSE:
                    break
                self.got += 1
                self.first.set()
            self.closed.set()
            self.told = payload[:2] == struct.pack(">H", 1001)
            with self.lock:
                self.sock.sendall(frame(CLOSE, payload, True))
            if reader.file.read(1):
                raise Torn("bytes after Close")
        except (Torn, OSError) as error:
            self.fault = error
            print(f"client {self.number}: {error}", file=sys.stderr)
        finally:
            self.closed.set()
            self.first.set()


latest_s = 0.0


def watch_turns():
    global latest_s
    while True:
        begun = time.monotonic()
        time.sleep(0.01)
        latest_s = max(latest_s, time.monotonic() - begun - 0.01)


def main():
    front, upstream, count = map(int, sys.argv[1:4])
    listener = socket.create_server(("127.0.0.1", upstream), backlog=count)
    threading.Thread(target=accept_all, args=(listener,), daemon=True).start()
    threading.Thread(target=watch_turns, daemon=True).start()
    clients = [Client(front, number) for number in range(count)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    for client in clients:
        client.first.wait(PATIENCE_S)
    print("ready", flush=True)
    for thread in threads:
        thread.join()
    torn = len(faults) + sum(c.fault is not None for c in clients)
    print(f"clients {count} told {sum(c.told for c in clients)} torn {torn}"
          f" lost {sum(max(0, sent.get(c.number, 0) - c.got) for c in clients)}"
          f" messages {sum(c.got for c in clients)} late {latest_s * 1000:.0f}", flush=True)


main()
