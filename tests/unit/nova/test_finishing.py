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

import ddt
from nova import exception as nova_exception
from nova import objects
import nova.conf

from sxm_openstack.nova import finishing

from tests.unit.nova import fakes

CONF = nova.conf.CONF


@ddt.ddt
class TestFinish(unittest.TestCase):
    """What Nova does after a success, done by the next nova-compute."""

    def setUp(self):
        super().setUp()
        objects.register_all()
        CONF.set_override('host', 'here')
        self.addCleanup(CONF.clear_override, 'host')
        self.instance = objects.Instance(uuid=fakes.SERVER, host='here')
        self.get = self.patch(
            objects.Instance, 'get_by_uuid', return_value=self.instance
        )
        self.after = 'there'
        self.patch(objects.Instance, 'refresh', side_effect=self._refresh)
        self.status = 'running'
        self.migration = objects.Migration()
        self.patch(
            objects.Migration,
            'get_by_instance_and_status',
            side_effect=self._find_migration,
        )
        self.mappings = [
            objects.BlockDeviceMapping(
                source_type='blank', destination_type='local'
            ),
            objects.BlockDeviceMapping(
                source_type='volume',
                destination_type='volume',
                volume_id='c0ffee',
            ),
        ]
        self.patch(
            objects.BlockDeviceMappingList,
            'get_by_instance_uuid',
            return_value=objects.BlockDeviceMappingList(objects=self.mappings),
        )
        self.manager = mock.Mock()

    def patch(self, where, name, **values):
        patcher = mock.patch.object(where, name, **values)
        self.addCleanup(patcher.stop)
        return patcher.start()

    def _refresh(self):
        self.instance.host = self.after

    def _find_migration(self, context, server, status):
        if status != self.status:
            raise nova_exception.MigrationNotFoundByStatus(
                instance_id=server, status=status
            )
        return self.migration

    def finish(self):
        return finishing.finish(self.manager, fakes.SERVER, 'there')

    @ddt.data('running', 'error')
    def test_the_end_of_a_migration(self, status):
        """Also of one that an earlier start could not end."""
        self.status = status
        self.assertTrue(self.finish())
        call = self.manager._post_live_migration.call_args
        self.assertEqual((self.instance, 'there'), call.args[1:])
        data = call.kwargs['migrate_data']
        self.assertIs(self.migration, data.migration)
        self.assertFalse(data.is_on_shared_storage())
        self.assertTrue(call.kwargs['block_migration'])

    def test_volumes_are_left_alone(self):
        """Nova's record of them is the destination's."""
        with self.assertLogs(finishing.LOG.logger, 'WARNING') as log:
            self.finish()
        call = self.manager._post_live_migration.call_args
        self.assertEqual(self.mappings[:1], list(call.kwargs['source_bdms']))
        self.assertIn('c0ffee', '\n'.join(log.output))

    @ddt.data('there', 'here')
    def test_the_end_fails(self, after):
        """Before or after Nova's database was told."""
        self.after = after
        self.manager._post_live_migration.side_effect = ZeroDivisionError
        with self.assertLogs(finishing.LOG.logger, 'ERROR'):
            self.assertEqual(after == 'there', self.finish())

    def test_there_is_no_migration(self):
        self.status, self.after = 'none', 'here'
        self.assertFalse(self.finish())
        self.manager._post_live_migration.assert_not_called()

    def test_it_is_over_already(self):
        self.instance.host = 'there'
        self.assertTrue(self.finish())
        self.get.side_effect = nova_exception.InstanceNotFound(
            instance_id=fakes.SERVER
        )
        self.assertTrue(self.finish())
        self.manager._post_live_migration.assert_not_called()
