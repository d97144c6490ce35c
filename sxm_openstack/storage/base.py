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

"""Contract of a storage driver: how a disk comes to be on a host."""

import abc
from collections.abc import Sequence
import os
import pathlib

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import files
from sxm_openstack.storage import image

_UNFINISHED = '.sxm-new'


class StorageDriver(abc.ABC):
    """Disks of one format in files, entry point ``sxm.storage``.

    Implements :class:`.ports.Overlays`.  Drivers keep no state and may be
    called from any thread.

    :cvar format: format of the disk's ordinary file, which is also the name
        of the entry point.
    """

    format: str

    @abc.abstractmethod
    def refuse(self, info: image.ImageInfo) -> str | None:
        """Reason why such an image cannot be moved, or ``None``."""

    def create_base(self, disk: engine_disk.Disk) -> None:
        """Make the destination's base, or take the one that is there.

        Nova makes the ordinary files of a server before a block migration;
        what is there must have the format and at least the size.  It must
        be empty where the copy leaves out what is empty on the source.

        :raises MoveFailed: what is there does not fit.
        """
        if not self.exists(disk.path):
            pathlib.Path(disk.path).parent.mkdir(parents=True, exist_ok=True)
            image.create(disk.path, self.format, disk.size_bytes)
            files.sync_directory(os.path.dirname(disk.path))
        found = image.info(disk.path, disk.format)
        if found.size_bytes < disk.size_bytes:
            raise exception.MoveFailed(
                f'{disk.path} on the destination has {found.size_bytes} '
                f'bytes, needed are {disk.size_bytes}.',
                disk=disk.target,
            )
        expects_backing = disk.backing is not engine_disk.Backing.NONE
        if expects_backing != (found.backing_path is not None):
            raise exception.MoveFailed(
                f'{disk.path} on the destination has '
                f'{found.backing_path or "no file"} below it, which does '
                f'not fit the source (backing: {disk.backing}).',
                disk=disk.target,
                remedy='Let Nova make the disk there; it is not known '
                'here which base image it needs.',
            )
        must_be_empty = not (
            disk.read_only or disk.backing is engine_disk.Backing.DIFFERENT
        )
        if must_be_empty and image.holds_data(disk.path, disk.format):
            raise exception.MoveFailed(
                f'{disk.path} on the destination holds data already, which '
                'would show where the source has none.',
                disk=disk.target,
                remedy='See what it is; remove it if it is the rest of a '
                'move that failed.',
            )

    def create_overlay(
        self, path: str, backing_path: str, backing_format: str, size: int
    ) -> None:
        """Make an empty overlay in place of an empty leftover of that name.

        It appears under its name when it is complete, and survives a power
        cut from then on, as the guest's writes in it must.

        :param size: virtual size, bytes.
        :raises MoveFailed: a file of that name holds data.
        """
        if self.exists(path) and self.holds_data(path):
            raise exception.MoveFailed(
                f'{path} is there already and holds data.',
                remedy='Find out which disk it belongs to; it may be the '
                'only copy of what a guest wrote.',
            )
        unfinished = f'{path}{_UNFINISHED}'
        try:
            image.create_overlay(
                unfinished, backing_path, backing_format, size
            )
            os.rename(unfinished, path)
        finally:
            pathlib.Path(unfinished).unlink(missing_ok=True)
        files.sync_directory(os.path.dirname(path))

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def holds_data(self, path: str) -> bool:
        """Whether anything was ever written into an overlay's own file."""
        return image.holds_data(path, 'qcow2')

    def written_chunks(self, path: str, chunk_bytes: int) -> Sequence[int]:
        """Indices of the chunks of which an overlay's own file has a part.

        :raises MoveFailed: it cannot be read.
        """
        return image.written_chunks(path, 'qcow2', chunk_bytes)

    def occupied_bytes(self, path: str) -> int:
        """What the file occupies; 0 when there is none."""
        try:
            return os.stat(path).st_blocks * 512
        except FileNotFoundError:
            return 0

    def fold(self, path: str) -> None:
        """Commit an overlay into the file below it; nothing may use it.

        :raises MoveFailed: it could not be; the overlay is unchanged.
        """
        image.fold(path)

    def set_aside(self, path: str) -> str:
        """Rename a file that must not be used and must not be lost."""
        number = 1
        while self.exists(kept := f'{path}.kept-{number}'):
            number += 1
        os.rename(path, kept)
        return kept

    def remove(self, path: str) -> None:
        """Delete a file if it is there, and what was to become it."""
        for name in (path, f'{path}{_UNFINISHED}'):
            pathlib.Path(name).unlink(missing_ok=True)
