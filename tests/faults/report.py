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
"""What the cells have shown: on the terminal, as JSON, in the manual."""

from __future__ import annotations

import collections.abc
import dataclasses
import typing

from tests.faults import checks
from tests.faults import matrix


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """A cell that ran.

    :ivar why: what was wrong; empty if nothing was.
    """

    cell: matrix.Cell
    seen: checks.Observation
    why: tuple[str, ...]

    @classmethod
    def of(cls, cell: matrix.Cell, seen: checks.Observation) -> Result:
        return cls(cell, seen, tuple(checks.verdict(cell, seen)))

    @property
    def ok(self) -> bool:
        return not self.why

    def to_dict(self) -> dict[str, typing.Any]:
        return {
            'fault': str(self.cell.fault),
            'phase': str(self.cell.phase),
            'variant': self.cell.variant,
            'act': self.cell.act,
            'ok': self.ok,
            'end': str(self.seen.end),
            'error': self.seen.error,
            'lost_writes': self.seen.lost_writes,
            'guest_io_errors': self.seen.io_errors,
            'stall_ms': self.seen.stall_ms,
            'stall_limit_ms': round(1000 * self.cell.stall_s) or None,
            'leftovers': self.seen.leftovers,
            'seconds': round(self.seen.seconds, 1),
            'why': '; '.join(self.why),
        }


def line(result: Result) -> str:
    """A cell, when it has run."""
    seen = result.seen
    head = (
        f'{"ok" if result.ok else "FAILED":6} {result.cell.name:22} '
        f'{seen.end:8} {seen.error or "-":14} '
        f'lost {seen.lost_writes}  errors {seen.io_errors}  '
        f'stall {seen.stall_ms:6.0f} ms  left {len(seen.leftovers)}  '
        f'{seen.seconds:5.1f} s'
    )
    return '\n'.join([head, *(f'       {each}' for each in result.why)])


def not_run(
    cells: collections.abc.Sequence[dict[str, typing.Any]],
) -> list[dict[str, str]]:
    """Faults and phases of which nothing ran, each with its reason."""
    ran = {(cell['fault'], cell['phase']) for cell in cells}
    return [
        {
            'fault': str(fault),
            'phase': str(phase),
            'why': matrix.gap(fault, phase) or 'it was not run this time',
        }
        for fault in matrix.Fault
        for phase in matrix.Phase
        if (fault, phase) not in ran
    ]


def merged(
    cells: collections.abc.Sequence[dict[str, typing.Any]],
    new: dict[str, typing.Any],
) -> list[dict[str, typing.Any]]:
    """The cells with a new one, in place of an older run of the same; those
    that the matrix does not have any more are dropped."""
    by_key = {key(cell): cell for cell in (*cells, new)}
    order = [
        (str(one.fault), str(one.phase), one.variant) for one in matrix.CELLS
    ]
    return [by_key[each] for each in order if each in by_key]


def key(cell: dict[str, typing.Any]) -> tuple[str, str, str]:
    """Fault, phase and variant: what tells cells apart."""
    return cell['fault'], cell['phase'], cell['variant']


def table(cells: collections.abc.Sequence[dict[str, typing.Any]]) -> str:
    """Faults by phases for the terminal.

    ``ok``, ``FAIL``, ``.`` where a cell was not run now, and nothing where
    there is no cell.
    """
    rows = [['', *matrix.Phase]]
    for fault in matrix.Fault:
        rows.append(
            [fault, *(_mark(fault, phase, cells) for phase in matrix.Phase)]
        )
    return '\n'.join(
        f'{row[0]:10}' + ''.join(f'{word:>7}' for word in row[1:])
        for row in rows
    )


def _mark(
    fault: matrix.Fault,
    phase: matrix.Phase,
    cells: collections.abc.Sequence[dict[str, typing.Any]],
) -> str:
    wanted = matrix.cells_of(fault, phase)
    if not wanted:
        return ''
    ran = [
        cell
        for cell in cells
        if (cell['fault'], cell['phase']) == (fault, phase)
    ]
    if any(not cell['ok'] for cell in ran):
        return 'FAIL'
    return 'ok' if len(ran) == len(wanted) else '.'
