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

import io
import json
import pathlib
import tempfile
import unittest

from tests.runner import inside
from tests.runner import outcome
from tests.runner import suite


class Sample(unittest.TestCase):
    """Not run by itself: it has no test that a loader would find."""

    def passes(self) -> None:
        self.assertTrue(True)

    def fails(self) -> None:
        self.fail('on purpose')

    def breaks(self) -> None:
        raise OSError('on purpose')

    def skips(self) -> None:
        self.skipTest('no tool')

    def fails_inside(self) -> None:
        with self.subTest(number=1):
            self.fail('on purpose')

    @unittest.expectedFailure
    def fails_as_expected(self) -> None:
        self.fail('on purpose')


class JSONResultTest(unittest.TestCase):
    def told(self, method: str) -> outcome.TestOutcome:
        stream = io.StringIO()
        Sample(method).run(inside.JSONResult(stream))
        begin, end = map(json.loads, stream.getvalue().splitlines())
        self.assertEqual(end['name'], begin['begin'])
        return outcome.TestOutcome(**end)

    def test_verdicts(self) -> None:
        for method, verdict in (
            ('passes', outcome.Verdict.PASSED),
            ('fails', outcome.Verdict.FAILED),
            ('breaks', outcome.Verdict.ERROR),
            ('skips', outcome.Verdict.FAILED),
            ('fails_inside', outcome.Verdict.FAILED),
            ('fails_as_expected', outcome.Verdict.FAILED),
        ):
            with self.subTest(method=method):
                told = self.told(method)
                self.assertEqual(verdict, told.verdict)
                self.assertEqual(method == 'passes', told.detail == '')

    def test_module_that_cannot_be_imported_is_an_error(self) -> None:
        stream = io.StringIO()
        inside.load(['tests.no_such_module'], []).run(
            inside.JSONResult(stream)
        )
        told = json.loads(stream.getvalue().splitlines()[-1])
        self.assertEqual(outcome.Verdict.ERROR, told['verdict'])


class OutcomeTest(unittest.TestCase):
    def test_nothing_run_is_not_ok(self) -> None:
        self.assertFalse(outcome.Outcome().ok)

    def test_counts(self) -> None:
        found = outcome.Outcome()
        for verdict in outcome.Verdict:
            found.add(outcome.TestOutcome('a', verdict, 1.0))
        self.assertFalse(found.ok)
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory, 'results', 'suite.json')
            found.write(path)
            data = json.loads(path.read_text())
        self.assertEqual(
            (1, 2, 1), (data['passed'], data['failed'], data['errors'])
        )


class SuiteTest(unittest.TestCase):
    def test_functional_runs_inside_and_outside(self) -> None:
        inner, outer, _ = suite.SUITES['functional'].groups
        self.assertEqual('compute1', inner.host)
        self.assertIn('tests.functional.test_move', outer.modules())
