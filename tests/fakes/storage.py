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

"""Storage of one host in memory, on the files of a fake domain."""

from __future__ import annotations

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk

from tests.fakes import domain as fake_domain

BLOCK_BYTES = 65536


class FakeStorage:
    """Keeps the contracts of ``ports.Overlays`` and a storage driver.

    :param in_use: tells which files a guest on this host has open; using
        one of these by another hand is an error of whoever does.
    """

    def __init__(
        self, files: fake_domain.FakeFiles, guest: GuestFiles | None = None
    ) -> None:
        self.files = files
        self._guest = guest
        self.violations: list[str] = []

    def create_base(self, disk: engine_disk.Disk) -> None:
        known = self.files.setdefault(disk.path, fake_domain.FakeFile())
        if known.blocks and not disk.read_only:
            raise exception.MoveFailed(f'{disk.path} holds data already.')

    def create_overlay(
        self, path: str, backing_path: str, backing_format: str, size: int
    ) -> None:
        if self.exists(path) and self.holds_data(path):
            raise exception.MoveFailed(f'{path} holds data already.')
        self._not_in_use(path, 'made anew')
        self.files.create_overlay(path, backing_path, backing_format, size)

    def exists(self, path: str) -> bool:
        return path in self.files

    def holds_data(self, path: str) -> bool:
        return bool(self.files[path].blocks)

    def written_chunks(self, path: str, chunk_bytes: int) -> list[int]:
        step = chunk_bytes // BLOCK_BYTES
        return sorted({block // step for block in self.files[path].blocks})

    def occupied_bytes(self, path: str) -> int:
        known = self.files.get(path)
        return len(known.blocks) * BLOCK_BYTES if known else 0

    def fold(self, path: str) -> None:
        below = self.files[path].backing
        assert below is not None
        self._not_in_use(path, 'folded')
        self.files[below].blocks.update(self.files[path].blocks)

    def set_aside(self, path: str) -> str:
        kept = f'{path}.kept-1'
        assert kept not in self.files
        self._not_in_use(path, 'renamed')
        self.files[kept] = self.files.pop(path)
        return kept

    def remove(self, path: str) -> None:
        self._not_in_use(path, 'removed')
        self.files.remove(path)

    def _not_in_use(self, path: str, what: str) -> None:
        if self._guest is not None and path in self._guest.open_files():
            self.violations.append(f'{path} was {what} under the guest')


class GuestFiles:
    """Something that has files open; see :class:`.guest.FakeGuest`."""

    def open_files(self) -> set[str]:
        raise NotImplementedError
