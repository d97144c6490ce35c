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

"""Moves that fail: the guest writes on, and nothing of the move is left."""

from __future__ import annotations

import time
import typing

from tests.functional import base
from tests.functional import guests
from tests.functional import world as world_mod

WATCHDOG_S = 5.0

TWO_DISKS = guests.Plan(
    2,
    (
        guests.Disk('vda', 'disk', size_mib=96, backed=True),
        guests.Disk('vdb', 'disk.eph0', 'raw', 48),
    ),
)


class FailureCase(base.MoveCase):
    """A guest that stays where it is."""

    plan = TWO_DISKS

    def slow_move(
        self, rate: str = '10mbps', **order: typing.Any
    ) -> world_mod.Move:
        """A move that takes long enough to be disturbed."""
        self.guest.fill('vda', 16 << 20, 65536)
        self.write()
        self.world.lab.link(rate)
        return self.guest.start_move(**order)

    def move_held_mirrored(self) -> world_mod.Move:
        """A move that waits with all disks mirrored and copied."""
        call = 'domain.wait_mirror_ready'
        # Once for each disk when its mirror starts; then at the hand-over.
        move = self.guest.start_move(
            faults=[
                {
                    'call': call,
                    'nth': len(self.plan.disks) + 1,
                    'action': 'hold',
                }
            ]
        )
        move.wait_held(call)
        return move

    def move_in_memory_phase(self) -> world_mod.Move:
        """A move whose memory is on its way, and will be for a while."""
        last = 'destination.hand_over'
        self.write()
        move = self.guest.start_move(
            faults=[{'call': last, 'when': 'after', 'action': 'hold'}]
        )
        move.wait_held(last)
        self.world.lab.link('8mbps')
        move.release()
        move.wait_phase('memory')
        return move

    def assert_failed(
        self, move: world_mod.Move, *classes: str, timeout_s: float = 60.0
    ) -> dict[str, typing.Any]:
        """It failed with one of these errors, which says where.

        :returns: the error.
        """
        result = move.wait(timeout_s)
        self.world.lab.link('off')
        self.assert_stayed(move, result)
        self.verify()
        error: dict[str, typing.Any] = result['error']
        self.assertIn(error['class'], classes, error)
        return error

    def worker(self, move: world_mod.Move, *words: str) -> int:
        """Kill processes of the move on the destination by these words."""
        return world_mod.kill_matching(
            self.host(move.destination), self.plan.uuid, *words
        )


class ProcessTest(FailureCase):
    """One of the programs of a move is killed."""

    def test_mirror_server_on_destination(self) -> None:
        move = self.slow_move()
        move.wait_phase('copying', 'vda')
        killed = self.worker(move, 'storage-daemon', 'vdb.mirror')
        self.assertEqual(1, killed)
        error = self.assert_failed(move, 'MirrorFailed')
        self.assertEqual('vdb', error['kwargs']['disk'])
        self.assertEqual('copy-base', error['kwargs']['step'])
        self.assertEqual(move.source, error['kwargs']['host'])

    def test_base_server_on_destination(self) -> None:
        move = self.slow_move()
        move.wait_copied(0.4)
        killed = self.worker(move, 'storage-daemon', 'vda.base')
        self.assertEqual(1, killed)
        error = self.assert_failed(move, 'CopyFailed')
        self.assertEqual('vda', error['kwargs']['disk'])

    def test_copier(self) -> None:
        move = self.slow_move()
        move.wait_copied(0.4)
        killed = world_mod.kill_matching(
            self.host(move.source), 'program.py copier'
        )
        self.assertEqual(1, killed)
        error = self.assert_failed(move, 'CopyFailed')
        self.assertEqual('vda', error['kwargs']['disk'])

    def test_relay_on_destination(self) -> None:
        move = self.slow_move()
        move.wait_copied(0.4)
        killed = world_mod.kill_matching(
            self.host(move.destination), 'program.py relay listen'
        )
        self.assertEqual(1, killed)
        self.assert_failed(move, 'LinkStalled', 'CopyFailed', 'MirrorFailed')

    def test_relay_on_source(self) -> None:
        move = self.slow_move()
        move.wait_copied(0.4)
        killed = world_mod.kill_matching(
            self.host(move.source), 'program.py relay connect'
        )
        self.assertEqual(1, killed)
        self.assert_failed(move, 'LinkStalled', 'CopyFailed', 'MirrorFailed')

    def test_qemu_on_destination_in_the_memory_phase(self) -> None:
        move = self.move_in_memory_phase()
        killed = self.worker(move, 'qemu-system-x86_64')
        self.assertEqual(1, killed)
        self.assert_failed(move, 'MoveFailed')


class LinkTest(FailureCase):
    """The migration network dies: writes wait for the watchdog at most."""

    def cut(self) -> None:
        """Cut the link and see how the guest fares."""
        began_s = time.monotonic()
        self.world.lab.link('cut')
        time.sleep(WATCHDOG_S + 6.0)
        during = self.world.collector.window(self.plan.ip, began_s)
        self.assertLess(during.longest_ack_stall_s, WATCHDOG_S + 1.0)
        self.assertEqual(0, during.errors)
        # The link is still dead.
        after = self.world.collector.window(
            self.plan.ip, began_s + WATCHDOG_S + 2.0
        )
        self.assertGreater(
            after.rate_bytes_per_s, 0.8 * base.WRITES_BYTES_PER_S
        )

    def test_cut_while_copying(self) -> None:
        move = self.slow_move()
        move.wait_copied(0.4)
        self.cut()
        error = self.assert_failed(move, 'LinkStalled', 'CopyFailed')
        self.assertIn(move.destination, error['text'])

    def test_cut_while_mirrored(self) -> None:
        """Nothing but the guest's writes is on the link."""
        self.write()
        move = self.move_held_mirrored()
        self.cut()
        move.release()
        self.assert_failed(move, 'LinkStalled', 'MirrorFailed')

    def test_cut_in_the_memory_phase(self) -> None:
        move = self.move_in_memory_phase()
        self.cut()
        self.world.lab.link('off')
        self.assert_failed(move, 'LinkStalled', 'MoveFailed', timeout_s=90.0)


class SpaceTest(FailureCase):
    """The destination's disk is full."""

    def small(self, size_mib: int) -> None:
        """A file system of that size for the instance on the other host."""
        host = self.host(self.world.other(self.guest.host))
        path = self.plan.path
        host.shell(
            f'mkdir -p {path}; mount -t tmpfs -o size={size_mib}m none {path}'
        )
        self.addCleanup(
            host.shell, f'umount -l {path}; rmdir {path} 2>/dev/null || :'
        )

    def test_no_space_for_a_base(self) -> None:
        self.guest.fill('vda', 16 << 20, 65536)
        self.small(12)
        move = self.guest.start_move()
        error = self.assert_failed(move, 'CopyFailed')
        self.assertIn('No space left', error['text'])

    def test_no_space_for_new_writes(self) -> None:
        bases = self.host(self.guest.host).shell(
            f'du -sm {self.plan.path} | cut -f1'
        )
        self.small(int(bases) + 8)
        move = self.move_held_mirrored()
        self.guest.fill('vda', 48 << 20, 65536, start=16 << 20)
        move.release()
        error = self.assert_failed(move, 'MirrorFailed')
        self.assertEqual('vda', error['kwargs']['disk'])


class VerifyTest(FailureCase):
    """What the destination has is not what was sent to it."""

    def test_a_write_that_arrived_wrong(self) -> None:
        self.write()
        call = 'destination.written'
        move = self.guest.start_move(
            settings={'verify': 'full'},
            faults=[{'call': call, 'action': 'hold'}],
        )
        move.wait_held(call)
        offset = 40 << 20
        overlay = f'{self.plan.file("vda")}.sxm-overlay'
        self.host(move.destination).run(
            ['qemu-io', '-f', 'qcow2', '-c', f'write {offset} 512', overlay]
        )
        move.release()
        error = self.assert_failed(move, 'VerifyFailed')
        self.assertEqual('vda', error['kwargs']['disk'])
        self.assertEqual('verify-hand-over', error['kwargs']['step'])
        self.assertIn(f'offset {offset} (handed-over)', error['message'])


class AbortTest(FailureCase):
    """The operator ends the move, in every stage."""

    def test_while_the_destination_prepares(self) -> None:
        self.abort_at('transfer.connect', 'after')

    def test_before_the_mirror_starts(self) -> None:
        self.abort_at('domain.start_mirror', 'before')

    def test_after_the_mirror_started(self) -> None:
        self.abort_at('domain.start_mirror', 'after')

    def test_before_the_hand_over(self) -> None:
        self.abort_at('domain.hand_over', 'before')

    def test_while_the_guest_is_paused(self) -> None:
        self.abort_at('libvirt.snapshotCreateXML', 'before', 3)

    def test_after_the_hand_over(self) -> None:
        self.abort_at('destination.hand_over', 'after')

    def abort_at(self, call: str, when: str, nth: int = 1) -> None:
        self.write()
        move = self.guest.start_move(
            faults=[{'call': call, 'when': when, 'nth': nth, 'action': 'hold'}]
        )
        move.wait_held(call)
        move.abort()
        move.release()
        self.assert_failed(move, 'Aborted')

    def test_while_copying(self) -> None:
        move = self.slow_move()
        move.wait_copied(0.3)
        began_s = time.monotonic()
        move.abort()
        self.assert_failed(move, 'Aborted')
        self.assertLess(move.at('end') - began_s, 15.0)

    def test_in_the_memory_phase(self) -> None:
        move = self.move_in_memory_phase()
        move.abort()
        self.assert_failed(move, 'Aborted')


FAULTS = (
    ('destination.prepare', 'before', 1, 'prepare-destination'),
    ('destination.prepare', 'after', 1, 'prepare-destination'),
    ('transfer.connect', 'before', 1, 'prepare-destination'),
    ('overlays.create_overlay', 'before', 1, 'mirror-disk'),
    ('overlays.create_overlay', 'after', 2, 'mirror-disk'),
    ('domain.snapshot', 'before', 1, 'mirror-disk'),
    ('domain.snapshot', 'after', 2, 'mirror-disk'),
    ('domain.start_mirror', 'before', 2, 'mirror-disk'),
    ('domain.start_mirror', 'after', 1, 'mirror-disk'),
    ('domain.wait_mirror_ready', 'after', 2, 'mirror-disk'),
    ('transfer.start_copy', 'before', 1, 'copy-base'),
    ('transfer.start_copy', 'before', 2, 'copy-base'),
    ('destination.digests', 'before', 1, 'verify-base'),
    ('domain.hand_over', 'before', 1, 'hand-over'),
    ('domain.hand_over', 'after', 1, 'hand-over'),
    ('libvirt.blockJobAbort', 'before', 1, 'hand-over'),
    ('libvirt.blockJobAbort', 'after', 1, 'hand-over'),
    ('libvirt.blockJobAbort', 'after', 2, 'hand-over'),
    ('libvirt.snapshotCreateXML', 'before', 3, 'hand-over'),
    ('libvirt.snapshotCreateXML', 'after', 3, 'hand-over'),
    ('destination.hand_over', 'before', 1, 'hand-over'),
    ('destination.hand_over', 'after', 1, 'hand-over'),
)
"""Call, before or after it, which one, and the step that it belongs to.

None is after a call that returns what it started: nobody could end that.
"""


class StepTest(FailureCase):
    """Each step fails, before and after it did what it does."""

    def raise_at(self, call: str, when: str, nth: int, step: str) -> None:
        self.write()
        move = self.guest.start_move(
            faults=[{'call': call, 'when': when, 'nth': nth}],
            settings={'verify': 'full'},
        )
        error = self.assert_failed(move, 'MoveFailed')
        self.assertEqual(step, error['kwargs']['step'])
        self.assertEqual(move.source, error['kwargs']['host'])
        self.assertIn(call, error['message'])


def _add_step_tests() -> None:
    for call, when, nth, step in FAULTS:
        name = call.replace('.', '_')

        def test(
            self: StepTest,
            fault: tuple[str, str, int, str] = (call, when, nth, step),
        ) -> None:
            self.raise_at(*fault)

        setattr(StepTest, f'test_{name}_{when}_{nth}', test)


_add_step_tests()
