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
import re
import subprocess
import sys
import unittest

MODULES = (
    'test_volume_migration',
    'test_volume_retype',
    'test_volume',
    'test_init_host',
    'test_driver',
)


class UpstreamTest(unittest.TestCase):
    """What Cinder expects of its manager holds for ours."""

    def test_cinders_own_tests(self):
        done = subprocess.run(
            [
                sys.executable,
                '-W',
                'ignore',
                '-m',
                'tests.cinder.upstream',
                *(f'cinder.tests.unit.volume.{name}' for name in MODULES),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
            env={**os.environ, 'LC_ALL': 'C', 'LANGUAGE': ''},
        )
        found = re.search(r'^Ran (\d+) tests', done.stderr, re.MULTILINE)
        self.assertIsNotNone(found, done.stderr[-4000:])
        self.assertGreater(int(found[1]), 250)
        self.assertEqual(0, done.returncode, done.stderr[-8000:])
