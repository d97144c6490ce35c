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

import threading
import unittest

from sxm_openstack import exception
from sxm_openstack.engine import ports
from sxm_openstack.nova import session as sxm_session

from tests.unit.nova import fakes

State = ports.DomainState


class SessionTestCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.domain = fakes.FakeDomain()
        self.move = fakes.source_move(disks=[fakes.disk()])
        self.session = sxm_session.Session(
            self.move, self.domain, clock=fakes.FakeClock()
        )


class TestAbort(SessionTestCase):
    def test_before_the_storage_stage_has_ended(self):
        self.move.run.side_effect = lambda: self.session.abort('enough')
        with self.assertRaisesRegex(exception.Aborted, 'enough'):
            self.session.run_storage()
        self.assertFalse(self.session.ended)
        self.session.rollback()
        self.move.rollback.assert_called_once_with()

    def test_between_the_stages(self):
        """libvirt's call is not made any more."""
        self.session.run_storage()
        self.session.abort('enough')
        with self.assertRaises(exception.Aborted), self.session.migrating():
            self.fail('the memory must not go')

    def test_while_the_memory_goes(self):
        self.session.run_storage()
        self.domain.left = 2
        with self.session.migrating():
            self.session.abort('enough')
            self.session._aborter.join(0.05)
            self.assertTrue(self.session._aborter.is_alive())
        self.session._aborter.join(10)
        self.assertFalse(self.session._aborter.is_alive())
        self.assertGreaterEqual(self.domain.asked, 1)

    def test_twice_starts_one_thread(self):
        self.session.run_storage()
        with self.session.migrating():
            self.session.abort('enough')
            first = self.session._aborter
            self.session.abort('enough')
            self.assertIs(first, self.session._aborter)

    def test_after_the_end(self):
        self.session.run_storage()
        self.session.complete()
        self.session.abort('too late')
        self.assertIsNone(self.session._aborter)
        self.assertEqual(0, self.domain.asked)


class TestWhere(SessionTestCase):
    def test_here(self):
        self.assertEqual('source', self.session.guest_is_at())
        self.move.move.destination.state.assert_not_called()

    def test_there(self):
        for here in (State.ABSENT, State.SHUTOFF):
            self.domain.now = here
            self.move.move.destination.state.return_value = State.RUNNING
            self.assertEqual('destination', self.session.guest_is_at())

    def test_nowhere(self):
        self.domain.now = State.SHUTOFF
        with self.assertRaisesRegex(exception.NeedsOperator, 'shutoff'):
            self.session.guest_is_at()

    def test_one_that_does_not_answer_is_asked_again(self):
        self.domain.now = State.ABSENT
        self.move.move.destination.state.side_effect = [
            exception.PeerUnreachable('busy'),
            State.INCOMING,
            State.RUNNING,
        ]
        self.assertEqual('destination', self.session.guest_is_at())

    def test_one_that_never_answers(self):
        self.domain.now = State.ABSENT
        self.move.move.destination.state.side_effect = (
            exception.PeerUnreachable('gone')
        )
        with self.assertRaisesRegex(exception.NeedsOperator, 'gone'):
            self.session.guest_is_at()


class TestEnd(SessionTestCase):
    def test_only_one_of_both_ends(self):
        self.session.run_storage()
        self.session.complete()
        self.session.rollback()
        self.move.complete.assert_called_once_with(keep_record=True)
        self.move.rollback.assert_not_called()

    def test_a_storage_stage_that_failed_is_undone_already(self):
        self.move.run.side_effect = exception.CopyFailed('full')
        with self.assertRaises(exception.CopyFailed):
            self.session.run_storage()
        self.session.rollback()
        self.move.rollback.assert_not_called()

    def test_nothing_is_decided_while_the_memory_goes(self):
        self.session.run_storage()
        self.domain.left = 2
        self.session.stop_memory()
        self.assertEqual(2, self.domain.asked)

    def test_nothing_is_decided_if_it_does_not_end(self):
        self.session.run_storage()
        self.domain.left = None
        with self.assertRaises(exception.NeedsOperator):
            self.session.stop_memory()

    def test_what_libvirt_said_is_kept(self):
        error = fakes.libvirt_error(1, text='no route')
        with self.assertRaises(type(error)), self.session.migrating():
            raise error
        self.assertIs(error, self.session.memory_error)


class TestForce(SessionTestCase):
    def test_in_the_storage_stage(self):
        self.session.force_complete()
        self.assertTrue(self.session.forced)
        self.assertTrue(self.move.move.control.hurried)


class TestConcurrency(SessionTestCase):
    def test_an_abort_at_any_moment_is_never_lost(self):
        """Wherever it falls, the memory does not go on to its end."""
        for _ in range(50):
            self.setUp()
            self.domain.left = 1
            aborter = threading.Thread(
                target=self.session.abort, args=('enough',)
            )
            aborter.start()
            try:
                self.session.run_storage()
                with self.session.migrating():
                    while self.domain.left:
                        aborter.join(0.001)
            except exception.Aborted:
                pass
            aborter.join()
            self.assertTrue(self.session.aborted)
