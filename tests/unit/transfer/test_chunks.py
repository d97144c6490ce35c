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

import hashlib
import unittest

from sxm_openstack.transfer import chunks

from tests.unit.transfer import relays
from tests.unit.transfer import test_copier_plan

ZERO = 2


def expected(data, chunk_bytes):
    return [
        hashlib.blake2b(
            data[start : start + chunk_bytes], digest_size=16
        ).hexdigest()
        for start in range(0, len(data), chunk_bytes)
    ]


class DigesterTest(unittest.TestCase):
    def digests(self, chunk_bytes, parts):
        """Digests of parts, each data or a number of zeros."""
        digester = chunks.Digester(chunk_bytes)
        found = []
        for part in parts:
            if isinstance(part, int):
                found += digester.add_zeros(part)
            else:
                found += digester.add(memoryview(part))
        return found + list(digester.end())

    def test_parts_make_no_difference(self):
        data = relays.random_bytes(1000)
        for size in (1, 7, 100, 999, 1000, 5000):
            for cut in (0, 1, 100, 500, 1000):
                self.assertEqual(
                    expected(data, size),
                    self.digests(size, [data[:cut], data[cut:]]),
                )

    def test_zeros_that_are_not_read_have_the_digest_of_zeros(self):
        some = relays.random_bytes(150)
        for size in (10, 64, 100, 4000):
            self.assertEqual(
                expected(some + bytes(1000) + some + bytes(30), size),
                self.digests(size, [some, 1000, some, 30]),
            )

    def test_many_chunks_of_zeros(self):
        size = 3 << 20
        whole = expected(bytes(size), size)
        self.assertEqual(whole * 5, self.digests(size, [5 * size]))

    def test_nothing(self):
        self.assertEqual([], self.digests(10, []))


class PiecesTest(unittest.TestCase):
    def test_every_byte_is_there_once(self):
        source = test_copier_plan.FakeMap(
            [(0, 10, ZERO), (10, 30, 0), (30, 40, ZERO), (40, 50, 0)]
        )
        self.assertEqual(
            [(5, 5, False), (10, 20, True), (30, 10, False), (40, 5, True)],
            list(chunks.pieces(source, 5, 40)),
        )

    def test_zeros_at_the_end(self):
        source = test_copier_plan.FakeMap([(0, 10, 0), (10, 30, ZERO)])
        self.assertEqual(
            [(0, 10, True), (10, 20, False)],
            list(chunks.pieces(source, 0, 30)),
        )


class RunsTest(unittest.TestCase):
    def test_all(self):
        self.assertEqual([(0, 95)], list(chunks.runs(None, 10, 95)))

    def test_neighbours_are_read_as_one(self):
        self.assertEqual(
            [(0, 10), (30, 60), (90, 95)],
            list(chunks.runs([0, 3, 4, 5, 9], 10, 95)),
        )

    def test_nothing(self):
        self.assertEqual([], list(chunks.runs([], 10, 95)))

    def test_out_of_order_or_beyond_the_end(self):
        for wanted in ([3, 1], [3, 3], [10], [-1]):
            with self.assertRaises(ValueError):
                list(chunks.runs(wanted, 10, 95))
