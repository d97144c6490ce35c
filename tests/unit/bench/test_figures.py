#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

import unittest

from tests.bench import figures
from tests.functional import engines

LINK = 20e6


def good_run(workload: str = 'uniform-10') -> figures.Run:
    """A run that reaches every target, if only just."""
    return figures.Run(
        engines.SNAPSHOT,
        workload,
        converged=True,
        total_s=46.0,
        limit_s=40.0,
        handover_pause_ms=100.0,
        switchover_gap_ms=360.0,
        memory_only_gap_ms=300.0,
        guest_rate_before=10e6,
        guest_rate_while_moving=8e6,
        worst_write_latency_ms=300.0,
        start_stall_ms=150.0,
        lost_writes=0,
        bases_bytes=105,
        allocated_bytes=100,
    )


class LimitTest(unittest.TestCase):
    def test_adds_up_what_must_cross_the_link(self) -> None:
        run = good_run()
        run.bases_bytes, run.mirrored_bytes = 400_000_000, 150_000_000
        run.memory_bytes = 50_000_000
        self.assertEqual(30.0, figures.limit_s(run, LINK))


class ChecksTest(unittest.TestCase):
    def failed(self, *runs: figures.Run) -> set[str]:
        return {
            check.name
            for check in figures.checks(runs, LINK, 0.5)
            if not check.passed
        }

    def test_all_reached(self) -> None:
        self.assertEqual(set(), self.failed(good_run()))
        self.assertEqual(9, len(figures.checks([good_run()], LINK, 0.5)))

    def test_each_target_can_be_missed(self) -> None:
        for field, value, name in (
            ('converged', False, 'converged'),
            ('lost_writes', 1, 'lost writes'),
            ('lost_writes', None, 'lost writes'),
            ('handover_pause_ms', 101.0, 'hand-over pause, ms'),
            ('start_stall_ms', 151.0, 'stall at the start, ms'),
            ('total_s', 46.1, 'total / limit'),
            ('bases_bytes', 106, 'bytes of the bases / allocated'),
            ('switchover_gap_ms', 361.0, 'gap / memory-only gap'),
            ('worst_write_latency_ms', 301.0, 'worst write latency, ms'),
            ('guest_rate_while_moving', 7.9e6, 'guest rate / its share'),
        ):
            with self.subTest(field=field, value=value):
                run = good_run()
                setattr(run, field, value)
                self.assertEqual({name}, self.failed(run))

    def test_share_of_the_link_is_all_that_is_promised(self) -> None:
        run = good_run()
        run.guest_rate_before = 40e6
        run.guest_rate_while_moving = 8e6
        self.assertEqual(set(), self.failed(run))

    def test_idle_no_slower_than_stock(self) -> None:
        stock = figures.Run(
            engines.STOCK, 'idle', converged=True, total_s=45.9
        )
        name = {'total / total of stock'}
        self.assertEqual(name, self.failed(good_run('idle'), stock))
        stock.total_s = 46.0
        self.assertEqual(set(), self.failed(good_run('idle'), stock))

    def test_other_engines_are_not_judged(self) -> None:
        run = good_run()
        run.engine = engines.ONE_FLAG
        run.lost_writes = 7
        self.assertEqual([], figures.checks([run], LINK, 0.5))
