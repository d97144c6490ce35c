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

"""Other ways than ours: when they are taken, and when a move is refused."""

from __future__ import annotations

from tests.e2e import base
from tests.e2e import cloud as cloud_mod


class TestWays(base.CloudTestCase):
    """A server with a root disk and a config drive."""

    server: cloud_mod.Server

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = cls.cloud.boot('ways', 'compute1', flavor='lab')
        cls.addClassCleanup(cls.server.delete)

    def setUp(self) -> None:
        super().setUp()
        self.rest(self.server)
        self.source = self.server.host
        self.there = cloud_mod.other_host(self.source)
        self.server.guest.write('vda', 'uniform', 4096, 1 << 20, span=48 << 20)

    def go(self, host: str) -> None:
        self.server.migrate(host)
        self.assertEqual('completed', self.server.wait_end()['status'])
        self.assertEqual(host, self.server.host)

    def assert_refused(
        self, server: cloud_mod.Server, host: str, *words: str
    ) -> None:
        """Nothing was changed, and an event says why."""
        source = server.host
        server.migrate(host)
        self.assertEqual('error', server.wait_end()['status'])
        self.assertEqual('ACTIVE', server.show()['status'])
        self.assert_at(server, source)
        details = ' '.join(one.details for one in server.stages())
        for word in words:
            self.assertIn(word, details)
        self.assertFalse(
            [one for one in server.stages() if one.name.startswith('sxm_')]
        )

    def went_by_us(self) -> bool:
        return any(one.name == 'sxm_hand_over' for one in self.server.stages())

    def test_neighbours_with_novas_own_driver(self) -> None:
        here = self.cloud.compute(self.source)
        with self.cloud.compute(self.there).running_stock():
            with self.subTest('from us to them: refused'):
                self.assert_refused(
                    self.server, self.there, 'does not run', 'fallback'
                )
            with (
                self.subTest('from us to them: where that is allowed'),
                here.running_with({'sxm': {'fallback': 'nova'}}),
            ):
                self.go(self.there)
                self.assertFalse(self.went_by_us())
                self.assertIn("Nova's own block migration", here.log)
            with self.subTest('from them to us'):
                self.go(self.source)
                self.assertFalse(self.went_by_us())
                self.assert_at(self.server, self.source)
        with self.subTest('and by us again'):
            self.go(self.there)
            self.assertTrue(self.went_by_us())
        self.assert_verified(self.server)

    def test_directly(self) -> None:
        here = self.cloud.compute(self.source)
        other = self.cloud.boot('refused', self.source)
        self.addCleanup(other.delete)
        with here.running_with({'sxm': {'mirror_driver': 'direct'}}):
            with self.subTest('a disk that cannot go like that'):
                self.assert_refused(
                    other, self.there, 'No mirror driver takes', 'direct:'
                )
            with self.subTest('a server that can'):
                self.go(self.there)
                names = [one.name for one in self.server.stages()]
                self.assertNotIn('sxm_disk_vda', names)
                self.assertIn('sxm_memory', names)
                self.assert_at(self.server, self.there)
                self.assert_verified(self.server)

    def test_a_storage_stage_that_takes_too_long(self) -> None:
        guest = self.server.guest
        guest.write('vda', 'sequential', 65536, start=128 << 20, span=96 << 20)
        self.cloud.wait(
            'something written',
            lambda: guest.report().by_disk['vda'].acked_bytes > 96 << 20,
            240,
        )
        here = self.cloud.compute(self.source)
        with here.running_with({'sxm': {'storage_timeout': '4'}}):
            self.link('5mbps')
            self.server.migrate(self.there)
            self.assertEqual('failed', self.server.wait_end()['status'])
            self.link('off')
        (failed,) = [
            one for one in self.server.stages() if one.result == 'Error'
        ]
        self.assertEqual('sxm_disk_vda', failed.name)
        self.assertIn('storage_timeout', failed.details)
        self.assertEqual('ACTIVE', self.server.show()['status'])
        self.assert_at(self.server, self.source)
        self.assert_verified(self.server)
