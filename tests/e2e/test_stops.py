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

"""Moves that are ended, hurried, or cut short; the guest never notices."""

from __future__ import annotations

import time

from tests.e2e import base
from tests.e2e import cloud as cloud_mod
from tests.e2e import rest


class TestStops(base.CloudTestCase):
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

    def test_abort_while_disks_are_copied(self) -> None:
        number = self.begin('20mbps', 'sxm_disk_vdb')
        self.request(number, 'DELETE')
        self.assert_stayed('cancelled')
        self.assert_named('sxm_disk_vdb', 'aborted')

    def test_abort_while_memory_goes(self) -> None:
        number = self.begin('40mbps', 'sxm_hand_over')
        self.link('5mbps')
        self.server.wait_stage('sxm_memory')
        time.sleep(3)
        self.request(number, 'DELETE')
        self.assert_stayed('cancelled')
        self.assert_named('sxm_memory', 'aborted')

    def test_force_complete_while_disks_are_copied(self) -> None:
        number = self.begin('40mbps', 'sxm_disk_vd')
        self.request(number, 'POST', '/action')
        self.assertEqual('completed', self.server.wait_end()['status'])
        self.assertEqual('ACTIVE', self.server.show()['status'])
        self.assert_at(self.server, self.there)
        self.assert_verified(self.server)

    def test_force_complete_while_memory_goes(self) -> None:
        number = self.begin('40mbps', 'sxm_hand_over')
        self.link('10mbps')
        self.server.wait_stage('sxm_memory')
        self.request(number, 'POST', '/action')
        self.assertEqual('completed', self.server.wait_end()['status'])
        self.assertEqual('ACTIVE', self.server.show()['status'])
        self.assert_at(self.server, self.there)
        self.assert_verified(self.server)

    def test_the_link_dies(self) -> None:
        """Trap 4: no ERROR, nothing left there, and the reason is named."""
        self.begin('20mbps', 'sxm_disk_vdb')
        began = time.monotonic()
        self.link('cut')
        self.assertEqual('failed', self.server.wait_end()['status'])
        stats = self.cloud.collector.window(self.server.address, began)
        self.assertLess(stats.worst_write_latency_s, 20)
        self.assert_named('sxm_disk_vdb', 'link', self.source)
        self.assert_stayed('failed')

    def test_delete_while_disks_are_copied(self) -> None:
        other = self.cloud.boot('deleted', self.source)
        self.addCleanup(other.delete)
        other.guest.write('vdb', 'sequential', 65536, span=64 << 20)
        self.cloud.wait(
            'something written',
            lambda: other.guest.report().by_disk['vdb'].acked_bytes > 48 << 20,
            240,
        )
        self.link('5mbps')
        other.migrate(self.there)
        other.wait_stage('sxm_disk_vdb')
        other.delete()
        for host in (self.source, self.there):
            self.cloud.wait(
                f'end of what {host} had of it',
                lambda host=host: (
                    not other.files(host) and not other.domain_xml(host)
                ),
                240,
            )
            self.assert_no_traces(other, host)

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
