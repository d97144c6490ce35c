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

import dataclasses
import unittest

from tests.lab.guest import protocol
from tests.lab.guest import window

IDLE = protocol.Tick(0.0, 7, 0, 0.0, 0, 0, 0, 0, 1, 0.0, 0.0, 0.0)


def tick(arrived_s, number, **fields):
    return dataclasses.replace(
        IDLE, arrived_s=arrived_s, number=number, **fields
    )


def steady(count, interval_s=0.01, start=100.0, bytes_per_tick=1000):
    """A guest that acknowledges one write in each tick."""
    return [
        tick(
            start + i * interval_s,
            i,
            acked_bytes=i * bytes_per_tick,
            acked_writes=i,
            worst_latency_s=0.002,
            worst_recent_s=0.002,
            oldest_in_flight_s=0.001,
        )
        for i in range(count)
    ]


class TestRate(unittest.TestCase):
    def test_steady(self):
        found = window.stats(steady(101), 100.0, 101.0)
        self.assertAlmostEqual(1.0, found.duration_s)
        self.assertEqual(100_000, found.written_bytes)
        self.assertAlmostEqual(100_000, found.rate_bytes_per_s, places=3)
        self.assertEqual(101, found.ticks)
        self.assertEqual(0, found.lost_ticks)
        self.assertEqual(0, found.errors)
        self.assertAlmostEqual(0.002, found.worst_write_latency_s)

    def test_only_the_window_counts(self):
        found = window.stats(steady(301), 100.995, 102.005)
        self.assertEqual(101, found.ticks)
        self.assertEqual(100_000, found.written_bytes)

    def test_one_tick_has_no_rate(self):
        found = window.stats([tick(100.0, 1, acked_bytes=5)], 99.9, 100.1)
        self.assertEqual(0.0, found.rate_bytes_per_s)
        self.assertEqual(0.0, found.duration_s)

    def test_a_reboot_counts_from_zero(self):
        ticks = [
            tick(100.0, 50, acked_bytes=9000, errors=3),
            tick(105.0, 0, boot_id=8, acked_bytes=100),
            tick(105.1, 1, boot_id=8, acked_bytes=300, errors=1),
        ]
        found = window.stats(ticks, 99.0, 106.0)
        self.assertEqual(300, found.written_bytes)
        self.assertEqual(1, found.errors)
        self.assertEqual(1, found.reboots)
        self.assertEqual(0, found.lost_ticks)


class TestGap(unittest.TestCase):
    def pause(self, at, length_s, count=200):
        """The guest stands still before tick ``at``: no number is missed."""
        return [
            dataclasses.replace(
                each,
                arrived_s=each.arrived_s
                + (length_s if each.number >= at else 0),
            )
            for each in steady(count)
        ]

    def test_a_pause_of_20_ms(self):
        found = window.stats(self.pause(50, 0.02), 100.0, 101.0)
        self.assertAlmostEqual(0.03, found.longest_tick_gap_s)
        self.assertAlmostEqual(100.49, found.gap_at)
        self.assertEqual(0, found.gap_lost_ticks)

    def test_lost_packets_are_told_from_a_pause(self):
        ticks = [each for each in steady(200) if not 50 <= each.number < 60]
        found = window.stats(ticks, 100.0, 101.0)
        self.assertAlmostEqual(0.11, found.longest_tick_gap_s)
        self.assertEqual(10, found.gap_lost_ticks)
        self.assertEqual(10, found.lost_ticks)

    def test_a_gap_over_the_end_counts_whole(self):
        found = window.stats(self.pause(50, 2.0), 100.0, 100.6)
        self.assertAlmostEqual(2.01, found.longest_tick_gap_s)
        self.assertAlmostEqual(100.49, found.gap_at)

    def test_a_gap_over_the_begin_counts_whole(self):
        found = window.stats(self.pause(50, 2.0), 101.0, 103.0)
        self.assertAlmostEqual(2.01, found.longest_tick_gap_s)

    def test_silence_to_the_end_is_a_gap(self):
        found = window.stats(steady(50), 100.0, 110.0)
        self.assertAlmostEqual(9.51, found.longest_tick_gap_s)
        self.assertAlmostEqual(100.49, found.gap_at)

    def test_silence_from_the_begin_is_a_gap(self):
        found = window.stats(steady(50), 97.0, 100.49)
        self.assertAlmostEqual(3.0, found.longest_tick_gap_s)
        self.assertAlmostEqual(97.0, found.gap_at)

    def test_a_window_within_a_gap(self):
        ticks = self.pause(50, 2.0)
        found = window.stats(ticks, 101.0, 101.5)
        self.assertEqual(0, found.ticks)
        self.assertAlmostEqual(2.01, found.longest_tick_gap_s)

    def test_no_tick_at_all(self):
        found = window.stats([], 100.0, 103.0)
        self.assertEqual(0, found.ticks)
        self.assertAlmostEqual(3.0, found.longest_tick_gap_s)
        self.assertEqual(0.0, found.rate_bytes_per_s)


class TestLatencyAndStall(unittest.TestCase):
    def test_a_write_in_flight_counts_with_its_age(self):
        ticks = steady(50)
        ticks.append(tick(100.5, 50, oldest_in_flight_s=4.0))
        found = window.stats(ticks, 100.0, 100.5)
        self.assertAlmostEqual(4.0, found.worst_write_latency_s)

    def test_the_latency_of_lost_ticks_is_kept(self):
        ticks = [each for each in steady(200) if each.number != 50]
        ticks[50] = dataclasses.replace(ticks[50], worst_recent_s=0.7)
        found = window.stats(ticks, 100.0, 101.0)
        self.assertAlmostEqual(0.7, found.worst_write_latency_s)

    def test_an_old_recent_worst_is_not_of_this_window(self):
        ticks = [
            dataclasses.replace(each, worst_recent_s=0.7)
            for each in steady(200)
        ]
        found = window.stats(ticks, 100.0, 101.0)
        self.assertAlmostEqual(0.002, found.worst_write_latency_s)

    def test_waiting_writes_are_a_stall(self):
        ticks = steady(50)
        ticks += [
            tick(
                100.5 + i * 0.01,
                50 + i,
                acked_writes=49,
                oldest_in_flight_s=0.01 * (i + 1),
            )
            for i in range(100)
        ]
        ticks.append(tick(101.5, 150, acked_writes=50))
        found = window.stats(ticks, 100.0, 101.6)
        self.assertAlmostEqual(1.01, found.longest_ack_stall_s)

    def test_a_stall_that_lasts_ends_with_the_window(self):
        ticks = [
            tick(100.0 + i, i, acked_writes=9, oldest_in_flight_s=0.1 + i)
            for i in range(5)
        ]
        found = window.stats(ticks, 100.0, 104.5)
        self.assertAlmostEqual(4.5, found.longest_ack_stall_s)

    def test_idle_is_no_stall(self):
        ticks = [tick(100.0 + i * 0.01, i) for i in range(100)]
        found = window.stats(ticks, 100.0, 101.0)
        self.assertEqual(0.0, found.longest_ack_stall_s)

    def test_steady_writes_stall_for_one_tick_only(self):
        found = window.stats(steady(101), 100.0, 101.0)
        self.assertAlmostEqual(0.01, found.longest_ack_stall_s)
