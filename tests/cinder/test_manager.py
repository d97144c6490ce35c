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

import os
import pathlib
import threading
from unittest import mock

from cinder import exception
from cinder.volume import manager as stock_manager
from cinder.volume import volume_utils

from sxm_openstack.cinder import copies
from sxm_openstack.transfer import volume as transfer_volume

from tests.cinder import base
from tests.cinder import images

MIB = 1 << 20
WRITES = ('write -P 1 0 5M', 'write -P 2 900M 3M', 'write -z 901M 1M')


class CopyTest(images.ImagesCase):
    """Cases that Cinder's own copy does wrong."""

    def check(self, source_format, destination_format, *before):
        source = self.make_image(source_format, *WRITES)
        destination = self.make_image(destination_format, *before)
        self.volume._copy_volume_data(
            self.admin, source, destination, remote='dest'
        )
        self.assertEqual(self.content(source), self.content(destination))
        self.assertLess(self.allocated(destination), 16 * MIB)
        self.assertEqual([], self.attached)

    def test_qcow2_to_raw(self):
        self.check('qcow2', 'raw')

    def test_raw_to_qcow2(self):
        # Cinder leaves a raw file of which it says that it is qcow2.
        self.check('raw', 'qcow2')

    def test_raw_to_thin_raw(self):
        # Cinder makes a thin target thick, unless its driver says that it
        # may skip zeros.
        self.check('raw', 'raw')


class OldContentTest(CopyTest):
    """The target is not new."""

    test_qcow2_to_raw = test_raw_to_qcow2 = test_raw_to_thin_raw = None

    def test_qcow2_to_qcow2(self):
        self.check('qcow2', 'qcow2', 'write -P 9 100M 50M')

    def test_raw_to_raw(self):
        self.capabilities = {'sparse_copy_volume': True}
        self.check('raw', 'raw', 'write -P 9 100M 50M')


StockCopyTest = base.fails_on_stock(CopyTest)


class CareTest(images.ImagesCase):
    def copy(self, source, destination):
        self.volume._copy_volume_data(
            self.admin, source, destination, remote='dest'
        )

    def test_copy_that_differs_is_refused(self):
        source = self.make_image('raw', *WRITES)
        destination = self.make_image('raw')
        path, _ = self.files[destination.id]
        run = transfer_volume.VolumeCopy._verify

        def spoil(copying, *arguments):
            with open(path, 'r+b') as file:
                file.seek(500 * MIB)
                file.write(b'x')
            run(copying, *arguments)

        with mock.patch.object(transfer_volume.VolumeCopy, '_verify', spoil):
            error = self.assertRaises(
                exception.VolumeMigrationFailed, self.copy, source, destination
            )
        self.assertIn(f'at or after offset {500 * MIB}', str(error))
        self.assertEqual([], self.attached)
        self.assertEqual([], self.volume._copies.reports())

    def test_copy_can_be_aborted(self):
        source = self.make_image('raw', *WRITES)
        destination = self.make_image('raw')
        self.flags(max_rate_mib_per_s=1, group='sxm_volume')
        tell = self.volume._copies._listener

        def abort(report):
            tell(report)
            if report.phase == 'copying':
                self.assertTrue(self.volume._copies.abort(source.id))

        self.volume._copies._listener = abort
        error = self.assertRaises(
            exception.VolumeMigrationFailed, self.copy, source, destination
        )
        self.assertIn('aborted', str(error))
        self.assertEqual([], self.attached)
        self.assertFalse(self.volume._copies.abort(source.id))

    def test_encrypted_volume_goes_by_cinder(self):
        source = self.make_image('raw', encryption_key_id=self.FAKE_UUID)
        destination = self.make_image('raw')
        with mock.patch.object(
            stock_manager.VolumeManager, '_copy_volume_data'
        ) as stock:
            self.copy(source, destination)
        stock.assert_called_once_with(self.admin, source, destination, 'dest')

    def test_unknown_handle_goes_by_cinder(self):
        source = self.make_image('raw', *WRITES)
        destination = self.make_image('raw')
        self.files[source.id] = (object(), 'raw')
        with mock.patch.object(volume_utils, 'copy_volume') as stock:
            self.copy(source, destination)
        handle, path = stock.call_args.args[:2]
        self.assertIs(self.files[source.id][0], handle)
        self.assertEqual(self.files[destination.id][0], path)
        self.assertEqual(1024, stock.call_args.args[2])
        self.assertEqual([], self.attached)

    def test_unknown_handle_of_another_format_is_refused(self):
        source = self.make_image('qcow2', *WRITES)
        destination = self.make_image('raw')
        self.files[destination.id] = (object(), 'raw')
        error = self.assertRaises(
            exception.VolumeMigrationFailed, self.copy, source, destination
        )
        self.assertIn('qcow2 cannot be copied to raw', str(error))

    def test_failed_attachment_of_the_source_detaches_the_other(self):
        source, destination = self.make_volume(), self.make_image('raw')
        self.assertRaises(KeyError, self.copy, source, destination)
        self.assertEqual([], self.attached)

    def test_only_so_many_at_the_same_time(self):
        pairs = [
            (self.make_image('raw', WRITES[0]), self.make_image('raw'))
            for _ in range(3)
        ]
        running, most = set(), []
        lock = threading.Lock()

        def tell(report):
            with lock:
                if report.phase == 'copying':
                    running.add(report.volume_id)
                if report.phase in ('verifying', 'done'):
                    running.discard(report.volume_id)
                most.append(len(running))

        with mock.patch.object(
            self.volume, '_copies', copies.Copies('host@one', tell)
        ):
            self.volume._copies._turns = threading.BoundedSemaphore(1)
            threads = [
                threading.Thread(target=self.copy, args=pair) for pair in pairs
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(1, max(most))
        for source, destination in pairs:
            self.assertEqual(self.content(source), self.content(destination))


class CheckpointTest(images.ImagesCase):
    def test_it_counts_for_the_same_images_alone(self):
        directory = pathlib.Path(self.root)
        one = copies.Checkpoint(directory, ['a', 'b', 'raw'])
        self.assertEqual(0, one.read())
        one.write(42)
        self.assertEqual(42, one.read())
        other = copies.Checkpoint(directory, ['a', 'c', 'raw'])
        self.assertEqual(0, other.read())
        one.forget()
        self.assertEqual(0, one.read())

    def test_one_that_cannot_be_read_is_none(self):
        directory = pathlib.Path(self.root)
        (directory / 'a.json').write_text('{"names": ["a"], "off')
        self.assertEqual(0, copies.Checkpoint(directory, ['a']).read())

    def test_copy_goes_on_after_the_end_of_the_process(self):
        source = self.make_image('raw', 'write -P 3 0 200M')
        destination = self.make_image('raw')
        self.flags(max_rate_mib_per_s=30, group='sxm_volume')

        class Ended(BaseException):
            """Stands for the end of the process."""

        write = copies.Checkpoint.write

        def end(checkpoint, offset):
            write(checkpoint, offset)
            raise Ended

        with mock.patch.object(copies.Checkpoint, 'write', end):
            self.assertRaises(
                Ended,
                self.volume._copy_volume_data,
                self.admin,
                source,
                destination,
            )
        self.flags(max_rate_mib_per_s=0, group='sxm_volume')
        begun = []
        with mock.patch.object(
            self.volume._copies,
            '_tell',
            lambda report, important: begun.append(report),
        ):
            self.volume._copy_volume_data(self.admin, source, destination)
        first = next(one for one in begun if one.total_bytes)
        self.assertGreater(first.done_bytes, 30 * MIB)
        self.assertEqual(self.content(source), self.content(destination))
        self.assertEqual([], os.listdir(self.volume._copies._directory))
