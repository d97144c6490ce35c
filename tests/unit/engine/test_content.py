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

import ddt

from sxm_openstack.engine import content

KIB, MIB = 1 << 10, 1 << 20


@ddt.ddt
class TestChunks(unittest.TestCase):
    @ddt.data(
        (512, MIB),
        (MIB, MIB),
        (4096 * MIB, MIB),
        (4096 * MIB + 512, 2 * MIB),
        (10 << 40, 2560 * MIB),
    )
    @ddt.unpack
    def test_whole_mebibytes_and_not_too_many(self, size_bytes, expected):
        found = content.chunk_bytes(size_bytes)
        self.assertEqual(expected, found)
        self.assertLessEqual(content.number_of_chunks(size_bytes, found), 4096)

    @ddt.data((512, 64 * KIB), (4 << 30, 64 * KIB), (100 << 30, 1600 * KIB))
    @ddt.unpack
    def test_smaller_where_only_what_was_written_counts(self, size, expected):
        found = content.handed_over_chunk_bytes(size)
        self.assertEqual(expected, found)
        self.assertLessEqual(content.number_of_chunks(size, found), 65536)

    @ddt.data(64 * KIB, MIB, 1600 * KIB, 2560 * MIB)
    def test_each_finer_size_divides_the_one_before(self, chunk):
        for part in content.finer(chunk):
            self.assertEqual(0, chunk % part)
            chunk = part
        self.assertEqual(content.SECTOR_BYTES, chunk)


@ddt.ddt
class TestSample(unittest.TestCase):
    def test_first_and_last_and_some_others(self):
        found = content.sample(1000 * MIB, MIB, 5, 'seed')
        self.assertEqual(50, len(found))
        self.assertEqual(50, len(set(found)))
        self.assertEqual(sorted(found), list(found))
        self.assertEqual((0, 999), (found[0], found[-1]))

    def test_the_seed_decides(self):
        once = content.sample(1000 * MIB, MIB, 5, 'seed')
        self.assertEqual(once, content.sample(1000 * MIB, MIB, 5, 'seed'))
        self.assertNotEqual(once, content.sample(1000 * MIB, MIB, 5, 'other'))

    @ddt.data(1, 100)
    def test_all_of_what_is_small(self, percent):
        self.assertEqual((0,), content.sample(512, MIB, percent, 's'))
        self.assertEqual((0, 1, 2), content.sample(3 * MIB, MIB, percent, 's'))

    def test_never_the_ends_alone(self):
        self.assertEqual(3, len(content.sample(100 * MIB, MIB, 1, 's')))

    def test_a_hundred_percent_is_all(self):
        self.assertEqual(
            tuple(range(100)), content.sample(100 * MIB, MIB, 100, 's')
        )
