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

"""Sockets that nova-compute and QEMU share, as users that are not the same."""

from collections.abc import Iterator
import contextlib
import grp
import os
import re
import stat

from oslo_config import cfg

from sxm_openstack import exception
from sxm_openstack import privileged
import sxm_openstack.conf

CONF = cfg.CONF

_SERVER = re.compile(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')
_SHARED = 'disks.sock'
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_DIRECTORY_MODE = 0o2770  # what is made in it has its group
_SOCKET_MODE = 0o660
_RUNTIME_MODE = 0o711  # QEMU passes through it


@privileged.default.entrypoint
def share_directory(path: str, owner: int) -> None:
    """Make the directory of a move for its owner and QEMU's group.

    Idempotent.

    :param path: ``[sxm] runtime_dir`` and the UUID of a server.
    :param owner: user id of the service.
    :raises PreCheckFailed: it is something else, or belongs to others.
    """
    with _runtime(path, owner) as (parent, name):
        group = _group()
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        with _opened(parent, name, path) as directory:
            if os.fstat(directory).st_uid not in (owner, os.geteuid()):
                raise _refused(path, 'it belongs to somebody else')
            os.fchown(directory, owner, group)
            os.fchmod(directory, _DIRECTORY_MODE)


@privileged.default.entrypoint
def admit(path: str, owner: int) -> None:
    """Let the service use the socket at which QEMU listens for a mirror.

    :param path: of the socket, in a directory of :func:`share_directory`.
    :param owner: user id of the service, which has that directory.
    :raises PreCheckFailed: it is something else.
    """
    directory_path, name = os.path.split(path)
    if name != _SHARED:
        raise _refused(path, f'its name is not {_SHARED}')
    with (
        _runtime(directory_path, owner) as (parent, server),
        _opened(parent, server, directory_path) as directory,
    ):
        if os.fstat(directory).st_uid != owner:
            raise _refused(path, 'its directory belongs to somebody else')
        # Not through a link, whatever is put in its place meanwhile.
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
        try:
            if not stat.S_ISSOCK(os.fstat(found).st_mode):
                raise _refused(path, 'it is no socket')
            itself = f'/proc/self/fd/{found}'
            os.chown(itself, -1, _group())
            os.chmod(itself, _SOCKET_MODE)
            os.chown(itself, owner, -1)
        finally:
            os.close(found)


@contextlib.contextmanager
def _runtime(path: str, owner: int) -> Iterator[tuple[int, str]]:
    """The directory of all moves, open, and the name of one in it.

    It is made when it is missing, as after a reboot.
    """
    sxm_openstack.conf.register_opts(CONF)
    parent, name = os.path.split(path)
    if parent != os.path.normpath(CONF.sxm.runtime_dir):
        raise _refused(path, 'it is not in [sxm] runtime_dir')
    if not _SERVER.fullmatch(name):
        raise _refused(path, 'it is not named after a server')
    if owner <= 0:
        raise _refused(path, 'root needs no help')
    if not os.path.isdir(parent):
        os.makedirs(parent, exist_ok=True)
        os.chown(parent, owner, -1)
        os.chmod(parent, _RUNTIME_MODE)
    descriptor = os.open(parent, _DIRECTORY)
    try:
        yield descriptor, name
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _opened(parent: int, name: str, path: str) -> Iterator[int]:
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        raise _refused(path, str(error.strerror)) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _group() -> int:
    """Group of QEMU's processes; never of the caller's choice."""
    name = CONF.sxm.qemu_group
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise exception.PreCheckFailed(
            f'There is no group {name!r} on this host.',
            remedy="Set [sxm] qemu_group to the group of QEMU's processes.",
        ) from error


def _refused(path: str, reason: str) -> exception.PreCheckFailed:
    return exception.PreCheckFailed(
        f'{path} is not touched: {reason}.',
        remedy='See who made it; the directories of moves are made anew '
        'when they are missing.',
    )
