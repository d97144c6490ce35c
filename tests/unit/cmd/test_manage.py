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

import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

import ddt

from sxm_openstack import exception
from sxm_openstack.cmd import manage
from sxm_openstack.engine import checks
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.mirror import traces
from sxm_openstack.nova import upkeep as sxm_upkeep

from tests.unit.mirror import test_pair
from tests.unit.nova import fakes

SERVER = fakes.SERVER
CASE = sxm_upkeep.Case(
    SERVER,
    sxm_upkeep.Standing.CUT_SHORT,
    'nobody works at it',
    (traces.Trace(SERVER, traces.Kind.FILE, '/i/disk.sxm-overlay', '3 MiB'),),
    fakes.record(engine_journal.Role.SOURCE),
)


class FakeUpkeep:
    """One case, until it is acted on."""

    def __init__(self):
        self.left = [CASE]
        self.ran = []
        self.error = ''

    def leftovers(self, servers=()):
        return list(self.left)

    def run(self, actions, servers=(), *, dry_run=False):
        self.ran.append((actions, list(servers), dry_run))
        if not (dry_run or self.error):
            self.left = []
        yield sxm_upkeep.Result(CASE, sxm_upkeep.Action.UNDO, self.error)


@ddt.ddt
class TestCommands(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.upkeep = FakeUpkeep()
        self.host = mock.Mock()
        self.host.upkeep.return_value = self.upkeep

    def run_it(self, *arguments):
        out = io.StringIO()
        parsed = manage.parser().parse_args(arguments)
        code = parsed.run(parsed, self.host, out)
        return code, out.getvalue()

    def test_leftovers(self):
        code, text = self.run_it('leftovers')
        self.assertEqual(manage.LEFT, code)
        for part in (SERVER, 'cut short', '/i/disk.sxm-overlay', '3 MiB'):
            self.assertIn(part, text)
        self.assertEqual([], self.upkeep.ran)

    def test_nothing_left(self):
        self.upkeep.left = []
        self.assertEqual((manage.OK, ''), self.run_it('leftovers'))

    def test_leftovers_as_json(self):
        code, text = self.run_it('leftovers', '--format', 'json')
        self.assertEqual(manage.LEFT, code)
        (server,) = json.loads(text)['servers']
        self.assertEqual(CASE.to_dict(), server)

    @ddt.data(
        ('cleanup', sxm_upkeep.EITHER),
        ('resume', sxm_upkeep.FORWARD),
        ('rollback', sxm_upkeep.BACK),
    )
    @ddt.unpack
    def test_acting(self, name, actions):
        code, text = self.run_it(name, SERVER, '--timeout', '9')
        self.assertEqual([(actions, [SERVER], False)], self.upkeep.ran)
        self.assertEqual(manage.OK, code)
        self.assertIn('undo: done', text)
        self.host.upkeep.assert_called_once_with(
            assume_ended=False, timeout_s=9.0
        )

    def test_dry(self):
        code, text = self.run_it('cleanup', '--dry-run')
        self.assertTrue(self.upkeep.ran[0][-1])
        self.assertEqual(manage.LEFT, code)
        self.assertIn('would be done', text)

    def test_what_was_not_done(self):
        self.upkeep.error = 'no space'
        code, text = self.run_it('cleanup')
        self.assertEqual(manage.LEFT, code)
        self.assertIn('undo: no space', text)
        self.assertIn('Still left:', text)

    def test_acting_as_json(self):
        code, text = self.run_it('cleanup', '--format', 'json')
        data = json.loads(text)
        self.assertEqual(([], manage.OK), (data['servers'], code))
        self.assertEqual('undo', data['results'][0]['action'])

    @ddt.data((), ('tidy',), ('leftovers', '--format', 'xml'))
    def test_wrong_usage(self, *arguments):
        with contextlib.redirect_stderr(io.StringIO()):
            with self.assertRaises(SystemExit) as caught:
                manage.main(arguments)
        self.assertEqual(manage.WRONG_USAGE, caught.exception.code)


class TestDoctor(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.host = mock.Mock()
        self.host.facts.return_value = test_pair.HERE
        self.found = [checks.passed('clock', 'It is right.')]
        self.host.doctor.side_effect = lambda *_: self.found

    def run_it(self, *arguments, given='', name='-'):
        out = io.StringIO()
        with mock.patch.object(sys, 'stdin', io.StringIO(given)) as stdin:
            stdin.name = name
            parsed = manage.parser().parse_args(['doctor', *arguments])
            code = parsed.run(parsed, self.host, out)
        return code, out.getvalue()

    def test_all_is_well(self):
        self.found = [checks.passed('qemu', 'It is new.')]
        code, text = self.run_it()
        self.assertEqual(manage.OK, code)
        self.assertEqual('ok       qemu: It is new.\n', text)
        self.assertIsNone(self.host.doctor.call_args.args[1])

    def test_warnings_are_no_failures(self):
        self.found.append(checks.warned('cpu', 'It is older.', 'Look.'))
        self.assertEqual(manage.OK, self.run_it()[0])

    def test_a_check_that_fails(self):
        self.found.append(checks.failed('qemu', 'It is old.', 'Upgrade.'))
        code, text = self.run_it()
        self.assertEqual(manage.LEFT, code)
        self.assertIn('failed   qemu: It is old. Next: Upgrade.', text)

    def test_one_host_reads_what_the_other_says(self):
        _, text = self.run_it('--format', 'json')
        self.assertEqual([], json.loads(text)['checks'])
        _, text = self.run_it('--with', '-', given=text)
        self.assertIn('clock', text)
        for call in self.host.doctor.call_args.args:
            self.assertEqual('alpha', call.host)
            self.assertAlmostEqual(time.time(), call.time_s, delta=60.0)

    def test_a_file_tells_nothing_of_a_clock(self):
        self.found.append(checks.passed('cpu', 'It is the same.'))
        with tempfile.NamedTemporaryFile('w+') as file:
            json.dump({'facts': test_pair.THERE.to_dict()}, file)
            file.flush()
            _, text = self.run_it('--with', file.name)
        self.assertNotIn('clock', text)
        self.assertIn('cpu', text)

    def test_something_else(self):
        for given in ('', '{}', '[]', '{"facts": {"host": "x"}}'):
            with (
                self.subTest(given),
                self.assertRaisesRegex(
                    exception.PreCheckFailed, 'is not what'
                ),
            ):
                self.run_it('--with', '-', given=given)


class TestProgram(unittest.TestCase):
    """The program itself, on a host without libvirtd."""

    def program(self, *arguments):
        return subprocess.run(
            [sys.executable, '-m', 'sxm_openstack.cmd.manage', *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def test_without_libvirt_nothing_can_be_told(self):
        with tempfile.TemporaryDirectory() as root:
            conf = pathlib.Path(root) / 'nova.conf'
            conf.write_text(
                '[DEFAULT]\nhost = here\n[sxm]\n'
                f'state_dir = {root}/s\nruntime_dir = {root}/r\n[libvirt]\n'
                f'connection_uri = qemu+unix:///system?socket={root}/none\n'
            )
            done = self.program('--config-file', str(conf), 'leftovers')
        self.assertEqual(manage.CANNOT_TELL, done.returncode, done.stderr)
        self.assertIn('Cannot connect to libvirt', done.stderr)
        self.assertEqual('', done.stdout)

    def test_a_configuration_that_is_not_there(self):
        done = self.program('--config-file', '/nowhere.conf', 'leftovers')
        self.assertEqual(manage.CANNOT_TELL, done.returncode, done.stderr)
        self.assertIn('/nowhere.conf', done.stderr)
