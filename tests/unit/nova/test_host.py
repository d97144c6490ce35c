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

import tempfile
import threading
import unittest
from unittest import mock

import ddt
import nova.conf

from sxm_openstack import exception
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import ports
from sxm_openstack.nova import host as sxm_host
from sxm_openstack.nova import options

from tests.unit.nova import fakes

CONF = nova.conf.CONF
SERVER = fakes.SERVER
Role = engine_journal.Role
State = ports.DomainState


class HostTestCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        options.register()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        CONF.set_override('state_dir', directory.name, 'sxm')
        self.addCleanup(CONF.clear_override, 'state_dir', 'sxm')
        self.journal = engine_journal.Journal(directory.name)
        self.ask_peer = mock.Mock(return_value=State.ABSENT)
        self.host = sxm_host.MoveHost(mock.Mock(), self.ask_peer)
        self.domain = fakes.FakeDomain()
        self.host.domain = lambda server: self.domain
        self.settler = self.host._settler = mock.Mock()
        self.settler.begin.return_value.join.return_value = None
        self.arrivals = self.host.arrivals = mock.Mock()


@ddt.ddt
class TestRecover(HostTestCase):
    """Trap 1: before Nova looks at its servers."""

    def recover(self, role, **values):
        self.journal.write(fakes.record(role, **values))
        self.host.recover()

    def test_nothing(self):
        self.host.recover()
        self.settler.begin.assert_not_called()

    def test_a_source_with_its_guest_on(self):
        self.recover(Role.SOURCE)
        self.settler.begin.assert_called_once_with(SERVER)
        self.settler.begin.return_value.join.assert_called_once()
        self.assertEqual('there', self.host.take_cut_short(SERVER))
        self.assertIsNone(self.host.take_cut_short(SERVER))

    def test_a_source_with_its_guest_off(self):
        """Folded at once: Nova may start it in a moment."""
        self.domain.now = State.SHUTOFF
        self.recover(Role.SOURCE)
        self.settler.begin.assert_not_called()
        self.settler.settle.assert_called_once_with(
            SERVER, mock.ANY, CONF.sxm.handover_timeout
        )

    @ddt.data((True, State.ABSENT), (False, State.RUNNING))
    @ddt.unpack
    def test_a_source_whose_guest_has_gone(self, committed, there):
        """Nothing is folded; Nova is told later."""
        self.domain.now = State.ABSENT
        self.ask_peer.return_value = there
        with mock.patch.object(sxm_host.options, 'transfer') as transfer:
            self.recover(Role.SOURCE, committed=committed)
        transfer.return_value.cleanup.assert_called_once_with('/nowhere/run')
        self.assertEqual({SERVER: 'there'}, self.host.gone())
        self.assertIsNone(self.host.take_cut_short(SERVER))
        self.settler.settle.assert_not_called()
        self.assertTrue(self.journal.read(SERVER).committed)

    @ddt.data(
        {'return_value': State.INCOMING},
        {'return_value': State.SHUTOFF},
        {'side_effect': exception.PeerUnreachable('silent')},
    )
    def test_a_source_whose_guest_may_have_gone(self, answer):
        """It is off here: whether it may be started is asked again then."""
        self.domain.now = State.ABSENT
        self.ask_peer.configure_mock(**answer)
        self.recover(Role.SOURCE)
        self.assertEqual({}, self.host.gone())
        self.settler.settle.assert_called_once()
        self.assertFalse(self.journal.read(SERVER).committed)

    def test_a_destination_whose_guest_is_coming_in(self):
        """Nothing is deleted under it."""
        for state in (State.INCOMING, State.ABSENT):
            self.domain.now = state
            self.recover(Role.DESTINATION)
            self.arrivals.restore.assert_called_with(self.journal.read(SERVER))
        self.settler.begin.assert_not_called()
        self.settler.settle.assert_not_called()

    def test_a_destination_whose_guest_has_come(self):
        for committed in (True, False):
            self.settler.begin.reset_mock()
            self.recover(Role.DESTINATION, committed=committed)
            self.settler.begin.assert_called_once_with(SERVER)

    def test_one_that_cannot_be_settled_does_not_stop_the_others(self):
        other = '3f1b6b0e-0000-4000-8000-000000000000'
        record = fakes.record(Role.SOURCE).to_dict()
        self.journal.write(
            engine_journal.Record.from_dict({**record, 'server': other})
        )
        self.domain.now = State.SHUTOFF
        self.settler.settle.side_effect = [
            exception.NeedsOperator('there?'),
            None,
        ]
        self.recover(Role.SOURCE)
        self.assertEqual(2, self.settler.settle.call_count)


class TestSessions(HostTestCase):
    def begin(self):
        with mock.patch.object(sxm_host.options, 'transfer'):
            return self.host.begin(
                SERVER, 'there', {}, (), mock.Mock(), mock.Mock()
            )

    def test_one_for_each_server(self):
        session = self.begin()
        self.assertIs(session, self.host.session(SERVER))
        with self.assertRaisesRegex(exception.PreCheckFailed, 'a second move'):
            self.begin()
        self.host.end(SERVER)
        self.assertIsNone(self.host.session(SERVER))
        self.settler.begin.assert_not_called()

    def test_no_other_process_may_work_at_it_meanwhile(self):
        self.begin()
        self.assertTrue(self.journal.is_held(SERVER))
        self.host.end(SERVER)
        self.assertFalse(self.journal.is_held(SERVER))

    def test_another_process_works_at_it(self):
        with self.journal.hold(SERVER):
            with self.assertRaisesRegex(exception.PreCheckFailed, 'Another'):
                self.begin()
        self.assertIsNone(self.host.session(SERVER))
        self.begin()

    def test_nothing_else_is_done_meanwhile(self):
        self.begin()
        with self.assertRaisesRegex(
            exception.PreCheckFailed, 'is being moved with its disks: a start'
        ):
            self.host.settle(SERVER, 'a start')
        self.settler.settle.assert_not_called()

    def test_what_is_left_is_tried_again(self):
        self.begin()
        self.journal.write(fakes.record(Role.SOURCE))
        self.host.end(SERVER)
        self.settler.begin.assert_called_once_with(SERVER)

    def test_what_has_gone_is_not_taken_back(self):
        self.begin()
        self.journal.write(fakes.record(Role.SOURCE, committed=True))
        self.host.end(SERVER)
        self.settler.begin.assert_not_called()
        self.assertIsNone(self.journal.read(SERVER))

    def test_forget(self):
        self.journal.write(fakes.record(Role.DESTINATION))
        with mock.patch.object(sxm_host.options, 'transfer') as transfer:
            self.host.forget(SERVER)
            self.host.forget(SERVER)
        transfer.return_value.cleanup.assert_called_once_with('/nowhere/run')
        self.assertIsNone(self.journal.read(SERVER))

    def test_a_move_under_way_is_not_forgotten(self):
        self.begin()
        self.journal.write(fakes.record(Role.SOURCE))
        self.host.forget(SERVER)
        self.assertIsNotNone(self.journal.read(SERVER))

    def test_called_off_by_its_end(self):
        session = self.begin()
        session.thread = mock.Mock()
        reasons = []

        def end(reason):
            reasons.append(reason)
            threading.Timer(0.01, self.host.end, [SERVER]).start()

        session.abort = end
        self.assertTrue(self.host.call_off(SERVER, 'deleted', 30))
        self.assertEqual(['deleted'], reasons)
        self.assertIsNone(self.host.session(SERVER))

    def test_one_that_does_not_end_when_called_off(self):
        session = self.begin()
        session.thread = mock.Mock()
        self.assertFalse(self.host.call_off(SERVER, 'deleted', 0.01))
        self.assertTrue(session.aborted)

    def test_nothing_to_call_off(self):
        self.assertTrue(self.host.call_off(SERVER, 'deleted', 0))
        session = self.begin()
        # In its own thread: waiting for the end would be for ever.
        self.assertTrue(self.host.call_off(SERVER, 'deleted', 0))
        self.assertFalse(session.aborted)
