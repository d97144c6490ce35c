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

"""The contract of :class:`.ports.Domain`, for the fake and the real one.

A subclass gives a rig: a running guest with two disks (``vda``, whose base
has a backing image, and ``vdb``, without), hands to write and read as that
guest, and the far end of a mirror.
"""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import Any
from typing import Protocol

from sxm_openstack import exception
from sxm_openstack.engine import ports

EXPORT = 'overlay'
IMAGE_BLOCK = 0
IMAGE_VALUE = 201
MANY_BLOCKS = 700
WAIT_S = 20.0


class Server(Protocol):
    """The destination's end of a mirror."""

    socket: str

    def stop(self) -> None:
        """End in order, so that the file can be read."""

    def kill(self) -> None:
        """End as a crash does."""

    def read(self, block: int) -> int:
        """Value of a block, after :meth:`stop`."""


class Rig(Protocol):
    """A running guest and the world around it."""

    domain: Any

    def base(self, target: str) -> str:
        """Path of the disk's ordinary file."""

    def image(self) -> str:
        """Path of the image below ``vda``'s base."""

    def overlay(self, target: str, number: int = 1) -> str:
        """Make an empty overlay that fits on the disk now; its path."""

    def serve(self) -> Server:
        """Start the far end of a mirror."""

    def write(
        self, target: str, block: int, value: int, count: int = 1
    ) -> None:
        """Write blocks as the guest and have them acknowledged."""

    def read(self, target: str, block: int) -> int:
        """Read a block as the guest."""

    def read_file(self, path: str, block: int) -> int:
        """Read a block of a file and what lies below it."""

    def begin_commit(self, target: str, base: str) -> None:
        """Leave a commit running, as a caller that died does."""

    def destroy(self) -> None:
        """Remove the guest from the host."""


class DomainContract:
    """Mix into a ``unittest.TestCase`` that sets ``rig`` in ``setUp``."""

    rig: Rig

    def eventually(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            if time.monotonic() > deadline:
                self.fail('the condition did not come true in time')
            time.sleep(0.02)

    def mirrored(self, target: str) -> Server:
        """Snapshot a disk and mirror it until ready."""
        domain = self.rig.domain
        domain.snapshot({target: self.rig.overlay(target)})
        server = self.rig.serve()
        domain.start_mirror(target, server.socket, EXPORT)
        domain.wait_mirror_ready(target, WAIT_S)
        return server

    # state, source_path, write_stats

    def test_state_running(self) -> None:
        self.assertIs(ports.DomainState.RUNNING, self.rig.domain.state())

    def test_state_absent(self) -> None:
        self.rig.destroy()
        self.assertIs(ports.DomainState.ABSENT, self.rig.domain.state())

    def test_source_path(self) -> None:
        for target in ('vda', 'vdb'):
            self.assertEqual(
                self.rig.base(target), self.rig.domain.source_path(target)
            )

    def test_unknown_disk(self) -> None:
        domain = self.rig.domain
        for name, arguments in (
            ('source_path', ()),
            ('mirror_state', ()),
            ('wait_mirror_ready', (1.0,)),
            ('end_mirror', ()),
            ('wait_no_job', (1.0,)),
            ('commit', (self.rig.base('vda'), 1.0)),
        ):
            with self.assertRaisesRegex(exception.MoveFailed, 'vdz'):
                getattr(domain, name)('vdz', *arguments)
        self.assertRaisesRegex(
            exception.MoveFailed, 'vdz', domain.snapshot, {'vdz': '/overlay'}
        )

    def test_write_stats_grow(self) -> None:
        before = self.rig.domain.write_stats('vda')
        other = self.rig.domain.write_stats('vdb')
        self.rig.write('vda', 3, 7)
        after = self.rig.domain.write_stats('vda')
        self.assertEqual(before.operations + 1, after.operations)
        self.assertEqual(65536, after.written_bytes - before.written_bytes)
        self.assertGreater(after.busy_s, before.busy_s)
        self.assertEqual(other, self.rig.domain.write_stats('vdb'))

    # snapshot

    def test_snapshot_freezes_the_bases(self) -> None:
        rig = self.rig
        rig.write('vda', 1, 11)
        rig.write('vdb', 1, 12)
        overlays = {target: rig.overlay(target) for target in ('vda', 'vdb')}
        rig.domain.snapshot(overlays)
        rig.write('vda', 1, 21)
        rig.write('vdb', 2, 22)
        for target, path in overlays.items():
            self.assertEqual(path, rig.domain.source_path(target))
        self.assertEqual(11, rig.read_file(rig.base('vda'), 1))
        self.assertEqual(0, rig.read_file(rig.base('vdb'), 2))
        self.assertEqual(21, rig.read('vda', 1))
        self.assertEqual(12, rig.read('vdb', 1))
        self.assertEqual(22, rig.read('vdb', 2))

    def test_snapshot_leaves_other_disks(self) -> None:
        rig = self.rig
        rig.domain.snapshot({'vdb': rig.overlay('vdb')})
        self.assertEqual(rig.base('vda'), rig.domain.source_path('vda'))

    def test_snapshot_is_all_or_nothing(self) -> None:
        rig = self.rig
        overlays = {
            'vda': rig.overlay('vda'),
            'vdb': f'{rig.base("vdb")}.is-not-there',
        }
        self.assertRaises(exception.MoveFailed, rig.domain.snapshot, overlays)
        for target in overlays:
            self.assertEqual(rig.base(target), rig.domain.source_path(target))
        rig.write('vda', 1, 31)
        self.assertEqual(31, rig.read_file(rig.base('vda'), 1))

    def test_snapshot_of_mirrored_disk_is_refused(self) -> None:
        self.mirrored('vda')
        second = self.rig.overlay('vda', 2)
        first = self.rig.domain.source_path('vda')
        self.assertRaises(
            exception.MoveFailed, self.rig.domain.snapshot, {'vda': second}
        )
        self.assertEqual(first, self.rig.domain.source_path('vda'))

    def test_snapshot_next_to_mirrored_disk(self) -> None:
        self.mirrored('vda')
        second = self.rig.overlay('vdb')
        self.rig.domain.snapshot({'vdb': second})
        self.assertEqual(second, self.rig.domain.source_path('vdb'))
        self.assertIs(
            ports.MirrorState.READY, self.rig.domain.mirror_state('vda')
        )

    # start_mirror, mirror_state, wait_mirror_ready

    def test_no_mirror(self) -> None:
        self.assertIs(
            ports.MirrorState.NONE, self.rig.domain.mirror_state('vda')
        )
        self.assertRaises(
            exception.MirrorFailed,
            self.rig.domain.wait_mirror_ready,
            'vda',
            WAIT_S,
        )

    def test_mirror_gets_old_and_new_writes_of_the_overlay_only(self) -> None:
        rig = self.rig
        rig.write('vda', 1, 41)
        rig.domain.snapshot({'vda': rig.overlay('vda')})
        rig.write('vda', 2, 42)
        server = rig.serve()
        rig.domain.start_mirror('vda', server.socket, EXPORT)
        rig.domain.wait_mirror_ready('vda', WAIT_S)
        self.assertIs(ports.MirrorState.READY, rig.domain.mirror_state('vda'))
        rig.write('vda', 3, 43)
        rig.domain.end_mirror('vda')
        server.stop()
        self.assertEqual(
            [0, 0, 42, 43], [server.read(block) for block in range(4)]
        )

    def test_mirror_to_nowhere_is_refused(self) -> None:
        rig = self.rig
        rig.domain.snapshot({'vda': rig.overlay('vda')})
        server = rig.serve()
        server.kill()
        self.assertRaises(
            exception.MirrorFailed,
            rig.domain.start_mirror,
            'vda',
            server.socket,
            EXPORT,
        )
        self.assertIs(ports.MirrorState.NONE, rig.domain.mirror_state('vda'))
        rig.write('vda', 1, 51)
        self.assertEqual(51, rig.read('vda', 1))

    def test_mirror_can_be_tried_again(self) -> None:
        self.test_mirror_to_nowhere_is_refused()
        server = self.rig.serve()
        self.rig.domain.start_mirror('vda', server.socket, EXPORT)
        self.rig.domain.wait_mirror_ready('vda', WAIT_S)

    def test_mirror_not_ready_in_time(self) -> None:
        rig = self.rig
        rig.domain.snapshot({'vda': rig.overlay('vda')})
        rig.write('vda', 1, 52, MANY_BLOCKS)
        server = rig.serve()
        rig.domain.start_mirror('vda', server.socket, EXPORT)
        self.assertRaises(
            exception.MirrorFailed, rig.domain.wait_mirror_ready, 'vda', 0.0
        )
        rig.domain.wait_mirror_ready('vda', WAIT_S)

    def test_mirror_whose_peer_dies_fails(self) -> None:
        rig = self.rig
        server = self.mirrored('vda')
        server.kill()
        rig.write('vda', 1, 53)
        self.eventually(
            lambda: rig.domain.mirror_state('vda') is ports.MirrorState.FAILED
        )
        self.assertRaises(
            exception.MirrorFailed,
            rig.domain.wait_mirror_ready,
            'vda',
            WAIT_S,
        )
        self.assertRaises(exception.MirrorFailed, rig.domain.end_mirror, 'vda')
        rig.write('vda', 2, 54)
        self.assertEqual([53, 54], [rig.read('vda', 1), rig.read('vda', 2)])

    def test_mirror_whose_peer_dies_early_fails(self) -> None:
        rig = self.rig
        rig.domain.snapshot({'vda': rig.overlay('vda')})
        rig.write('vda', 1, 55, MANY_BLOCKS)
        server = rig.serve()
        rig.domain.start_mirror('vda', server.socket, EXPORT)
        server.kill()
        rig.write('vda', 1, 56)
        self.assertRaises(
            exception.MirrorFailed,
            rig.domain.wait_mirror_ready,
            'vda',
            WAIT_S,
        )
        self.assertEqual(56, rig.read('vda', 1))

    # end_mirror, hand_over

    def test_ended_mirror_is_a_point_in_time(self) -> None:
        rig = self.rig
        server = self.mirrored('vda')
        rig.write('vda', 1, 61)
        rig.domain.end_mirror('vda')
        rig.write('vda', 1, 62)
        rig.write('vda', 2, 63)
        self.assertIs(ports.MirrorState.NONE, rig.domain.mirror_state('vda'))
        server.stop()
        self.assertEqual([61, 0], [server.read(1), server.read(2)])
        self.assertEqual([62, 63], [rig.read('vda', 1), rig.read('vda', 2)])

    def test_end_without_mirror_is_refused(self) -> None:
        self.assertRaises(
            exception.MirrorFailed, self.rig.domain.end_mirror, 'vda'
        )

    def test_end_of_mirror_that_is_not_ready_is_refused(self) -> None:
        rig = self.rig
        rig.domain.snapshot({'vda': rig.overlay('vda')})
        rig.write('vda', 1, 64, MANY_BLOCKS)
        server = rig.serve()
        rig.domain.start_mirror('vda', server.socket, EXPORT)
        self.assertRaises(exception.MirrorFailed, rig.domain.end_mirror, 'vda')
        rig.domain.wait_mirror_ready('vda', WAIT_S)

    def test_hand_over(self) -> None:
        rig = self.rig
        servers = {target: self.mirrored(target) for target in ('vda', 'vdb')}
        rig.write('vda', 1, 65)
        rig.write('vdb', 1, 66)
        overlays = {target: rig.overlay(target, 2) for target in servers}
        first = {t: rig.domain.source_path(t) for t in servers}
        rig.domain.hand_over(overlays)
        self.assertIs(ports.DomainState.RUNNING, rig.domain.state())
        self.assertGreater(rig.domain.last_pause_s, 0)
        for target, path in overlays.items():
            rig.write(target, 1, 67)
            self.assertEqual(path, rig.domain.source_path(target))
            servers[target].stop()
        # Both sides are frozen on the same content.
        for target, value in (('vda', 65), ('vdb', 66)):
            self.assertEqual(value, servers[target].read(1))
            self.assertEqual(value, rig.read_file(first[target], 1))
            self.assertEqual(67, rig.read(target, 1))

    def test_hand_over_needs_every_mirror_ready(self) -> None:
        rig = self.rig
        self.mirrored('vda')
        rig.domain.snapshot({'vdb': rig.overlay('vdb')})
        first = {t: rig.domain.source_path(t) for t in ('vda', 'vdb')}
        overlays = {t: rig.overlay(t, 2) for t in ('vdb', 'vda')}
        self.assertRaises(
            exception.MirrorFailed, rig.domain.hand_over, overlays
        )
        self.assertIs(ports.DomainState.RUNNING, rig.domain.state())
        for target, path in first.items():
            self.assertEqual(path, rig.domain.source_path(target))

    # wait_no_job

    def test_wait_no_job_without_job(self) -> None:
        self.rig.domain.wait_no_job('vda', WAIT_S)
        self.assertIs(
            ports.MirrorState.NONE, self.rig.domain.mirror_state('vda')
        )

    def test_wait_no_job_ends_an_idle_mirror_without_peer(self) -> None:
        rig = self.rig
        server = self.mirrored('vda')
        server.kill()
        rig.domain.wait_no_job('vda', WAIT_S)
        self.assertIs(ports.MirrorState.NONE, rig.domain.mirror_state('vda'))
        rig.domain.commit('vda', rig.base('vda'), WAIT_S)

    # commit

    def test_commit_on_base_does_nothing(self) -> None:
        rig = self.rig
        rig.domain.commit('vda', rig.base('vda'), WAIT_S)
        rig.domain.commit('vda', rig.base('vda'), WAIT_S)
        self.assertEqual(rig.base('vda'), rig.domain.source_path('vda'))

    def test_commit_folds_every_layer_above_the_base(self) -> None:
        rig = self.rig
        for target in ('vda', 'vdb'):
            rig.write(target, 1, 71)
            rig.domain.snapshot({target: rig.overlay(target)})
            rig.write(target, 2, 72)
            rig.domain.snapshot({target: rig.overlay(target, 2)})
            rig.write(target, 3, 73)
            rig.domain.commit(target, rig.base(target), WAIT_S)
            self.assertEqual(rig.base(target), rig.domain.source_path(target))
            self.assertEqual(
                [71, 72, 73], [rig.read(target, b) for b in (1, 2, 3)]
            )
            rig.write(target, 4, 74)
            self.assertEqual(74, rig.read_file(rig.base(target), 4))

    def test_commit_leaves_the_image_below_the_base(self) -> None:
        rig = self.rig
        rig.domain.snapshot({'vda': rig.overlay('vda')})
        rig.write('vda', IMAGE_BLOCK, 75)
        rig.domain.commit('vda', rig.base('vda'), WAIT_S)
        self.assertEqual(75, rig.read('vda', IMAGE_BLOCK))
        self.assertEqual(IMAGE_VALUE, rig.read_file(rig.image(), IMAGE_BLOCK))

    def test_commit_into_a_stranger_is_refused(self) -> None:
        rig = self.rig
        rig.domain.snapshot({'vda': rig.overlay('vda')})
        overlay = rig.domain.source_path('vda')
        self.assertRaisesRegex(
            exception.MirrorFailed,
            'vdb',
            rig.domain.commit,
            'vda',
            rig.base('vdb'),
            WAIT_S,
        )
        self.assertEqual(overlay, rig.domain.source_path('vda'))

    def test_commit_under_a_mirror_is_refused(self) -> None:
        rig = self.rig
        self.mirrored('vda')
        overlay = rig.domain.source_path('vda')
        self.assertRaises(
            exception.MirrorFailed,
            rig.domain.commit,
            'vda',
            rig.base('vda'),
            WAIT_S,
        )
        self.assertEqual(overlay, rig.domain.source_path('vda'))
        self.assertIs(ports.MirrorState.READY, rig.domain.mirror_state('vda'))

    def test_commit_takes_over_a_running_one(self) -> None:
        rig = self.rig
        rig.domain.snapshot({'vda': rig.overlay('vda')})
        rig.write('vda', 1, 76)
        rig.begin_commit('vda', rig.base('vda'))
        rig.domain.commit('vda', rig.base('vda'), WAIT_S)
        self.assertEqual(rig.base('vda'), rig.domain.source_path('vda'))
        self.assertEqual(76, rig.read_file(rig.base('vda'), 1))

    def test_commit_not_ready_in_time_can_be_repeated(self) -> None:
        rig = self.rig
        rig.domain.snapshot({'vda': rig.overlay('vda')})
        overlay = rig.domain.source_path('vda')
        rig.write('vda', 1, 77, MANY_BLOCKS)
        self.assertRaises(
            exception.MirrorFailed,
            rig.domain.commit,
            'vda',
            rig.base('vda'),
            0.0,
        )
        self.assertEqual(overlay, rig.domain.source_path('vda'))
        rig.domain.commit('vda', rig.base('vda'), WAIT_S)
        self.assertEqual(77, rig.read('vda', MANY_BLOCKS))

    # paused

    def test_paused_stops_and_resumes(self) -> None:
        domain = self.rig.domain
        with domain.paused():
            self.assertIs(ports.DomainState.PAUSED, domain.state())
        self.assertIs(ports.DomainState.RUNNING, domain.state())
        self.assertGreater(domain.last_pause_s, 0)

    def test_paused_guest_stays_paused(self) -> None:
        domain = self.rig.domain
        with domain.paused():
            with domain.paused():
                self.assertIs(ports.DomainState.PAUSED, domain.state())
            self.assertIs(ports.DomainState.PAUSED, domain.state())
            self.assertEqual(0, domain.last_pause_s)

    def test_paused_resumes_when_the_inside_fails(self) -> None:
        domain = self.rig.domain
        with self.assertRaises(ZeroDivisionError), domain.paused():
            raise ZeroDivisionError
        self.assertIs(ports.DomainState.RUNNING, domain.state())
