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

"""A transfer driver in memory, both sides."""

from __future__ import annotations

from collections.abc import Sequence
import hashlib

from sxm_openstack import exception
from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import ports

from tests.fakes import domain as fake_domain
from tests.fakes import guest as fake_guest
from tests.fakes import link as fake_link

BLOCK_BYTES = 65536
TOKEN = 'a secret that nobody may see'


def digests(
    files: fake_domain.FakeFiles,
    disk: engine_disk.Disk,
    chunk_bytes: int,
    chunks: Sequence[int] | None,
    view: content.View,
) -> list[str]:
    """Digest of each chunk of what a reader of the disk's file sees.

    Parts of a block have the digest of the block.
    """
    path = disk.path if view is content.View.BASE else disk.overlay_path
    blocks = -(-disk.size_bytes // BLOCK_BYTES)
    step = max(1, chunk_bytes // BLOCK_BYTES)
    firsts = (
        range(0, blocks, step)
        if chunks is None
        else [index * chunk_bytes // BLOCK_BYTES for index in chunks]
    )
    return [
        hashlib.sha256(
            repr(
                [
                    files.read(path, block)
                    for block in range(first, min(first + step, blocks))
                ]
            ).encode()
        ).hexdigest()
        for first in firsts
    ]


class FakeServer:
    """Destination side; keeps the contract of ``destination.Server``.

    :ivar exports: its ends of the mirrors, by target.
    :ivar serving: images that are open.
    :ivar torn: exports that stop without having flushed.
    """

    def __init__(self, files: fake_domain.FakeFiles) -> None:
        self.files = files
        self.exports: dict[str, fake_domain.FakeExport] = {}
        self.serving: set[str] = set()
        self.listening = False
        self.torn: set[str] = set()

    def start(self, disks: Sequence[engine_disk.Disk]) -> ports.Endpoint:
        self.close()
        for disk in disks:
            self.serving.add(disk.path)
            if disk.read_only:
                continue
            self.serving.add(disk.overlay_path)
            export = self.exports[disk.target] = fake_domain.FakeExport()
            export.blocks = self.files[disk.overlay_path].blocks
        self.listening = True
        return ports.Endpoint('192.0.2.2', 49300, TOKEN)

    def stop_exports(self) -> None:
        self._close_images()
        if self.torn:
            raise exception.MoveFailed(
                f'The server of {", ".join(self.torn)} had died before.'
            )

    def digests(
        self,
        disk: engine_disk.Disk,
        chunk_bytes: int,
        chunks: Sequence[int] | None = None,
        view: content.View = content.View.BASE,
    ) -> Sequence[str]:
        return digests(self.files, disk, chunk_bytes, chunks, view)

    def close(self) -> None:
        self._close_images()
        self.listening = False

    def _close_images(self) -> None:
        for export in self.exports.values():
            export.close()
        self.exports.clear()
        self.serving.clear()


class FakeCopy:
    """Copies some blocks each time that it is asked how far it is.

    It holds the base from its start until it is closed.

    :ivar offset: where it began.
    :ivar rates: every rate that was set.
    :ivar error: makes the next look at the progress raise.
    """

    def __init__(
        self,
        transfer: FakeTransfer,
        disk: engine_disk.Disk,
        link: fake_link.FakeLink,
        rate_bytes_per_s: int,
        offset: int,
    ) -> None:
        self._transfer = transfer
        self._disk = disk
        self._link = link
        self._todo = sorted(transfer.files[disk.path].blocks.items())
        self._done = offset // BLOCK_BYTES
        self._before = self._done
        self.offset = offset
        self.rates = [rate_bytes_per_s]
        self.closed = False
        self.error: str | None = None
        transfer.guest.locked.add(disk.path)

    def progress(self) -> ports.CopyProgress:
        channel = self._disk.base_channel
        if self.error is None and channel not in self._link.open_channels:
            self.error = 'the connection was closed'
        if self.error is not None:
            raise exception.CopyFailed(
                f'The base of {self._disk.target} was not copied: '
                f'{self.error}.'
            )
        there = self._transfer.server.files[self._disk.path].blocks
        until = self._done + self._transfer.blocks_at_once
        for block, value in self._todo[self._done : until]:
            there[block] = value
            self._done += 1
        self._link.copied_blocks[channel] = self._done - self._before
        return ports.CopyProgress(
            total_bytes=len(self._todo) * BLOCK_BYTES,
            done_bytes=self._done * BLOCK_BYTES,
            offset=self._done * BLOCK_BYTES,
            finished=self._done == len(self._todo),
        )

    def set_rate(self, rate_bytes_per_s: int) -> None:
        self.rates.append(rate_bytes_per_s)

    def close(self) -> None:
        self.closed = True
        self._transfer.guest.locked.discard(self._disk.path)


class FakeTransfer:
    """Source side; keeps the contract of :class:`.ports.Transfer`.

    :param guest: that reaches the server's exports over the link.
    :param server: the other side.
    :ivar blocks_at_once: how much a copy does between two looks.
    :ivar dead_for_tries: how often the other host does not answer.
    """

    def __init__(
        self, guest: fake_guest.FakeGuest, server: FakeServer
    ) -> None:
        self.guest = guest
        self.files = guest.files
        self.server = server
        self.links: list[fake_link.FakeLink] = []
        self.copies: list[FakeCopy] = []
        self.blocks_at_once = 4
        self.dead_for_tries = 0
        self.tries = 0

    def connect(
        self, endpoint: ports.Endpoint, channels: Sequence[str]
    ) -> fake_link.FakeLink:
        if not self.server.listening:
            raise exception.PeerUnreachable('Nobody listens there.')
        self.guest.exports = dict(self.server.exports)
        link = fake_link.FakeLink(channels, self.guest.exports)
        self.links.append(link)
        return link

    def is_reachable(self, endpoint: ports.Endpoint) -> bool:
        self.tries += 1
        return self.dead_for_tries < self.tries

    def start_copy(
        self,
        disk: engine_disk.Disk,
        socket: str,
        export: str,
        *,
        rate_bytes_per_s: int,
        offset: int = 0,
    ) -> FakeCopy:
        copy = FakeCopy(self, disk, self.links[-1], rate_bytes_per_s, offset)
        self.copies.append(copy)
        return copy

    def digests(
        self,
        disk: engine_disk.Disk,
        chunk_bytes: int,
        chunks: Sequence[int] | None = None,
        view: content.View = content.View.BASE,
    ) -> Sequence[str]:
        return digests(self.files, disk, chunk_bytes, chunks, view)
