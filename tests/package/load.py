#!/usr/bin/env python3
"""Send requests until standard input ends, then print what happened: `N answered, N failed`, and each failure.

    load.py URL THREADS

Half of the threads open a connection for each request, half keep one, as long as the server does. A kept connection
that the server closes between two requests is no failure; one that it closes after a request was sent is."""

from __future__ import annotations

import http.client
import sys
import threading
import urllib.parse

LIMIT_S = 30


class Load:
    def __init__(self, url: str):
        self.address = urllib.parse.urlsplit(url)
        self.ending = threading.Event()
        self.lock = threading.Lock()
        self.answered = 0
        self.failures: list[str] = []

    def ask(self, connection: http.client.HTTPConnection) -> bool:
        """One request. Does the server keep the connection?"""
        connection.request("GET", self.address.path or "/")
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise OSError(f"status {answer.status}")
        with self.lock:
            self.answered += 1
        return not answer.will_close

    def thread(self, keep: bool) -> None:
        connection = None
        while not self.ending.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(self.address.hostname, self.address.port or 80, timeout=LIMIT_S)
                if not self.ask(connection) or not keep:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                with self.lock:
                    self.failures.append(f"{'kept' if keep else 'new'}: {type(error).__name__}: {error}")
                connection = None
                self.ending.wait(0.05)


def main() -> int:
    load = Load(sys.argv[1])
    threads = [threading.Thread(target=load.thread, args=(i % 2 == 1,)) for i in range(int(sys.argv[2]))]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    load.ending.set()
    for thread in threads:
        thread.join()
    print(f"{load.answered} answered, {len(load.failures)} failed")
    for failure in load.failures[:10]:
        print(failure)
    return 1 if load.failures or load.answered == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
