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
import socket
import tempfile
import unittest
from unittest import mock

from sxm_openstack.engine import checks as engine_checks
from sxm_openstack.transfer import base
from sxm_openstack.transfer import checks
from sxm_openstack.transfer import nbd

from tests.lab import pki

OK, FAILED = engine_checks.Verdict.OK, engine_checks.Verdict.FAILED
LOOPBACK = '127.0.0.1'


class ChecksTestCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = pathlib.Path(directory.name)

    def script(self, text):
        path = self.root / 'python'
        path.write_text(f'#!/bin/sh\n{text}\n')
        path.chmod(0o755)
        return str(path)

    def assert_failed(self, check, *parts):
        self.assertIs(FAILED, check.verdict, check)
        self.assertTrue(check.remedy)
        for part in parts:
            self.assertIn(part, str(check))


class TestPrograms(ChecksTestCase):
    def test_both_are_there(self):
        found = list(checks.programs())
        self.assertEqual([OK, OK], [check.verdict for check in found])

    def test_none_is_there(self):
        with mock.patch.dict(os.environ, PATH=str(self.root)):
            found = list(checks.programs())
        self.assertEqual(2, len(found))
        self.assert_failed(found[1], 'no qemu-storage-daemon')


class TestHelper(ChecksTestCase):
    def test_with_libnbd(self):
        check = checks.helper(self.script('echo 1.14.2'))
        self.assertEqual(
            (OK, True), (check.verdict, '1.14.2' in check.message)
        )

    def test_without(self):
        python = self.script("echo \"No module named 'nbd'\" >&2; exit 1")
        self.assert_failed(
            checks.helper(python), 'No module named', 'python3-libnbd'
        )

    def test_one_that_says_nothing(self):
        self.assert_failed(checks.helper(self.script('exit 1')), 'no reason')

    def test_no_such_interpreter(self):
        self.assert_failed(checks.helper('/nowhere/python'), 'does not run')

    def test_one_that_hangs(self):
        with mock.patch.object(checks, '_TIMEOUT_S', 0.1):
            check = checks.helper(self.script('exec sleep 10'))
        self.assert_failed(check, 'does not run')


class TestDirectories(ChecksTestCase):
    def test_one_that_will_be_made(self):
        check = checks.writable('x', str(self.root / 'a' / 'b'), 'Fix.')
        self.assertIs(OK, check.verdict)
        self.assertFalse((self.root / 'a').exists())

    def test_a_file_in_its_place(self):
        (self.root / 'a').touch()
        check = checks.writable('x', str(self.root / 'a' / 'b'), 'Fix.')
        self.assert_failed(check, 'a is no directory', 'Fix.')

    def test_read_only(self):
        with mock.patch.object(os, 'access', return_value=False):
            check = checks.writable('x', str(self.root), 'Fix.')
        self.assert_failed(check, 'is not writable')

    def test_a_path_too_long_for_sockets(self):
        self.assertIs(OK, checks.runtime('/run/sxm').verdict)
        self.assertIs(OK, checks.runtime(f'/{"x" * 42}').verdict)
        self.assert_failed(checks.runtime(f'/{"x" * 43}'), 'too long')


class TestAddresses(ChecksTestCase):
    def setUp(self):
        super().setUp()
        self.sock = socket.socket()
        self.addCleanup(self.sock.close)
        self.sock.bind((LOOPBACK, 0))
        self.port = self.sock.getsockname()[1]

    def test_a_port_is_free(self):
        check = checks.listening(LOOPBACK, range(21000, 21400))
        self.assertIs(OK, check.verdict, check)

    def test_the_only_port_is_taken(self):
        self.sock.listen()
        check = checks.listening(LOOPBACK, range(self.port, self.port + 1))
        self.assert_failed(check, str(self.port), 'port_range')

    def test_an_address_of_another_host(self):
        check = checks.listening('192.0.2.1', range(21000, 21002))
        self.assert_failed(check, '192.0.2.1', 'my_migration_address')

    def test_a_host_that_answers(self):
        self.sock.listen()
        self.assertIs(OK, checks.reachable(LOOPBACK, self.port).verdict)

    def test_a_host_that_refuses_is_there(self):
        self.assertIs(OK, checks.reachable(LOOPBACK, self.port).verdict)

    def test_a_host_that_is_silent(self):
        for error in (TimeoutError('timed out'), OSError(113, 'No route')):
            with mock.patch.object(
                checks.socket, 'create_connection', side_effect=error
            ):
                check = checks.reachable('192.0.2.1', 49300)
            self.assert_failed(check, '192.0.2.1', '49300', 'firewall')


class TestDriver(ChecksTestCase):
    def test_certificates(self):
        authority = pki.Authority(self.root / 'ca')
        directory = authority.issue(self.root / 'pki', ['here'])
        check = checks.certificates(str(directory))
        self.assertEqual(engine_checks.Verdict.OK, check.verdict)
        (directory / 'client-key.pem').unlink()
        check = checks.certificates(str(directory))
        self.assertEqual(engine_checks.Verdict.FAILED, check.verdict)
        self.assertIn('client-key.pem: No such file', check.message)
        self.assertIn('[sxm] tls', check.remedy)
        check = checks.certificates(None)
        self.assertEqual(engine_checks.Verdict.WARNING, check.verdict)

    def test_everything_is_looked_at(self):
        driver = nbd.NBDDriver(base.Settings(self.script('echo 1')))
        found = list(
            driver.checks(str(self.root), LOOPBACK, range(21000, 21400))
        )
        self.assertEqual(
            {
                'programs',
                'helper-python',
                'runtime-dir',
                'tls',
                'migration-address',
            },
            {check.name for check in found},
        )
        self.assertEqual([], engine_checks.failures(found))
        (check,) = driver.reach(LOOPBACK, 1)
        self.assertEqual('reachable', check.name)
