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

"""A server that has moved while nova-compute was killed on its source.

The guest runs on the destination, and Nova's database has it on the source.
Nova itself would mark the migration as failed and leave it so; and whatever
started the server here again would start it on disks that are older.
"""

from typing import Any

from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
import nova.conf
from oslo_log import log as logging

from sxm_openstack.nova import peer

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

_ATTRIBUTES = ['info_cache', 'metadata', 'system_metadata', 'flavor']


def finish(manager: Any, server: str, dest: str) -> bool:
    """Do what Nova does after a migration that succeeded, if it is due.

    Called at the start of nova-compute, before Nova looks at its servers.

    :param manager: Nova's, of which the end of a migration is a method.
    :param server: UUID.
    :param dest: host that the guest was seen to run on.
    :returns: whether Nova's database knows now that the server has gone.
        Until it does the journal has to say so, and nothing may start the
        server here.
    """
    context = nova_context.get_admin_context()
    try:
        instance = objects.Instance.get_by_uuid(
            context, server, expected_attrs=_ATTRIBUTES
        )
    except nova_exception.InstanceNotFound:
        return True
    if instance.host == CONF.host:
        LOG.warning('It runs on %s: moving ends', dest, instance=instance)
        _finish(manager, context, instance, dest)
        instance.refresh()
    return bool(instance.host != CONF.host)


def _finish(manager: Any, context: Any, instance: Any, dest: str) -> None:
    try:
        # What the end of a migration gives back is not known yet.
        manager.update_available_resource(context, startup=True)
        manager._post_live_migration(
            context,
            instance,
            dest,
            block_migration=True,
            migrate_data=peer.migrate_data(
                instance, migration=_migration(context, instance)
            ),
            source_bdms=_without_volumes(context, instance),
        )
    except Exception:
        # It must not keep nova-compute from starting.
        LOG.exception('The migration did not end', instance=instance)


def _migration(context: Any, instance: Any) -> Any:
    """The one that was under way, or that an earlier start gave up.

    :raises MigrationNotFoundByStatus: there is none.
    """
    try:
        return objects.Migration.get_by_instance_and_status(
            context, instance.uuid, 'running'
        )
    except nova_exception.MigrationNotFoundByStatus:
        return objects.Migration.get_by_instance_and_status(
            context, instance.uuid, 'error'
        )


def _without_volumes(context: Any, instance: Any) -> Any:
    """Block devices, less the volumes.

    Nova's records of those are the destination's by now, and what is given
    here is disconnected.
    """
    found = objects.BlockDeviceMappingList.get_by_instance_uuid(
        context, instance.uuid
    )
    kept = []
    for one in found:
        if not one.is_volume:
            kept.append(one)
            continue
        LOG.warning(
            'Volume %s stays connected to this host as well: remove its '
            'attachment for %s in Cinder',
            one.volume_id,
            CONF.host,
            instance=instance,
        )
    return objects.BlockDeviceMappingList(context, objects=kept)
