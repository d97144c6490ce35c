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

"""Mirror drivers by name."""

import unittest

import ddt

from sxm_openstack import exception
from sxm_openstack.mirror import direct
from sxm_openstack.mirror import drivers
from sxm_openstack.mirror import snapshot

from tests.fakes import world


@ddt.ddt
class TestLoad(unittest.TestCase):
    @ddt.data(
        ('snapshot', snapshot.SnapshotMirror, True),
        ('direct', direct.DirectMirror, False),
    )
    @ddt.unpack
    def test_by_name(self, name, kind, hands_over):
        loaded = drivers.load(name)
        self.assertIs(kind, type(loaded))
        self.assertEqual(name, loaded.name)
        self.assertEqual(hands_over, loaded.hands_over)
        self.assertIsNone(loaded.refuse(world.disk('vda', 1)))

    def test_unknown(self):
        with self.assertRaises(exception.PreCheckFailed) as caught:
            drivers.load('teleport')
        self.assertIn('teleport', str(caught.exception))
        self.assertIn('mirror_driver', caught.exception.remedy)
