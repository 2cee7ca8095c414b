#!/usr/bin/env python3
"""An admin listener that misbehaves, or does in two seconds what a server needs a drain for.

    fake_admin.py FOLDER MODE...

Listens on a Unix socket FOLDER/MODE for each MODE, and writes a line to standard output once it does.
MODE says how it answers there:

    drain:N     well; POST /drain begins a drain of two seconds that ends with exit status N
    mute        as drain:0, but the stream ends in the middle of the drain, without a status
    called-off  as drain:0, but the drain is called off in the middle
    silent      accepts, and never answers
    closes      accepts, and closes
    garbage     answers, but not in HTTP
    page        answers everything with an HTML page and status 200
    schema      as drain:0, but of a schema to come
    401, 403, 404, 409, 500   answers everything with an error of that status

Time goes on with the events that it sends, one each 50 ms: on a busy machine it skips none of its steps.
"""

import json
import os
import socket
import sys
import threading
import time

EVERY = 0.05  # seconds between two events

ERRORS = {
    401: ("unauthorized", "orders want a token"),
    403: ("forbidden", "orders are not taken here: no token file is configured"),
    409: ("past-no-return", "cannot call the drain off: the listeners are closing"),
}
STEPS = [  # seconds since the order, phase, requests in flight, open connections
    (0.0, "lame-duck", 3, 5),
    (0.2, "closing", 3, 5),
    (0.4, "draining", 2, 2),
    (1.6, "draining", 1, 1),
    (1.8, "done", 0, 0),
]


class Fake:
    def __init__(self, mode):
        self.mode = mode
        self.order = None  # what it said
        self.since = None  # seconds since the drain began
        self.exit_status = int(mode.split(":")[1]) if mode.startswith("drain:") else 0

    def status(self):
        step = (0, "running", 3, 5)
        since = self.since
        if since is not None:
            step = [s for s in STEPS if s[0] <= since][-1]
        request = {
            # A path that would clear the screen, and colour what follows, if it were shown as it is.
            "method": "GET", "path": "/\u001b[2J\u001b[31m\u009b31m?\u202e", "authority": "localhost",
            "peer": "127.0.0.1:51234", "state": "running", "age_ms": 1234.5, "body_bytes": 0,
            "sent_bytes": 0,
        }
        in_flight, done = step[2], step[1] == "done"
        if done and self.exit_status != 0:
            in_flight = 2
        status = {
            "schema": 2 if self.mode == "schema" else 1, "server": "lastcall/0.1.0",
            "pid": os.getpid(), "started": "2026-11-25T22:00:00.000Z", "uptime_s": 12.345,
            "phase": step[1], "ready": since is None, "live": True,
            "listeners": ["127.0.0.1:8080", "unix:/tmp/other"],
            "requests": {"in_flight": in_flight, "answered": 1234, "given_up": 0, "shed": 0,
                         "per_second": 210.5},
            "connections": {"open": step[3], "lingering": 0, "accepted": 57, "idle_released": 0,
                            "max": 1024},
            "pool": {"workers": 8, "running": in_flight, "queued": 0, "queue": 1024, "taken": 60,
                     "refused": 0},
            "oldest": [request] * in_flight, "oldest_left_out": 0, "drain": None,
        }
        if since is not None:
            reason = (self.order or {}).get("reason", "")
            status["drain"] = {
                "triggers": [{"name": "admin", "detail": reason, "at_ms": 0}],
                "triggers_left_out": 0,
                "phases": [{"phase": s[1], "at_ms": 1000 * s[0]} for i, s in enumerate(STEPS)
                           if s[0] <= since and (i == 0 or STEPS[i - 1][1] != s[1])],
                "can_be_called_off": step[1] == "lame-duck",
                "lame_duck_left_ms": 1000 * (0.2 - since) if step[1] == "lame-duck" else None,
                "deadline_ms": 10000, "left_ms": None if step[1] == "lame-duck" else 8123.4,
                "began_with": {"in_flight": 3, "connections": 5}, "answered": 3 - in_flight,
                "idle_released": 2,
            }
        if done:
            status["exit_status"] = self.exit_status
        return status

    def answer(self, peer, code, body, kind="application/json"):
        body = body if isinstance(body, str) else json.dumps(body)
        peer.sendall(f"HTTP/1.1 {code} So\r\nContent-Type: {kind}\r\nContent-Length: "
                     f"{len(body.encode())}\r\nConnection: close\r\n\r\n{body}".encode())

    def events(self, peer):
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                     b"Connection: close\r\n\r\n: hello\n\n")
        while True:
            if self.mode == "called-off" and (self.since or 0) > 0.3:
                self.since = None
            status = self.status()
            peer.sendall(b"event: status\r\ndata: " + json.dumps(status).encode() + b"\r\n\r\n")
            if "exit_status" in status or (self.mode == "mute" and (self.since or 0) > 0.5):
                return
            time.sleep(EVERY)
            if self.since is not None:
                self.since += EVERY

    def serve(self, peer):
        with peer:
            if self.mode == "closes":
                return
            text = b""
            while b"\r\n\r\n" not in text:
                piece = peer.recv(65536)
                if not piece:
                    return
                text += piece
            head, _, body = text.partition(b"\r\n\r\n")
            method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
            length = [int(line.split(b":")[1]) for line in head.split(b"\r\n")
                      if line.lower().startswith(b"content-length:")]
            while length and len(body) < length[0]:
                body += peer.recv(65536)
            if self.mode == "silent":
                peer.recv(1)
            elif self.mode == "garbage":
                peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            elif self.mode == "page":
                self.answer(peer, 200, "<!doctype html><title>hello</title>", "text/html")
            elif self.mode in ("401", "403", "409"):
                code, message = ERRORS[int(self.mode)]
                self.answer(peer, int(self.mode), {"error": {"code": code, "message": message}})
            elif self.mode.isdigit():
                self.answer(peer, int(self.mode), "<h1>no</h1>", "text/html")
            elif path == "/events":
                self.events(peer)
            elif method == "POST":
                self.order = json.loads(body) if body else {}
                if path == "/drain":
                    self.since = 0.0
                self.answer(peer, 202, {})
            else:
                self.answer(peer, 200, self.status())

    def serve_quietly(self, peer):
        try:
            self.serve(peer)
        except OSError:
            pass  # it has left


def accept(listener, mode):
    fake = Fake(mode)
    while True:
        peer = listener.accept()[0]
        threading.Thread(target=fake.serve_quietly, args=(peer,), daemon=True).start()


def main():
    folder, modes = sys.argv[1], sys.argv[2:]
    for mode in modes:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(folder, mode))
        listener.listen(16)
        thread = threading.Thread(target=accept, args=(listener, mode), daemon=True)
        thread.start()
    print("listening", flush=True)
    thread.join()


main()
