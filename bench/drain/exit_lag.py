#!/usr/bin/env python3
"""How long does the process live after its last response?

For each situation, RUNS times: start lastcall, send 8 requests of random duration, send SIGTERM, and measure
the time from the last byte of the last response at the client to the exit. The situations differ in the other
connections.

    idle connections   are opened before; idle-grace is so short that it ends before the last response
    HTTP/2             8 connections, each with an open session; the requests are HTTP/1

The client measures the times: a single-threaded Python loop on the same machine, so its own delay is included.
"""

import argparse
import json
import os
import random
import select
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BINARY = os.path.join(HERE, "..", "..", "build", "release", "lastcall")


def start(binary, extra):
    server = subprocess.Popen(
        [binary, "--listen", "127.0.0.1:0", "--threads", "2"] + extra, stderr=subprocess.PIPE
    )
    line = ""
    for raw in server.stderr:
        line = raw.decode().strip()
        if " listening on " in line:
            return server, int(line.rsplit(":", 1)[1])
    sys.exit(f"exit_lag: {binary} did not start: {line}")


def connect(port):
    return socket.create_connection(("127.0.0.1", port))


def h2_session(port):
    """An HTTP/2 session with one request answered, then idle."""
    sock = connect(port)
    frame = lambda kind, flags, stream, body: (
        len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body
    )
    block = b"\x82\x86\x04\x06/hello\x41\x01t"
    sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 5, 1, block))
    got = b""
    while b"Hello World\n" not in got:
        got += sock.recv(65536)
    sock.sendall(frame(4, 1, 0, b""))
    return sock


def one_run(binary, idle, h2, keep_open):
    server, port = start(binary, ["--idle-grace", "20ms"])
    others = [connect(port) for _ in range(idle)]
    for sock in others:
        sock.sendall(b"GET /hello HTTP/1.1\r\nHost: t\r\n\r\n")
    for sock in others:
        sock.recv(4096)
    sessions = [h2_session(port) for _ in range(h2)]
    watch = selectors.DefaultSelector()
    waiting = {}
    for _ in range(8):
        sock = connect(port)
        sock.sendall(
            f"GET /sleep?ms={random.randint(150, 400)} HTTP/1.1\r\nHost: t\r\n\r\n".encode()
        )
        waiting[sock] = b""
        watch.register(sock, selectors.EVENT_READ)
    for sock in sessions:
        watch.register(sock, selectors.EVENT_READ)
    time.sleep(0.05)
    pidfd = os.pidfd_open(server.pid)
    server.send_signal(signal.SIGTERM)
    last = None
    while waiting:
        for key, _ in watch.select(10):
            sock = key.fileobj
            bytes_in = sock.recv(65536)
            now = time.monotonic()
            if sock not in waiting:
                if not bytes_in:  # a session that the server has closed
                    watch.unregister(sock)
                    sock.close()
                continue
            waiting[sock] += bytes_in
            if waiting[sock].endswith(b"\r\n\r\n0\n"):
                last = now
                del waiting[sock]
                watch.unregister(sock)
                if keep_open:
                    others.append(sock)
                else:
                    sock.close()
            elif not bytes_in:
                sys.exit(f"exit_lag: a response was lost: {waiting[sock]!r}")
    select.select([pidfd], [], [], 10)
    end = time.monotonic()
    os.close(pidfd)
    status = server.wait()
    err = server.stderr.read().decode()
    server.stderr.close()
    for sock in others + sessions:
        sock.close()
    if status != 0:
        sys.exit(f"exit_lag: exit status {status}; log:\n{err}")
    return (end - last) * 1000


def deadline_run(binary):
    """Every worker is blocked for a minute and ignores its cancellation: how long after the deadline is the exit?"""
    server, port = start(binary, ["--deadline", "200ms", "--workers", "8"])
    socks = [connect(port) for _ in range(8)]
    for sock in socks:
        sock.sendall(b"GET /sleep?ms=60000&ignore-cancel=1 HTTP/1.1\r\nHost: t\r\n\r\n")
    time.sleep(0.05)
    pidfd = os.pidfd_open(server.pid)
    begin = time.monotonic()
    server.send_signal(signal.SIGTERM)
    select.select([pidfd], [], [], 10)
    end = time.monotonic()
    os.close(pidfd)
    status = server.wait()
    server.stderr.close()
    for sock in socks:
        sock.close()
    if status != 3:
        sys.exit(f"exit_lag: exit status {status} at the deadline")
    return (end - begin) * 1000 - 200


def stolen():
    """Stolen time of all cores in ticks, and all their time."""
    with open("/proc/stat") as stat:
        numbers = [int(n) for n in stat.readline().split()[1:]]
    return numbers[7], sum(numbers)


SITUATIONS = [
    ("8 requests in flight", 0, 0, False),
    ("and 1,000 idle connections", 1000, 0, False),
    ("and 8 HTTP/2 sessions", 0, 8, False),
    ("clients that keep their side open", 0, 0, True),
]


def main():
    parser = argparse.ArgumentParser(description="Exit time after the last response, in ms.")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--binary", default=BINARY)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    rows = []
    before = stolen()

    def measure(name, want_median, want_max, run_once):
        lags = []
        for run in range(args.runs):
            if sys.stdout.isatty():
                print(f"\r{name}: {run + 1}/{args.runs}", end="", flush=True)
            lags.append(run_once())
        lags.sort()
        median, worst = statistics.median(lags), lags[-1]
        ok = median <= want_median and worst <= want_max
        rows.append({"situation": name, "median_ms": median, "max_ms": worst, "ok": ok})
        print(
            f"{chr(13) if sys.stdout.isatty() else ''}{name:<36}{median:>8.2f}"
            f"{lags[int(len(lags) * 0.9)]:>8.2f}{worst:>8.2f}  "
            f"expected {want_median} and {want_max}: {'ok' if ok else 'NOT MET'}"
        )

    print(f"exit after the last response, {args.runs} runs each, milliseconds")
    print(f"{'situation':<36}{'median':>8}{'p90':>8}{'max':>8}")
    for name, idle, h2, keep_open in SITUATIONS:
        measure(name, 2, 10, lambda: one_run(args.binary, idle, h2, keep_open))
    print("exit after the deadline")
    measure("8 workers blocked for a minute", 50, 50, lambda: deadline_run(args.binary))
    after = stolen()
    print(
        f"meanwhile the hypervisor took {100 * (after[0] - before[0]) / (after[1] - before[1]):.1f} %"
        " of this machine's time"
    )
    if args.json:
        with open(args.json, "w") as out:
            json.dump(rows, out, indent=2)
    sys.exit(0 if all(row["ok"] for row in rows) else 1)


if __name__ == "__main__":
    main()
