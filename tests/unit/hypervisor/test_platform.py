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

from __future__ import annotations

import unittest
from unittest import mock

import libvirt

from sxm_openstack import exception
from sxm_openstack.engine import checks
from sxm_openstack.hypervisor import platform
from sxm_openstack.hypervisor import xml

from tests.fakes import libvirt as fake
from tests.unit.hypervisor import test_xml

CAPABILITIES = """
<capabilities>
  <host><cpu><arch>x86_64</arch><model>Nehalem</model></cpu></host>
  <guest><os_type>hvm</os_type><arch name='x86_64'>
    <machine maxCpus='255' canonical='pc-i440fx-10.0'>pc</machine>
    <machine maxCpus='255'>pc-i440fx-10.0</machine>
    <domain type='qemu'/>
    <domain type='kvm'><machine maxCpus='288'>pc-q35-10.0</machine></domain>
  </arch></guest>
  <guest><os_type>hvm</os_type><arch name='aarch64'>
    <machine maxCpus='8'>virt-10.0</machine></arch></guest>
</capabilities>"""


class Connection:
    def __init__(self, libvirt_version=11003000, qemu_version=10000002):
        self.versions = libvirt_version, qemu_version
        self.compared = libvirt.VIR_CPU_COMPARE_SUPERSET

    def getLibVersion(self):
        return self.versions[0]

    def getVersion(self):
        return self.versions[1]

    def getCapabilities(self):
        return CAPABILITIES

    def compareCPU(self, text, flags):
        assert text == '<cpu/>'
        return self.compared


class TestRead(unittest.TestCase):
    def read(self, *versions):
        return platform.read(lambda: Connection(*versions), 'here')

    def failed(self, *versions):
        found = list(self.read(*versions).checks())
        self.assertGreaterEqual(len(found), 2)
        return [check.name for check in checks.failures(found)]

    def test_new_enough(self):
        self.assertEqual([], self.failed())
        self.assertEqual([], self.failed(8000000, 6002000))

    def test_too_old(self):
        self.assertEqual(['libvirt'], self.failed(7010000))
        self.assertEqual(['qemu'], self.failed(8000000, 6001001))

    def test_bindings_that_are_too_old(self):
        with mock.patch.object(
            platform, '_BINDINGS', ('VIR_DOMAIN_BLOCK_COPY_TELEPATHY',)
        ):
            self.assertEqual(['libvirt-python'], self.failed())

    def test_capabilities(self):
        found = self.read().capabilities
        self.assertEqual('x86_64', found.arch)
        self.assertEqual(
            {'pc', 'pc-i440fx-10.0', 'pc-q35-10.0'}, set(found.machines)
        )
        self.assertEqual(3, len(found.machines))
        self.assertIn('Nehalem', found.cpu)

    def test_a_daemon_that_does_not_answer(self):
        def connect():
            raise fake.error(libvirt.VIR_ERR_NO_CONNECT)

        with self.assertRaises(exception.Retryable):
            platform.read(connect, 'here')

    def test_compare_cpu(self):
        connection = Connection()
        for result, expected in (
            (libvirt.VIR_CPU_COMPARE_IDENTICAL, True),
            (libvirt.VIR_CPU_COMPARE_SUPERSET, True),
            (libvirt.VIR_CPU_COMPARE_INCOMPATIBLE, False),
        ):
            connection.compared = result
            self.assertIs(
                expected,
                platform.compare_cpu(lambda: connection, '<cpu/>', 'here'),
            )


class TestMachine(unittest.TestCase):
    def test_of_a_live_domain(self):
        self.assertEqual(
            xml.Machine('x86_64', 'pc-i440fx-10.0'),
            xml.machine(test_xml.recorded('nova')),
        )

    def test_of_one_that_does_not_say(self):
        self.assertEqual(xml.Machine('', ''), xml.machine('<domain/>'))
