"""What the upstream of soak.py does, by the path of a request, and what its client may get for it.

    /f/KIND/SIZE/NUMBER

NUMBER is unique in a run; bodies are made of it, so that an answer to another request is noticed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

ROUTE, REFUSED = "/f", "/refused"
FIRST_BYTE_MS, IO_MS, KEPT_MS = 3000, 3000, 700  # of the front; the upstream here may be slow itself
KEPT_S = 5  # how long the front waits for the next request
CUT = "cut"  # the client has a part of an answer, and sees that it is one
LOST = "lost"  # the connection has ended without a byte of an answer


@dataclass(frozen=True)
class Kind:
    weight: int
    outcomes: tuple[str, ...]  # a status, or CUT
    methods: tuple[str, ...] = ("GET",)
    size: tuple[int, int] = (0, 20000)  # of the answer
    body: tuple[int, int] = (1, 4000)  # of the request, if it is a POST
    ends_whole: bool = True  # the client's connection can go on


ANY = ("GET", "GET", "POST", "HEAD")
BOTH = ("GET", "POST")

KINDS: dict[str, Kind] = {
    # whole answers
    "length": Kind(40, ("200",), ANY),
    "chunked": Kind(20, ("200",), ANY),
    "close": Kind(6, ("200",), BOTH),  # no length: the end of the connection ends it
    "hang-up": Kind(10, ("200",), ANY),  # with a length; then it closes without a notice
    "interims": Kind(4, ("200",), BOTH),
    "slow": Kind(4, ("200",), BOTH, (1000, 20000)),  # in pieces, with pauses below the time-outs
    "large": Kind(3, ("200",), ("GET",), (200000, 1000000)),
    "upload": Kind(2, ("200",), ("POST",), (0, 100), (200000, 2000000)),
    "early": Kind(1, ("413",), ("POST",), (10, 10), (2000000, 3000000), ends_whole=False),
    # no answer
    "mute-close": Kind(3, ("502",), BOTH),
    "mute-reset": Kind(3, ("502",), BOTH),
    "head-close": Kind(2, ("502",), BOTH),
    "head-reset": Kind(2, ("502",), BOTH),
    "after-head": Kind(2, ("502",), BOTH, (1, 1000)),
    "garbage": Kind(2, ("502",), BOTH),
    "large-head": Kind(1, ("502",), BOTH),
    "endless": Kind(1, ("502",), BOTH),  # interim answers
    "two-lengths": Kind(1, ("502",), BOTH),
    "refused": Kind(3, ("502",), BOTH),
    "hang": Kind(2, ("504",), BOTH),
    "hang-head": Kind(1, ("504",), BOTH),
    # a part of one; 502 or 504 where nothing of it was passed on yet
    "cut-length": Kind(3, (CUT, "502"), BOTH, (100, 100000), ends_whole=False),
    "cut-chunked": Kind(3, (CUT, "502"), BOTH, (100, 100000), ends_whole=False),
    "reset-length": Kind(3, (CUT, "502"), BOTH, (100, 100000), ends_whole=False),
    "bad-chunk": Kind(2, (CUT, "502"), BOTH, (100, 1000), ends_whole=False),
    "hang-body": Kind(1, (CUT, "504"), BOTH, (100, 100000), ends_whole=False),
}
# A kept connection that ends while a POST is on its way cannot be told from one that ends because of it.
RACE = "502"


@dataclass(frozen=True)
class Request:
    kind: str
    method: str
    size: int
    body: int  # 0: none
    number: int

    @property
    def path(self) -> str:
        return f"{REFUSED if self.kind == 'refused' else ROUTE}/{self.kind}/{self.size}/{self.number}"


def draw(rng: random.Random, number: int, kinds: list[str] | None = None) -> Request:
    names = kinds or list(KINDS)
    name = rng.choices(names, [KINDS[n].weight for n in names])[0]
    kind = KINDS[name]
    method = rng.choice(kind.methods)
    return Request(name, method, rng.randint(*kind.size), rng.randint(*kind.body) if method == "POST" else 0, number)


def bytes_of(number: int, size: int) -> bytes:
    word = b"%015d " % number
    return (word * (size // len(word) + 1))[:size]
