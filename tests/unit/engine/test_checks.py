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

import unittest

import ddt

from sxm_openstack import exception
from sxm_openstack.engine import checks

GOOD = checks.passed('clock', 'It is right.')
ODD = checks.warned('cpu', 'It is older.', 'Look at it.')
BAD = checks.failed('space', '3 MiB free.', 'Make room.')
WORSE = checks.failed('ports', 'None is free.', 'Widen the range.')


@ddt.ddt
class TestRequire(unittest.TestCase):
    def test_warnings_stop_nothing(self):
        checks.require([GOOD, ODD])

    def test_one_failure_is_quoted(self):
        found = checks.at('beta', [GOOD, ODD, BAD])
        with self.assertRaises(exception.PreCheckFailed) as caught:
            checks.require(found)
        self.assertEqual(
            'space: 3 MiB free. (host beta) Next: Make room.',
            str(caught.exception),
        )

    def test_every_failure_is_quoted(self):
        with self.assertRaises(exception.PreCheckFailed) as caught:
            checks.require([*checks.at('beta', [BAD]), WORSE, GOOD])
        text = str(caught.exception)
        self.assertTrue(text.startswith('2 of 3 checks failed: space (beta)'))
        for part in ('Make room.', 'None is free.', 'Widen the range.'):
            self.assertIn(part, text)
        self.assertNotIn('clock', text)

    @ddt.data(GOOD, ODD, BAD)
    def test_as_data(self, check):
        self.assertEqual(check, checks.Check.from_dict(check.to_dict()))

    @ddt.data({}, {'name': 'x', 'verdict': 'maybe', 'message': ''}, 7, None)
    def test_what_is_no_check(self, data):
        self.assertRaises(ValueError, checks.Check.from_dict, data)

    def test_the_first_host_that_is_named_counts(self):
        (check,) = checks.at('gamma', checks.at('beta', [BAD]))
        self.assertEqual('beta', check.host)

    def test_of_an_error(self):
        check = checks.of_error(
            'server',
            exception.UnsupportedServer('LUKS', host='a', remedy='Stop it.'),
        )
        self.assertEqual(
            checks.Check(
                'server', checks.Verdict.FAILED, 'LUKS', 'Stop it.', 'a'
            ),
            check,
        )
