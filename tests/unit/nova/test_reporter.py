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

import itertools
import types
import unittest
from unittest import mock

import libvirt

from sxm_openstack.nova import reporter as sxm_reporter

from tests.unit.nova import fakes


class TestReporter(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.session = mock.Mock()
        self.session.totals.return_value = (100, 40)
        self.migration = types.SimpleNamespace(saved=[])
        self.migration.save = self.save
        self.clock = fakes.FakeClock()
        self.reporter = sxm_reporter.Reporter(
            self.session, self.migration, None, self.clock
        )

    def save(self):
        self.migration.saved.append(
            (
                self.migration.disk_total,
                self.migration.disk_processed,
                self.migration.disk_remaining,
                self.migration.memory_total,
            )
        )

    def info(self, total, done, memory=0, running=True):
        return types.SimpleNamespace(
            type=libvirt.VIR_DOMAIN_JOB_UNBOUNDED if running else 0,
            disk_total=total,
            disk_processed=done,
            disk_remaining=total - done,
            memory_total=memory,
            memory_processed=memory,
            memory_remaining=0,
        )

    def test_storage(self):
        with self.reporter:
            pass
        self.assertEqual([(100, 40, 60, 0)], self.migration.saved)

    def test_memory_comes_on_top(self):
        self.session.totals.return_value = (100, 100)
        self.clock.sleep(5)
        info = self.reporter.add_memory(self.info(20, 5, memory=1000))
        self.assertEqual(
            (120, 105, 15),
            (info.disk_total, info.disk_processed, info.disk_remaining),
        )
        self.assertEqual([(120, 105, 15, 1000)], self.migration.saved)

    def test_nothing_ever_goes_back(self):
        self.session.totals.return_value = (100, 100)
        shown = []
        for total, done in ((20, 5), (30, 29), (0, 0), (30, 30)):
            self.clock.sleep(5)
            info = self.reporter.add_memory(self.info(total, done))
            shown.append(info.disk_processed)
            self.assertLessEqual(info.disk_processed, info.disk_total)
        for before, after in itertools.pairwise(shown):
            self.assertLessEqual(before, after)

    def test_not_more_than_once_a_second(self):
        self.clock.sleep(5)
        for _ in range(4):
            self.reporter.add_memory(self.info(20, 5))
            self.clock.sleep(0.3)
        self.assertEqual(1, len(self.migration.saved))

    def test_nothing_is_written_when_no_job_runs(self):
        self.clock.sleep(5)
        self.reporter.add_memory(self.info(0, 0, running=False))
        self.assertEqual([], self.migration.saved)

    def test_a_report_that_is_lost_does_not_end_the_move(self):
        self.migration.save = mock.Mock(side_effect=RuntimeError('no bus'))
        with self.reporter:
            pass
        self.migration.save.assert_called_once_with()
