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

"""How fast the background copy may go: the guest's writes come first.

The copy and the guest's mirrored writes share the link.  A copy that keeps
a queue standing in front of the bottleneck delays each guest write by that
queue, and a guest that waits for each write slows down with it.

As long as the guest writes nothing there is nobody to yield to: the copy
goes as fast as the link carries it, and the governor learns how fast that
is.  When the guest writes, both together get a budget that slowly rises
while there is no standing queue, and falls while there is one.  The guest
takes from the budget what it likes; the copy gets the rest, and never less
than its share of what the link carries.  So a guest below its share finds
the link free, and one that writes more than the link can take cannot stop
the copy: the move always converges.

What the link carries is known only while it is full.  When something has
held the copy back for long, the governor fills it again for a moment and
looks: otherwise a share would become a share of a share, and so on.
"""

from collections import deque
import dataclasses

_START_BYTES_PER_S = 4 << 20  # before anything is known of the link
_RESTART_BYTES_PER_S = 256 << 10
_FLOOR_BYTES_PER_S = 16 << 10

_IDLE_S = 1.0  # a guest that wrote nothing for so long is not yielded to
_IDLE_FACTOR = 3.0  # more than is carried: the link, not we, is the limit

_SPAN_S = 1.0  # over which the capacity is measured
_RECENT_S = 0.3  # and the present rates
_GAP_S = 0.5  # nobody looked, as between two disks: what was before is over
_PUSHED = 1.15  # the link is the limit when so much more was asked for
_SURE = 0.93  # a capacity that is used so far is not in doubt
_DOUBT_S = 8.0  # look again when one was in doubt for so long
_LOOK_S = 1.2
_LOOK_FACTOR = 1.02

_RISE_PER_S = 0.15
_RISE_MOST_PER_S = 4.0
_RISE_DOUBLES_S = 0.7  # each time that there was no queue at all for so long
_CALM = 0.25  # congestion below which there is no queue
_BACK_RISE_PER_S = 2.0  # towards what the link is known to carry
_BACK = 0.9
_FALL_PER_S = 1.5
_BUDGET_FACTOR = 2.0  # the budget's upper bound, of what is carried
_LATENCY_FACTOR = 5.0  # of the target: bound of the guest's own latency
_STANDING_SAMPLES = 3
_STANDING_PART = 0.4  # of the target; the guest's bursts come on top
_BASELINE_SAMPLES = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that the operator set.

    :param guest_share: part of the link that the guest's writes may take,
        0 to 1; the copy never falls below the rest.
    :param latency_target_s: queueing delay that the copy may cause.
    :param max_rate_bytes_per_s: never faster than this; 0 is no bound.
    """

    guest_share: float = 0.5
    latency_target_s: float = 0.010
    max_rate_bytes_per_s: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One look at the link and the guest.

    :param at_s: time of the look.
    :param copied_bytes: bytes that the copies have moved so far.
    :param mirrored_bytes: bytes that mirrors have put on the link so far.
    :param queue_delay_s: round trip now less the shortest one seen, or
        ``None`` when unknown.
    :param write_latency_s: mean latency of the guest's writes since the
        last sample, or ``None`` when it wrote nothing.
    """

    at_s: float
    copied_bytes: int
    mirrored_bytes: int
    queue_delay_s: float | None
    write_latency_s: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Rates:
    """Means over a span, bytes per second; ``asked`` of the copy."""

    copied: float = 0.0
    mirrored: float = 0.0
    asked: float = 0.0
    span_s: float = 0.0

    @property
    def carried(self) -> float:
        return self.copied + self.mirrored


class _Past:
    """The samples of the last second."""

    def __init__(self) -> None:
        self._kept: deque[tuple[Sample, float]] = deque()
        self._asked = 0.0
        self._wrote_at_s: float | None = None

    def add(self, sample: Sample, rate: float) -> float:
        """Seconds since the sample before; 0 when it does not follow one."""
        elapsed_s = 0.0
        if self._kept:
            last = self._kept[-1][0]
            elapsed_s = sample.at_s - last.at_s
            if elapsed_s <= 0:
                return 0.0
            if elapsed_s > _GAP_S:
                self._kept.clear()
                self._kept.append((sample, self._asked))
                return 0.0
            self._asked += rate * elapsed_s
            if sample.mirrored_bytes > last.mirrored_bytes:
                self._wrote_at_s = sample.at_s
        self._kept.append((sample, self._asked))
        while (
            len(self._kept) > 2
            and self._kept[1][0].at_s <= sample.at_s - _SPAN_S
        ):
            self._kept.popleft()
        return elapsed_s

    def is_guest_idle(self) -> bool:
        if self._wrote_at_s is None:
            return True
        return self._kept[-1][0].at_s - self._wrote_at_s > _IDLE_S

    def rates(self, span_s: float) -> _Rates:
        last, last_asked = self._kept[-1]
        first, asked = next(
            (
                kept
                for kept in reversed(self._kept)
                if kept[0].at_s <= last.at_s - span_s
            ),
            self._kept[0],
        )
        elapsed_s = last.at_s - first.at_s
        if elapsed_s <= 0:
            return _Rates()
        return _Rates(
            max(0, last.copied_bytes - first.copied_bytes) / elapsed_s,
            max(0, last.mirrored_bytes - first.mirrored_bytes) / elapsed_s,
            (last_asked - asked) / elapsed_s,
            elapsed_s,
        )


class _Signs:
    """Signs of a queue in front of the guest's writes."""

    def __init__(self, target_s: float) -> None:
        self.target_s = target_s
        self._delays: deque[float] = deque(maxlen=_STANDING_SAMPLES)
        self._latencies: deque[float] = deque(maxlen=_BASELINE_SAMPLES)

    def congestion(self, sample: Sample) -> float:
        """1 at the target, above it when the copy has to step back.

        A queue that comes and goes, as each burst of the guest makes one,
        is none; the latency of a slow disk neither.
        """
        signs = [0.0]
        if sample.queue_delay_s is not None:
            self._delays.append(sample.queue_delay_s)
            standing_s = min(self._delays)
            signs.append(standing_s / (self.target_s * _STANDING_PART))
        if sample.write_latency_s is not None:
            self._latencies.append(sample.write_latency_s)
            excess_s = sample.write_latency_s - min(self._latencies)
            signs.append(excess_s / (self.target_s * _LATENCY_FACTOR))
        return max(signs)


class Governor:
    """Turns samples into a rate.  Not thread-safe; keeps no time itself.

    :ivar rate_bytes_per_s: for the time until the next sample; 0 is no
        limit.
    :ivar capacity_bytes_per_s: what the link is thought to carry.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._past = _Past()
        self._signs = _Signs(limits.latency_target_s)
        self._budget = float(_START_BYTES_PER_S)
        self._calm_since_s: float | None = float('-inf')
        self._sure_at_s = float('-inf')
        self._look_until_s: float | None = None
        self._met_the_end = False
        self.capacity_bytes_per_s = 0.0
        self.rate_bytes_per_s = self._bounded(self._budget)

    def set_limits(self, limits: Limits) -> None:
        """Other bounds from the next sample on; what was learnt stays."""
        self._limits = limits
        self._signs.target_s = limits.latency_target_s

    def update(self, sample: Sample, hurried: bool = False) -> int:
        """Rate for the time until the next sample, bytes per second.

        :param hurried: the operator asked to stop yielding to the guest.
        """
        elapsed_s = self._past.add(sample, self.rate_bytes_per_s)
        congestion = self._signs.congestion(sample)
        if elapsed_s <= 0:
            return self.rate_bytes_per_s
        if hurried:
            self.rate_bytes_per_s = self._limits.max_rate_bytes_per_s
            return self.rate_bytes_per_s
        self._learn(sample.at_s)
        recent = self._past.rates(_RECENT_S)
        if self._past.is_guest_idle():
            self._budget = max(
                self.capacity_bytes_per_s or _START_BYTES_PER_S,
                recent.carried,
                _RESTART_BYTES_PER_S,
            )
            rate = self._budget * _IDLE_FACTOR
        else:
            self._steer(sample.at_s, congestion, elapsed_s, recent)
            share = 1.0 - self._limits.guest_share
            rate = max(
                self._budget - recent.mirrored,
                share * self.capacity_bytes_per_s,
            )
        self.rate_bytes_per_s = self._bounded(rate)
        return self.rate_bytes_per_s

    def _learn(self, now_s: float) -> None:
        """What the link carries shows when it holds the copy up."""
        seen = self._past.rates(_SPAN_S)
        if seen.span_s < _SPAN_S / 2 and self.capacity_bytes_per_s:
            return
        looked = self._look_until_s is not None and now_s > self._look_until_s
        if (
            looked
            or seen.carried > self.capacity_bytes_per_s
            or seen.asked > _PUSHED * seen.copied
        ):
            self._know(seen.carried, now_s)
        elif seen.carried > _SURE * self.capacity_bytes_per_s:
            self._sure_at_s = now_s
        elif now_s - self._sure_at_s > _DOUBT_S:
            self._look_until_s = now_s + _LOOK_S
            self._sure_at_s = now_s

    def _know(self, capacity_bytes_per_s: float, now_s: float) -> None:
        self.capacity_bytes_per_s = capacity_bytes_per_s
        self._sure_at_s = now_s
        self._look_until_s = None

    def _steer(
        self, now_s: float, congestion: float, elapsed_s: float, now: _Rates
    ) -> None:
        """The budget of copy and guest together."""
        if self._look_until_s is not None:
            self._budget = self.capacity_bytes_per_s * _LOOK_FACTOR
            return
        if congestion > 1.0:
            self._met_the_end = True
            if self._calm_since_s is not None:
                self._budget = min(self._budget, now.carried)
            self._calm_since_s = None
            excess = min(congestion - 1.0, 1.0)
            self._budget *= max(0.5, 1.0 - _FALL_PER_S * excess * elapsed_s)
        else:
            if self._calm_since_s is None or congestion > _CALM:
                self._calm_since_s = now_s
            self._budget *= 1.0 + self._rise(now_s, congestion) * elapsed_s
        most = max(_BUDGET_FACTOR * now.carried, _RESTART_BYTES_PER_S)
        least = (1.0 - self._limits.guest_share) * self.capacity_bytes_per_s
        self._budget = max(least, min(self._budget, most))

    def _rise(self, now_s: float, congestion: float) -> float:
        """Ever faster while the link shows no end; parts per second."""
        if not self._met_the_end:
            return _RISE_MOST_PER_S * (1.0 - congestion)
        calm_s = 0.0
        if self._calm_since_s is not None:
            calm_s = now_s - self._calm_since_s
        doublings = min(calm_s / _RISE_DOUBLES_S, 10.0)
        rise: float = min(_RISE_PER_S * 2.0**doublings, _RISE_MOST_PER_S)
        if self._budget < _BACK * self.capacity_bytes_per_s:
            rise = max(rise, _BACK_RISE_PER_S)
        return rise * (1.0 - congestion)

    def _bounded(self, rate: float) -> int:
        if self._limits.max_rate_bytes_per_s:
            rate = min(rate, self._limits.max_rate_bytes_per_s)
        return int(max(rate, _FLOOR_BYTES_PER_S))
