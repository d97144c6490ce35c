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
import threading
import unittest
from unittest import mock

from sxm_openstack import exception
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import ports
from sxm_openstack.nova import settler as sxm_settler

from tests.unit.nova import fakes

State = ports.DomainState
SERVER = fakes.SERVER


class SettlerTestCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.journal = engine_journal.Journal(directory.name)
        self.domain = fakes.FakeDomain()
        self.cleanup = mock.Mock()
        self.ask_peer = mock.Mock(return_value=State.ABSENT)
        self.settler = sxm_settler.Settler(
            self.journal,
            lambda server: self.domain,
            self.cleanup,
            self.ask_peer,
            'here',
        )
        self.fold = self.patch('settle_all')
        self.is_settled = self.patch('is_settled')
        self.is_settled.return_value = False

    def patch(self, name):
        patcher = mock.patch.object(sxm_settler.settle, name)
        self.addCleanup(patcher.stop)
        return patcher.start()

    def left_by(self, role, **values):
        values.setdefault('disks', [fakes.disk()])
        self.journal.write(fakes.record(role, **values))

    def settle(self):
        self.settler.settle(SERVER, 'a start', 5.0)

    def assert_refused(self, text):
        with self.assertRaisesRegex(exception.NeedsOperator, text):
            self.settle()
        self.fold.assert_not_called()
        self.assertIsNotNone(self.journal.read(SERVER))


class TestSource(SettlerTestCase):
    """Trap 1: what was cut short is folded before anything starts."""

    def test_without_a_record_nothing_is_touched(self):
        self.settle()
        self.fold.assert_not_called()
        self.cleanup.assert_not_called()

    def test_with_the_guest_on(self):
        self.left_by(engine_journal.Role.SOURCE)
        self.settle()
        self.cleanup.assert_called_once_with('/nowhere/run')
        self.assertEqual(['vda'], self.domain.waited)
        self.fold.assert_called_once()
        self.assertIsNone(self.journal.read(SERVER))
        self.ask_peer.assert_not_called()

    def test_with_its_memory_on_the_way(self):
        self.left_by(engine_journal.Role.SOURCE)
        self.domain.left = 1
        self.settle()
        self.assertEqual(1, self.domain.asked)
        self.fold.assert_called_once()

    def test_with_the_guest_off(self):
        self.left_by(engine_journal.Role.SOURCE)
        self.domain.now = State.SHUTOFF
        self.settle()
        self.ask_peer.assert_called_once()
        self.fold.assert_called_once()

    def test_with_the_guest_on_the_other_host(self):
        """Trap 9: never two writers."""
        self.left_by(engine_journal.Role.SOURCE)
        self.domain.now = State.SHUTOFF
        for there in (State.RUNNING, State.PAUSED, State.INCOMING):
            self.ask_peer.return_value = there
            self.assert_refused(f'is {there} on there')

    def test_with_another_host_that_does_not_answer(self):
        self.left_by(engine_journal.Role.SOURCE)
        self.domain.now = State.ABSENT
        self.ask_peer.side_effect = exception.PeerUnreachable('silence')
        self.assert_refused('silence')

    def test_after_the_guest_has_moved(self):
        self.left_by(engine_journal.Role.SOURCE, committed=True)
        self.domain.now = State.ABSENT
        self.assert_refused('has moved to there')
        self.ask_peer.assert_not_called()

    def test_a_fold_that_fails_is_tried_again_next_time(self):
        self.left_by(engine_journal.Role.SOURCE)
        self.fold.side_effect = [exception.NeedsOperator('full'), None]
        with self.assertRaisesRegex(exception.NeedsOperator, 'full'):
            self.settle()
        self.settle()
        self.assertIsNone(self.journal.read(SERVER))


class TestDestination(SettlerTestCase):
    def test_with_the_guest_on(self):
        """A fold that runs already goes on: nothing ends its job."""
        self.left_by(engine_journal.Role.DESTINATION, committed=True)
        self.settle()
        self.cleanup.assert_called_once_with('/nowhere/run')
        self.assertEqual([], self.domain.waited)
        self.fold.assert_called_once()

    def test_with_the_guest_off(self):
        self.left_by(engine_journal.Role.DESTINATION, committed=True)
        self.domain.now = State.SHUTOFF
        with mock.patch('os.path.exists', return_value=True):
            self.settle()
        self.fold.assert_called_once()
        self.ask_peer.assert_not_called()

    def test_with_the_disks_gone(self):
        self.left_by(engine_journal.Role.DESTINATION, committed=True)
        self.domain.now = State.ABSENT
        self.settle()
        self.fold.assert_not_called()
        self.assertIsNone(self.journal.read(SERVER))

    def test_one_that_never_came(self):
        """Only what the move itself has made goes with it."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        root = pathlib.Path(directory.name)
        for name in ('a', 'a.sxm-overlay', 'b', 'b.sxm-handover'):
            (root / name).touch()
        self.left_by(
            engine_journal.Role.DESTINATION,
            disks=[
                fakes.disk('vda', path=str(root / 'a')),
                fakes.disk('vdb', path=str(root / 'b')),
            ],
            made=(str(root / 'b'),),
        )
        self.domain.now = State.ABSENT
        self.settle()
        self.fold.assert_not_called()
        self.assertEqual(['a'], [path.name for path in root.iterdir()])
        self.assertIsNone(self.journal.read(SERVER))

    def test_while_another_process_is_at_it(self):
        self.left_by(engine_journal.Role.DESTINATION, committed=True)
        other = engine_journal.Journal(self.journal._directory)
        with other.hold(SERVER):
            with self.assertRaisesRegex(exception.PreCheckFailed, 'Another'):
                self.settler.settle(SERVER, 'a start', 0.05)
        self.fold.assert_not_called()


class TestBackground(SettlerTestCase):
    """Traps 2 and 3: what takes long goes on, and others wait for it."""

    def setUp(self):
        super().setUp()
        self.may_end = threading.Event()
        self.addCleanup(self.may_end.set)
        self.has_begun = threading.Event()
        self.fold.side_effect = self.take_long
        self.left_by(engine_journal.Role.DESTINATION, committed=True)

    def take_long(self, *arguments):
        self.has_begun.set()
        self.may_end.wait(10)

    def test_another_action_is_refused_meanwhile(self):
        worker = self.settler.begin(SERVER)
        self.has_begun.wait(10)
        with self.assertRaisesRegex(
            exception.PreCheckFailed, 'a snapshot is not possible now'
        ):
            self.settler.settle(SERVER, 'a snapshot', 0.05)
        self.may_end.set()
        worker.join(10)
        self.settler.settle(SERVER, 'a snapshot', 0.05)
        self.fold.assert_called_once()

    def test_there_is_one_for_each_server(self):
        worker = self.settler.begin(SERVER)
        self.assertIs(worker, self.settler.begin(SERVER))
        self.may_end.set()
        worker.join(60)

    def test_it_is_tried_until_it_succeeds(self):
        self.fold.side_effect = [exception.NeedsOperator('busy'), None]
        with mock.patch.object(sxm_settler, '_AGAIN_AFTER_S', 0.01):
            self.settler.begin(SERVER).join(10)
        self.assertIsNone(self.journal.read(SERVER))

    def test_a_guest_that_is_off_is_left_to_whoever_starts_it(self):
        self.domain.now = State.SHUTOFF
        with mock.patch.object(sxm_settler, '_AGAIN_AFTER_S', 0.01):
            worker = self.settler.begin(SERVER)
            worker.join(0.1)
            self.fold.assert_not_called()
            self.journal.forget(SERVER)
            worker.join(10)
        self.assertFalse(worker.is_alive())
