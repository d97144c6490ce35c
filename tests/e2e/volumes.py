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

"""Cinder's volumes in the lab: what it says of them, and their files."""

from __future__ import annotations

import dataclasses
import typing

from tests.e2e import cloud as cloud_mod
from tests.lab import host as host_mod
from tests.lab import paths
from tests.lab import services

MOUNTS = '/var/lib/cinder/mnt'
EXPORTS = {'nfsa': '/srv/nfs-a', 'nfsb': '/srv/nfs-b'}
NAME = 'cinder-volume'


@dataclasses.dataclass(frozen=True, slots=True)
class Volume:
    """A volume of the lab."""

    cloud: cloud_mod.Cloud
    uuid: str

    @property
    def ctl(self) -> host_mod.Host:
        return self.cloud.lab.host(paths.CTL)

    def show(self) -> cloud_mod.Json:
        found: cloud_mod.Json = self.cloud.api.get(
            'volume', f'/volumes/{self.uuid}'
        )
        return found['volume']

    def act(self, name: str, arguments: cloud_mod.Json) -> None:
        self.cloud.api.call(
            'POST', 'volume', f'/volumes/{self.uuid}/action', {name: arguments}
        )

    def retype(self, volume_type: str) -> None:
        """Ask for another type, moving the data if that takes it."""
        self.act(
            'os-retype',
            {'new_type': volume_type, 'migration_policy': 'on-demand'},
        )

    def wait_retyped(self, volume_type: str, timeout_s: float = 240) -> None:
        """Until it has the type, and nothing is left to be done."""

        def done() -> bool:
            found = self.show()
            status = found['migration_status']
            # That of the migration before stays until this one has begun.
            if status == 'error' and found['status'] != 'retyping':
                raise AssertionError(f'the migration failed: {found}')
            return (
                status == 'success'
                and found['volume_type'] == volume_type
                and found['status'] in ('available', 'in-use')
            )

        self.cloud.wait(f'volume of type {volume_type}', done, timeout_s)

    def wait_status(self, *status: str, timeout_s: float = 180) -> None:
        self.cloud.wait(
            f'volume {" or ".join(status)}',
            lambda: self.show()['status'] in status,
            timeout_s,
        )

    def files(self) -> dict[str, str]:
        """Its file, by name of the tier; there may be one of each."""
        name = self.show()['os-vol-mig-status-attr:name_id'] or self.uuid
        return self.files_of(name)

    def files_of(self, name: str) -> dict[str, str]:
        found = {}
        for tier, directory in EXPORTS.items():
            path = f'{directory}/volume-{name}'
            if self.ctl.run(['test', '-e', path], check=False).returncode == 0:
                found[tier] = path
        return found

    def path(self) -> str:
        """The one file that it has."""
        (path,) = self.files().values()
        return path

    def digest(self) -> str:
        done = self.ctl.run(['sha256sum', self.path()], timeout=300)
        return done.stdout.split()[0]

    def allocated_bytes(self) -> int:
        done = self.ctl.run(['stat', '-c', '%b', self.path()])
        return int(done.stdout) * 512

    def delete(self) -> None:
        self.cloud.api.call('DELETE', 'volume', f'/volumes/{self.uuid}')


def create(cloud: cloud_mod.Cloud, volume_type: str) -> Volume:
    """A volume of 1 GiB."""
    made: typing.Any = cloud.api.call(
        'POST',
        'volume',
        '/volumes',
        {'volume': {'size': 1, 'volume_type': volume_type}},
    )
    volume = Volume(cloud, made['volume']['id'])
    volume.wait_status('available')
    return volume


def restart_cinder(cloud: cloud_mod.Cloud) -> None:
    """Kill cinder-volume with all its children, and start it again."""
    services.restart(cloud.lab.host(paths.CTL), NAME)
