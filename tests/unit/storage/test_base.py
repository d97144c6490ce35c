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

"""Storage drivers: bases and overlays on a host, with real images."""

import dataclasses
import os
from unittest import mock

import ddt

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.storage import drivers
from sxm_openstack.storage import image
from sxm_openstack.storage import qcow2
from sxm_openstack.storage import raw

from tests.unit.storage import images
from tests.unit.storage import test_image

DRIVERS = {'raw': raw.RawStorage(), 'qcow2': qcow2.QCOW2Storage()}


class StorageTestCase(test_image.ImageTestCase):
    def disk(self, image_format: str, **named) -> engine_disk.Disk:
        made = engine_disk.Disk(
            target='vda',
            path=self.path('server/disk'),
            format=image_format,
            size_bytes=images.SIZE_BYTES,
        )
        return dataclasses.replace(made, **named)


@ddt.ddt
class TestCreateBase(StorageTestCase):
    @ddt.data('raw', 'qcow2')
    def test_made(self, image_format):
        disk = self.disk(image_format)
        DRIVERS[image_format].create_base(disk)
        found = image.info(disk.path, image_format)
        self.assertEqual(disk.size_bytes, found.size_bytes)
        self.assertFalse(image.holds_data(disk.path, image_format))

    @ddt.data('raw', 'qcow2')
    def test_the_one_that_nova_made_is_taken(self, image_format):
        disk = self.disk(image_format)
        os.mkdir(self.path('server'))
        images.make(disk.path, image_format)
        inode = os.stat(disk.path).st_ino
        DRIVERS[image_format].create_base(disk)
        self.assertEqual(inode, os.stat(disk.path).st_ino)

    def test_one_with_a_backing_file_is_taken(self):
        disk = self.disk('qcow2', backing=engine_disk.Backing.SHARED)
        os.mkdir(self.path('server'))
        below = images.make(self.path('image'), 'raw')
        images.write(below, 'raw', 0, 7)
        image.create_overlay(disk.path, below, 'raw', images.SIZE_BYTES)
        DRIVERS['qcow2'].create_base(disk)
        self.assertTrue(images.holds(disk.path, 'qcow2', 0, 7))

    @ddt.data('raw', 'qcow2')
    def test_content_of_another_time_is_refused(self, image_format):
        """What the copy leaves out must not show it."""
        disk = self.disk(image_format)
        os.mkdir(self.path('server'))
        images.make(disk.path, image_format)
        images.write(disk.path, image_format, 9, 3)
        with self.assertRaisesRegex(exception.MoveFailed, 'holds data'):
            DRIVERS[image_format].create_base(disk)
        self.assertTrue(images.holds(disk.path, image_format, 9, 3))

    def test_content_that_is_overwritten(self):
        disk = self.disk('qcow2', backing=engine_disk.Backing.DIFFERENT)
        os.mkdir(self.path('server'))
        below = images.make(self.path('image'), 'raw')
        image.create_overlay(disk.path, below, 'raw', images.SIZE_BYTES)
        images.write(disk.path, 'qcow2', 9, 3)
        DRIVERS['qcow2'].create_base(disk)

    def test_content_that_is_compared(self):
        disk = self.disk('raw', read_only=True)
        os.mkdir(self.path('server'))
        images.make(disk.path, 'raw')
        images.write(disk.path, 'raw', 9, 3)
        DRIVERS['raw'].create_base(disk)

    @ddt.data(
        (engine_disk.Backing.NONE, True),
        (engine_disk.Backing.SHARED, False),
        (engine_disk.Backing.DIFFERENT, False),
    )
    @ddt.unpack
    def test_other_files_below(self, wanted, has_backing):
        """Where the copy sends the top alone, the rest must be there; where
        it sends all but zeros, nothing may show through."""
        disk = self.disk('qcow2', backing=wanted)
        os.mkdir(self.path('server'))
        below = images.make(self.path('image'), 'raw')
        if has_backing:
            image.create_overlay(disk.path, below, 'raw', images.SIZE_BYTES)
        with self.assertRaisesRegex(exception.MoveFailed, 'below it'):
            DRIVERS['qcow2'].create_base(disk)

    def test_too_small(self):
        disk = self.disk('raw', size_bytes=images.SIZE_BYTES + 512)
        os.mkdir(self.path('server'))
        images.make(disk.path, 'raw')
        with self.assertRaisesRegex(exception.MoveFailed, 'needed are'):
            DRIVERS['raw'].create_base(disk)

    @ddt.data(('raw', 'qcow2'), ('qcow2', 'raw'))
    @ddt.unpack
    def test_another_format(self, wanted, found):
        disk = self.disk(wanted)
        os.mkdir(self.path('server'))
        images.make(disk.path, found)
        self.assertRaises(
            exception.MoveFailed, DRIVERS[wanted].create_base, disk
        )


@ddt.ddt
class TestOverlays(StorageTestCase):
    def setUp(self):
        super().setUp()
        self.storage = DRIVERS['raw']
        self.base = images.make(self.path('disk'), 'raw')
        self.top = self.path('disk.sxm-overlay')

    def _create(self):
        self.storage.create_overlay(
            self.top, self.base, 'raw', images.SIZE_BYTES
        )

    def test_made(self):
        self._create()
        self.assertTrue(self.storage.exists(self.top))
        self.assertFalse(self.storage.holds_data(self.top))
        self.assertEqual(
            ['disk', 'disk.sxm-overlay'], sorted(os.listdir(self.directory))
        )

    def test_an_empty_leftover_is_replaced(self):
        self._create()
        inode = os.stat(self.top).st_ino
        self._create()
        self.assertNotEqual(inode, os.stat(self.top).st_ino)

    def test_one_that_holds_data_is_not(self):
        self._create()
        images.write(self.top, 'qcow2', 5, 8)
        with self.assertRaisesRegex(exception.MoveFailed, 'holds data'):
            self._create()
        self.assertTrue(images.holds(self.top, 'qcow2', 5, 8))

    def test_it_never_exists_half_made(self):
        def half(path, *arguments):
            with open(path, 'wb') as stream:
                stream.write(b'QFI')
            raise exception.MoveFailed('no space')

        with mock.patch.object(image, 'create_overlay', half):
            self.assertRaises(exception.MoveFailed, self._create)
        self.assertEqual(['disk'], os.listdir(self.directory))

    def test_its_name_survives_a_power_cut(self):
        synced = []
        real = os.fsync

        def fsync(descriptor):
            synced.append(os.readlink(f'/proc/self/fd/{descriptor}'))
            real(descriptor)

        with mock.patch.object(os, 'fsync', fsync):
            self._create()
        self.assertEqual([os.path.realpath(self.directory)], synced)

    def test_what_a_crash_left_goes_too(self):
        with open(f'{self.top}.sxm-new', 'wb') as stream:
            stream.write(b'half')
        self._create()
        self.assertFalse(self.storage.holds_data(self.top))
        with open(f'{self.top}.sxm-new', 'wb') as stream:
            stream.write(b'half')
        self.storage.remove(self.top)
        self.assertEqual(['disk'], os.listdir(self.directory))

    def test_remove_twice(self):
        self._create()
        self.storage.remove(self.top)
        self.storage.remove(self.top)
        self.assertFalse(self.storage.exists(self.top))

    def test_fold(self):
        self._create()
        images.write(self.top, 'qcow2', 5, 8)
        self.storage.fold(self.top)
        self.assertTrue(images.holds(self.base, 'raw', 5, 8))

    def test_set_aside_never_overwrites(self):
        kept = []
        for value in (1, 2, 3):
            self._create()
            images.write(self.top, 'qcow2', 5, value)
            kept.append(self.storage.set_aside(self.top))
            self.assertFalse(self.storage.exists(self.top))
        self.assertEqual(3, len(set(kept)))
        for path, value in zip(kept, (1, 2, 3), strict=True):
            self.assertTrue(images.holds(path, 'qcow2', 5, value))

    def test_occupied(self):
        self.assertEqual(0, self.storage.occupied_bytes(self.top))
        self._create()
        before = self.storage.occupied_bytes(self.top)
        images.qemu_io(self.top, 'qcow2', 'write -q -P 1 0 4M')
        grown = self.storage.occupied_bytes(self.top) - before
        self.assertGreaterEqual(grown, 4 << 20)


@ddt.ddt
class TestDrivers(StorageTestCase):
    @ddt.data('raw', 'qcow2')
    def test_loaded_by_format(self, image_format):
        loaded = drivers.load(image_format)
        self.assertIs(type(DRIVERS[image_format]), type(loaded))
        self.assertEqual(image_format, loaded.format)

    def test_unknown_format(self):
        with self.assertRaises(exception.UnsupportedServer) as caught:
            drivers.load('vmdk')
        self.assertIn('vmdk', str(caught.exception))
        self.assertIn('sxm.storage', caught.exception.remedy)

    def test_encrypted(self):
        info = image.ImageInfo('/i/disk', 'qcow2', 1, 1, encrypted=True)
        self.assertIn('encrypted', DRIVERS['qcow2'].refuse(info))

    @ddt.data('raw', 'qcow2')
    def test_plain(self, image_format):
        info = image.ImageInfo('/i/disk', image_format, 1, 1)
        self.assertIsNone(DRIVERS[image_format].refuse(info))
