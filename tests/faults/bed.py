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
"""The hosts and the one guest on which the cells run, one after another."""

from __future__ import annotations

import collections.abc
import contextlib
import subprocess
import time

from sxm_openstack import exception

from tests.functional import guests
from tests.functional import wire
from tests.functional import world as world_mod
from tests.lab import host as host_mod
from tests.lab import paths
from tests.lab import services

LIBVIRTD = 'libvirtd'
FILLED_BYTES = 16 << 20
"""Of the first disk, written once; what a move has to copy."""
_SPAN_BYTES = 8 << 20

PLAN = guests.Plan(
    4,
    (
        guests.Disk('vda', 'disk', size_mib=64, backed=True),
        guests.Disk('vdb', 'disk.eph0', 'raw', 32),
    ),
)
TROUBLE = (
    exception.SXMError,
    wire.RemoteError,
    paths.LabError,
    AssertionError,
    OSError,
    subprocess.SubprocessError,
)
"""What a disturbed host may raise when it is asked."""


class Bed:
    """Keeps a guest alive from cell to cell.

    :ivar boots: how often it had to be booted.
    """

    def __init__(self, world: world_mod.World) -> None:
        self.world = world
        self.plan = PLAN
        self.boots = 0
        self._guest: world_mod.Guest | None = None

    def host(self, name: str) -> host_mod.Host:
        return self.world.hosts[name]

    def heal(self) -> None:
        """Daemons, agents and link as they were; idempotent."""
        self.world.lab.link('off')
        for name, host in self.world.hosts.items():
            if services.pid_of(host, LIBVIRTD) is None:
                self.restart_libvirtd(name)
            if services.pid_of(host, world_mod.SERVICE) is None:
                self.world.restart_agent(name)

    def restart_libvirtd(self, name: str) -> None:
        host = self.host(name)
        services.restart(host, LIBVIRTD)
        services.wait_ready(
            host,
            LIBVIRTD,
            lambda: (
                not host.run(
                    ['virsh', 'uri'], check=False, timeout=20
                ).returncode
            ),
            timeout_s=60,
        )

    def guest(self) -> world_mod.Guest:
        """The guest, writing; another one if the last cell broke it."""
        self.heal()
        guest = self._guest
        if guest is not None and not self._is_whole(guest):
            self.drop()
            guest = None
        if guest is None:
            guest = self._boot()
        self.write(guest)
        return guest

    def drop(self) -> None:
        """Remove the guest and all its traces."""
        guest, self._guest = self._guest, None
        if guest is None:
            return
        self.heal()
        for name in world_mod.HOSTS:
            self.world.restart_agent(name)
        guest.destroy()

    def _boot(self) -> world_mod.Guest:
        self.boots += 1
        for name in world_mod.HOSTS:
            self.world.restart_agent(name)
        world_mod.Guest(self.world, self.plan, world_mod.HOSTS[0]).destroy()
        guest = self.world.boot(self.plan)
        guest.fill('vda', FILLED_BYTES, 65536)
        self._guest = guest
        return guest

    def _is_whole(self, guest: world_mod.Guest) -> bool:
        with contextlib.suppress(*TROUBLE):
            return (
                guest.state(guest.host) == 'running'
                and guest.state(self.world.other(guest.host)) == 'absent'
                and guest.tops() == self.files()
            )
        return False

    def files(self) -> dict[str, str]:
        """Ordinary file of each disk."""
        return {
            disk.target: self.plan.file(disk.target)
            for disk in self.plan.disks
        }

    @staticmethod
    def write(guest: world_mod.Guest) -> None:
        """64 KiB blocks on vda, flushed now and then, and 4 KiB on vdb."""
        guest.control.stop()
        guest.control.write(
            'vda',
            'uniform',
            65536,
            2_500_000,
            2,
            sync_every=16,
            start=FILLED_BYTES,
            span=_SPAN_BYTES,
            unit_bytes=65536,
        )
        guest.control.write(
            'vdb', 'uniform', 4096, 300_000, 1, start=0, span=_SPAN_BYTES
        )
        time.sleep(0.3)

    def overlays(self, name: str) -> list[str]:
        """Files of moves in the guest's directory on a host."""
        found = self.host(name).run(
            ['find', self.plan.path, '-name', '*.sxm-*'], check=False
        )
        return found.stdout.split()


Undo = collections.abc.Callable[[], object]
