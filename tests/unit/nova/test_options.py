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
import pathlib
import tempfile
import unittest
from unittest import mock

from oslo_config import cfg

from sxm_openstack import conf as sxm_conf
from sxm_openstack.nova import options
from sxm_openstack.nova import privileges


class TestOptions(unittest.TestCase):
    """What the layers below get, and when."""

    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.file = pathlib.Path(directory.name, 'nova.conf')
        self.conf = cfg.ConfigOpts()
        sxm_conf.register_opts(self.conf)
        patcher = mock.patch.object(options, 'CONF', self.conf)
        patcher.start()
        self.addCleanup(patcher.stop)

    def write(self, **values):
        lines = [f'{name} = {value}' for name, value in values.items()]
        self.file.write_text('\n'.join(['[sxm]', *lines, '']))

    def read(self, **values):
        self.write(**values)
        self.conf(['--config-file', str(self.file)], default_config_files=[])

    def changed(self, before, after):
        return {
            field.name
            for field in dataclasses.fields(before)
            if getattr(before, field.name) != getattr(after, field.name)
        }

    def test_every_setting_of_a_move_is_mutable(self):
        """As Nova does on SIGHUP."""
        self.read()
        before = options.settings()
        self.write(
            guest_share=0.25,
            latency_target_ms=20,
            max_rate_mib_per_s=7,
            verify='full',
            verify_sample_percent=9,
            storage_timeout=11,
            link_timeout=12,
            handover_timeout=13,
        )
        self.conf.mutate_config_files()
        after = options.settings()
        fields = {field.name for field in dataclasses.fields(before)}
        self.assertEqual(fields, self.changed(before, after))
        fields = {field.name for field in dataclasses.fields(before.limits)}
        self.assertEqual(fields, self.changed(before.limits, after.limits))

    def test_the_settings_of_a_move_are_the_same_each_time(self):
        self.read(verify='sample')
        self.assertEqual(options.settings(), options.settings())

    def test_transfer(self):
        self.read(tls_directory='/pki', watchdog_timeout=7)
        found = options.transfer().settings
        self.assertEqual('/pki', found.pki)
        self.write(tls_directory='/pki', watchdog_timeout=8)
        self.conf.mutate_config_files()
        self.assertEqual(8, options.transfer().settings.watchdog_timeout_s)

    def test_help_for_a_service_that_is_not_root(self):
        self.read(qemu_group='root')
        with (
            mock.patch.object(privileges, 'CONF', self.conf),
            mock.patch.object(privileges.os, 'geteuid') as user,
        ):
            user.return_value = 64055
            found = options.transfer().settings
            self.assertIsInstance(found.privileges, privileges.Privsep)
            self.assertEqual('root', found.qemu_group)
            with mock.patch.object(privileges.sockets, 'admit') as admit:
                found.privileges.admit('/run/sxm/x/disks.sock')
            admit.assert_called_once_with('/run/sxm/x/disks.sock', 64055)
            user.return_value = 0
            self.assertIsNone(options.transfer().settings.privileges)
            user.return_value = 64055
            self.read()
            self.assertIsNone(options.transfer().settings.privileges)

    def test_tls_is_on_unless_it_is_off(self):
        self.read()
        self.assertEqual('/etc/pki/qemu', options.transfer().settings.pki)
        self.read(tls='off')
        self.assertIsNone(options.transfer().settings.pki)

    def test_tls_cannot_be_turned_off_unseen(self):
        """Not without a restart, which both hosts need anyway."""
        self.read()
        self.write(tls='off')
        self.conf.mutate_config_files()
        self.assertIsNotNone(options.transfer().settings.pki)
