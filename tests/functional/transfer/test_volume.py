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
import pathlib
import random
import shutil
import subprocess
import tempfile
import unittest

from sxm_openstack import exception
from sxm_openstack.transfer import base
from sxm_openstack.transfer import process
from sxm_openstack.transfer import volume

from tests.functional.transfer import stack

MIB = stack.MIB


class Killed(Exception):
    """Stands for the end of the service in the middle of a copy."""


class VolumeCase(unittest.TestCase):
    size_bytes = 64 * MIB

    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(
            tempfile.mkdtemp(prefix='sxm', dir=stack.SCRATCH)
        )
        self.addCleanup(shutil.rmtree, self.root, ignore_errors=True)
        self.runtime = str(self.root / 'run')
        self.told = []

    def image(self, name, image_format, *commands, size_bytes=None):
        """A file, and what qemu-io wrote into it."""
        path = str(self.root / name)
        stack.create(path, image_format, size_bytes or self.size_bytes)
        if commands:
            stack.qemu_io(path, image_format, *commands)
        return path

    def filled(self, name, image_format):
        return self.image(
            name,
            image_format,
            'write -P 1 0 5M',
            'write -P 2 20M 3M',
            'write -z 21M 1M',
            'write -P 3 65535k 1k',
        )

    def volume(self, path, image_format, **values):
        return volume.at_path(
            path, image_format, self.size_bytes, thin_device=True, **values
        )

    def copy(self, source, destination, *, tell=None, **orders):
        copying = volume.VolumeCopy(
            self.runtime,
            source,
            destination,
            base.Settings(helper_python=stack.HELPER),
        )
        copying.run(volume.Orders(**orders), tell or self.told.append)

    def assert_same(self, one, one_format, other, other_format):
        self.assertEqual(
            stack.content_hash(one, one_format),
            stack.content_hash(other, other_format),
        )


class FormatTest(VolumeCase):
    """What a guest sees arrives, whatever the containers are."""

    def check(self, source_format, destination_format):
        source = self.filled('source', source_format)
        destination = self.image('destination', destination_format)
        self.copy(
            self.volume(source, source_format),
            self.volume(destination, destination_format),
        )
        self.assert_same(
            source, source_format, destination, destination_format
        )
        self.assertLess(stack.allocated(destination), 12 * MIB)
        self.assertEqual(volume.Phase.DONE, self.told[-1].phase)
        self.assertEqual(self.size_bytes, self.told[-1].offset)
        self.assertFalse(os.path.exists(self.runtime))

    def test_raw_to_raw(self):
        self.check('raw', 'raw')

    def test_raw_to_qcow2(self):
        self.check('raw', 'qcow2')

    def test_qcow2_to_raw(self):
        self.check('qcow2', 'raw')

    def test_qcow2_to_qcow2(self):
        self.check('qcow2', 'qcow2')

    def test_smaller_destination_is_refused(self):
        source = self.filled('source', 'raw')
        small = self.image('small', 'raw', size_bytes=MIB)
        with self.assertRaisesRegex(exception.MoveFailed, 'could not be'):
            self.copy(self.volume(source, 'raw'), self.volume(small, 'raw'))

    def test_larger_destination_keeps_what_lies_beyond(self):
        source = self.filled('source', 'raw')
        large = self.image(
            'large', 'raw', 'write -P 9 64M 1M', size_bytes=65 * MIB
        )
        self.copy(self.volume(source, 'raw'), self.volume(large, 'raw'))
        stack.qemu_io(large, 'raw', 'read -P 9 64M 1M')


class SparseTest(VolumeCase):
    def test_written_zeros_of_a_thick_source_become_holes(self):
        source = str(self.root / 'thick')
        with open(source, 'wb') as file:
            file.write(b'\1' * MIB + bytes(self.size_bytes - MIB))
        destination = self.image('destination', 'raw')
        self.copy(self.volume(source, 'raw'), self.volume(destination, 'raw'))
        self.assert_same(source, 'raw', destination, 'raw')
        self.assertLess(stack.allocated(destination), 2 * MIB)

    def test_thick_destination_stays_thick(self):
        source = self.filled('source', 'raw')
        destination = str(self.root / 'destination')
        with open(destination, 'wb') as file:
            os.posix_fallocate(file.fileno(), 0, self.size_bytes)
        self.copy(self.volume(source, 'raw'), self.volume(destination, 'raw'))
        self.assert_same(source, 'raw', destination, 'raw')
        self.assertGreaterEqual(stack.allocated(destination), self.size_bytes)

    def test_old_content_of_the_destination_is_gone(self):
        for image_format in ('raw', 'qcow2'):
            with self.subTest(image_format):
                source = self.filled(f's-{image_format}', 'raw')
                old = self.image(
                    f'd-{image_format}', image_format, 'write -P 7 0 50M'
                )
                self.copy(
                    self.volume(source, 'raw'), self.volume(old, image_format)
                )
                self.assert_same(source, 'raw', old, image_format)
                self.assertLess(stack.allocated(old), 12 * MIB)

    def test_block_device_with_old_content(self):
        backing = self.image('device', 'raw', 'write -P 7 0 64M')
        device = stack.run('losetup', '--find', '--show', backing).strip()
        self.addCleanup(subprocess.run, ['losetup', '-d', device], check=True)
        source = self.filled('source', 'qcow2')
        self.copy(self.volume(source, 'qcow2'), self.volume(device, 'raw'))
        self.assert_same(source, 'qcow2', device, 'raw')
        back = self.image('back', 'qcow2')
        self.copy(self.volume(device, 'raw'), self.volume(back, 'qcow2'))
        self.assert_same(source, 'qcow2', back, 'qcow2')
        self.assertLess(stack.allocated(back), 12 * MIB)


class TroubleTest(VolumeCase):
    def random_image(self, size_bytes):
        path = self.image('source', 'raw')
        with open(path, 'r+b') as file:
            file.write(random.Random(1).randbytes(size_bytes))
        return path

    def test_a_difference_is_found(self):
        source = self.filled('source', 'raw')
        destination = self.image('destination', 'raw')

        def spoil(progress):
            if progress.phase is volume.Phase.VERIFYING and not self.told:
                self.told.append(progress)
            if progress.phase is volume.Phase.COPYING and (
                progress.offset == self.size_bytes
            ):
                # Behind everybody's back, into a hole.
                with open(destination, 'r+b') as file:
                    file.seek(40 * MIB + 17)
                    file.write(b'x')

        with self.assertRaisesRegex(exception.VerifyFailed, str(40 * MIB)):
            self.copy(
                self.volume(source, 'raw'),
                self.volume(destination, 'raw'),
                tell=spoil,
            )

    def test_interrupted_copy_goes_on_where_it_was(self):
        source = self.random_image(48 * MIB)
        destination = self.image('destination', 'raw')
        volumes = (
            self.volume(source, 'raw'),
            self.volume(destination, 'raw'),
        )
        marks = [0]

        def end_half_way(progress):
            marks.append(progress.offset)
            if progress.offset >= 16 * MIB:
                raise Killed

        with self.assertRaises(Killed):
            self.copy(
                *volumes,
                tell=end_half_way,
                rate_bytes_per_s=lambda: 8 * MIB,
            )
        self.assertFalse(os.path.exists(self.runtime))
        self.copy(*volumes, offset=marks[-1])
        self.assert_same(source, 'raw', destination, 'raw')
        first = next(one for one in self.told if one.total_bytes)
        self.assertGreaterEqual(first.done_bytes, 16 * MIB)

    def test_what_a_killed_service_left_is_ended(self):
        source = self.random_image(48 * MIB)
        destination = self.image('destination', 'raw')
        runtime = pathlib.Path(self.runtime)

        def die(progress):
            if progress.done_bytes:
                os._exit(9)  # neither clean-up nor closing of anything

        pid = os.fork()
        if not pid:
            self.copy(
                self.volume(source, 'raw'),
                self.volume(destination, 'raw'),
                tell=die,
                rate_bytes_per_s=lambda: MIB,
            )
        self.assertEqual(9, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        left = [one for one in process.recorded(runtime) if one.alive()]
        self.assertGreaterEqual(len(left), 2)  # they hold both files
        self.copy(self.volume(source, 'raw'), self.volume(destination, 'raw'))
        self.assert_same(source, 'raw', destination, 'raw')

    def test_rate_is_kept_and_may_change(self):
        source = self.random_image(32 * MIB)
        destination = self.image('destination', 'raw')
        rates = [4 * MIB]

        def hurry(progress):
            self.told.append(progress)
            if progress.done_bytes >= 8 * MIB:
                rates[0] = 0

        began = stack.time.monotonic()
        self.copy(
            self.volume(source, 'raw'),
            self.volume(destination, 'raw'),
            tell=hurry,
            rate_bytes_per_s=lambda: rates[0],
            verify=False,
        )
        took_s = stack.time.monotonic() - began
        # 8 MiB at 4 MiB/s, the rest at once.
        self.assertGreater(took_s, 1.5)
        self.assertLess(took_s, 6.0)
