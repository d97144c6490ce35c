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

"""Copy one image to another on this host: sparse, by format, verified.

Both are served by QEMU's storage daemon, each as what it is: a qcow2 file
shows its content, not its container.  So the copier moves what a guest would
see, from any format and protocol to any other, and the digests that are
compared in the end are of that, too.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import enum
import os
import pathlib
import stat
import time
from typing import Any

from sxm_openstack import exception
from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.transfer import base
from sxm_openstack.transfer import copier_client
from sxm_openstack.transfer import digest_client
from sxm_openstack.transfer import export
from sxm_openstack.transfer import process

_TICK_S = 0.05
_CHUNK_BYTES = 1 << 20


class Phase(enum.StrEnum):
    """What a copy is doing."""

    COPYING = 'copying'
    VERIFYING = 'verifying'
    DONE = 'done'


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """A look at a copy.

    :param total_bytes: data that has to be copied; holes do not count.
    :param offset: everything below it is at the destination and flushed
        there.
    """

    phase: Phase
    total_bytes: int
    done_bytes: int
    offset: int


@dataclasses.dataclass(frozen=True, slots=True)
class Volume:
    """An image that QEMU can open on this host.

    :param protocol: options of QEMU's protocol driver: ``driver`` and what
        that needs to find the image.
    :param format: ``raw`` or ``qcow2``.
    :param size_bytes: of what is copied; the image may be larger.
    :param thin: zeros are to take no space in it.
    :param blank: it is known to hold nothing but zeros.
    """

    protocol: Mapping[str, Any]
    format: str
    size_bytes: int
    thin: bool = True
    blank: bool = False

    @property
    def place(self) -> str:
        """Where it lies, for messages."""
        found = self.protocol.get('filename') or self.protocol.get('image')
        return str(found)


def at_path(
    path: str, image_format: str, size_bytes: int, *, thin_device: bool
) -> Volume:
    """The image in a file or on a block device.

    A file that has all its blocks was made so by somebody who wants it so.

    :param thin_device: what a block device is; a file tells itself.
    :raises OSError: there is none.
    """
    found = os.stat(path)
    if stat.S_ISBLK(found.st_mode):
        return Volume(
            {'driver': 'host_device', 'filename': path},
            image_format,
            size_bytes,
            thin=thin_device,
        )
    allocated = found.st_blocks * 512
    return Volume(
        {'driver': 'file', 'filename': path},
        image_format,
        size_bytes,
        thin=allocated < found.st_size or image_format != 'raw',
        # NFS before 4.2 tells no holes, but a file without a block has
        # nothing else.
        blank=image_format == 'raw' and not allocated,
    )


def _image(volume: Volume, name: str, *, writable: bool, direct: bool) -> Any:
    """What is served: the format on the protocol, cut to the size."""
    common = {
        'read-only': not writable,
        'cache': {'direct': direct, 'no-flush': False},
        'discard': 'unmap' if writable and volume.thin else 'ignore',
    }
    aio = {}
    if volume.protocol['driver'] in ('file', 'host_device'):
        aio['aio'] = 'native' if direct else 'threads'
    nodes: list[export.Node] = [
        {**volume.protocol, 'node-name': 'protocol', **aio, **common},
        {
            'driver': volume.format,
            'node-name': 'image',
            'file': 'protocol',
            **common,
        },
    ]
    part = {
        'driver': 'raw',
        'node-name': 'part',
        'file': 'image',
        'size': volume.size_bytes,
        **common,
    }
    return export.Image(name, name, [*nodes, part], writable)


@dataclasses.dataclass(frozen=True, slots=True)
class Orders:
    """How a copy is to be done.

    :param rate_bytes_per_s: asked for again and again; 0 is no limit.
    :param offset: everything below it is at the destination already.
    :param verify: compare both images afterwards.
    """

    rate_bytes_per_s: Callable[[], int] = lambda: 0
    offset: int = 0
    verify: bool = True


class VolumeCopy:
    """One copy, from its begin to its end.

    What it starts is recorded in its directory, so that what a killed
    service left is found and ended by :func:`.process.clean_directory`.

    :param directory: of this copy alone, at most 80 bytes long.
    :param settings: helper and connections count.
    """

    def __init__(
        self,
        directory: str,
        source: Volume,
        destination: Volume,
        settings: base.Settings,
        *,
        storage_daemon: str = 'qemu-storage-daemon',
    ) -> None:
        self._directory = directory
        self._source = source
        self._destination = destination
        self._settings = settings
        self._storage_daemon = storage_daemon

    def run(
        self,
        orders: Orders,
        tell: Callable[[Progress], None],
    ) -> None:
        """Copy, and compare; blocks until both are done.

        :param tell: called at least every second, in this thread; what it
            raises ends the copy.
        :raises CopyFailed: what is at the destination is not complete.
        :raises VerifyFailed: the two sides differ, or cannot be read.
        :raises MoveFailed: an image could not be opened.
        """
        process.clean_directory(self._directory)
        process.prepare_directory(self._directory, None)
        try:
            last = self._copy(orders, tell)
            if orders.verify:
                self._verify(last, tell)
            tell(dataclasses.replace(last, phase=Phase.DONE))
        finally:
            process.clean_directory(self._directory)

    def _serve(
        self, volume: Volume, name: str, *, writable: bool
    ) -> export.Export:
        return export.serve(
            self._storage_daemon,
            pathlib.Path(self._directory),
            _image(volume, name, writable=writable, direct=True),
            _image(volume, name, writable=writable, direct=False),
        )

    def _disk(self, volume: Volume, name: str) -> engine_disk.Disk:
        return engine_disk.Disk(
            name, volume.place, volume.format, volume.size_bytes
        )

    def _copy(
        self, orders: Orders, tell: Callable[[Progress], None]
    ) -> Progress:
        there = self._serve(self._destination, 'to', writable=True)
        try:
            here = self._serve(self._source, 'from', writable=False)
            rate = orders.rate_bytes_per_s()
            copy = copier_client.BaseCopy(
                self._settings.helper_python,
                here,
                self._disk(self._source, 'to'),
                there.socket,
                there.export,
                connections=self._settings.copy_connections,
                rate_bytes_per_s=rate,
                offset=orders.offset,
                zeros='skip' if self._destination.blank else 'look',
            )
            with contextlib.closing(copy):
                last = self._follow(copy, rate, orders, tell)
        except BaseException:
            # The first failure is the one to tell.
            with contextlib.suppress(exception.SXMError):
                there.stop()
            raise
        # It flushes when it closes: what it says then counts.
        there.stop()
        return last

    def _follow(
        self,
        copy: copier_client.BaseCopy,
        rate: int,
        orders: Orders,
        tell: Callable[[Progress], None],
    ) -> Progress:
        while True:
            done = copy.progress()
            progress = Progress(
                Phase.COPYING, done.total_bytes, done.done_bytes, done.offset
            )
            tell(progress)
            if done.finished:
                return progress
            wanted = orders.rate_bytes_per_s()
            if wanted != rate:
                copy.set_rate(wanted)
                rate = wanted
            time.sleep(_TICK_S)

    def _verify(
        self, last: Progress, tell: Callable[[Progress], None]
    ) -> None:
        """Read both sides anew, at the same time, and compare."""
        sides = [(self._source, 'from'), (self._destination, 'to')]
        with contextlib.ExitStack() as stack:
            digestings = [
                stack.enter_context(self._digesting(*side)) for side in sides
            ]
            # Each is asked, so that none has to wait for being read from.
            while sum(one.finished() for one in digestings) < len(sides):
                part = min(one.part for one in digestings)
                tell(
                    dataclasses.replace(
                        last,
                        phase=Phase.VERIFYING,
                        done_bytes=int(part * last.total_bytes),
                    )
                )
                time.sleep(_TICK_S)
            here, there = [one.result() for one in digestings]
        _compare(self._source, self._destination, here, there)

    @contextlib.contextmanager
    def _digesting(
        self, volume: Volume, name: str
    ) -> Iterator[digest_client.Digesting]:
        served = self._serve(volume, name, writable=False)
        try:
            digesting = digest_client.Digesting(
                self._settings.helper_python,
                served,
                self._disk(volume, name),
                _CHUNK_BYTES,
            )
            with contextlib.closing(digesting):
                yield digesting
        finally:
            with contextlib.suppress(exception.MoveFailed):
                served.stop()  # it was only read


def _compare(
    source: Volume,
    destination: Volume,
    here: Sequence[str],
    there: Sequence[str],
) -> None:
    position = content.first_different(here, there)
    if position is not None:
        raise exception.VerifyFailed(
            f'{destination.place} differs from {source.place} at or after '
            f'offset {position * _CHUNK_BYTES}.',
            remedy='Check the storage of the destination; the source is '
            'unchanged.',
        )
