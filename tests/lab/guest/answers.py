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

"""What a guest answers, and how it fails to."""

from __future__ import annotations

import dataclasses

from tests.lab import paths


class GuestError(paths.LabError):
    """The guest refused a request or failed at it; the text says why."""


class GuestRefused(GuestError):
    """The guest answered that it cannot; ``reason`` is its own text."""

    def __init__(self, name: str, what: str, reason: str) -> None:
        super().__init__(f"guest {name}: {what} failed: {reason}")
        self.reason = reason


class GuestTimeout(GuestError):
    """The guest did not answer, or was not done, in time."""


@dataclasses.dataclass(frozen=True, slots=True)
class GuestInfo:
    """A guest that answers.

    :ivar boot_id: another one means that the workload started anew.
    :ivar config_drive: device in the guest, "" without.
    :ivar disk_bytes: size by disk name, config drive left out.
    :ivar reserved_bytes: what a disk's boot file system takes at its start.
    """

    boot_id: int
    uptime_s: float
    config_drive: str
    disk_bytes: dict[str, int]
    reserved_bytes: dict[str, int]


@dataclasses.dataclass(frozen=True, slots=True)
class DiskReport:
    """What was written to a disk since the workload started."""

    issued_bytes: int
    acked_bytes: int
    acked_writes: int
    errors: int
    sequence: int


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What was written since the workload started."""

    boot_id: int
    threads: int
    by_disk: dict[str, DiskReport]


@dataclasses.dataclass(frozen=True, slots=True)
class Writer:
    """A writer that was started, with the range that it was given."""

    number: int
    disk: str
    start: int
    span: int
    unit: int


@dataclasses.dataclass(frozen=True, slots=True)
class DiskVerdict:
    """What a verification found; all but the last count 512-byte sectors.

    :ivar lost: older than an acknowledged write of that sector.
    :ivar bad: not what was ever written there.
    :ivar future: newer than any write that was issued.
    :ivar read_errors: reads (of up to 1 MiB) that failed.
    :ivar first_bad_offset: first byte of the first faulty sector.
    """

    checked: int
    lost: int
    bad: int
    future: int
    read_errors: int
    first_bad_offset: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class VerifyResult:
    """The sums over all disks that were checked; see :class:`DiskVerdict`.

    :ivar first_bad_offset: on the first disk that has a fault.
    """

    checked: int
    lost: int
    bad: int
    future: int
    read_errors: int
    first_bad_offset: int | None
    by_disk: dict[str, DiskVerdict]

    @property
    def ok(self) -> bool:
        """Something was checked and nothing is wrong with it."""
        return self.checked > 0 and not (
            self.lost or self.bad or self.future or self.read_errors
        )


@dataclasses.dataclass(frozen=True, slots=True)
class SavedArea:
    """What a guest knows about one range of a disk; outlives a reboot.

    :ivar generation: what its sectors carry.
    :ivar runs: number of the first unit, and ``ISSUED.ACKED`` in hex of
        that unit and those after it.
    """

    disk: str
    generation: int
    start: int
    span: int
    unit: int
    sequence: int
    runs: tuple[tuple[int, tuple[str, ...]], ...]
