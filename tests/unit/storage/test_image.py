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

"""What qemu-img really does with images."""

import json
import os
import subprocess
import tempfile
import unittest
from unittest import mock

import ddt

from sxm_openstack import exception
from sxm_openstack.storage import image

from tests.unit.storage import images


class ImageTestCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory(prefix='sxm-unit-')
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def overlay(self, name: str, below: str, below_format: str) -> str:
        path = self.path(name)
        image.create_overlay(path, below, below_format, images.SIZE_BYTES)
        return path


@ddt.ddt
class TestInfo(ImageTestCase):
    @ddt.data('raw', 'qcow2')
    def test_of_an_empty_image(self, image_format):
        found = image.info(images.make(self.path('a'), image_format))
        self.assertEqual(image_format, found.format)
        self.assertEqual(images.SIZE_BYTES, found.size_bytes)
        self.assertLess(found.allocated_bytes, 1 << 20)
        self.assertIsNone(found.backing_path)
        self.assertFalse(found.encrypted)

    def test_of_an_overlay(self):
        base = images.make(self.path('base'), 'raw')
        found = image.info(self.overlay('top', base, 'raw'))
        self.assertEqual(
            ('qcow2', base, 'raw'),
            (found.format, found.backing_path, found.backing_format),
        )

    def test_a_raw_disk_cannot_pose_as_something_else(self):
        """A guest may write any header into its own disk."""
        forged = images.make(self.path('forged'), 'qcow2')
        self.assertEqual('raw', image.info(forged, 'raw').format)
        self.assertEqual('qcow2', image.info(forged).format)

    def test_not_what_it_should_be(self):
        path = images.make(self.path('raw'), 'raw')
        self.assertRaises(exception.MoveFailed, image.info, path, 'qcow2')

    def test_missing(self):
        with self.assertRaisesRegex(exception.MoveFailed, 'No such file'):
            image.info(self.path('nothing'))


@ddt.ddt
class TestOverlay(ImageTestCase):
    def test_has_small_clusters_and_smaller_subclusters(self):
        base = images.make(self.path('base'), 'qcow2')
        top = self.overlay('top', base, 'qcow2')
        data = json.loads(
            subprocess.check_output(['qemu-img', 'info', '--output=json', top])
        )
        self.assertEqual(16384, data['cluster-size'])
        self.assertTrue(data['format-specific']['data']['extended-l2'])

    @ddt.data('raw', 'qcow2')
    def test_a_small_write_fills_nothing_from_below(self, image_format):
        """512 bytes: the rest of the cluster still shows the base."""
        base = images.make(self.path('base'), image_format)
        top = self.overlay('top', base, image_format)
        images.qemu_io(top, 'qcow2', 'write -q -P 7 512 512')
        images.write(base, image_format, 0, 9)
        said = images.qemu_io(
            top,
            'qcow2',
            'read -P 9 0 512',
            'read -P 7 512 512',
            'read -P 9 1024 64512',
        )
        self.assertNotIn('verification failed', said)

    def test_made_while_its_backing_file_is_not_there(self):
        top = self.overlay('top', self.path('later'), 'raw')
        images.make(self.path('later'), 'raw')
        self.assertTrue(images.holds(top, 'qcow2', 0, 0))


class TestWrittenChunks(ImageTestCase):
    def setUp(self):
        super().setUp()
        base = images.make(self.path('base'), 'raw')
        images.write(base, 'raw', 3, 7)
        self.top = self.overlay('top', base, 'raw')

    def written(self, chunk_bytes=65536):
        return image.written_chunks(self.top, 'qcow2', chunk_bytes)

    def test_nothing_of_what_is_below(self):
        self.assertEqual([], self.written())

    def test_one_sector_and_one_across_two_chunks(self):
        images.qemu_io(
            self.top, 'qcow2', 'write -q -P 7 1M 512', 'write -q 130560 1k'
        )
        self.assertEqual([1, 2, 16], self.written())

    def test_zeros_hide_what_is_below(self):
        images.qemu_io(self.top, 'qcow2', 'write -q -z 1M 64k')
        self.assertEqual([16], self.written())


@ddt.ddt
class TestHoldsData(ImageTestCase):
    def test_an_overlay_never_written_to(self):
        base = images.make(self.path('base'), 'raw')
        images.write(base, 'raw', 3, 7)
        top = self.overlay('top', base, 'raw')
        self.assertFalse(image.holds_data(top, 'qcow2'))

    def test_one_write(self):
        base = images.make(self.path('base'), 'raw')
        top = self.overlay('top', base, 'raw')
        images.qemu_io(top, 'qcow2', 'write -q -P 7 1M 512')
        self.assertTrue(image.holds_data(top, 'qcow2'))

    def test_zeros_hide_what_is_below(self):
        base = images.make(self.path('base'), 'raw')
        top = self.overlay('top', base, 'raw')
        images.qemu_io(top, 'qcow2', 'write -q -z 1M 64k')
        self.assertTrue(image.holds_data(top, 'qcow2'))

    def test_without_its_backing_file(self):
        top = self.overlay('top', self.path('gone'), 'raw')
        self.assertFalse(image.holds_data(top, 'qcow2'))

    @ddt.data('raw', 'qcow2')
    def test_an_empty_base(self, image_format):
        path = images.make(self.path('a'), image_format)
        self.assertFalse(image.holds_data(path, image_format))
        images.write(path, image_format, 200, 7)
        self.assertTrue(image.holds_data(path, image_format))

    def test_a_preallocated_raw_file(self):
        path = self.path('a')
        with open(path, 'wb') as stream:
            os.posix_fallocate(stream.fileno(), 0, 4 << 20)
        self.assertFalse(image.holds_data(path, 'raw'))

    def test_the_last_byte_of_a_raw_file(self):
        path = self.path('a')
        with open(path, 'wb') as stream:
            stream.truncate(5 << 20)
            stream.seek((5 << 20) - 1)
            stream.write(b'x')
        self.assertTrue(image.holds_data(path, 'raw'))

    def test_an_empty_file(self):
        path = self.path('a')
        open(path, 'wb').close()
        self.assertFalse(image.holds_data(path, 'raw'))

    @ddt.data('raw', 'qcow2')
    def test_missing_is_an_error(self, image_format):
        self.assertRaises(
            exception.MoveFailed,
            image.holds_data,
            self.path('nothing'),
            image_format,
        )

    def test_damaged_is_an_error(self):
        path = self.path('a')
        with open(path, 'wb') as stream:
            stream.write(b'not an image' * 1000)
        self.assertRaises(
            exception.MoveFailed, image.holds_data, path, 'qcow2'
        )


class TestFold(ImageTestCase):
    def test_into_the_file_below_alone(self):
        base = images.make(self.path('base'), 'raw')
        middle = self.overlay('middle', base, 'raw')
        top = self.overlay('top', middle, 'qcow2')
        images.write(middle, 'qcow2', 1, 5)
        images.write(top, 'qcow2', 2, 6)
        image.fold(top)
        self.assertTrue(images.holds(middle, 'qcow2', 2, 6))
        self.assertTrue(images.holds(base, 'raw', 2, 0))
        image.fold(middle)
        self.assertTrue(images.holds(base, 'raw', 1, 5))
        self.assertTrue(images.holds(base, 'raw', 2, 6))

    def test_zeros_too(self):
        base = images.make(self.path('base'), 'qcow2')
        images.write(base, 'qcow2', 4, 9)
        top = self.overlay('top', base, 'qcow2')
        images.qemu_io(top, 'qcow2', f'write -q -z {4 * 65536} 65536')
        image.fold(top)
        self.assertTrue(images.holds(base, 'qcow2', 4, 0))

    def test_twice(self):
        base = images.make(self.path('base'), 'raw')
        top = self.overlay('top', base, 'raw')
        images.write(top, 'qcow2', 2, 6)
        image.fold(top)
        image.fold(top)
        self.assertTrue(images.holds(base, 'raw', 2, 6))

    def test_an_image_in_use_is_left_alone(self):
        base = images.make(self.path('base'), 'raw')
        top = self.overlay('top', base, 'raw')
        user = subprocess.Popen(
            ['qemu-io', '-f', 'qcow2', top],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            user.stdin.write('write -P 6 0 65536\n')
            user.stdin.flush()
            for line in user.stdout:
                if 'ops' in line:
                    break
            with self.assertRaisesRegex(exception.MoveFailed, 'lock'):
                image.fold(top)
        finally:
            user.communicate('quit\n', timeout=30)
        self.assertTrue(images.holds(base, 'raw', 0, 0))


class TestRunning(ImageTestCase):
    def test_not_installed(self):
        with mock.patch.dict(os.environ, {'PATH': self.directory}):
            with self.assertRaises(exception.MoveFailed) as caught:
                image.run_qemu_img('info', 'x')
        self.assertIn('qemu-utils', caught.exception.remedy)

    def test_does_not_end(self):
        program = self.path('qemu-img')
        with open(program, 'w') as stream:
            stream.write('#!/bin/sh\nexec sleep 60\n')
        os.chmod(program, 0o755)
        path = f'{self.directory}:{os.environ["PATH"]}'
        with mock.patch.dict(os.environ, {'PATH': path}):
            with self.assertRaises(exception.MoveFailed) as caught:
                image.run_qemu_img('info', 'x', timeout_s=0.2)
        self.assertIn('did not end within', str(caught.exception))
        self.assertNotIn('Install', str(caught.exception))
