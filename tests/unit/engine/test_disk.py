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

"""Disks as value objects."""

import json
import unittest

from sxm_openstack.engine import disk

A = disk.Disk('vda', '/i/disk', 'qcow2', 1 << 30, 500)
B = disk.Disk('vdb', '/i/disk.eph0', 'raw', 1 << 20, 20, read_only=True)
C = disk.Disk('hdd', '/i/disk.swap', 'raw', 1 << 20, 20)


class TestDisk(unittest.TestCase):
    def test_plain_data_and_back(self):
        for each in (A, B):
            data = json.loads(json.dumps(each.to_dict()))
            self.assertEqual(each, disk.Disk.from_dict(data))
            self.assertIsInstance(
                disk.Disk.from_dict(data).backing, disk.Backing
            )

    def test_unknown_key(self):
        self.assertRaises(
            TypeError, disk.Disk.from_dict, A.to_dict() | {'colour': 'red'}
        )

    def test_unknown_backing(self):
        self.assertRaises(
            ValueError, disk.Disk.from_dict, A.to_dict() | {'backing': 'x'}
        )

    def test_paths_and_channels_are_its_own(self):
        names = [
            name
            for each in (A, B, C)
            for name in (
                each.path,
                each.overlay_path,
                each.handover_path,
                each.base_channel,
                each.mirror_channel,
            )
        ]
        self.assertEqual(len(names), len(set(names)))

    def test_smallest_first(self):
        self.assertEqual([C, B, A], disk.smallest_first([A, B, C]))
        self.assertEqual([C, B, A], disk.smallest_first([B, C, A]))
