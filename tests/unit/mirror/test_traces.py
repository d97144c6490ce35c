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

import pathlib
import tempfile
import unittest
from unittest import mock

from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.hypervisor import survey
from sxm_openstack.mirror import traces
from sxm_openstack.transfer import process

SERVER = '3f1b6b0e-0000-4000-8000-000000000001'
OTHER = '3f1b6b0e-0000-4000-8000-000000000002'
Kind = traces.Kind


class TestFind(unittest.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = pathlib.Path(directory.name)
        for name in ('state', 'run', 'instances'):
            (self.root / name).mkdir()
        self.journal = engine_journal.Journal(str(self.root / 'state'))
        self.overlaid = []
        self.places = traces.Places(
            state=str(self.root / 'state'),
            runtime=str(self.root / 'run'),
            instances=str(self.root / 'instances'),
            disks=lambda: self.overlaid,
        )
        patcher = mock.patch.object(process, 'strays', return_value=[])
        self.strays = patcher.start()
        self.addCleanup(patcher.stop)

    def make(self, name, data=b''):
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return str(path)

    def found(self):
        return {
            (trace.server, trace.kind, trace.name): trace.detail
            for found in traces.find(self.places, self.journal).values()
            for trace in found
        }

    def test_nothing(self):
        self.make(f'instances/{SERVER}/disk')
        self.make(f'instances/{SERVER}/disk.config')
        self.make('instances/_base/0706d66')
        self.assertEqual({}, self.found())

    def test_directories_that_are_not_there(self):
        places = traces.Places('/no/1', '/no/2', '/no/3', lambda: ())
        journal = engine_journal.Journal('/no/1')
        self.assertEqual({}, traces.find(places, journal))

    def test_a_record_with_its_steps(self):
        self.journal.write(
            engine_journal.Record(
                SERVER,
                engine_journal.Role.SOURCE,
                'there',
                disks=(engine_disk.Disk('vda', '/x', 'raw', 1),),
                steps=(('prepare', 'done'), ('copy-base vda', 'intent')),
            )
        )
        ((key, detail),) = self.found().items()
        self.assertEqual((SERVER, Kind.JOURNAL), key[:2])
        self.assertEqual(
            'source, with there, prepare: done, copy-base vda: intent', detail
        )

    def test_what_a_killed_process_leaves_of_a_journal(self):
        new = self.make(f'state/{SERVER}.new', b'{"sch')
        lock = self.make(f'state/{SERVER}.lock')
        self.assertEqual(
            {(SERVER, Kind.JOURNAL, new), (SERVER, Kind.JOURNAL, lock)},
            set(self.found()),
        )

    def test_a_lock_that_is_held_is_none(self):
        with self.journal.hold(SERVER):
            self.assertEqual({}, self.found())

    def test_a_damaged_journal(self):
        path = self.make(f'state/{SERVER}.json', b'{"sch')
        self.assertIn(
            'cannot be read', self.found()[SERVER, Kind.JOURNAL, path]
        )

    def test_files_of_every_name(self):
        names = (
            'disk.sxm-overlay',
            'disk.sxm-handover',
            'disk.eph0.sxm-overlay.sxm-new',
            'disk.sxm-overlay.kept-1',
        )
        paths = {self.make(f'instances/{SERVER}/{name}') for name in names}
        found = self.found()
        self.assertEqual(
            {(SERVER, Kind.FILE, path) for path in paths}, set(found)
        )
        self.assertEqual({'0 bytes occupied'}, set(found.values()))

    def test_runtime_directories_and_processes(self):
        self.make(f'run/{SERVER}/relay-connect.log')
        self.strays.return_value = [
            process.Program(self.root / 'run' / OTHER, 'relay', 4711, 1)
        ]
        self.assertEqual(
            {
                (SERVER, Kind.RUNTIME, str(self.root / 'run' / SERVER)): '',
                (OTHER, Kind.PROCESS, '4711'): 'relay',
            },
            self.found(),
        )

    def test_guests_on_overlays(self):
        self.overlaid = [
            survey.Finding(SERVER, 'vda', '/i/disk.sxm-overlay', 'copy')
        ]
        self.assertEqual(
            {
                (SERVER, Kind.DISK, 'vda'): (
                    'on /i/disk.sxm-overlay, block job copy'
                )
            },
            self.found(),
        )
