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

"""The fake domain keeps the contract, and fails when it is told to."""

import unittest

from sxm_openstack import exception
from sxm_openstack.engine import ports

from tests.contract import domain as contract
from tests.fakes import domain as fake_domain


class FakeServer:
    """The far end of a mirror, as the contract wants it."""

    def __init__(self, export: fake_domain.FakeExport) -> None:
        self.socket = '/fake/socket'
        self._export = export

    def stop(self) -> None:
        self._export.close()

    kill = stop

    def read(self, block: int) -> int:
        return self._export.blocks.get(block, 0)


class FakeRig:
    """A :class:`.contract.Rig` around a fake domain."""

    def __init__(self) -> None:
        files = fake_domain.FakeFiles()
        files[self.image()] = fake_domain.FakeFile(
            {contract.IMAGE_BLOCK: contract.IMAGE_VALUE}
        )
        files[self.base('vda')] = fake_domain.FakeFile(backing=self.image())
        self.domain = fake_domain.FakeDomain(
            {target: self.base(target) for target in ('vda', 'vdb')}, files
        )

    def base(self, target: str) -> str:
        return f'/instances/{target}'

    def image(self) -> str:
        return '/instances/_base/image'

    def overlay(self, target: str, number: int = 1) -> str:
        path = f'{self.base(target)}.overlay{number}'
        below = self.domain.source_path(target)
        self.domain.files.create_overlay(path, below, 'qcow2', 1 << 26)
        return path

    def serve(self) -> FakeServer:
        export = self.domain.exports[contract.EXPORT] = (
            fake_domain.FakeExport()
        )
        return FakeServer(export)

    def write(
        self, target: str, block: int, value: int, count: int = 1
    ) -> None:
        for number in range(block, block + count):
            assert self.domain.guest_write(target, number, value)

    def read(self, target: str, block: int) -> int:
        return self.domain.guest_read(target, block)

    def read_file(self, path: str, block: int) -> int:
        return self.domain.files.read(path, block)

    def begin_commit(self, target: str, base: str) -> None:
        self.domain.begin_commit(target, base)

    def destroy(self) -> None:
        self.domain.destroy()


class TestContract(contract.DomainContract, unittest.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.rig = FakeRig()

    def mirrored(self, target: str) -> contract.Server:
        # Each mirror has a far end of its own although all are named alike.
        server = super().mirrored(target)
        del self.rig.domain.exports[contract.EXPORT]
        return server


class TestFaults(unittest.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.rig = FakeRig()
        self.domain = self.rig.domain
        self.faults = self.domain.faults
        self.domain.snapshot({'vda': self.rig.overlay('vda')})
        self.export = self.domain.exports.setdefault(
            contract.EXPORT, fake_domain.FakeExport()
        )

    def start(self) -> ports.MirrorState:
        self.domain.start_mirror('vda', '/fake/socket', contract.EXPORT)
        return self.domain.mirror_state('vda')

    def assert_never_ready(self) -> None:
        self.assertRaises(
            exception.MirrorFailed, self.domain.wait_mirror_ready, 'vda', 5
        )

    def test_stalled_mirror(self) -> None:
        self.faults.stall_mirror.add('vda')
        self.assertIs(ports.MirrorState.RUNNING, self.start())
        self.assert_never_ready()

    def test_lost_job(self) -> None:
        self.faults.lose_job.add('vda')
        self.assertIs(ports.MirrorState.NONE, self.start())
        self.assert_never_ready()

    def test_end_without_ready(self) -> None:
        self.faults.end_without_ready.add('vda')
        self.assertIs(ports.MirrorState.NONE, self.start())
        self.assert_never_ready()

    def test_failed_mirror(self) -> None:
        self.faults.fail_mirror.add('vda')
        self.assertIs(ports.MirrorState.FAILED, self.start())
        self.assert_never_ready()

    def test_slow_mirror(self) -> None:
        self.domain.slow_polls = 2
        self.assertIs(ports.MirrorState.RUNNING, self.start())
        self.domain.wait_mirror_ready('vda', 5)

    def test_stalled_link_holds_writes_back_until_it_is_closed(self) -> None:
        self.assertIs(ports.MirrorState.READY, self.start())
        self.export.stalled = True
        self.assertFalse(self.domain.guest_write('vda', 1, 81))
        self.assertEqual(0, self.domain.guest_read('vda', 1))
        self.export.close()
        self.domain.settle()
        self.assertEqual(81, self.domain.guest_read('vda', 1))
        self.assertIs(
            ports.MirrorState.FAILED, self.domain.mirror_state('vda')
        )

    def test_failed_pivot_keeps_the_overlay(self) -> None:
        self.rig.write('vda', 1, 82)
        self.faults.fail_pivot.add('vda')
        overlay = self.domain.source_path('vda')
        self.assertRaises(
            exception.MirrorFailed,
            self.domain.commit,
            'vda',
            self.rig.base('vda'),
            5,
        )
        self.assertEqual(overlay, self.domain.source_path('vda'))
        self.assertEqual(82, self.domain.guest_read('vda', 1))

    def test_stalled_commit(self) -> None:
        self.faults.stall_commit.add('vda')
        self.assertRaises(
            exception.MirrorFailed,
            self.domain.commit,
            'vda',
            self.rig.base('vda'),
            5,
        )

    def test_stuck_job(self) -> None:
        self.faults.stuck_job.add('vda')
        self.assertRaises(
            exception.MirrorFailed, self.domain.wait_no_job, 'vda', 5
        )

    def test_refused_snapshot(self) -> None:
        self.faults.refuse_snapshot = True
        before = self.domain.source_path('vda')
        self.assertRaises(
            exception.MoveFailed,
            self.domain.snapshot,
            {'vda': self.rig.overlay('vda', 2)},
        )
        self.assertEqual(before, self.domain.source_path('vda'))

    def test_failed_resume(self) -> None:
        self.faults.fail_resume = True
        with (
            self.assertRaises(exception.NeedsOperator),
            self.domain.paused(),
        ):
            pass
        self.assertIs(ports.DomainState.PAUSED, self.domain.state())
        self.assertFalse(self.domain.guest_write('vda', 1, 83))

    def test_unreachable(self) -> None:
        self.faults.unreachable = True
        self.assertRaises(exception.Retryable, self.domain.state)
        self.assertRaises(exception.Retryable, self.domain.mirror_state, 'vda')
