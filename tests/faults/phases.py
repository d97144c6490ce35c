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
"""Brings a move to the phase in which it is to be disturbed.

Most phases are a call of a port that a fault of :mod:`tests.functional.faults`
holds: the move waits there until it is released.  Copying and memory are
caught under way instead, on a link that is slow enough.
"""

from __future__ import annotations

import dataclasses
import typing

from tests.faults import bed as bed_mod
from tests.faults import matrix
from tests.functional import world as world_mod

_COPY_LINK = '6mbps'
_MEMORY_LINK = '8mbps'
_COPIED = 0.3


@dataclasses.dataclass(frozen=True, slots=True)
class Hold:
    """Where a move is to wait."""

    call: str
    when: str = 'before'
    nth: int = 1

    def to_fault(self) -> dict[str, typing.Any]:
        return {**dataclasses.asdict(self), 'action': 'hold'}


_DISKS = len(bed_mod.PLAN.disks)

HOLDS: dict[matrix.Phase, Hold] = {
    matrix.Phase.ORDERED: Hold('destination.prepare'),
    matrix.Phase.PREPARED: Hold('transfer.connect'),
    # Once for each disk when its mirror starts; then at the hand-over.
    matrix.Phase.MIRRORED: Hold('domain.wait_mirror_ready', nth=_DISKS + 1),
    matrix.Phase.MEMORY: Hold('destination.hand_over', 'after'),
    matrix.Phase.SWITCHED: Hold('libvirt.migrateToURI3', 'after'),
    matrix.Phase.CLEANING: Hold('destination.arrived'),
}

HOLDS_OF_ACTS: dict[str, Hold] = {
    # Compared once for each disk, the smaller one first.
    'change_target': Hold('destination.digests', nth=_DISKS),
    # Both sides are frozen from here on.
    'compare_sides': Hold('destination.hand_over', 'after'),
}
"""Acts that need another moment of their phase."""


def begin(guest: world_mod.Guest, cell: matrix.Cell) -> world_mod.Move:
    """Start the move; returns when it is in the cell's phase.

    It waits there to be released, or is slow to leave.

    :raises MoveTimeout: it did not get there.
    """
    link = guest.world.lab.link
    special = HOLDS_OF_ACTS.get(cell.act)
    hold = special or HOLDS.get(cell.phase)
    if hold is None:
        link(_COPY_LINK)
    move = guest.start_move(
        settings=dict(cell.settings),
        faults=[hold.to_fault()] if hold else [],
    )
    if hold is not None:
        move.wait_held(hold.call)
    else:
        move.wait_phase('copying', 'vda')
        move.wait_copied(_COPIED)
    if cell.phase is matrix.Phase.MEMORY and special is None:
        link(_MEMORY_LINK)
        move.release()
        move.wait_phase('memory')
    return move
