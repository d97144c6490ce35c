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
"""What was seen of a cell, and whether it is right."""

from __future__ import annotations

import collections.abc
import dataclasses
import textwrap
import typing

from tests.faults import matrix

_BRIEF = 300


@dataclasses.dataclass(slots=True)
class Observation:
    """One cell that ran; see :func:`verdict`.

    :ivar end: where the guest was when all was over.
    :ivar error: class of the move's error; empty if it succeeded, or if
        nobody was left to say.
    :ivar silenced: the service was killed: there is no result of the move.
    :ivar verified: the guest has compared what it had written.
    :ivar lost_writes: sectors that are not what was acknowledged.
    :ivar io_errors: reads and writes that failed in the guest.
    :ivar stall_ms: longest that a write waited from the fault on.
    :ivar leftovers: what was left after the clean-up, by name.
    :ivar trouble: anything else that was not as it should be.
    """

    end: matrix.End
    error: str = ''
    text: str = ''
    silenced: bool = False
    verified: bool = False
    lost_writes: int = 0
    io_errors: int = 0
    stall_ms: float = 0.0
    leftovers: list[str] = dataclasses.field(default_factory=list)
    trouble: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


def verdict(cell: matrix.Cell, seen: Observation) -> list[str]:
    """What is wrong; empty if the cell is as it should be."""
    wrong = list(seen.trouble)
    if seen.end not in cell.ends:
        wanted = ' or '.join(sorted(cell.ends))
        wrong.append(f'the guest {_where(seen.end)}, expected: {wanted}')
    wrong += _wrong_error(cell, seen)
    if not seen.verified:
        wrong.append('the guest has not verified its disks')
    if seen.lost_writes:
        wrong.append(f'{seen.lost_writes} sectors are not as acknowledged')
    if seen.io_errors:
        wrong.append(f'{seen.io_errors} I/O errors in the guest')
    if cell.stall_s and seen.stall_ms > 1000 * cell.stall_s:
        wrong.append(
            f'a write waited {seen.stall_ms / 1000:.1f} s, '
            f'at most {cell.stall_s:.1f} s is right'
        )
    if seen.leftovers:
        wrong.append('left: ' + ', '.join(seen.leftovers))
    return wrong


def _where(end: matrix.End) -> str:
    return {
        matrix.End.LOST: 'is nowhere',
        matrix.End.TWICE: 'runs on both hosts',
        matrix.End.OFF: 'is off',
    }.get(end, str(end))


def _wrong_error(cell: matrix.Cell, seen: Observation) -> list[str]:
    if seen.silenced:
        return []
    if not seen.error:
        # An error that was allowed need not have come, if the guest did.
        if seen.end is matrix.End.STAYED and not seen.trouble:
            return ['the move succeeded, but the guest is where it was']
        return []
    if seen.error not in cell.errors:
        wanted = ', '.join(sorted(cell.errors)) or 'none'
        said = textwrap.shorten(seen.text, _BRIEF)
        return [f'{seen.error}, expected: {wanted} ({said})']
    return [] if seen.text.strip() else [f'{seen.error} says nothing']


def end_of(states: dict[str, str], source: str, peer: str) -> matrix.End:
    """Where a guest is, from what libvirt says on both hosts."""
    on = [
        name
        for name in (source, peer)
        if states.get(name) in ('running', 'paused')
    ]
    if len(on) == 2:
        return matrix.End.TWICE
    if on:
        return matrix.End.STAYED if on == [source] else matrix.End.ARRIVED
    off = [name for name in (source, peer) if states.get(name) == 'shutoff']
    return matrix.End.OFF if off else matrix.End.LOST


def leftovers(name: str, found: dict[str, typing.Any]) -> list[str]:
    """What an agent says is left on its host, as words."""
    return [
        f'{kind} on {name}: {each}'
        for kind, some in sorted(found.items())
        for each in some
    ]


def traces(
    name: str, cases: collections.abc.Sequence[dict[str, typing.Any]]
) -> list[str]:
    """What ``sxm-manage leftovers`` says, as words; files are known
    already, by their paths."""
    return [
        f'{each["kind"]} on {name}: {each["name"]} {each["detail"]}'.rstrip()
        for case in cases
        for each in case['traces']
        if each['kind'] != 'file'
    ]
