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

"""A server of the lab's cloud, its disks on the hosts, and its guest."""

from __future__ import annotations

import collections.abc
import concurrent.futures
import contextlib
import dataclasses
import json
import time
import typing

from sxm_openstack.hypervisor import xml

from tests.e2e import compute as compute_mod
from tests.e2e import rest
from tests.lab import collector as collector_mod
from tests.lab import lab as lab_mod
from tests.lab import paths
from tests.lab.guest import control

INSTANCES = '/var/lib/nova/instances'
CELL_HOSTS = ('compute1', 'compute2')
ENDED = ('completed', 'failed', 'error', 'cancelled')

Json = dict[str, typing.Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """An event of a server's action, as Nova's API gives it."""

    name: str
    result: str | None
    details: str
    host: str


class Server:
    """One server, and whoever listens to it.

    :param name: also of its guest.
    """

    def __init__(self, cloud: Cloud, uuid: str, address: str) -> None:
        self.cloud = cloud
        self.uuid = uuid
        self.address = address
        self.guest: control.GuestControl = cloud.collector.guest(address)

    # -- what Nova says ---------------------------------------------------

    def show(self) -> Json:
        found: Json = self.cloud.api.get('compute', f'/servers/{self.uuid}')
        return found['server']

    @property
    def host(self) -> str:
        return str(self.show()['OS-EXT-SRV-ATTR:host'])

    @property
    def other_host(self) -> str:
        return other_host(self.host)

    def act(self, name: str, arguments: Json | None = None) -> None:
        """One of the server's actions, ``os-migrateLive`` for example."""
        path = f'/servers/{self.uuid}/action'
        self.cloud.api.call('POST', 'compute', path, {name: arguments})

    def migration(self) -> Json:
        """The newest migration, also one that has ended."""
        found = self.cloud.api.get(
            'compute', f'/os-migrations?instance_uuid={self.uuid}'
        )['migrations']
        return max(found, key=lambda one: one['id']) if found else {}

    def moving(self) -> Json:
        """What is shown of a migration while it is under way; else empty."""
        found = self.cloud.api.get(
            'compute', f'/servers/{self.uuid}/migrations'
        )['migrations']
        return found[0] if found else {}

    def stages(self) -> list[Stage]:
        """Events of the newest migration's action, oldest first."""
        path = f'/servers/{self.uuid}/os-instance-actions'
        actions = self.cloud.api.get('compute', path)['instanceActions']
        newest = next(a for a in actions if a['action'] == 'live-migration')
        shown = self.cloud.api.get(
            'compute', f'{path}/{newest["request_id"]}'
        )['instanceAction']['events']
        return [
            Stage(
                event['event'],
                event['result'],
                event.get('details') or '',
                event.get('host') or '',
            )
            for event in reversed(shown)
        ]

    # -- moving -----------------------------------------------------------

    def migrate(self, host: str | None) -> int:
        """Ask for a live migration with block migration; its number."""
        before = self.migration().get('id', 0)
        self.act('os-migrateLive', {'host': host, 'block_migration': True})
        return self.cloud.wait(
            'the migration to be known',
            lambda: next(
                (
                    number
                    for number in [self.migration().get('id', 0)]
                    if number > before
                ),
                0,
            ),
        )

    def wait_end(self, timeout_s: float = 900.0) -> Json:
        """Wait for the end of the newest migration; its record.

        The server has no task any more either.
        """
        self.cloud.wait(
            'the end of the migration',
            lambda: (
                self.migration()['status'] in ENDED
                and self.show()['OS-EXT-STS:task_state'] is None
            ),
            timeout_s,
            every_s=0.5,
        )
        return self.migration()

    def wait_stage(self, name: str, timeout_s: float = 600.0) -> None:
        """Wait until a stage has begun.

        :param name: or the beginning of it, ``sxm_disk``.
        """

        def begun() -> bool:
            status = self.migration()['status']
            if status in ENDED:
                raise AssertionError(
                    f'the migration is {status} before {name}: {self.stages()}'
                )
            return any(one.name.startswith(name) for one in self.stages())

        self.cloud.wait(f'stage {name}', begun, timeout_s, every_s=0.2)

    # -- disks ------------------------------------------------------------

    def files(self, host: str) -> dict[str, int]:
        """Name and size of what the server has on a host."""
        directory = self.cloud.lab.host(host).root / (
            f'{INSTANCES}/{self.uuid}'.lstrip('/')
        )
        if not directory.is_dir():
            return {}
        return {file.name: file.stat().st_size for file in directory.iterdir()}

    def image(self, host: str, name: str) -> Json:
        """``qemu-img info`` of one of its files."""
        path = f'{INSTANCES}/{self.uuid}/{name}'
        text = self.cloud.lab.host(host).run(
            ['qemu-img', 'info', '-U', '--output=json', path]
        )
        found: Json = json.loads(text.stdout)
        return found

    def digest(self, host: str, name: str) -> str:
        """SHA-256 of one of its files."""
        done = self.cloud.lab.host(host).run(
            ['sha256sum', f'{INSTANCES}/{self.uuid}/{name}'], timeout=300
        )
        return done.stdout.split()[0]

    def domain_xml(self, host: str, *flags: str) -> str:
        """Its domain on a host; empty if there is none."""
        done = self.cloud.lab.host(host).run(
            ['virsh', 'dumpxml', self.uuid, *flags], check=False
        )
        return done.stdout if done.returncode == 0 else ''

    def tops(self, host: str, *flags: str) -> dict[str, str]:
        """File on top of each disk's chain, by target, as libvirt has it."""
        found = xml.disks(self.domain_xml(host, *flags) or '<domain/>')
        return {disk.target: disk.source or '' for disk in found}

    def ordinary(self) -> dict[str, str]:
        """The file of each disk when nothing is on top of it."""
        directory = f'{INSTANCES}/{self.uuid}'
        return {
            'vda': f'{directory}/disk',
            'vdb': f'{directory}/disk.eph0',
            'vdc': f'{directory}/disk.swap',
            'hda': f'{directory}/disk.config',
        }

    def attach_volume(self, volume_type: str) -> str:
        """A new volume of 1 GiB; its UUID."""
        volume = self.cloud.api.call(
            'POST',
            'volume',
            '/volumes',
            {'volume': {'size': 1, 'volume_type': volume_type}},
        )['volume']['id']
        path = f'/volumes/{volume}'

        def status() -> str:
            found = self.cloud.api.get('volume', path)
            return str(found['volume']['status'])

        self.cloud.wait('the volume', lambda: status() == 'available')
        self.cloud.api.call(
            'POST',
            'compute',
            f'/servers/{self.uuid}/os-volume_attachments',
            {'volumeAttachment': {'volumeId': volume}},
        )
        self.cloud.wait('the attachment', lambda: status() == 'in-use')
        return str(volume)

    def delete(self) -> None:
        with contextlib.suppress(rest.ApiError):
            self.cloud.api.call('DELETE', 'compute', f'/servers/{self.uuid}')
        self.cloud.wait('the server to be gone', self._gone)

    def _gone(self) -> bool:
        try:
            self.show()
        except rest.ApiError as error:
            if error.status != 404:
                raise
            return True
        return False


class Cloud:
    """A running lab with OpenStack.

    :param lab: whose ``up`` was done.
    """

    def __init__(self, lab: lab_mod.Lab) -> None:
        self.lab = lab
        ctl = lab.host(paths.CTL)
        self.api = rest.Api(ctl)
        self.collector = collector_mod.Collector(ctl.pid)

    def close(self) -> None:
        self.collector.close()

    def boot(
        self,
        name: str,
        host: str,
        flavor: str = 'lab-eph',
        image: str = 'lab',
        timeout_s: float = 420.0,
    ) -> Server:
        """A server whose guest answers."""
        self.compute(host).wait_known()
        body: Json = {
            'name': name,
            'host': host,
            'flavorRef': self._find('compute', 'flavors', flavor),
            'imageRef': self._find('image', 'images', image),
            'networks': [{'uuid': self._network()}],
            'config_drive': True,
        }
        uuid = self.api.call('POST', 'compute', '/servers', {'server': body})[
            'server'
        ]['id']
        shown: Json = {}

        def built() -> bool:
            nonlocal shown
            shown = self.api.get('compute', f'/servers/{uuid}')['server']
            if shown['status'] == 'ERROR':
                raise AssertionError(f'{name}: {shown.get("fault")}')
            return bool(shown['status'] == 'ACTIVE')

        self.wait(f'server {name} to be built', built, timeout_s, 0.5)
        (addresses,) = shown['addresses'].values()
        server = Server(self, uuid, addresses[0]['addr'])
        server.guest.wait_ready(timeout_s)
        return server

    def compute(self, host: str) -> compute_mod.Compute:
        """The nova-compute of a host."""
        return compute_mod.Compute(self.lab.host(host), self.api)

    def running_with(
        self, stack: contextlib.ExitStack, options: compute_mod.Options
    ) -> None:
        """Both computes of the cell, restarted with other options.

        :param stack: takes them back at its end.
        """
        computes = [self.compute(host) for host in CELL_HOSTS]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for future in [
                pool.submit(stack.enter_context, compute.running_with(options))
                for compute in computes
            ]:
                future.result()

    @staticmethod
    def wait(
        what: str,
        test: collections.abc.Callable[[], typing.Any],
        timeout_s: float = 180.0,
        every_s: float = 0.3,
    ) -> typing.Any:
        """Ask until the answer is true, and give it.

        :raises AssertionError: it was not in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            answer = test()
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise AssertionError(f'no {what} within {timeout_s:.0f} s')
            time.sleep(every_s)

    def _find(self, service: str, kind: str, name: str) -> str:
        found = self.api.get(service, f'/{kind}')[kind]
        return next(str(one['id']) for one in found if one['name'] == name)

    def _network(self) -> str:
        found = self.api.get('network', '/networks?name=lab')['networks']
        return str(found[0]['id'])


def other_host(host: str) -> str:
    """The other compute host of the same cell."""
    return next(one for one in CELL_HOSTS if one != host)
