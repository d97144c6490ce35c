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

"""Servers whose disks Nova keeps in other formats."""

from __future__ import annotations

import contextlib

from tests.e2e import base
from tests.e2e import cloud as cloud_mod
from tests.e2e import compute as compute_mod


class TestFormats(base.CloudTestCase):
    """``[libvirt] images_type`` on both hosts, and a server of that kind."""

    def move(self, options: compute_mod.Options, image: str) -> str:
        """Boot, write, move there and back; the format of the root disk."""
        source, there = cloud_mod.CELL_HOSTS
        with contextlib.ExitStack() as stack:
            self.cloud.running_with(stack, options)
            server = self.cloud.boot('formats', source, image=image)
            stack.callback(server.delete)
            before = {
                name: self._kind(server, source, name)
                for name in ('disk', 'disk.eph0', 'disk.swap')
            }
            drive = server.guest.config_drive_digest()
            guest = server.guest
            guest.write('vda', 'uniform', 4096, 2 << 20, span=32 << 20)
            guest.write('vdb', 'sequential', 65536, 4 << 20, span=64 << 20)
            guest.write('vdc', 'uniform', 512, 1 << 18, span=2 << 20)
            guest.zero('vdb', 128 << 20, 16 << 20)
            for host in (there, source):
                server.migrate(host)
                self.assertEqual('completed', server.wait_end()['status'])
                self.assert_at(server, host)
                self.assertEqual(
                    before,
                    {name: self._kind(server, host, name) for name in before},
                )
            self.assert_verified(server)
            self.assertEqual(drive, guest.config_drive_digest())
            return str(before['disk'][0])

    def test_raw(self) -> None:
        found = self.move({'libvirt': {'images_type': 'raw'}}, 'lab')
        self.assertEqual('raw', found)

    def test_qcow2_without_backing_file(self) -> None:
        self._make_image()
        options = {
            'libvirt': {'images_type': 'flat'},
            'DEFAULT': {'force_raw_images': 'false'},
        }
        self.assertEqual('qcow2', self.move(options, 'lab-qcow2'))

    def _make_image(self) -> None:
        self.cloud.lab.host('ctl').shell(
            'qemu-img convert -O qcow2 /etc/lab/guest.img /tmp/guest.qcow2',
            timeout=120,
        )
        self.cloud.lab.openstack(
            'image', 'create', 'lab-qcow2', '--disk-format', 'qcow2',
            '--container-format', 'bare', '--file', '/tmp/guest.qcow2',
        )  # fmt: skip
        self.addCleanup(
            self.cloud.lab.openstack, 'image', 'delete', 'lab-qcow2'
        )

    def _kind(
        self, server: cloud_mod.Server, host: str, name: str
    ) -> tuple[str, str | None, int]:
        """Format, backing file and size of a disk."""
        found = server.image(host, name)
        return (
            found['format'],
            found.get('full-backing-filename'),
            found['virtual-size'],
        )
