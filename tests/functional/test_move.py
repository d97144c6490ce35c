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

"""Moves that succeed: every kind of disk, there and back."""

from __future__ import annotations

import time

from tests.functional import base
from tests.functional import engines
from tests.functional import guests
from tests.functional import world as world_mod

ALL_KINDS = guests.Plan(
    1,
    (
        guests.Disk('vda', 'disk', size_mib=96, backed=True),
        guests.Disk('vdb', 'disk.eph0', 'raw', 64),
        guests.Disk('vdc', 'disk.swap', size_mib=32),
        guests.Disk('hda', 'disk.config', 'raw', 1, config=True),
    ),
)


class MoveTest(base.MoveCase):
    """One guest with every kind of disk; the tests run in order."""

    plan = ALL_KINDS

    def digest(self, host: str, target: str) -> str:
        """SHA-256 of what the guest sees of a disk, from its files."""
        disk = next(x for x in self.plan.disks if x.target == target)
        return self.host(host).shell(
            f'qemu-img convert -U -f {disk.format} -O raw '
            f'{self.plan.file(target)} /tmp/digest && '
            'sha256sum < /tmp/digest && rm /tmp/digest',
            timeout=60,
        )

    def test_1_every_kind_of_disk_while_writing(self) -> None:
        config = self.digest(self.guest.host, 'hda')
        self.guest.fill('vda', 16 << 20, 65536)
        self.guest.fill('vdc', 8 << 20, 65536)
        self.write()
        move = self.guest.start_move(
            engine=engines.SNAPSHOT, settings={'verify': 'full'}
        )
        result = move.wait()
        self.assert_arrived(move, result)
        self.assertEqual(config, self.digest(move.destination, 'hda'))
        self.verify()
        self.assert_order(move)
        self.assertLess(result['pause_s'], 1.0)
        self.assertGreater(result['pause_s'], 0.0)

    def assert_order(self, move: world_mod.Move) -> None:
        """Smallest first, mirrored to the end, handed over together."""
        events = move.events()
        begun = [e.target for e in events if e.phase == 'copying']
        self.assertEqual({'hda', 'vda', 'vdb', 'vdc'}, set(begun))
        self.assertEqual('vda', begun[-1])
        for target in ('vda', 'vdb', 'vdc'):
            self.assertLess(
                move.at('mirroring', target), move.at('copying', target)
            )
            self.assertLess(move.at('mirrored', target), move.at('pause'))
        self.assertLess(move.at('resume'), move.at('migrate'))
        self.assertLess(move.at('switched'), move.at('flattened'))

    def test_2_back_right_after(self) -> None:
        self.write()
        there = self.guest.start_move()
        self.assert_arrived(there, there.wait())
        back = self.guest.start_move()
        self.assert_arrived(back, back.wait())
        self.assertEqual(there.source, back.destination)
        self.verify()

    def test_3_direct(self) -> None:
        self.write()
        config = self.digest(self.guest.host, 'hda')
        move = self.guest.start_move(engine=engines.DIRECT)
        result = move.wait()
        self.assert_arrived(move, result)
        self.assertEqual(config, self.digest(move.destination, 'hda'))
        self.assertEqual(0.0, result['pause_s'])
        self.verify()

    def test_4_some_disks_direct(self) -> None:
        self.write()
        move = self.guest.start_move(drivers={'vdb': engines.DIRECT})
        self.assert_arrived(move, move.wait())
        self.verify()

    def test_5_paused_stays_paused(self) -> None:
        self.write()
        here = self.guest.host
        self.host(here).run(['virsh', 'suspend', self.plan.uuid])
        self.addCleanup(self._resume)
        targets = [disk.target for disk in self.plan.disks]
        before = {target: self.digest(here, target) for target in targets}
        move = self.guest.start_move()
        self.assert_arrived(move, move.wait())
        self.assertEqual('paused', self.guest.state(move.destination))
        self.assertEqual(
            before,
            {x: self.digest(move.destination, x) for x in targets},
        )
        self._resume()
        self.verify()

    def _resume(self) -> None:
        if self.guest.state(self.guest.host) == 'paused':
            self.host(self.guest.host).run(['virsh', 'resume', self.plan.uuid])

    def test_6_hurry(self) -> None:
        """A limit of the rate holds until the operator hurries the move."""
        self.write()
        move = self.guest.start_move(limits={'max_rate_bytes_per_s': 1 << 20})
        move.wait_phase('copying', 'vda')
        time.sleep(1.0)
        slow = move.status()['disks'][-1]
        self.assertEqual('vda', slow['target'])
        self.assertLess(slow['rate_bytes_per_s'], 1.5 * (1 << 20))
        move.hurry()
        self.assert_arrived(move, move.wait(300.0))
        self.verify()
