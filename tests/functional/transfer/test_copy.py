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

import os
import random
import subprocess
import time

from sxm_openstack import exception
from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk

from tests.functional.transfer import stack

MIB = stack.MIB


class ContentTest(stack.StackCase):
    """What arrives, and what it took."""

    def test_sparse_qcow2_image_stays_sparse(self):
        self.check_sparse('qcow2')

    def test_sparse_raw_image_stays_sparse(self):
        self.check_sparse('raw')

    def check_sparse(self, image_format):
        ours, theirs = self.disks(image_format, 64 * MIB)
        stack.create(ours.path, image_format, ours.size_bytes)
        stack.qemu_io(
            ours.path,
            image_format,
            'write -P 1 0 5M',
            'write -P 2 20M 3M',
            'write -z 30M 4M',
            'write -P 0 40M 4M',
            'write -P 3 67043328 64k',
        )
        self.blank(theirs)
        sent = self.copy_all(ours, theirs)
        self.assert_same(ours, theirs)
        data = 8 * MIB + (64 << 10)
        self.assertLess(sent, 1.01 * data)
        # The zeros that were written as data are holes over there.
        self.assertLess(stack.allocated(theirs.path), data + MIB)

    def test_source_with_a_backing_file_is_flattened(self):
        ours, theirs = self.disks('qcow2', 32 * MIB)
        below = self.root / 'source' / 'below'
        stack.create(below, 'qcow2', ours.size_bytes)
        stack.qemu_io(below, 'qcow2', 'write -P 5 0 8M')
        stack.create(ours.path, 'qcow2', ours.size_bytes, backing=below)
        stack.qemu_io(ours.path, 'qcow2', 'write -P 6 4M 8M', 'write -z 1M 1M')
        self.blank(theirs)
        self.copy_all(ours, theirs)
        self.assert_same(ours, theirs)

    def test_only_the_top_layer_goes_over_a_shared_backing_file(self):
        ours, theirs = self.disks(
            'qcow2', 64 * MIB, backing=engine_disk.Backing.SHARED
        )
        below = self.root / 'below'
        stack.create(below, 'qcow2', ours.size_bytes)
        stack.qemu_io(below, 'qcow2', 'write -P 5 0 48M')
        stack.create(ours.path, 'qcow2', ours.size_bytes, backing=below)
        stack.qemu_io(
            ours.path,
            'qcow2',
            'write -P 6 3M 2M',
            'write -P 0 8M 1M',
            'write -z 10M 2M',
            'write -z -u 20M 1M',
            'discard 30M 1M',
            'write -P 7 1048576 512',
            'write -P 9 60M 1M',
        )
        self.blank(theirs, backing=below)
        sent = self.copy_all(ours, theirs)
        self.assert_same(ours, theirs)
        self.assertLess(sent, 3.5 * MIB)
        self.assertLess(stack.allocated(theirs.path), 5 * MIB)

    def test_nothing_shines_through_from_a_different_backing_file(self):
        ours, theirs = self.disks(
            'qcow2', 48 * MIB, backing=engine_disk.Backing.DIFFERENT
        )
        for side, pattern in (('source', 5), ('destination', 255)):
            below = self.root / side / 'below'
            stack.create(below, 'qcow2', ours.size_bytes)
            stack.qemu_io(below, 'qcow2', f'write -P {pattern} 0 40M')
        below = self.root / 'source' / 'below'
        stack.create(ours.path, 'qcow2', ours.size_bytes, backing=below)
        stack.qemu_io(
            ours.path,
            'qcow2',
            'write -P 6 3M 2M',
            'write -z 10M 2M',
            'write -P 0 20M 64k',
        )
        self.blank(theirs, backing=self.root / 'destination' / 'below')
        self.copy_all(ours, theirs)
        self.assert_same(ours, theirs)

    def test_odd_sizes(self):
        for image_format, size in (
            ('raw', 1),
            ('raw', 511),
            ('raw', 1000001),
            ('raw', 3 * MIB + 512),
            ('raw', MIB + 4096 + 1),
            ('qcow2', 512),
            ('qcow2', 5 * MIB + 512),
            ('qcow2', 65536 * 3 + 1536),
        ):
            with self.subTest(f'{image_format} {size}'):
                self.make_hosts()
                self.check_odd(image_format, size)

    def check_odd(self, image_format, size):
        path = self.root / 'content'
        path.write_bytes(random.Random(size).randbytes(size))
        # QEMU counts in sectors; so does qemu-img info.
        rounded = -(-size // 512) * 512
        ours, theirs = self.disks(image_format, rounded)
        if image_format == 'raw':
            os.rename(path, ours.path)
            with open(theirs.path, 'wb') as file:
                file.truncate(size)
            self.overlay(theirs)
        else:
            stack.run(
                'qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', path,
                ours.path,
            )  # fmt: skip
            self.blank(theirs)
        self.copy_all(ours, theirs)
        self.assert_same(ours, theirs)

    def test_disk_without_data(self):
        for image_format in ('raw', 'qcow2'):
            for size in (0, 64 * MIB):
                with self.subTest(f'{image_format} {size}'):
                    self.make_hosts()
                    ours, theirs = self.disks(image_format, size)
                    stack.create(ours.path, image_format, size)
                    self.blank(theirs)
                    self.assertLess(self.copy_all(ours, theirs), 4096)
                    self.assert_same(ours, theirs)

    def test_destination_that_is_larger(self):
        ours, theirs = self.disks('raw', 3 * MIB + 512)
        stack.create(ours.path, 'raw', ours.size_bytes)
        stack.qemu_io(ours.path, 'raw', f'write -P 3 0 {3 * MIB + 512}')
        self.blank(theirs, size_bytes=5 * MIB)
        self.copy_all(ours, theirs)
        with open(theirs.path, 'rb') as file:
            data = file.read()
        self.assertEqual(b'\3' * ours.size_bytes, data[: ours.size_bytes])
        self.assertEqual({0}, set(data[ours.size_bytes :]))

    def test_destination_that_is_smaller_is_refused(self):
        ours, theirs = self.disks('raw', 4 * MIB)
        stack.create(ours.path, 'raw', ours.size_bytes)
        self.blank(theirs, size_bytes=3 * MIB)
        with self.assertRaisesRegex(exception.CopyFailed, 'less than the'):
            self.copy_all(ours, theirs)

    def test_several_connections(self):
        self.transfer._connections = 4
        ours, theirs = self.disks('qcow2', 64 * MIB)
        stack.create(ours.path, 'qcow2', ours.size_bytes)
        stack.qemu_io(ours.path, 'qcow2', 'write -P 1 0 40M')
        self.blank(theirs)
        link = self.connect(theirs)
        copy = self.begin(ours, link, rate=16 * MIB)
        stack.wait_for(lambda: copy.progress().done_bytes)
        self.assertEqual(4, link.meter('vda.base').connections)
        copy.set_rate(0)
        self.finish(copy)
        copy.close()
        self.server.stop_exports()
        self.assert_same(ours, theirs)

    def test_config_drive(self):
        """Read-only: no overlay, no mirror, compared afterwards."""
        ours, theirs = self.disks('raw', 2 * MIB, read_only=True)
        path = self.root / 'source' / 'disk'
        path.write_bytes(
            random.Random(4).randbytes(300 << 10)
            + bytes(2 * MIB - (300 << 10))
        )
        stack.create(theirs.path, 'raw', theirs.size_bytes)
        link = self.connect(theirs)
        copy = self.begin(ours, link)
        self.finish(copy)
        copy.close()
        self.assertEqual(
            self.transfer.digests(ours, MIB), self.server.digests(theirs, MIB)
        )
        self.server.stop_exports()
        self.assert_same(ours, theirs)


class ControlTest(stack.StackCase):
    """Rate, end, resume."""

    def filled(self, megabytes, image_format='qcow2'):
        ours, theirs = self.disks(image_format, (megabytes + 16) * MIB)
        stack.create(ours.path, image_format, ours.size_bytes)
        step = 8
        stack.qemu_io(
            ours.path,
            image_format,
            *(
                f'write -P {start // step + 1} {start}M {step}M'
                for start in range(0, megabytes, step)
            ),
        )
        self.blank(theirs)
        return ours, theirs

    def sent_in(self, link, seconds):
        """Bytes a second over the link in that time."""
        before, begun_at = link.meter('vda.base'), time.monotonic()
        time.sleep(seconds)
        after, ended_at = link.meter('vda.base'), time.monotonic()
        moved = after.sent_bytes - before.sent_bytes
        return moved / (ended_at - begun_at)

    def test_rate_is_obeyed_and_can_be_changed(self):
        ours, theirs = self.filled(128)
        link = self.connect(theirs)
        copy = self.begin(ours, link, rate=4 * MIB)
        stack.wait_for(lambda: copy.progress().done_bytes > MIB)
        for rate in (4, 12, 2):
            copy.set_rate(rate * MIB)
            time.sleep(0.1)
            found = self.sent_in(link, 3.0) / MIB
            self.assertLess(found, 1.1 * rate + 0.1)
            # Below it only for want of processors.
            self.assertGreater(found, 0.5 * rate)
            copy.progress()
        copy.set_rate(0)
        self.finish(copy)
        copy.close()
        self.server.stop_exports()
        self.assert_same(ours, theirs)

    def test_lower_rate_counts_at_once(self):
        """As the link sees it: what was on its way arrives all the same."""
        ours, theirs = self.filled(256)
        link = self.connect(theirs)
        copy = self.begin(ours, link, rate=64 * MIB)
        stack.wait_for(lambda: copy.progress().done_bytes > 8 * MIB)
        copy.set_rate(256 << 10)
        stack.wait_for(lambda: self.sent_in(link, 1.0) < 1.5 * MIB)
        self.assertFalse(copy.progress().finished)

    def test_progress(self):
        ours, theirs = self.filled(64)
        copy = self.begin(ours, self.connect(theirs), rate=16 * MIB)
        seen = []

        def look():
            progress = copy.progress()
            if not seen or progress != seen[-1]:
                seen.append(progress)
            return progress.finished

        begun_at = time.monotonic()
        stack.wait_for(look)
        took_s = time.monotonic() - begun_at
        self.assertGreater(len(seen), 4 * took_s)
        for name in ('done_bytes', 'offset'):
            values = [getattr(progress, name) for progress in seen]
            self.assertEqual(sorted(values), values)
        self.assertEqual(64 * MIB, seen[-1].total_bytes)
        self.assertIn(64 * MIB, {one.total_bytes for one in seen[:-2]})

    def test_closed_copy_lets_go_of_the_base(self):
        ours, theirs = self.filled(64)
        copy = self.begin(ours, self.connect(theirs), rate=MIB)
        stack.wait_for(lambda: copy.progress().done_bytes)
        self.overlay(ours)
        stack.qemu_io(ours.overlay_path, 'qcow2', 'write -P 99 1M 1M')
        commit = ['qemu-img', 'commit', '-q', ours.overlay_path]
        held = subprocess.run(
            commit, capture_output=True, text=True, check=False
        )
        self.assertIn('lock', held.stderr)
        begun_at = time.monotonic()
        copy.close()
        self.assertLess(time.monotonic() - begun_at, 2.0)
        stack.run(*commit)
        stack.qemu_io(ours.path, 'qcow2', 'read -P 99 1M 1M')

    def test_resume_of_qcow2_after_the_server_was_killed(self):
        self.check_resume('qcow2')

    def test_resume_of_raw_after_the_server_was_killed(self):
        self.check_resume('raw')

    def check_resume(self, image_format):
        """Everything below the offset is there; the rest is sent again."""
        ours, theirs = self.filled(192, image_format)
        offsets = [0]
        for _ in range(2):
            offsets.append(self.killed_copy(ours, theirs, offsets[-1]))
        self.assertEqual(sorted(offsets), offsets)
        self.assertGreater(offsets[-1], 0)
        link = self.connect(theirs)
        copy = self.begin(ours, link, offset=offsets[-1])
        last = self.finish(copy)
        copy.close()
        self.assertEqual(192 * MIB, last.done_bytes)
        rest = ours.size_bytes - offsets[-1]
        sent = link.meter('vda.base').sent_bytes
        self.assertLess(sent, 1.01 * rest + 4096)
        self.server.stop_exports()
        self.assert_same(ours, theirs)

    def killed_copy(self, ours, theirs, offset):
        """Kill the server some time on; the offset that was reached."""
        copy = self.begin(ours, self.connect(theirs), 16 * MIB, offset)
        stack.wait_for(lambda: copy.progress().total_bytes)
        until = time.monotonic() + random.SystemRandom().uniform(2.2, 4.0)
        while time.monotonic() < until:
            copy.progress()
            time.sleep(0.01)
        os.kill(self.daemon('vda.base').pid, 9)
        reached = copy.progress().offset
        with self.assertRaisesRegex(exception.CopyFailed, 'closed'):
            while True:
                reached = copy.progress().offset
                time.sleep(0.01)
        copy.close()
        self.server.close()
        return reached


class FullTest(stack.StackCase):
    """A destination that runs out of space."""

    def test_error_names_the_reason(self):
        small = self.root / 'destination'
        stack.run('mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', small)
        self.addCleanup(stack.run, 'umount', '-l', small)
        self.addCleanup(self.server.close)
        ours, theirs = self.disks('raw', 64 * MIB)
        stack.create(ours.path, 'raw', ours.size_bytes)
        stack.qemu_io(ours.path, 'raw', 'write -P 1 0 48M')
        self.blank(theirs)
        with self.assertRaises(exception.CopyFailed) as caught:
            self.copy_all(ours, theirs)
        self.assertIn('No space left on device', str(caught.exception))
        self.assertIn('destination', str(caught.exception))


class DigestTest(stack.StackCase):
    def test_first_different_chunk_is_found(self):
        ours, theirs = self.disks('qcow2', 40 * MIB + 512)
        for disk in (ours, theirs):
            stack.create(disk.path, 'qcow2', disk.size_bytes)
            stack.qemu_io(
                disk.path, 'qcow2', 'write -P 1 0 9M', 'write -P 2 30M 1M'
            )
        self.overlay(theirs)
        # Zeros are zeros, however they are stored.
        stack.qemu_io(theirs.path, 'qcow2', 'write -P 0 20M 1M')
        self.connect(theirs)
        chunk = 3 * MIB + 5
        here = self.transfer.digests(ours, chunk)
        self.assertEqual(14, len(here))
        self.assertEqual(here, self.server.digests(theirs, chunk))
        self.server.stop_exports()
        stack.qemu_io(theirs.path, 'qcow2', 'write -P 3 31981568 512')
        there = self.server.digests(theirs, chunk)
        different = [
            index
            for index, (one, other) in enumerate(zip(here, there, strict=True))
            if one != other
        ]
        self.assertEqual([31981568 // chunk], different)

    def test_as_handed_over(self):
        """The overlays on the bases, and only the chunks asked for."""
        ours, theirs = self.disks('raw', 40 * MIB + 512)
        for disk in (ours, theirs):
            stack.create(disk.path, 'raw', disk.size_bytes)
            stack.qemu_io(disk.path, 'raw', 'write -P 1 0 9M')
            self.overlay(disk)
        stack.qemu_io(ours.overlay_path, 'qcow2', 'write -P 5 512 512')
        # The other side has it as a whole chunk, and the rest of that as on
        # the source.
        stack.qemu_io(
            theirs.overlay_path,
            'qcow2',
            'write -P 1 0 64k',
            'write -P 5 512 512',
        )
        view, chunks = content.View.HANDED_OVER, [0, 3, 640]

        def digests(side, disk):
            return side.digests(disk, 65536, chunks, view)

        here = digests(self.transfer, ours)
        self.assertEqual(3, len(set(here)))
        self.assertEqual(here, digests(self.server, theirs))
        plain = self.transfer.digests(ours, 65536)
        self.assertNotEqual(plain[0], here[0])
        self.assertEqual([plain[3], plain[640]], here[1:])
        stack.qemu_io(theirs.overlay_path, 'qcow2', 'write -P 6 40M 512')
        self.assertEqual(here[:2], digests(self.server, theirs)[:2])
        self.assertNotEqual(here[2], digests(self.server, theirs)[2])

    def test_image_that_is_too_short(self):
        _, theirs = self.disks('raw', 4 * MIB)
        stack.create(theirs.path, 'raw', 3 * MIB)
        with self.assertRaisesRegex(exception.VerifyFailed, 'less than'):
            self.server.digests(theirs, MIB)
