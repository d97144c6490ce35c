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

"""What happened in a move, from the logs of both hosts and from outside.

Pure functions: nothing here touches the lab.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import re
import typing

_PHASE = re.compile(
    r'sxm phase (\S+) disk (\S+) migration (\S+) server \S+ at ([0-9.]+)'
)
_REPORT = re.compile(r'sxm report migration (\S+) server \S+ (\{.*\})')

#: Phases of a disk that goes by the algorithm.
MIRRORED = ('preparing', 'mirroring', 'copying', 'mirrored', 'handed-over')
#: Phases of one that the guest cannot write.
COPIED = ('copying', 'mirrored')

PAUSE_AT_MOST_MS = 1000.0
GAP_AT_MOST_MS = 5000.0


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """A moment of the move.

    :ivar at_s: since the order was given.
    :ivar disk: empty for the move as a whole.
    """

    at_s: float
    phase: str
    disk: str = ''


@dataclasses.dataclass(slots=True)
class Story:
    """One move; times are seconds since the order was given.

    :ivar pause_ms: how long the guest stood for the hand-over.
    :ivar gap_ms: longest silence of the guest at the switch-over.
    :ivar series: ``at_s``, ``rate`` (bytes/s) and ``latency_ms`` of the
        guest's writes.
    """

    source: str
    destination: str
    link: str
    status: str = ''
    total_s: float = 0.0
    marks: list[Mark] = dataclasses.field(default_factory=list)
    disks: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    pause_ms: float = 0.0
    gap_ms: float = 0.0
    bytes_sent: int = 0
    checked_sectors: int = 0
    lost_writes: int | None = None
    config_drive_same: bool = False
    left_on_source: list[str] = dataclasses.field(default_factory=list)
    series: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    def at(self, phase: str, disk: str = '') -> float | None:
        """When a phase began for the first time."""
        for mark in self.marks:
            if (mark.phase, mark.disk) == (phase, disk):
                return mark.at_s
        return None

    def phases_of(self, disk: str) -> tuple[str, ...]:
        return tuple(mark.phase for mark in self.marks if mark.disk == disk)

    def checks(self) -> dict[str, bool]:
        """What has to hold, and whether it did."""
        moved = [
            self.phases_of(disk)
            for disk in self.disks
            if self.phases_of(disk)[:1] != COPIED[:1]
        ]
        return {
            'the server runs on the destination': self.status == 'completed',
            'every disk that the guest writes to went by snapshot, mirror '
            'and copy': bool(moved)
            and all(phases == MIRRORED for phases in moved),
            'every acknowledged write is there': self.lost_writes == 0
            and self.checked_sectors > 0,
            'the config drive arrived byte for byte': self.config_drive_same,
            'nothing is left on the source': not self.left_on_source,
            f'the guest stood for less than {PAUSE_AT_MOST_MS:.0f} ms '
            'for the hand-over': 0 < self.pause_ms < PAUSE_AT_MOST_MS,
            f'and was silent for less than {GAP_AT_MOST_MS / 1000:.0f} s '
            'at the switch': 0 < self.gap_ms < GAP_AT_MOST_MS,
        }

    @property
    def ok(self) -> bool:
        return all(self.checks().values())

    def to_dict(self) -> dict[str, typing.Any]:
        """What ``build/demo.json`` holds."""
        return {
            'ok': self.ok,
            'checks': self.checks(),
            'lost_writes': self.lost_writes,
            'checked_sectors': self.checked_sectors,
            'handover_pause_ms': round(self.pause_ms, 1),
            'switchover_gap_ms': round(self.gap_ms, 1),
            'total_s': round(self.total_s, 3),
            'bytes_sent': self.bytes_sent,
            'phases': [dataclasses.asdict(mark) for mark in self.marks],
            'disks': self.disks,
            'status': self.status,
            'source': self.source,
            'destination': self.destination,
            'link': self.link,
            'config_drive_same': self.config_drive_same,
            'left_on_source': self.left_on_source,
        }


def read_marks(log: str, migration: str, began_s: float) -> list[Mark]:
    """The changes of phase that a compute host has logged.

    :param migration: UUID.
    :param began_s: when the order was given, by the clock of the logs.
    """
    return [
        Mark(
            round(float(at_s) - began_s, 3), phase, '' if disk == '-' else disk
        )
        for phase, disk, uuid, at_s in _PHASE.findall(log)
        if uuid == migration
    ]


def read_report(log: str, migration: str) -> dict[str, typing.Any]:
    """The figures that the source logs at the end; empty without."""
    for uuid, text in _REPORT.findall(log):
        if uuid == migration:
            found: dict[str, typing.Any] = json.loads(text)
            return found
    return {}


def lines(story: Story) -> collections.abc.Iterator[str]:
    """The story as text for a terminal."""
    yield (
        f'From {story.source} to {story.destination} over a link of '
        f'{story.link}, in {story.total_s:.1f} s:'
    )
    yield ''
    yield '      at  what'
    for mark in story.marks:
        yield f'{mark.at_s:7.2f}s  {_describe(mark, story)}'
    yield f'{story.total_s:7.2f}s  the migration is {story.status}'
    yield ''
    yield f'{"disk":>6} {"copied":>12} {"mirrored":>12} {"seconds":>9}'
    for disk, figures in sorted(story.disks.items()):
        began = story.at('preparing', disk) or story.at('copying', disk) or 0.0
        took = (story.at('mirrored', disk) or began) - began
        yield (
            f'{disk:>6} {_mib(figures["copied_bytes"]):>12} '
            f'{_mib(figures["mirrored_bytes"]):>12} {took:9.1f}'
        )
    yield ''
    yield f'hand-over pause  {story.pause_ms:8.0f} ms'
    yield f'switch-over gap  {story.gap_ms:8.0f} ms, as the guest saw it'
    yield f'sent in all      {_mib(story.bytes_sent):>12}'
    yield f'verified         {story.checked_sectors} sectors, ' + (
        'not done'
        if story.lost_writes is None
        else f'{story.lost_writes} lost or wrong'
    )
    yield ''
    for check, held in story.checks().items():
        yield f'[{"ok" if held else "FAILED"}] {check}'


_WORDS = {
    'preparing': 'an overlay is made on both sides',
    'mirroring': 'snapshot taken; each new write goes to both sides',
    'copying': 'its frozen part is copied behind the guest',
    'mirrored': 'all of it is on both sides',
    'pause': 'the guest stands',
    'resume': 'the guest goes on',
    'handed-over': 'frozen on both sides, a small overlay on top',
    'arrived': 'the guest runs on the destination',
    'reverted': 'undone',
}


def _describe(mark: Mark, story: Story) -> str:
    words = _WORDS.get(mark.phase, mark.phase)
    read_only = story.phases_of(mark.disk)[:1] == COPIED[:1]
    if mark.disk and read_only and mark.phase == 'copying':
        words = 'the guest cannot write to it: it is copied and compared'
    return f'{mark.disk:<4}{words}' if mark.disk else f'    {words}'


def _mib(size_bytes: int) -> str:
    return f'{size_bytes / (1 << 20):.1f} MiB'
