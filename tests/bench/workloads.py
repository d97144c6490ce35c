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

"""What the guest writes while it is moved, and the guest itself."""

from __future__ import annotations

import dataclasses

from tests.functional import engines
from tests.functional import guests

MIB = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Writer:
    """Arguments of :meth:`tests.lab.guest.control.GuestControl.write`."""

    disk: str
    pattern: str
    block_bytes: int
    rate_bytes_per_s: int
    threads: int = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """Writers that run at the same time; none is an idle guest."""

    name: str
    about: str
    writers: tuple[Writer, ...] = ()

    def unit_bytes(self, disk: str) -> int:
        """What the guest has to remember writes by on a disk."""
        return min(
            (w.block_bytes for w in self.writers if w.disk == disk),
            default=65536,
        )


def _on_both(pattern: str, rate_bytes_per_s: int) -> tuple[Writer, ...]:
    """64 KiB blocks on the first disk, a little of 4 KiB on the second."""
    return (
        Writer('vda', pattern, 65536, rate_bytes_per_s),
        Writer('vdb', 'uniform', 4096, 500_000, 1),
    )


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload('idle', 'no writes'),
        Workload(
            'hot-8',
            '8 MB/s, 90 % in 5 % of the disk',
            _on_both('hot', 8_000_000),
        ),
        Workload(
            'uniform-10',
            '10 MB/s, half of the link',
            _on_both('uniform', 10_000_000),
        ),
        Workload(
            'uniform-40',
            '40 MB/s, twice the link',
            _on_both('uniform', 40_000_000),
        ),
        Workload(
            'random-4k',
            '2 MB/s in blocks of 4 KiB',
            (
                Writer('vda', 'uniform', 4096, 2_000_000),
                Writer('vdb', 'uniform', 4096, 500_000, 1),
            ),
        ),
    )
}

ENGINES = (engines.STOCK, engines.ONE_FLAG, engines.DIRECT, engines.SNAPSHOT)


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """Size of the guest's disks and of what is on them, MiB."""

    vda_mib: int = 1024
    vda_data_mib: int = 512
    vdb_mib: int = 512
    vdb_data_mib: int = 256
    give_up_s: float = 150.0

    def plan(self, directory: str = guests.INSTANCES) -> guests.Plan:
        return guests.Plan(
            9,
            (
                guests.Disk('vda', 'disk', 'qcow2', self.vda_mib),
                guests.Disk('vdb', 'disk.eph0', 'raw', self.vdb_mib),
            ),
            directory=directory,
        )

    def data_bytes(self, disk: str) -> int:
        return {'vda': self.vda_data_mib, 'vdb': self.vdb_data_mib}[disk] * MIB


FULL = Scale()
QUICK = Scale(256, 128, 128, 64, 60.0)
