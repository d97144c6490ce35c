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

"""Moves in which many things go wrong, in orders that nobody thought of."""

import logging
import random
import unittest

from sxm_openstack import exception
from sxm_openstack.engine import ports
from sxm_openstack.mirror import move as mirror_move

from tests.fakes import world

SEEDS = 150


class TestRandomOrders(unittest.TestCase):
    def setUp(self):
        super().setUp()
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)

    def test_no_write_is_ever_lost(self):
        ends = set()
        for seed in range(SEEDS):
            with self.subTest(seed=seed):
                ends.add(self._once(random.Random(seed)))
        self.assertEqual({'arrived', 'undone'}, ends)

    def _once(self, dice: random.Random) -> str:
        made = self._make(dice)
        try:
            made.source.run()
        except exception.NeedsOperator:
            made.assert_nothing_lost(self)
        except exception.SXMError:
            if made.guest.domain_state is ports.DomainState.RUNNING:
                made.assert_on_source(self)
        else:
            if self._go_on(made, dice):
                return 'arrived'
        self._end_trouble(made)
        made.source.rollback()
        if made.guest.domain_state is ports.DomainState.RUNNING:
            made.assert_on_source(self)
        else:
            made.assert_nothing_lost_offline(self)
        return 'undone'

    def _make(self, dice: random.Random) -> world.World:
        disks = [
            world.disk('vda', dice.randrange(12)),
            world.disk('vdb', dice.randrange(12)),
            world.disk('vdc', dice.randrange(6)),
            world.disk('hda', dice.randrange(4), read_only=True),
        ]
        kept = dice.sample(disks, dice.randint(1, 4))
        made = world.World(
            kept,
            settings=mirror_move.Settings(
                verify=dice.choice(('none', 'full'))
            ),
            drivers={
                each.target: world.DIRECT
                for each in kept
                if dice.random() < 0.2
            },
            writes=dice.randrange(4),
            seed=dice.randrange(1 << 30),
        )
        made.transfer.blocks_at_once = dice.randint(1, 6)
        made.guest.slow_polls = dice.randrange(3)
        for _ in range(dice.choice((0, 0, 1, 1, 2, 4))):
            made.wires.trap(
                None,
                nth=dice.randrange(1, 220),
                error=self._trouble(made, dice),
            )
        return made

    def _trouble(self, made: world.World, dice: random.Random):
        def cut() -> None:
            if made.transfer.links:
                made.link.fail('nothing moved for 5 s')

        def lose_mirror() -> None:
            for export in made.guest.exports.values():
                if dice.random() < 0.5:
                    export.close()

        return dice.choice(
            (
                lambda: exception.MoveFailed('trouble'),
                lambda: exception.Retryable('trouble'),
                lambda: OSError(5, 'trouble'),
                lambda: made.control.abort('trouble'),
                made.control.hurry,
                lambda: setattr(made.guest.faults, 'refuse_snapshot', True),
                lambda: made.guest.faults.stall_commit.add('vda'),
                lambda: made.guest.faults.fail_pivot.add('vdb'),
                made.guest.power_off,
                cut,
                lose_mirror,
            )
        )

    def _go_on(self, made: world.World, dice: random.Random) -> bool:
        """The memory phase; whether it ended there."""
        self._end_trouble(made)
        made.assert_handed_over(self)
        if (
            dice.random() < 0.4
            or made.guest.domain_state is not ports.DomainState.RUNNING
        ):
            return False
        made.migrate(self)
        made.source.complete()
        made.destination.arrived()
        made.assert_on_destination(self)
        return True

    @staticmethod
    def _end_trouble(made: world.World) -> None:
        made.wires.traps.clear()
        for faults in (made.guest.faults, made.arriving.faults):
            faults.refuse_snapshot = False
            faults.stall_commit.clear()
            faults.fail_pivot.clear()
