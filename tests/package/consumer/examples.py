#!/usr/bin/env python3
"""Build the examples against an installed lastcall, as their first lines say, and stop each under load.

    examples.py [--root FOLDER] [--prefix /usr] [--stops 20]

Everything that was answered must have been done, nothing that a server has accepted may be left without an answer, and
the status is 0. Needs no file of lastcall's tree but this folder."""

from __future__ import annotations

import argparse
import http.client
import json
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from build import Failed, Installation, run

CLIENTS = 8
BEFORE_THE_STOP = 40  # answers, of all clients together
LIMIT_S = 60
# What an example is linked with beside the library.
MORE = {"notes": ("sqlite3", "jansson")}


class Server:
    """An example that runs: its port is in the log."""

    def __init__(self, here: Installation, program: Path, *arguments: str):
        self.process = subprocess.Popen([str(program), *arguments, "127.0.0.1:0"], env=here.env, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self.port = 0
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"listening on 127\.0\.0\.1:(\d+)", line):
                self.port = int(found.group(1))
                break
        if not self.port:
            raise Failed(f"{program.name} does not listen:\n{self.log()}")
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stderr))
        self.reader.start()

    def log(self) -> str:
        return "".join(self.lines)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Wait for the end, which has to be a clean one."""
        try:
            status = self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = "none: it was killed"
        self.reader.join()
        if status != 0:
            raise Failed(f"{self.process.args}: status {status}\n{self.log()}")


class Client(threading.Thread):
    """Sends one request after the other, each on a connection of its own, until none is accepted."""

    def __init__(self, port: int, number: int, send, counted: threading.Semaphore):
        super().__init__()
        self.port, self.number, self.send, self.counted = port, number, send, counted
        self.done: list = []
        self.fault = ""

    def run(self) -> None:
        n = 0
        while not self.fault:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return
            except OSError as error:
                self.fault = f"connect: {error}"
                return
            try:
                self.done.append(self.send(connection, self.number, n))
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.fault = f"client {self.number}, request {n}: {error!r}"
            connection.close()
            self.counted.release()
            n += 1


def answer(connection: http.client.HTTPConnection, want: int) -> bytes:
    response = connection.getresponse()
    body = response.read()
    if response.status != want:
        raise ValueError(f"status {response.status}: {body[:200]!r}")
    return body


def load(server: Server, send) -> list:
    """Stop it under load. Returns what the clients had an answer for."""
    counted = threading.Semaphore(0)
    clients = [Client(server.port, number, send, counted) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for _ in range(BEFORE_THE_STOP):
        if not counted.acquire(timeout=LIMIT_S):
            break
    server.stop()
    for client in clients:
        client.join()
    faults = [client.fault for client in clients if client.fault]
    server.end()
    if faults:
        raise Failed(f"{len(faults)} faults, the first: {faults[0]}\n{server.log()}")
    done = [one for client in clients for one in client.done]
    if len(done) < BEFORE_THE_STOP:
        raise Failed(f"only {len(done)} answers")
    return done


# ---- an example each: start(arguments) gives a server, which the function stops


def hello(start, _folder: Path) -> None:
    def send(connection, _number, _n):
        connection.request("GET", "/")
        if answer(connection, 200) != b"Hello World\n":
            raise ValueError("another text")

    load(start(), send)


def notes(start, folder: Path) -> None:
    def send(connection, number, n):
        text = f"{number}-{n}"
        connection.request("POST", "/notes", json.dumps({"text": text}))
        json.loads(answer(connection, 201))
        return text

    done = load(start(str(folder / "notes.db")), send)
    with sqlite3.connect(folder / "notes.db") as db:
        rows = sorted(row[0] for row in db.execute("SELECT text FROM notes"))
    if rows != sorted(done):
        raise Failed(f"{len(done)} notes were answered with 201, and {len(rows)} are there")


def upload(start, folder: Path) -> None:
    def send(connection, number, n):
        name, content = f"{number}-{n}", bytes([97 + (number + n) % 26]) * 6000
        connection.request("PUT", f"/files/{name}", content)
        answer(connection, 201)
        return name, content

    for name, content in load(start(str(folder)), send):
        if (folder / name).read_bytes() != content:
            raise Failed(f"{name} was answered with 201, and is not whole")
    left = [path.name for path in folder.iterdir() if path.name.startswith(".lc-")]
    if left:
        raise Failed(f"left over: {left}")


def streams(start, path: str, last: re.Pattern) -> None:
    """Readers of an answer without an end: each gets a whole one, with a last line."""
    server = start()
    bodies: list[bytes | str] = []
    begun = threading.Semaphore(0)

    def read() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LIMIT_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            first = response.read(1)
            begun.release()
            bodies.append(first + response.read())
        except (OSError, http.client.HTTPException) as error:  # IncompleteRead: a broken answer
            bodies.append(repr(error))
            begun.release()

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in threads:
        begun.acquire(timeout=LIMIT_S)
    server.stop()
    for thread in threads:
        thread.join()
    server.end()
    wrong = [body for body in bodies if isinstance(body, str) or not last.search(body[-200:])]
    if wrong:
        raise Failed(f"{path}: {len(wrong)} of 3 are no whole answers: {wrong[0][-200:]!r}\n{server.log()}")


def primes(start, _folder: Path) -> None:
    streams(start, "/primes?from=1000", re.compile(rb"# go on with \?from=\d+\n$"))


def clock(start, _folder: Path) -> None:
    streams(start, "/clock", re.compile(rb"event: bye\ndata: [\d:]+\n\n$"))


# clock is a path of the program primes.
CASES = (("hello", hello), ("notes", notes), ("upload", upload), ("primes", primes), ("primes", clock))


def build_example(here: Installation, source: Path, folder: Path) -> Path:
    program = folder / source.stem
    flags = run("pkg-config", "--cflags", "--libs", "lastcall", *MORE.get(source.stem, ()), env=here.env).split()
    run("cc", "-Wall", "-Wextra", "-Werror", source, *flags, "-o", program, env=here.env)
    return program


def main() -> int:
    parser = argparse.ArgumentParser(description="Build and stop the examples of an installed lastcall.")
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--prefix", default="/usr")
    parser.add_argument("--stops", type=int, default=20)
    args = parser.parse_args()
    try:
        here = Installation(args.root, args.prefix)
        sources = list(here.top.glob("share/doc/*/examples/hello.c"))
        if len(sources) != 1:
            raise Failed(f"no examples below {here.top}/share/doc")
        with tempfile.TemporaryDirectory(prefix="lastcall-examples-") as name:
            for stem, case in CASES:
                begun = time.monotonic()
                program = build_example(here, sources[0].with_name(f"{stem}.c"), Path(name))
                for _ in range(args.stops):
                    with tempfile.TemporaryDirectory(dir=name) as folder:
                        case(lambda *arguments: Server(here, program, *arguments), Path(folder))
                print(f"ok      {case.__name__}: {args.stops} stops in {time.monotonic() - begun:.0f} s", flush=True)
    except (Failed, subprocess.TimeoutExpired) as error:
        print(f"FAILED  {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
