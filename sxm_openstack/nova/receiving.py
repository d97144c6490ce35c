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

"""The destination's half of the driver."""

import threading
from typing import Any

from nova import exception as nova_exception
from nova import objects
import nova.conf
from oslo_log import log as logging

from sxm_openstack.nova import checks
from sxm_openstack.nova import events
from sxm_openstack.nova import guards
from sxm_openstack.nova import peer

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)


class ReceivingDriver(guards.GuardedDriver):
    """Takes in servers that come with their disks."""

    def check_can_live_migrate_destination(
        self, context: Any, instance: Any, *arguments: Any, **named: Any
    ) -> Any:
        data = super().check_can_live_migrate_destination(
            context, instance, *arguments, **named
        )
        peer.mark(data)
        if not ('block_migration' in data and data.block_migration is False):
            # Not asked for, or left to the source to decide.
            with checks.as_pre_check():
                checks.attach(data, self._moves.facts(instance.uuid))
        return data

    def pre_live_migration(
        self,
        context: Any,
        instance: Any,
        block_device_info: Any,
        network_info: Any,
        disk_info: Any,
        migrate_data: Any,
    ) -> Any:
        result = super().pre_live_migration(
            context,
            instance,
            block_device_info,
            network_info,
            disk_info,
            migrate_data,
        )
        self._moves.arrivals.expect(instance.uuid, instance.host)
        peer.mark(result)
        return result

    def post_live_migration_at_destination(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_migration: bool = False,
        block_device_info: Any = None,
    ) -> None:
        """Nothing of ours is raised: the guest runs here, whatever happens
        to its overlays, and Nova has to record that."""
        try:
            super().post_live_migration_at_destination(
                context,
                instance,
                network_info,
                block_migration,
                block_device_info,
            )
        finally:
            self._flatten(context, instance)

    def rollback_live_migration_at_destination(
        self, context: Any, instance: Any, *arguments: Any, **named: Any
    ) -> None:
        """Stop serving first; raises, and destroys nothing, if the guest
        runs here."""
        self._moves.arrivals.discard(instance.uuid)
        super().rollback_live_migration_at_destination(
            context, instance, *arguments, **named
        )

    def _flatten(self, context: Any, instance: Any) -> None:
        """Fold the overlays, and wait for that, but not for ever."""
        try:
            worker = self._moves.arrivals.arrived(instance.uuid)
        except Exception:
            LOG.exception('The disks are not flat yet', instance=instance)
            return
        if worker is None:
            return
        stages = events.Stages(
            context, instance.uuid, _migration_of(context, instance), CONF.host
        )
        stages.begin(events.FLATTEN)
        worker.join(CONF.sxm.flatten_timeout)
        if not worker.is_alive():
            stages.end()
            return
        LOG.warning('Folding goes on in the background', instance=instance)
        threading.Thread(
            target=_end_with, args=(worker, stages), daemon=True
        ).start()


def _end_with(worker: threading.Thread, stages: events.Stages) -> None:
    worker.join()
    stages.end()


def _migration_of(context: Any, instance: Any) -> str:
    """UUID of the migration under way, for what is logged."""
    try:
        migration = objects.Migration.get_by_instance_and_status(
            context, instance.uuid, 'running'
        )
    except nova_exception.NotFound:
        return '-'
    return str(migration.uuid)
