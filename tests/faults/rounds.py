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
"""Moves back and forth that are disturbed at random, but repeatable, times."""

from __future__ import annotations

import collections.abc
import dataclasses
import random
import time
import typing

from tests.faults import bed as bed_mod
from tests.faults import checks
from tests.faults import injections
from tests.faults import matrix
from tests.faults import trial as trial_mod
from tests.functional import world as world_mod

ACTS = (
    'cancel',
    'cut_link_for_10_s',
    'flap_link',
    'freeze_servers_for_10_s',
    'kill_copier',
    'kill_libvirtd',
    'kill_libvirtd_there',
    'kill_mirror_server',
    'kill_relay',
    'kill_relay_there',
    'kill_service',
    'kill_service_there',
    'pause_guest',
    'slow_link',
    'write_hard',
)
_DISTURBED = 0.6
_LATEST_S = 10.0
_ORDERS_FOR_EACH = 3
_LINK = '8mbps'


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """One move of many.

    :param act: what is done; empty is nothing.
    :param delay_s: when, from the order on.
    """

    act: str
    delay_s: float


def plan(seed: int) -> collections.abc.Iterator[Round]:
    """Endless; the same for the same seed."""
    chance = random.Random(seed)
    while True:
        is_disturbed = chance.random() < _DISTURBED
        act, delay_s = chance.choice(ACTS), chance.uniform(0.0, _LATEST_S)
        yield Round(act if is_disturbed else '', round(delay_s, 2))


@dataclasses.dataclass(slots=True)
class Tally:
    """What many moves came to."""

    seed: int
    wanted: int
    ordered: int = 0
    arrived: int = 0
    disturbed: int = 0
    lost_writes: int = 0
    guest_io_errors: int = 0
    leftovers: list[str] = dataclasses.field(default_factory=list)
    wrong: list[str] = dataclasses.field(default_factory=list)

    @property
    def is_enough(self) -> bool:
        return (
            self.arrived >= self.wanted
            or self.ordered >= _ORDERS_FOR_EACH * self.wanted
        )

    def to_dict(self) -> dict[str, typing.Any]:
        told = dataclasses.asdict(self)
        wrong = told.pop('wrong')
        if self.arrived < self.wanted:
            wrong.append(f'only {self.arrived} of {self.wanted} moves arrived')
        return {**told, 'ok': not wrong, 'why': '; '.join(wrong)}

    def count(
        self, one: Round, seen: checks.Observation, missed: bool
    ) -> None:
        """Add a move that has ended."""
        self.ordered += 1
        self.disturbed += bool(one.act) and not missed
        self.arrived += seen.end is matrix.End.ARRIVED
        self.lost_writes += seen.lost_writes
        self.guest_io_errors += seen.io_errors
        self.leftovers += seen.leftovers
        self.wrong += [
            f'move {self.ordered} ({one.act or "undisturbed"} after '
            f'{one.delay_s} s): {each}'
            for each in checks.verdict(cell_of(one), seen)
        ]


def cell_of(one: Round) -> matrix.Cell:
    """What is right for it: it went on or is undone, and says why."""
    return matrix.Cell(
        # Not the link's row: the link is as it was after the act.
        matrix.Fault.LOAD if one.act else matrix.Fault.CONTENT,
        matrix.Phase.COPYING,
        one.act,
        frozenset(
            {matrix.End.ARRIVED, matrix.End.STAYED}
            if one.act
            else {matrix.End.ARRIVED}
        ),
        frozenset(
            [
                'Aborted',
                'CopyFailed',
                'LinkStalled',
                'MirrorFailed',
                'MoveFailed',
                'NeedsOperator',
                'PeerUnreachable',
            ]
            if one.act
            else ()
        ),
        stall_s=0.0 if one.act == 'pause_guest' else 3 * matrix.STALL_S,
        settings=(('link_timeout_s', 60.0),),
    )


def run_one(bed: bed_mod.Bed, one: Round) -> tuple[checks.Observation, bool]:
    """Move once.

    :returns: what was seen, and whether it was over before its fault.
    """
    missed = False

    def begin(guest: world_mod.Guest, cell: matrix.Cell) -> world_mod.Move:
        guest.world.lab.link(_LINK)
        move = guest.start_move(settings=dict(cell.settings))
        if one.act:
            time.sleep(one.delay_s)
        return move

    def act(trial: trial_mod.Trial) -> None:
        nonlocal missed
        assert trial.move is not None
        if not one.act:
            return
        missed = bool(trial.move.status()['over'])
        if missed:
            return
        try:
            injections.ACTS[one.act](trial)
        except trial_mod.Missed:
            missed = True

    trial = trial_mod.Trial(bed, cell_of(one))
    return trial.run(act, begin=begin), missed
