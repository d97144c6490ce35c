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

"""The contract against QEMU and libvirt, and what only they can show.

Runs as root on a host with libvirtd, qemu-utils and python3-libvirt, such as
a lab host: ``python3 -m unittest tests.contract.test_real_domain``.
"""

from __future__ import annotations

import contextlib
import unittest
from unittest import mock

import libvirt

from sxm_openstack import exception
from sxm_openstack.engine import ports
from sxm_openstack.hypervisor import blockjob
from sxm_openstack.hypervisor import domain as hypervisor_domain
from sxm_openstack.hypervisor import xml

from tests.contract import domain as contract
from tests.contract import real


class RealCase(unittest.TestCase):
    persistent = True

    def setUp(self) -> None:
        super().setUp()
        self.rig = real.RealGuest(persistent=self.persistent)
        self.addCleanup(self.rig.close)
        self.domain = self.rig.domain


class TestContract(contract.DomainContract, RealCase):
    """The contract on a domain that is defined too, as Nova's are."""


class TestTransient(RealCase):
    """A domain that lives only as long as it runs."""

    persistent = False

    def test_there_and_back(self) -> None:
        for number in (1, 2):
            overlay = self.rig.overlay('vda', number)
            self.domain.snapshot({'vda': overlay})
            self.assertEqual(overlay, self.domain.source_path('vda'))
        self.rig.write('vda', 1, 90)
        self.domain.commit('vda', self.rig.base('vda'), contract.WAIT_S)
        self.assertEqual(90, self.rig.read_file(self.rig.base('vda'), 1))

    def test_absent_when_shut_off(self) -> None:
        self.domain.lookup().destroy()
        self.assertIs(ports.DomainState.ABSENT, self.domain.state())


class TestNextStart(RealCase):
    """The persistent XML follows what happens to the disks."""

    def inactive_sources(self) -> dict[str, str | None]:
        text = self.domain.lookup().XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        return {
            disk.target: disk.source
            for disk in xml.disks(text)
            if not disk.read_only
        }

    def bases(self) -> dict[str, str | None]:
        return {target: self.rig.base(target) for target in ('vda', 'vdb')}

    def test_next_start_follows_overlay_and_commit(self) -> None:
        overlays = {t: self.rig.overlay(t) for t in ('vda', 'vdb')}
        self.domain.snapshot(overlays)
        self.assertEqual(overlays, self.inactive_sources())
        for target in overlays:
            self.domain.commit(target, self.rig.base(target), contract.WAIT_S)
        self.assertEqual(self.bases(), self.inactive_sources())

    def test_commit_mends_the_next_start(self) -> None:
        overlay = self.rig.overlay('vda')
        self.domain.snapshot({'vda': overlay})
        virt = self.domain.lookup()
        text = virt.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        virt.connect().defineXML(
            xml.with_sources(text, {'vda': f'{overlay}.other'})
        )
        self.domain.commit('vda', self.rig.base('vda'), contract.WAIT_S)
        self.assertEqual(self.bases(), self.inactive_sources())

    def test_define_source_of_a_domain_that_is_off(self) -> None:
        overlays = {t: self.rig.overlay(t) for t in ('vda', 'vdb')}
        self.domain.snapshot(overlays)
        self.domain.lookup().destroy()
        for target, base in self.bases().items():
            text = self.domain.lookup().XMLDesc(0)
            image_format = xml.disk(text, target).format
            self.domain.define_source(target, base, image_format)
        self.assertEqual(self.bases(), self.inactive_sources())

    def test_state_shutoff(self) -> None:
        self.domain.lookup().destroy()
        self.assertIs(ports.DomainState.SHUTOFF, self.domain.state())


class TestLibvirt(RealCase):
    """What the contract does not say but the code relies on."""

    def listening(self) -> int:
        """How many registrations the connection has; one serves all."""
        virt = self.rig.connection.get()
        return len(getattr(virt, 'domainEventCallbackID', {}))

    def test_listens_only_while_mirrored(self) -> None:
        self.assertEqual(0, self.listening())
        self.domain.snapshot({'vda': self.rig.overlay('vda')})
        server = self.rig.serve()
        self.domain.start_mirror('vda', server.socket, contract.EXPORT)
        self.assertEqual(1, self.listening())
        self.domain.wait_mirror_ready('vda', contract.WAIT_S)
        self.domain.end_mirror('vda')
        self.assertEqual(0, self.listening())
        self.domain.commit('vda', self.rig.base('vda'), contract.WAIT_S)
        self.assertEqual(0, self.listening())

    def test_stops_listening_after_refusal(self) -> None:
        with contextlib.suppress(exception.MirrorFailed):
            self.domain.start_mirror('vda', '/nowhere', contract.EXPORT)
        self.assertEqual(0, self.listening())

    def test_ready_is_seen_without_any_event(self) -> None:
        self.domain.snapshot({'vda': self.rig.overlay('vda')})
        server = self.rig.serve()
        with mock.patch.object(blockjob.JobWatch, 'on_status'):
            self.domain.start_mirror('vda', server.socket, contract.EXPORT)
            self.domain.wait_mirror_ready('vda', contract.WAIT_S)

    def test_mirror_of_another_process_is_seen(self) -> None:
        """After a restart of this process nothing listened to the start."""
        self.domain.snapshot({'vda': self.rig.overlay('vda')})
        server = self.rig.serve()
        self.domain.start_mirror('vda', server.socket, contract.EXPORT)
        self.domain.close()
        self.domain.wait_mirror_ready('vda', contract.WAIT_S)
        self.rig.write('vda', 1, 91)
        self.domain.end_mirror('vda')
        server.stop()
        self.assertEqual(91, server.read(1))

    def test_silent_server_does_not_stop_the_guest(self) -> None:
        self.domain.snapshot({'vda': self.rig.overlay('vda')})
        server = self.rig.serve()
        server.freeze()
        with mock.patch.object(hypervisor_domain, '_GREETING_TIMEOUT_S', 0.2):
            self.assertRaisesRegex(
                exception.MirrorFailed,
                'does not answer',
                self.domain.start_mirror,
                'vda',
                server.socket,
                contract.EXPORT,
            )
        self.rig.write('vda', 1, 93)
        self.assertIs(ports.MirrorState.NONE, self.domain.mirror_state('vda'))

    def test_config_drive_is_left_alone(self) -> None:
        before = [disk for disk in self.domain.disks() if disk.read_only]
        self.assertEqual(['hda'], [disk.target for disk in before])
        self.domain.snapshot({t: self.rig.overlay(t) for t in ('vda', 'vdb')})
        after = [disk for disk in self.domain.disks() if disk.read_only]
        self.assertEqual(before, after)

    def test_512_byte_writes_need_no_fill(self) -> None:
        """The far end has no base: a write must not bring zeros along."""
        self.domain.snapshot({'vda': self.rig.overlay('vda')})
        server = self.rig.serve()
        self.domain.start_mirror('vda', server.socket, contract.EXPORT)
        self.domain.wait_mirror_ready('vda', contract.WAIT_S)
        self.rig.io('vda', f'write -q -P 92 {real.BLOCK_BYTES + 512} 512')
        self.domain.end_mirror('vda')
        server.stop()
        self.assertEqual(512, real.allocated_bytes(str(server.path)))


if __name__ == '__main__':
    unittest.main()
