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

"""Domain XML as libvirt 11.3 wrote it, read and changed."""

from __future__ import annotations

import pathlib
import unittest
from xml.etree import ElementTree

from sxm_openstack.hypervisor import xml

DATA = pathlib.Path(__file__).parent / 'data'
DIRECTORY = '/var/lib/nova/instances/5f0c1a52-6b1d-4f3c-9b52-6a4f5f3a9c11'
IMAGE = '/var/lib/nova/instances/_base/5d7c1a0f8e4b4e0c'


def recorded(name: str) -> str:
    return (DATA / f'{name}.xml').read_text(encoding='utf-8')


class TestRead(unittest.TestCase):
    def test_nova_server(self) -> None:
        disks = {disk.target: disk for disk in xml.disks(recorded('nova'))}
        self.assertEqual(['vda', 'vdb', 'vdc', 'vdd', 'hda'], list(disks))
        self.assertEqual(
            xml.DiskElement(
                target='vda',
                device='disk',
                type='file',
                source=f'{DIRECTORY}/disk',
                format='qcow2',
                read_only=False,
                shareable=False,
                backing=(IMAGE,),
                mirror=None,
            ),
            disks['vda'],
        )
        self.assertEqual('raw', disks['vdb'].format)
        self.assertEqual((), disks['vdb'].backing)
        self.assertEqual('network', disks['vdd'].type)
        self.assertEqual('volume', disks['vdd'].source)
        config_drive = disks['hda']
        self.assertEqual('cdrom', config_drive.device)
        self.assertTrue(config_drive.read_only)
        self.assertEqual(f'{DIRECTORY}/disk.config', config_drive.source)

    def test_mirror(self) -> None:
        disk = xml.disk(recorded('mirrored'), 'vda')
        self.assertEqual(f'{DIRECTORY}/disk.sxm-overlay', disk.source)
        self.assertEqual((f'{DIRECTORY}/disk', IMAGE), disk.backing)
        self.assertEqual(xml.Mirror('copy', 'yes', 'overlay'), disk.mirror)
        self.assertIsNone(xml.disk(recorded('mirrored'), 'vdb').mirror)

    def test_handed_over(self) -> None:
        disk = xml.disk(recorded('handed-over'), 'vdb')
        self.assertEqual(f'{DIRECTORY}/disk.eph0.sxm-handover', disk.source)
        self.assertEqual('qcow2', disk.format)
        self.assertEqual(
            (f'{DIRECTORY}/disk.eph0.sxm-overlay', f'{DIRECTORY}/disk.eph0'),
            disk.backing,
        )

    def test_commit(self) -> None:
        self.assertEqual(
            xml.Mirror('active-commit', 'yes', f'{DIRECTORY}/disk'),
            xml.disk(recorded('committing'), 'vda').mirror,
        )

    def test_no_such_disk(self) -> None:
        self.assertRaises(KeyError, xml.disk, recorded('nova'), 'vdz')

    def test_empty_drive(self) -> None:
        text = (
            "<domain><devices><disk type='file' device='cdrom'>"
            "<target dev='hda'/></disk></devices></domain>"
        )
        self.assertIsNone(xml.disk(text, 'hda').source)


class TestSnapshot(unittest.TestCase):
    def test_names_every_disk(self) -> None:
        text = xml.snapshot_xml(recorded('nova'), {'vda': '/o & co'})
        disks = ElementTree.fromstring(text).findall('disks/disk')
        modes = {disk.get('name'): disk.get('snapshot') for disk in disks}
        self.assertEqual(
            {
                'vda': 'external',
                'vdb': 'no',
                'vdc': 'no',
                'vdd': 'no',
                'hda': 'no',
            },
            modes,
        )
        (external,) = [
            disk for disk in disks if disk.get('snapshot') == 'external'
        ]
        self.assertEqual('/o & co', external.find('source').get('file'))
        self.assertEqual('qcow2', external.find('driver').get('type'))

    def test_no_such_disk(self) -> None:
        self.assertRaises(
            KeyError, xml.snapshot_xml, recorded('nova'), {'vdz': '/o'}
        )


class TestMirror(unittest.TestCase):
    def test_goes_through_a_unix_socket(self) -> None:
        disk = ElementTree.fromstring(xml.mirror_xml('/run/s', 'vda'))
        self.assertEqual('network', disk.get('type'))
        source = disk.find('source')
        self.assertEqual(
            ('nbd', 'vda'), (source.get('protocol'), source.get('name'))
        )
        self.assertEqual(
            {'transport': 'unix', 'socket': '/run/s'},
            source.find('host').attrib,
        )


class TestWithSources(unittest.TestCase):
    def change(self, name: str = 'mirrored') -> str:
        return xml.with_sources(
            recorded(name), {'vda': '/n/vda', 'vdb': '/n/vdb'}
        )

    def test_new_tops_without_chain_or_mirror(self) -> None:
        for name in ('nova', 'mirrored', 'handed-over', 'nova-inactive'):
            text = self.change(name)
            for target in ('vda', 'vdb'):
                disk = xml.disk(text, target)
                self.assertEqual(f'/n/{target}', disk.source)
                self.assertEqual('qcow2', disk.format)
                self.assertEqual((), disk.backing)
                self.assertIsNone(disk.mirror)
            element = ElementTree.fromstring(text).find('devices/disk')
            self.assertIsNone(element.find('backingStore'))
            self.assertNotIn('index', element.find('source').attrib)

    def test_everything_else_stays(self) -> None:
        before = ElementTree.fromstring(recorded('mirrored'))
        after = ElementTree.fromstring(self.change())
        for root in (before, after):
            for element in root.findall('devices/disk')[:2]:
                root.find('devices').remove(element)
        self.assertEqual(
            ElementTree.canonicalize(
                ElementTree.tostring(before, encoding='unicode'),
                strip_text=True,
            ),
            ElementTree.canonicalize(
                ElementTree.tostring(after, encoding='unicode'),
                strip_text=True,
            ),
        )

    def test_driver_keeps_its_other_attributes(self) -> None:
        element = ElementTree.fromstring(self.change()).find('devices/disk')
        self.assertEqual('none', element.find('driver').get('cache'))

    def test_prefixes_stay(self) -> None:
        text = self.change()
        self.assertIn('<nova:instance', text)
        self.assertIn(
            'xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"', text
        )

    def test_network_disk_is_refused(self) -> None:
        self.assertRaises(
            KeyError, xml.with_sources, recorded('nova'), {'vdd': '/n'}
        )

    def test_another_format(self) -> None:
        text = xml.with_sources(recorded('nova'), {'vda': '/n'}, 'raw')
        self.assertEqual('raw', xml.disk(text, 'vda').format)
