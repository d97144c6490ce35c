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

import ddt
from oslo_config import cfg

from sxm_openstack import conf as sxm_conf
from sxm_openstack.conf import opts

OPTIONS = {option.name: option for option in opts.list_opts()[0][1]}

DEFAULTS = {
    'mirror_driver': 'snapshot',
    'transfer_driver': 'nbd',
    'fallback': [],
    'my_migration_address': None,
    'port_range': '49300:49399',
    'runtime_dir': '/run/sxm',
    'state_dir': '/var/lib/sxm',
    'helper_python': '/usr/bin/python3',
    'qemu_group': '',
    'tls': 'required',
    'tls_directory': '/etc/pki/qemu',
    'guest_share': 0.5,
    'max_rate_mib_per_s': 0,
    'latency_target_ms': 10,
    'copy_connections': 1,
    'watchdog_timeout': 5,
    'link_timeout': 300,
    'storage_timeout': 0,
    'handover_timeout': 30,
    'flatten_timeout': 60,
    'verify': 'none',
    'verify_sample_percent': 5,
    'overlay_reserve_percent': 25,
}


def read(text: str = '') -> cfg.ConfigOpts:
    """The options as read from a file with these lines in ``[sxm]``."""
    conf = cfg.ConfigOpts()
    sxm_conf.register_opts(conf)
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, 'nova.conf')
        path.write_text(f'[sxm]\n{text}\n')
        conf(['--config-file', str(path)], default_config_files=[])
    return conf


@ddt.ddt
class TestSXMGroup(unittest.TestCase):
    def test_defaults(self):
        conf = read()
        self.assertEqual(DEFAULTS, {name: conf.sxm[name] for name in conf.sxm})

    def test_register_twice(self):
        conf = cfg.ConfigOpts()
        sxm_conf.register_opts(conf)
        sxm_conf.register_opts(conf)
        conf([], default_config_files=[])
        self.assertEqual('snapshot', conf.sxm.mirror_driver)

    @ddt.data(
        ('fallback = direct,nova', 'fallback', ['direct', 'nova']),
        ('port_range = 50000:50000', 'port_range', '50000:50000'),
        ('my_migration_address = fd00::7', 'my_migration_address', 'fd00::7'),
        ('guest_share = 0.95', 'guest_share', 0.95),
        ('verify = full', 'verify', 'full'),
        ('tls = off', 'tls', 'off'),
    )
    @ddt.unpack
    def test_good_value(self, line, name, value):
        self.assertEqual(value, read(line).sxm[name])

    @ddt.data(
        ('guest_share = 0.04', 'guest_share'),
        ('guest_share = 1', 'guest_share'),
        ('watchdog_timeout = 0', 'watchdog_timeout'),
        ('storage_timeout = -1', 'storage_timeout'),
        ('fallback = none', 'fallback'),
        ('verify = maybe', 'verify'),
        ('tls = optional', 'tls'),
        ('port_range = 49300', 'port_range'),
        ('overlay_reserve_percent = 101', 'overlay_reserve_percent'),
        ('copy_connections = 0', 'copy_connections'),
        ('my_migration_address = a b', 'my_migration_address'),
    )
    @ddt.unpack
    def test_bad_value(self, line, name):
        conf = read(line)
        with self.assertRaises(cfg.ConfigFileValueError) as caught:
            _ = conf.sxm[name]
        self.assertIn(name, str(caught.exception))

    def test_rates_and_timeouts_are_mutable(self):
        for name, option in OPTIONS.items():
            if 'timeout' in name or 'rate' in name or 'share' in name:
                self.assertTrue(option.mutable, name)

    def test_help_of_related_options_names_real_ones(self):
        checked = 0
        for name, option in OPTIONS.items():
            self.assertTrue(option.help.strip(), name)
            _text, _heading, related = option.help.partition(
                'Related options:'
            )
            words = [word for word in related.split('``') if '_' in word]
            for word in words:
                if word.isidentifier():
                    self.assertIn(word, OPTIONS, name)
                    checked += 1
        self.assertGreater(checked, 8)
