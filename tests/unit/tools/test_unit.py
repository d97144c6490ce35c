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

import io
import unittest

import subunit
import testtools

from tools import unit


def stream_of(case: type[unittest.TestCase]) -> bytes:
    """What stestr keeps of a run of one test class."""
    output = io.BytesIO()
    result = testtools.ExtendedToStreamDecorator(
        subunit.StreamResultToBytes(output)
    )
    result.startTestRun()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    result.stopTestRun()
    return output.getvalue()


class TestCount(unittest.TestCase):
    def test_every_outcome(self):
        class Sample(unittest.TestCase):
            def test_good(self):
                self.assertEqual(1, 1)

            def test_bad(self):
                self.fail('on purpose')

            def test_error(self):
                raise ZeroDivisionError

            @unittest.expectedFailure
            def test_known(self):
                self.fail('on purpose')

            def test_left_out(self):
                self.skipTest('a tool is missing')

        totals, skipped = unit.count(stream_of(Sample))
        self.assertEqual({'passed': 2, 'failed': 3}, totals)
        self.assertEqual(1, len(skipped))
        self.assertTrue(skipped[0].endswith('test_left_out'))

    def test_nothing_ran(self):
        self.assertEqual(
            ({'passed': 0, 'failed': 0}, []), unit.count(b'no such run\n')
        )
