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

"""What happened to a guest in a stretch of time, from its ticks.

Pure functions over ticks in the order of their arrival.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import itertools

from tests.lab.guest import protocol


@dataclasses.dataclass(frozen=True, slots=True)
class WindowStats:
    """A guest in the time from ``t0`` to ``t1``.

    Gaps and stalls that only partly lie in the window count whole, and
    silence up to the window's end is a gap: nothing is cut off.

    :ivar duration_s: from the first to the last tick that was used.
    :ivar written_bytes: acknowledged in that time.
    :ivar rate_bytes_per_s: the quotient, 0 without two ticks.
    :ivar worst_write_latency_s: by the guest's clock (it does not see a
        pause of the virtual machine); writes still in flight count with
        their age.
    :ivar longest_tick_gap_s: longest time without a tick: the guest was
        paused, or (``gap_lost_ticks``) its packets did not get through.
    :ivar gap_at: when that gap began, by CLOCK_MONOTONIC.
    :ivar gap_lost_ticks: ticks that the guest sent within that gap.
    :ivar longest_ack_stall_s: longest time, by this machine's clock, in
        which a write was waiting and none was acknowledged.
    :ivar errors: writes that failed.
    :ivar ticks: how many arrived.
    :ivar lost_ticks: how many were sent and did not arrive.
    :ivar reboots: how often the workload started anew; what it wrote
        between its last tick and the end is not in ``written_bytes``.
    """

    duration_s: float
    written_bytes: int
    rate_bytes_per_s: float
    worst_write_latency_s: float
    longest_tick_gap_s: float
    gap_at: float
    gap_lost_ticks: int
    longest_ack_stall_s: float
    errors: int
    ticks: int
    lost_ticks: int
    reboots: int


def relevant(
    ticks: collections.abc.Sequence[protocol.Tick], t0: float, t1: float
) -> list[protocol.Tick]:
    """The ticks of a window and the nearest one on either side of it."""
    inside = [
        index for index, tick in enumerate(ticks) if t0 <= tick.arrived_s <= t1
    ]
    if inside:
        first, last = inside[0], inside[-1]
    else:
        later = sum(1 for tick in ticks if tick.arrived_s < t0)
        first, last = later, later - 1
    return list(ticks[max(first - 1, 0) : last + 2])


def stats(
    ticks: collections.abc.Sequence[protocol.Tick], t0: float, t1: float
) -> WindowStats:
    """Reduce ticks to figures.

    :param ticks: in the order of arrival, of one guest; ticks before and
        after the window may be among them.
    :param t0: begin, by CLOCK_MONOTONIC.
    :param t1: end; must not lie in the future, because silence up to it
        counts as a gap.
    """
    used = relevant(ticks, t0, t1)
    inside = [tick for tick in used if t0 <= tick.arrived_s <= t1]
    steps = list(itertools.pairwise(used))
    # The rate is over ticks inside; the neighbours are for the gaps only.
    counted = [
        (a, b) for a, b in steps if t0 <= a.arrived_s and b.arrived_s <= t1
    ]
    duration_s = sum(b.arrived_s - a.arrived_s for a, b in counted)
    written = sum(_grown(a, b, "acked_bytes") for a, b in counted)
    gap_s, gap_at, gap_lost = _longest_gap(steps, used, t0, t1)
    return WindowStats(
        duration_s=duration_s,
        written_bytes=written,
        rate_bytes_per_s=written / duration_s if duration_s else 0.0,
        worst_write_latency_s=_worst_latency(inside, steps),
        longest_tick_gap_s=gap_s,
        gap_at=gap_at,
        gap_lost_ticks=gap_lost,
        longest_ack_stall_s=_longest_stall(used, t1),
        errors=sum(_grown(a, b, "errors") for a, b in counted),
        ticks=len(inside),
        lost_ticks=sum(_lost(a, b) for a, b in counted),
        reboots=sum(a.boot_id != b.boot_id for a, b in counted),
    )


def _grown(before: protocol.Tick, after: protocol.Tick, field: str) -> int:
    """How much a counter grew; after a boot it starts at 0."""
    value: int = getattr(after, field)
    if before.boot_id == after.boot_id:
        value -= getattr(before, field)
    return value


def _lost(before: protocol.Tick, after: protocol.Tick) -> int:
    if before.boot_id != after.boot_id:
        return 0
    return after.number - before.number - 1


def _longest_gap(
    steps: collections.abc.Sequence[tuple[protocol.Tick, protocol.Tick]],
    used: collections.abc.Sequence[protocol.Tick],
    t0: float,
    t1: float,
) -> tuple[float, float, int]:
    gaps = [
        (b.arrived_s - a.arrived_s, a.arrived_s, _lost(a, b)) for a, b in steps
    ]
    if not used:
        gaps = [(t1 - t0, t0, 0)]
    else:
        # With a neighbour on that side these are negative and lose.
        gaps.append((used[0].arrived_s - t0, t0, 0))
        gaps.append((t1 - used[-1].arrived_s, used[-1].arrived_s, 0))
    return max(gaps)


def _worst_latency(
    inside: collections.abc.Sequence[protocol.Tick],
    steps: collections.abc.Sequence[tuple[protocol.Tick, protocol.Tick]],
) -> float:
    worst = [
        max(tick.worst_latency_s, tick.oldest_in_flight_s) for tick in inside
    ]
    # What lost ticks would have said is in the next one's recent worst.
    wanted = {tick.arrived_s for tick in inside}
    worst += [
        b.worst_recent_s
        for a, b in steps
        if _lost(a, b) and b.arrived_s in wanted
    ]
    return max(worst, default=0.0)


def _longest_stall(
    used: collections.abc.Sequence[protocol.Tick], t1: float
) -> float:
    longest = 0.0
    since: float | None = None  # a write waits since then
    for before, after in itertools.pairwise(used):
        if since is None and before.oldest_in_flight_s:
            since = before.arrived_s
        if since is not None:
            longest = max(longest, after.arrived_s - since)
        if (
            after.acked_writes != before.acked_writes
            or after.boot_id != before.boot_id
            or not after.oldest_in_flight_s
        ):
            since = None
    if used and used[-1].oldest_in_flight_s:
        start = used[-1].arrived_s if since is None else since
        longest = max(longest, t1 - start)
    return longest
