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

"""Requests become flags and parameters; a failed call is no verdict."""

from __future__ import annotations

import threading
import unittest
from unittest import mock

import libvirt

from sxm_openstack import exception
from sxm_openstack.hypervisor import migration

from tests.fakes import libvirt as fake_libvirt

REQUEST = migration.Request(
    uri='qemu+tcp://b/system',
    migrate_uri='tcp://10.0.0.2',
    destination_xml='<domain/>',
    persistent_xml='<domain id="persistent"/>',
    disks=('vda', 'vdb'),
    disks_socket='/run/disks.sock',
    bandwidth_mib_per_s=12,
)
PLAIN = migration.Request(uri='qemu+tcp://b/system', migrate_uri='tcp://b')


class TestRequest(unittest.TestCase):
    def test_flags(self) -> None:
        base = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
        sync = libvirt.VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES
        inc = libvirt.VIR_MIGRATE_NON_SHARED_INC
        for storage, expected in (
            (migration.Storage.NONE, base),
            (migration.Storage.COPY_DIRTY, base | inc),
            (migration.Storage.SYNCHRONOUS, base | inc | sync),
        ):
            request = migration.Request('u', 'm', storage=storage)
            self.assertEqual(expected, migration.flags(request, False))

    def test_persistent_domain_moves_its_definition(self) -> None:
        extra = migration.flags(PLAIN, True) ^ migration.flags(PLAIN, False)
        self.assertEqual(
            libvirt.VIR_MIGRATE_PERSIST_DEST
            | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE,
            extra,
        )

    def test_own_flags_and_tls(self) -> None:
        request = migration.Request(
            'u', 'm', tls=True, flags=libvirt.VIR_MIGRATE_AUTO_CONVERGE
        )
        value = migration.flags(request, False)
        self.assertTrue(value & libvirt.VIR_MIGRATE_TLS)
        self.assertTrue(value & libvirt.VIR_MIGRATE_AUTO_CONVERGE)

    def test_parameters(self) -> None:
        self.assertEqual(
            {
                'migrate_uri': 'tcp://10.0.0.2',
                'destination_xml': '<domain/>',
                'persistent_xml': '<domain id="persistent"/>',
                'migrate_disks': ['vda', 'vdb'],
                'disks_uri': 'unix:///run/disks.sock',
                'bandwidth': 12,
            },
            migration.parameters(REQUEST),
        )
        self.assertEqual(
            {'migrate_uri': 'tcp://b'}, migration.parameters(PLAIN)
        )


class TestMigration(unittest.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.virt = fake_libvirt.FakeVirDomain(fake_libvirt.FakeConnection())
        self.migration = migration.Migration(
            lambda: self.virt, REQUEST, host='source'
        )
        patcher = mock.patch.object(migration, '_ABORT_INTERVAL_S', 0.05)
        patcher.start()
        self.addCleanup(patcher.stop)

    def test_success(self) -> None:
        self.migration.start()
        self.assertTrue(self.migration.wait(10))
        self.assertTrue(self.migration.is_over)
        (call,) = self.virt.calls
        self.assertEqual(('migrateToURI3', 'qemu+tcp://b/system'), call[:2])

    def test_failure_is_no_verdict(self) -> None:
        self.virt.fail['migrateToURI3'] = [
            fake_libvirt.error(libvirt.VIR_ERR_OPERATION_FAILED, 'broken')
        ]
        self.migration.start()
        self.assertRaisesRegex(
            exception.MoveFailed, 'broken.*both hosts', self.migration.wait
        )

    def test_abort_is_repeated_until_the_call_returns(self) -> None:
        released = threading.Event()
        aborts = []

        def aborted() -> None:
            aborts.append(None)
            if len(aborts) == 2:
                released.set()

        self.virt.on['migrateToURI3'] = lambda: released.wait(20) and None
        self.virt.on['abortJob'] = aborted
        self.migration.start()
        self.assertFalse(self.migration.wait(0))
        self.assertTrue(self.migration.abort(20))
        self.assertEqual(2, len(aborts))

    def test_abort_goes_on_when_there_is_no_job_yet(self) -> None:
        released = threading.Event()
        self.virt.on['migrateToURI3'] = lambda: released.wait(20) and None
        self.virt.on['abortJob'] = released.set
        self.virt.fail['abortJob'] = [
            fake_libvirt.error(libvirt.VIR_ERR_OPERATION_INVALID, 'no job')
        ]
        self.migration.start()
        self.assertTrue(self.migration.abort(20))

    def test_abort_that_does_not_help(self) -> None:
        released = threading.Event()
        self.addCleanup(released.set)
        self.virt.on['migrateToURI3'] = lambda: released.wait(20) and None
        self.migration.start()
        self.assertFalse(self.migration.abort(1))

    def test_progress_before_the_job_has_any(self) -> None:
        self.assertEqual(migration.Progress(), self.migration.progress())

    def test_set_bandwidth(self) -> None:
        self.migration.set_bandwidth(7)
        self.assertEqual([('migrateSetMaxSpeed', 7)], self.virt.calls)
