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

"""A move from its first step to its last, when nothing fails."""

import dataclasses
import unittest
from unittest import mock

import ddt

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import governor
from sxm_openstack.engine import ports
from sxm_openstack.mirror import move as mirror_move

from tests.fakes import domain as fake_domain
from tests.fakes import transfer
from tests.fakes import world


class MoveTestCase(unittest.TestCase):
    """Makes worlds and removes them."""

    def make(self, *arguments, **named) -> world.World:
        return world.World(*arguments, **named)

    def phases(self, made: world.World, target: str) -> list[str]:
        return [
            change.phase for change in made.phases if change.target == target
        ]


class TestSuccess(MoveTestCase):
    def test_arrives_with_every_write(self):
        made = self.make(writes=3)
        made.source.run()
        made.assert_handed_over(self)
        made.migrate(self)
        made.source.complete()
        made.destination.arrived()
        made.assert_on_destination(self)

    def test_secret_of_the_link_is_not_kept(self):
        """Neither in the journals nor in a log, whether it fails or not."""
        for step in ('complete', 'rollback'):
            made = self.make()
            journals = [made.journal, made.destination.journal]
            writes = [mock.Mock(wraps=each.write) for each in journals]
            for journal, write in zip(journals, writes, strict=True):
                journal.write = write
            with self.assertLogs(level='DEBUG') as caught:
                made.source.run()
                getattr(made.source, step)()
            records = [
                call.args[0].to_dict()
                for write in writes
                for call in write.call_args_list
            ]
            self.assertGreater(len(records), 3)
            text = str(records)
            self.assertNotIn(transfer.TOKEN, text)
            self.assertNotIn(transfer.TOKEN, '\n'.join(caught.output))
            self.assertNotIn(transfer.TOKEN, repr(made.move.endpoint))

    def test_smallest_first(self):
        made = self.make()
        made.source.run()
        begun = [
            change.target
            for change in made.phases
            if change.phase == 'copying'
        ]
        self.assertEqual(['hda', 'vdb', 'vda'], begun)

    def test_phases_of_a_disk(self):
        made = self.make()
        made.source.run()
        self.assertEqual(
            ['preparing', 'mirroring', 'copying', 'mirrored', 'handed-over'],
            self.phases(made, 'vda'),
        )
        self.assertEqual(['copying', 'mirrored'], self.phases(made, 'hda'))
        self.assertEqual(['pause', 'resume'], self.phases(made, ''))

    def test_all_stay_mirrored_until_the_hand_over(self):
        made = self.make()
        seen = []

        def look(call: str) -> None:
            made.write_some()
            if call == 'domain.hand_over':
                seen.extend(
                    (target, made.guest.mirror_state(target))
                    for target in ('vda', 'vdb')
                )

        made.wires.before_call = look
        made.source.run()
        ready = ports.MirrorState.READY
        self.assertEqual([('vda', ready), ('vdb', ready)], seen)
        self.assertEqual([], made.move.mirrored)

    def test_the_mirror_runs_before_the_copy(self):
        made = self.make()
        made.source.run()
        order = [
            call
            for call in made.wires.calls
            if call in ('domain.start_mirror', 'transfer.start_copy')
        ]
        self.assertEqual(
            ['transfer.start_copy']
            + ['domain.start_mirror', 'transfer.start_copy'] * 2,
            order,
        )

    def test_one_pause(self):
        made = self.make()
        made.source.run()
        self.assertEqual(1, made.guest.calls.count('pause'))
        self.assertEqual(1, made.guest.calls.count('resume'))

    def test_paused_guest_stays_paused(self):
        made = self.make()
        made.guest.domain_state = ports.DomainState.PAUSED
        made.source.run()
        self.assertNotIn('resume', made.guest.calls)
        self.assertIs(ports.DomainState.PAUSED, made.guest.state())
        made.assert_handed_over(self)

    def test_progress_counts_bytes(self):
        made = self.make(writes=2)
        made.source.run()
        total_bytes, done_bytes = made.progress.totals()
        self.assertEqual(total_bytes, done_bytes)
        self.assertGreaterEqual(total_bytes, 16 * world.BLOCK_BYTES)
        mirrored = {
            each.target: each.mirrored_bytes for each in made.progress.disks()
        }
        self.assertGreater(mirrored['vdb'], 0)
        self.assertEqual(0, mirrored['hda'])

    def test_every_object_is_in_a_journal_before_it_is_made(self):
        made = self.make()
        made.wires.before_call = lambda call: self._check_journal(made, call)
        made.source.run()

    def _check_journal(self, made: world.World, call: str) -> None:
        if call in ('overlays.create_overlay', 'transfer.connect'):
            record = made.journal.read(world.SERVER)
            self.assertEqual('intent', record.steps[-1][1])
        if call in (
            'storage-there.create_base',
            'storage-there.create_overlay',
            'nbd.start',
        ):
            record = made.journal_there.read(world.SERVER)
            self.assertEqual(made.disks, record.disks)
            self.assertFalse(record.committed)
        if call == 'transfer.start_copy':
            steps = dict(made.journal.read(world.SERVER).steps)
            self.assertIn('intent', steps.values())

    def test_committed_in_the_journal_before_the_link_closes(self):
        made = self.make()
        made.source.run()
        made.migrate(self)
        seen = []

        def look(call: str) -> None:
            if call == 'link.close':
                seen.append(made.journal.read(world.SERVER).committed)

        made.wires.before_call = look
        made.source.complete()
        self.assertEqual([True], seen)

    def test_no_way_back_after_complete(self):
        made = self.make()
        made.source.run()
        made.migrate(self)
        made.source.complete()
        before = dict(made.files)
        self.assertRaises(exception.NeedsOperator, made.source.rollback)
        self.assertEqual(before, dict(made.files))


@ddt.ddt
class TestKindsOfDisks(MoveTestCase):
    def test_read_only_is_copied_verified_and_neither_mirrored(self):
        made = self.make([world.disk('hda', 3, read_only=True)])
        made.source.run()
        made.assert_handed_over(self)
        self.assertIn('transfer.digests', made.wires.calls)
        self.assertNotIn('domain.snapshot', made.wires.calls)
        self.assertNotIn('domain.hand_over', made.wires.calls)
        self.assertEqual({}, made.source.source_paths())
        made.migrate(self)
        made.source.complete()
        made.destination.arrived()
        made.assert_on_destination(self)

    def test_direct_has_no_steps_of_its_own(self):
        made = self.make(drivers={'vda': world.DIRECT})
        made.source.run()
        self.assertEqual([], self.phases(made, 'vda'))
        self.assertEqual(world.DISKS[0].path, made.guest.source_path('vda'))
        self.assertEqual(
            {
                'vda': world.DISKS[0].path,
                'vdb': world.DISKS[1].handover_path,
            },
            made.source.source_paths(),
        )
        made.migrate(self)
        made.source.complete()
        made.destination.arrived()
        made.assert_on_destination(self)

    def test_direct_alone(self):
        """The destination lets go of the file before libvirt needs it."""
        made = self.make([world.disk('vda', 4)], drivers={'vda': world.DIRECT})
        made.source.run()
        self.assertEqual(set(), made.nbd.serving)
        self.assertNotIn('pause', made.guest.calls)
        made.migrate(self)
        made.source.complete()
        made.destination.arrived()
        made.assert_on_destination(self)

    def test_direct_refuses_what_it_would_not_copy_whole(self):
        other = world.disk('vda', 1, backing=engine_disk.Backing.DIFFERENT)
        self.assertIn('not proven equal', world.DIRECT.refuse(other))
        self.assertIsNone(world.DIRECT.refuse(world.disk('vda', 1)))

    @ddt.data('complete', 'rollback')
    def test_no_local_disks(self, end):
        made = self.make([])
        made.source.run()
        self.assertEqual([], made.source.remaining())
        self.assertEqual({}, made.source.source_paths())
        getattr(made.source, end)()
        made.destination.arrived()
        made.destination.discard()
        self.assertEqual(
            [],
            [
                call
                for call in made.wires.calls
                if call.startswith(('domain.', 'destination.', 'transfer.'))
            ],
        )
        self.assertEqual([], list(made.journal.servers()))

    def test_an_empty_disk(self):
        made = self.make([world.disk('vda', 0), world.disk('vdb', 0)])
        made.source.run()
        made.assert_handed_over(self)


@ddt.ddt
class TestVerify(MoveTestCase):
    @ddt.data(('none', 1), ('full', 5), ('sample', 3))
    @ddt.unpack
    def test_which_are_compared(self, verify, times):
        made = self.make(settings=mirror_move.Settings(verify=verify))
        made.source.run()
        self.assertEqual(times, made.wires.calls.count('transfer.digests'))
        self.assertEqual(times, made.wires.calls.count('destination.digests'))

    @ddt.data(('vda', 'full'), ('vdb', 'full'), ('hda', 'none'))
    @ddt.unpack
    def test_names_the_first_difference(self, target, verify):
        big = [
            world.disk('vda', 60),
            world.disk('vdb', 40),
            world.disk('hda', 50, read_only=True),
        ]
        big = [dataclasses.replace(each, size_bytes=8 << 20) for each in big]
        made = self.make(
            big, settings=mirror_move.Settings(verify=verify), writes=0
        )
        path = made.disks[[d.target for d in big].index(target)].path

        def spoil() -> None:
            if path in made.there:
                made.there[path].blocks[20] = 4711
                made.there[path].blocks[39] = 4712

        made.wires.trap('destination.digests', nth=0, error=spoil)
        with self.assertRaises(exception.VerifyFailed) as caught:
            made.source.run()
        error = caught.exception
        self.assertIn(f'offset {20 * world.BLOCK_BYTES} ', str(error))
        self.assertEqual('verify-base', error.step)
        self.assertEqual(target, error.disk)
        made.assert_on_source(self)


@ddt.ddt
class TestVerifyHandOver(MoveTestCase):
    """``full``: every disk is equal at the point of the hand-over."""

    def make_full(self, writes=1):
        return self.make(
            settings=mirror_move.Settings(verify='full'), writes=writes
        )

    @ddt.data('destination.written', 'overlays.written_chunks')
    def test_a_mirror_that_went_wrong(self, call):
        """One block of an overlay, on either side, is not what it was."""
        made = self.make_full()
        files = made.there if call.startswith('dest') else made.files
        spoilt = []

        def spoil() -> None:
            overlay = files.get(made.disks[0].overlay_path)
            blocks = overlay.blocks if overlay else {}
            if blocks and not spoilt:
                spoilt.append(min(blocks))
                blocks[spoilt[0]] += 1

        made.wires.trap(call, nth=0, error=spoil)
        with self.assertRaises(exception.VerifyFailed) as caught:
            made.source.run()
        error = caught.exception
        self.assertIn(
            f'offset {spoilt[0] * world.BLOCK_BYTES} (handed-over)', str(error)
        )
        self.assertEqual('verify-hand-over', error.step)
        self.assertEqual('vda', error.disk)
        made.assert_empty_destination(self)
        self.assertEqual([], list(made.journal.servers()))

    def test_a_write_that_only_one_side_has(self):
        made = self.make_full(writes=0)

        def spoil() -> None:
            overlay = made.there.get(made.disks[0].overlay_path)
            if overlay is not None:
                overlay.blocks[7] = 4711

        made.wires.trap('destination.written', nth=1, error=spoil)
        with self.assertRaisesRegex(exception.VerifyFailed, 'vda differs'):
            made.source.run()
        made.assert_on_source(self)

    def test_only_what_was_written_is_read(self):
        made = self.make_full(writes=0)
        made.source.run()
        made.assert_handed_over(self)
        # The bases alone: nothing was written, nothing is left to compare.
        self.assertEqual(3, made.wires.calls.count('transfer.digests'))

    def test_a_sample_may_miss_but_not_the_ends(self):
        made = self.make(
            [
                dataclasses.replace(
                    world.disk('vda', 9), size_bytes=400 * world.BLOCK_BYTES
                )
            ],
            settings=mirror_move.Settings(verify='sample', verify_percent=1),
            writes=0,
        )

        def spoil() -> None:
            file = made.there.get(made.disks[0].path)
            if file is not None:
                file.blocks[399] = 4711

        made.wires.trap('destination.digests', nth=1, error=spoil)
        with self.assertRaisesRegex(
            exception.VerifyFailed, f'offset {399 * world.BLOCK_BYTES} '
        ):
            made.source.run()


class TestControl(MoveTestCase):
    def test_hurried_lifts_the_limit(self):
        limits = governor.Limits(max_rate_bytes_per_s=0)
        made = self.make(settings=mirror_move.Settings(limits=limits))
        made.transfer.blocks_at_once = 1
        made.control.hurry()
        made.source.run()
        for copy in made.transfer.copies:
            if len(copy.rates) > 2:
                self.assertEqual(0, copy.rates[-1])
        self.assertIn(0, made.transfer.copies[-1].rates)

    def test_not_hurried_has_a_limit(self):
        made = self.make()
        made.transfer.blocks_at_once = 1
        made.source.run()
        rates = {rate for copy in made.transfer.copies for rate in copy.rates}
        self.assertNotIn(0, rates)

    def test_max_rate_is_obeyed(self):
        limits = governor.Limits(max_rate_bytes_per_s=1 << 20)
        made = self.make(settings=mirror_move.Settings(limits=limits))
        made.transfer.blocks_at_once = 1
        made.control.hurry()
        made.source.run()
        rates = {rate for copy in made.transfer.copies for rate in copy.rates}
        self.assertLessEqual(max(rates), 1 << 20)
        self.assertNotIn(0, rates)

    def test_max_rate_that_is_set_meanwhile(self):
        made = self.make()
        made.transfer.blocks_at_once = 1
        looks = iter(range(1000))

        def reread():
            late = next(looks) > 8
            return mirror_move.Settings(
                limits=governor.Limits(max_rate_bytes_per_s=late << 16)
            )

        made.source.move.reread = reread
        made.source.run()
        first, *_, last = [
            rate for copy in made.transfer.copies for rate in copy.rates
        ]
        self.assertGreater(first, 1 << 16)
        self.assertEqual(1 << 16, last)

    def test_a_seed_is_no_change(self):
        """It is the move's own: the options are read without it."""
        made = self.make(settings=mirror_move.Settings())
        made.source.move.verify_seed = 'first'
        reads = iter(range(1000))
        made.source.move.reread = lambda: (
            next(reads) >= 0 and (mirror_move.Settings())
        )
        with self.assertNoLogs(mirror_move.LOG, 'INFO'):
            made.source.run()
        self.assertEqual('first', made.source.move.verify_seed)
        self.assertGreater(next(reads), 0)

    def test_storage_timeout(self):
        made = self.make(settings=mirror_move.Settings(storage_timeout_s=0.5))
        made.transfer.blocks_at_once = 0
        with self.assertRaisesRegex(exception.CopyFailed, 'within 0 s'):
            made.source.run()
        made.assert_on_source(self)

    def test_statistics_are_only_advice(self):
        made = self.make()
        made.wires.trap(
            'domain.write_stats',
            nth=0,
            error=lambda: exception.Retryable('busy'),
        )
        made.source.run()
        made.assert_handed_over(self)

    def test_slow_mirror_is_waited_for(self):
        made = self.make()
        made.guest.slow_polls = 3
        made.source.run()
        made.assert_handed_over(self)

    def test_export_is_named_by_target(self):
        made = self.make()
        made.source.run()
        self.assertEqual({'vda', 'vdb'}, set(made.guest.exports))
        self.assertIsInstance(
            made.guest.exports['vda'], fake_domain.FakeExport
        )
