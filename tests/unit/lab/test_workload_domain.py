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

import pathlib
import unittest
from xml.etree import ElementTree

from tests.lab.guest import build
from tests.lab.guest import domain

IMAGE = build.GuestImage(
    pathlib.Path('/c/guest-0123/disk.img'),
    pathlib.Path('/c/guest-0123/vmlinuz'),
    pathlib.Path('/c/guest-0123/initrd'),
)


class TestDomain(unittest.TestCase):
    def setUp(self):
        self.guest = domain.LabGuest(
            'g1',
            '10.77.0.50',
            IMAGE,
            [
                domain.Disk('vda', 1 << 30),
                domain.Disk('vdb', 1 << 20, fmt='raw', path='/x/b.raw'),
                domain.Disk('vdc', 1 << 20, readonly=True),
            ],
        )
        self.xml = ElementTree.fromstring(self.guest.xml())

    def test_boots_the_kernel_with_its_address(self):
        self.assertEqual(
            '/etc/lab/guest-0123/vmlinuz', self.xml.findtext('os/kernel')
        )
        self.assertEqual(
            '/etc/lab/guest-0123/initrd', self.xml.findtext('os/initrd')
        )
        words = self.xml.findtext('os/cmdline').split()
        self.assertIn('sxm.ip=10.77.0.50', words)
        self.assertIn('console=ttyS0', words)
        self.assertEqual('qemu', self.xml.get('type'))

    def test_disks(self):
        disks = self.xml.findall('devices/disk')
        self.assertEqual(
            [
                ('vda', 'qcow2', '/var/lib/nova/instances/g1/vda', False),
                ('vdb', 'raw', '/x/b.raw', False),
                ('vdc', 'qcow2', '/var/lib/nova/instances/g1/vdc', True),
            ],
            [
                (
                    disk.find('target').get('dev'),
                    disk.find('driver').get('type'),
                    disk.find('source').get('file'),
                    disk.find('readonly') is not None,
                )
                for disk in disks
            ],
        )
        for disk in disks:
            driver = disk.find('driver')
            self.assertEqual('none', driver.get('cache'))
            self.assertEqual('native', driver.get('io'))
            self.assertEqual('unmap', driver.get('discard'))

    def test_network(self):
        link = self.xml.find('devices/interface')
        self.assertEqual('br-lab', link.find('source').get('bridge'))
        self.assertEqual('52:54:0a:4d:00:32', link.find('mac').get('address'))

    def test_the_uuid_stays(self):
        self.assertEqual(self.guest.uuid, self.xml.findtext('uuid'))
        again = ElementTree.fromstring(self.guest.xml())
        self.assertEqual(self.guest.uuid, again.findtext('uuid'))

    def test_macs_differ(self):
        macs = {domain.mac_of(f'10.77.0.{last}') for last in range(256)}
        self.assertEqual(256, len(macs))
