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

"""Which disks a server has, and which of them cannot be moved, and why."""

import collections
from collections.abc import Collection
import os
import shutil

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.hypervisor import xml
from sxm_openstack.mirror import base
from sxm_openstack.storage import drivers
from sxm_openstack.storage import image

_REGENERATED = ('ephemeral', 'swap_')
"""Backing files that Nova formats anew on each host.

``mkfs`` draws a new UUID each time, so two hosts never have the same, and a
top layer that was copied alone would lie on the wrong file system.
"""


def read(
    domain_xml: str, volume_targets: Collection[str]
) -> tuple[engine_disk.Disk, ...]:
    """The local disks of a server in the order in which they are moved.

    :param domain_xml: live XML of the domain.
    :param volume_targets: targets of attached volumes: they stay where they
        are and are connected on the destination by Nova.
    :raises UnsupportedServer: naming every disk that cannot be moved.
    """
    found: list[engine_disk.Disk] = []
    reasons: list[str] = []
    for element in xml.disks(domain_xml):
        if element.target in volume_targets:
            continue
        if element.type == 'file' and element.source is None:
            continue  # an empty drive
        try:
            found.append(_disk(element))
        except exception.UnsupportedServer as error:
            reasons.append(f'{element.target}: {error.message}')
    if reasons:
        raise exception.UnsupportedServer(
            'These disks cannot be moved: ' + '; '.join(reasons),
            remedy='Let [sxm] fallback name another way, or stop the server '
            'and migrate it cold.',
        )
    return tuple(engine_disk.smallest_first(found))


def check_space(
    disks: Collection[engine_disk.Disk], reserve_percent: int
) -> None:
    """Whether the overlays that a move grows have room next to the disks.

    :param reserve_percent: of the size of the disks; 0 leaves out the check.
    :raises PreCheckFailed: there is too little.
    """
    needed_bytes: collections.Counter[str] = collections.Counter()
    for disk in disks:
        if not disk.read_only:
            needed_bytes[os.path.dirname(disk.path)] += (
                disk.size_bytes * reserve_percent // 100
            )
    for directory, bytes_ in needed_bytes.items():
        free_bytes = shutil.disk_usage(directory).free
        if free_bytes < bytes_:
            raise exception.PreCheckFailed(
                f'{directory} has {free_bytes >> 20} MiB free, and the '
                f'overlays of a move need {bytes_ >> 20} MiB.',
                remedy='Make room, or lower [sxm] overlay_reserve_percent.',
            )


def choose_drivers(
    disks: Collection[engine_disk.Disk],
    candidates: Collection[base.MirrorDriver],
) -> dict[str, base.MirrorDriver]:
    """The first of the candidates that takes each writable disk, by target.

    :raises UnsupportedServer: none takes some disk.
    """
    chosen: dict[str, base.MirrorDriver] = {}
    for disk in disks:
        if disk.read_only:
            continue
        refusals = []
        for driver in candidates:
            reason = driver.refuse(disk)
            if reason is None:
                chosen[disk.target] = driver
                break
            refusals.append(f'{driver.name}: {reason}')
        else:
            raise exception.UnsupportedServer(
                f'No mirror driver takes {disk.target}: '
                f'{"; ".join(refusals)}.',
                disk=disk.target,
                remedy='Set [sxm] fallback, or migrate the server cold.',
            )
    return chosen


def _disk(element: xml.DiskElement) -> engine_disk.Disk:
    if element.type != 'file' or element.source is None:
        raise exception.UnsupportedServer(
            f'it is of type {element.type}, not a file'
        )
    if element.shareable:
        raise exception.UnsupportedServer('it is shared with other servers')
    if element.mirror is not None:
        raise exception.UnsupportedServer(
            f'a block job ({element.mirror.job}) runs on it'
        )
    if not os.path.exists(element.source):
        raise exception.UnsupportedServer(f'{element.source} is missing')
    found = image.info(element.source, element.format)
    storage = drivers.load(element.format)
    reason = storage.refuse(found)
    if reason is not None:
        raise exception.UnsupportedServer(reason)
    return engine_disk.Disk(
        target=element.target,
        path=element.source,
        format=element.format,
        size_bytes=found.size_bytes,
        allocated_bytes=found.allocated_bytes,
        backing=_backing(found),
        read_only=element.read_only,
    )


def _backing(found: image.ImageInfo) -> engine_disk.Backing:
    if found.backing_path is None:
        return engine_disk.Backing.NONE
    name = os.path.basename(found.backing_path)
    if name.startswith(_REGENERATED):
        return engine_disk.Backing.DIFFERENT
    return engine_disk.Backing.SHARED
