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

from nova import objects
import nova.conf

from sxm_openstack import exception
from sxm_openstack.nova import options
from sxm_openstack.nova import peer

from tests.unit.nova import fakes

CONF = nova.conf.CONF


class TestMark(unittest.TestCase):
    def setUp(self):
        super().setUp()
        options.register()
        self.addCleanup(CONF.clear_override, 'transfer_driver', 'sxm')
        CONF.set_override('tls', 'off', 'sxm')
        self.addCleanup(CONF.clear_override, 'tls', 'sxm')
        self.data = objects.LibvirtLiveMigrateData()

    def test_it_survives_the_bus(self):
        peer.mark(self.data)
        primitive = self.data.obj_to_primitive()
        peer.require_mark(
            objects.LibvirtLiveMigrateData.obj_from_primitive(primitive)
        )

    def test_what_nova_keeps_there_stays(self):
        self.data.old_vol_attachment_ids = {'volume': 'attachment'}
        peer.mark(self.data)
        self.assertEqual(
            'attachment', self.data.old_vol_attachment_ids['volume']
        )

    def test_a_destination_without_us(self):
        with self.assertRaisesRegex(
            exception.UnsupportedServer, 'does not run sxm.SXMLibvirtDriver'
        ):
            peer.require_mark(self.data)

    def test_another_transfer_driver(self):
        CONF.set_override('transfer_driver', 'pigeon', 'sxm')
        peer.mark(self.data)
        CONF.clear_override('transfer_driver', 'sxm')
        with self.assertRaisesRegex(
            exception.UnsupportedServer, 'transfer driver pigeon'
        ):
            peer.require_mark(self.data)

    def test_other_settings_of_tls(self):
        """Not even the fallback may be less safe than asked for."""
        peer.mark(self.data)
        CONF.set_override('tls', 'required', 'sxm')
        with self.assertRaises(exception.PreCheckFailed) as caught:
            peer.require_mark(self.data)
        self.assertIn('[sxm] tls = off', str(caught.exception))
        self.assertNotIsInstance(caught.exception, exception.UnsupportedServer)


class TestNames(unittest.TestCase):
    def test_names(self):
        self.assertEqual(['a', 'a.org'], peer.names('a', 'a.org'))
        self.assertEqual(['a'], peer.names('a', 'a'))
        self.assertEqual(['a'], peer.names('a', None))


class TestRollBack(unittest.TestCase):
    def test_the_destination_is_emptied_as_after_a_failed_migration(self):
        manager = mock.Mock()
        instance = mock.Mock(uuid=fakes.SERVER)
        with mock.patch.object(
            objects.Migration, 'get_by_instance_and_status'
        ) as get:
            peer.roll_back(manager, instance, 'there')
        manager._revert_allocation.assert_called_once_with(
            mock.ANY, instance, get.return_value
        )
        call = manager.compute_rpcapi.rollback_live_migration_at_destination
        self.assertEqual((mock.ANY, instance, 'there'), call.call_args.args)
        data = call.call_args.kwargs['migrate_data']
        self.assertFalse(data.is_shared_instance_path)
        self.assertTrue(call.call_args.kwargs['destroy_disks'])
