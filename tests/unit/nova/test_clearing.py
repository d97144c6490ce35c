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
import types
import unittest
from unittest import mock

from sxm_openstack import exception
from sxm_openstack.engine import ports
from sxm_openstack.mirror import traces
from sxm_openstack.nova import clearing
from sxm_openstack.storage import image

from tests.unit.nova import fakes
from tests.unit.storage import images

SERVER = fakes.SERVER
Kind = traces.Kind
State = ports.DomainState


class TestClear(unittest.TestCase):
    """Real images; the guest is a stand-in."""

    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = pathlib.Path(directory.name)
        self.base = images.make(str(self.root / 'disk'), 'raw')
        self.domain = fakes.FakeDomain(State.ABSENT)
        self.domain.disks = lambda: [
            types.SimpleNamespace(target='vda', source=self.top),
            types.SimpleNamespace(target='hdb', source=None),
        ]
        self.top = self.base
        self.domain.source_path = lambda target: self.top
        self.end_transfer = mock.Mock()
        self.clearer = clearing.Clearer(
            lambda server: self.domain,
            lambda server: f'/run/sxm/{server}',
            self.end_transfer,
        )

    def overlay(self, data=False, name='disk.sxm-overlay'):
        path = str(self.root / name)
        image.create_overlay(path, self.base, 'raw', images.SIZE_BYTES)
        if data:
            images.write(path, 'qcow2', 1, 7)
        return path

    def clear(self, *paths, kind=Kind.FILE):
        self.clearer.clear(
            SERVER, [traces.Trace(SERVER, kind, path) for path in paths], 5.0
        )

    def names(self):
        return sorted(path.name for path in self.root.iterdir())

    def test_overlays_that_hold_nothing(self):
        unfinished = self.root / 'disk.sxm-handover.sxm-new'
        unfinished.write_bytes(b'QFI')
        paths = [self.overlay(), str(unfinished)]
        for _ in range(2):
            self.clear(*paths)
        self.assertEqual(['disk'], self.names())

    def test_one_that_holds_data_of_nobody_knows_what_is_kept(self):
        path = self.overlay(data=True)
        empty = self.overlay(name='disk.eph0.sxm-overlay')
        with self.assertRaisesRegex(exception.NeedsOperator, path):
            self.clear(path, empty)
        self.assertEqual(['disk', 'disk.sxm-overlay'], self.names())

    def test_one_that_was_set_aside_stays_so(self):
        path = self.root / 'disk.sxm-overlay.kept-1'
        path.write_bytes(b'')
        with self.assertRaises(exception.NeedsOperator):
            self.clear(str(path))
        self.assertTrue(path.exists())

    def test_a_guest_that_is_off_on_its_overlay(self):
        """It is folded: the newest writes are there."""
        self.domain.now = State.SHUTOFF
        self.top = self.overlay(data=True)
        self.clear(self.top)
        self.assertEqual(['disk'], self.names())
        self.assertTrue(images.holds(self.base, 'raw', 1, 7))
        self.assertEqual({'vda': str(self.base)}, self.domain.defined)

    def test_a_guest_that_runs_on_its_overlay(self):
        self.domain.now = State.RUNNING
        self.top = self.overlay(data=True)

        def commit(target, base, timeout_s):
            self.assertEqual(('vda', self.base), (target, base))
            self.top = base

        self.domain.commit = commit
        self.clear(self.top)
        self.assertEqual(self.base, self.top)
        self.assertEqual(['disk'], self.names())

    def test_a_guest_that_cannot_be_folded_keeps_all(self):
        self.domain.now = State.RUNNING
        self.top = self.overlay(data=True)
        self.domain.commit = mock.Mock(
            side_effect=exception.MirrorFailed('busy')
        )
        with self.assertRaisesRegex(exception.MirrorFailed, 'busy'):
            self.clear(self.top)
        self.assertEqual(['disk', 'disk.sxm-overlay'], self.names())

    def test_sockets_and_processes(self):
        self.clear('/run/sxm/x', kind=Kind.RUNTIME)
        self.clear('4711', kind=Kind.PROCESS)
        self.assertEqual(
            [mock.call(f'/run/sxm/{SERVER}')] * 2,
            self.end_transfer.call_args_list,
        )

    def test_no_process_is_ended_for_a_file(self):
        self.clear(self.overlay())
        self.end_transfer.assert_not_called()

    def test_what_is_left_of_a_journal(self):
        new = self.root / f'{SERVER}.new'
        new.touch()
        for _ in range(2):
            self.clear(str(new), kind=Kind.JOURNAL)
        self.assertEqual(['disk'], self.names())

    def test_drop_keeps_the_ordinary_files(self):
        """They are Nova's to delete."""
        self.overlay(data=True)
        self.clearer.drop(fakes.record(disks=[fakes.disk(path=self.base)]))
        self.end_transfer.assert_called_once_with('/nowhere/run')
        self.assertEqual(['disk'], self.names())
