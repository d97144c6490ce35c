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

"""Where an attached volume is, for QEMU."""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import os
from typing import Any

from cinder import utils as cinder_utils

from sxm_openstack import exception
from sxm_openstack.transfer import volume as transfer_volume

FORMATS = ('raw', 'qcow2')


class NotOurs(exception.PreCheckFailed):
    """This volume is better copied by Cinder itself."""


def image_format(attach_info: Mapping[str, Any]) -> str:
    """Format of what the volume's driver has given us.

    Drivers with volumes in files say it; the others have raw devices.
    """
    return str(_data(attach_info).get('format') or 'raw')


def _data(attach_info: Mapping[str, Any]) -> Mapping[str, Any]:
    return (attach_info.get('conn') or {}).get('data') or {}


def locate(
    attach_info: Mapping[str, Any],
    size_bytes: int,
    capabilities: Mapping[str, Any] | None = None,
) -> transfer_volume.Volume:
    """The volume as QEMU can open it.

    :param attach_info: what ``VolumeManager._attach_volume`` returned.
    :param capabilities: of the backend; decide whether a device is thin.
    :raises NotOurs: QEMU cannot open it, or not with what is known.
    """
    found = image_format(attach_info)
    if found not in FORMATS:
        raise NotOurs(f'The volume has the format {found}.')
    path = attach_info['device']['path']
    if isinstance(path, str):
        try:
            return transfer_volume.at_path(
                path,
                found,
                size_bytes,
                thin_device=_is_thin(capabilities or {}),
            )
        except OSError as error:
            raise NotOurs(f'{path} cannot be seen: {error}') from error
    return _rbd(path, attach_info, found, size_bytes)


def _is_thin(capabilities: Mapping[str, Any]) -> bool:
    """A backend that can do both makes thick volumes only when asked to,
    which does not show here: zeros are then written as zeros."""
    return bool(
        capabilities.get('sparse_copy_volume')
        or (
            capabilities.get('thin_provisioning_support')
            and not capabilities.get('thick_provisioning_support')
        )
    )


def _rbd(
    handle: Any, attach_info: Mapping[str, Any], found: str, size_bytes: int
) -> transfer_volume.Volume:
    """os-brick's RBD handle knows by what it was opened.

    Source: ``os_brick.initiator.linuxrbd.RBDVolumeIOWrapper``; QAPI
    ``BlockdevOptionsRbd``.
    """
    name = str(_data(attach_info).get('name') or '')
    configuration = getattr(handle, 'rbd_conf', None)
    if not configuration or '/' not in name:
        raise NotOurs(
            f'The volume is reached by a {type(handle).__name__}, which QEMU '
            'cannot use.'
        )
    pool, _, image = name.partition('/')
    protocol = {
        'driver': 'rbd',
        'pool': pool,
        'image': image,
        'conf': str(configuration),
        'user': str(handle.rbd_user),
    }
    return transfer_volume.Volume(protocol, found, size_bytes)


@contextlib.contextmanager
def accessible(*volumes: transfer_volume.Volume) -> Iterator[None]:
    """Make what this process cannot open its own for a while.

    As Cinder does when it writes an image to a device; nobody else may use
    the volumes meanwhile.
    """
    with contextlib.ExitStack() as stack:
        for volume in volumes:
            path = volume.protocol.get('filename')
            if path and not os.access(path, os.R_OK | os.W_OK):
                stack.enter_context(cinder_utils.temporary_chown(path))
        yield
