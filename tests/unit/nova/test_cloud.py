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
import types
import unittest
from unittest import mock

from nova import exception as nova_exception
from nova import objects

from sxm_openstack import exception
from sxm_openstack.engine import ports
from sxm_openstack.nova import cloud

from tests.unit.nova import fakes


class TestCloud(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.get = self.patch(objects.Instance, 'get_by_uuid')
        self.get.return_value = types.SimpleNamespace(
            task_state='migrating', host='here'
        )
        self.connect = self.patch(cloud.peer, 'connect')
        self.prepare = mock.Mock()
        self.cloud = cloud.NovaCloud(self.prepare, answer_within_s=10.0)

    def patch(self, where, name):
        patcher = mock.patch.object(where, name)
        self.addCleanup(patcher.stop)
        return patcher.start()

    def test_moving(self):
        self.assertTrue(self.cloud.is_moving(fakes.SERVER))
        self.get.return_value.task_state = None
        self.assertFalse(self.cloud.is_moving(fakes.SERVER))
        self.prepare.assert_called_once_with()

    def test_deleted(self):
        self.get.side_effect = nova_exception.InstanceNotFound(
            instance_id=fakes.SERVER
        )
        self.assertFalse(self.cloud.is_moving(fakes.SERVER))
        self.assertEqual('', self.cloud.host_of(fakes.SERVER))
        self.assertIs(
            ports.DomainState.ABSENT, self.cloud.peer_state(fakes.record())
        )
        self.connect.assert_not_called()

    def test_host(self):
        self.assertEqual('here', self.cloud.host_of(fakes.SERVER))

    def test_the_other_host(self):
        self.connect.return_value.state.return_value = 'running'
        self.assertEqual('running', self.cloud.peer_state(fakes.record()))
        self.assertEqual('there', self.connect.call_args.args[-1])

    def test_what_the_other_host_refuses_with(self):
        self.connect.return_value.state.side_effect = (
            exception.PeerUnreachable('no route')
        )
        with self.assertRaisesRegex(exception.PeerUnreachable, 'no route'):
            self.cloud.peer_state(fakes.record())

    def test_an_error_says_nothing(self):
        self.get.side_effect = RuntimeError('bus\nand its traceback')
        with self.assertRaisesRegex(
            exception.Retryable, 'asked about server .*RuntimeError: bus'
        ) as caught:
            self.cloud.is_moving(fakes.SERVER)
        self.assertNotIn('traceback', str(caught.exception))
        self.assertIn('--assume-ended', str(caught.exception))

    def test_silence_says_nothing(self):
        may_end = threading.Event()
        self.addCleanup(may_end.set)
        self.get.side_effect = lambda *_: may_end.wait(30)
        quick = cloud.NovaCloud(self.prepare, answer_within_s=0.05)
        with self.assertRaisesRegex(exception.Retryable, 'no answer'):
            quick.is_moving(fakes.SERVER)
