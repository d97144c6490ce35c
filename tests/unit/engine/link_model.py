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

"""A model of a bottleneck that a copy and a guest's mirrored writes share.

One queue, first come, first served, in front of a link of some capacity;
bytes are acknowledged a round trip after they left it.  The guest asks for a
rate and has a limited number of bytes outstanding; the copy keeps the rate
that it was told and, like the copier, at most a tenth of a second's worth in
flight.  Time goes by in steps of a millisecond.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
import dataclasses

from sxm_openstack.engine import governor

STEP_S = 0.001
TICK_S = 0.1
COPY, GUEST = 'copy', 'guest'

_FLIGHT_S = 0.1
_FLIGHT_MIN_BYTES = 256 << 10
_SMOOTHING = 0.03  # of the round trip, each millisecond in which bytes left
_CATCH_UP_S = 0.05  # how much of its demand a guest makes up for later

OverTime = float | Callable[[float], float]


def at(value: OverTime, now_s: float) -> float:
    return value(now_s) if callable(value) else value


@dataclasses.dataclass
class Flow:
    """What one of the two has sent and got acknowledged."""

    sent: float = 0.0
    acknowledged: float = 0.0
    tokens: float = 0.0

    @property
    def outstanding(self) -> float:
        return self.sent - self.acknowledged


class LinkModel:
    """See above.

    :param capacity: bytes per second, or a function of the time.
    :param demand: of the guest, bytes per second, or a function.
    :param outstanding: most that the guest has on its way, bytes.
    :param rtt_s: of the empty link.
    :param busy_rtt_s: a flow that fills the link sees this much more, even
        with no queue in front of it: it queues in its own sender.
    :param others: part of the link that is taken by others, who keep the
        queue at ``others_queue_s`` while they are there.
    """

    def __init__(
        self,
        limits: governor.Limits,
        *,
        capacity: OverTime,
        demand: OverTime = 0.0,
        outstanding: OverTime = 1 << 20,
        rtt_s: float = 0.0005,
        busy_rtt_s: float = 0.0,
        others: OverTime = 0.0,
        others_queue_s: float = 0.0,
    ) -> None:
        self.governor = governor.Governor(limits)
        self.hurried = False
        self.now_s = 0.0
        self.history: list[tuple[float, float, float, int]] = []
        self.worst_latency_s = 0.0
        self._capacity, self._demand = capacity, demand
        self._others, self._others_queue_s = others, others_queue_s
        self._outstanding = outstanding
        self._rtt_s, self._busy_rtt_s = rtt_s, busy_rtt_s
        self._flows = {COPY: Flow(), GUEST: Flow()}
        self._queue: deque[list] = deque()
        self._queued = 0.0
        self._credit = 0.0
        self._returning: deque[tuple[float, str, float, float]] = deque()
        self._seen_rtt_s, self._min_rtt_s = rtt_s, rtt_s
        self._busy = 0.0
        self._writes, self._write_busy_s = 0.0, 0.0
        self._throughput = 0.0

    def run(self, seconds: float) -> LinkModel:
        """Let time pass; the governor is asked ten times a second."""
        until_s = self.now_s + seconds
        next_s = self.now_s
        while self.now_s < until_s:
            if self.now_s >= next_s:
                self._ask()
                next_s += TICK_S
            self._step()
        return self

    def rates(self, since_s: float, until_s: float) -> tuple[float, float]:
        """Mean rate of copy and guest in that time, as acknowledged."""
        inside = [
            entry for entry in self.history if since_s <= entry[0] <= until_s
        ]
        first, last = inside[0], inside[-1]
        elapsed_s = last[0] - first[0]
        return (
            (last[1] - first[1]) / elapsed_s,
            (last[2] - first[2]) / elapsed_s,
        )

    # -- one step ----------------------------------------------------------

    def _step(self) -> None:
        self.now_s += STEP_S
        self._send_guest()
        self._send_copy()
        self._drain()
        while self._returning and self._returning[0][0] <= self.now_s:
            _, who, count, _ = self._returning.popleft()
            self._flows[who].acknowledged += count

    def _send_guest(self) -> None:
        flow = self._flows[GUEST]
        demand = at(self._demand, self.now_s)
        flow.tokens = min(
            flow.tokens + demand * STEP_S, max(demand * _CATCH_UP_S, 1.0)
        )
        self._send(
            GUEST,
            min(
                flow.tokens,
                at(self._outstanding, self.now_s) - flow.outstanding,
            ),
        )

    def _send_copy(self) -> None:
        flow, rate = self._flows[COPY], self.governor.rate_bytes_per_s
        limit = max(
            self._throughput * (_FLIGHT_S + self._rtt_s), _FLIGHT_MIN_BYTES
        )
        if rate:
            flow.tokens = min(
                flow.tokens + rate * STEP_S, rate * _FLIGHT_S / 2
            )
            limit = min(limit, max(rate * _FLIGHT_S, 128 << 10))
        else:
            flow.tokens = limit
        self._send(COPY, min(flow.tokens, limit - flow.outstanding))

    def _send(self, who: str, count: float) -> None:
        if count <= 0:
            return
        flow = self._flows[who]
        flow.tokens -= count
        flow.sent += count
        self._queued += count
        self._queue.append([self.now_s, who, count])

    def _drain(self) -> None:
        free = at(self._capacity, self.now_s) * STEP_S
        taken = free * at(self._others, self.now_s)
        self._credit = min(self._credit, 0.0) + free - taken
        used = False
        while self._queue and self._credit > 0:
            entry = self._queue[0]
            count = min(entry[2], self._credit)
            self._credit -= count
            self._queued -= count
            entry[2] -= count
            used = True
            self._leave(entry[1], count, self.now_s - entry[0])
            if entry[2] <= 1e-6:
                self._queue.popleft()
        self._busy += 0.02 * (float(used and bool(self._queue)) - self._busy)

    def _leave(self, who: str, count: float, waited_s: float) -> None:
        if at(self._others, self.now_s):
            waited_s += self._others_queue_s
        rtt_s = self._rtt_s + waited_s
        if who == GUEST:
            writes = count / 65536
            self._writes += writes
            self._write_busy_s += writes * rtt_s
            self.worst_latency_s = max(self.worst_latency_s, rtt_s)
        else:
            seen = rtt_s + self._busy_rtt_s * self._busy
            self._seen_rtt_s += _SMOOTHING * (seen - self._seen_rtt_s)
        self._returning.append((self.now_s + self._rtt_s, who, count, rtt_s))

    # -- what the governor sees --------------------------------------------

    def _ask(self) -> None:
        copy, guest = self._flows[COPY], self._flows[GUEST]
        self._min_rtt_s = min(self._min_rtt_s, self._seen_rtt_s)
        latency_s = (
            self._write_busy_s / self._writes if self._writes > 0.01 else None
        )
        self._writes = self._write_busy_s = 0.0
        self.governor.update(
            governor.Sample(
                at_s=self.now_s,
                copied_bytes=int(copy.acknowledged),
                mirrored_bytes=int(guest.sent),
                queue_delay_s=self._seen_rtt_s - self._min_rtt_s,
                write_latency_s=latency_s,
            ),
            self.hurried,
        )
        self.history.append(
            (
                self.now_s,
                copy.acknowledged,
                guest.acknowledged,
                self.governor.rate_bytes_per_s,
            )
        )
        recent = self.history[-6:]
        if len(recent) > 1:
            self._throughput = (recent[-1][1] - recent[0][1]) / (
                recent[-1][0] - recent[0][0]
            )
