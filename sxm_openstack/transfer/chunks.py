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

"""Digests of chunks of an image, from its map and its data."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import hashlib

from sxm_openstack.transfer.copier import plan

DIGEST_BYTES = 16
ZEROS = bytes(1 << 20)


def runs(
    wanted: Iterable[int] | None, chunk_bytes: int, size: int
) -> Iterator[tuple[int, int]]:
    """Begin and end of what to read: chunks that follow each other as one.

    :param wanted: indices of chunks, in order; ``None`` is all of them.
    :raises ValueError: they are out of order, or beyond the end.
    """
    if wanted is None:
        yield 0, size
        return
    begin = end = 0
    for index in wanted:
        start = index * chunk_bytes
        if not end <= start < size:
            raise ValueError(f'chunk {index} is out of order or beyond {size}')
        if start > end:
            if end > begin:
                yield begin, end
            begin = start
        end = min(start + chunk_bytes, size)
    if end > begin:
        yield begin, end


def pieces(
    source: plan.Map, start: int, length: int
) -> Iterator[tuple[int, int, bool]]:
    """Offset and length of what to hash, and whether it is data."""
    position = start
    for extent in plan.extents(
        source, start, length, top_only=False, write_zeros=False
    ):
        if extent.offset > position:
            yield position, extent.offset - position, False
        yield extent.offset, extent.length, True
        position = extent.end
    if position < start + length:
        yield position, start + length - position, False


class Digester:
    """Hashes pieces of an image, and gives a digest for every chunk."""

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._left = chunk_bytes
        self._zeros: str | None = None

    def add(self, data: memoryview) -> Iterator[str]:
        while data:
            part = data[: self._left]
            data = data[self._left :]
            self._hash.update(part)
            self._left -= len(part)
            if not self._left:
                yield self._take()

    def add_zeros(self, length: int) -> Iterator[str]:
        while length:
            if self._left == self._chunk_bytes <= length and self._zeros:
                length -= self._chunk_bytes
                yield self._zeros
                continue
            whole = self._left == self._chunk_bytes
            part = min(length, self._left)
            length -= part
            for digest in self._hash_zeros(part):
                self._zeros = digest if whole else self._zeros
                yield digest

    def end(self) -> Iterator[str]:
        """The last chunk, if it is shorter."""
        if self._left != self._chunk_bytes:
            yield self._take()

    def _hash_zeros(self, length: int) -> Iterator[str]:
        while length:
            part = min(length, len(ZEROS))
            length -= part
            yield from self.add(memoryview(ZEROS)[:part])

    def _take(self) -> str:
        digest = self._hash.hexdigest()
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._left = self._chunk_bytes
        return digest
