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

"""The destination's side: what it makes, drops, and must not drop."""

import dataclasses
import logging
import threading
import unittest

import ddt

from sxm_openstack import exception
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import ports

from tests.fakes import world

STATE = ports.DomainState


class DestinationTestCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)
        self.world = world.World(writes=0)
        self.side = self.world.destination

    def arrive(self) -> None:
        """A whole move up to the moment after the switch-over."""
        self.world.source.run()
        self.world.migrate(self)


@ddt.ddt
class TestPrepare(DestinationTestCase):
    def test_makes_and_serves(self):
        endpoint = self.side.prepare(self.world.disks)
        self.assertEqual(49300, endpoint.port)
        self.assertNotIn(endpoint.token, repr(endpoint))
        expected = {each.path for each in self.world.disks} | {
            each.overlay_path
            for each in self.world.disks
            if not each.read_only
        }
        self.assertEqual(expected, set(self.world.there))
        self.assertEqual(expected, self.world.nbd.serving)

    def test_discard_leaves_nothing(self):
        self.side.prepare(self.world.disks)
        self.side.discard()
        self.side.discard()
        self.world.assert_empty_destination(self)

    def test_discard_before_anything(self):
        self.side.discard()
        self.world.assert_empty_destination(self)

    def test_discard_leaves_what_nova_made(self):
        path = self.world.disks[0].path
        self.world.storage_there.create_base(self.world.disks[0])
        self.side.prepare(self.world.disks)
        self.side.discard()
        self.assertEqual({path}, set(self.world.there))

    def test_a_second_time_starts_over(self):
        """Old writes in an overlay would hide newer ones of the base."""
        self.side.prepare(self.world.disks)
        for each in self.world.disks:
            self.world.there[each.path].blocks[1] = 4711
            if not each.read_only:
                self.world.there[each.overlay_path].blocks[1] = 4712
        self.side.prepare(self.world.disks)
        self.assertEqual(5, len(self.world.there))
        for path, file in self.world.there.items():
            self.assertEqual({}, file.blocks, path)

    def test_another_process_starts_over_too(self):
        self.side.prepare(self.world.disks)
        overlay = self.world.disks[0].overlay_path
        self.world.there[overlay].blocks[1] = 4712
        self.world.new_destination().prepare(self.world.disks)
        self.assertEqual({}, self.world.there[overlay].blocks)

    @ddt.data(
        (engine_journal.Role.SOURCE, False),
        (engine_journal.Role.DESTINATION, True),
    )
    @ddt.unpack
    def test_over_an_earlier_move(self, role, committed):
        """Its overlays may be the only copy of what the guest wrote."""
        record = engine_journal.Record(
            world.SERVER,
            role,
            'gamma',
            disks=self.world.disks,
            committed=committed,
        )
        self.world.journal_there.write(record)
        overlay = self.world.disks[0].overlay_path
        self.world.storage_there.create_overlay(
            overlay, self.world.disks[0].path, 'qcow2', 1
        )
        with self.assertRaises(exception.PreCheckFailed):
            self.side.prepare(self.world.disks)
        self.assertIn(overlay, self.world.there)
        self.assertEqual(record, self.world.journal_there.read(world.SERVER))

    def test_half_made_is_discarded_whole(self):
        for call in (
            'storage-there.create_base',
            'storage-there.create_overlay',
            'nbd.start',
        ):
            for nth in (1, 2):
                with self.subTest(call=call, nth=nth):
                    self.world.wires.traps.clear()
                    self.world.wires.trap(call, nth=nth)
                    try:
                        self.side.prepare(self.world.disks)
                    except OSError:
                        pass
                    self.side.discard()
                    self.world.assert_empty_destination(self)

    def test_discard_waits_for_a_prepare_that_still_runs(self):
        """Its caller gave up waiting and sent the discard after it."""
        reached, go = threading.Event(), threading.Event()
        start = self.world.nbd.start

        def slow(disks):
            reached.set()
            self.assertTrue(go.wait(30))
            return start(disks)

        self.side.nbd = self.world.nbd
        self.world.nbd.start = slow
        preparing = threading.Thread(
            target=self.side.prepare, args=(self.world.disks,)
        )
        preparing.start()
        self.assertTrue(reached.wait(30))
        discarding = threading.Thread(target=self.side.discard)
        discarding.start()
        discarding.join(0.2)
        self.assertTrue(discarding.is_alive())
        go.set()
        preparing.join(30)
        discarding.join(30)
        self.world.assert_empty_destination(self)


@ddt.ddt
class TestGuestIsThere(DestinationTestCase):
    @ddt.data(STATE.RUNNING, STATE.PAUSED, STATE.SHUTOFF, STATE.INCOMING)
    def test_not_discarded(self, state):
        self.arrive()
        self.world.arriving.domain_state = state
        before = dict(self.world.there)
        with self.assertRaises(exception.NeedsOperator) as caught:
            self.side.discard()
        self.assertIn(state, str(caught.exception))
        self.assertEqual(before, dict(self.world.there))
        self.assertIn(world.SERVER, self.world.journal_there.servers())

    def test_incoming_is_waited_for(self):
        """libvirt ends it soon after its source gave up."""
        self.world.source.run()
        self.world.arriving.domain_state = STATE.INCOMING
        sleep = self.world.clock.sleep

        def asleep(seconds):
            sleep(seconds)
            if len(self.world.clock.slept) > 5:
                self.world.arriving.domain_state = STATE.ABSENT

        self.world.clock.sleep = asleep
        self.side.discard()
        self.world.assert_empty_destination(self)

    def test_cannot_be_asked(self):
        self.world.source.run()
        self.world.arriving.faults.unreachable = True
        before = dict(self.world.there)
        self.assertRaises(exception.Retryable, self.side.discard)
        self.assertEqual(before, dict(self.world.there))

    def test_committed_is_never_discarded(self):
        """Even if the domain is gone by now: its disks are the newest."""
        self.arrive()
        self.world.arriving.faults.stall_commit.add('vda')
        self.assertRaises(exception.NeedsOperator, self.side.arrived)
        self.world.arriving.power_off(STATE.ABSENT)
        before = dict(self.world.there)
        self.assertRaises(exception.NeedsOperator, self.side.discard)
        self.assertEqual(before, dict(self.world.there))

    def test_roll_back_while_it_runs_there(self):
        """By mistake: nothing of the destination's is touched."""
        self.arrive()
        before = {
            path: dict(file.blocks) for path, file in self.world.there.items()
        }
        with self.assertRaises(exception.NeedsOperator) as caught:
            self.world.source.rollback()
        self.assertIn('prepare-destination', str(caught.exception))
        self.assertEqual(
            before,
            {path: file.blocks for path, file in self.world.there.items()},
        )
        record = self.world.journal.read(world.SERVER)
        self.assertEqual(
            ['prepare-destination'], [name for name, _ in record.steps]
        )
        self.side.arrived()


@ddt.ddt
class TestArrived(DestinationTestCase):
    def test_flat(self):
        self.arrive()
        self.world.source.complete()
        self.side.arrived()
        self.side.arrived()
        self.world.assert_on_destination(self)

    def test_in_the_journal_first(self):
        self.arrive()
        self.world.source.complete()
        seen = []

        def look(call):
            if call in ('nbd.close', 'domain-there.commit'):
                record = self.world.journal_there.read(world.SERVER)
                seen.append(record.committed)

        self.world.wires.before_call = look
        self.side.arrived()
        self.assertEqual([True] * 3, seen)

    def test_by_another_process(self):
        self.arrive()
        self.world.source.complete()
        self.world.new_destination().arrived()
        self.world.assert_on_destination(self)

    def test_adopted(self):
        self.arrive()
        self.world.source.complete()
        other = self.world.new_destination()
        other.adopt(self.world.journal_there.read(world.SERVER))
        other.arrived()
        self.world.assert_on_destination(self)

    def test_guest_that_ended_right_after(self):
        self.arrive()
        self.world.source.complete()
        self.world.arriving.power_off(STATE.SHUTOFF)
        self.side.arrived()
        self.assertEqual(
            {each.path for each in self.world.disks}, set(self.world.there)
        )
        self.world._assert_reads(self, self.world.there, 'read there')

    @ddt.data('fail_pivot', 'stall_commit')
    def test_one_disk_fails_and_is_done_later(self, fault):
        self.arrive()
        self.world.source.complete()
        getattr(self.world.arriving.faults, fault).add('vda')
        self.assertRaises(exception.NeedsOperator, self.side.arrived)
        record = self.world.journal_there.read(world.SERVER)
        self.assertTrue(record.committed)
        self.assertEqual(
            self.world.disks[1].path,
            self.world.arriving.source_path('vdb'),
        )
        self.world._assert_guest_reads(self, self.world.arriving)
        getattr(self.world.arriving.faults, fault).clear()
        self.side.arrived()
        self.world.assert_on_destination(self)


class TestHandOver(DestinationTestCase):
    def test_not_prepared(self):
        with self.assertRaisesRegex(exception.MoveFailed, 'not prepared'):
            self.side.hand_over(self.world.disks[:1])
        self.assertEqual({}, dict(self.world.there))

    def test_an_image_that_was_not_flushed(self):
        """Then the overlay there may lack writes: the move is undone."""
        self.world.nbd.torn.add('vda')
        with self.assertRaisesRegex(exception.MoveFailed, 'had died'):
            self.world.source.run()
        self.world.assert_on_source(self)

    def test_record_has_what_was_made(self):
        self.world.storage_there.create_base(self.world.disks[0])
        self.side.prepare(self.world.disks)
        record = self.world.journal_there.read(world.SERVER)
        self.assertEqual(
            {each.path for each in self.world.disks[1:]}, set(record.made)
        )
        self.assertEqual(
            dataclasses.replace(record),
            engine_journal.Record.from_dict(record.to_dict()),
        )
