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
import unittest

from tests.faults import injections
from tests.faults import matrix


class CellsTest(unittest.TestCase):
    def test_names_are_unique(self) -> None:
        names = [cell.name for cell in matrix.CELLS]
        self.assertEqual(len(names), len(set(names)))

    def test_every_act_exists(self) -> None:
        acts = {cell.act for cell in matrix.CELLS}
        self.assertEqual(set(), acts - set(injections.ACTS))

    def test_every_act_is_used(self) -> None:
        acts = {cell.act for cell in matrix.CELLS}
        self.assertEqual(set(), set(injections.ACTS) - acts)

    def test_every_cell_has_an_end_that_is_no_loss(self) -> None:
        for cell in matrix.CELLS:
            self.assertTrue(cell.ends, cell.name)
            self.assertFalse(
                cell.ends & {matrix.End.LOST, matrix.End.TWICE}, cell.name
            )

    def test_only_a_guest_that_is_stopped_has_no_bound(self) -> None:
        unbound = {cell.act for cell in matrix.CELLS if not cell.stall_s}
        self.assertEqual(
            {
                'kill_qemu_here',
                'kill_qemu_there',
                'pause_guest',
                'reset_guest',
            },
            unbound,
        )

    def test_every_hole_has_a_reason(self) -> None:
        for fault in matrix.Fault:
            self.assertTrue(matrix.ROWS[fault])
            for phase in matrix.Phase:
                self.assertTrue(
                    matrix.cells_of(fault, phase) or matrix.gap(fault, phase),
                    f'{fault}.{phase}',
                )


class SelectTest(unittest.TestCase):
    def names(self, *words: str, quick: bool = False) -> set[str]:
        return {cell.name for cell in matrix.select(words, quick)}

    def test_all(self) -> None:
        self.assertEqual(list(matrix.CELLS), matrix.select())

    def test_a_row(self) -> None:
        found = self.names('cancel')
        self.assertIn('cancel.P0', found)
        self.assertEqual(7, len(found))

    def test_a_column(self) -> None:
        found = matrix.select(['P5'])
        self.assertEqual({matrix.Phase.SWITCHED}, {c.phase for c in found})
        self.assertGreater(len({c.fault for c in found}), 2)

    def test_a_row_and_a_column_cross(self) -> None:
        self.assertEqual({'cancel.P3'}, self.names('cancel', 'P3'))

    def test_a_name_means_all_variants(self) -> None:
        self.assertEqual(
            {'process.P2', 'process.P2.base', 'process.P2.qemu'},
            self.names('process.P2'),
        )

    def test_a_variant(self) -> None:
        self.assertEqual({'link.P2.flaps'}, self.names('link.P2.flaps'))

    def test_a_name_adds_to_a_row(self) -> None:
        found = self.names('tls', 'cancel.P1')
        self.assertEqual({'cancel.P1'}, found)

    def test_unknown(self) -> None:
        with self.assertRaisesRegex(ValueError, 'flood'):
            matrix.select(['flood'])

    def test_quick_touches_every_row_and_column(self) -> None:
        quick = matrix.select(quick=True)
        rows = {cell.fault for cell in matrix.CELLS}
        self.assertEqual(rows, {cell.fault for cell in quick})
        self.assertEqual(set(matrix.Phase), {cell.phase for cell in quick})
        self.assertLessEqual(len(quick), len(matrix.CELLS) / 3 + 1)

    def test_quick_within_a_row(self) -> None:
        self.assertEqual(
            {'cancel.P2', 'cancel.P5'}, self.names('cancel', quick=True)
        )
