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
import tempfile
import unittest

import ddt

from tools import summary


@ddt.ddt
class TestSummary(unittest.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def _write(self, suite: str, data: object) -> None:
        (self.directory / f'{suite}.json').write_text(json.dumps(data))

    def _run(self, *suites: str) -> tuple[int, str]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = summary.main([str(self.directory), *suites])
        return code, output.getvalue().splitlines()[-1]

    def test_all_passed(self):
        self._write('unit', {'passed': 40, 'failed': 0})
        self._write('e2e', {'passed': 2, 'failed': 0, 'seconds': 1.5})
        self.assertEqual((0, '42 passed, 0 failed'), self._run('unit', 'e2e'))

    def test_one_failed(self):
        self._write('unit', {'passed': 40, 'failed': 1})
        self._write('e2e', {'passed': 2, 'failed': 0})
        self.assertEqual((1, '42 passed, 1 failed'), self._run('unit', 'e2e'))

    def test_a_suite_that_left_nothing_failed(self):
        self._write('unit', {'passed': 40, 'failed': 0})
        self.assertEqual((1, '40 passed, 1 failed'), self._run('unit', 'e2e'))

    @ddt.data(
        {'passed': 0, 'failed': 0},
        {'passed': 3},
        {'passed': '3', 'failed': '0'},
        {'passed': True, 'failed': False},
        {'passed': 5, 'failed': -1},
        [],
        None,
    )
    def test_no_counts_is_a_failure(self, data):
        self._write('unit', data)
        self.assertEqual((1, '0 passed, 1 failed'), self._run('unit'))

    def test_no_suite_is_an_error(self):
        self.assertEqual(2, self._run()[0])
