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
import tempfile
import unittest
from unittest import mock

from nova import exception as nova_exception
from nova import objects
import nova.conf

from sxm_openstack import exception
from sxm_openstack.engine import checks as engine_checks
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.mirror import facts as mirror_facts
from sxm_openstack.nova import checks
from sxm_openstack.nova import host as sxm_host
from sxm_openstack.nova import options
from sxm_openstack.nova import peer

from tests.lab import pki
from tests.unit.hypervisor import test_platform
from tests.unit.hypervisor import test_xml
from tests.unit.mirror import test_pair
from tests.unit.nova import fakes

CONF = nova.conf.CONF
SERVER = fakes.SERVER
Role = engine_journal.Role


class ChecksTestCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        options.register()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = pathlib.Path(directory.name)
        self.journal = engine_journal.Journal(str(self.root / 'state'))
        authority = pki.Authority(self.root / 'ca')
        authority.issue(self.root / 'pki', ['here'])
        for name, value, group in (
            ('host', 'here', None),
            ('my_ip', '127.0.0.1', None),
            ('instances_path', str(self.root), None),
            ('state_dir', str(self.root / 'state'), 'sxm'),
            ('runtime_dir', '/tmp/sxm-test', 'sxm'),
            ('helper_python', '/bin/true', 'sxm'),
            ('port_range', '21000:21400', 'sxm'),
            ('tls_directory', str(self.root / 'pki'), 'sxm'),
        ):
            CONF.set_override(name, value, group)
            self.addCleanup(CONF.clear_override, name, group)
        self.connection = test_platform.Connection()

    def facts(self, server=''):
        return checks.facts(lambda: self.connection, self.journal, server)


class TestFacts(ChecksTestCase):
    def failed(self, server=SERVER):
        found = engine_checks.failures(self.facts(server).checks)
        return {check.name: check.message for check in found}

    def test_all_is_well(self):
        found = self.facts(SERVER)
        self.assertEqual({}, self.failed())
        self.assertEqual(
            ('here', '127.0.0.1', 21000, ('qcow2', 'raw')),
            (found.host, found.address, found.port, found.formats),
        )
        self.assertGreater(found.free_bytes, 0)
        self.assertGreaterEqual(len(found.checks), 9)

    def test_they_go_over_the_wire(self):
        found = self.facts(SERVER)
        self.assertEqual(found, mirror_facts.Facts.from_json(found.to_json()))

    def test_what_the_host_lacks(self):
        self.connection.versions = (7000000, 6000000)
        CONF.set_override('helper_python', '/nowhere', 'sxm')
        self.assertEqual(
            {'libvirt', 'qemu', 'helper-python'}, set(self.failed())
        )

    def test_an_earlier_move_that_is_not_finished(self):
        for record in (
            fakes.record(Role.SOURCE),
            fakes.record(Role.DESTINATION, committed=True),
        ):
            self.journal.write(record)
            self.assertIn('not finished', self.failed()['leftovers'])
        self.assertEqual({}, self.failed(''))

    def test_an_earlier_try_is_dropped_by_the_next(self):
        self.journal.write(fakes.record(Role.DESTINATION))
        self.assertEqual({}, self.failed())

    def test_a_damaged_journal(self):
        (self.root / 'state').mkdir()
        (self.root / 'state' / f'{SERVER}.json').write_text('{')
        self.assertIn('cannot be read', self.failed()['leftovers'])

    def test_a_directory_that_nova_would_refuse(self):
        (self.root / SERVER).mkdir()
        self.assertIn('is there already', self.failed()['leftovers'])

    def test_an_instances_path_that_is_not_there_yet(self):
        CONF.set_override('instances_path', str(self.root / 'a' / 'b'))
        self.assertEqual({}, self.failed())


class TestWire(ChecksTestCase):
    """Nova's data carry them, and are left as they were."""

    def test_there_and_back(self):
        data = objects.LibvirtLiveMigrateData()
        peer.mark(data)
        before = dict(data.old_vol_attachment_ids)
        checks.attach(data, test_pair.THERE)
        data = objects.LibvirtLiveMigrateData.obj_from_primitive(
            data.obj_to_primitive()
        )
        self.assertEqual(test_pair.THERE, checks.take(data))
        self.assertEqual(before, data.old_vol_attachment_ids)
        self.assertIsNone(checks.take(data))

    def test_nothing_of_ours(self):
        self.assertIsNone(checks.take(objects.LibvirtLiveMigrateData()))

    def test_of_another_version(self):
        data = objects.LibvirtLiveMigrateData()
        data.old_vol_attachment_ids = {'sxm_facts': '{"host": "there"}'}
        with self.assertLogs(checks.LOG.logger, 'WARNING'):
            self.assertIsNone(checks.take(data))

    def test_what_the_api_shows(self):
        with self.assertRaisesRegex(
            nova_exception.MigrationPreCheckError, 'space: 3 MiB'
        ):
            with checks.as_pre_check():
                raise exception.PreCheckFailed('space: 3 MiB free.')


class TestMove(ChecksTestCase):
    """The whole report, as the source makes it."""

    def setUp(self):
        super().setUp()
        libvirt_host = mock.Mock()
        libvirt_host.get_connection.return_value = self.connection
        self.host = sxm_host.MoveHost(libvirt_host, mock.Mock())
        self.host.domain = mock.Mock()
        self.host.domain.return_value.live_xml.return_value = (
            test_xml.recorded('nova')
        )
        self.there = self.facts()
        self.disks = [fakes.disk(size_bytes=1 << 20)]

    def check(self, *trouble, **there):
        values = {**self.there.to_dict(), 'host': 'there', **there}
        self.host.check(
            SERVER,
            self.disks,
            mirror_facts.Facts.from_dict(values),
            trouble,
        )

    def assert_refused(self, text, *trouble, **there):
        with self.assertLogs(checks.LOG.logger, 'ERROR') as log:
            with self.assertRaisesRegex(exception.PreCheckFailed, text):
                self.check(*trouble, **there)
        self.assertIn(SERVER, log.output[0])

    def test_all_is_well(self):
        self.check()

    def test_what_the_destination_says_of_itself(self):
        bad = engine_checks.failed('programs', 'No qemu-img.', 'Install.')
        self.assert_refused(
            r'programs: No qemu-img. \(host there\) Next: Install.',
            checks=[bad.to_dict()],
        )

    def test_what_the_two_do_not_share(self):
        self.assert_refused(
            'instances-path: .*/j on the other', instances_path='/j'
        )

    def test_what_the_server_needs(self):
        self.assert_refused('machine-type: .*pc-i440fx', machines=[])
        self.assert_refused('space-destination: ', free_bytes=0)

    def test_everything_in_one_report(self):
        trouble = engine_checks.failed('server', 'vda: LUKS.', 'Cold.')
        self.assert_refused(
            '3 of .*vda: LUKS.*transfer-driver.*formats',
            trouble,
            transfer_driver='pigeon',
            formats=[],
        )

    def test_a_destination_that_cannot_be_reached(self):
        with mock.patch(
            'socket.create_connection', side_effect=OSError(113, 'No route')
        ):
            self.assert_refused('reachable: .*No route')

    def test_a_destination_that_does_not_report(self):
        with self.assertLogs(checks.LOG.logger, 'WARNING') as log:
            self.host.check(SERVER, self.disks, None, ())
        self.assertIn('does not report', log.output[0])
