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
import os
import pathlib
import tempfile
import types
import unittest
from unittest import mock

import ddt
from nova import exception as nova_exception
from nova import objects
import nova.conf

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.nova import caller

from tests.unit.nova import fakes

CONF = nova.conf.CONF


class CallerTestCase(unittest.TestCase):
    """Nova migrates a server from host ``there`` to this one."""

    def setUp(self):
        super().setUp()
        root = tempfile.TemporaryDirectory()
        self.addCleanup(root.cleanup)
        self.override('instances_path', root.name)
        self.override('host', 'here')
        self.directory = pathlib.Path(root.name, fakes.SERVER)
        self.directory.mkdir()
        self.instance = types.SimpleNamespace(
            uuid=fakes.SERVER, host='there', task_state='migrating'
        )
        self.migration = types.SimpleNamespace(
            id=7,
            dest_compute='here',
            status='running',
            source_node='there.example.org',
        )
        self.migrations = [self.migration]
        self.get = self.patch(objects.Instance, 'get_by_uuid')
        self.get.return_value = self.instance
        self.filters = self.patch(objects.MigrationList, 'get_by_filters')
        self.filters.side_effect = lambda *_: self.migrations
        self.disk = engine_disk.Disk(
            'vda', str(self.directory / 'disk'), 'qcow2', 1 << 30
        )

    def override(self, name, value):
        CONF.set_override(name, value)
        self.addCleanup(CONF.clear_override, name)

    def patch(self, where, name):
        patcher = mock.patch.object(where, name)
        self.addCleanup(patcher.stop)
        return patcher.start()

    def check(self, *disks, peer='there'):
        """As if the caller told lies about the instance."""
        told = types.SimpleNamespace(
            uuid=fakes.SERVER, host=peer, task_state='migrating'
        )
        return caller.check(told, peer, disks)

    def ask(self, peer='there'):
        return caller.check(self.instance, peer, None)

    def assert_refused(self, reason, call, *arguments, **named):
        with self.assertRaisesRegex(exception.PreCheckFailed, reason):
            call(*arguments, **named)


class TestMigration(CallerTestCase):
    def test_one_that_is_under_way(self):
        for status in ('preparing', 'running'):
            self.migration.status = status
            self.assertEqual(
                ['there', 'there.example.org'], self.check(self.disk)
            )
        (_, filters) = self.filters.call_args.args
        self.assertEqual(
            {
                'instance_uuid': fakes.SERVER,
                'source_compute': 'there',
                'migration_type': 'live-migration',
            },
            filters,
        )

    def test_one_that_is_over(self):
        """Then it may be asked how things are, and no more."""
        for status in ('completed', 'failed', 'error', 'cancelled', 'queued'):
            self.migration.status = status
            self.assert_refused('does not migrate', self.check, self.disk)
            self.assertEqual(['there', 'there.example.org'], self.ask())

    def test_none(self):
        self.migrations = []
        self.assert_refused('from there to here', self.check, self.disk)
        self.assert_refused('from there to here', self.ask)

    def test_one_to_another_host(self):
        self.migration.dest_compute = 'elsewhere'
        self.assert_refused('from there to here', self.check, self.disk)
        self.assert_refused('from there to here', self.ask)

    def test_caller_that_is_not_the_host_of_the_server(self):
        for call in (self.check, self.ask):
            self.assert_refused('on there, not evil', call, peer='evil')

    def test_server_that_does_not_migrate(self):
        for state in (None, 'deleting', 'resize_migrating'):
            self.instance.task_state = state
            self.assert_refused('does not migrate', self.check, self.disk)
            self.ask()

    def test_server_that_does_not_exist(self):
        self.get.side_effect = nova_exception.InstanceNotFound(
            instance_id=fakes.SERVER
        )
        for call in (self.check, self.ask):
            self.assert_refused('There is no server', call)


@ddt.ddt
class TestDisks(CallerTestCase):
    """No path of the wire leads out of the server's own directory."""

    def test_files_that_nova_makes(self):
        for name in ('disk', 'disk.eph0', 'disk.swap', 'disk.config'):
            path = str(self.directory / name)
            self.check(dataclasses.replace(self.disk, path=path))

    @ddt.data(
        '/etc/shadow',
        '/dev/sda',
        'disk',
        '{directory}/../other/disk',
        '{directory}/sub/disk',
        '{directory}/libvirt.xml',
        '{directory}/console.log',
        '{directory}/disk,file.filename=x',
        '{directory}/disk\n',
        '{directory}/disk.sxm-overlay',
        '{directory}/',
        '{directory}x/disk',
        'nbd://192.0.2.9/disk',
    )
    def test_other_paths(self, path):
        path = path.format(directory=self.directory)
        disk = dataclasses.replace(self.disk, path=path)
        self.assert_refused('no disk of a server', self.check, disk)
        self.assert_refused('no disk', self.check, self.disk, disk)

    @ddt.data('../vda', 'vda/x', '', '-x', 'vda b', 'relay-listen', 'v.a')
    def test_other_targets(self, target):
        disk = dataclasses.replace(self.disk, target=target)
        self.assert_refused('no disk of a server', self.check, disk)

    @ddt.data('disk', 'disk.sxm-overlay', 'disk.sxm-handover')
    def test_links(self, name):
        os.symlink('/etc/shadow', self.directory / name)
        self.assert_refused('is a link', self.check, self.disk)
