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

"""NBD servers as the copier sees them."""

from __future__ import annotations

from collections.abc import Callable
import os
from typing import Any

import nbd

from sxm_openstack.transfer.copier import plan

ALLOCATION = nbd.CONTEXT_BASE_ALLOCATION
DEPTH = 'qemu:allocation-depth'  # libnbd has a name for it since 1.16


class CopyError(Exception):
    """The copy cannot go on; the text says why."""


class Server:
    """One connection to an NBD server.

    Callbacks of libnbd run while it holds the handle's lock: those given
    here must not use the handle.

    :param role: ``source`` or ``destination``, for messages.
    :param contexts: meta contexts that the server must have.
    """

    def __init__(
        self, role: str, where: dict[str, str], contexts: tuple[str, ...] = ()
    ) -> None:
        self.role = role
        self.handle = nbd.NBD()
        self.handle.set_export_name(where['export'])
        for context in contexts:
            self.handle.add_meta_context(context)
        try:
            self.handle.connect_unix(where['socket'])
        except nbd.Error as error:
            raise CopyError(
                f'the NBD server of the {role} does not answer on '
                f'{where["socket"]}: {error.string}'
            ) from error
        for context in contexts:
            if not self.handle.can_meta_context(context):
                raise CopyError(f'the {role} does not tell {context}')
        self.size: int = self.handle.get_size()
        self.min_block = max(self.handle.get_block_size(nbd.SIZE_MINIMUM), 1)
        self.max_block = (
            self.handle.get_block_size(nbd.SIZE_MAXIMUM) or 32 << 20
        )

    def read(
        self, buffer: nbd.Buffer, offset: int, done: Callable[[int], None]
    ) -> None:
        self._call(
            self.handle.aio_pread, buffer, offset, self._completion(done)
        )

    def write(
        self, buffer: nbd.Buffer, offset: int, done: Callable[[int], None]
    ) -> None:
        self._call(
            self.handle.aio_pwrite, buffer, offset, self._completion(done)
        )

    def zero(
        self, length: int, offset: int, done: Callable[[int], None]
    ) -> None:
        self._call(
            self.handle.aio_zero, length, offset, self._completion(done)
        )

    def flush(self, done: Callable[[int], None]) -> None:
        if self.handle.can_flush():
            self._call(self.handle.aio_flush, self._completion(done))
        else:
            done(0)

    def interest(self) -> tuple[bool, bool]:
        """Whether it waits to read, and whether it waits to write."""
        direction = self.handle.aio_get_direction()
        return (
            bool(direction & nbd.AIO_DIRECTION_READ),
            bool(direction & nbd.AIO_DIRECTION_WRITE),
        )

    def notify(self, readable: bool, writable: bool) -> None:
        """Let it move bytes.

        :raises CopyError: the connection is lost.
        """
        try:
            direction = self.handle.aio_get_direction()
            if readable and direction & nbd.AIO_DIRECTION_READ:
                self.handle.aio_notify_read()
            elif writable and direction & nbd.AIO_DIRECTION_WRITE:
                self.handle.aio_notify_write()
        except nbd.Error as error:
            raise self.lost(error) from error
        if self.handle.aio_is_dead() or self.handle.aio_is_closed():
            raise self.lost()

    def lost(self, error: nbd.Error | None = None) -> CopyError:
        reason = f': {error.string}' if error else ''
        return CopyError(
            f'the connection to the NBD server of the {self.role} was '
            f'closed{reason}'
        )

    def failed(self, what: str, extent: plan.Extent, code: int) -> CopyError:
        return CopyError(
            f'{what} {extent.length} bytes at offset {extent.offset} of the '
            f'{self.role} failed: {os.strerror(code)}'
        )

    def _call(self, function: Callable[..., object], *arguments: Any) -> None:
        try:
            function(*arguments)
        except nbd.Error as error:
            raise self.lost(error) from error

    def _completion(self, done: Callable[[int], None]) -> Callable[[Any], int]:
        def completed(error: Any) -> int:
            # libnbd's codes are those of errno; 1 retires the command.
            done(int(getattr(error, 'value', error)))
            return 1

        return completed


class SourceMap:
    """Block status of the source, on a connection of its own.

    :param depth: whether the layers are asked for, too.
    """

    def __init__(self, where: dict[str, str], *, depth: bool) -> None:
        contexts = (ALLOCATION, DEPTH) if depth else (ALLOCATION,)
        self._server = Server('source', where, contexts)
        self._depth = depth
        self.size = self._server.size

    def read(
        self, offset: int, length: int
    ) -> tuple[plan.Statuses, plan.Statuses]:
        """See :class:`.plan.Map`; blocks, :raises CopyError:."""
        found: dict[str, list[tuple[int, int]]] = {ALLOCATION: [], DEPTH: []}
        reached = {ALLOCATION: offset, DEPTH: offset}
        end = offset + length

        def on_extents(
            context: str, start: int, entries: list[int], error: Any
        ) -> int:
            # Answers to a later question may tell again what is known.
            if context in found and start == reached[context]:
                found[context] += [
                    (entries[index], entries[index + 1])
                    for index in range(0, len(entries), 2)
                ]
                reached[context] += sum(entries[::2])
            return 0

        wanted = [ALLOCATION, DEPTH] if self._depth else [ALLOCATION]
        while True:
            start = min(reached[context] for context in wanted)
            if start >= end:
                return found[ALLOCATION], found[DEPTH]
            self._ask(end - start, start, on_extents)
            if min(reached[context] for context in wanted) <= start:
                raise CopyError(
                    f'the source does not tell what it has at {start}'
                )

    def _ask(self, length: int, offset: int, on_extents: Any) -> None:
        try:
            self._server.handle.block_status(length, offset, on_extents)
        except nbd.Error as error:
            raise CopyError(
                f'the map of the source at {offset} could not be read: '
                f'{error.string}'
            ) from error
