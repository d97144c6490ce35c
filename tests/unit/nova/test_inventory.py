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
import tempfile
import unittest
from unittest import mock

import ddt

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.nova import inventory
from sxm_openstack.storage import image

from tests.unit.nova import fakes

_DISK = """
<disk type='{type}' device='disk'>
  <driver name='qemu' type='{format}'/>
  <source {source}/>{more}
  <target dev='{target}' bus='virtio'/>
</disk>"""


def domain(*disks):
    return f'<domain><devices>{"".join(disks)}</devices></domain>'


def element(
    target='vda', kind='file', image_format='qcow2', source=None, more=''
):
    return _DISK.format(
        type=kind,
        format=image_format,
        source=source or f"file='{__file__}'",
        more=more,
        target=target,
    )


@ddt.ddt
class TestRead(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.found = image.ImageInfo(
            path='', format='qcow2', size_bytes=1 << 30, allocated_bytes=77
        )
        patcher = mock.patch.object(
            inventory.image, 'info', side_effect=lambda path, *_: self.found
        )
        patcher.start()
        self.addCleanup(patcher.stop)

    def read(self, *disks, volumes=()):
        return inventory.read(domain(*disks), volumes)

    def assert_refused(self, reason, *disks):
        with self.assertRaisesRegex(exception.UnsupportedServer, reason):
            self.read(*disks)

    def test_a_file(self):
        (disk,) = self.read(element())
        self.assertEqual(
            engine_disk.Disk('vda', __file__, 'qcow2', 1 << 30, 77), disk
        )

    def test_a_config_drive_is_copied_too(self):
        """Trap 6."""
        (disk,) = self.read(
            element('hda', image_format='raw', more='<readonly/>')
        )
        self.assertTrue(disk.read_only)

    def test_volumes_stay_where_they_are(self):
        lun = element('vdb', 'block', 'raw', "dev='/dev/sdc'")
        disks = self.read(element(), lun, volumes={'vdb'})
        self.assertEqual(['vda'], [disk.target for disk in disks])

    def test_an_empty_drive(self):
        drive = "<disk type='file' device='cdrom'><target dev='hdb'/></disk>"
        self.assertEqual((), self.read(drive))

    @ddt.data(
        ('block', "dev='/dev/vg/3f1b_disk'", '', 'vda: .* type block'),
        ('network', "protocol='rbd' name='p/d'", '', 'vda: .* type network'),
        ('file', None, '<shareable/>', 'shared with other servers'),
        ('file', "file='/nowhere/disk'", '', '/nowhere/disk is missing'),
        (
            'file',
            None,
            "<mirror type='file' job='copy'><source file='/x'/></mirror>",
            r'a block job \(copy\)',
        ),
    )
    @ddt.unpack
    def test_refused(self, kind, source, more, reason):
        self.assert_refused(
            reason, element(kind=kind, source=source, more=more)
        )

    def test_every_reason_is_named(self):
        self.assert_refused(
            'vda: .*; vdb: ',
            element('vda', 'block', source="dev='/dev/vg/a'"),
            element('vdb', more='<shareable/>'),
        )

    def test_luks(self):
        self.found = image.ImageInfo(
            path='',
            format='qcow2',
            size_bytes=1,
            allocated_bytes=1,
            encrypted=True,
        )
        self.assert_refused('encrypted', element())

    def test_an_unknown_format(self):
        self.assert_refused('vhdx', element(image_format='vhdx'))

    @ddt.data(
        (None, engine_disk.Backing.NONE),
        ('/i/_base/a0409c59', engine_disk.Backing.SHARED),
        ('/i/_base/ephemeral_1_0706d66', engine_disk.Backing.DIFFERENT),
        ('/i/_base/swap_256', engine_disk.Backing.DIFFERENT),
    )
    @ddt.unpack
    def test_backing(self, path, backing):
        self.found = image.ImageInfo(
            path='',
            format='qcow2',
            size_bytes=1,
            allocated_bytes=1,
            backing_path=path,
        )
        (disk,) = self.read(element())
        self.assertIs(backing, disk.backing)


class TestSpace(unittest.TestCase):
    def check(self, percent, **disk):
        with tempfile.TemporaryDirectory() as directory:
            inventory.check_space(
                [fakes.disk(path=os.path.join(directory, 'disk'), **disk)],
                percent,
            )

    def test_enough(self):
        self.check(25, size_bytes=1 << 20)

    def test_too_little(self):
        with self.assertRaisesRegex(exception.PreCheckFailed, 'MiB free'):
            self.check(25, size_bytes=1 << 60)

    def test_not_asked_for(self):
        self.check(0, size_bytes=1 << 60)

    def test_what_the_guest_cannot_write_needs_none(self):
        self.check(100, size_bytes=1 << 60, read_only=True)


class TestDrivers(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.first, self.second = mock.Mock(), mock.Mock()
        self.first.name, self.second.name = 'first', 'second'
        self.first.refuse.return_value = None
        self.second.refuse.return_value = None

    def choose(self, *disks):
        return inventory.choose_drivers(disks, [self.first, self.second])

    def test_the_first_that_takes_it(self):
        self.first.refuse.side_effect = lambda disk: (
            'too odd' if disk.target == 'vdb' else None
        )
        self.assertEqual(
            {'vda': self.first, 'vdb': self.second},
            self.choose(fakes.disk('vda'), fakes.disk('vdb')),
        )

    def test_none_for_a_config_drive(self):
        self.assertEqual({}, self.choose(fakes.disk('hda', read_only=True)))

    def test_the_reasons_of_all(self):
        self.first.refuse.return_value = 'too odd'
        self.second.refuse.return_value = 'too big'
        with self.assertRaisesRegex(
            exception.UnsupportedServer, 'first: too odd; second: too big'
        ):
            self.choose(fakes.disk())
