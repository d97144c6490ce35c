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

"""The governor on a model of a link: who gets how much of it, and how soon.

The figures that come from a real link (two TCP flows through a token bucket
filter of 20 MB/s) are in the comments: the model is kinder than that.
"""

import unittest

import ddt

from sxm_openstack.engine import governor

from tests.unit.engine import link_model

MB = 1_000_000.0
SLOW, USUAL, FAST = 0.125 * MB, 20 * MB, 1250 * MB
AT_S = 10.0


def outstanding(capacity: float) -> float:
    """Writes that a guest has on their way: 20 ms worth of the link."""
    return max(65536.0, capacity * 0.02)


class GovernorTestCase(unittest.TestCase):
    def model(self, seconds=None, limits=None, **named):
        named.setdefault(
            'outstanding',
            outstanding(named['capacity'])
            if not callable(named['capacity'])
            else 1 << 20,
        )
        model = link_model.LinkModel(limits or governor.Limits(), **named)
        return model.run(seconds) if seconds else model


@ddt.ddt
class TestIdleGuest(GovernorTestCase):
    @ddt.data(SLOW, USUAL, FAST)
    def test_the_copy_takes_the_link(self, capacity):
        model = self.model(15, capacity=capacity)
        copy, _ = model.rates(3, 15)
        self.assertGreater(copy, 0.95 * capacity)

    @ddt.data(USUAL, FAST)
    def test_it_starts_fast(self, capacity):
        model = self.model(5, capacity=capacity)
        copy, _ = model.rates(0, 5)
        self.assertGreater(copy, 0.8 * capacity)

    def test_its_own_queue_does_not_matter(self):
        """A flow that fills a link sees 6 to 15 ms without any queue."""
        model = self.model(15, capacity=USUAL, busy_rtt_s=0.03)
        copy, _ = model.rates(3, 15)
        self.assertGreater(copy, 0.95 * USUAL)

    def test_a_queue_of_others_does_not_matter(self):
        model = self.model(15, capacity=USUAL, others=0.5, others_queue_s=0.2)
        copy, _ = model.rates(3, 15)
        self.assertGreater(copy, 0.45 * USUAL)

    @ddt.data((1.0, 0.1), (0.1, 1.0))
    @ddt.unpack
    def test_follows_the_capacity(self, before, after):
        model = self.model(
            AT_S + 5,
            capacity=lambda now_s: USUAL * (before if now_s < AT_S else after),
        )
        copy, _ = model.rates(AT_S + 3, AT_S + 5)
        self.assertGreater(copy, 0.95 * after * USUAL)


@ddt.ddt
class TestModestGuest(GovernorTestCase):
    """It asks for less than its share, and gets it."""

    @ddt.data(
        *(
            (capacity, part)
            for capacity in (USUAL, FAST)
            for part in (0.02, 0.2, 0.4, 0.48)
        )
    )
    @ddt.unpack
    def test_gets_what_it_asks_for(self, capacity, part):
        model = self.model(25, capacity=capacity, demand=part * capacity)
        copy, guest = model.rates(5, 25)
        self.assertGreater(guest, 0.9 * part * capacity)
        self.assertGreater(copy + guest, 0.9 * capacity)

    @ddt.data(0.05, 0.2, 0.4)
    def test_from_the_start(self, part):
        model = self.model(5, capacity=USUAL, demand=part * USUAL)
        copy, guest = model.rates(0, 5)
        self.assertGreater(guest, 0.9 * part * USUAL)
        self.assertGreater(copy + guest, 0.85 * USUAL)

    def test_on_a_slow_link(self):
        model = self.model(40, capacity=SLOW, demand=0.2 * SLOW)
        copy, guest = model.rates(10, 40)
        self.assertGreater(guest, 0.9 * 0.2 * SLOW)
        self.assertGreater(copy + guest, 0.9 * SLOW)

    def test_one_write_at_a_time(self):
        """64 KiB each; on a real link 7.5 of 8 MB/s, 18.6 of 19.1 in all."""
        model = self.model(
            25, capacity=USUAL, demand=8 * MB, outstanding=65536
        )
        copy, guest = model.rates(5, 25)
        self.assertGreater(guest, 0.8 * 8 * MB)
        self.assertGreater(copy + guest, 0.9 * USUAL)

    def test_small_worst_latency(self):
        model = self.model(30, capacity=USUAL, demand=0.3 * USUAL)
        self.assertLess(model.worst_latency_s, 0.150)

    def test_a_link_that_looks_busy(self):
        model = self.model(
            25, capacity=USUAL, demand=0.3 * USUAL, busy_rtt_s=0.012
        )
        copy, guest = model.rates(5, 25)
        self.assertGreater(guest, 0.9 * 0.3 * USUAL)
        self.assertGreater(copy + guest, 0.9 * USUAL)

    def test_begins_to_write(self):
        model = self.model(
            20,
            capacity=USUAL,
            demand=lambda now_s: 0.4 * USUAL if now_s > AT_S else 0.0,
        )
        before, _ = model.rates(5, AT_S)
        copy, guest = model.rates(AT_S + 1, 20)
        self.assertGreater(before, 0.95 * USUAL)
        self.assertGreater(guest, 0.9 * 0.4 * USUAL)
        self.assertGreater(copy + guest, 0.9 * USUAL)

    def test_comes_and_goes(self):
        model = self.model(
            30,
            capacity=USUAL,
            demand=lambda now_s: 0.4 * USUAL * (int(now_s / 2) % 2),
        )
        copy, guest = model.rates(6, 30)
        self.assertGreater(guest, 0.9 * 0.2 * USUAL)
        self.assertGreater(copy + guest, 0.9 * USUAL)


@ddt.ddt
class TestGreedyGuest(GovernorTestCase):
    """It would take all there is and more."""

    @ddt.data(
        *(
            (capacity, share)
            for capacity in (USUAL, FAST)
            for share in (0.2, 0.5, 0.8)
        )
    )
    @ddt.unpack
    def test_gets_its_share(self, capacity, share):
        """On a real link 9.5 and 9.6 of 19.1 MB/s, and 13.8 with 0.8."""
        model = self.model(
            30,
            governor.Limits(guest_share=share),
            capacity=capacity,
            demand=3 * capacity,
        )
        copy, guest = model.rates(8, 30)
        self.assertAlmostEqual(share, guest / capacity, delta=0.06)
        self.assertAlmostEqual(1 - share, copy / capacity, delta=0.06)

    def test_on_a_slow_link_nobody_starves(self):
        model = self.model(60, capacity=SLOW, demand=3 * SLOW)
        copy, guest = model.rates(10, 60)
        self.assertGreater(copy, 0.4 * SLOW)
        self.assertGreater(guest, 0.3 * SLOW)


@ddt.ddt
class TestCapacityChanges(GovernorTestCase):
    @ddt.data(0.03, 2.0)
    def test_falls(self, part):
        def capacity(now_s):
            return USUAL if now_s < AT_S else USUAL / 10

        model = self.model(
            AT_S + 10,
            capacity=capacity,
            demand=lambda now_s: part * capacity(now_s),
            outstanding=lambda now_s: outstanding(capacity(now_s)),
        )
        copy, guest = model.rates(AT_S + 3, AT_S + 10)
        self.assertGreater(copy + guest, 0.9 * USUAL / 10)
        self.assertGreater(guest, 0.8 * min(part, 0.5) * USUAL / 10)

    @ddt.data(0.03, 2.0)
    def test_rises(self, part):
        def capacity(now_s):
            return USUAL if now_s > AT_S else USUAL / 10

        model = self.model(
            AT_S + 6,
            capacity=capacity,
            demand=lambda now_s: part * capacity(now_s),
            outstanding=lambda now_s: outstanding(capacity(now_s)),
        )
        copy, guest = model.rates(AT_S + 3, AT_S + 6)
        self.assertGreater(copy + guest, 0.85 * USUAL)
        self.assertGreater(copy, 0.4 * USUAL)


class TestOthers(GovernorTestCase):
    def test_their_queue_does_not_starve_the_copy(self):
        """They take half the link and keep a queue of 50 ms for ever: the
        copy falls to its share of the rest, and not further and further."""
        model = self.model(
            90,
            capacity=USUAL,
            demand=0.05 * USUAL,
            others=lambda now_s: 0.5 if now_s > AT_S else 0.0,
            others_queue_s=0.05,
        )
        copy, _ = model.rates(60, 90)
        self.assertGreater(copy, 0.22 * USUAL)


@ddt.ddt
class TestBounds(GovernorTestCase):
    @ddt.data(0.0, 0.1, 2.0)
    def test_max_rate(self, part):
        limit = int(0.3 * USUAL)
        model = self.model(
            12,
            governor.Limits(max_rate_bytes_per_s=limit),
            capacity=USUAL,
            demand=part * USUAL,
        )
        self.assertLessEqual(max(entry[3] for entry in model.history), limit)
        copy, _ = model.rates(3, 12)
        self.assertLess(copy, 1.02 * limit)
        self.assertGreater(copy, 0.9 * limit)

    def test_hurried(self):
        model = self.model(capacity=USUAL, demand=0.3 * USUAL)
        model.run(5)
        model.hurried = True
        model.run(5)
        self.assertEqual(0, model.governor.rate_bytes_per_s)
        copy, _ = model.rates(6, 10)
        self.assertGreater(copy, 0.65 * USUAL)

    def test_hurried_keeps_the_maximum(self):
        limits = governor.Limits(max_rate_bytes_per_s=12345)
        made = governor.Governor(limits)
        made.update(governor.Sample(0.0, 0, 0, None, None), True)
        made.update(governor.Sample(0.1, 0, 0, None, None), True)
        self.assertEqual(12345, made.rate_bytes_per_s)

    def test_limits_that_change_meanwhile(self):
        model = self.model(capacity=USUAL, demand=0.8 * USUAL)
        model.run(15)
        before, _ = model.rates(10, 15)
        model.governor.set_limits(governor.Limits(guest_share=0.2))
        model.run(15)
        after, _ = model.rates(25, 30)
        self.assertGreater(after, 1.2 * before)
        model.governor.set_limits(governor.Limits(max_rate_bytes_per_s=99999))
        model.run(1)
        self.assertEqual(99999, model.governor.rate_bytes_per_s)

    def test_never_zero_by_itself(self):
        made = governor.Governor(governor.Limits())
        for number in range(300):
            rate = made.update(
                governor.Sample(number / 10, 0, number * 10**6, 9.0, 9.0)
            )
            self.assertGreater(rate, 0)

    def test_time_that_stands_or_goes_back(self):
        made = governor.Governor(governor.Limits())
        first = made.update(governor.Sample(1.0, 0, 0, None, None))
        for at_s in (1.0, 0.5):
            self.assertEqual(
                first,
                made.update(governor.Sample(at_s, 10**9, 0, None, None)),
            )

    def test_between_two_disks_nothing_is_learnt(self):
        """A verification takes minutes in which no byte is copied."""
        model = self.model(10, capacity=USUAL)
        made, known = model.governor, model.governor.capacity_bytes_per_s
        copied = int(model.rates(0, 10)[0] * 10)
        made.update(governor.Sample(300.0, copied, 0, None, None))
        self.assertEqual(known, made.capacity_bytes_per_s)
        self.assertGreater(made.rate_bytes_per_s, known)


class TestSigns(GovernorTestCase):
    def _rates(self, **of):
        """Rates of a copy that gets what it asks for, under given signs."""
        made = governor.Governor(governor.Limits())
        copied, rates = 0.0, []
        for number in range(150):
            now_s = number / 10
            copied += min(made.rate_bytes_per_s, USUAL) / 10
            found = {key: value(now_s) for key, value in of.items()}
            sample = governor.Sample(
                at_s=now_s,
                copied_bytes=int(copied),
                mirrored_bytes=number * 10_000,
                queue_delay_s=found.get('queue_delay_s'),
                write_latency_s=found.get('write_latency_s'),
            )
            rates.append(made.update(sample))
        return rates

    def test_write_latency_rises_and_falls(self):
        """The copy steps back for it, and goes up again after it."""
        rates = self._rates(
            write_latency_s=lambda now_s: 0.5 if 5 < now_s < 8 else 0.005
        )
        self.assertLess(rates[78], 0.6 * max(rates[30:50]))
        self.assertGreater(max(rates[100:]), 0.9 * max(rates[30:50]))

    def test_slow_disk_of_the_guest_is_no_sign(self):
        rates = self._rates(write_latency_s=lambda now_s: 0.5)
        self.assertGreater(rates[-1], 0.9 * USUAL)

    def test_bursts_are_no_standing_queue(self):
        rates = self._rates(
            queue_delay_s=lambda now_s: 0.1 if int(now_s * 10) % 3 else 0.0
        )
        self.assertGreater(rates[-1], 0.9 * USUAL)

    def test_unknown_delay_is_no_sign(self):
        rates = self._rates(queue_delay_s=lambda now_s: None)
        self.assertGreater(rates[-1], 0.9 * USUAL)
