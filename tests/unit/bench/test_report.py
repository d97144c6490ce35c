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
from xml.etree import ElementTree

from tests.bench import figures
from tests.bench import picture
from tests.bench import report


def runs() -> list[figures.Run]:
    done = figures.Run(
        'snapshot',
        'idle',
        converged=True,
        total_s=10.0,
        limit_s=8.0,
        lost_writes=0,
    )
    done.phases = [
        (0.0, '', 'begin'),
        (1.0, 'vda', 'copying'),
        (6.0, '', 'pause'),
        (6.1, '', 'migrate'),
        (7.0, '', 'memory'),
        (9.0, '', 'switched'),
    ]
    done.series = {
        'at_s': [0.0, 0.5],
        'rate': [1e6, 2e6],
        'latency_ms': [1.0, 250.0],
    }
    gave_up = figures.Run('stock', 'idle', total_s=150.0, error='no <end>')
    return [gave_up, done]


class PictureTest(unittest.TestCase):
    def test_is_a_document_with_a_line_for_each_series(self) -> None:
        root = ElementTree.fromstring(picture.svg(runs(), 'a & b'))
        lines = root.findall('.//{http://www.w3.org/2000/svg}polyline')
        self.assertEqual(4, len(lines))
        self.assertEqual(2, len(lines[2].attrib['points'].split()))
        texts = ' '.join(root.itertext())
        self.assertIn('a & b', texts)
        self.assertIn('gave up', texts)


class TableTest(unittest.TestCase):
    def test_a_line_for_each_run(self) -> None:
        lines = report.table(runs()).splitlines()
        self.assertEqual(4, len(lines))
        self.assertIn('GAVE UP', lines[2])
        self.assertTrue(lines[2].endswith('?'))
        self.assertIn('1.25', lines[3])
        self.assertTrue(lines[3].endswith('0'))
