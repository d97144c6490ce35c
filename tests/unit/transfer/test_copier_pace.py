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

import unittest

from sxm_openstack.transfer.copier import pace

KIB, MIB = 1 << 10, 1 << 20


class TokenBucketTest(unittest.TestCase):
    def run_for(self, bucket, begin, seconds, size):
        """Bytes let through in that time."""
        now, sent = begin, 0
        while True:
            now += bucket.wait_s(now)
            if now > begin + seconds:
                return sent
            bucket.take(size)
            sent += size

    def test_no_limit(self):
        bucket = pace.TokenBucket(0, 0.0)
        for _ in range(1000):
            self.assertEqual(0.0, bucket.wait_s(0.0))
            bucket.take(MIB)

    def test_rate_is_kept(self):
        for rate in (256 * KIB, 5 * MIB, 100 * MIB):
            bucket = pace.TokenBucket(rate, 50.0)
            sent = self.run_for(bucket, 50.0, 10.0, 64 * KIB)
            self.assertLess(abs(sent - 10 * rate) / (10 * rate), 0.05)

    def test_time_without_use_is_not_saved_up(self):
        bucket = pace.TokenBucket(MIB, 0.0)
        sent = self.run_for(bucket, 1000.0, 1.0, 4 * KIB)
        self.assertLess(sent, 1.15 * MIB)

    def test_new_rate_counts_at_once(self):
        bucket = pace.TokenBucket(64 * KIB, 0.0)
        bucket.take(MIB)
        self.assertGreater(bucket.wait_s(0.0), 10.0)
        bucket.set_rate(100 * MIB, 0.0)
        self.assertLess(bucket.wait_s(0.0), 0.001)
        bucket.set_rate(MIB, 1.0)
        sent = self.run_for(bucket, 1.0, 1.0, 64 * KIB)
        self.assertLess(sent, 1.2 * MIB)

    def test_limit_is_lifted(self):
        bucket = pace.TokenBucket(KIB, 0.0)
        bucket.take(MIB)
        bucket.set_rate(0, 0.0)
        self.assertEqual(0.0, bucket.wait_s(0.0))

    def test_what_need_not_be_sent_is_given_back(self):
        bucket = pace.TokenBucket(MIB, 0.0)
        bucket.take(MIB)
        waiting_s = bucket.wait_s(0.0)
        bucket.give_back(MIB)
        self.assertGreater(waiting_s, 0.9)
        self.assertEqual(0.0, bucket.wait_s(0.0))


class FlightTest(unittest.TestCase):
    def flight(self, rate, latency_s, seconds=3.0):
        """After that rate was acknowledged for some time."""
        flight, now, step = pace.Flight(0.0), 0.0, 0.01
        while now < seconds:
            now += step
            flight.acked(now, int(rate * step), latency_s)
        return flight, now

    def test_begins_small(self):
        flight = pace.Flight(0.0)
        self.assertEqual(64 * KIB, flight.request_bytes(0.0, 0))
        self.assertEqual(MIB, flight.limit_bytes(0.0, 0))

    def test_request_is_about_20_ms_of_the_rate(self):
        flight = pace.Flight(0.0)
        for rate, expected in (
            (64 * KIB, 64 * KIB),
            (20 * MIB, 256 * KIB),
            (26 * MIB, 512 * KIB),
            (1000 * MIB, MIB),
        ):
            self.assertEqual(expected, flight.request_bytes(0.0, rate))

    def test_request_follows_the_link_where_no_rate_is_set(self):
        flight, now = self.flight(30 * MIB, 0.01)
        self.assertEqual(512 * KIB, flight.request_bytes(now, 0))

    def test_a_third_of_a_second_may_be_in_flight(self):
        flight, now = self.flight(20 * MIB, 0.001)
        limit = flight.limit_bytes(now, 0)
        self.assertAlmostEqual(6 * MIB, limit, delta=MIB / 2)

    def test_more_on_a_long_link(self):
        flight, now = self.flight(20 * MIB, 0.2)
        limit = flight.limit_bytes(now, 0)
        self.assertAlmostEqual(10 * MIB, limit, delta=MIB)

    def test_bounds(self):
        flight, now = self.flight(2000 * MIB, 0.001)
        self.assertEqual(pace.FLIGHT_MAX_BYTES, flight.limit_bytes(now, 0))
        flight, now = self.flight(10 * KIB, 0.001)
        self.assertEqual(MIB, flight.limit_bytes(now, 0))

    def test_rate_bounds_what_is_in_flight(self):
        flight, now = self.flight(100 * MIB, 0.001)
        self.assertLess(flight.limit_bytes(now, 5 * MIB), 1.6 * MIB)
        self.assertEqual(128 * KIB, flight.limit_bytes(now, 100 * KIB))

    def test_old_times_are_forgotten(self):
        flight, now = self.flight(100 * MIB, 0.001)
        for _ in range(100):
            now += 0.01
            flight.acked(now, 10 * KIB, 0.001)
        self.assertLess(flight.throughput(now), 2 * MIB)
