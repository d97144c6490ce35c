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

"""The demonstration says that all held only when all held."""

import dataclasses
import unittest
from xml.etree import ElementTree

import ddt

from tests.demo import picture
from tests.demo import story as story_mod

_LOG = """
x INFO y sxm phase copying disk hda migration M1 server S at 1000.500
x INFO y sxm phase mirrored disk hda migration M1 server S at 1001.000
x INFO y sxm phase preparing disk vda migration M1 server S at 1001.100
x INFO y sxm phase preparing disk vda migration M2 server S at 1001.200
x INFO y sxm phase mirroring disk vda migration M1 server S at 1001.300
x INFO y sxm phase copying disk vda migration M1 server S at 1001.400
x INFO y sxm phase mirrored disk vda migration M1 server S at 1005.000
x INFO y sxm phase pause disk - migration M1 server S at 1005.100
x INFO y sxm phase resume disk - migration M1 server S at 1005.200
x INFO y sxm phase handed-over disk vda migration M1 server S at 1005.300
x INFO y sxm phase arrived disk - migration M1 server S at 1009.000
x INFO y sxm report migration M1 server S {"pause_s": 0.08, "disks": {"hda": \
{"total_bytes": 1, "copied_bytes": 1, "mirrored_bytes": 0}, "vda": \
{"total_bytes": 9, "copied_bytes": 9, "mirrored_bytes": 5}}}
"""


def told():
    """A story in which all held."""
    report = story_mod.read_report(_LOG, 'M1')
    return story_mod.Story(
        'compute1',
        'compute2',
        '20mbps',
        status='completed',
        total_s=10.0,
        marks=story_mod.read_marks(_LOG, 'M1', 1000.0),
        disks=report['disks'],
        pause_ms=report['pause_s'] * 1000,
        gap_ms=150.0,
        bytes_sent=1 << 20,
        checked_sectors=1000,
        lost_writes=0,
        config_drive_same=True,
        series={'at_s': [0.0, 5.0], 'rate': [1e6, 2e6], 'latency_ms': [1, 90]},
    )


@ddt.ddt
class TestStory(unittest.TestCase):
    def test_read_from_the_log(self):
        story = told()
        self.assertEqual(story_mod.MIRRORED, story.phases_of('vda'))
        self.assertEqual(story_mod.COPIED, story.phases_of('hda'))
        self.assertEqual(5.1, story.at('pause'))
        self.assertEqual(80.0, story.pause_ms)

    def test_all_held(self):
        story = told()
        self.assertTrue(story.ok, story.checks())
        data = story.to_dict()
        for name in (
            'ok',
            'lost_writes',
            'handover_pause_ms',
            'switchover_gap_ms',
            'total_s',
            'bytes_sent',
            'phases',
        ):
            self.assertIn(name, data)

    @ddt.data(
        {'status': 'failed'},
        {'lost_writes': 1},
        {'lost_writes': None},
        {'checked_sectors': 0},
        {'config_drive_same': False},
        {'left_on_source': ['disk']},
        {'pause_ms': 0.0},
        {'pause_ms': 1500.0},
        {'gap_ms': 0.0},
        {'gap_ms': 60_000.0},
        {'disks': {}},
        {'marks': []},
    )
    def test_one_thing_did_not(self, change):
        self.assertFalse(dataclasses.replace(told(), **change).ok)

    def test_a_disk_that_went_another_way(self):
        story = told()
        story.marks = [mark for mark in story.marks if mark.disk != 'vda']
        story.marks.append(story_mod.Mark(1.0, 'mirroring', 'vda'))
        self.assertFalse(story.ok)

    def test_told_as_text(self):
        text = '\n'.join(story_mod.lines(told()))
        for part in ('5.10s', 'the guest stands', '80 ms', '[ok]', 'MiB'):
            self.assertIn(part, text)
        self.assertNotIn('FAILED', text)

    def test_drawn(self):
        root = ElementTree.fromstring(picture.svg(told(), 'a <title>'))
        text = ' '.join(root.itertext())
        for part in ('a <title>', 'vda', 'pause 80 ms', 'switched 150 ms'):
            self.assertIn(part, text)
        lines = root.findall('{*}polyline')
        self.assertEqual(2, len(lines))

    def test_drawn_without_a_move(self):
        empty = story_mod.Story('compute1', 'compute2', '20mbps')
        ElementTree.fromstring(picture.svg(empty, 'nothing'))
