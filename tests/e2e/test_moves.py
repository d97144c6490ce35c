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

"""A server that writes to all its disks goes to the other host and back."""

from __future__ import annotations

import itertools
import re
import time

from tests.e2e import base
from tests.e2e import cloud as cloud_mod

_BYTES = ('disk_total_bytes', 'disk_processed_bytes', 'disk_remaining_bytes')


class TestMoves(base.CloudTestCase):
    """One server with root, ephemeral and swap disk, config drive, volume."""

    server: cloud_mod.Server
    volume: str

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = cls.cloud.boot('moves', 'compute1')
        cls.addClassCleanup(cls.server.delete)
        cls.volume = cls.server.attach_volume('nfsa')

    def setUp(self) -> None:
        super().setUp()
        self.rest(self.server)

    def write_everywhere(self) -> None:
        guest = self.server.guest
        guest.write('vda', 'uniform', 4096, 2 << 20, span=48 << 20)
        guest.write('vdb', 'sequential', 65536, 2 << 20, span=64 << 20)
        guest.write('vdc', 'hot', 512, 1 << 18, span=4 << 20)
        guest.write('vdd', 'uniform', 16384, 1 << 20, span=16 << 20)

    def test_forth_and_back(self) -> None:
        server, source = self.server, self.server.host
        there = cloud_mod.other_host(source)
        drive = server.digest(source, 'disk.config')
        seen_before = server.guest.config_drive_digest()
        bases = self._backing(source)
        self.write_everywhere()

        self.link('40mbps')
        number = server.migrate(there)
        shown = self._watch(number)
        self.assertEqual('completed', server.wait_end()['status'])
        self._check_progress(shown)
        self._check_stages(source, there)
        self._check_log(source)

        with self.subTest('and right back, wherever the scheduler likes'):
            server.migrate(None)
            self.assertEqual('completed', server.wait_end()['status'])
            self.assert_verified(server)
            self.assert_at(server, source)
        with self.subTest('Nova finds what it expects'):
            self.assertEqual(drive, server.digest(source, 'disk.config'))
            self.assertEqual(seen_before, server.guest.config_drive_digest())
            self.assertEqual(bases, self._backing(source))
            expected = {'disk', 'disk.eph0', 'disk.swap', 'disk.config'}
            self.assertEqual(
                expected | {'disk.info', 'console.log'},
                set(server.files(source)),
            )
        with self.subTest('the volume stayed where it was'):
            (volume,) = self.cloud.api.get(
                'compute', f'/servers/{server.uuid}/os-volume_attachments'
            )['volumeAttachments']
            self.assertEqual(self.volume, volume['volumeId'])

    def test_paused(self) -> None:
        server, source = self.server, self.server.host
        there = cloud_mod.other_host(source)
        self.write_everywhere()
        time.sleep(2)
        server.act('pause')
        self.cloud.wait(
            'the pause', lambda: server.show()['status'] == 'PAUSED'
        )
        server.migrate(there)
        self.assertEqual('completed', server.wait_end()['status'])
        self.assertEqual('PAUSED', server.show()['status'])
        self.assert_at(server, there)
        server.act('unpause')
        self.cloud.wait('the end', lambda: server.show()['status'] == 'ACTIVE')
        self.assert_verified(server)

    def test_a_check_that_fails(self) -> None:
        """Nothing is made anywhere, and the API says what to do."""
        server, source = self.server, self.server.host
        there = cloud_mod.other_host(source)
        host = self.cloud.lab.host(there)
        directory = f'{cloud_mod.INSTANCES}/{server.uuid}'
        host.run(['mkdir', '-p', directory])
        self.addCleanup(host.run, ['rmdir', directory], check=False)
        server.migrate(there)
        self.assertEqual('error', server.wait_end()['status'])
        details = ' '.join(stage.details for stage in server.stages())
        for part in ('leftovers: ', directory, there, 'sxm-manage cleanup'):
            self.assertIn(part, details)
        self.assertFalse(server.files(there))
        self.assertEqual('ACTIVE', server.show()['status'])
        self.assert_flat(server, source)

    # -- what was seen ----------------------------------------------------

    def _watch(self, number: int) -> list[cloud_mod.Json]:
        """What Nova shows of a migration from its beginning to its end."""
        shown = []
        while True:
            record = self.server.moving()
            if record:
                shown.append(record)
            if self.server.migration()['status'] in cloud_mod.ENDED:
                return shown
            self.assertEqual(number, self.server.migration()['id'])
            time.sleep(0.3)

    def _check_progress(self, shown: list[cloud_mod.Json]) -> None:
        running = [one for one in shown if one['status'] == 'running']
        known = [one for one in running if one['disk_total_bytes']]
        self.assertGreater(len(known), 5)
        for before, after in itertools.pairwise(known):
            self.assertLessEqual(
                before['disk_processed_bytes'], after['disk_processed_bytes']
            )
        in_between = [
            one
            for one in known
            if 0 < one['disk_processed_bytes'] < one['disk_total_bytes']
            and not one['memory_total_bytes']
        ]
        self.assertTrue(in_between, 'disk bytes did not move by themselves')
        self.assertTrue(
            [one for one in running if one['memory_total_bytes']],
            'no bytes of the memory were shown',
        )
        for one in known:
            total, done, left = (one[name] for name in _BYTES)
            self.assertEqual(total, done + left)

    def _check_stages(self, source: str, there: str) -> None:
        stages = self.server.stages()
        ours = [one for one in stages if one.name.startswith('sxm_')]
        self.assertEqual({'Success'}, {one.result for one in ours}, ours)
        names = [one.name for one in ours]
        self.assertEqual('sxm_prepare', names[0])
        self.assertEqual(
            {'sxm_disk_vda', 'sxm_disk_vdb', 'sxm_disk_vdc', 'sxm_disk_hda'},
            set(names[1:5]),
        )
        self.assertEqual(
            ['sxm_hand_over', 'sxm_memory', 'sxm_flatten'], names[5:]
        )
        self.assertEqual([source] * 7 + [there], [one.host for one in ours])

    def _check_log(self, source: str) -> None:
        """All disks went by snapshot, mirror and copy."""
        log = self.cloud.compute(source).log
        uuid = self.server.migration()['uuid']
        for disk in ('vda', 'vdb', 'vdc'):
            phases = re.findall(
                rf'sxm phase (\S+) disk {disk} migration {uuid}', log
            )
            self.assertEqual(
                ['preparing', 'mirroring', 'copying', 'mirrored'],
                phases[:4],
                f'phases of {disk}',
            )

    def _backing(self, host: str) -> dict[str, str | None]:
        return {
            name: self.server.image(host, name).get('full-backing-filename')
            for name in ('disk', 'disk.eph0', 'disk.swap')
        }
