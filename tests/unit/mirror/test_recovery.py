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

"""The link is lost at every call of a move, and comes back, or does not."""

import ddt

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.mirror import move as mirror_move

from tests.fakes import world
from tests.unit.mirror import faults

CAUSE = faults.CAUSE
WAITING = mirror_move.Settings(verify='full', link_timeout_s=60.0)
BEFORE_THE_LINK = 'transfer.connect'
AFTERWARDS = 'hand-over', 'verify-hand-over'
FREEZE = {'domain.mirror_state', 'domain.hand_over'}
"""When the last look at the mirrors is over."""


@ddt.ddt
class TestLinkRecovery(faults.FaultsTestCase):
    """Whatever the guest writes meanwhile is on both sides afterwards."""

    def lose_at(
        self, call: str, nth: int = 1, *, tries: int = 2, **named
    ) -> world.World:
        """A move that will lose its link, for so many tries to connect."""
        made = self.make(settings=WAITING, **named)

        def cut() -> None:
            made.link.fail(CAUSE)
            made.transfer.dead_for_tries = made.transfer.tries + tries

        made.wires.trap(call, nth=nth, error=cut)
        return made

    def arrive(self, made: world.World) -> None:
        made.assert_handed_over(self)
        made.migrate(self)
        made.source.complete()
        made.destination.arrived()
        made.assert_on_destination(self)

    def test_lost_at_every_call(self):
        """All is there in the end; undone only when lost in the pause
        or later."""
        calls = self.calls(settings=WAITING)
        connected = calls.index(BEFORE_THE_LINK)
        resumed = 0
        for number, (call, nth) in enumerate(faults.numbered(calls)):
            if number <= connected:
                continue
            with self.subTest(call=call, nth=nth):
                made = self.lose_at(call, nth, seed=number)
                failure = self.run_it(made)
                if failure is None:
                    resumed += 'destination.reconnect' in made.wires.calls
                    self.arrive(made)
                else:
                    self.assertIn(failure.step, AFTERWARDS)
                    if failure.step == 'hand-over':
                        self.assertIn(call, FREEZE)
                    made.assert_on_source(self)
        self.assertGreater(resumed, 50)

    def test_lost_again_while_it_is_taken_up(self):
        made = self.lose_at('copy.progress', 5)
        first = made.wires.traps[0]
        made.wires.trap('domain.start_mirror', nth=3, error=first.error)
        made.wires.trap('domain.start_mirror', nth=5, error=first.error)
        self.assertIsNone(self.run_it(made))
        self.assertEqual(3, made.wires.calls.count('destination.reconnect'))
        self.arrive(made)

    def test_a_copy_goes_on_where_it_was(self):
        disks = (world.disk('vda', 20),)
        made = self.lose_at('copy.progress', 3, disks=disks, writes=0)
        self.assertIsNone(self.run_it(made))
        first, second = made.transfer.copies
        self.assertTrue(first.closed)
        self.assertEqual(8 * world.BLOCK_BYTES, second.offset)
        self.assertEqual(12, made.link.copied_blocks['vda.base'])
        self.arrive(made)

    def test_the_guest_writes_on_meanwhile(self):
        made = self.lose_at('copy.progress', 3)
        written = []
        reachable = made.transfer.is_reachable

        def is_reachable(endpoint) -> bool:
            for target in ('vda', 'vdb'):
                written.append(made.write(target, len(written)))
            return reachable(endpoint)

        made.transfer.is_reachable = is_reachable
        self.assertIsNone(self.run_it(made))
        self.assertEqual([True] * 6, written)
        self.arrive(made)

    def test_phases(self):
        made = self.lose_at('copy.progress', 5)
        self.assertIsNone(self.run_it(made))
        names = [change.phase for change in made.phases]
        for mark in ('link-lost', 'link-back'):
            self.assertEqual(1, names.count(mark))
        phases = {one.target: one.phase for one in made.progress.disks()}
        self.assertEqual(
            engine_disk.DiskPhase.HANDED_OVER, phases['vda'], phases
        )

    def test_what_was_mirrored_is_counted_on(self):
        made = self.lose_at('copy.progress', 5, writes=3)
        before = []
        cut = made.wires.traps[0].error

        def look() -> None:
            before.append(made.move.mirrored_bytes(made.move.mirrored[0]))
            cut()

        made.wires.traps[0].error = look
        self.assertIsNone(self.run_it(made))
        self.assertGreater(before[0], 0)
        target = next(iter(made.move.mirrored_before))
        self.assertGreaterEqual(made.move.mirrored_before[target], before[0])

    def test_it_does_not_come_back(self):
        made = self.lose_at('copy.progress', 3, tries=10**9)
        before_s = made.clock.now()
        failure = self.run_it(made)
        self.assertIsInstance(failure, exception.LinkStalled)
        self.assertIn('did not come back within 60 s', str(failure))
        self.assertGreaterEqual(made.clock.now() - before_s, 60)
        made.assert_on_source(self)
        # Once more when nothing else uses its directory.
        calls = made.wires.calls[::-1]
        self.assertLess(calls.index('link.close'), calls.index('copy.close'))

    def test_not_waited_for(self):
        made = self.make()
        made.wires.trap(
            'copy.progress', nth=3, error=lambda: made.link.fail(CAUSE)
        )
        failure = self.run_it(made)
        self.assertIsInstance(failure, exception.LinkStalled)
        self.assertNotIn('destination.reconnect', made.wires.calls)
        made.assert_on_source(self)

    def test_aborted_while_it_is_waited_for(self):
        made = self.lose_at('copy.progress', 3)
        made.wires.trap(
            'transfer.is_reachable',
            error=lambda: made.control.abort('operator'),
        )
        failure = self.run_it(made)
        self.assertIsInstance(failure, exception.Aborted)
        made.assert_on_source(self)

    @ddt.data('destination.reconnect', 'transfer.connect')
    def test_the_destination_refuses_for_a_while(self, call):
        made = self.lose_at('copy.progress', 3)
        made.wires.trap(
            call,
            nth=2 if call == BEFORE_THE_LINK else 1,
            error=lambda: exception.PeerUnreachable(CAUSE),
        )
        self.assertIsNone(self.run_it(made))
        self.assertEqual(2, made.wires.calls.count('destination.reconnect'))
        self.arrive(made)

    def test_the_destination_has_the_guest(self):
        """Nothing is done to the disks there."""
        made = self.lose_at('copy.progress', 3)
        made.wires.trap(
            'destination.reconnect',
            error=lambda: made.arriving.arrive(
                {each.target: each.path for each in made.disks}
            ),
        )
        failure = self.run_it(made)
        self.assertIsInstance(failure, exception.NeedsOperator)
        self.assertTrue(made.there)

    @ddt.data(exception.CopyFailed, exception.MirrorFailed)
    def test_something_that_passes(self, kind):
        """A server that was killed, a connection that was reset."""
        made = self.make(settings=WAITING)
        made.wires.trap('copy.progress', nth=3, error=lambda: kind(CAUSE))
        self.assertIsNone(self.run_it(made))
        self.assertEqual(1, made.wires.calls.count('destination.reconnect'))
        self.arrive(made)

    def test_something_that_does_not_pass(self):
        """A destination that is full."""
        made = self.make(settings=WAITING)

        def fail() -> exception.CopyFailed | None:
            full = made.wires.calls.count('copy.progress') >= 3
            return exception.CopyFailed(CAUSE) if full else None

        made.wires.trap('copy.progress', nth=0, error=fail)
        failure = self.run_it(made)
        self.assertIsInstance(failure, exception.CopyFailed)
        self.assertEqual(1, made.wires.calls.count('destination.reconnect'))
        made.assert_on_source(self)

    @ddt.data(
        exception.VerifyFailed, exception.NeedsOperator, exception.MoveFailed
    )
    def test_what_is_not_the_link(self, kind):
        made = self.make(settings=WAITING)
        made.wires.trap('copy.progress', nth=3, error=lambda: kind(CAUSE))
        self.assertIsInstance(self.run_it(made), kind)
        self.assertNotIn('destination.reconnect', made.wires.calls)
        made.assert_on_source(self)

    def test_every_failure_that_passes(self):
        """Each call once: nothing is lost, whatever becomes of the move."""
        ends = set()
        calls = self.calls(settings=WAITING)
        for number, (call, nth) in enumerate(faults.numbered(calls)):
            if call.startswith('journal'):
                continue
            with self.subTest(call=call, nth=nth):
                made = self.make(settings=WAITING, seed=number)
                made.wires.trap(
                    call, nth=nth, error=lambda: exception.MirrorFailed(CAUSE)
                )
                failure = self.run_it(made)
                ends.add(failure is None)
                if failure is None:
                    self.arrive(made)
                else:
                    made.assert_on_source(self)
        self.assertEqual({True, False}, ends)
