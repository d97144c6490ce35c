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

"""Progress of a move: phase, bytes and rate of every disk."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import logging
import threading

from sxm_openstack.engine import clock as engine_clock
from sxm_openstack.engine import disk as engine_disk

LOG = logging.getLogger(__name__)

_RATE_WINDOW_S = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class DiskProgress:
    """One disk: how far its base is, and how fast it goes.

    :param total_bytes: bytes of the base to send.
    :param done_bytes: of those, at the destination.
    :param mirrored_bytes: bytes of new writes that were mirrored.
    :param rate_bytes_per_s: of the base copy, over about a second.
    """

    target: str
    phase: engine_disk.DiskPhase
    total_bytes: int
    done_bytes: int
    mirrored_bytes: int = 0
    rate_bytes_per_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class PhaseChange:
    """A disk, or the move as a whole (``target`` empty), changed phase.

    :param at_s: seconds of the clock that the move was given.
    """

    at_s: float
    target: str
    phase: str


class Progress:
    """Collects progress and tells listeners of phase changes.

    Thread-safe.  The listener is called from the thread that reports; what
    it raises is logged and ends nothing.
    """

    def __init__(
        self,
        disks: Sequence[engine_disk.Disk],
        clock: engine_clock.Clock,
        listener: Callable[[PhaseChange], None] | None = None,
    ) -> None:
        self._clock = clock
        self._listener = listener
        self._lock = threading.Lock()
        self._history: list[PhaseChange] = []
        self._marks: dict[str, tuple[float, int]] = {}
        self._disks = {
            disk.target: DiskProgress(
                disk.target,
                engine_disk.DiskPhase.WAITING,
                disk.allocated_bytes,
                0,
            )
            for disk in disks
        }

    def phase(self, target: str, phase: engine_disk.DiskPhase) -> None:
        """A disk entered a phase."""
        with self._lock:
            self._marks.pop(target, None)
            self._disks[target] = dataclasses.replace(
                self._disks[target], phase=phase, rate_bytes_per_s=0.0
            )
        self._tell(target, phase)

    def mark(self, phase: str) -> None:
        """The move as a whole entered a phase."""
        self._tell('', phase)

    def copied(self, target: str, total_bytes: int, done_bytes: int) -> None:
        """New figures of a base copy."""
        now = self._clock.now()
        with self._lock:
            then, before = self._marks.setdefault(target, (now, done_bytes))
            rate = self._disks[target].rate_bytes_per_s
            if now - then >= _RATE_WINDOW_S:
                rate = max(0.0, (done_bytes - before) / (now - then))
                self._marks[target] = (now, done_bytes)
            self._disks[target] = dataclasses.replace(
                self._disks[target],
                total_bytes=total_bytes or self._disks[target].total_bytes,
                done_bytes=done_bytes,
                rate_bytes_per_s=rate,
            )

    def mirrored(self, target: str, mirrored_bytes: int) -> None:
        """New figure of the writes that went to both sides."""
        with self._lock:
            self._disks[target] = dataclasses.replace(
                self._disks[target], mirrored_bytes=mirrored_bytes
            )

    def disks(self) -> list[DiskProgress]:
        """The latest figures of every disk, in the order of the plan."""
        with self._lock:
            return list(self._disks.values())

    def history(self) -> list[PhaseChange]:
        """Every phase change so far, oldest first."""
        with self._lock:
            return list(self._history)

    def totals(self) -> tuple[int, int]:
        """Bytes to send and bytes sent, over all disks."""
        disks = self.disks()
        return (
            sum(disk.total_bytes for disk in disks),
            sum(min(disk.done_bytes, disk.total_bytes) for disk in disks),
        )

    def _tell(self, target: str, phase: str) -> None:
        change = PhaseChange(self._clock.now(), target, str(phase))
        with self._lock:
            self._history.append(change)
        if self._listener is None:
            return
        try:
            self._listener(change)
        except Exception:
            LOG.exception('The listener failed at %s', change)
