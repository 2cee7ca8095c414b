"""The model of pool_lines.py: loops and workers that touch the memory of the pool in the order of the code."""

import collections
import heapq
import random

LOOP_US, WAKE_US, THINK_US, BRIEF_US, LONG_US = 10, 30, 50, 5, 100

# Requests of one kind: `queued` of them go through the queue, the rest is called in place.
Way = collections.namedtuple("Way", "name handler_us brief think_us queued looks")
Queued = collections.namedtuple("Queued", "loop job handler_us brief")


class Machine:
    """Who has which line: the last writer's core, and the cores with a valid copy."""

    def __init__(self):
        self.copies = collections.defaultdict(set)
        self.count = collections.Counter()
        self.purpose = self.holder = None  # of the step that runs; the core that has the mutex
        self.held = 0

    def moved(self, core, name):
        self.count[self.purpose, name] += 1
        self.held += self.holder == core

    def read(self, core, line, name):
        copies = self.copies[line]
        if core not in copies:
            if copies:
                self.moved(core, name)
            copies.add(core)

    def write(self, core, line, name):
        copies = self.copies[line]
        if copies != {core}:
            if copies:
                self.moved(core, name)
            self.copies[line] = {core}


class Memory(Machine):
    """The structures of the server. `core` reads or writes fields of one of them."""

    def __init__(self, made):
        super().__init__()
        self.layouts = made
        self.found = {}

    def touch(self, how, core, struct, which, fields):
        key = struct, fields
        if key not in self.found:
            lines = self.layouts[struct].lines
            self.found[key] = dict(lines[field] for field in (fields.split() if fields else lines))
        for line, name in self.found[key].items():
            how(core, (struct[:3], which, line), name)

    def r(self, core, struct, which, fields):
        self.touch(self.read, core, struct, which, fields)

    def w(self, core, struct, which, fields):
        self.touch(self.write, core, struct, which, fields)


class Pool:
    """A queue with its mutex. There is one, or --shards."""

    def __init__(self, index):
        self.index, self.queue, self.teams = index, collections.deque(), []
        self.coming = self.running = self.brief = self.warm = 0


class Team:
    def __init__(self, index, pool, workers):
        self.index, self.pool, self.permits, self.parked = index, pool, len(workers), workers
        self.place = len(pool.teams)
        pool.teams.append(self)


class Loop:
    def __init__(self, index, team):
        self.index, self.core, self.team, self.pool = index, ("loop", index), team, team.pool
        self.kept, self.made = [], 0  # jobs
        self.done, self.finishing, self.ready, self.batch = [], collections.deque(), 0, 0
        self.awake = self.rung = self.placed = False
        self.asleep = True


class Model:
    """Loops and workers, step by step as in job.c, job_run.c, job_memory.c, doors.c, pool*.c and fair.c."""

    def __init__(self, args, way):
        self.args, self.way, self.now, self.events, self.order = args, way, 0.0, [], 0
        self.m = Memory(args.layouts)
        self.r, self.w = self.m.r, self.m.w
        pools = [Pool(i) for i in range(args.shards)]
        teams = [Team(i, pools[i % args.shards], list(range(i, args.workers, args.loops))) for i in range(args.loops)]
        self.team_of = {worker: team for team in teams for worker in team.parked}
        self.loops = [Loop(i, team) for i, team in enumerate(teams)]
        self.job_of = {}  # worker -> the job that it runs
        self.counts = collections.Counter()
        for loop in self.loops:
            for _ in range(args.inflight):
                self.after(random.uniform(0, way.think_us), self.request_comes, loop)
        if way.looks:
            self.after(args.look_us, self.look, None)

    def after(self, us, step, what):
        self.order += 1
        heapq.heappush(self.events, (self.now + us, self.order, step, what))

    def run(self, requests):
        self.counts.clear()
        self.m.count.clear()
        self.m.held = 0
        while self.counts["queue"] + self.counts["place"] < requests:
            self.now, _, step, what = heapq.heappop(self.events)
            self.m.purpose = "queue"
            step(what)

    # ---- the pool ----

    def lock(self, core, pool):
        self.m.holder = core
        self.w(core, "pool", pool.index, "mu")

    def unlock(self, core, pool):
        self.w(core, "pool", pool.index, "mu")
        self.m.holder = None

    def wanted(self, core, pool):
        """pool_wanted_locked()"""
        self.r(core, "pool", pool.index, "queue.singles queue.crowded coming")
        if len(pool.queue) <= pool.coming:
            return None
        self.r(core, "pool", pool.index, "queue.kept_until_ns queue.brief")
        if len(pool.queue) - pool.brief + (pool.brief > 0) <= pool.coming:  # needed_locked()
            self.r(core, "pool", pool.index, "timed")
            return None
        self.r(core, "pool", pool.index, "teams team warm")
        for i in range(len(pool.teams)):
            team = pool.teams[(pool.warm + i) % len(pool.teams)]
            self.counts["teams"] += 1
            self.r(core, "team", team.index, "parked")
            if team.parked and team.permits:
                return self.send(core, pool, team)
        for team in pool.teams:  # absent_locked()
            self.counts["teams"] += 1
            self.r(core, "team", team.index, "threads most")
        return None

    def send(self, core, pool, team):
        worker = team.parked.pop()
        team.permits -= 1
        pool.coming += 1
        pool.warm = team.place
        self.w(core, "team", team.index, "permits parked")
        self.w(core, "worker", worker, "parked has_permit")
        self.w(core, "pool", pool.index, "coming warm")
        return worker

    def wake(self, core, worker):
        if worker is None:
            return
        self.r(core, "worker", worker, "state")
        self.w(core, "worker", worker, "asleep")
        self.counts["wakes"] += 1
        self.after(WAKE_US, self.worker_arrives, worker)

    # ---- a loop ----

    def request_comes(self, loop):
        loop.ready += 1
        self.rouse(loop)

    def rouse(self, loop):
        if loop.asleep:
            loop.asleep = False
            self.after(WAKE_US, self.loop_step, loop)

    def loop_step(self, loop):
        if loop.placed:
            self.place_ends(loop)
        elif loop.finishing:
            self.finish(loop)
        elif loop.batch:
            loop.batch -= 1
            self.begin(loop)
        else:
            self.next_turn(loop)
            if not loop.finishing and not loop.batch:
                loop.asleep = True
                return
            self.after(0, self.loop_step, loop)
            return
        self.after(LOOP_US / 2, self.loop_step, loop)

    def next_turn(self, loop):
        """doors_before_wait(), then what epoll_wait(2) tells."""
        if loop.awake:
            loop.awake = False
            self.w(loop.core, "loop", loop.index, "doors.awake")
            self.r(loop.core, "loop", loop.index, "doors.done")
        elif loop.rung:
            loop.rung = False
            self.w(loop.core, "loop", loop.index, "doors.orders")
        else:
            loop.batch, loop.ready = loop.ready, 0
            return
        if loop.done:
            self.w(loop.core, "loop", loop.index, "doors.done doors.orders")
            loop.finishing.extend(loop.done)
            loop.done = []
        loop.batch, loop.ready = loop.ready, 0

    def begin(self, loop):
        core = loop.core
        in_queue = random.random() < self.way.queued
        self.m.purpose = "queue" if in_queue else "place"
        self.w(core, "loop", loop.index, "counts.active")
        self.r(core, "place", loop.index, "estimate_ns")
        if not loop.kept:
            loop.kept.append((f"job{loop.made % 4}", (loop.index, loop.made)))
            loop.made += 1
        job = loop.kept.pop()
        if self.args.bodies:
            self.m.write(core, "job_body_bytes", "server.job_body_bytes")
        self.w(core, *job, None)
        if in_queue:
            self.submit(loop, Queued(loop, job, self.way.handler_us, self.way.brief))
        elif not self.is_placed(loop, job):
            self.submit(loop, Queued(loop, job, BRIEF_US, True))

    def submit(self, loop, queued):
        core, pool = loop.core, loop.pool
        at = "pool", pool.index
        self.lock(core, pool)
        self.r(core, *at, "closed queue.singles queue.crowded queue_max coming")  # admit_locked()
        self.w(core, *at, "taken queue.brief queue.single_tail queue.singles")
        if pool.queue:
            self.w(core, *pool.queue[-1].job, "pool_job.next")
        else:
            self.w(core, *at, "queue.single")
        self.w(core, *at, "waiting")
        pool.queue.append(queued)
        pool.brief += queued.brief
        worker = self.wanted(core, pool)
        self.unlock(core, pool)
        self.wake(core, worker)
        loop.awake = True
        self.w(core, "loop", loop.index, "doors.awake")

    def is_placed(self, loop, job):
        """pool_place(), run_placed(). False if the team has no permit."""
        core, team = loop.core, loop.team
        at = "team", team.index
        self.r(core, "pool", loop.pool.index, "teams team")
        self.r(core, *at, "has_loop fiber permits")
        if team.permits == 0:
            self.counts["not placed"] += 1
            self.m.purpose = "queue"
            return False
        self.w(core, *at, "permits begun_ns token")
        self.r(core, "pool", loop.pool.index, "monitor.asleep")
        self.w(core, "place", loop.index, "estimate_ns")
        loop.placed = job
        team.permits -= 1
        return True

    def place_ends(self, loop):
        core, team, pool = loop.core, loop.team, loop.pool
        self.m.purpose = "place"
        self.w(core, "team", team.index, "token permits")
        team.permits += 1
        self.r(core, "pool", pool.index, "waiting")
        if pool.queue:
            self.counts["locks"] += 1
            self.lock(core, pool)
            worker = self.wanted(core, pool)
            self.unlock(core, pool)
            self.wake(core, worker)
        self.end(loop, loop.placed, "place")
        loop.placed = False

    def finish(self, loop):
        job = loop.finishing.popleft()
        self.w(loop.core, *job, "finished")
        self.r(loop.core, *job, "link_done inflight dropped exchange.text exchange.status text")
        self.end(loop, job, "queue")

    def end(self, loop, job, way):
        """on_end(), job_free()"""
        self.w(loop.core, "loop", loop.index, "counts.active counts.answered")
        if self.args.bodies:
            self.m.write(loop.core, "job_body_bytes", "server.job_body_bytes")
        self.r(loop.core, *job, "body_bytes exchange.text room_bytes")
        self.w(loop.core, *job, "link_done")
        loop.kept.append(job)
        self.counts[way] += 1
        self.after(random.expovariate(1 / self.way.think_us), self.request_comes, loop)

    # ---- a worker ----

    def worker_arrives(self, worker):
        core, pool = ("worker", worker), self.team_of[worker].pool
        self.r(core, "worker", worker, "asleep")
        self.lock(core, pool)
        pool.coming -= 1
        self.w(core, "pool", pool.index, "timed coming")
        self.r(core, "worker", worker, "has_permit")
        self.go_on(worker)

    def go_on(self, worker):
        """drove_locked(), did_job_locked(), idled_locked()"""
        core, team = ("worker", worker), self.team_of[worker]
        pool, at = team.pool, ("pool", team.pool.index)
        self.r(core, "team", team.index, "token")
        self.r(core, *at, "queue.singles queue.crowded")
        if not pool.queue:
            self.park(worker)
            return
        self.r(core, *at, "queue.kept_until_ns most")
        queued = pool.queue.popleft()
        job = queued.job
        pool.running += 1
        pool.brief -= queued.brief
        self.r(core, *job, "pool_job.next pool_job.share pool_job.brief pool_job.owner pool_job.crowded")
        self.w(core, *at, "queue.singles_in_a_row queue.single queue.singles queue.brief waiting running")
        if not pool.queue:
            self.w(core, *at, "queue.single_tail")
        self.w(core, *job, "pool_job.ran")
        self.job_of[worker] = queued
        other = self.wanted(core, pool)
        self.unlock(core, pool)
        self.wake(core, other)
        self.r(core, *job, "pool_job.came_ns")
        self.w(core, "worker", worker, "waits waited_ns")
        self.w(core, *job, "pool_job.started")
        self.r(core, *job, "pool_job.run gone slot loop exchange.method begun_ns handler strings exchange.query")
        self.r(core, "place", queued.loop.index, "estimate_ns")
        self.after(random.expovariate(1 / queued.handler_us), self.ran, worker)

    def park(self, worker):
        core, team = ("worker", worker), self.team_of[worker]
        self.w(core, "worker", worker, "has_permit parked below asleep")
        self.w(core, "team", team.index, "permits parked")
        self.r(core, "pool", team.pool.index, "leaving watched")
        self.w(core, "pool", team.pool.index, "timed")
        team.permits += 1
        team.parked.append(worker)
        self.unlock(core, team.pool)

    def ran(self, worker):
        """The handler has returned: place_end(), loop_push_done(), pool_leave_locked()."""
        core, pool = ("worker", worker), self.team_of[worker].pool
        loop, job, _, _ = self.job_of.pop(worker)
        self.w(core, *job, "exchange.text exchange.text_bytes text took_ns")
        self.w(core, "place", loop.index, "estimate_ns")
        self.w(core, *job, "link_done")
        self.w(core, "loop", loop.index, "doors.done")
        if not loop.done and not loop.awake:
            self.w(core, "loop", loop.index, "doors.orders")
            self.counts["rings"] += 1
            loop.rung = True
            self.rouse(loop)
        loop.done.append(job)
        self.lock(core, pool)
        pool.running -= 1
        self.w(core, "pool", pool.index, "running")
        self.r(core, "pool", pool.index, "queue.singles queue.crowded")
        if not pool.queue and pool.running == 0:
            self.r(core, "pool", pool.index, "idle watched")
        self.go_on(worker)

    # ---- the monitor ----

    def look(self, _):
        self.m.purpose = "place"
        for loop in self.loops:
            self.r("monitor", "pool", loop.pool.index, "teams team monitor.stopping")
            self.r("monitor", "team", loop.team.index, "token begun_ns")
        self.after(self.args.look_us, self.look, None)
