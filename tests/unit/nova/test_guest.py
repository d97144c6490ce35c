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

import libvirt

from sxm_openstack.nova import guest as sxm_guest
from sxm_openstack.nova import session as sxm_session

from tests.unit.nova import fakes

_XML = """<domain><devices>
<disk type='file'><driver name='qemu' type='qcow2'/>
 <source file='/i/disk'/><backingStore/><target dev='vda'/></disk>
<disk type='file'><driver name='qemu' type='raw'/>
 <source file='/i/disk.eph0'/><target dev='vdb'/></disk>
<disk type='file'><driver name='qemu' type='raw'/>
 <source file='/mnt/volume'/><target dev='vdc'/></disk>
</devices></domain>"""


class TestMigrate(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.domain = mock.Mock()
        self.root = fakes.disk('vda', path='/i/disk')
        self.whole = fakes.disk('vdb', path='/i/disk.eph0', format='raw')
        self.move = fakes.source_move(disks=[self.root])
        self.move.disks_socket = '/run/sxm/disks.sock'
        self.session = sxm_session.Session(self.move, fakes.FakeDomain())
        self.guest = sxm_guest.SXMGuest(
            mock.Mock(_domain=self.domain), self.session, mock.Mock()
        )

    def migrate(self, **values):
        values = {
            'migrate_uri': 'tcp://10.0.0.2',
            'flags': 3,
            'migrate_disks': ['vda', 'vdb'],
            'destination_xml': _XML,
            'bandwidth': 7,
            'parallel': 0,
            **values,
        }
        self.guest.migrate('qemu+tcp://there/system', **values)
        (arguments, named) = self.domain.migrateToURI3.call_args
        self.assertEqual(('qemu+tcp://there/system',), arguments)
        return named['params'], named['flags']

    def test_what_nova_asked_for(self):
        parameters, flags = self.migrate()
        self.assertEqual('tcp://10.0.0.2', parameters['migrate_uri'])
        self.assertEqual(7, parameters['bandwidth'])
        self.assertEqual(3, flags & 3)

    def test_only_the_overlays_and_through_the_link(self):
        parameters, flags = self.migrate()
        self.assertEqual(['vda'], parameters['migrate_disks'])
        self.assertEqual('unix:///run/sxm/disks.sock', parameters['disks_uri'])
        wanted = (
            libvirt.VIR_MIGRATE_NON_SHARED_INC
            | libvirt.VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES
        )
        self.assertEqual(wanted, flags & wanted)

    def test_the_guest_starts_on_the_overlay(self):
        parameters, _ = self.migrate()
        for name in ('destination_xml', 'persistent_xml'):
            self.assertIn(self.root.handover_path, parameters[name])
            self.assertIn("/mnt/volume", parameters[name])
            self.assertNotIn('"/i/disk"', parameters[name])

    def test_a_whole_disk_keeps_its_format(self):
        self.move.remaining.return_value = [self.root, self.whole]
        self.move.source_paths.return_value['vdb'] = self.whole.path
        parameters, _ = self.migrate()
        self.assertEqual(['vda', 'vdb'], parameters['migrate_disks'])
        self.assertNotIn(
            self.whole.handover_path, parameters['persistent_xml']
        )
        self.assertEqual(1, parameters['persistent_xml'].count('qcow2'))

    def test_parallel_connections(self):
        parameters, _ = self.migrate(parallel=4)
        self.assertEqual(4, parameters['parallel.connections'])

    def test_without_disks_it_is_novas_own(self):
        self.move.remaining.return_value = []
        parameters, flags = self.migrate(migrate_disks=[], flags=128)
        self.assertNotIn('disks_uri', parameters)
        self.assertEqual(0, flags & libvirt.VIR_MIGRATE_NON_SHARED_INC)

    def test_a_time_out_aborts_as_often_as_it_takes(self):
        self.guest.abort_job()
        self.assertTrue(self.session.aborted)
        self.domain.abortJob.assert_not_called()
