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

"""Who gets to the disks that a destination serves, with real NBD servers."""

import subprocess

from sxm_openstack import exception
from sxm_openstack.transfer import nbd
from sxm_openstack.transfer import process
from sxm_openstack.transfer import relay_client

from tests.functional.transfer import stack
from tests.lab import pki

MIB = stack.MIB


class TrustTest(stack.StackCase):
    def setUp(self):
        super().setUp()
        self.ours, self.theirs = self.disks('qcow2', 8 * MIB)
        stack.create(self.ours.path, 'qcow2', self.ours.size_bytes)
        stack.qemu_io(self.ours.path, 'qcow2', 'write -P 7 1M 2M')
        self.blank(self.theirs)
        self.endpoint = self.server.start([self.theirs])

    def source(self, certificates, peer=('destination',)):
        directory = str(self.root / 'r-other')
        self.addCleanup(process.clean_directory, directory)
        return nbd.NBDTransfer(
            directory, helper_python=stack.HELPER, pki=certificates, peer=peer
        )

    def assert_refused(self, transfer, *reasons):
        with self.assertRaises(exception.SXMError) as caught:
            transfer.connect(self.endpoint, ['vda.base', 'vda.mirror'])
        text = str(caught.exception)
        self.assertTrue(any(reason in text for reason in reasons), text)
        self.assertNotIn(self.endpoint.token, text)

    def refusal(self):
        """What the destination's relay said to the last one."""
        relay = relay_client.RelayClient(self.root / 'rd', 'listen')
        return stack.wait_for(lambda: relay.ask('stats')['refusal'])

    def test_peer(self):
        link = self.transfer.connect(
            self.endpoint, ['vda.base', 'vda.mirror', 'disks']
        )
        self.addCleanup(link.close)
        copy = self.begin(self.ours, link)
        self.finish(copy)
        copy.close()
        self.server.stop_exports()
        self.assert_same(self.ours, self.theirs)

    def test_certificate_of_another_authority(self):
        other = pki.Authority(self.root / 'other', 'other')
        stranger = other.issue(self.root / 'pki-stranger', ['source'])
        # It trusts the destination, so that only that can refuse.
        known = self.authority.certificate.read_bytes()
        (stranger / 'ca-cert.pem').write_bytes(known)
        self.assert_refused(self.source(str(stranger)), 'does not let', 'TLS')
        self.assertIn('certificate is not valid', self.refusal())

    def test_certificate_of_another_host(self):
        third = self.certify('third')
        self.assert_refused(
            self.source(third), 'does not let this host in', 'TLS'
        )
        self.assertIn('is for third, not for source', self.refusal())

    def test_source_without_tls(self):
        self.assert_refused(self.source(None), 'does not let this host in')
        self.assertIn('TLS failed', self.refusal())

    def test_destination_that_is_somebody_else(self):
        """Its certificate is valid, and that of another host."""
        mine = str(self.root / 'pki-source')
        self.assert_refused(
            self.source(mine, peer=('compute9',)),
            'is for destination, not for compute9 or 127.0.0.1',
        )

    def test_export_names_cannot_be_guessed(self):
        """Somebody who gets to a socket, on the source, say."""
        link = self.transfer.connect(
            self.endpoint, ['vda.base', 'vda.mirror', 'disks']
        )
        self.addCleanup(link.close)
        names = {link.export(each) for each in ('vda.base', 'vda.mirror')}
        self.assertEqual(2, len(names))
        for name in ('', 'vda', 'vda.base', 'image'):
            done = subprocess.run(
                (
                    'qemu-io', '-f', 'raw', '-c', 'read 0 512',
                    f'nbd+unix:///{name}?socket={link.socket("vda.base")}',
                ),
                capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
            self.assertNotEqual(0, done.returncode, name)
            self.assertIn('not', done.stderr, name)

    def test_nothing_can_be_opened_after_the_exports_are_stopped(self):
        link = self.transfer.connect(
            self.endpoint, ['vda.base', 'vda.mirror', 'disks']
        )
        self.addCleanup(link.close)
        name = link.export('vda.base')
        self.server.stop_exports()
        done = subprocess.run(
            (
                'qemu-io', '-f', 'raw', '-c', 'read 0 512',
                f'nbd+unix:///{name}?socket={link.socket("vda.base")}',
            ),
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        self.assertNotEqual(0, done.returncode)
