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

"""The link is lost in the middle of a move and comes back."""

from __future__ import annotations

import time

from tests.functional import base
from tests.functional import guests
from tests.functional import world as world_mod

WATCHDOG_S = 5.0
RATE = '10mbps'
SETTINGS = {'link_timeout_s': 120.0, 'verify': 'full'}


class RecoveryTest(base.MoveCase):
    """The guest writes on here, and the move goes on where it was."""

    plan = guests.Plan(
        3,
        (
            guests.Disk('vda', 'disk', size_mib=96, backed=True),
            guests.Disk('vdb', 'disk.eph0', 'raw', 48),
        ),
    )

    def start(self) -> world_mod.Move:
        """A move with a part of vda on the other side."""
        self.guest.fill('vda', 32 << 20, 65536, start=48 << 20)
        self.write()
        self.world.lab.link(RATE)
        move = self.guest.start_move(settings=SETTINGS)
        move.wait_phase('copying', 'vda')
        move.wait_copied(0.5)
        return move

    def lose(self, seconds: float) -> None:
        """Cut the link for so long; the guest stands no longer than the
        watchdog waits, and then writes as before."""
        began_s = time.monotonic()
        self.world.lab.link('cut')
        time.sleep(seconds)
        window = self.world.collector.window
        during = window(self.plan.ip, began_s)
        self.assertLess(during.longest_ack_stall_s, WATCHDOG_S + 1.0)
        self.assertEqual(0, during.errors)
        if seconds > WATCHDOG_S + 4.0:
            alone = window(self.plan.ip, began_s + WATCHDOG_S + 2.0)
            self.assertGreater(
                alone.rate_bytes_per_s, 0.8 * base.WRITES_BYTES_PER_S
            )
        self.world.lab.link(RATE)

    def assert_goes_on(self, move: world_mod.Move, losses: int) -> None:
        result = move.wait(240.0)
        self.world.lab.link('off')
        self.assert_arrived(move, result)
        self.verify()
        names = [event.phase for event in move.events()]
        self.assertEqual(losses, names.count('link-lost'))
        self.assertEqual(losses, names.count('link-back'))

    def test_a_link_that_is_gone_for_a_while(self) -> None:
        """What was copied before is not sent again."""
        move = self.start()
        self.lose(15.0)
        before = move.samples()[-1]['disks']
        self.assert_goes_on(move, 1)
        (vda,) = [one for one in before if one['target'] == 'vda']
        sent = move.status()['result']['meters']['vda.base']['sent_bytes']
        missing = vda['total_bytes'] - vda['done_bytes']
        # The copy goes on from what the other side has flushed, which it
        # does every few seconds.
        self.assertLess(sent, missing + (24 << 20))
        self.assertLess(sent, 0.8 * vda['total_bytes'])

    def test_a_link_that_flaps(self) -> None:
        move = self.start()
        for _ in range(2):
            self.lose(8.0)
            move.wait_phase('link-back')
            time.sleep(3.0)
        result = move.wait(240.0)
        self.world.lab.link('off')
        self.assert_arrived(move, result)
        self.verify()
        names = [event.phase for event in move.events()]
        self.assertGreaterEqual(names.count('link-lost'), 2)

    def test_lost_while_all_is_mirrored(self) -> None:
        self.write()
        call = 'domain.wait_mirror_ready'
        move = self.guest.start_move(
            settings=SETTINGS,
            faults=[
                {
                    'call': call,
                    'nth': len(self.plan.disks) + 1,
                    'action': 'hold',
                }
            ],
        )
        move.wait_held(call)
        self.lose(12.0)
        move.release()
        self.assert_goes_on(move, 1)

    def test_a_server_that_is_killed(self) -> None:
        """Of a mirror, then of a base: both are started anew."""
        for words in ('vdb.mirror', 'vda.base'):
            with self.subTest(words):
                move = self.start()
                killed = world_mod.kill_matching(
                    self.host(move.destination),
                    self.plan.uuid,
                    'storage-daemon',
                    words,
                )
                self.assertEqual(1, killed)
                self.assert_goes_on(move, 1)
