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

import unittest
from unittest import mock

import nova.conf

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.nova import options
from sxm_openstack.nova import plan

from tests.unit.nova import fakes

CONF = nova.conf.CONF


class TestMake(unittest.TestCase):
    def setUp(self):
        super().setUp()
        options.register()
        self.disks = (
            fakes.disk('hda', read_only=True),
            fakes.disk('vda'),
            fakes.disk('vdb', backing=engine_disk.Backing.DIFFERENT),
        )
        self.read = self.patch(plan.inventory, 'read')
        self.read.side_effect = lambda *_: self.disks
        self.patch(plan.inventory, 'check_space')
        self.patch(plan.options, 'transfer')

    def patch(self, where, name):
        patcher = mock.patch.object(where, name)
        self.addCleanup(patcher.stop)
        return patcher.start()

    def override(self, name, value, group='sxm'):
        CONF.set_override(name, value, group)
        self.addCleanup(CONF.clear_override, name, group)

    def names(self):
        found = plan.make('<domain/>', ()).drivers
        return {target: driver.name for target, driver in found.items()}

    def test_by_snapshot(self):
        self.assertEqual({'vda': 'snapshot', 'vdb': 'snapshot'}, self.names())
        self.assertEqual(3, plan.make('<domain/>', ()).copied)

    def test_a_driver_that_cannot(self):
        self.override('mirror_driver', 'direct')
        with self.assertRaisesRegex(
            exception.UnsupportedServer, 'No mirror driver takes vdb'
        ):
            self.names()

    def test_disks_that_are_not_copied_before(self):
        self.override('mirror_driver', 'direct')
        self.disks = self.disks[:2]
        self.assertEqual({'vda': 'direct'}, self.names())
        self.assertEqual(1, plan.make('<domain/>', ()).copied)

    def test_a_proof_is_not_promised_that_cannot_be_given(self):
        self.override('mirror_driver', 'direct')
        self.disks = self.disks[:2]
        self.override('verify', 'full')
        with self.assertRaisesRegex(
            exception.PreCheckFailed, r'\(vda\) cannot be compared'
        ):
            self.names()
        self.override('verify', 'sample')
        self.assertEqual({'vda': 'direct'}, self.names())

    def test_a_driver_that_is_not_there(self):
        self.override('mirror_driver', 'magic')
        with self.assertRaisesRegex(exception.PreCheckFailed, 'magic'):
            self.names()

    def test_what_the_operator_wants_of_the_link_is_not_weakened(self):
        for option in (
            'live_migration_tunnelled',
            'live_migration_with_native_tls',
        ):
            with self.subTest(option):
                CONF.set_override(option, True, 'libvirt')
                try:
                    with self.assertRaisesRegex(
                        exception.UnsupportedServer, option
                    ):
                        self.names()
                finally:
                    CONF.clear_override(option, 'libvirt')


class TestVolumes(unittest.TestCase):
    def test_targets(self):
        mapping = [{'mount_device': '/dev/vdb'}, {'mount_device': 'vdc'}]
        self.assertEqual(
            {'vdb', 'vdc'},
            plan.volume_targets({'block_device_mapping': mapping}),
        )
