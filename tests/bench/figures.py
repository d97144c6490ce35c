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

"""The figures of one run, what they are measured against, and the verdict.

Pure functions: everything that touches a guest is in :mod:`.cell`.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing

from tests.functional import engines

GAP_RATIO = 1.2
PAUSE_MS = 100.0
START_STALL_MS = 150.0
"""A guest on a busy machine misses ticks for tens of milliseconds, and the
snapshot itself stops it for some; stock and one-flag stop it for seconds."""
LATENCY_MS = 300.0
RATE_RATIO = 0.8
TOTAL_RATIO = 1.15
BASES_RATIO = 1.05
IDLE_RATIO = 1.0


@dataclasses.dataclass(slots=True)
class Run:
    """One engine under one workload; rates are bytes a second.

    :param total_s: from the order until the guest runs on the destination
        and the source knows it.
    :param flatten_s: from there until its disks are ordinary files again;
        the link is not used.
    :param limit_s: the least time for what had to cross the link.
    :param bytes_sent: all that the source sent over the migration network.
    :param handover_pause_ms: the guest stood for the hand-over, from before
        libvirt's suspend until after its resume.
    :param handover_gap_ms: longest silence of the guest around it.
    :param switchover_gap_ms: longest silence of the guest at the switch.
    :param guest_rate_while_moving: from the order to the switch.
    :param worst_write_latency_ms: while moving, the switch left out: the
        longer of what the guest's clock saw of one write, and of the time
        by our clock in which a write waited and none was answered.
    :param start_stall_ms: longest silence of the guest while its disks'
        mirrors started.
    :param lost_writes: sectors that are not what was acknowledged; ``None``
        where it could not be verified.
    :param bases_bytes: of the frozen disks, on the link.
    :param mirrored_bytes: of new writes, on the link.
    """

    engine: str
    workload: str
    converged: bool = False
    total_s: float = 0.0
    limit_s: float = 0.0
    bytes_sent: int = 0
    handover_pause_ms: float = 0.0
    switchover_gap_ms: float | None = None
    memory_only_gap_ms: float | None = None
    guest_rate_before: float = 0.0
    guest_rate_while_moving: float = 0.0
    worst_write_latency_ms: float = 0.0
    start_stall_ms: float = 0.0
    lost_writes: int | None = None
    handover_gap_ms: float | None = None
    storage_s: float = 0.0
    flatten_s: float = 0.0
    bases_bytes: int = 0
    allocated_bytes: int = 0
    mirrored_bytes: int = 0
    memory_bytes: int = 0
    error: str = ''
    phases: list[tuple[float, str, str]] = dataclasses.field(
        default_factory=list
    )
    series: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    link: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    @property
    def total_ratio(self) -> float | None:
        return self.total_s / self.limit_s if self.limit_s else None

    @property
    def gap_ratio(self) -> float | None:
        if not self.memory_only_gap_ms or self.switchover_gap_ms is None:
            return None
        return self.switchover_gap_ms / self.memory_only_gap_ms

    def to_dict(self) -> dict[str, typing.Any]:
        return {
            **dataclasses.asdict(self),
            'total_ratio': self.total_ratio,
            'gap_ratio': self.gap_ratio,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """A target, and whether a run reached it."""

    workload: str
    name: str
    value: float
    target: float
    passed: bool


def limit_s(run: Run, link_bytes_per_s: float) -> float:
    """Time for the least that has to cross the link, seconds."""
    needed = run.bases_bytes + run.mirrored_bytes + run.memory_bytes
    return needed / link_bytes_per_s


def checks(
    runs: collections.abc.Sequence[Run],
    link_bytes_per_s: float,
    guest_share: float,
) -> list[Check]:
    """The targets of the engine ``snapshot``, workload by workload."""
    found: list[Check] = []
    for run in runs:
        if run.engine == engines.SNAPSHOT:
            found += _checks(run, link_bytes_per_s, guest_share)
            if run.workload == 'idle':
                found += _against_stock(run, runs)
    return found


def _checks(
    run: Run, link_bytes_per_s: float, guest_share: float
) -> list[Check]:
    def at_most(name: str, value: float, target: float) -> Check:
        return Check(run.workload, name, value, target, value <= target)

    def at_least(name: str, value: float, target: float) -> Check:
        return Check(run.workload, name, value, target, value >= target)

    found = [at_least('converged', float(run.converged), 1.0)]
    if not run.converged:
        return found
    lost = -1.0 if run.lost_writes is None else float(run.lost_writes)
    found += [
        Check(run.workload, 'lost writes', lost, 0.0, lost == 0.0),
        at_most('hand-over pause, ms', run.handover_pause_ms, PAUSE_MS),
        at_most('stall at the start, ms', run.start_stall_ms, START_STALL_MS),
        at_most('total / limit', run.total_ratio or 0.0, TOTAL_RATIO),
        at_most(
            'bytes of the bases / allocated',
            run.bases_bytes / max(run.allocated_bytes, 1),
            BASES_RATIO,
        ),
    ]
    if run.gap_ratio is not None:
        found.append(
            at_most('gap / memory-only gap', run.gap_ratio, GAP_RATIO)
        )
    if run.guest_rate_before:
        promised = min(run.guest_rate_before, guest_share * link_bytes_per_s)
        found += [
            at_most(
                'worst write latency, ms',
                run.worst_write_latency_ms,
                LATENCY_MS,
            ),
            at_least(
                'guest rate / its share',
                run.guest_rate_while_moving / promised,
                RATE_RATIO,
            ),
        ]
    return found


def _against_stock(
    run: Run, runs: collections.abc.Sequence[Run]
) -> list[Check]:
    return [
        Check(
            run.workload,
            'total / total of stock',
            run.total_s / stock.total_s,
            IDLE_RATIO,
            run.total_s <= IDLE_RATIO * stock.total_s,
        )
        for stock in runs
        if stock.engine == engines.STOCK
        and stock.workload == run.workload
        and stock.converged
    ]
