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

"""What two compute hosts know and ask of each other."""

import json
from typing import Any

from nova import context as nova_context
from nova import objects
from nova import rpc as nova_rpc
from nova.compute import rpcapi as compute_rpcapi
import nova.conf
from nova.objects import base as objects_base
from oslo_log import log as logging
import oslo_messaging as messaging

from sxm_openstack import exception
from sxm_openstack.rpc import destination as rpc_destination

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

_MARK = 'sxm'


def mark(migrate_data: Any) -> None:
    """Say in Nova's data of a migration that this host, too, has SXM.

    The data have no field for that.  The one that is used maps text to
    text, is for information only, and Nova empties it between the pre-check
    and the move; so it is marked each time that a destination answers.
    """
    if 'old_vol_attachment_ids' not in migrate_data:
        migrate_data.old_vol_attachment_ids = {}
    migrate_data.old_vol_attachment_ids[_MARK] = json.dumps(
        {
            'version': rpc_destination.VERSION,
            'transfer': CONF.sxm.transfer_driver,
            'tls': CONF.sxm.tls,
        }
    )


def require_mark(migrate_data: Any) -> None:
    """See that the destination can take part.

    :raises UnsupportedServer: it cannot: nothing but Nova's own way is left.
    :raises PreCheckFailed: something has to be set right first.
    """
    known = {}
    if 'old_vol_attachment_ids' in migrate_data:
        known = migrate_data.old_vol_attachment_ids
    there = json.loads(known.get(_MARK, '{}'))
    if not there:
        raise exception.UnsupportedServer(
            'The destination does not run sxm.SXMLibvirtDriver.',
            host=CONF.host,
            remedy='Choose another destination, or allow nova in [sxm] '
            'fallback.',
        )
    if there['transfer'] != CONF.sxm.transfer_driver:
        raise exception.UnsupportedServer(
            f'The destination has transfer driver {there["transfer"]}, this '
            f'host {CONF.sxm.transfer_driver}.',
            host=CONF.host,
            remedy='Set [sxm] transfer_driver to the same on all hosts.',
        )
    if there['tls'] != CONF.sxm.tls:
        # No fallback may be less safe than what is asked for here.
        raise exception.PreCheckFailed(
            f'The destination has [sxm] tls = {there["tls"]}, this host '
            f'{CONF.sxm.tls}.',
            host=CONF.host,
            remedy='Set [sxm] tls to the same on all hosts.',
        )


def names(host: str, node: str | None) -> list[str]:
    """What the certificate of a host may be issued for.

    :param host: as Nova calls it.
    :param node: as its hypervisor calls itself, if known.
    """
    return [host, node] if node and node != host else [host]


def connect(
    context: Any, instance: Any, host: str
) -> rpc_destination.DestinationAPI:
    """The other host of a server's move."""
    client = nova_rpc.get_client(
        messaging.Target(
            # Answered also by a host that is being shut down and has to end
            # what it began.
            topic=compute_rpcapi.RPC_TOPIC_ALT,
            namespace=rpc_destination.NAMESPACE,
            version=rpc_destination.VERSION,
        ),
        serializer=objects_base.NovaObjectSerializer(),
    )
    return rpc_destination.DestinationAPI(
        client, context, instance, host, CONF.host, CONF.long_rpc_timeout
    )


def roll_back(manager: Any, instance: Any, dest: str) -> None:
    """Empty the destination of a move that the end of this process cut short.

    Nova itself only marks the migration as failed: the destination would
    keep directory, ports and allocation, and refuse the next try.
    """
    context = nova_context.get_admin_context()
    LOG.warning('Rolling back on %s as well', dest, instance=instance)
    migration = objects.Migration.get_by_instance_and_status(
        context, instance.uuid, 'running'
    )
    manager._revert_allocation(context, instance, migration)
    manager.compute_rpcapi.rollback_live_migration_at_destination(
        context,
        instance,
        dest,
        destroy_disks=True,
        migrate_data=migrate_data(instance),
    )


def migrate_data(instance: Any, **more: Any) -> Any:
    """Nova's data of a migration with disks, made anew after a restart.

    :param more: fields that are known as well.
    """
    return objects.LibvirtLiveMigrateData(
        block_migration=True,
        is_shared_instance_path=False,
        is_shared_block_storage=False,
        instance_relative_path=instance.uuid,
        **more,
    )
