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
import unittest

from tests.faults import checks
from tests.faults import injections
from tests.faults import matrix
from tests.faults import rounds

QUIET = rounds.Round('', 0.0)
FINE = checks.Observation(matrix.End.ARRIVED, verified=True)


class PlanTest(unittest.TestCase):
    def take(self, seed: int) -> list[rounds.Round]:
        return list(itertools.islice(rounds.plan(seed), 60))

    def test_is_repeatable(self) -> None:
        self.assertEqual(self.take(3), self.take(3))
        self.assertNotEqual(self.take(3), self.take(4))

    def test_some_are_disturbed(self) -> None:
        acts = [one.act for one in self.take(1)]
        self.assertIn('', acts)
        self.assertGreater(len(set(acts)), 8)

    def test_acts_exist(self) -> None:
        self.assertEqual(set(), set(rounds.ACTS) - set(injections.ACTS))


class TallyTest(unittest.TestCase):
    def test_all_well(self) -> None:
        tally = rounds.Tally(1, 1)
        self.assertFalse(tally.is_enough)
        tally.count(QUIET, FINE, False)
        self.assertTrue(tally.is_enough)
        told = tally.to_dict()
        self.assertTrue(told['ok'])
        self.assertEqual((1, 1, 0), (tally.ordered, tally.arrived, 0))

    def test_a_loss_is_told(self) -> None:
        tally = rounds.Tally(1, 1)
        seen = checks.Observation(
            matrix.End.ARRIVED, verified=True, lost_writes=4
        )
        tally.count(QUIET, seen, False)
        told = tally.to_dict()
        self.assertFalse(told['ok'])
        self.assertIn('4 sectors', told['why'])

    def test_undisturbed_moves_have_to_arrive(self) -> None:
        tally = rounds.Tally(1, 1)
        seen = checks.Observation(
            matrix.End.STAYED, error='MoveFailed', text='x', verified=True
        )
        tally.count(QUIET, seen, False)
        self.assertIn('move 1 (undisturbed', tally.to_dict()['why'])

    def test_disturbed_ones_may_be_undone_but_not_for_ever(self) -> None:
        tally = rounds.Tally(1, 1)
        seen = checks.Observation(
            matrix.End.STAYED, error='Aborted', text='x', verified=True
        )
        while not tally.is_enough:
            tally.count(rounds.Round('cancel', 1.0), seen, False)
        self.assertEqual(3, tally.disturbed)
        self.assertEqual('only 0 of 1 moves arrived', tally.to_dict()['why'])

    def test_a_fault_that_came_too_late_is_not_counted(self) -> None:
        tally = rounds.Tally(1, 1)
        tally.count(rounds.Round('cancel', 9.0), FINE, True)
        self.assertEqual(0, tally.disturbed)
