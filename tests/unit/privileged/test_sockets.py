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

"""Verbs, called by a user that may do nothing of it himself."""

import json
import os
import pathlib
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import unittest

from sxm_openstack.privileged import sockets

NOBODY = 65534
GROUP, GID = 'daemon', 1
SERVER = '3f1b6b0e-0000-4000-8000-000000000001'


class VerbTestCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        if os.geteuid():
            raise RuntimeError('the daemon of the test has to be root')
        self.root = pathlib.Path(tempfile.mkdtemp(prefix='sxm'))
        self.addCleanup(shutil.rmtree, self.root)
        self.root.chmod(0o755)
        self.runtime = self.root / 'run'
        self.directory = self.runtime / SERVER
        self.config = self.root / 'nova.conf'
        self.config.write_text(
            f'[sxm]\nruntime_dir = {self.runtime}\nqemu_group = {GROUP}\n'
        )

    def call(self, verb, *paths):
        """What each call was answered; nothing for success."""
        done = subprocess.run(
            [
                sys.executable,
                *('-m', 'tests.unit.privileged.as_nobody'),
                *(str(self.config), str(NOBODY), verb, *map(str, paths)),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual(0, done.returncode, done.stderr)
        answer = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual(NOBODY, answer['uid'])
        return answer['answers']

    def assert_refused(self, verb, reasons):
        answers = self.call(verb, *reasons)
        for (path, reason), answer in zip(
            reasons.items(), answers, strict=True
        ):
            self.assertIn(reason, answer, path)

    def as_nobody(self, *command):
        """Exit code of a command as that user, in QEMU's group or none."""
        return subprocess.run(
            command, user=NOBODY, group=NOBODY, extra_groups=[], check=False,
            capture_output=True,
        ).returncode  # fmt: skip


class TestShareDirectory(VerbTestCase):
    def test_make_and_make_again(self):
        self.assertNotEqual(0, self.as_nobody('mkdir', str(self.runtime)))
        self.assertEqual(
            ['', ''], self.call('share_directory', *[self.directory] * 2)
        )
        found = self.directory.stat()
        self.assertEqual((NOBODY, GID), (found.st_uid, found.st_gid))
        self.assertEqual(0o2770, stat.S_IMODE(found.st_mode))
        self.assertEqual(0o711, stat.S_IMODE(self.runtime.stat().st_mode))
        # The service can use it, and remove it in the end.
        file = str(self.directory / 'x')
        for command in (['touch', file], ['rm', file]):
            self.assertEqual(0, self.as_nobody(*command))
        self.assertEqual(0, self.as_nobody('rmdir', str(self.directory)))

    def test_no_other_place(self):
        elsewhere = self.root / 'other'
        elsewhere.mkdir()
        link = self.runtime / SERVER.replace('3', '4')
        self.runtime.mkdir()
        link.symlink_to(elsewhere)
        file = self.runtime / SERVER.replace('3', '5')
        file.touch()
        mine = self.runtime / SERVER.replace('3', '6')
        mine.mkdir()
        os.chown(mine, 4321, 4321)
        self.assert_refused(
            'share_directory',
            {
                '/etc': 'not in [sxm] runtime_dir',
                elsewhere / SERVER: 'not in [sxm] runtime_dir',
                f'{self.runtime}/../{SERVER}': 'not in [sxm] runtime_dir',
                self.runtime: 'not in [sxm] runtime_dir',
                f'{self.runtime}/..': 'not named after a server',
                self.runtime / 'x': 'not named after a server',
                f'{self.directory}\n': 'not named after a server',
                link: 'Not a directory',
                file: 'Not a directory',
                mine: 'belongs to somebody else',
            },
        )
        self.assertEqual(0, elsewhere.stat().st_uid)
        self.assertEqual(4321, mine.stat().st_uid)

    def test_group_that_does_not_exist(self):
        text = self.config.read_text().replace(GROUP, 'no-such-group')
        self.config.write_text(text)
        (answer,) = self.call('share_directory', self.directory)
        self.assertIn('no-such-group', answer)
        self.assertFalse(self.directory.exists())


class TestAdmit(VerbTestCase):
    def setUp(self):
        super().setUp()
        self.call('share_directory', self.directory)
        self.path = self.directory / 'disks.sock'

    def listen(self, path):
        """As QEMU does, here as root: nobody else may connect."""
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        self.addCleanup(os.umask, os.umask(0o022))
        sock.bind(str(path))
        sock.listen()

    def connects(self):
        code = (
            'import socket, sys; '
            'socket.socket(socket.AF_UNIX).connect(sys.argv[1])'
        )
        return not self.as_nobody(
            '/usr/bin/python3', '-c', code, str(self.path)
        )

    def test_socket_of_qemu(self):
        self.listen(self.path)
        self.assertFalse(self.connects())
        self.assertEqual([''], self.call('admit', self.path))
        self.assertTrue(self.connects())
        self.assertEqual(0o660, stat.S_IMODE(self.path.stat().st_mode))

    def test_nothing_else(self):
        secret = self.root / 'secret'
        secret.touch(0o600)
        self.path.symlink_to(secret)
        other = self.directory / 'vda.base.nbd'
        self.listen(other)
        self.assert_refused(
            'admit',
            {
                self.path: 'it is no socket',
                other: 'its name is not disks.sock',
                '/etc/shadow': 'its name is not disks.sock',
                '/run/disks.sock': 'not in [sxm] runtime_dir',
                f'{self.directory}/../{SERVER}/disks.sock': 'runtime_dir',
            },
        )
        self.path.unlink()
        os.link(secret, self.path)
        self.assert_refused('admit', {self.path: 'it is no socket'})
        self.assertEqual((0, 0o600), (
            secret.stat().st_uid, stat.S_IMODE(secret.stat().st_mode)
        ))  # fmt: skip

    def test_directory_of_somebody_else(self):
        self.listen(self.path)
        os.chown(self.directory, 4321, -1)
        self.assert_refused('admit', {self.path: 'belongs to somebody else'})


class TestRoot(unittest.TestCase):
    def test_needs_no_help(self):
        """Whoever calls must not become root's by a mistake."""
        with self.assertRaisesRegex(Exception, 'root needs no help'):
            with sockets._runtime(f'/run/sxm/{SERVER}', 0):
                pass
