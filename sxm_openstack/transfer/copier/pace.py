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

"""How much may be on its way, and how fast; knows no clock and no socket."""

from __future__ import annotations

from collections import deque

REQUEST_MIN_BYTES = 64 << 10
REQUEST_MAX_BYTES = 1 << 20
REQUEST_S = 0.02
FLIGHT_MIN_BYTES = 1 << 20
FLIGHT_MAX_BYTES = 16 << 20
FLIGHT_S = 0.3
BURST_S = 0.1
_SPAN_S = 0.5


class TokenBucket:
    """Lets a rate through.

    A request may go while there is any token, and takes its whole size: the
    bucket goes into debt and the next one waits.

    :param rate_bytes_per_s: 0 is no limit.
    """

    def __init__(self, rate_bytes_per_s: int, now: float) -> None:
        self.rate = rate_bytes_per_s
        self._tokens = float(self.burst_bytes)
        self._filled_at = now

    @property
    def burst_bytes(self) -> float:
        return self.rate * BURST_S

    def set_rate(self, rate_bytes_per_s: int, now: float) -> None:
        """A debt made at the old rate is not paid at the new one."""
        self._fill(now)
        self.rate = rate_bytes_per_s
        self._tokens = min(max(self._tokens, 0.0), self.burst_bytes)

    def take(self, count: int) -> None:
        if self.rate:
            self._tokens -= count

    def give_back(self, count: int) -> None:
        """It turned out that these need not be sent."""
        if self.rate:
            self._tokens = min(self._tokens + count, self.burst_bytes)

    def wait_s(self, now: float) -> float:
        """Seconds until the next request may go."""
        if not self.rate:
            return 0.0
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self.rate)

    def _fill(self, now: float) -> None:
        gained = (now - self._filled_at) * self.rate
        self._tokens = min(self._tokens + gained, self.burst_bytes)
        self._filled_at = now


class Flight:
    """Size of a request and of everything in flight, from what was seen.

    The rate alone keeps little in flight while the link is free.  This bounds
    what piles up in front of a link that is slower than the rate: it still
    goes out when the rate falls, so it is kept at 0.3 s' worth above the
    shortest time a request took.  Much less would hold the copy below its
    rate where the guest's writes keep a queue standing.
    """

    def __init__(self, now: float) -> None:
        self._acked: deque[tuple[float, int]] = deque([(now, 0)])
        self._total = 0
        self._shortest_s = 0.0

    def acked(self, now: float, count: int, took_s: float) -> None:
        self._total += count
        self._acked.append((now, self._total))
        # The oldest one kept is the last before the span.
        while len(self._acked) > 2 and self._acked[1][0] < now - _SPAN_S:
            self._acked.popleft()
        if not self._shortest_s or took_s < self._shortest_s:
            self._shortest_s = took_s

    def throughput(self, now: float) -> float:
        """Bytes acknowledged per second lately."""
        start, before = self._acked[0]
        span_s = max(now - start, _SPAN_S / 10)
        return (self._total - before) / span_s

    def request_bytes(self, now: float, rate: int) -> int:
        """About 20 ms worth, a power of two."""
        goal = (rate or self.throughput(now)) * REQUEST_S
        size = REQUEST_MIN_BYTES
        while size * 2 <= min(goal, REQUEST_MAX_BYTES):
            size *= 2
        return size

    def limit_bytes(self, now: float, rate: int) -> int:
        """Most that may be in flight."""
        seconds = FLIGHT_S + self._shortest_s
        limit = max(self.throughput(now) * seconds, FLIGHT_MIN_BYTES)
        if rate:
            floor = 2 * self.request_bytes(now, rate)
            limit = min(limit, max(rate * seconds, floor))
        return int(min(limit, FLIGHT_MAX_BYTES))
