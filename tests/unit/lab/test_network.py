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

"""Rates, and what tc is told for them."""

import unittest

from tests.lab import network
from tests.lab import paths

ONE, TWO, THREE = (plan.name for plan in paths.COMPUTES)


class ParseRateTests(unittest.TestCase):
    def test_as_tc_bps_is_bytes_and_bit_is_bits(self):
        for text, bytes_per_s in (
            ("20mbps", 20_000_000),
            ("160mbit", 20_000_000),
            ("1.5gbps", 1_500_000_000),
            ("800kbit", 100_000),
            (" 5MBPS ", 5_000_000),
            ("7 kbps", 7_000),
        ):
            with self.subTest(text):
                self.assertEqual(
                    bytes_per_s, network.parse_rate(text).bytes_per_s
                )

    def test_off_and_cut(self):
        self.assertIsNone(network.parse_rate("off").bytes_per_s)
        self.assertFalse(network.parse_rate("off").is_cut)
        self.assertTrue(network.parse_rate("cut").is_cut)

    def test_what_is_no_rate_is_refused_with_what_would_be(self):
        for text in ("", "20", "mbps", "20mb", "-1mbps", "20 m bps", "on"):
            with self.subTest(text):
                with self.assertRaisesRegex(paths.LabError, "20mbps is 20"):
                    network.parse_rate(text)

    def test_zero_is_not_a_rate(self):
        with self.assertRaisesRegex(paths.LabError, "use cut"):
            network.parse_rate("0mbps")

    def test_a_rate_is_read_back_as_it_is_written(self):
        for text in ("off", "cut", "20mbps", "123bps"):
            with self.subTest(text):
                rate = network.parse_rate(text)
                self.assertEqual(rate, network.parse_rate(str(rate)))


class ShapeTests(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.slow = network.parse_rate("1mbps")
        self.fast = network.parse_rate("20mbps")
        self.off = network.parse_rate("off")

    def test_a_pair_is_seen_from_both_ends_only(self):
        shape = network.Shape().changed(self.slow, (TWO, ONE))
        self.assertEqual([(TWO, self.slow)], shape.peers(ONE))
        self.assertEqual([(ONE, self.slow)], shape.peers(TWO))
        self.assertEqual([], shape.peers(THREE))

    def test_a_pair_named_either_way_round_is_one_pair(self):
        shape = (
            network.Shape()
            .changed(self.slow, (TWO, ONE))
            .changed(self.fast, (ONE, TWO))
        )
        self.assertEqual([(TWO, self.fast)], shape.peers(ONE))

    def test_off_for_a_pair_leaves_the_rest(self):
        shape = (
            network.Shape()
            .changed(self.fast)
            .changed(self.slow, (ONE, TWO))
            .changed(self.slow, (ONE, THREE))
            .changed(self.off, (ONE, TWO))
        )
        self.assertEqual([(THREE, self.slow)], shape.peers(ONE))
        self.assertEqual(self.fast, shape.everywhere)

    def test_a_rate_for_all_forgets_pairs(self):
        shape = network.Shape().changed(self.slow, (ONE, TWO))
        self.assertEqual(network.Shape(self.fast), shape.changed(self.fast))

    def test_a_host_has_no_link_to_itself(self):
        with self.assertRaisesRegex(paths.LabError, "itself"):
            network.Shape().changed(self.slow, (ONE, ONE))


class TcScriptTests(unittest.TestCase):
    def script(self, shape, name=ONE):
        return network.tc_script(shape, paths.plan_of(name)).splitlines()

    def test_off_only_removes(self):
        self.assertEqual(
            ["tc qdisc del dev mig0 root 2>/dev/null || :"],
            self.script(network.Shape()),
        )

    def test_a_rate_is_a_token_bucket(self):
        shape = network.Shape(network.parse_rate("20mbps"))
        self.assertEqual(
            "tc qdisc add dev mig0 root tbf rate 20000000bps "
            "burst 524288 latency 100ms",
            self.script(shape)[-1],
        )

    def test_cut_swallows_without_telling_the_sender(self):
        shape = network.Shape(network.parse_rate("cut"))
        self.assertEqual(
            "tc qdisc add dev mig0 root blackhole", self.script(shape)[-1]
        )

    def test_ctl_sends_over_its_bridge(self):
        shape = network.Shape(network.parse_rate("cut"))
        self.assertIn("dev br-mig ", self.script(shape, paths.CTL)[-1])

    def test_a_pair_gets_a_class_by_the_peers_address(self):
        shape = (
            network.Shape()
            .changed(network.parse_rate("20mbps"))
            .changed(network.parse_rate("cut"), (ONE, TWO))
        )
        script = self.script(shape)
        self.assertIn(
            "tc filter add dev mig0 parent 1: protocol ip u32 match ip dst "
            f"{paths.plan_of(TWO).migration_address}/32 flowid 1:2",
            script,
        )
        self.assertIn("tc qdisc add dev mig0 parent 1:2 blackhole", script)
        self.assertTrue(
            any("classid 1:1 htb rate 20000000bps" in one for one in script)
        )

    def test_who_is_in_no_pair_is_shaped_as_everybody(self):
        shape = network.Shape().changed(network.parse_rate("cut"), (ONE, TWO))
        self.assertEqual(1, len(self.script(shape, THREE)))
