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

"""What a disk is to a move: value objects, no behaviour of any host."""

import dataclasses
import enum


class Backing(enum.StrEnum):
    """What lies under the file of a disk, seen from the destination."""

    NONE = 'none'
    """No backing file: the destination's fresh file reads as zeros."""
    SHARED = 'shared'
    """The same backing content is on both sides: only the top layer goes."""
    DIFFERENT = 'different'
    """The destination's backing file is not proven equal: all the guest can
    see goes, zeros included, so that nothing shines through from below."""


class DiskPhase(enum.StrEnum):
    """Where a disk is in the move; the order of the members is the order."""

    WAITING = 'waiting'
    PREPARING = 'preparing'
    MIRRORING = 'mirroring'  # snapshot taken, new writes go to both sides
    COPYING = 'copying'  # mirrored, and the frozen base is being copied
    MIRRORED = 'mirrored'  # base copied, still mirrored
    HANDED_OVER = 'handed-over'  # frozen on both sides, second overlay on top
    MIGRATING = 'migrating'  # libvirt mirrors the second overlay
    ARRIVED = 'arrived'  # the guest runs on the destination
    FLATTENED = 'flattened'  # one ordinary file again
    REVERTED = 'reverted'


@dataclasses.dataclass(frozen=True, slots=True)
class Disk:
    """A file-backed disk of the server, as the source host sees it.

    :param target: target name in the domain, ``vda``.
    :param path: the disk's ordinary file, the same path on both hosts; the
        source's is the base ``B``, the destination's the base ``B'``.
    :param format: ``qcow2`` or ``raw``.
    :param size_bytes: virtual size.
    :param allocated_bytes: bytes that the file itself occupies.
    :param backing: what lies under the file.
    :param read_only: never written by the guest (a config drive): copied and
        verified, neither snapshot nor mirror.
    """

    target: str
    path: str
    format: str
    size_bytes: int
    allocated_bytes: int = 0
    backing: Backing = Backing.NONE
    read_only: bool = False

    @property
    def overlay_path(self) -> str:
        """Overlay ``O`` (source) or ``O'`` (destination)."""
        return f'{self.path}.sxm-overlay'

    @property
    def handover_path(self) -> str:
        """Second overlay ``O2``/``O2'``, made at the hand-over."""
        return f'{self.path}.sxm-handover'

    @property
    def base_channel(self) -> str:
        """Channel of the link on which the base is copied."""
        return f'{self.target}.base'

    @property
    def mirror_channel(self) -> str:
        """Channel of the link on which new writes are mirrored."""
        return f'{self.target}.mirror'

    def to_dict(self) -> dict[str, str | int | bool]:
        """Plain data for RPC and the journal; see :meth:`from_dict`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, str | int | bool]) -> 'Disk':
        """Inverse of :meth:`to_dict`; unknown keys are an error."""
        values = dict(data)
        values['backing'] = Backing(str(values.get('backing', Backing.NONE)))
        return cls(**values)  # type: ignore[arg-type]


def smallest_first(disks: list[Disk]) -> list[Disk]:
    """Order of the move: smallest allocation first, name as tie-breaker."""
    return sorted(disks, key=lambda disk: (disk.allocated_bytes, disk.target))
