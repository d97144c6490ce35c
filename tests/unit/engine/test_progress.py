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

"""Figures of a move while it runs."""

import logging
import unittest

from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import progress

from tests.fakes import clock

DISKS = (
    engine_disk.Disk('vda', '/i/a', 'raw', 1000, 600),
    engine_disk.Disk('vdb', '/i/b', 'raw', 1000, 300),
)
PHASE = engine_disk.DiskPhase


class TestProgress(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.clock = clock.FakeClock(5.0)
        self.heard = []
        self.made = progress.Progress(DISKS, self.clock, self.heard.append)

    def test_before_the_first_byte(self):
        """What is allocated is the best guess until the map was read."""
        self.assertEqual((900, 0), self.made.totals())
        self.assertEqual(
            [PHASE.WAITING] * 2, [each.phase for each in self.made.disks()]
        )

    def test_copied(self):
        self.made.copied('vda', 0, 0)
        self.assertEqual((900, 0), self.made.totals())
        self.made.copied('vda', 500, 100)
        self.assertEqual((800, 100), self.made.totals())

    def test_never_more_than_all(self):
        self.made.copied('vda', 500, 700)
        self.assertEqual((800, 500), self.made.totals())

    def test_rate_over_a_second(self):
        self.made.copied('vda', 500, 0)
        for done in (100, 200, 300, 400):
            self.clock.sleep(0.5)
            self.made.copied('vda', 500, done)
        self.assertEqual(200, self.made.disks()[0].rate_bytes_per_s)

    def test_no_rate_after_the_copy(self):
        self.made.copied('vda', 500, 0)
        self.clock.sleep(2)
        self.made.copied('vda', 500, 500)
        self.made.phase('vda', PHASE.MIRRORED)
        self.assertEqual(0, self.made.disks()[0].rate_bytes_per_s)

    def test_mirrored(self):
        self.made.mirrored('vdb', 77)
        self.assertEqual(77, self.made.disks()[1].mirrored_bytes)

    def test_phases_are_told_and_kept(self):
        self.made.phase('vda', PHASE.COPYING)
        self.clock.sleep(1)
        self.made.mark('pause')
        expected = [
            progress.PhaseChange(5.0, 'vda', 'copying'),
            progress.PhaseChange(6.0, '', 'pause'),
        ]
        self.assertEqual(expected, self.heard)
        self.assertEqual(expected, self.made.history())
        self.assertIs(PHASE.COPYING, self.made.disks()[0].phase)

    def test_a_listener_that_fails_ends_nothing(self):
        def raising(change):
            raise RuntimeError('no message bus')

        made = progress.Progress(DISKS, self.clock, raising)
        with self.assertLogs('sxm_openstack.engine', logging.ERROR):
            made.phase('vda', PHASE.COPYING)
        self.assertEqual(1, len(made.history()))

    def test_without_a_listener(self):
        made = progress.Progress(DISKS, self.clock)
        made.mark('pause')
        self.assertEqual(1, len(made.history()))
