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

import subprocess
import sys
import unittest

_LOAD = """
from sxm_openstack.nova import loader
loader.install()
loader.install()
import sys
assert sum(type(f).__name__ == '_AliasFinder' for f in sys.meta_path) == 1
from nova import monkey_patch
monkey_patch.patch(backend='threading')
assert 'sxm_openstack.nova.driver' not in sys.modules
from oslo_utils import importutils
# How nova.virt.driver.load_compute_driver does it.
driver = importutils.import_class('nova.virt.sxm.SXMLibvirtDriver')
assert driver.__module__ == 'sxm_openstack.nova.driver', driver
assert importutils.try_import('nova.virt.sxm2') is None
"""

_LAUNCH = """
import sys
from unittest import mock
sys.argv = ['sxm-nova-compute']
from sxm_openstack.cmd import nova_compute
assert not [name for name in sys.modules if name.startswith('nova.')]
with mock.patch('nova.cmd.compute.main') as main:
    nova_compute.main()
main.assert_called_once_with()
from nova import rpc, utils
assert 'sxm_openstack.exception' in rpc.get_allowed_exmods()
assert utils.concurrency_mode_threading()
import nova.virt.sxm
"""

_HOOK = """
from nova import monkey_patch
monkey_patch.patch(backend='threading')
import os_vif
os_vif.initialize()
import nova.virt.sxm
"""


class TestLoading(unittest.TestCase):
    """In processes of their own: Nova is loaded only once in each."""

    def run_python(self, code):
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', code],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        self.assertEqual(0, done.returncode, done.stderr)

    def test_nova_finds_the_driver_by_its_short_name(self):
        self.run_python(_LOAD)

    def test_launcher(self):
        self.run_python(_LAUNCH)

    def test_stock_binary_with_the_entry_point(self):
        self.run_python(_HOOK)
