"""On which cache line each field of the pool, of its teams, workers and jobs, and of a loop's doors is.

The numbers are offsets on x86-64. pool_lines.py --binary reads them from a binary with debug information instead, with
gdb(1). By hand:

    gdb -batch -nx -ex 'ptype /o struct pool' -ex 'ptype /o struct pool_team' -ex 'ptype /o struct pool_worker' \\
        -ex 'ptype /o struct job' -ex 'ptype /o struct loop' build/debug/lastcall
"""

import subprocess

LINE = 64
STRUCTS = {"pool": "pool", "team": "pool_team", "worker": "pool_worker", "job": "job", "loop": "loop"}
# The fields that the model touches. The first one of a line gives it its name in the table.
OFFSETS = {
    "pool": {"mu": 128, "teams": 56, "team": 64, "queue_max": 0, "most": 24, "queue.single": 168,
             "queue.single_tail": 176, "queue.singles": 184, "queue.crowded": 208, "queue.brief": 216,
             "queue.singles_in_a_row": 240, "coming": 264, "queue.kept_until_ns": 248, "running": 256, "warm": 272,
             "closed": 276, "leaving": 277, "watched": 278, "taken": 288, "timed": 312, "idle": 328, "waiting": 448,
             "monitor.asleep": 524, "monitor.stopping": 528},
    "team": {"most": 16, "has_loop": 20, "fiber": 56, "parked": 72, "threads": 64, "token": 128, "permits": 136,
             "begun_ns": 144, "driver": 152},
    "worker": {"state": 16, "team": 8, "parked": 20, "has_permit": 21, "below": 24, "asleep": 64, "waits": 80,
               "waited_ns": 224},
    "job": {"pool_job.run": 0, "pool_job.done": 8, "pool_job.dropped": 16, "pool_job.came_ns": 24,
            "pool_job.share": 32, "pool_job.brief": 40, "pool_job.next": 48, "pool_job.owner": 56, "pool_job.ran": 64,
            "pool_job.started": 73, "pool_job.crowded": 74, "pool_job.placed_ns": 80, "exchange.method": 88,
            "exchange.path": 96, "exchange.query": 104, "exchange.status": 128, "exchange.text": 144,
            "exchange.text_bytes": 152, "exchange.scratch": 160, "handler": 176, "link_done": 184, "loop": 192,
            "place": 200, "gone": 208, "inflight": 216, "finished": 248, "dropped": 250, "authority": 256,
            "begun_ns": 264, "body_bytes": 272, "room_bytes": 280, "slot": 288, "took_ns": 296},
    "loop": {"doors.done": 2264, "doors.fd": 2240, "doors.orders": 2256, "doors.awake": 2272, "counts.active": 2280,
             "counts.answered": 2304},
}
JOB_BYTES = 304
# After struct job (job_memory.c): the short answer's text, then copies of the method, the path and the host's name.
SCRATCH_BYTES, ROOM_BYTES = 256, 1024


def read_offsets(binary):
    """The same, from a binary. Raises OSError if gdb is missing or does not find a field."""
    asked = [(struct, field) for struct, fields in OFFSETS.items() for field in fields]
    words = ["gdb", "-batch", "-nx"]
    for struct, field in asked:
        words += ["-ex", f"printf \"%d\\n\", (long)&((struct {STRUCTS[struct]} *)0)->{field}"]
    words += ["-ex", "printf \"%d\\n\", (int)sizeof(struct job)", binary]
    said = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    numbers = said.stdout.split()
    if len(numbers) != len(asked) + 1 or not all(number.isdecimal() for number in numbers):
        raise OSError(f"gdb does not tell where the fields of {binary} are: {said.stderr.strip()[:200]}")
    offsets = {struct: {} for struct in OFFSETS}
    for (struct, field), number in zip(asked, numbers):
        offsets[struct][field] = int(number)
    return offsets, int(numbers[-1])


class Layout:
    """Which line each field of a structure is on, and that line's name."""

    def __init__(self, struct, fields, begin=0, name=None):
        names, self.lines = {}, {}
        for field, offset in fields.items():
            line = (begin + offset) // LINE
            self.lines[field] = line, names.setdefault(line, name or f"{struct}.{field}")


def layouts(offsets, job_bytes):
    """All of them. malloc(3) puts jobs one after the other, so they begin at four places of a line: `job0` to `job3`.
    The rest of the structures is aligned."""
    made = {struct: Layout(struct, offsets[struct]) for struct in ("pool", "team", "worker", "loop")}
    room = {"text": job_bytes, "strings": job_bytes + SCRATCH_BYTES}
    chunk = (job_bytes + ROOM_BYTES + 8 + 15) // 16 * 16
    for k in range(4):
        made[f"job{k}"] = Layout("job", offsets["job"] | room, (16 + k * chunk) % LINE, "job")
    made["place"] = Layout("place", {"estimate_ns": 0}, 0, "place")
    return made
