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

"""Every call that a move makes fails once, before and after it was done.

And every call of the undoing, once and for good.
"""

import itertools

from sxm_openstack import exception

from tests.fakes import traps
from tests.fakes import world
from tests.unit.mirror import faults

CAUSE = faults.CAUSE


class TestEveryCall(faults.FaultsTestCase):
    """Ends undone, or done if the call was not needed; nothing between."""

    def _sweep(self, after: bool) -> None:
        kinds = faults.errors()
        undone = 0
        for number, (call, nth) in enumerate(faults.numbered(self.calls())):
            if after and call in faults.RETURN_PORTS:
                continue
            error = faults.error_of(call, kinds)
            with self.subTest(call=call, nth=nth, error=error()):
                made = self.make(seed=number)
                trap = made.wires.trap(call, nth=nth, after=after, error=error)
                failure = self.run_it(made)
                self.assert_sprung(trap)
                if failure is None and trap.sprung:
                    self.assertIn(call, faults.MAY_FAIL)
                if failure is None:
                    made.assert_handed_over(self)
                else:
                    undone += 1
                    self._assert_undone(made, failure, call)
        self.assertGreater(undone, 100)

    def _assert_undone(
        self, made: world.World, failure: exception.SXMError, call: str
    ) -> None:
        self.assertNotIsInstance(failure, exception.NeedsOperator)
        if call == 'journal.begin':
            self.assertIs(exception.PreCheckFailed, type(failure))
            self.assertIn(world.SOURCE, str(failure))
            self.assertIn(CAUSE, str(failure))
        else:
            self.assert_located(failure)
        made.assert_on_source(self)

    def test_before(self):
        self._sweep(after=False)

    def test_after(self):
        self._sweep(after=True)


class TestEveryCallOfTheUndoing(faults.FaultsTestCase):
    """The move fails late; then undoing it fails, too."""

    def _fail_late(self, made: world.World) -> traps.Trap:
        return made.wires.trap(
            'destination.hand_over',
            error=lambda: exception.MoveFailed(CAUSE),
            after=True,
        )

    def _undoing(self) -> list[tuple[str, int]]:
        """Calls of the undoing, and which one of its name each is."""
        made = self.make()
        begun = []
        late = self._fail_late(made)
        late.error = lambda: (
            begun.append(len(made.wires.calls)) or exception.MoveFailed(CAUSE)
        )
        self.assertIsNotNone(self.run_it(made))
        return faults.numbered(made.wires.calls)[begun[0] :]

    def test_once(self):
        """A second try helps, and the first failure is the one raised."""
        kinds = faults.errors()
        undoing = self._undoing()
        self.assertGreater(len(undoing), 40)
        for after in (False, True):
            for number, (call, nth) in enumerate(undoing):
                error = faults.error_of(call, kinds)
                with self.subTest(call=call, nth=nth, after=after):
                    made = self.make(seed=number)
                    self._fail_late(made)
                    trap = made.wires.trap(
                        call, nth=nth, after=after, error=error
                    )
                    failure = self.run_it(made)
                    self.assert_sprung(trap)
                    self.assertEqual('hand-over', failure.step)
                    self.assertNotIsInstance(failure, exception.NeedsOperator)
                    if call == 'journal.forget' and not after:
                        # Known and harmless: it names no step.
                        record = made.journal.read(world.SERVER)
                        self.assertEqual((), record.steps)
                        made.journal.forget(world.SERVER)
                    made.assert_on_source(self)

    def test_for_good(self):
        """What is left is named, kept in the journal, and lost is nothing;
        when the trouble is over, a roll-back ends it."""
        names = sorted({call for call, _ in self._undoing()})
        stuck = 0
        for call, after in itertools.product(names, (False, True)):
            with self.subTest(call=call, after=after):
                made = self.make(seed=len(call))
                self._fail_for_good(made, call, after)
                failure = self.run_it(made)
                made.assert_nothing_lost(self)
                if isinstance(failure, exception.NeedsOperator):
                    stuck += 1
                    self._assert_left(made, failure)
                elif not (call == 'domain.commit' and after):
                    self.assertIn(call, faults.HARMLESS)
                made.wires.traps.clear()
                made.source.rollback()
                made.assert_on_source(self)
        self.assertGreater(stuck, 8)

    def _fail_for_good(
        self, made: world.World, call: str, after: bool
    ) -> None:
        cause = 'and then this'
        kind = OSError if call.startswith('journal') else exception.MoveFailed
        for_good = traps.Trap(
            call, nth=0, after=after, error=lambda: kind(cause)
        )
        self._fail_late(made).error = lambda: (
            made.wires.traps.append(for_good) or exception.MoveFailed(CAUSE)
        )

    def _assert_left(
        self, made: world.World, failure: exception.NeedsOperator
    ) -> None:
        record = made.journal.read(world.SERVER)
        left = [name for name, _ in record.steps]
        self.assertTrue(left)
        text = str(failure)
        self.assertIn(f'Not undone: {", ".join(reversed(left))}.', text)
        for part in (CAUSE, 'and then this', 'hand-over', world.SOURCE):
            self.assertIn(part, text)
