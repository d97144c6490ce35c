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

"""What another host may ask of this one.

A call comes over the message bus, which knows no senders: whoever can write
to it can claim to be any host.  So nothing in a call is believed.  What Nova
has in its database decides whether a move of this server from that host to
this one is under way, and where the files of the server are.
"""

from collections.abc import Collection
from collections.abc import Sequence
import os
import re
from typing import Any

from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
import nova.conf
from nova.virt.libvirt import utils as libvirt_utils

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.nova import peer as sxm_peer

CONF = nova.conf.CONF

_UNDER_WAY = frozenset({'preparing', 'running'})
_TARGET = re.compile(r'[a-z]{1,8}')
_NAME = re.compile(r'disk[A-Za-z0-9._-]{0,60}')


def check(
    instance: Any, peer: str, disks: Sequence[engine_disk.Disk] | None
) -> Collection[str]:
    """See that the calling host may ask that for the instance.

    :param instance: only its UUID counts.
    :param peer: who the caller says that it is.
    :param disks: that it asks to move; ``None`` when it only asks.
    :returns: what the certificate of that host may be issued for.
    :raises PreCheckFailed: no such move is under way, or a disk is none of
        the instance's.
    """
    # Also one that is deleted meanwhile may have left something here.
    context = nova_context.get_admin_context(read_deleted='yes')
    try:
        known = objects.Instance.get_by_uuid(context, str(instance.uuid))
    except nova_exception.InstanceNotFound as error:
        raise _refused(f'There is no server {instance.uuid}.') from error
    if known.host != peer:
        raise _refused(f'Server {known.uuid} is on {known.host}, not {peer}.')
    if disks is not None and known.task_state != 'migrating':
        raise _refused(f'Server {known.uuid} does not migrate.')
    migration = _migration(context, known, peer, moving=disks is not None)
    for disk in disks or ():
        _check_disk(disk, libvirt_utils.get_instance_path(known))
    return sxm_peer.names(peer, migration.source_node)


def _migration(context: Any, instance: Any, peer: str, moving: bool) -> Any:
    """The last one that Nova has started between these two hosts."""
    found = [
        migration
        for migration in objects.MigrationList.get_by_filters(
            context,
            {
                'instance_uuid': instance.uuid,
                'source_compute': peer,
                'migration_type': 'live-migration',
            },
        )
        if migration.dest_compute == CONF.host
        and (not moving or migration.status in _UNDER_WAY)
    ]
    if not found:
        raise _refused(
            f'Nova does not migrate server {instance.uuid} from {peer} to '
            f'{CONF.host}.'
        )
    return max(found, key=lambda migration: migration.id)


def _check_disk(disk: engine_disk.Disk, directory: str) -> None:
    """See that it is a file of the instance, and nothing else.

    :param directory: of the instance on this host.
    """
    parent, name = os.path.split(disk.path)
    if not (
        parent == os.path.normpath(directory)
        and _NAME.fullmatch(name)
        and _TARGET.fullmatch(disk.target)
        and not name.endswith(('.sxm-overlay', '.sxm-handover'))
    ):
        raise _refused(
            f'{disk.path} ({disk.target}) is no disk of a server in '
            f'{directory}.'
        )
    for path in (disk.path, disk.overlay_path, disk.handover_path):
        if os.path.islink(path):
            raise _refused(f'{path} is a link, which no disk of a server is.')


def _refused(reason: str) -> exception.PreCheckFailed:
    return exception.PreCheckFailed(
        reason,
        host=CONF.host,
        remedy='Start the migration again, on one host. If nobody did, find '
        'out who writes to the message bus.',
    )
