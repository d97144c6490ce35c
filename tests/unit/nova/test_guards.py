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
from nova.virt.libvirt import driver as libvirt_driver

from sxm_openstack import exception
from sxm_openstack.nova import driver as sxm_driver

from tests.unit.nova import fakes

_GUARDED = (
    '_hard_reboot',
    'suspend',
    'snapshot',
    'migrate_disk_and_power_off',
    'rescue',
)


@ddt.ddt
class TestGuards(unittest.TestCase):
    """Traps 1 to 3: nothing else may touch a disk under an overlay."""

    def setUp(self):
        super().setUp()
        self.driver = sxm_driver.SXMLibvirtDriver.__new__(
            sxm_driver.SXMLibvirtDriver
        )
        self.driver._moves = mock.Mock()
        self.instance = mock.Mock(uuid=fakes.SERVER)

    def call(self, name):
        arguments = ('context', self.instance)
        if name == 'swap_volume':
            arguments = ('context', 'old', 'new', self.instance, 'vdb', 1)
        with mock.patch.object(
            libvirt_driver.LibvirtDriver, name, autospec=True
        ) as novas:
            novas.side_effect = lambda *_, **__: self.order.append('nova')
            getattr(self.driver, name)(*arguments, *self.rest.get(name, ()))

    rest = {
        '_hard_reboot': ('network', 'shares'),
        'snapshot': ('image', 'update'),
        'migrate_disk_and_power_off': ('dest', 'flavor', 'network'),
        'rescue': ('network', 'image', 'password', 'devices', 'shares'),
    }

    @ddt.data(*_GUARDED, 'swap_volume')
    def test_settled_first(self, name):
        self.order = []
        self.driver._moves.settle.side_effect = lambda *_: self.order.append(
            'settle'
        )
        self.call(name)
        self.assertEqual(['settle', 'nova'], self.order)

    @ddt.data(
        exception.PreCheckFailed('it is being moved'),
        exception.NeedsOperator('an overlay is left'),
    )
    def test_refused_with_the_reason(self, error):
        self.driver._moves.settle.side_effect = error
        for name in (*_GUARDED, 'swap_volume'):
            self.order = []
            with self.assertRaises(nova_exception.NovaException) as raised:
                self.call(name)
            self.assertIn(error.message, str(raised.exception))
            self.assertEqual([], self.order, name)

    def test_a_refused_resize_leaves_the_server_as_it_is(self):
        """Nova puts it into ERROR unless it is told not to."""
        self.driver._moves.settle.side_effect = exception.PreCheckFailed('no')
        self.order = []
        with self.assertRaises(nova_exception.InstanceFaultRollback):
            self.call('migrate_disk_and_power_off')

    @ddt.data((True, 1), (False, 0))
    @ddt.unpack
    def test_traces_go_with_the_disks(self, destroy_disks, times):
        with mock.patch.object(
            libvirt_driver.LibvirtDriver, 'cleanup', autospec=True
        ):
            self.driver.cleanup(
                'context', self.instance, 'network', None, destroy_disks
            )
        self.assertEqual(times, self.driver._moves.forget.call_count)

    @ddt.data(True, False)
    def test_a_move_is_called_off_before_the_server_is_deleted(self, ended):
        """Deleted even if the move does not end: Nova has promised it."""
        order = []
        self.driver._moves.call_off.side_effect = lambda *_: (
            order.append('call off') or ended
        )
        with mock.patch.object(
            libvirt_driver.LibvirtDriver,
            'destroy',
            autospec=True,
            side_effect=lambda *_, **__: order.append('destroy'),
        ):
            self.driver.destroy('context', self.instance, 'network')
        self.assertEqual(['call off', 'destroy'], order)
        self.assertEqual(
            fakes.SERVER, self.driver._moves.call_off.call_args.args[0]
        )
