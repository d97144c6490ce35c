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

"""A host's records survive, and a damaged one is never taken for none."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest
from unittest import mock

import ddt

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import journal

SERVER = 'c0ffee00-0000-4000-8000-000000000001'
DISK = engine_disk.Disk(
    target='vda',
    path='/i/disk',
    format='qcow2',
    size_bytes=1 << 30,
    allocated_bytes=123,
    backing=engine_disk.Backing.SHARED,
)
RECORD = journal.Record(
    server=SERVER,
    role=journal.Role.DESTINATION,
    peer='alpha',
    disks=(DISK, dataclasses.replace(DISK, target='hda', read_only=True)),
    steps=(('prepare', 'done'), ('mirror-disk vda', 'intent')),
    committed=True,
    runtime='/run/sxm/1',
    made=('/i/disk',),
)


class JournalTestCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = pathlib.Path(directory.name) / 'state'
        self.journal = journal.Journal(str(self.path))

    def file(self, server=SERVER) -> pathlib.Path:
        return self.path / f'{server}.json'


class TestRecords(JournalTestCase):
    def test_reads_what_was_written(self):
        self.journal.write(RECORD)
        self.assertEqual(RECORD, self.journal.read(SERVER))
        again = journal.Journal(str(self.path))
        self.assertEqual(RECORD, again.read(SERVER))

    def test_replaces(self):
        self.journal.write(RECORD)
        other = dataclasses.replace(RECORD, peer='beta', steps=())
        self.journal.write(other)
        self.assertEqual(other, self.journal.read(SERVER))

    def test_none(self):
        self.assertIsNone(self.journal.read(SERVER))
        self.assertEqual([], list(self.journal.servers()))

    def test_servers_in_order(self):
        for name in ('b', 'a', 'c'):
            self.journal.write(dataclasses.replace(RECORD, server=name))
        self.assertEqual(['a', 'b', 'c'], list(self.journal.servers()))

    def test_forget(self):
        self.journal.write(RECORD)
        self.journal.forget(SERVER)
        self.journal.forget(SERVER)
        self.assertIsNone(self.journal.read(SERVER))
        self.assertEqual([], os.listdir(self.path))

    def test_begin_refuses_a_second(self):
        self.journal.begin(RECORD)
        with self.assertRaisesRegex(exception.PreCheckFailed, 'alpha'):
            self.journal.begin(dataclasses.replace(RECORD, peer='gamma'))
        self.assertEqual(RECORD, self.journal.read(SERVER))

    def test_begin_over_a_damaged_one(self):
        self.path.mkdir()
        self.file().write_text('{')
        with self.assertRaises(exception.NeedsOperator):
            self.journal.begin(RECORD)
        self.assertEqual('{', self.file().read_text())

    def test_others_cannot_read_it(self):
        self.journal.write(RECORD)
        self.assertEqual(0o700, self.path.stat().st_mode & 0o777)


@ddt.ddt
class TestNames(JournalTestCase):
    @ddt.data('', '..', '../etc', 'a/b', '.hidden')
    def test_refused(self, name):
        self.assertRaises(ValueError, self.journal.read, name)
        self.assertRaises(
            ValueError,
            self.journal.write,
            dataclasses.replace(RECORD, server=name),
        )


class TestDurability(JournalTestCase):
    def test_synced_before_the_rename_and_after(self):
        self.path.mkdir()
        done = []
        real_fsync, real_rename = os.fsync, pathlib.Path.rename

        def fsync(descriptor):
            path = os.readlink(f'/proc/self/fd/{descriptor}')
            done.append(('fsync', os.path.basename(path)))
            real_fsync(descriptor)

        def rename(path, target):
            done.append(('rename', path.name))
            return real_rename(path, target)

        with mock.patch.object(os, 'fsync', fsync):
            with mock.patch.object(pathlib.Path, 'rename', rename):
                self.journal.write(RECORD)
        new = f'{SERVER}.new'
        self.assertEqual(
            [('fsync', new), ('rename', new), ('fsync', 'state')], done
        )

    def test_forget_is_synced(self):
        self.journal.write(RECORD)
        with mock.patch.object(os, 'fsync') as fsync:
            self.journal.forget(SERVER)
        self.assertEqual(1, fsync.call_count)

    def test_a_write_that_fails_keeps_the_record(self):
        self.journal.write(RECORD)
        with mock.patch.object(os, 'fsync', side_effect=OSError(28, 'full')):
            self.assertRaises(
                OSError,
                self.journal.write,
                dataclasses.replace(RECORD, peer='gamma'),
            )
        self.assertEqual(RECORD, self.journal.read(SERVER))
        self.assertEqual([SERVER], list(self.journal.servers()))

    def test_half_a_new_file_is_no_record(self):
        self.journal.write(RECORD)
        (self.path / f'{SERVER}.new').write_text('{"schema": 1, "serv')
        self.assertEqual(RECORD, self.journal.read(SERVER))
        self.assertEqual([SERVER], list(self.journal.servers()))
        self.journal.write(RECORD)
        self.assertEqual([f'{SERVER}.json'], os.listdir(self.path))


@ddt.ddt
class TestDamage(JournalTestCase):
    def _damaged(self, content: bytes):
        self.path.mkdir(exist_ok=True)
        self.file().write_bytes(content)
        with self.assertRaises(exception.NeedsOperator) as caught:
            self.journal.read(SERVER)
        self.assertIn(str(self.file()), str(caught.exception))
        self.assertTrue(caught.exception.remedy)
        self.assertEqual(content, self.file().read_bytes())

    @ddt.data(
        b'',
        b'{',
        b'null',
        b'[]',
        b'7',
        b'"text"',
        b'{}',
        b'\xff\xfe\x00',
        b'\x00' * 512,
        b'{"schema": 1}',
        b'{"schema": "new"}',
    )
    def test_not_a_record(self, content):
        self._damaged(content)

    @ddt.data(
        ('schema', 99),
        ('server', 'another'),
        ('role', 'observer'),
        ('disks', None),
        ('disks', ['vda']),
        ('disks', [{'target': 'vda'}]),
        ('disks', [7]),
        ('steps', [['only-a-name']]),
        ('steps', 5),
        ('made', 7),
    )
    @ddt.unpack
    def test_a_wrong_part(self, key, value):
        data = RECORD.to_dict() | {key: value}
        self._damaged(json.dumps(data).encode())

    def test_every_cut(self):
        whole = json.dumps(RECORD.to_dict(), indent=1).encode()
        for length in range(0, len(whole) - 1, 7):
            with self.subTest(length=length):
                self._damaged(whole[:length])

    def test_a_missing_part(self):
        for key in RECORD.to_dict():
            if key == 'made':
                continue
            with self.subTest(key=key):
                data = RECORD.to_dict()
                del data[key]
                self._damaged(json.dumps(data).encode())

    def test_newer_schema_says_what_to_do(self):
        self.path.mkdir()
        self.file().write_text(json.dumps({'schema': 2}))
        with self.assertRaisesRegex(exception.NeedsOperator, 'schema 2'):
            self.journal.read(SERVER)

    def test_without_what_later_versions_added(self):
        data = RECORD.to_dict()
        del data['made']
        self.path.mkdir()
        self.file().write_text(json.dumps(data))
        self.assertEqual(
            dataclasses.replace(RECORD, made=()), self.journal.read(SERVER)
        )

    def test_cannot_be_read(self):
        self.file().mkdir(parents=True)
        with self.assertRaises(exception.NeedsOperator):
            self.journal.read(SERVER)


class TestHold(JournalTestCase):
    """One process of a host at a time works at a server."""

    def other(self, script, *arguments):
        """Another process with the same journal."""
        code = (
            'import sys\n'
            'from sxm_openstack.engine import journal\n'
            f'made = journal.Journal({str(self.path)!r})\n{script}'
        )
        process = subprocess.Popen(
            [sys.executable, '-c', code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def holder(self):
        process = self.other(
            f'with made.hold({SERVER!r}):\n'
            "    print('held', flush=True)\n"
            '    sys.stdin.readline()\n'
        )
        self.assertEqual('held\n', process.stdout.readline())
        return process

    def test_another_process_is_refused(self):
        process = self.holder()
        self.assertTrue(self.journal.is_held(SERVER))
        with self.assertRaisesRegex(exception.PreCheckFailed, SERVER):
            with self.journal.hold(SERVER, 0.0):
                self.fail('both have it')
        process.communicate('go\n', timeout=30)
        with self.journal.hold(SERVER):
            self.assertTrue(self.journal.is_held(SERVER))
        self.assertFalse(self.journal.is_held(SERVER))
        self.assertEqual([], list(self.path.glob('*.lock')))

    def test_another_process_is_waited_for(self):
        process = self.holder()
        timer = threading.Timer(0.3, process.communicate, ['go\n'])
        timer.start()
        self.addCleanup(timer.join)
        with self.journal.hold(SERVER, 30.0):
            pass

    def test_a_killed_process_holds_nothing(self):
        process = self.holder()
        process.kill()
        process.wait()
        self.assertFalse(self.journal.is_held(SERVER))
        with self.journal.hold(SERVER, 0.0):
            pass

    def test_servers_do_not_wait_for_each_other(self):
        self.holder()
        with self.journal.hold(SERVER.replace('0', '1'), 0.0):
            pass

    def test_a_lock_whose_file_was_removed_counts_for_nothing(self):
        """Between the opening and the locking of it."""
        path = self.path / f'{SERVER}.lock'
        flock, taken = journal.fcntl.flock, []

        def steal(descriptor, flags):
            if not taken:
                taken.append(descriptor)
                path.unlink()
            flock(descriptor, flags)

        with mock.patch.object(journal.fcntl, 'flock', steal):
            with self.journal.hold(SERVER):
                self.assertTrue(path.exists())
                self.assertTrue(self.journal.is_held(SERVER))

    def test_the_directory_itself_survives_a_power_cut(self):
        synced = []
        with mock.patch.object(journal.files, 'sync_directory', synced.append):
            self.journal.write(RECORD)
        self.assertIn(self.path.parent, synced)
