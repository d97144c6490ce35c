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

import json
import unittest
from unittest import mock

from nova import exception as nova_exception

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import progress
from sxm_openstack.nova import events

from tests.unit.nova import fakes

Phase = engine_disk.DiskPhase


class TestStages(unittest.TestCase):
    def setUp(self):
        super().setUp()
        patcher = mock.patch.object(events.objects, 'InstanceActionEvent')
        self.nova = patcher.start()
        self.addCleanup(patcher.stop)
        self.stages = events.Stages('context', fakes.SERVER, 'M', 'here')
        self.stages.expect(2)

    def written(self):
        return [
            (call[0].removeprefix('event_'), call[1][2])
            for call in self.nova.method_calls
        ]

    def change(self, target, phase):
        self.stages.on_change(progress.PhaseChange(1.0, target, phase))

    def test_one_event_for_each_stage(self):
        self.stages.begin(events.PREPARE)
        for disk in ('vda', 'vdb'):
            self.change(disk, Phase.PREPARING)
            self.change(disk, Phase.MIRRORING)
            self.change(disk, Phase.COPYING)
            self.change(disk, Phase.MIRRORED)
        self.change('', 'pause')
        self.change('', 'resume')
        self.stages.begin(events.MEMORY)
        self.stages.end()
        names = (
            'sxm_prepare',
            'sxm_disk_vda',
            'sxm_disk_vdb',
            'sxm_hand_over',
            'sxm_memory',
        )
        self.assertEqual(
            [(what, name) for name in names for what in ('start', 'finish')],
            self.written(),
        )

    def test_the_error_is_in_the_event_that_was_under_way(self):
        self.stages.begin(events.PREPARE)
        self.change('vda', Phase.COPYING)
        error = exception.CopyFailed('no space', host='there', disk='vda')
        self.stages.end(error)
        self.stages.end()
        name, arguments, named = self.nova.method_calls[-1]
        self.assertEqual('event_finish_with_failure', name)
        self.assertEqual('sxm_disk_vda', arguments[2])
        self.assertEqual(str(error), named['exc_val'])
        self.assertIsNotNone(named['exc_tb'])  # None means success to Nova

    def test_what_cannot_be_written_does_not_end_the_move(self):
        for error in (
            nova_exception.InstanceActionNotFound(
                request_id='r', instance_uuid='i'
            ),
            RuntimeError('no bus'),
        ):
            self.nova.event_start.side_effect = error
            self.stages.begin(events.PREPARE)
            self.stages.end()

    def test_nothing_is_written_while_the_guest_stands(self):
        self.change('', 'pause')
        self.change('', 'resume')
        self.assertEqual([], self.written())

    def test_the_log_has_a_line_for_each_phase_and_a_report(self):
        with self.assertLogs(events.LOG.logger, 'INFO') as log:
            self.change('vda', Phase.COPYING)
            self.stages.report({'pause_s': 0.1})
        phase, report = (entry.getMessage() for entry in log.records)
        self.assertIn('sxm phase copying disk vda migration M', phase)
        self.assertTrue(report.startswith('sxm report migration M server '))
        data = json.loads(report[report.index('{') :])
        self.assertEqual(0.1, data['pause_s'])
        self.assertEqual(['vda', 'copying'], data['phases'][0][1:])
