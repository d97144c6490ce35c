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

"""What happened in one move, put together from all who saw it.

Nova's log on the source says which phase began when; the guest's ticks,
stamped by this machine, say what it felt; the link counted bytes.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing

SETTLED = ('mirroring', 'copying', 'mirrored', 'handed-over')
"""Phases that a writable disk goes through, in this order."""


@dataclasses.dataclass(frozen=True, slots=True)
class Phase:
    """A phase of one disk, or of the whole move where ``disk`` is empty."""

    at_s: float
    disk: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """The line that the driver writes when a move has ended.

    :param phases: by the wall clock, oldest first.
    :param disks: per target: ``total_bytes``, ``copied_bytes``,
        ``mirrored_bytes``.
    """

    pause_s: float
    disks: dict[str, dict[str, int]]
    phases: tuple[Phase, ...]

    def of_disk(self, target: str) -> list[str]:
        return [one.name for one in self.phases if one.disk == target]

    def went_by_snapshot(self, target: str) -> bool:
        """Whether a disk went through every phase, each after the other."""
        names = [n for n in self.of_disk(target) if n in SETTLED]
        return tuple(names) == SETTLED

    def at(self, name: str, disk: str = '') -> float:
        """When a phase began.

        :raises KeyError: it never did.
        """
        for one in self.phases:
            if (one.name, one.disk) == (name, disk):
                return one.at_s
        raise KeyError(name)


def read_report(log: str, migration: str) -> Report:
    """Find the report of a migration in a log of nova-compute.

    :raises ValueError: there is none.
    """
    found = re.findall(
        rf'sxm report migration {re.escape(migration)} server \S+ (.*)', log
    )
    if not found:
        raise ValueError(
            f'The log has no report of migration {migration}: the disks did '
            'not go by this driver.'
        )
    data: dict[str, typing.Any] = json.loads(found[-1])
    return Report(
        pause_s=data['pause_s'],
        disks=data['disks'],
        phases=tuple(Phase(*phase) for phase in data['phases']),
    )


def timeline(report: Report, begin_s: float) -> list[str]:
    """One line for each phase, with the seconds since the command."""
    lines = []
    for one in report.phases:
        subject = one.disk or 'guest' if one.name in _GUEST else one.disk
        lines.append(
            f'  {one.at_s - begin_s:7.2f}s  {subject or "move":5}  '
            f'{_WORDS.get(one.name, one.name)}'
        )
    return lines


_GUEST = ('pause', 'resume')
_WORDS = {
    'preparing': 'empty overlay made',
    'mirroring': 'snapshot taken, every new write goes to both hosts',
    'copying': 'the frozen part is being copied',
    'mirrored': 'the frozen part is at the destination',
    'pause': 'stands, for the hand-over',
    'resume': 'goes on, on small second overlays',
    'handed-over': 'both sides are frozen at the same point',
    'arrived': 'the guest runs on the destination',
}
