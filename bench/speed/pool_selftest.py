#!/usr/bin/env python3
"""Does pool.py judge what it has measured correctly? With samples made up here; no server is started."""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import pool_layout
import pool_model
from pool_cells import SHED, Cell, plan
from pool_load import Sample, percentile
from pool_report import BEGIN, END, check, judge, ratio_of, write_docs, write_json

ROUNDS = 9


def sample(rps=100.0, cpu_us=10.0, p50=100, p99=200, shed=0, failed=0, beside_p99=None, others=0.0):
    return Sample(rps=rps, cpu_us=cpu_us, busiest=0.5, others=others, p50=p50, p99=p99, p999=300, shed=shed,
                  failed=failed, beside_p50=beside_p99, beside_p99=beside_p99)


class Made:
    """Stands for pool.Run."""

    def __init__(self, samples, skipped=None, rounds=ROUNDS):
        self.options = argparse.Namespace(
            rounds=rounds, seconds=1, threads=2, load_threads=1, streams=10, server_cores=None, load_cores=None,
            takes_directive=True, quick=False, versions={"wrk": "4"}, json=None, docs=None)
        self.samples, self.skipped, self.broken, self.versions, self.minutes = samples, skipped or {}, {}, {}, 1.0


def good(**change):
    """A run in which everything holds, but for what `change` says: subject -> Sample of `once`."""
    samples = {}
    for connections in (64, 512):
        once = {"inline": sample(100), "place": sample(90, 12), "queue": sample(60, 20), "go": sample(55, 20)}
        once.update(change)
        samples[Cell("once", "h1", connections)] = {name: [one] * ROUNDS for name, one in once.items()}
    both = {"place": [sample(25600)] * ROUNDS, "queue": [sample(25600)] * ROUNDS}
    samples[Cell("sleep5", "h1", 512, 128)] = both
    shed = [sample(1600, shed=9)] * ROUNDS
    samples[SHED] = {"place": shed, "queue": [one._replace(p99=120) for one in shed]}
    samples[SHED]["place"] = samples[SHED]["queue"]
    samples[Cell("never", "h1", 64)] = {"place": [sample(beside_p99=1000)] * ROUNDS}
    samples[Cell("rare", "h1", 64)] = {"place": [sample(beside_p99=2500)] * ROUNDS, "queue": [sample()] * ROUNDS}
    return samples


def words(run):
    return {row.what: row.word for row in judge(run)}


class Judging(unittest.TestCase):
    def test_everything_that_holds_is_ok(self):
        self.assertEqual(set(words(Made(good())).values()), {"ok"})

    def test_what_is_too_slow_is_not_met_and_nothing_else(self):
        seen = words(Made(good(place=sample(84, 12))))
        wrong = [what for what, word in seen.items() if word != "ok"]
        self.assertEqual(wrong, ["(a) in place / inline, rate, 64 connections",
                                 "(a) in place / inline, rate, 512 connections"])

    def test_a_request_without_answer_is_not_met(self):
        samples = good()
        samples[SHED]["queue"] = [sample(1600, shed=9, p99=120, failed=1)] * ROUNDS
        self.assertEqual(words(Made(samples))["(c) queue, 8 workers: without answer"], "NOT MET")

    def test_a_limit_within_the_interval_is_undecided(self):
        self.assertEqual(check("x", ">=", 1.0, [0.8, 1.1, 1.2]).word, "UNDECIDED")
        self.assertEqual(check("x", "<=", 1.0, [0.8, 0.8, 0.9]).word, "ok")

    def test_a_busy_machine_decides_nothing_but_counts(self):
        seen = words(Made(good(inline=sample(100, others=0.5), place=sample(90, 12, others=0.5))))
        self.assertEqual(set(seen.values()), {"ok"})  # the median is quiet
        samples = {cell: {name: [one._replace(others=0.5) for one in rounds] for name, rounds in subjects.items()}
                   for cell, subjects in good().items()}
        seen = words(Made(samples))
        self.assertEqual({word for what, word in seen.items() if what.endswith(("shed", "without answer"))}, {"ok"})
        self.assertEqual(seen["(b) queue / Go, rate, 64 connections"], "UNDECIDED")

    def test_skipped_is_not_missing(self):
        samples = good()
        for subjects in samples.values():
            subjects.pop("place", None)
        self.assertEqual(words(Made(samples))["(d) in place: p50 / p50 without sleepers"], "MISSING")
        seen = words(Made(samples, {"place": "not known"}))
        self.assertEqual(seen["(d) in place: p50 / p50 without sleepers"], "skipped")
        self.assertEqual(seen["(b) queue / Go, rate, 64 connections"], "ok")

    def test_ratios_are_taken_by_round_and_skip_broken_ones(self):
        cell = Cell("once", "h1", 64)
        run = Made({cell: {"place": [sample(10), None, sample(40)], "go": [sample(10), sample(1), sample(20)]}})
        self.assertEqual(ratio_of(run, (cell, "place"), (cell, "go"), "rps"), 1.5)


class Reading(unittest.TestCase):
    def test_percentiles_are_values_that_were_seen(self):
        self.assertIsNone(percentile([], 50))
        self.assertEqual(percentile(list(range(1, 1001)), 99.9), 999)
        self.assertEqual(percentile([1, 2, 3, 4], 50), 2)
        self.assertEqual(percentile([7], 99), 7)

    def test_plan_leaves_out_what_is_skipped(self):
        stands = plan(argparse.Namespace(quick=False), {"place": "x", "node": "y"})
        self.assertEqual({stand.subject for stand in stands}, {"bare", "inline", "queue", "go", "nginx"})
        for stand, cells in stands.items():
            self.assertEqual(len(cells), len(set(cells)), stand)


class Writing(unittest.TestCase):
    def test_docs_keep_what_is_not_between_the_marks(self):
        with tempfile.TemporaryDirectory() as temp:
            page = Path(temp, "pool.md")
            page.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
            run = Made(good())
            run.options.docs, run.options.json = str(page), str(Path(temp, "pool.json"))
            with contextlib.redirect_stderr(io.StringIO()):
                write_docs(run, judge(run))
            write_json(run, judge(run))
            text = page.read_text()
            self.assertTrue(text.startswith("above\n") and text.endswith("\nbelow\n"))
            self.assertNotIn("old", text)
            self.assertIn("| (b) queue / Go, rate, 64 connections ", text)
            self.assertEqual(len(json.loads(Path(temp, "pool.json").read_text())["must"]), len(judge(run)))
            page.write_text("no marks")
            self.assertRaises(OSError, write_docs, run, judge(run))


class Lines(unittest.TestCase):
    def test_a_transfer_is_a_copy_that_the_core_lacks(self):
        m = pool_model.Machine()
        for core, write, transfers in ((1, True, 0), (1, True, 0), (2, False, 1), (1, False, 1), (1, True, 2),
                                       (2, True, 3), (2, False, 3)):
            (m.write if write else m.read)(core, ("x", 0), "x")
            self.assertEqual(m.count.total(), transfers)

    def test_fields_of_one_line_are_one_transfer(self):
        layout = pool_layout.Layout("s", {"a": 0, "b": 40, "c": 64})
        self.assertEqual([name for _, name in layout.lines.values()], ["s.a", "s.a", "s.c"])

    def model(self, **changed):
        args = argparse.Namespace(loops=2, workers=8, shards=1, inflight=8, look_us=100, bodies=False,
                                  layouts=pool_layout.layouts(pool_layout.OFFSETS, pool_layout.JOB_BYTES))
        way = pool_model.Way("made up", 100, False, 2000, 1, False)
        model = pool_model.Model(args, way._replace(**changed))
        model.run(200)
        model.run(200)
        return model

    def test_in_place_only_the_monitor_moves_lines(self):
        self.assertEqual(self.model(queued=0).m.count, {})
        self.assertEqual({line for _, line in self.model(queued=0, looks=True).m.count}, {"team.token"})

    def test_a_job_of_an_idle_pool_wakes_a_worker_and_a_full_pool_wakes_none(self):
        self.assertGreater(self.model().counts["wakes"], 150)
        self.assertLess(self.model(think_us=10).counts["wakes"], 20)


if __name__ == "__main__":
    unittest.main()
