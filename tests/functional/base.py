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

"""What all tests of moves have in common.

A guest is booted for a class and moves there and back: each test begins on the
host where the one before it left the guest.
"""

from __future__ import annotations

import atexit
import json
import time
import typing
import unittest

from tests.functional import guests
from tests.functional import world as world_mod
from tests.lab import host as host_mod

WRITES_BYTES_PER_S = 5_400_000
"""What :meth:`MoveCase.write` asks for, over two disks."""

_WORLD: list[world_mod.World] = []


def the_world() -> world_mod.World:
    """The hosts, their agents made anew once for each run of tests."""
    if not _WORLD:
        _WORLD.append(world_mod.World.open())
        atexit.register(_WORLD[0].close)
    return _WORLD[0]


class MoveCase(unittest.TestCase):
    """A guest that writes, and what must hold when its move has ended.

    :cvar plan: the guest.
    """

    plan: guests.Plan
    world: world_mod.World
    _guest: world_mod.Guest | None = None

    @classmethod
    def setUpClass(cls) -> None:
        cls.world = the_world()
        cls._guest = None

    @classmethod
    def tearDownClass(cls) -> None:
        if cls._guest is not None:
            cls._guest.destroy()

    def setUp(self) -> None:
        self.world.lab.link('off')
        self.addCleanup(self.world.lab.link, 'off')
        self.guest = self._living_guest()
        self.addCleanup(self._end_writers)

    def _living_guest(self) -> world_mod.Guest:
        """The class's guest; another one if a test has broken it."""
        cls = type(self)
        guest = cls._guest
        if guest is not None and not (
            guest.is_as_left and guest.tops() == self.ordinary_files()
        ):
            guest.destroy()
            cls._guest = guest = None
        if guest is None:
            plan = cls.plan
            world_mod.Guest(self.world, plan, world_mod.HOSTS[0]).destroy()
            cls._guest = guest = self.world.boot(plan)
        return guest

    def _end_writers(self) -> None:
        guest = self.guest
        if guest.state(guest.host) == 'running':
            guest.control.stop()

    # -- the guest writes ---------------------------------------------------

    def write(self) -> None:
        """64 KiB blocks on vda and, where there is one, 4 KiB on vdb."""
        self.guest.control.write(
            'vda',
            'uniform',
            65536,
            5_000_000,
            4,
            start=16 << 20,
            span=32 << 20,
            unit_bytes=65536,
        )
        if any(disk.target == 'vdb' for disk in self.plan.disks):
            self.guest.control.write(
                'vdb', 'uniform', 4096, 400_000, 1, start=0, span=16 << 20
            )
        time.sleep(0.5)

    def verify(self) -> None:
        """Every acknowledged write is there, and nothing else is."""
        self.guest.control.stop()
        found = self.guest.control.verify(120.0)
        self.assertTrue(found.ok, found)
        self.assertEqual((0, 0, 0), (found.lost, found.bad, found.future))

    # -- what must hold -------------------------------------------------------

    def host(self, name: str) -> host_mod.Host:
        return self.world.hosts[name]

    def ordinary_files(self) -> dict[str, str]:
        return {
            disk.target: self.plan.file(disk.target)
            for disk in self.plan.disks
        }

    def assert_nothing_runs(self, name: str) -> None:
        """No process, socket or record of a move is left on a host."""
        left = self.world.agent(name).call('leftovers', server=self.plan.uuid)
        self.assertEqual(
            {'processes': [], 'runtime': [], 'journal': []}, left, name
        )

    def files(self, name: str) -> list[str]:
        """Files in the instance directory on a host."""
        listed = self.host(name).run(['ls', self.plan.path], check=False)
        return sorted(listed.stdout.split())

    def assert_arrived(
        self, move: world_mod.Move, result: dict[str, typing.Any]
    ) -> None:
        """The guest runs on the destination on its ordinary files alone."""
        self.assertTrue(result['ok'], result)
        self.assertEqual('absent', self.guest.state(move.source))
        self.assertEqual(self.ordinary_files(), self.guest.tops())
        self.assertEqual(
            sorted(disk.name for disk in self.plan.disks),
            self.files(move.destination),
        )
        self.assertEqual([], self.files(move.source))
        self.assert_chains(move.destination)
        self.assert_definition(move.destination)
        for name in (move.source, move.destination):
            self.assert_nothing_runs(name)

    def assert_chains(self, name: str) -> None:
        """Each file has the format and the backing file that it had."""
        for disk in self.plan.disks:
            shown = self.host(name).run(
                [
                    'qemu-img',
                    'info',
                    '-U',
                    '--output=json',
                    self.plan.file(disk.target),
                ]
            )
            info = json.loads(shown.stdout)
            self.assertEqual(disk.format, info['format'], disk)
            self.assertEqual(disk.size_mib << 20, info['virtual-size'])
            self.assertEqual(
                guests.base_path(disk) if disk.backed else None,
                info.get('full-backing-filename'),
                disk,
            )

    def assert_definition(self, name: str) -> None:
        """The next start of the domain uses the ordinary files as well."""
        if not self.plan.persistent:
            return
        shown = (
            self.host(name)
            .run(['virsh', 'dumpxml', '--inactive', self.plan.uuid])
            .stdout
        )
        for path in self.ordinary_files().values():
            self.assertIn(f"'{path}'", shown)
        self.assertNotIn('.sxm-', shown)

    def assert_stayed(
        self, move: world_mod.Move, result: dict[str, typing.Any]
    ) -> None:
        """The guest runs on the source as if there had been no move."""
        self.assertFalse(result['ok'], result)
        self.assertEqual('running', self.guest.state(move.source))
        self.assertEqual('absent', self.guest.state(move.destination))
        self.assertEqual(self.ordinary_files(), self.guest.tops())
        self.assertEqual(
            sorted(disk.name for disk in self.plan.disks),
            self.files(move.source),
        )
        self.assertEqual(
            [], [x for x in self.files(move.destination) if '.sxm-' in x]
        )
        self.assert_chains(move.source)
        self.assert_definition(move.source)
        for name in (move.source, move.destination):
            self.assert_nothing_runs(name)
        # Nova's own roll-back does this.
        self.host(move.destination).shell(
            f'cd {self.plan.path} 2>/dev/null && rm -rf -- * || :'
        )
