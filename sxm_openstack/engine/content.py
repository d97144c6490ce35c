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

"""Which parts of a disk's content are compared on both hosts."""

from collections.abc import Sequence
import enum
import random

SECTOR_BYTES = 512
UNIT_BYTES = 64 << 10
"""Every chunk is a multiple of it."""

_CHUNK_BYTES = 1 << 20
_CHUNKS_AT_MOST = 4096
_HANDED_OVER_CHUNKS_AT_MOST = 65536


class Verify(enum.StrEnum):
    """How much of each disk is compared before the memory moves."""

    NONE = 'none'
    SAMPLE = 'sample'
    FULL = 'full'


class View(enum.StrEnum):
    """What of a disk is read."""

    BASE = 'base'
    """The ordinary file, on whatever lies below it."""
    HANDED_OVER = 'handed-over'
    """The overlay of the move on the ordinary file: the disk as it was when
    it was handed over."""


def chunk_bytes(size_bytes: int) -> int:
    """Size of a chunk of a base, in whole MiB: at most 4096 of them."""
    return _chunk_bytes(size_bytes, _CHUNK_BYTES, _CHUNKS_AT_MOST)


def handed_over_chunk_bytes(size_bytes: int) -> int:
    """Size of a chunk where only those that were written are compared.

    Smaller than that of a base, as a small write makes its chunk be read.
    """
    return _chunk_bytes(size_bytes, UNIT_BYTES, _HANDED_OVER_CHUNKS_AT_MOST)


def number_of_chunks(size_bytes: int, chunk: int) -> int:
    return -(-size_bytes // chunk)


def sample(
    size_bytes: int, chunk: int, percent: int, seed: str
) -> tuple[int, ...]:
    """Indices of some chunks, in order: the first, the last, and others.

    :param percent: of all chunks; at least one besides the first and last.
    :param seed: the same one gives the same chunks again.
    """
    count = number_of_chunks(size_bytes, chunk)
    if count <= 3:
        return tuple(range(count))
    wanted = max(1, -(-count * percent // 100) - 2)
    # Not a secret: whoever knows which are read gains nothing.
    dice = random.Random(seed)  # noqa: S311  # nosec B311
    middle = range(1, count - 1)
    drawn = dice.sample(middle, min(wanted, len(middle)))
    return (0, *sorted(drawn), count - 1)


def first_different(ours: Sequence[str], theirs: Sequence[str]) -> int | None:
    """Position of the first digest that differs.

    :raises ValueError: there are not as many of both.
    """
    for position, pair in enumerate(zip(ours, theirs, strict=True)):
        if pair[0] != pair[1]:
            return position
    return None


def finer(chunk: int) -> tuple[int, int]:
    """Sizes of the parts in which a chunk that differs is looked at again.

    Each divides the one before it.
    """
    return SECTOR_BYTES * (chunk // UNIT_BYTES), SECTOR_BYTES


def _chunk_bytes(size_bytes: int, unit: int, at_most: int) -> int:
    return unit * max(1, -(-size_bytes // (unit * at_most)))
