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

"""The check of the layers finds what it is there to find."""

import ast
import contextlib
import io
import pathlib
import tempfile
import unittest

import ddt

from tools import check_layers

ROOT = pathlib.Path(__file__).resolve().parents[2]


@ddt.ddt
class TestRules(unittest.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = pathlib.Path(directory.name, 'sxm_openstack')
        self.root.mkdir()
        (self.root / '__init__.py').touch()

    def _reasons(self, path: str, text: str) -> list[str]:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + '\n')
        return [found.reason for found in check_layers.check(self.root)]

    @ddt.data(
        ('engine/runner.py', 'import libvirt'),
        ('engine/runner.py', 'from oslo_config import cfg'),
        ('engine/runner.py', 'from sxm_openstack.mirror import snapshot'),
        ('engine/runner.py', 'from sxm_openstack import mirror'),
        ('engine/runner.py', 'from ..mirror import snapshot'),
        ('engine/runner.py', 'from .. import mirror'),
        ('engine/runner.py', 'import sxm_openstack.conf'),
        ('engine/runner.py', 'def f():\n    import nova.conf'),
        ('engine/runner.py', 'if TYPE_CHECKING:\n    import nova'),
        ('engine/runner.py', 'importlib.import_module("nova.conf")'),
        ('engine/deep/er.py', 'from ...mirror import snapshot'),
        ('mirror/direct.py', 'from nova import exception'),
        ('mirror/direct.py', 'import libvirt'),
        ('mirror/direct.py', 'from sxm_openstack.conf import sxm'),
        ('transfer/nbd.py', 'from sxm_openstack.storage import raw'),
        ('hypervisor/domain.py', 'from sxm_openstack.transfer import nbd'),
        ('nova/driver.py', 'import cinder'),
        ('nova/driver.py', 'from sxm_openstack.cmd import nova_compute'),
        ('nova/driver.py', 'import eventlet'),
        ('cmd/nova_compute.py', 'from nova.cmd import compute'),
        ('exception.py', 'import oslo_log'),
        ('__init__.py', 'from sxm_openstack import engine'),
    )
    @ddt.unpack
    def test_broken(self, path, text):
        self.assertEqual(1, len(self._reasons(path, text)))

    @ddt.data(
        ('engine/runner.py', 'import threading'),
        ('engine/runner.py', 'from oslo_utils import units'),
        ('engine/runner.py', 'from sxm_openstack import exception'),
        ('engine/runner.py', 'from sxm_openstack.engine import disk'),
        ('engine/runner.py', 'from . import disk'),
        ('engine/runner.py', 'from .disk import Disk'),
        ('engine/runner.py', 'print("import nova")'),
        ('hypervisor/domain.py', 'import libvirt'),
        ('transfer/copier.py', 'import nbd'),
        ('mirror/direct.py', 'from sxm_openstack import hypervisor'),
        ('nova/driver.py', 'from nova.virt.libvirt import driver'),
        ('nova/driver.py', 'from sxm_openstack.mirror import direct'),
        ('cmd/nova_compute.py', 'from sxm_openstack.nova import launcher'),
    )
    @ddt.unpack
    def test_allowed(self, path, text):
        self.assertEqual([], self._reasons(path, text))

    def test_a_part_that_is_not_in_the_table_is_found(self):
        self.assertEqual(
            ['extra is not in the table of layers'],
            self._reasons('extra/thing.py', 'import os'),
        )

    def test_finding_names_file_and_line(self):
        self._reasons('engine/runner.py', 'import os\n\nimport nova')
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = check_layers.main([str(self.root)])
        self.assertEqual(1, code)
        self.assertIn(
            'engine/runner.py:3: engine must not import nova',
            output.getvalue(),
        )

    def test_nothing_to_check_is_an_error(self):
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(2, check_layers.main([str(self.root / 'no')]))


class TestTable(unittest.TestCase):
    def test_has_no_circle(self):
        left = {
            part: set(layer.parts)
            for part, layer in check_layers.LAYERS.items()
        }
        while left:
            free = {part for part, needs in left.items() if not needs}
            self.assertTrue(free, f'these need each other: {sorted(left)}')
            left = {
                part: needs - free
                for part, needs in left.items()
                if part not in free
            }

    def test_names_only_parts_that_it_has(self):
        for layer in check_layers.LAYERS.values():
            self.assertLessEqual(layer.parts, set(check_layers.LAYERS))

    def test_every_import_is_seen(self):
        tree = ast.parse('import a, b.c\nfrom d import e, f\nfrom . import g')
        self.assertEqual(
            [(1, 'a'), (1, 'b.c'), (2, 'd'), (3, 'sxm_openstack.g')],
            list(check_layers.imported(tree, 'sxm_openstack')),
        )


class TestProject(unittest.TestCase):
    def test_keeps_the_rules(self):
        found = check_layers.check(ROOT / check_layers.PACKAGE)
        self.assertEqual([], [str(finding) for finding in found])
