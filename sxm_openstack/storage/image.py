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

"""What qemu-img says of an image file, and the few things it makes."""

import dataclasses
import errno
import json
import os
import subprocess
from typing import Any

from sxm_openstack import exception

_TIMEOUT_S = 120.0
_FOLD_TIMEOUT_S = 6 * 3600.0
_SCAN_BYTES = 1 << 20

NO_FILL_OPTIONS = 'cluster_size=16k,extended_l2=on'
"""Options of an overlay that no write ever has to fill from below.

Sub-clusters of 512 bytes: a mirror writes pieces of the guest's size while
the base below is still being copied.  With the default 64 KiB clusters each
of them would read the rest of its cluster from the unfinished base, and
hide the real data later.  It also keeps small random writes from taking
sixteen times their size.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class ImageInfo:
    """The header of an image.

    :param size_bytes: virtual size.
    :param allocated_bytes: what the file occupies.
    :param backing_path: absolute path of the backing file, or ``None``.
    """

    path: str
    format: str
    size_bytes: int
    allocated_bytes: int
    backing_path: str | None = None
    backing_format: str | None = None
    encrypted: bool = False


def run_qemu_img(*arguments: str, timeout_s: float = _TIMEOUT_S) -> str:
    """Standard output of one qemu-img call.

    :raises MoveFailed: it is missing, failed or did not end.
    """
    command = ['qemu-img', *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise exception.MoveFailed(
            f'qemu-img {" ".join(arguments)} did not end within '
            f'{timeout_s:.0f} s.',
            remedy='Check the storage of this host.',
        ) from error
    except OSError as error:
        raise exception.MoveFailed(
            f'qemu-img {arguments[0]} could not be run: {error}',
            remedy='Install qemu-utils on this host.',
        ) from error
    if done.returncode:
        raise exception.MoveFailed(
            f'qemu-img {" ".join(arguments)} failed: {done.stderr.strip()}'
        )
    return done.stdout


def info(path: str, image_format: str | None = None) -> ImageInfo:
    """Look at an image, also one that a running guest has open.

    :param image_format: without it the image says itself what it is, which
        a guest can forge on a raw disk.
    :raises MoveFailed: there is no such image, or it cannot be read.
    """
    known = ('-f', image_format) if image_format else ()
    data = json.loads(
        run_qemu_img('info', '--force-share', '--output=json', *known, path)
    )
    return ImageInfo(
        path=path,
        format=data['format'],
        size_bytes=data['virtual-size'],
        allocated_bytes=data.get('actual-size', 0),
        backing_path=data.get(
            'full-backing-filename', data.get('backing-filename')
        ),
        backing_format=data.get('backing-filename-format'),
        encrypted=bool(data.get('encrypted')),
    )


def holds_data(path: str, image_format: str) -> bool:
    """Whether the image's own file holds anything, its backing left out.

    A cluster of zeros counts in qcow2: it hides what is below.  In a raw
    file zeros are what it has anyway.

    :raises MoveFailed: it cannot be read.
    """
    if image_format == 'raw':
        return _raw_holds_data(path)
    extents = _own_map(path, image_format)
    return any(extent['present'] for extent in extents)


def written_chunks(
    path: str, image_format: str, chunk_bytes: int
) -> list[int]:
    """Indices of the chunks of which the image's own file has any part.

    Clusters of zeros count.  Not for raw files.

    :raises MoveFailed: it cannot be read.
    """
    found: set[int] = set()
    for extent in _own_map(path, image_format):
        if extent['present']:
            start, end = extent['start'], extent['start'] + extent['length']
            found.update(range(start // chunk_bytes, -(-end // chunk_bytes)))
    return sorted(found)


def _own_map(path: str, image_format: str) -> list[dict[str, Any]]:
    """Extents of the image, as if it had no backing file."""
    alone = {
        'driver': image_format,
        'file': {'driver': 'file', 'filename': path},
        'backing': None,
    }
    extents: list[dict[str, Any]] = json.loads(
        run_qemu_img(
            'map',
            '--force-share',
            '--output=json',
            f'json:{json.dumps(alone)}',
        )
    )
    return extents


def _raw_holds_data(path: str) -> bool:
    """qemu-img writes zeros into the first block of each raw image."""
    try:
        with open(path, 'rb', buffering=0) as stream:
            end = stream.seek(0, os.SEEK_END)
            offset = 0
            while offset < end:
                try:
                    offset = stream.seek(offset, os.SEEK_DATA)
                except OSError as error:
                    if error.errno == errno.ENXIO:  # only holes follow
                        return False
                    raise
                found = stream.read(_SCAN_BYTES)
                if found.strip(b'\0'):
                    return True
                offset += len(found)
    except OSError as error:
        raise exception.MoveFailed(
            f'{path} could not be read: {error}',
            remedy='Check the storage of this host.',
        ) from error
    return False


def create(path: str, image_format: str, size_bytes: int) -> None:
    """Make an empty, sparse image without a backing file."""
    run_qemu_img('create', '-q', '-f', image_format, path, str(size_bytes))


def create_overlay(
    path: str, backing_path: str, backing_format: str, size_bytes: int
) -> None:
    """Make an empty overlay without opening its backing file.

    The backing file may be in use, or not complete yet.
    """
    run_qemu_img(
        'create',
        '-q',
        '-u',
        '-f',
        'qcow2',
        '-o',
        NO_FILL_OPTIONS,
        '-b',
        backing_path,
        '-F',
        backing_format,
        path,
        str(size_bytes),
    )


def fold(path: str) -> None:
    """Commit one image into its backing file; the guest must be off."""
    run_qemu_img(
        'commit',
        '-q',
        '-d',
        '-f',
        'qcow2',
        path,
        timeout_s=_FOLD_TIMEOUT_S,
    )
