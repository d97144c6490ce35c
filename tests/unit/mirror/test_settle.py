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

"""Disks come back into one file, and no content is lost on the way."""

import logging
import os
import unittest

import ddt

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import ports
from sxm_openstack.mirror import settle
from sxm_openstack.storage import qcow2

from tests.fakes import domain as fake_domain
from tests.fakes import guest as fake_guest
from tests.fakes import storage as fake_storage
from tests.unit.storage import images
from tests.unit.storage import test_image

STATE = ports.DomainState
VDA = engine_disk.Disk('vda', '/i/disk', 'qcow2', 1 << 20)
VDB = engine_disk.Disk('vdb', '/i/disk.eph0', 'raw', 1 << 20)
CONFIG = engine_disk.Disk('hda', '/i/config', 'raw', 1 << 20, read_only=True)


class SettleTestCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)
        self.files = fake_domain.FakeFiles()
        self.guest = fake_guest.FakeGuest(
            {each.target: each.path for each in (VDA, VDB, CONFIG)}, self.files
        )
        self.storage = fake_storage.FakeStorage(self.files, self.guest)

    def put(self, disk, path, block, value):
        """An overlay on top, with one write of the guest in it."""
        below = self.guest.source_path(disk.target)
        self.storage.create_overlay(path, below, 'qcow2', 1)
        self.guest.snapshot({disk.target: path})
        self.assertTrue(self.guest.guest_write(disk.target, block, value))

    def settle(self, disk=VDA, timeout_s=60.0):
        settle.settle(self.guest, disk, timeout_s, self.storage)

    def assert_flat(self, disk, **blocks):
        self.assertTrue(settle.is_settled(disk, self.storage))
        found = self.files[disk.path].blocks
        self.assertEqual(
            {int(key[1:]): value for key, value in blocks.items()}, found
        )
        self.assertEqual([], self.storage.violations)


@ddt.ddt
class TestGuestOn(SettleTestCase):
    @ddt.data(STATE.RUNNING, STATE.PAUSED)
    def test_chain_of_two(self, state):
        self.put(VDA, VDA.overlay_path, 1, 10)
        self.put(VDA, VDA.handover_path, 2, 20)
        self.guest.domain_state = state
        self.settle()
        self.assert_flat(VDA, b1=10, b2=20)
        self.assertEqual(VDA.path, self.guest.source_path('vda'))

    def test_overlay_made_and_never_used(self):
        self.storage.create_overlay(VDA.overlay_path, VDA.path, 'qcow2', 1)
        self.guest.guest_write('vda', 1, 10)
        self.settle()
        self.assert_flat(VDA, b1=10)

    def test_handover_made_and_never_used(self):
        self.put(VDA, VDA.overlay_path, 1, 10)
        self.storage.create_overlay(
            VDA.handover_path, VDA.overlay_path, 'qcow2', 1
        )
        self.settle()
        self.assert_flat(VDA, b1=10)

    def test_twice(self):
        self.put(VDA, VDA.overlay_path, 1, 10)
        self.settle()
        self.guest.guest_write('vda', 1, 11)
        self.settle()
        self.assert_flat(VDA, b1=11)

    @ddt.data('fail_pivot', 'stall_commit')
    def test_commit_fails_and_nothing_is_deleted(self, fault):
        self.put(VDA, VDA.overlay_path, 1, 10)
        getattr(self.guest.faults, fault).add('vda')
        self.assertRaises(exception.MirrorFailed, self.settle)
        self.assertEqual({1: 10}, self.files[VDA.overlay_path].blocks)
        self.assertEqual(10, self.guest.guest_read('vda', 1))
        getattr(self.guest.faults, fault).clear()
        self.settle()
        self.assert_flat(VDA, b1=10)

    def test_a_failed_call_is_no_verdict(self):
        """The pivot was done; only the answer was lost."""
        self.put(VDA, VDA.overlay_path, 1, 10)
        commit = self.guest.commit

        def lossy(*arguments):
            commit(*arguments)
            raise exception.MirrorFailed('the connection broke')

        self.guest.commit = lossy
        self.settle()
        self.assert_flat(VDA, b1=10)

    def test_data_that_nobody_has_accounted_for_is_kept(self):
        """Started on its ordinary file behind our back, say."""
        self.put(VDA, VDA.overlay_path, 1, 10)
        self.guest._tops['vda'] = VDA.path
        self.guest.guest_write('vda', 1, 99)
        logging.disable(logging.NOTSET)
        with self.assertLogs('sxm_openstack.mirror', logging.ERROR) as logs:
            self.settle()
        self.assertIn('kept-1', logs.output[0])
        self.assert_flat(VDA, b1=99)
        kept = self.files[f'{VDA.overlay_path}.kept-1']
        self.assertEqual({1: 10}, kept.blocks)

    def test_takes_over_a_commit_that_runs(self):
        self.put(VDA, VDA.overlay_path, 1, 10)
        self.guest.begin_commit('vda', VDA.path)
        self.settle()
        self.assert_flat(VDA, b1=10)


@ddt.ddt
class TestGuestOff(SettleTestCase):
    @ddt.data(STATE.SHUTOFF, STATE.ABSENT)
    def test_chain_of_two(self, state):
        self.put(VDA, VDA.overlay_path, 1, 10)
        self.put(VDA, VDA.handover_path, 1, 20)
        self.guest.power_off(state)
        self.settle()
        self.assert_flat(VDA, b1=20)
        self.assertEqual(
            state is STATE.SHUTOFF,
            'define_source vda' in self.guest.calls,
        )

    def test_overlay_made_and_never_used(self):
        self.storage.create_overlay(VDA.overlay_path, VDA.path, 'qcow2', 1)
        self.guest.guest_write('vda', 1, 10)
        self.guest.power_off()
        self.settle()
        self.assert_flat(VDA, b1=10)

    @ddt.data(STATE.INCOMING)
    def test_neither_on_nor_off(self, state):
        self.put(VDA, VDA.overlay_path, 1, 10)
        self.guest.domain_state = state
        self.assertRaisesRegex(exception.MirrorFailed, state, self.settle)
        self.assertEqual({1: 10}, self.files[VDA.overlay_path].blocks)

    def test_not_over_newer_content(self):
        """Folded before, not deleted, and the guest ran on since."""
        self.put(VDA, VDA.overlay_path, 1, 10)
        self.guest.commit('vda', VDA.path, 60)
        self.guest.guest_write('vda', 1, 11)
        self.guest.power_off()
        with self.assertRaises(exception.NeedsOperator) as caught:
            self.settle()
        self.assertIn(VDA.overlay_path, str(caught.exception))
        self.assertEqual({1: 11}, self.files[VDA.path].blocks)
        self.assertEqual({1: 10}, self.files[VDA.overlay_path].blocks)

    def test_interrupted_between_the_two(self):
        self.put(VDA, VDA.overlay_path, 1, 10)
        self.put(VDA, VDA.handover_path, 2, 20)
        self.guest.power_off()
        fold, folded = self.storage.fold, []

        def once(path):
            if folded:
                raise exception.MoveFailed('no space')
            folded.append(path)
            fold(path)

        self.storage.fold = once
        self.assertRaises(exception.MoveFailed, self.settle)
        self.assertEqual([VDA.handover_path], folded)
        self.storage.fold = fold
        self.settle()
        self.assert_flat(VDA, b1=10, b2=20)

    def test_unreachable_is_not_off(self):
        self.put(VDA, VDA.overlay_path, 1, 10)
        self.guest.faults.unreachable = True
        self.assertRaises(exception.Retryable, self.settle)
        self.assertEqual({1: 10}, self.files[VDA.overlay_path].blocks)


class TestAll(SettleTestCase):
    def settle_all(self):
        settle.settle_all(
            self.guest, (VDA, VDB, CONFIG), 60.0, lambda name: self.storage
        )

    def test_both(self):
        self.put(VDA, VDA.overlay_path, 1, 10)
        self.put(VDB, VDB.overlay_path, 2, 20)
        self.settle_all()
        self.assert_flat(VDA, b1=10)
        self.assert_flat(VDB, b2=20)

    def test_one_fails(self):
        self.put(VDA, VDA.overlay_path, 1, 10)
        self.put(VDB, VDB.overlay_path, 2, 20)
        self.guest.faults.stall_commit.add('vda')
        with self.assertRaises(exception.NeedsOperator) as caught:
            self.settle_all()
        self.assertIn('disk vda', str(caught.exception))
        self.assertNotIn('vdb', str(caught.exception))
        self.assert_flat(VDB, b2=20)
        self.assertEqual(10, self.guest.guest_read('vda', 1))

    def test_any_error_of_one_lets_the_others_be_settled(self):
        self.put(VDA, VDA.overlay_path, 1, 10)
        self.put(VDB, VDB.overlay_path, 2, 20)
        remove = self.storage.remove

        def refuse(path):
            if path == VDA.handover_path:
                raise OSError(30, 'read-only')
            remove(path)

        self.storage.remove = refuse
        self.assertRaises(exception.NeedsOperator, self.settle_all)
        self.assert_flat(VDB, b2=20)

    def test_nothing_to_do(self):
        calls = list(self.guest.calls)
        self.guest.faults.unreachable = True
        self.settle_all()
        self.assertEqual(calls, self.guest.calls)


class TestFilesOnDisk(test_image.ImageTestCase):
    """The same with images that qemu-img folds."""

    def test_offline(self):
        disk = engine_disk.Disk(
            'vda',
            images.make(self.path('d'), 'qcow2'),
            'qcow2',
            images.SIZE_BYTES,
        )
        storage = qcow2.QCOW2Storage()
        images.write(disk.path, 'qcow2', 0, 1)
        for path, below in (
            (disk.overlay_path, disk.path),
            (disk.handover_path, disk.overlay_path),
        ):
            storage.create_overlay(path, below, 'qcow2', images.SIZE_BYTES)
        images.write(disk.overlay_path, 'qcow2', 1, 2)
        images.write(disk.overlay_path, 'qcow2', 2, 3)
        images.write(disk.handover_path, 'qcow2', 2, 4)
        gone = fake_guest.FakeGuest(
            {'vda': disk.path}, fake_domain.FakeFiles(), STATE.ABSENT
        )
        settle.settle_all(gone, (disk,), 60.0)
        self.assertEqual(['d'], os.listdir(self.directory))
        for block, value in ((0, 1), (1, 2), (2, 4), (3, 0)):
            self.assertTrue(images.holds(disk.path, 'qcow2', block, value))
