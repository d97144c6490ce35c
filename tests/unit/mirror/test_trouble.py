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

"""A guest, a link or an operator that ends a move, at every moment of it."""

import functools

import ddt

from sxm_openstack import exception
from sxm_openstack.engine import ports

from tests.fakes import world
from tests.unit.mirror import faults

CAUSE = faults.CAUSE


@ddt.ddt
class TestFaultsOfTheGuest(faults.FaultsTestCase):
    @ddt.data(
        ('refuse_mirror', 'mirror-disk'),
        ('stall_mirror', 'mirror-disk'),
        ('lose_job', 'mirror-disk'),
        ('end_without_ready', 'mirror-disk'),
        ('fail_mirror', 'mirror-disk'),
    )
    @ddt.unpack
    def test_mirror(self, fault, step):
        for target in ('vda', 'vdb'):
            with self.subTest(target=target):
                made = self.make()
                getattr(made.guest.faults, fault).add(target)
                failure = self.run_it(made)
                self.assertIsInstance(failure, exception.MirrorFailed)
                self.assertEqual((step, target), (failure.step, failure.disk))
                made.assert_on_source(self)

    @ddt.data('snapshot', 'hand_over')
    def test_snapshot_refused(self, call):
        """In the pause, too: the mirrors have ended, the overlays not on."""
        made = self.make()

        def look(name: str) -> None:
            made.write_some()
            if name == f'domain.{call}':
                made.guest.faults.refuse_snapshot = True

        made.wires.before_call = look
        failure = self.run_it(made)
        self.assertIsInstance(failure, exception.MoveFailed)
        if call == 'hand_over':
            self.assertIn('end_mirror vda', made.guest.calls)
            self.assertIn('resume', made.guest.calls)
        made.assert_on_source(self)

    def test_one_mirror_dies_in_the_pause(self):
        made = self.make()
        end_mirror = made.guest.end_mirror

        def end(target: str) -> None:
            if target == 'vda':
                made.guest.exports['vda'].close()
            end_mirror(target)

        made.guest.end_mirror = end
        failure = self.run_it(made)
        self.assertIsInstance(failure, exception.MirrorFailed)
        self.assertEqual('hand-over', failure.step)
        made.assert_on_source(self)

    def test_cannot_resume(self):
        """The overlays are folded with the guest paused."""
        made = self.make()
        made.guest.faults.fail_resume = True
        failure = self.run_it(made)
        self.assertIsInstance(failure, exception.NeedsOperator)
        self.assertIn('cannot be resumed', str(failure))
        self.assertIs(ports.DomainState.PAUSED, made.guest.state())
        made.assert_on_source(self)

    @ddt.data('vda', 'vdb')
    def test_mirror_lost_while_another_disk_is_copied(self, target):
        made = self.make()

        def look(name: str) -> None:
            made.write_some()
            if name == 'transfer.start_copy' and made.move.mirrored[-1:] == [
                made.disks[0]
            ]:
                made.guest.exports[target].close()
                made.guest.settle()

        made.wires.before_call = look
        failure = self.run_it(made)
        self.assertIsInstance(failure, exception.MirrorFailed)
        self.assertEqual(target, failure.disk)
        self.assertEqual('copy-base', failure.step)
        made.assert_on_source(self)

    @ddt.data('fail_pivot', 'stall_commit', 'stuck_job')
    def test_one_disk_settles_and_one_does_not(self, fault):
        made = self.make()
        made.wires.trap(
            'destination.hand_over',
            error=lambda: exception.MoveFailed(CAUSE),
        )
        getattr(made.guest.faults, fault).add('vda')
        failure = self.run_it(made)
        self.assertIsInstance(failure, exception.NeedsOperator)
        self.assertIn('Not undone: mirror-disk vda.', str(failure))
        record = made.journal.read(world.SERVER)
        self.assertEqual(['mirror-disk vda'], [n for n, _ in record.steps])
        made.assert_nothing_lost(self)
        self.assertEqual(made.disks[1].path, made.guest.source_path('vdb'))
        made.assert_empty_destination(self)
        getattr(made.guest.faults, fault).clear()
        made.write_some()
        made.source.rollback()
        made.assert_on_source(self)

    def test_hypervisor_away_for_a_while(self):
        """libvirtd restarts: the move fails, the undoing waits for it."""
        made = self.make()
        made.wires.trap(
            'destination.hand_over', error=lambda: self._restart(made)
        )
        failure = self.run_it(made)
        self.assertNotIsInstance(failure, exception.NeedsOperator)
        made.assert_on_source(self)

    def _restart(self, made: world.World) -> Exception:
        ordered = made.guest.faults
        ordered.unreachable = True
        back_s = made.clock.now() + 10
        sleep = made.clock.sleep

        def asleep(seconds: float) -> None:
            sleep(seconds)
            ordered.unreachable = made.clock.now() < back_s

        made.clock.sleep = asleep
        return exception.MoveFailed(CAUSE)

    def test_hypervisor_stays_away(self):
        made = self.make()

        def fault() -> Exception:
            made.guest.faults.unreachable = True
            return exception.MoveFailed(CAUSE)

        made.wires.trap('destination.hand_over', error=fault)
        began_s = made.clock.now()
        failure = self.run_it(made)
        self.assertIsInstance(failure, exception.NeedsOperator)
        self.assertLess(made.clock.now() - began_s, 120)
        made.guest.faults.unreachable = False
        made.source.rollback()
        made.assert_on_source(self)


@ddt.ddt
class TestGuestEndsByItself(faults.FaultsTestCase):
    """At every call; the domain stays defined, or goes for good."""

    @ddt.data(ports.DomainState.SHUTOFF, ports.DomainState.ABSENT)
    def test_at_every_call(self, state):
        undone = 0
        for number, (call, nth) in enumerate(faults.numbered(self.calls())):
            with self.subTest(call=call, nth=nth):
                made = self.make(seed=number)
                trap = made.wires.trap(
                    call,
                    nth=nth,
                    error=functools.partial(made.guest.power_off, state),
                )
                failure = self.run_it(made)
                self.assert_sprung(trap)
                if failure is None:
                    # Too late for the storage stage: what follows fails.
                    made.source.rollback()
                else:
                    undone += 1
                    self.assertNotIsInstance(failure, exception.NeedsOperator)
                made.assert_nothing_lost_offline(self)
        self.assertGreater(undone, 50)

    def test_says_so(self):
        made = self.make()
        made.wires.trap(
            'transfer.start_copy',
            nth=3,
            error=made.guest.power_off,
        )
        failure = self.run_it(made)
        self.assertIn('The guest ended during the move', str(failure))
        self.assertIn('shutoff', str(failure))


class TestLink(faults.FaultsTestCase):
    def test_fails_itself_at_every_call(self):
        stalled = 0
        for number, (call, nth) in enumerate(faults.numbered(self.calls())):
            with self.subTest(call=call, nth=nth):
                made = self.make(seed=number)
                trap = made.wires.trap(
                    call, nth=nth, error=functools.partial(self._cut, made)
                )
                failure = self.run_it(made)
                self.assert_sprung(trap)
                if failure is None:
                    made.source.rollback()
                elif isinstance(failure, exception.LinkStalled):
                    stalled += 1
                    self.assertIn('nothing moved for 5 s', str(failure))
                else:
                    # Only where nobody could know it yet.
                    self.assertIn(
                        failure.step, ('prepare-destination', 'hand-over')
                    )
                made.assert_on_source(self)
        self.assertGreater(stalled, 50)

    @staticmethod
    def _cut(made: world.World) -> None:
        for link in made.transfer.links:
            if not link.closed:
                link.fail('nothing moved for 5 s')

    def test_stalled_writes_go_on_when_the_link_closes(self):
        made = self.make(writes=0)
        stalled = []

        def look(name: str) -> None:
            if name == 'copy.progress' and made.move.mirrored and not stalled:
                target = made.move.mirrored[0].target
                made.guest.exports[target].stalled = True
                self.assertFalse(made.guest.guest_write(target, 7, 4711))
                stalled.append(target)
                made.link.fail('nothing moved for 5 s')
                made.guest.settle()
                made.written[target][7] = 4711

        made.wires.before_call = look
        failure = self.run_it(made)
        self.assertTrue(stalled)
        self.assertIsInstance(failure, exception.LinkStalled)
        made.assert_on_source(self)

    def test_cut_before_the_job_is_waited_for(self):
        """A job whose peer is silent could not even be dismissed."""
        made = self.make()
        still_open = []

        def look(name: str) -> None:
            made.write_some()
            if name == 'domain.wait_no_job':
                still_open.append(
                    [c for c in made.link.open_channels if 'mirror' in c]
                )

        made.wires.before_call = look
        made.wires.trap(
            'domain.hand_over',
            error=lambda: exception.MoveFailed(CAUSE),
        )
        self.assertIsInstance(self.run_it(made), exception.MoveFailed)
        self.assertEqual([['vdb.mirror'], []], still_open)

    def test_channel_that_cannot_be_closed(self):
        """Then the whole link goes: nothing may hold the guest's writes."""
        made = self.make()
        made.wires.trap(
            'copy.progress',
            nth=12,
            error=lambda: exception.MoveFailed(CAUSE),
        )
        made.wires.trap('link.close_channel', nth=0)
        failure = self.run_it(made)
        self.assertNotIsInstance(failure, exception.NeedsOperator)
        made.assert_on_source(self)


class TestAbort(faults.FaultsTestCase):
    def test_at_every_call(self):
        for number, (call, nth) in enumerate(faults.numbered(self.calls())):
            with self.subTest(call=call, nth=nth):
                made = self.make(seed=number)
                trap = made.wires.trap(
                    call,
                    nth=nth,
                    error=functools.partial(
                        made.control.abort, 'as the test asked'
                    ),
                )
                failure = self.run_it(made)
                self.assert_sprung(trap)
                if trap.sprung:
                    self.assertIs(exception.Aborted, type(failure))
                    self.assertIn('as the test asked', str(failure))
                    self.assertTrue(failure.step)
                    made.assert_on_source(self)

    def test_before_the_first_step(self):
        made = self.make()
        made.control.abort('at once')
        self.assertIs(exception.Aborted, type(self.run_it(made)))
        self.assertNotIn('destination.prepare', made.wires.calls)
        made.assert_on_source(self)

    def test_memory_phase_rolls_back(self):
        made = self.make(writes=3)
        made.source.run()
        made.write_some()
        made.source.rollback()
        made.assert_on_source(self)
        self.assertEqual('reverted', made.phases[-1].phase)

    def test_rollback_twice(self):
        made = self.make()
        made.source.run()
        made.source.rollback()
        made.source.rollback()
        made.assert_on_source(self)


class TestRoom(faults.FaultsTestCase):
    def test_a_disk_on_an_overlay_is_not_moved(self):
        """An overlay in use must not be made anew under the guest."""
        made = self.make()
        overlay = made.disks[0].overlay_path
        made.storage.create_overlay(overlay, made.disks[0].path, 'qcow2', 1)
        made.guest.snapshot({'vda': overlay})
        made.write('vda', 3)
        failure = self.run_it(made)
        self.assertIsInstance(failure, exception.MoveFailed)
        self.assertEqual('vda', failure.disk)
        made.assert_nothing_lost(self)
        self.assertEqual(made.disks[0].path, made.guest.source_path('vda'))

    def test_an_overlay_that_holds_data_is_not_replaced(self):
        made = self.make()
        overlay = made.disks[0].overlay_path
        made.storage.create_overlay(overlay, made.disks[0].path, 'qcow2', 1)
        made.files[overlay].blocks[5] = 4711
        failure = self.run_it(made)
        self.assertIsInstance(failure, exception.MoveFailed)
        kept = made.files[f'{overlay}.kept-1']
        self.assertEqual({5: 4711}, kept.blocks)

    def test_an_earlier_move_in_the_journal(self):
        made = self.make()
        made.source.run()
        second = world.World()
        second.source._runner._journal = made.journal
        before = made.journal.read(world.SERVER)
        failure = self.run_it(second)
        self.assertIs(exception.PreCheckFailed, type(failure))
        self.assertEqual(before, made.journal.read(world.SERVER))
        self.assertNotIn('destination.prepare', second.wires.calls)
