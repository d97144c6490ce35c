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
import signal
import stat
import subprocess
import tempfile
import unittest
from unittest import mock

from sxm_openstack import exception
from sxm_openstack.transfer import process

from tests.unit.transfer import relays


class ProcessCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix='sxm'))
        self.addCleanup(process.clean_directory, str(self.directory))

    def start(self, script='exec sleep 60', name='stub'):
        return process.start(self.directory, name, ['sh', '-c', script])

    def recorded(self):
        return list(process.recorded(self.directory))

    def forget_children(self):
        """As in a process that did not start them."""
        children = dict(process._children)
        self.addCleanup(process._children.update, children)
        process._children.clear()


class ProgramTest(ProcessCase):
    def test_ends_when_asked(self):
        program = self.start()
        self.assertTrue(program.alive())
        self.assertFalse(program.wait(0.05))
        program.stop()
        self.assertFalse(program.alive())
        self.assertEqual(-signal.SIGTERM, program.popen.returncode)

    def test_ends_when_it_ignores_the_request(self):
        program = self.start('trap "" TERM; echo up >&2; while :; do :; done')
        relays.wait_for(lambda: program.log_tail() == 'up')
        program.stop(timeout_s=0.1)
        self.assertEqual(-signal.SIGKILL, program.popen.returncode)

    def test_that_does_not_end_at_all_is_named(self):
        program = self.start()
        with (
            mock.patch.object(process, 'STOP_TIMEOUT_S', 0.1),
            mock.patch.object(process.os, 'kill', autospec=True),
            self.assertRaises(exception.NeedsOperator) as caught,
        ):
            program.stop(timeout_s=0.1)
        self.assertIn(f'{program.pid} (stub)', str(caught.exception))

    def test_log_tail_is_one_line(self):
        program = self.start('echo one >&2; echo >&2; echo two >&2')
        program.wait(10)
        self.assertEqual('one; two', program.log_tail())

    def test_missing_program_is_named(self):
        with self.assertRaises(exception.MoveFailed) as caught:
            process.start(self.directory, 'stub', ['no-such-program'])
        self.assertIn('no-such-program', str(caught.exception))

    def test_its_own_session(self):
        program = self.start()
        self.assertEqual(program.pid, os.getsid(program.pid))

    def test_pipes(self):
        program, stdin, stdout = process.start_with_pipes(
            self.directory, 'stub', ['cat']
        )
        with stdout:
            with stdin:
                stdin.write('hello')
            self.assertEqual('hello', stdout.read())
        self.assertTrue(program.wait(10))


class RecordTest(ProcessCase):
    """What a later process finds."""

    def test_alive(self):
        program = self.start()
        self.forget_children()
        (found,) = self.recorded()
        self.assertIsNone(found.popen)
        self.assertEqual(program.pid, found.pid)
        self.assertTrue(found.alive())
        found.stop()
        self.assertFalse(found.alive())
        program.wait(10)

    def test_number_that_belongs_to_another_process_by_now(self):
        program = self.start()
        self.forget_children()
        path = self.directory / 'stub.pid'
        path.write_text(
            f'{{"pid": {program.pid}, "started": {program.started - 1}}}'
        )
        (found,) = self.recorded()
        self.assertFalse(found.alive())
        found.stop()
        self.assertTrue(program.alive())
        program.stop()

    def test_cut_short(self):
        (self.directory / 'stub.pid').write_text('{"pid')
        self.assertEqual([], self.recorded())
        self.assertEqual([], list(self.directory.iterdir()))

    def test_zombie_is_not_alive(self):
        program = self.start('exit 0')
        relays.wait_for(lambda: process.start_time(program.pid) is None)
        program.wait(10)


class CleanTest(ProcessCase):
    def test_everything_goes(self):
        program = self.start()
        for name in ('a.sock', 'b.nbd', 'c.ctl', 'd.log', 'e.qsd'):
            (self.directory / name).touch()
        for _ in range(2):
            process.clean_directory(str(self.directory))
        self.assertFalse(self.directory.exists())
        self.assertFalse(program.alive())

    def test_foreign_files_stay(self):
        (self.directory / 'disk').touch()
        process.clean_directory(str(self.directory))
        self.assertEqual(
            ['disk'], [path.name for path in self.directory.iterdir()]
        )
        (self.directory / 'disk').unlink()

    def test_only_what_matches_is_ended(self):
        one, two = self.start(name='relay-connect'), self.start(name='other')
        process.end_recorded(self.directory, 'relay-*')
        self.assertFalse(one.alive())
        self.assertTrue(two.alive())

    def test_directory_for_sockets(self):
        path = self.directory / 'new' / 'one'
        process.prepare_directory(str(path), None)
        self.assertEqual(0o700, stat.S_IMODE(path.stat().st_mode))
        process.prepare_directory(str(path), os.getgid())
        self.assertEqual(0o770, stat.S_IMODE(path.stat().st_mode))
        path.rmdir()
        path.parent.rmdir()


class StraysTest(ProcessCase):
    """Programs without a record: whoever started them was killed first."""

    def setUp(self):
        super().setUp()
        self.runtime = self.directory / 'one'
        self.runtime.mkdir()
        # Whatever it is called, it sleeps.
        self.named = {}
        for name in ('qemu-storage-daemon', 'sleeper'):
            path = self.directory / name
            path.symlink_to('/bin/sh')
            self.named[name] = str(path)
            self.addCleanup(path.unlink, missing_ok=True)

    def run_it(self, *command):
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, start_new_session=True
        )
        self.addCleanup(child.stdin.close)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        relays.wait_for(
            lambda: (
                process.start_time(child.pid) is not None
                and str(self.directory)
                in pathlib.Path(f'/proc/{child.pid}/cmdline').read_text()
            )
        )
        return child

    def found(self, root=None):
        return {
            (stray.pid, stray.name, stray.directory.name)
            for stray in process.strays(str(root or self.directory))
        }

    def daemon(self, directory=None):
        return self.run_it(
            self.named['qemu-storage-daemon'],
            '-c',
            'read x',
            '--pidfile',
            f'{directory or self.runtime}/vda.base.qsd',
        )

    def test_a_daemon_and_a_program_of_ours(self):
        daemon = self.daemon()
        relay = self.run_it(
            'sh', '-c', 'read x',
            '/opt/lib/sxm_openstack/transfer/program.py', 'relay', 'connect',
            str(self.runtime),
        )  # fmt: skip
        self.assertEqual(
            {
                (daemon.pid, 'qemu-storage-daemon', 'one'),
                (relay.pid, 'relay', 'one'),
            },
            self.found(),
        )

    def test_programs_of_others_are_none(self):
        self.run_it(
            self.named['sleeper'], '-c', 'read x', str(self.runtime / 'x')
        )
        self.daemon(directory=f'{self.directory}-other/one')
        self.assertEqual(set(), self.found())

    def test_they_end_with_the_directory(self):
        mine, other = self.daemon(), self.daemon(self.directory / 'two')
        process.clean_directory(str(self.runtime))
        mine.wait(10)
        self.assertIsNone(other.poll())
        self.assertFalse(self.runtime.exists())

    def test_they_end_also_when_the_directory_has_gone(self):
        mine = self.daemon()
        self.runtime.rmdir()
        process.clean_directory(str(self.runtime))
        mine.wait(10)
