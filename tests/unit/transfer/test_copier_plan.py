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

from sxm_openstack.transfer.copier import plan

KIB = 1 << 10
HOLE, ZERO = 1, 2


class FakeMap:
    """Block status from two lists over the whole image.

    Like a server, it answers in extents that are cut at the range.
    """

    def __init__(self, allocation, depths=()):
        self.lists = [allocation, depths]
        self.asked = []

    def read(self, offset, length):
        self.asked.append((offset, length))
        return tuple(
            [
                (min(end, offset + length) - max(start, offset), flags)
                for start, end, flags in statuses
                if start < offset + length and end > offset
            ]
            for statuses in self.lists
        )


def found(source, start, length, **options):
    options = {'top_only': False, 'write_zeros': False, **options}
    return [
        (extent.offset, extent.length, extent.kind.value)
        for extent in plan.extents(source, start, length, **options)
    ]


class ExtentsTest(unittest.TestCase):
    def test_holes_are_left_out(self):
        source = FakeMap([(0, 10, 0), (10, 20, HOLE | ZERO), (20, 30, 0)])
        self.assertEqual(
            [(0, 10, 'data'), (20, 10, 'data')], found(source, 0, 30)
        )

    def test_zeros_are_written_where_something_could_shine_through(self):
        source = FakeMap([(0, 10, 0), (10, 20, HOLE | ZERO), (20, 30, ZERO)])
        self.assertEqual(
            [(0, 10, 'data'), (10, 20, 'zero')],
            found(source, 0, 30, write_zeros=True),
        )

    def test_hole_that_does_not_read_as_zeros_is_data(self):
        source = FakeMap([(0, 10, HOLE)])
        self.assertEqual([(0, 10, 'data')], found(source, 0, 10))

    def test_neighbours_of_one_kind_are_joined(self):
        source = FakeMap([(0, 10, 0), (10, 20, HOLE), (20, 30, 0)])
        self.assertEqual([(0, 30, 'data')], found(source, 0, 30))

    def test_top_layer_only(self):
        source = FakeMap(
            [(0, 40, 0), (40, 60, ZERO), (60, 80, ZERO)],
            [(0, 10, 0), (10, 30, 1), (30, 50, 2), (50, 80, 1)],
        )
        self.assertEqual(
            [(10, 20, 'data'), (50, 30, 'zero')],
            found(source, 0, 80, top_only=True, write_zeros=True),
        )

    def test_lists_that_are_cut_at_different_places(self):
        source = FakeMap(
            [(0, 15, 0), (15, 16, ZERO), (16, 40, 0)],
            [(0, 8, 1), (8, 24, 1), (24, 40, 3)],
        )
        self.assertEqual(
            [(0, 15, 'data'), (15, 1, 'zero'), (16, 8, 'data')],
            found(source, 0, 40, top_only=True, write_zeros=True),
        )

    def test_part_of_an_image(self):
        source = FakeMap([(0, 10, 0), (10, 20, ZERO), (20, 100, 0)])
        self.assertEqual([(20, 5, 'data')], found(source, 12, 13))

    def test_map_that_ends_too_early_is_an_error(self):
        with self.assertRaisesRegex(ValueError, 'ends at 10'):
            found(FakeMap([(0, 10, 0)]), 0, 20)

    def test_depths_that_end_too_early_are_an_error(self):
        with self.assertRaisesRegex(ValueError, 'ends at 0'):
            found(FakeMap([(0, 10, 0)]), 0, 10, top_only=True)


class WindowsTest(unittest.TestCase):
    def test_empty(self):
        self.assertEqual([], list(plan.windows(0, 0)))

    def test_resume_in_the_middle_keeps_to_the_grid(self):
        size = 2 * plan.WINDOW_BYTES + 5
        start = plan.WINDOW_BYTES - 7
        self.assertEqual(
            [
                (start, 7),
                (plan.WINDOW_BYTES, plan.WINDOW_BYTES),
                (2 * plan.WINDOW_BYTES, 5),
            ],
            list(plan.windows(start, size)),
        )

    def test_nothing_is_left_to_do(self):
        self.assertEqual([], list(plan.windows(100, 100)))


class CutTest(unittest.TestCase):
    def cut(self, offset, length, request, kind=plan.Kind.DATA):
        parts = []
        rest = plan.Extent(offset, length, kind)
        while rest:
            part, rest = plan.cut(rest, request)
            parts.append((part.offset, part.length))
        return parts

    def test_small_extent_goes_in_one(self):
        self.assertEqual([(512, 1000)], self.cut(512, 1000, 64 * KIB))

    def test_requests_end_at_clusters(self):
        self.assertEqual(
            [
                (10 * KIB, 118 * KIB),
                (128 * KIB, 128 * KIB),
                (256 * KIB, 14 * KIB),
            ],
            self.cut(10 * KIB, 260 * KIB, 128 * KIB),
        )

    def test_nothing_is_lost_or_sent_twice(self):
        for offset in (0, 512, 4096, 65535, 65536, 1000001):
            for length in (1, 511, 65536, 65537, 3000001):
                parts = self.cut(offset, length, 64 * KIB)
                position = offset
                for start, size in parts:
                    self.assertEqual(position, start)
                    self.assertGreater(size, 0)
                    self.assertLessEqual(size, 64 * KIB)
                    position += size
                self.assertEqual(offset + length, position)

    def test_zeros_go_in_long_requests(self):
        parts = self.cut(0, 3 * plan.ZERO_BYTES, 64 * KIB, plan.Kind.ZERO)
        self.assertEqual(3, len(parts))
