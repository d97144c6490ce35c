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

"""What is to be sent: extents of an image, a window at a time."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import enum
from typing import Protocol

WINDOW_BYTES = 256 << 20
ALIGN_BYTES = 64 << 10
ZERO_BYTES = 32 << 20  # longest write-zeroes; bounds what a server has to do

STATE_ZERO = 1 << 1  # of base:allocation, NBD protocol


class Kind(enum.Enum):
    """What the destination needs of an extent."""

    SKIP = 'skip'
    ZERO = 'zero'
    DATA = 'data'


@dataclasses.dataclass(frozen=True)
class Extent:
    offset: int
    length: int
    kind: Kind

    @property
    def end(self) -> int:
        return self.offset + self.length


Statuses = Iterable[tuple[int, int]]
"""Length and flags of consecutive extents, as NBD's block status has them."""


class Map(Protocol):
    """Tells how a range of the source is allocated."""

    def read(self, offset: int, length: int) -> tuple[Statuses, Statuses]:
        """``base:allocation`` and ``qemu:allocation-depth`` of a range.

        The second one is empty where it was not asked for.
        """


def overlay(
    offset: int, length: int, first: Statuses, second: Statuses
) -> Iterator[tuple[int, int, int, int]]:
    """Cut a range wherever one of two lists changes.

    :returns: offset, length, flags of the first and of the second list.
    :raises ValueError: a list ends before the range does.
    """
    end = offset + length
    lists = [iter(first), iter(second)]
    ends, flags = [offset, offset], [0, 0]
    while offset < end:
        for index in (0, 1):
            while ends[index] <= offset:
                try:
                    size, flags[index] = next(lists[index])
                except StopIteration:
                    raise ValueError(
                        f'the map of the source ends at {ends[index]}'
                    ) from None
                ends[index] += size
        stop = min(*ends, end)
        yield offset, stop - offset, flags[0], flags[1]
        offset = stop


def kind_of(allocation: int, depth: int | None, write_zeros: bool) -> Kind:
    """What an extent with these flags needs.

    :param depth: 0 unallocated, 1 top layer, more is below; ``None`` where
        all layers count.
    """
    if depth is not None and depth != 1:
        return Kind.SKIP
    if allocation & STATE_ZERO:
        return Kind.ZERO if write_zeros else Kind.SKIP
    return Kind.DATA


def merge(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Join neighbours of one kind."""
    last: Extent | None = None
    for extent in extents:
        if last and last.kind is extent.kind and last.end == extent.offset:
            last = Extent(last.offset, last.length + extent.length, last.kind)
            continue
        if last:
            yield last
        last = extent
    if last:
        yield last


def windows(start: int, size: int) -> Iterator[tuple[int, int]]:
    """Offset and length of the windows from an offset to the end."""
    while start < size:
        length = min(WINDOW_BYTES - start % WINDOW_BYTES, size - start)
        yield start, length
        start += length


def extents(
    source: Map, start: int, length: int, *, top_only: bool, write_zeros: bool
) -> Iterator[Extent]:
    """Extents of one window, merged; those to skip are left out."""
    allocation, depths = source.read(start, length)
    whole: Statuses = depths if top_only else [(length, 1)]
    found = (
        Extent(offset, size, kind_of(flags, depth, write_zeros))
        for offset, size, flags, depth in overlay(
            start, length, allocation, whole
        )
    )
    return (found for found in merge(found) if found.kind is not Kind.SKIP)


def cut(extent: Extent, request_bytes: int) -> tuple[Extent, Extent | None]:
    """Take the first request off an extent.

    It ends at a multiple of 64 KiB, so that clusters of the destination are
    written as a whole.

    :returns: the request, and what is left of the extent.
    """
    limit = ZERO_BYTES if extent.kind is Kind.ZERO else request_bytes
    if extent.length <= limit:
        return extent, None
    end = extent.offset + limit
    end -= end % ALIGN_BYTES
    length = end - extent.offset
    rest = Extent(end, extent.length - length, extent.kind)
    return Extent(extent.offset, length, extent.kind), rest
