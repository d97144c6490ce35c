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

"""Volumes that no server uses change their tier, and nothing is lost."""

from __future__ import annotations

from tests.e2e import base
from tests.e2e import volumes

MIB = 1 << 20


class TestVolumeNotInUse(base.CloudTestCase):
    """Volumes that no server has."""

    def make(self, volume_type: str) -> volumes.Volume:
        volume = volumes.create(self.cloud, volume_type)
        self.addCleanup(volume.delete)
        for seek, count in ((0, 40), (700, 3)):
            volume.ctl.run(
                ['dd', 'if=/dev/urandom', f'of={volume.path()}', 'bs=1M',
                 f'seek={seek}', f'count={count}', 'conv=notrunc']
            )  # fmt: skip
        return volume

    def wait_one_file(self, volume: volumes.Volume, tier: str) -> None:
        self.cloud.wait(
            'the old file to be deleted',
            lambda: list(volume.files()) == [tier],
        )

    def test_thick_to_thin_and_back(self) -> None:
        volume = self.make('nfsb')
        digest = volume.digest()
        for tier in ('nfsa', 'nfsb'):
            volume.retype(tier)
            volume.wait_retyped(tier)
            self.wait_one_file(volume, tier)
            self.assertEqual(digest, volume.digest())
            if tier == 'nfsa':
                self.assertLess(volume.allocated_bytes(), 64 * MIB)
            else:
                self.assertGreaterEqual(volume.allocated_bytes(), 1 << 30)

    def test_killed_cinder_volume_goes_on(self) -> None:
        volume = self.make('nfsa')
        digest = volume.digest()
        configuration = volume.ctl.root / 'etc/lab/cinder.conf'
        before = configuration.read_text()
        self.addCleanup(volumes.restart_cinder, self.cloud)
        self.addCleanup(configuration.write_text, before)
        configuration.write_text(
            f'{before}\n[sxm_volume]\nmax_rate_mib_per_s = 4\n'
        )
        volumes.restart_cinder(self.cloud)
        volume.retype('nfsb')
        state = volume.ctl.root / 'var/lib/cinder/sxm'
        self.cloud.wait(
            'a mark of the copy',
            lambda: list(state.glob(f'*/{volume.uuid}.json')),
        )
        volumes.restart_cinder(self.cloud)
        volume.wait_retyped('nfsb')
        self.wait_one_file(volume, 'nfsb')
        self.assertEqual(digest, volume.digest())
        log = (volume.ctl.log_dir / f'{volumes.NAME}.log').read_text()
        self.assertIn(f'The copy of volume {volume.uuid} goes on at', log)
