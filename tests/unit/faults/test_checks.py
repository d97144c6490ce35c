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
import dataclasses
import unittest

from tests.faults import checks
from tests.faults import matrix

CELL = matrix.Cell(
    matrix.Fault.LINK,
    matrix.Phase.COPYING,
    'cut_link',
    frozenset({matrix.End.STAYED}),
    frozenset({'LinkStalled'}),
    stall_s=7.0,
)
GOOD = checks.Observation(
    matrix.End.STAYED,
    error='LinkStalled',
    text='The link to compute2 was closed.',
    verified=True,
    stall_ms=5100,
)


class VerdictTest(unittest.TestCase):
    def wrong(self, cell: matrix.Cell = CELL, **changed: object) -> str:
        seen = dataclasses.replace(GOOD, **changed)  # type: ignore[arg-type]
        return '; '.join(checks.verdict(cell, seen))

    def test_good(self) -> None:
        self.assertEqual('', self.wrong())

    def test_wrong_end(self) -> None:
        self.assertIn('runs on both', self.wrong(end=matrix.End.TWICE))
        self.assertIn('is nowhere', self.wrong(end=matrix.End.LOST))
        self.assertIn('is off', self.wrong(end=matrix.End.OFF))
        self.assertIn('arrived', self.wrong(end=matrix.End.ARRIVED))

    def test_lost_writes(self) -> None:
        self.assertIn('3 sectors', self.wrong(lost_writes=3))

    def test_errors_in_the_guest(self) -> None:
        self.assertIn('1 I/O error', self.wrong(io_errors=1))

    def test_not_verified(self) -> None:
        self.assertIn('not verified', self.wrong(verified=False))

    def test_stall(self) -> None:
        self.assertIn('waited 7.1 s', self.wrong(stall_ms=7100))

    def test_stall_without_a_bound(self) -> None:
        free = dataclasses.replace(CELL, stall_s=0.0)
        self.assertEqual('', self.wrong(free, stall_ms=90000))

    def test_leftovers(self) -> None:
        self.assertIn('left: relay', self.wrong(leftovers=['relay']))

    def test_other_trouble(self) -> None:
        self.assertIn('no verdict', self.wrong(trouble=['no verdict']))

    def test_wrong_error(self) -> None:
        found = self.wrong(error='Aborted')
        self.assertIn('Aborted, expected: LinkStalled', found)

    def test_an_error_without_words(self) -> None:
        self.assertIn('says nothing', self.wrong(text=' '))

    def test_success_of_a_guest_that_stayed(self) -> None:
        self.assertIn('succeeded', self.wrong(error='', text=''))

    def test_nobody_is_left_to_say_it(self) -> None:
        found = self.wrong(error='', text='', silenced=True)
        self.assertEqual('', found)

    def test_an_error_is_wrong_where_none_is_allowed(self) -> None:
        sure = dataclasses.replace(
            CELL, ends=frozenset({matrix.End.ARRIVED}), errors=frozenset()
        )
        found = self.wrong(sure, end=matrix.End.ARRIVED)
        self.assertIn('expected: none', found)


class EndTest(unittest.TestCase):
    def end(self, here: str, there: str) -> matrix.End:
        return checks.end_of({'a': here, 'b': there}, 'a', 'b')

    def test_ends(self) -> None:
        end = matrix.End
        self.assertIs(end.STAYED, self.end('running', 'absent'))
        self.assertIs(end.STAYED, self.end('paused', 'incoming'))
        self.assertIs(end.ARRIVED, self.end('absent', 'paused'))
        self.assertIs(end.ARRIVED, self.end('shutoff', 'running'))
        self.assertIs(end.TWICE, self.end('running', 'paused'))
        self.assertIs(end.OFF, self.end('shutoff', 'absent'))
        self.assertIs(end.LOST, self.end('absent', 'incoming'))

    def test_a_host_that_does_not_answer(self) -> None:
        self.assertIs(
            matrix.End.LOST, checks.end_of({'a': 'absent'}, 'a', 'b')
        )


class LeftoversTest(unittest.TestCase):
    def test_words(self) -> None:
        self.assertEqual(
            ['journal on a: x', 'processes on a: 7: relay'],
            checks.leftovers(
                'a', {'processes': ['7: relay'], 'journal': ['x']}
            ),
        )

    def test_nothing(self) -> None:
        self.assertEqual([], checks.leftovers('a', {'journal': []}))

    def test_traces(self) -> None:
        found = [
            {'kind': 'process', 'name': '7', 'detail': 'relay'},
            {'kind': 'file', 'name': '/x', 'detail': ''},
            {'kind': 'runtime', 'name': '/run/x', 'detail': ''},
        ]
        self.assertEqual(
            ['process on a: 7 relay', 'runtime on a: /run/x'],
            checks.traces('a', [{'traces': found}]),
        )
