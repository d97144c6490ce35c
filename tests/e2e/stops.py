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

"""A server that is being moved, for tests that disturb the move."""

from __future__ import annotations

from tests.e2e import base
from tests.e2e import cloud as cloud_mod


class StopCase(base.CloudTestCase):
    """One server; each test begins where the one before has left it."""

    server: cloud_mod.Server

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = cls.cloud.boot('stops', 'compute1')
        cls.addClassCleanup(cls.server.delete)

    def setUp(self) -> None:
        super().setUp()
        self.rest(self.server)
        self.source = self.server.host
        self.there = cloud_mod.other_host(self.source)
        guest = self.server.guest
        guest.write('vda', 'uniform', 4096, 1 << 20, span=64 << 20)
        guest.write('vdb', 'sequential', 65536, 4 << 20, span=128 << 20)
        # So that there is something to copy.
        self.cloud.wait(
            'something written',
            lambda: guest.report().by_disk['vdb'].acked_bytes > 96 << 20,
            240,
        )

    def begin(self, rate: str, stage: str) -> int:
        """A move that is in a stage and stays in it for a while."""
        self.link(rate)
        number = self.server.migrate(self.there)
        self.server.wait_stage(stage)
        return number

    def request(
        self, number: int, method: str, rest_of_path: str = ''
    ) -> None:
        self.cloud.api.call(
            method,
            'compute',
            f'/servers/{self.server.uuid}/migrations/{number}{rest_of_path}',
            {'force_complete': None} if method == 'POST' else None,
        )

    def assert_stayed(self, status: str) -> None:
        """The guest runs on the source as if nothing had been."""
        self.link('off')
        self.assertEqual(status, self.server.wait_end()['status'])
        self.assertEqual('ACTIVE', self.server.show()['status'])
        self.assert_at(self.server, self.source)
        self.assert_verified(self.server)

    def assert_named(self, stage: str, *words: str) -> None:
        """The event of the stage that failed says why."""
        (failed,) = [
            one
            for one in self.server.stages()
            if one.name.startswith('sxm_') and one.result == 'Error'
        ]
        self.assertTrue(failed.name.startswith(stage), failed)
        for word in words:
            self.assertIn(word, failed.details)
