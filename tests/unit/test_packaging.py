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

"""The package as installed: entry points, options, and what it needs."""

from importlib import metadata
import io
import pathlib
import subprocess
import sys
import unittest

from oslo_config import cfg
from oslo_config import generator

from sxm_openstack import version

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Group of entry points -> names that other things rely on.
EXPECTED = {
    'console_scripts': {'sxm-manage', 'sxm-nova-compute'},
    'os_vif': {'sxm'},
    'oslo.config.opts': {'sxm_openstack'},
    'sxm.mirror': {'snapshot', 'direct'},
    'sxm.transfer': {'nbd'},
    'sxm.storage': {'qcow2', 'raw'},
}

# Run by an interpreter of its own, where imports of the blocked packages
# fail as if they were not installed.  Prints how many modules it imported.
BLOCKED_IMPORT = """
import importlib
import pkgutil
import sys

blocked, parts = (text.split() for text in sys.argv[1:])


class Blocker:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition('.')[0] in blocked:
            raise ModuleNotFoundError('blocked: ' + name, name=name)


sys.meta_path.insert(0, Blocker)
names = set(parts)
for part in parts:
    path = getattr(importlib.import_module(part), '__path__', [])
    if part.count('.'):
        names |= {i.name for i in pkgutil.walk_packages(path, part + '.')}
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def import_without(
    blocked: str, parts: str
) -> subprocess.CompletedProcess[str]:
    """Import parts with all their modules where ``blocked`` are missing."""
    return subprocess.run(
        [sys.executable, '-c', BLOCKED_IMPORT, blocked, parts],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
    )


def entry_points() -> dict[str, list[metadata.EntryPoint]]:
    groups: dict[str, list[metadata.EntryPoint]] = {}
    for point in metadata.distribution(version.PACKAGE).entry_points:
        groups.setdefault(point.group, []).append(point)
    return groups


def generator_config() -> cfg.ConfigOpts:
    """The configuration with which the sample is generated."""
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    path = ROOT / 'etc/sxm/sxm-config-generator.conf'
    conf(['--config-file', str(path)], default_config_files=[])
    return conf


class TestEntryPoints(unittest.TestCase):
    def test_installed_are_the_expected_ones(self):
        installed = {
            group: {point.name for point in points}
            for group, points in entry_points().items()
        }
        self.assertEqual(EXPECTED, installed)

    def test_each_loads(self):
        for group, points in entry_points().items():
            for point in points:
                with self.subTest(group=group, name=point.name):
                    self.assertTrue(callable(point.load()))


class TestOptions(unittest.TestCase):
    def test_every_generator_namespace_resolves(self):
        namespaces = generator_config().namespace
        self.assertEqual(['sxm_openstack'], namespaces)
        # The generator only warns about a name that it does not find.
        names = {point.name for point in entry_points()['oslo.config.opts']}
        self.assertEqual(set(), set(namespaces) - names)

    def test_sample_is_current(self):
        generated = io.StringIO()
        generator.generate(generator_config(), output_file=generated)
        self.assertIn('[sxm]', generated.getvalue())
        self.assertEqual(
            (ROOT / 'etc/sxm/sxm.conf.sample').read_text(),
            generated.getvalue(),
            'the sample differs from the options: run tox -e genconfig',
        )


class TestRequirements(unittest.TestCase):
    def test_version_is_known(self):
        self.assertRegex(version.version_string(), r'^\d+\.\d+\.\d+')

    def test_extras(self):
        provided = metadata.metadata(version.PACKAGE).get_all('Provides-Extra')
        self.assertEqual({'nova', 'cinder', 'libvirt'}, set(provided or ()))

    def test_base_install_asks_for_no_cloud(self):
        base = [
            line
            for line in metadata.requires(version.PACKAGE) or ()
            if 'extra ==' not in line
        ]
        self.assertTrue(any(line.startswith('oslo.config') for line in base))
        for name in ('nova', 'cinder', 'libvirt'):
            self.assertFalse([line for line in base if line.startswith(name)])

    def test_core_imports_without_any_cloud_or_hypervisor(self):
        done = import_without(
            'nova cinder os_vif libvirt nbd eventlet',
            'sxm_openstack sxm_openstack.conf sxm_openstack.engine '
            'sxm_openstack.exception sxm_openstack.mirror '
            'sxm_openstack.storage sxm_openstack.version',
        )
        self.assertEqual('', done.stderr)
        self.assertGreater(int(done.stdout), 20)

    def test_transfer_and_rpc_import_without_nova_cinder_and_libvirt(self):
        done = import_without(
            'nova cinder os_vif libvirt',
            'sxm_openstack.transfer sxm_openstack.rpc',
        )
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertGreater(int(done.stdout), 5)

    def test_the_blocker_blocks(self):
        done = import_without('oslo_config', 'sxm_openstack.conf')
        self.assertIn('blocked: oslo_config', done.stderr)
        self.assertEqual(1, done.returncode)
