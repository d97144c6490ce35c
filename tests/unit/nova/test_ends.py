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
from unittest import mock

from sxm_openstack import exception
from sxm_openstack.nova import ends as sxm_ends

from tests.unit.nova import fakes

_WHAT = ('context', 'instance', 'there', 'data')


class TestEnds(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.session = mock.Mock(aborted=False, memory_error=None)
        self.session.guest_is_at.return_value = 'source'
        self.stages = mock.Mock()
        self.nova = mock.Mock()
        self.ends = sxm_ends.Ends(
            self.session, self.stages, self.nova.post, self.nova.recover
        )

    def assert_recovered(self, status):
        self.nova.recover.assert_called_once_with(
            *_WHAT, migration_status=status
        )
        self.nova.post.assert_not_called()
        self.assertTrue(self.ends.reached)

    def test_completed(self):
        self.ends.completed('context', 'instance', 'there', True, 'data')
        self.session.complete.assert_called_once_with()
        self.nova.post.assert_called_once_with(
            'context', 'instance', 'there', True, 'data'
        )

    def test_nova_learns_of_success_whatever_happens_here(self):
        self.session.complete.side_effect = OSError('disk full')
        self.ends.completed(*_WHAT)
        self.nova.post.assert_called_once_with(*_WHAT)

    def test_failed(self):
        self.session.memory_error = RuntimeError('no route')
        self.ends.failed(*_WHAT)
        order = [call[0] for call in self.session.method_calls]
        self.assertEqual(['stop_memory', 'guest_is_at', 'rollback'], order)
        self.assert_recovered('failed')
        (error,) = self.stages.end.call_args.args
        self.assertIn('no route', str(error))

    def test_aborted(self):
        self.session.aborted = True
        self.ends.failed(*_WHAT)
        self.assert_recovered('cancelled')

    def test_a_failed_call_is_no_verdict(self):
        """Trap 9: the guest has arrived, so nothing is undone."""
        self.session.guest_is_at.return_value = 'destination'
        self.ends.failed(*_WHAT)
        self.session.rollback.assert_not_called()
        self.session.complete.assert_called_once_with()
        self.nova.recover.assert_not_called()
        self.nova.post.assert_called_once_with(
            'context', 'instance', 'there', True, 'data'
        )

    def test_nothing_is_undone_while_memory_still_goes(self):
        self.session.stop_memory.side_effect = exception.NeedsOperator('on')
        self.ends.failed(*_WHAT)
        self.session.rollback.assert_not_called()
        self.assert_recovered('failed')

    def test_what_is_left_is_said(self):
        self.session.rollback.side_effect = exception.NeedsOperator('vda')
        self.ends.failed(*_WHAT)
        self.assert_recovered('failed')
        (error,) = self.stages.end.call_args.args
        self.assertIn('vda', str(error))

    def test_nova_has_to_know_of_its_own_failures(self):
        self.nova.recover.side_effect = RuntimeError('no database')
        with self.assertRaises(RuntimeError):
            self.ends.failed(*_WHAT)
        self.assertTrue(self.ends.nova_failed)

    def test_success_is_not_undone_when_nova_fails_after_it(self):
        self.session.guest_is_at.return_value = 'destination'
        self.nova.post.side_effect = fakes.libvirt_error(1)
        with self.assertRaises(Exception):  # noqa: B017,H202
            self.ends.failed(*_WHAT)
        self.nova.recover.assert_not_called()
        self.assertTrue(self.ends.nova_failed)
