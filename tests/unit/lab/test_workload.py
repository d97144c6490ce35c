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

import argparse
import contextlib
import io
import pathlib
import subprocess
import types
import unittest
from unittest import mock

from tests.lab import paths
from tests.lab import workload
from tests.lab.guest import answers
from tests.lab.guest import window


class TestParseSize(unittest.TestCase):
    def test_sizes(self):
        for text, expected in (
            ('0', 0),
            ('512', 512),
            ('64k', 65536),
            ('64K', 65536),
            ('1M', 1 << 20),
            ('1.5GiB', 3 << 29),
            ('2 TiB', 2 << 40),
            ('20MB', 20_000_000),
            ('20MB/s', 20_000_000),
            ('10M/s', 10 << 20),
            ('7B', 7),
        ):
            self.assertEqual(expected, workload.parse_size(text), text)

    def test_no_sizes(self):
        for text in ('', 'k', '-1', '1x', '0.3', '1e6', '10 mbit', 'inf'):
            with self.assertRaises(ValueError, msg=text):
                workload.parse_size(text)


class FakeHost:
    def __init__(self, name, outputs):
        self.name = name
        self.plan = paths.plan_of(name)
        self.outputs = outputs
        self.asked = []

    def run(self, argv, check=True, environ=None):
        self.asked.append(argv)
        text = self.outputs.get(argv[0])
        return subprocess.CompletedProcess(
            argv, text is None, text or '', '' if text else 'not found'
        )


class TestAddressOf(unittest.TestCase):
    def test_an_address(self):
        self.assertEqual('10.77.0.9', workload.address_of('10.77.0.9', []))

    def test_a_domain(self):
        ctl = FakeHost('ctl', {})
        one = FakeHost('compute1', {})
        two = FakeHost(
            'compute2', {'virsh': '<cmdline>quiet sxm.ip=10.77.0.50</cmdline>'}
        )
        self.assertEqual(
            '10.77.0.50', workload.address_of('g1', [ctl, one, two])
        )
        self.assertEqual([], ctl.asked)

    def test_a_server(self):
        ctl = FakeHost(
            'ctl', {'openstack': '{"addresses": {"lab": ["10.77.0.123"]}}'}
        )
        one = FakeHost('compute1', {'virsh': '<domain/>'})
        self.assertEqual('10.77.0.123', workload.address_of('s1', [ctl, one]))

    def test_a_server_without_address(self):
        ctl = FakeHost('ctl', {'openstack': '{"addresses": {}}'})
        with self.assertRaisesRegex(paths.LabError, 's1.*no address'):
            workload.address_of('s1', [ctl])

    def test_nobody_knows_it(self):
        with self.assertRaisesRegex(paths.LabError, 's1.*not found'):
            workload.address_of('s1', [FakeHost('ctl', {})])


class TestVerb(unittest.TestCase):
    def parse(self, *argv):
        parser = argparse.ArgumentParser()
        workload.add_parser(parser.add_subparsers())
        return parser.parse_args(['guest', *argv])

    def run_with(self, guest, *argv):
        """Run the verb; its exit code and standard output."""
        host = types.SimpleNamespace(
            name='ctl', pid=1, address='10.77.0.1', plan=paths.plan_of('ctl')
        )
        args = self.parse(*argv)
        output = io.StringIO()
        with (
            mock.patch.object(
                workload.host_mod,
                'find',
                lambda state, plan: host if plan.name == 'ctl' else None,
            ),
            mock.patch.object(
                workload.collector_mod, 'Collector'
            ) as collector,
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            collector.return_value.__enter__.return_value.guest = (
                lambda ip, ticks: guest
            )
            return args.func(args), output.getvalue()

    def verdict(self, checked, lost):
        disk = answers.DiskVerdict(
            checked, lost, 0, 0, 0, 512 if lost else None
        )
        return answers.VerifyResult(
            checked, lost, 0, 0, 0, disk.first_bad_offset, {'vda': disk}
        )

    def test_write(self):
        guest = mock.Mock()
        guest.write.return_value = answers.Writer(0, 'vdb', 0, 1024, 512)
        code, _ = self.run_with(
            guest, '10.77.0.9', 'write', '--disk', 'vdb', '--block', '64k',
            '--rate', '10M', '--pattern', 'hot', '--span', '1G',
        )  # fmt: skip
        self.assertEqual(0, code)
        guest.write.assert_called_once_with(
            'vdb',
            pattern='hot',
            block_bytes=65536,
            rate_bytes_per_s=10 << 20,
            threads=1,
            sync_every=0,
            start=None,
            span=1 << 30,
            unit_bytes=None,
        )

    def test_verify_tells_by_its_exit_code(self):
        for checked, lost, expected in ((8, 0, 0), (8, 1, 1), (0, 0, 1)):
            guest = mock.Mock()
            guest.verify.return_value = self.verdict(checked, lost)
            code, said = self.run_with(guest, '10.77.0.9', 'verify')
            self.assertEqual(expected, code)
            self.assertIn('FAILED' if expected else 'OK', said)

    def test_no_lab(self):
        args = self.parse('s1', 'report')
        with mock.patch.object(
            workload.host_mod, 'find', lambda state, plan: None
        ):
            with self.assertRaisesRegex(paths.LabError, 'tests.lab up'):
                args.func(args)

    def test_bad_size(self):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            with self.assertRaises(SystemExit):
                self.parse('s1', 'write', '--block', 'big')
        self.assertIn("'big' is no size", said.getvalue())


class TestDescribe(unittest.TestCase):
    STATS = window.WindowStats(
        1.0, 10**7, 1e7, 0.25, 0.02, 5.0, 0, 0.03, 0, 100, 0, 0
    )

    def test_writing(self):
        line = workload.describe(self.STATS, 3.0)
        for part in ('10.00 MB/s', '250.0 ms', '20.0 ms', 'errors 0'):
            self.assertIn(part, line)

    def test_silent(self):
        silent = window.stats([], 0.0, 2.0)
        self.assertIn('silent for 2.0 s', workload.describe(silent, 3.0))


class TestSources(unittest.TestCase):
    def test_every_source_has_the_licence(self):
        folder = pathlib.Path(workload.__file__).parent / 'guest'
        files = [
            *folder.glob('*.[ch]'),
            folder / 'init',
            folder / 'assemble.sh',
        ]
        self.assertGreater(len(files), 8)
        for file in files:
            self.assertIn('Apache License', file.read_text()[:400], file.name)
