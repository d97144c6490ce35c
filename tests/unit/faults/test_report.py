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
import typing
import unittest

from tests.faults import checks
from tests.faults import manual
from tests.faults import matrix
from tests.faults import report


def result(name: str, **seen: typing.Any) -> report.Result:
    (cell,) = matrix.select([name])
    (end, *_) = cell.ends
    (error, *_) = sorted(cell.errors) or ['']
    values = {'error': error, 'text': error, 'verified': True, **seen}
    return report.Result.of(cell, checks.Observation(end, **values))


GOOD = result('cancel.P1', stall_ms=120)
BAD = result('mirror.P2', lost_writes=2)


class ResultTest(unittest.TestCase):
    def test_good(self) -> None:
        told = GOOD.to_dict()
        self.assertTrue(told['ok'])
        self.assertEqual(
            ('cancel', 'P1', 'stayed', 'Aborted', 0, 0, 120, [], ''),
            tuple(
                told[key]
                for key in (
                    'fault',
                    'phase',
                    'end',
                    'error',
                    'lost_writes',
                    'guest_io_errors',
                    'stall_ms',
                    'leftovers',
                    'why',
                )
            ),
        )

    def test_bad(self) -> None:
        told = BAD.to_dict()
        self.assertFalse(told['ok'])
        self.assertIn('2 sectors', told['why'])

    def test_lines(self) -> None:
        self.assertTrue(report.line(GOOD).startswith('ok '))
        head, why = report.line(BAD).splitlines()
        self.assertTrue(head.startswith('FAILED'))
        self.assertIn('2 sectors', why)


class FiguresTest(unittest.TestCase):
    def test_what_did_not_run_is_told_apart(self) -> None:
        told = report.not_run([GOOD.to_dict()])
        by_place = {(one['fault'], one['phase']): one['why'] for one in told}
        self.assertNotIn(('cancel', 'P1'), by_place)
        self.assertIn('not run this time', by_place['cancel', 'P2'])
        self.assertIn('Keystone', by_place['tls', 'P0'])
        places = len(matrix.Fault) * len(matrix.Phase)
        self.assertEqual(places - 1, len(told))

    def test_a_new_run_replaces_the_old_one(self) -> None:
        old = GOOD.to_dict()
        new = result('cancel.P1', io_errors=1).to_dict()
        merged = report.merged([BAD.to_dict(), old], new)
        self.assertEqual([new, BAD.to_dict()], merged)

    def test_cells_that_are_no_more_are_dropped(self) -> None:
        gone = {**GOOD.to_dict(), 'variant': 'gone'}
        self.assertEqual(
            [GOOD.to_dict()], report.merged([gone], GOOD.to_dict())
        )


class TableTest(unittest.TestCase):
    def rows(self, *results: report.Result) -> dict[str, list[str]]:
        text = report.table([one.to_dict() for one in results])
        return {
            line.split()[0]: line.split()[1:] for line in text.splitlines()[1:]
        }

    def test_marks(self) -> None:
        rows = self.rows(GOOD, BAD)
        self.assertEqual(['.', 'ok', '.', '.', '.', '.', '.'], rows['cancel'])
        self.assertEqual(['FAIL', '.'], rows['mirror'])
        self.assertEqual([], rows['tls'])

    def test_a_part_of_the_variants_is_not_ok(self) -> None:
        rows = self.rows(result('mirror.P3.ended'))
        self.assertEqual(['.', '.'], rows['mirror'])


class PageTest(unittest.TestCase):
    moves: typing.ClassVar[dict[str, typing.Any]] = {
        'seed': 7,
        'ordered': 25,
        'arrived': 20,
        'disturbed': 14,
        'lost_writes': 0,
        'guest_io_errors': 0,
        'leftovers': [],
        'ok': True,
        'why': '',
    }

    def test_page(self) -> None:
        text = manual.page([GOOD.to_dict(), BAD.to_dict()], self.moves)
        self.assertIn('2 sectors', text)
        self.assertIn('**FAILS**', text)
        self.assertIn('arrived 20', text)
        self.assertIn('Keystone', text)

    def test_without_moves(self) -> None:
        self.assertNotIn('Back and forth', manual.page([], None))

    def test_a_cell_that_did_not_run_is_not_ok(self) -> None:
        text = manual.page([BAD.to_dict()], None)
        self.assertNotIn('- ok', text)

    def test_reasons_are_brief(self) -> None:
        uuid = '5c4d0000-0000-4000-8000-000000000004'
        bad = result(
            'mirror.P2', trouble=[f'left: /a/{uuid}/disk of {uuid} ' * 50]
        )
        text = manual.page([bad.to_dict()], None)
        self.assertIn('left: disk of UUID', text)
        self.assertLess(text.count('UUID'), 20)

    def test_lines_are_short(self) -> None:
        text = manual.page([GOOD.to_dict(), BAD.to_dict()], self.moves)
        for line in text.splitlines():
            self.assertLessEqual(len(line), 79, line)
