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

import dataclasses
import unittest

import ddt

from sxm_openstack.engine import checks
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.hypervisor import xml
from sxm_openstack.mirror import facts
from sxm_openstack.mirror import pair

MIB = 1 << 20
HERE = facts.Facts(
    host='alpha',
    time_s=1000.0,
    libvirt_version=11003000,
    qemu_version=10000002,
    arch='x86_64',
    machines=('pc', 'pc-i440fx-10.0'),
    cpu='<cpu/>',
    instances_path='/i',
    runtime_dir='/run/sxm',
    free_bytes=100 * MIB,
    formats=('qcow2', 'raw'),
    transfer_driver='nbd',
    address='192.0.2.1',
    port=49300,
    checks=(checks.failed('qemu', 'It is old.', 'Upgrade it.'),),
)
THERE = dataclasses.replace(HERE, host='beta', checks=())
PC = xml.Machine('x86_64', 'pc-i440fx-10.0')


class TestFacts(unittest.TestCase):
    def test_over_the_wire(self):
        self.assertEqual(HERE, facts.Facts.from_json(HERE.to_json()))

    def test_of_a_later_version(self):
        data = {**HERE.to_dict(), 'colour': 'blue'}
        self.assertEqual(HERE, facts.Facts.from_dict(data))

    def test_what_is_none(self):
        for text in ('', '{}', '[]', '{"host": "alpha"}', 'null'):
            with self.subTest(text):
                self.assertRaises(ValueError, facts.Facts.from_json, text)


@ddt.ddt
class TestHosts(unittest.TestCase):
    def verdicts(self, **there):
        found = pair.hosts(HERE, dataclasses.replace(THERE, **there))
        return {
            check.name: str(check.verdict)
            for check in found
            if check.verdict is not checks.Verdict.OK
        }

    def test_alike(self):
        self.assertEqual({}, self.verdicts())
        self.assertEqual(5, len(list(pair.hosts(HERE, THERE))))

    @ddt.data(
        ('instances_path', '/j', 'instances-path', 'failed'),
        ('runtime_dir', '/run/other', 'runtime-dir', 'failed'),
        ('transfer_driver', 'pigeon', 'transfer-driver', 'failed'),
        ('qemu_version', 9002000, 'versions', 'warning'),
        ('time_s', 1006.0, 'clock', 'warning'),
        ('time_s', 994.0, 'clock', 'warning'),
    )
    @ddt.unpack
    def test_not_alike(self, field, value, name, verdict):
        self.assertEqual({name: verdict}, self.verdicts(**{field: value}))

    def test_newer_is_no_matter(self):
        self.assertEqual(
            {}, self.verdicts(qemu_version=11000000, libvirt_version=12000000)
        )

    def test_versions_as_people_write_them(self):
        text = ' '.join(str(check) for check in pair.hosts(HERE, THERE))
        self.assertIn('QEMU 10.0.2 here', text)
        self.assertIn('libvirt 11.3.0', text)


class TestServer(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.disk = engine_disk.Disk(
            'vda', '/i/disk', 'qcow2', 200 * MIB, 40 * MIB
        )

    def failed(self, *disks, machine=PC, percent=25, **there):
        found = pair.server(
            dataclasses.replace(THERE, **there),
            disks or (self.disk,),
            machine,
            percent,
        )
        return [check.name for check in checks.failures(found)]

    def test_it_fits(self):
        self.assertEqual([], self.failed())

    def test_machine_type(self):
        newer = xml.Machine('x86_64', 'pc-i440fx-11.0')
        self.assertEqual(['machine-type'], self.failed(machine=newer))

    def test_a_machine_of_another_architecture_is_not_compared(self):
        self.assertEqual(
            [], self.failed(machine=xml.Machine('aarch64', 'virt-10.0'))
        )

    def test_formats(self):
        self.assertEqual(['formats'], self.failed(formats=('raw',)))

    def test_space(self):
        """40 MiB are copied, and 25 % of 200 MiB are for the overlay."""
        self.assertEqual([], self.failed(free_bytes=90 * MIB))
        self.assertEqual(
            ['space-destination'], self.failed(free_bytes=90 * MIB - 1)
        )
        self.assertEqual([], self.failed(free_bytes=40 * MIB, percent=0))

    def test_a_config_drive_grows_no_overlay(self):
        drive = engine_disk.Disk(
            'hda', '/i/c', 'raw', 1 << 40, 40 * MIB, read_only=True
        )
        self.assertEqual([], self.failed(drive, free_bytes=40 * MIB))
