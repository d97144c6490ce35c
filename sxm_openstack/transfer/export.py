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

"""Images served over NBD on a unix socket, by qemu-storage-daemon.

One daemon an image: the guest's mirrored writes do not queue behind the
copy of a base in the same process, and each image can be let go of alone.
The daemon rather than qemu-nbd, because the overlay needs a stand-in for its
backing file that only a list of nodes can express, and one tool is enough.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import json
import logging
import os
import pathlib
import time
from typing import Any

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.transfer import process

LOG = logging.getLogger(__name__)

_START_TIMEOUT_S = 30.0
_POLL_S = 0.005
_CONNECTIONS = 16

Node = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """What is served, as block nodes of QEMU; the last one is exported.

    :param name: of the daemon, its socket and its log.
    :param export: NBD export name.
    """

    name: str
    export: str
    nodes: Sequence[Node]
    writable: bool

    @property
    def place(self) -> str:
        """Where it lies, for messages."""
        found = [
            str(node[key])
            for node in self.nodes
            for key in ('filename', 'image')
            if key in node
        ]
        return found[-1] if found else self.name


def base_image(
    disk: engine_disk.Disk,
    name: str,
    *,
    export: str | None = None,
    writable: bool,
    direct: bool = True,
) -> Image:
    """The disk's ordinary file, on its own backing chain.

    :param export: NBD export name, unless nobody but this service gets to
        the socket.
    """
    nodes = _file_nodes(
        disk.path, disk.format, writable=writable, direct=direct
    )
    return Image(name, export or disk.target, nodes, writable)


def overlay_image(
    disk: engine_disk.Disk, name: str, export: str, *, direct: bool = True
) -> Image:
    """The destination's overlay, on a stand-in for its backing file.

    The base below it is not complete yet, so nothing may be read from it.
    The stand-in (and not: no backing) makes a discard leave a mark that
    hides the base later, as the guest expects.
    """
    below = {
        'driver': 'null-co',
        'node-name': 'below',
        'size': disk.size_bytes,
        'read-zeroes': True,
    }
    nodes = _file_nodes(
        disk.overlay_path, 'qcow2', writable=True, direct=direct
    )
    nodes[-1]['backing'] = 'below'
    return Image(name, export, [below, *nodes], writable=True)


def handed_over_image(
    disk: engine_disk.Disk, name: str, *, direct: bool = True
) -> Image:
    """The move's overlay on the ordinary file, to be read alone."""
    below = _file_nodes(
        disk.path, disk.format, writable=False, direct=direct, prefix='base-'
    )
    nodes = _file_nodes(
        disk.overlay_path, 'qcow2', writable=False, direct=direct
    )
    nodes[-1]['backing'] = below[-1]['node-name']
    return Image(name, disk.target, [*below, *nodes], writable=False)


def _file_nodes(
    path: str,
    image_format: str,
    *,
    writable: bool,
    direct: bool,
    prefix: str = '',
) -> list[Node]:
    common = {
        'read-only': not writable,
        'cache': {'direct': direct, 'no-flush': False},
        'discard': 'unmap' if writable else 'ignore',
    }
    file = {
        'driver': 'file',
        'node-name': f'{prefix}file',
        'filename': path,
        'aio': 'native' if direct else 'threads',
        **common,
    }
    image = {
        'driver': image_format,
        'node-name': f'{prefix}image',
        'file': f'{prefix}file',
        **common,
    }
    return [file, image]


def command(program: str, directory: pathlib.Path, image: Image) -> list[str]:
    """Argument list of the daemon; see qemu-storage-daemon(1)."""
    server = {
        'addr': {
            'type': 'unix',
            'path': str(directory / f'{image.name}.nbd'),
        },
        'max-connections': _CONNECTIONS,
    }
    export = {
        'type': 'nbd',
        'id': 'export',
        'node-name': image.nodes[-1]['node-name'],
        'name': image.export,
        'writable': image.writable,
        # Tells what is in the top layer from what shines through it.
        'allocation-depth': True,
    }
    arguments = [program]
    for node in image.nodes:
        arguments += ['--blockdev', json.dumps(node)]
    arguments += ['--nbd-server', json.dumps(server)]
    arguments += ['--export', json.dumps(export)]
    return [*arguments, '--pidfile', str(directory / f'{image.name}.qsd')]


@dataclasses.dataclass(frozen=True, slots=True)
class Export:
    """An image that is being served.

    :param socket: path of the unix socket of the NBD server.
    :param export: NBD export name.
    """

    program: process.Program
    socket: str
    export: str

    def stop(self) -> None:
        """Flush and close the image; the daemon has ended on return.

        :raises MoveFailed: it did not end well, so that what was written
            last may be missing in the image.
        """
        for failure in stop_daemons([self.program]):
            raise failure


def stop_daemons(
    programs: Iterable[process.Program],
) -> list[exception.SXMError]:
    """Stop several at once; what went wrong with each that did not end well.

    See :meth:`Export.stop`; all are forgotten either way.
    """
    failures: list[exception.SXMError] = []
    alive = [(program, program.terminate()) for program in programs]
    for program, was_alive in alive:
        try:
            _reap(program, was_alive)
        except exception.SXMError as error:
            failures.append(error)
    return failures


def _reap(program: process.Program, was_alive: bool) -> None:
    program.stop()
    code = program.popen.returncode if program.popen else 0
    tail = program.log_tail()
    program.forget()
    for suffix in ('.nbd', '.qsd'):
        path = program.directory / f'{program.name}{suffix}'
        path.unlink(missing_ok=True)
    if not was_alive or code:
        how = f'ended with {code}' if was_alive else 'had died before'
        raise exception.MoveFailed(
            f'The NBD server {program.name} {how}: {tail}',
            remedy='Check the storage and the kernel log of this host.',
        )


def running(
    directory: pathlib.Path, name: str, export: Callable[[], str]
) -> Export | None:
    """What this or an earlier process serves under that name, if it does.

    :param export: gives the NBD export name; called when it does.
    """
    for program in process.recorded(directory):
        if program.name == name and program.alive():
            return Export(program, str(directory / f'{name}.nbd'), export())
    return None


def serve_base(
    program: str,
    directory: pathlib.Path,
    disk: engine_disk.Disk,
    name: str,
    *,
    export: str | None = None,
    writable: bool,
) -> Export:
    """Serve the disk's ordinary file; see :func:`serve`."""

    def image(direct: bool) -> Image:
        return base_image(
            disk, name, export=export, writable=writable, direct=direct
        )

    return serve(program, directory, image(True), image(False))


def serve_overlay(
    program: str,
    directory: pathlib.Path,
    disk: engine_disk.Disk,
    name: str,
    export: str,
) -> Export:
    """Serve the destination's overlay; see :func:`serve`."""
    return serve(
        program,
        directory,
        overlay_image(disk, name, export),
        overlay_image(disk, name, export, direct=False),
    )


def serve_handed_over(
    program: str, directory: pathlib.Path, disk: engine_disk.Disk, name: str
) -> Export:
    """Serve the disk as it was handed over; see :func:`serve`."""
    return serve(
        program,
        directory,
        handed_over_image(disk, name),
        handed_over_image(disk, name, direct=False),
    )


def serve(program: str, directory: pathlib.Path, *images: Image) -> Export:
    """Serve the first image that works; blocks until it does.

    :param images: the same image, the second without O_DIRECT, which some
        filesystems refuse (tmpfs before Linux 6.6), and all of them for an
        image whose size is not a multiple of their block.
    :raises MoveFailed: the daemon did not start; the text has its reason.
    """
    reason = ''
    for image in images:
        daemon = process.start(
            directory, image.name, command(program, directory, image)
        )
        if _started(daemon, directory / f'{image.name}.qsd'):
            socket = str(directory / f'{image.name}.nbd')
            return Export(daemon, socket, image.export)
        daemon.stop()
        reason = daemon.log_tail()
        daemon.forget()
        LOG.info('%s cannot be served so: %s', image.name, reason)
    raise exception.MoveFailed(
        f'{images[0].place} could not be served over NBD: {reason}',
        remedy='Check that nothing else has the file open for writing.',
    )


def _started(daemon: process.Program, pid_file: pathlib.Path) -> bool:
    """Wait for the file that the daemon writes when it serves."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if pid_file.exists() and os.path.getsize(pid_file):
            return True
        if not daemon.alive():
            return False
        time.sleep(_POLL_S)
    return False
