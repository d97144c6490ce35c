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

"""Steps: compare a disk on both hosts, by digests of its chunks.

Only digests cross the link.  A difference stops the move, which leaves the
source as it is, and the error names the disk and the first sector.
"""

from collections.abc import Sequence
from concurrent import futures
import logging

from sxm_openstack import exception
from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import step as engine_step
from sxm_openstack.mirror import move as mirror_move

LOG = logging.getLogger(__name__)

_TICK_S = 0.1


class VerifyBase(engine_step.Step):
    """Compare a frozen base, or a sample of it.

    Both sides read at the same time.  An abort takes effect when this side
    has read its file.

    :param whole: every byte, whatever the operator asks for.
    """

    name = 'verify-base'
    resumable = True

    def __init__(
        self,
        move: mirror_move.Move,
        disk: engine_disk.Disk,
        *,
        whole: bool = False,
    ) -> None:
        self._move = move
        self._disk = disk
        self._whole = whole
        self.target = disk.target

    def execute(self) -> None:
        chunk = content.chunk_bytes(self._disk.size_bytes)
        _compare(
            self._move,
            self._disk,
            chunk,
            None if self._whole else self._sample(chunk),
            content.View.BASE,
        )

    def _sample(self, chunk: int) -> Sequence[int]:
        settings = self._move.settings
        seed = f'{self._move.verify_seed}/{self.target}'
        chosen = content.sample(
            self._disk.size_bytes, chunk, settings.verify_percent, seed
        )
        LOG.info(
            'Comparing %d of %d chunks of %s of server %s, seed %s',
            len(chosen),
            content.number_of_chunks(self._disk.size_bytes, chunk),
            self.target,
            self._move.server,
            seed,
        )
        return chosen

    def revert(self) -> None:
        """It changes nothing."""

    def probe(self) -> engine_step.Outcome:
        return engine_step.Outcome.UNKNOWN


class VerifyHandOver(engine_step.Step):
    """Prove that a disk was handed over as the guest saw it.

    Its base was compared as a whole and has not changed since: what is left
    to compare is each chunk of which an overlay, here or there, holds any
    part.  The guest goes on meanwhile, on its second overlays.
    """

    name = 'verify-hand-over'

    def __init__(self, move: mirror_move.Move, disk: engine_disk.Disk) -> None:
        self._move = move
        self._disk = disk
        self.target = disk.target

    def execute(self) -> None:
        move, disk = self._move, self._disk
        move.check()
        chunk = content.handed_over_chunk_bytes(disk.size_bytes)
        here = move.overlays(disk.format).written_chunks(
            disk.overlay_path, chunk
        )
        written = {*here, *move.destination.written(disk, chunk)}
        LOG.info(
            'Comparing %d of %d chunks of %s of server %s, handed over',
            len(written),
            content.number_of_chunks(disk.size_bytes, chunk),
            disk.target,
            move.server,
        )
        _compare(move, disk, chunk, sorted(written), content.View.HANDED_OVER)

    def revert(self) -> None:
        """It changes nothing."""

    def probe(self) -> engine_step.Outcome:
        return engine_step.Outcome.UNKNOWN


def _compare(
    move: mirror_move.Move,
    disk: engine_disk.Disk,
    chunk: int,
    chunks: Sequence[int] | None,
    view: content.View,
) -> None:
    """Compare the chunks, by default all.

    :raises VerifyFailed: one differs.
    """
    if chunks is not None and not chunks:
        return
    found = _first_different(move, disk, chunk, chunks, view)
    if found is None:
        return
    offset = found * chunk
    for part in content.finer(chunk):
        if part < chunk:
            end = min(offset + chunk, disk.size_bytes)
            inside = range(offset // part, -(-end // part))
            found = _first_different(move, disk, part, inside, view)
            if found is None:
                # It was read differently the second time: no disk does that.
                break
            offset, chunk = found * part, part
    raise exception.VerifyFailed(
        f'{disk.target} differs from its copy on {move.peer}, first at '
        f'offset {offset} ({view}).',
        disk=disk.target,
        remedy='Check the storage and the memory of the destination; the '
        'source is unchanged.',
    )


def _first_different(
    move: mirror_move.Move,
    disk: engine_disk.Disk,
    chunk: int,
    chunks: Sequence[int] | None,
    view: content.View,
) -> int | None:
    """Index of the first chunk that differs.

    :raises VerifyFailed: the two sides do not have as many.
    """
    move.check()
    with move.explained():
        here, there = _digests(move, disk, chunk, chunks, view)
    if len(here) != len(there):
        raise exception.VerifyFailed(
            f'{disk.target} has {len(here)} chunks here and {len(there)} on '
            f'{move.peer}.'
        )
    position = content.first_different(here, there)
    if position is None or chunks is None:
        return position
    return chunks[position]


def _digests(
    move: mirror_move.Move,
    disk: engine_disk.Disk,
    chunk: int,
    chunks: Sequence[int] | None,
    view: content.View,
) -> tuple[Sequence[str], Sequence[str]]:
    pool = futures.ThreadPoolExecutor(1, 'sxm-verify')
    try:
        remote = pool.submit(
            move.destination.digests, disk, chunk, chunks, view
        )
        here = move.transfer.digests(disk, chunk, chunks, view)
        while not remote.done():
            move.check()
            move.clock.sleep(_TICK_S)
        return here, remote.result()
    finally:
        # The call may outlive an abort; the destination ends it when it
        # is told to discard.
        pool.shutdown(wait=False, cancel_futures=True)
