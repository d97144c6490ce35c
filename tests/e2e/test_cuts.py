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

"""Moves that are cut short, and what is left of them: nothing."""

from __future__ import annotations

import time

from tests.e2e import rest
from tests.e2e import stops


class TestCuts(stops.StopCase):
    """Things that happen to a host, a link or a server meanwhile."""

    def test_the_link_dies(self) -> None:
        """Trap 4: no ERROR, nothing left there, and the reason is named."""
        here = self.cloud.compute(self.source)
        with here.running_with({'sxm': {'link_timeout': '5'}}):
            self.begin('20mbps', 'sxm_disk_vdb')
            began = time.monotonic()
            self.link('cut')
            self.assertEqual('failed', self.server.wait_end()['status'])
        stats = self.cloud.collector.window(self.server.address, began)
        self.assertLess(stats.worst_write_latency_s, 20)
        self.assert_named('sxm_disk_vdb', 'link', self.source)
        self.assert_stayed('failed')

    def test_the_link_dies_and_comes_back(self) -> None:
        """The guest writes on, and then the move goes on."""
        here = self.cloud.compute(self.source)
        since = len(here.log)
        self.begin('20mbps', 'sxm_disk_vdb')
        began = time.monotonic()
        self.link('cut')
        self.cloud.wait(
            'loss of the link',
            lambda: 'sxm phase link-lost' in here.log[since:],
            60,
        )
        stats = self.cloud.collector.window(self.server.address, began)
        self.assertLess(stats.worst_write_latency_s, 20)
        self.link('20mbps')
        self.assertEqual('completed', self.server.wait_end()['status'])
        self.assertIn('sxm phase link-back', here.log[since:])
        self.assert_at(self.server, self.there)
        self.assert_verified(self.server)

    def test_nova_compute_is_killed_on_the_source(self) -> None:
        """Trap 1: the overlays are folded before Nova touches the server."""
        server = self.server
        self.begin('20mbps', 'sxm_disk_vdb')
        compute = self.cloud.compute(self.source)
        compute.kill()
        tops = server.tops(self.source)
        self.assertTrue(tops['vda'].endswith('.sxm-overlay'), tops)
        with self.assertRaises(rest.ApiError) as refused:
            server.act('reboot', {'type': 'HARD'})
        self.assertEqual(409, refused.exception.status)
        since = len(compute.log)
        compute.start()
        log = compute.log[since:]
        self.assertLess(
            log.index(f'Disks of server {server.uuid} are flat'),
            log.index('Instance found in migrating state during startup'),
        )
        self.assert_stayed('error')
        with self.subTest('it starts on all that was written'):
            self._reboot_hard()
            self.assert_verified(server)
        with self.subTest('it can be moved'):
            server.migrate(self.there)
            self.assertEqual('completed', server.wait_end()['status'])
            self.assert_at(server, self.there)
            self.assert_verified(server)

    def test_nova_compute_is_killed_after_the_switch(self) -> None:
        """There is only the way forward, and the next start goes it."""
        server = self.server
        self.begin('40mbps', 'sxm_memory')
        compute = self.cloud.compute(self.source)
        since = len(compute.log)
        self.link('off')
        self.cloud.wait(
            'the switch',
            lambda: 'sxm phase arrived' in compute.log[since:],
            120,
        )
        compute.kill()
        self.assertEqual(self.source, server.host)
        compute.start()
        self.assertEqual('completed', server.wait_end()['status'])
        self.assert_at(server, self.there)
        self.assert_verified(server)
        with self.subTest('and it comes back'):
            server.migrate(self.source)
            self.assertEqual('completed', server.wait_end()['status'])
            self.assert_at(server, self.source)

    def test_nova_compute_is_restarted_on_the_destination(self) -> None:
        """What serves the disks outlives it."""
        self.begin('20mbps', 'sxm_disk_vdb')
        compute = self.cloud.compute(self.there)
        compute.kill()
        compute.start()
        self.link('off')
        self.assertEqual('completed', self.server.wait_end()['status'])
        self.assert_at(self.server, self.there)
        self.assert_verified(self.server)

    def _reboot_hard(self) -> None:
        server, guest = self.server, self.server.guest
        guest.stop(timeout_s=120)
        known = guest.save()
        before = guest.ping().boot_id
        server.act('reboot', {'type': 'HARD'})
        self.cloud.wait(
            'the reboot', lambda: guest.ping(60).boot_id != before, 300
        )
        guest.load(known)
