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

"""Steps are journalled around, located when they fail, undone in reverse."""

import logging
import random
import tempfile
import unittest
from unittest import mock

from sxm_openstack import exception
from sxm_openstack.engine import control
from sxm_openstack.engine import journal
from sxm_openstack.engine import runner
from sxm_openstack.engine import step

from tests.fakes import clock

SERVER = 'c0ffee00-0000-4000-8000-000000000002'


class Scripted(step.Step):
    """A step that does what the test says.

    :param log: every call of every step, in order.
    """

    def __init__(self, name, log, target=''):
        self.name, self.target = name, target
        self.log = log
        self.on_execute = lambda: None
        self.on_revert = lambda: None

    def execute(self):
        self.log.append(f'do {self}')
        self.on_execute()

    def revert(self):
        self.log.append(f'undo {self}')
        self.on_revert()

    def probe(self):
        return step.Outcome.UNKNOWN


def fail(error):
    def raising():
        raise error

    return raising


class RunnerTestCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.journal = journal.Journal(directory.name)
        self.control = control.Control()
        self.clock = clock.FakeClock()
        self.log = []
        self.steps = [
            Scripted('one', self.log),
            Scripted('two', self.log, 'vda'),
            Scripted('three', self.log, 'vdb'),
        ]
        self.runner = self.make(self.steps)

    def make(self, steps):
        return runner.Runner(
            steps,
            self.journal,
            journal.Record(SERVER, journal.Role.SOURCE, 'beta'),
            self.control,
            'alpha',
            self.clock,
        )

    def marks(self):
        record = self.journal.read(SERVER)
        return None if record is None else dict(record.steps)


class TestRun(RunnerTestCase):
    def test_in_order(self):
        self.runner.run()
        self.assertEqual(['do one', 'do two vda', 'do three vdb'], self.log)
        self.assertEqual(
            {'one': 'done', 'two vda': 'done', 'three vdb': 'done'},
            self.marks(),
        )

    def test_intent_before_the_call_and_result_after(self):
        seen = []
        self.steps[1].on_execute = lambda: seen.append(self.marks())
        self.runner.run()
        self.assertEqual([{'one': 'done', 'two vda': 'intent'}], seen)

    def test_without_steps_nothing_is_written(self):
        empty = self.make([])
        empty.run()
        empty.commit()
        self.assertIsNone(self.marks())

    def test_undone_in_reverse(self):
        self.steps[2].on_execute = fail(exception.MoveFailed('cause'))
        self.assertRaises(exception.MoveFailed, self.runner.run)
        self.assertEqual(
            ['undo three vdb', 'undo two vda', 'undo one'], self.log[3:]
        )
        self.assertIsNone(self.marks())
        self.assertEqual((), self.runner.left)

    def test_the_failure_is_located(self):
        self.steps[1].on_execute = fail(exception.CopyFailed('cause'))
        with self.assertRaises(exception.CopyFailed) as caught:
            self.runner.run()
        error = caught.exception
        self.assertEqual(
            ('two', 'alpha', 'vda'), (error.step, error.host, error.disk)
        )
        self.assertEqual('cause (step two, host alpha, disk vda)', str(error))

    def test_what_a_lower_layer_said_is_kept(self):
        self.steps[1].on_execute = fail(
            exception.MirrorFailed('cause', host='beta', disk='vdz')
        )
        with self.assertRaises(exception.MirrorFailed) as caught:
            self.runner.run()
        self.assertEqual(
            ('beta', 'vdz'), (caught.exception.host, caught.exception.disk)
        )

    def test_any_other_error_becomes_ours(self):
        cause = KeyError('vda')
        self.steps[0].on_execute = fail(cause)
        with self.assertRaises(exception.MoveFailed) as caught:
            self.runner.run()
        self.assertIs(cause, caught.exception.__cause__)
        self.assertIn('KeyError', str(caught.exception))
        self.assertIsNone(caught.exception.disk)

    def test_abort_between_steps(self):
        self.steps[0].on_execute = lambda: self.control.abort('enough')
        self.assertRaisesRegex(exception.Aborted, 'enough', self.runner.run)
        self.assertEqual(['do one', 'undo one'], self.log)

    def test_abort_in_the_last_step(self):
        self.steps[2].on_execute = lambda: self.control.abort('enough')
        self.assertRaises(exception.Aborted, self.runner.run)
        self.assertEqual(3, sum(c.startswith('undo') for c in self.log))

    def test_earlier_record(self):
        other = journal.Record(SERVER, journal.Role.DESTINATION, 'gamma')
        self.journal.write(other)
        with self.assertRaises(exception.PreCheckFailed) as caught:
            self.runner.run()
        self.assertEqual('alpha', caught.exception.host)
        self.assertEqual(other, self.journal.read(SERVER))
        self.assertEqual([], self.log)


class TestUndoFails(RunnerTestCase):
    def _stick(self, step_, times=10**6, error=None):
        left = [times]

        def revert():
            left[0] -= 1
            if left[0] >= 0:
                raise error or exception.MirrorFailed('stuck')

        step_.on_revert = revert

    def test_goes_on_past_it(self):
        self._stick(self.steps[1])
        self.steps[2].on_execute = fail(exception.MoveFailed('cause'))
        with self.assertRaises(exception.NeedsOperator) as caught:
            self.runner.run()
        self.assertEqual('undo one', self.log[5])
        self.assertEqual({'two vda': 'done'}, self.marks())
        self.assertEqual(('two vda',), self.runner.left)
        text = str(caught.exception)
        for part in ('cause', 'Not undone: two vda.', 'stuck', 'step three'):
            self.assertIn(part, text)

    def test_no_failure_hides_another(self):
        first = exception.MoveFailed('cause')
        self.steps[2].on_execute = fail(first)
        self._stick(self.steps[0], error=exception.MirrorFailed('stuck 0'))
        self._stick(self.steps[1], error=OSError(5, 'stuck 1'))
        with self.assertRaises(exception.NeedsOperator) as caught:
            self.runner.run()
        causes = caught.exception.__cause__
        self.assertIsInstance(causes, ExceptionGroup)
        self.assertIs(first, causes.exceptions[0])
        text = str(caught.exception)
        self.assertIn('Not undone: two vda, one.', text)
        self.assertIn('stuck 0', text)
        self.assertIn('stuck 1', text)

    def test_tried_again(self):
        self._stick(self.steps[1], times=3)
        self.steps[2].on_execute = fail(exception.MoveFailed('cause'))
        self.assertRaisesRegex(exception.MoveFailed, 'cause', self.runner.run)
        self.assertEqual(4, self.log.count('undo two vda'))
        self.assertEqual(1, self.log.count('undo one'))
        self.assertIsNone(self.marks())

    def test_not_for_ever(self):
        self._stick(self.steps[1])
        self.steps[2].on_execute = fail(exception.MoveFailed('cause'))
        self.assertRaises(exception.NeedsOperator, self.runner.run)
        self.assertLess(sum(self.clock.slept), 60)
        self.assertGreater(sum(self.clock.slept), 10)

    def test_what_needs_an_operator_is_not_tried_again(self):
        self._stick(
            self.steps[0], error=exception.NeedsOperator('it runs there')
        )
        self.steps[1].on_execute = fail(exception.MoveFailed('cause'))
        self.assertRaises(exception.NeedsOperator, self.runner.run)
        self.assertEqual([], self.clock.slept)
        self.assertEqual(1, self.log.count('undo one'))

    def test_a_later_try_undoes_what_was_left_and_no_more(self):
        self._stick(self.steps[1], times=200)
        self.steps[2].on_execute = fail(exception.MoveFailed('cause'))
        self.assertRaises(exception.NeedsOperator, self.runner.run)
        self.steps[1].on_revert = lambda: None
        del self.log[:]
        self.runner.revert()
        self.assertEqual(['undo two vda'], self.log)
        self.assertIsNone(self.marks())
        self.assertEqual((), self.runner.left)

    def test_the_journal_cannot_be_written_any_more(self):
        """Undoing goes on: the record then only says too much."""
        self.steps[2].on_execute = self._fill_the_disk
        self.assertRaisesRegex(exception.MoveFailed, 'cause', self.runner.run)
        self.assertEqual(3, sum(c.startswith('undo') for c in self.log))

    def _fill_the_disk(self):
        self.journal.write = mock.Mock(side_effect=OSError(28, 'full'))
        raise exception.MoveFailed('cause')

    def test_after_the_point_of_no_return(self):
        self.runner.run()
        self.runner.commit()
        self.assertTrue(self.journal.read(SERVER).committed)
        self.assertRaises(exception.NeedsOperator, self.runner.revert)
        self.assertNotIn('undo one', self.log)
        self.assertTrue(self.journal.read(SERVER).committed)


class TestRandomOrders(RunnerTestCase):
    """Whatever fails, however often: what was begun is undone, last first."""

    def test_many(self):
        for seed in range(200):
            with self.subTest(seed=seed):
                self._once(random.Random(seed))

    def _once(self, dice):
        log = []
        steps = [Scripted(f's{n}', log) for n in range(dice.randint(1, 6))]
        failing = dice.randrange(len(steps))
        steps[failing].on_execute = fail(exception.MoveFailed('cause'))
        flaky = {step_: dice.choice((0, 0, 1, 2)) for step_ in steps}
        for step_ in steps:

            def revert(step_=step_):
                if flaky[step_]:
                    flaky[step_] -= 1
                    raise exception.Retryable('not yet')
                log.append(f'undone {step_}')

            step_.on_revert = revert
        made = self.make(steps)
        self.assertRaisesRegex(exception.MoveFailed, 'cause', made.run)
        undone = [each for each in log if each.startswith('undone')]
        self.assertCountEqual(
            [f'undone s{n}' for n in range(failing + 1)], undone
        )
        first_pass = list(reversed(range(failing + 1)))
        attempts = [each for each in log if each.startswith('undo ')]
        self.assertEqual(
            [f'undo s{n}' for n in first_pass], attempts[: failing + 1]
        )
        self.assertIsNone(self.marks())
