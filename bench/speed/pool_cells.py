"""Which loads pool.py puts on which server."""

from __future__ import annotations

from dataclasses import dataclass, field

from pool_servers import PATHS, SPEAKS_H2, SUBJECTS, Stand

CONNECTIONS = (1, 64, 512)
WORKERS = (2, 8, 32, 128, 256)
POOLED = ("place", "queue")
SHED_WORKERS, SHED_QUEUE, SHED_CONNECTIONS, SHED_REQUESTS = 8, 64, 512, 100_000
HANDLERS = {"once": "returns at once", "burn": "computes 20 us", "sleep1": "sleeps 1 ms", "sleep5": "sleeps 5 ms",
            "rare": "1 in 1,000 sleeps 20 ms", "never": "the same, without sleep"}


@dataclass(frozen=True)
class Cell:
    """One load. Cells of the same handler, protocol and connections are compared between subjects."""

    handler: str
    protocol: str  # h1, h2
    connections: int
    workers: int = 0  # 0: as many as the server takes by itself
    beside: bool = field(default=False, compare=False)  # a second load asks for /hello
    requests: int = 0  # so many, however long they take; 0: for options.seconds


SHED = Cell("sleep5", "h1", SHED_CONNECTIONS, SHED_WORKERS, requests=SHED_REQUESTS)


def main_cells(subject, quick):
    """With as many workers as the server takes by itself."""
    cells = []
    serves = PATHS[subject]
    for connections in CONNECTIONS:
        if not quick or connections != 1:
            cells.append(Cell("once", "h1", connections))
            if "burn" in serves and not quick:
                cells.append(Cell("burn", "h1", connections))
        if subject in SPEAKS_H2 and not quick:
            cells.append(Cell("once", "h2", connections))
            if "burn" in serves:
                cells.append(Cell("burn", "h2", connections))
        if "rare" in serves and (not quick or (subject in POOLED and connections == 64)):
            cells += [Cell(handler, "h1", connections, beside=subject in POOLED) for handler in ("never", "rare")]
        if "sleep1" in serves and not quick and (connections == 1 or subject not in POOLED):
            cells += [Cell(handler, "h1", connections) for handler in ("sleep1", "sleep5")]
    return sorted(cells, key=lambda cell: (list(HANDLERS).index(cell.handler), cell.protocol))


def worker_cells(workers, quick):
    if quick:
        return [Cell("sleep5", "h1", 512, 128)] if workers == 128 else []
    cells = [Cell(handler, "h1", connections, workers)
             for handler in ("sleep1", "sleep5") for connections in (64, 512)]
    return cells + ([Cell("sleep5", "h2", 64, workers)] if workers == 128 else [])


def plan(options, skipped):
    """Stand -> its cells, in the order of a round."""
    subjects = [name for name in SUBJECTS if name not in skipped]
    if options.quick:
        subjects = [name for name in subjects if name in ("inline", "place", "queue", "go")]
    stands = {Stand(subject): main_cells(subject, options.quick) for subject in subjects}
    for subject in POOLED:
        if subject not in subjects:
            continue
        for workers in WORKERS:
            cells = worker_cells(workers, options.quick)
            if cells:
                stands[Stand(subject, workers)] = cells
        stands[Stand(subject, SHED_WORKERS, SHED_QUEUE)] = [SHED]
    return stands
