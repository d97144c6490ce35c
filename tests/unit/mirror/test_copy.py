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

"""Steering a copy: what the governor is shown, and what the copier is told."""

import logging
import unittest

from sxm_openstack import exception

from tests.fakes import world


class TestSteering(unittest.TestCase):
    def setUp(self):
        super().setUp()
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)
        self.world = world.World(writes=1)
        self.world.transfer.blocks_at_once = 1
        self.samples = []
        update = self.world.move.governor.update

        def spy(sample, hurried):
            self.samples.append(sample)
            return update(sample, hurried)

        self.world.move.governor.update = spy

    def test_bytes_only_grow_from_disk_to_disk(self):
        self.world.source.run()
        copied = [sample.copied_bytes for sample in self.samples]
        self.assertEqual(sorted(copied), copied)
        self.assertGreater(copied[-1], 14 * world.BLOCK_BYTES)

    def test_mirrored_bytes_of_all_disks(self):
        self.world.source.run()
        self.assertEqual(0, self.samples[0].mirrored_bytes)
        self.assertGreater(self.samples[-1].mirrored_bytes, 0)

    def test_latency_of_the_writes_since_the_last_look(self):
        """Each write of the fake takes a millisecond."""
        self.world.source.run()
        known = [
            sample.write_latency_s
            for sample in self.samples
            if sample.write_latency_s is not None
        ]
        self.assertTrue(known)
        for latency_s in known:
            self.assertAlmostEqual(0.001, latency_s)

    def test_no_writes_no_latency(self):
        self.world.writes = 0
        self.world.source.run()
        self.assertEqual(
            {None}, {sample.write_latency_s for sample in self.samples}
        )

    def test_only_a_new_rate_is_told(self):
        self.world.source.run()
        for made in self.world.transfer.copies:
            for before, after in zip(made.rates, made.rates[1:], strict=False):
                self.assertNotEqual(before, after)

    def test_a_steady_rate_is_not_told_again(self):
        self.world.move.governor.update = lambda sample, hurried: (
            self.world.move.governor.rate_bytes_per_s
        )
        self.world.source.run()
        self.assertNotIn('copy.set_rate', self.world.wires.calls)

    def test_what_it_learnt_counts_for_the_next_disk(self):
        self.world.source.run()
        first, *_, last = self.world.transfer.copies
        self.assertNotEqual(first.rates[0], last.rates[0])

    def test_the_copier_has_let_go_before_the_next_step(self):
        seen = []

        def look(call):
            self.world.write_some()
            if call in ('overlays.create_overlay', 'transfer.start_copy'):
                seen.append(set(self.world.guest.locked))

        self.world.wires.before_call = look
        self.world.source.run()
        self.assertEqual([set()] * 7, seen)

    def test_a_copier_that_cannot_be_ended_hides_no_failure(self):
        self.world.wires.trap(
            'copy.progress',
            error=lambda: exception.CopyFailed('no space'),
        )
        self.world.wires.trap(
            'copy.close', error=lambda: exception.MoveFailed('it hangs')
        )
        with self.assertRaisesRegex(exception.CopyFailed, 'no space'):
            self.world.source.run()
        self.world.assert_on_source(self)
