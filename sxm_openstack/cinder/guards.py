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

"""Cinder's manager, without what goes wrong around a move of a volume.

Each guard says which behaviour of Cinder 29 it is for.
"""

from typing import Any

from cinder import context as cinder_context
from cinder import exception as cinder_exception
from cinder import objects
from cinder import quota
from cinder.objects import fields
from cinder.volume import driver as volume_driver
from cinder.volume import manager
from cinder.volume import volume_types
from cinder.volume import volume_utils
from oslo_log import log as logging

LOG = logging.getLogger(__name__)
QUOTAS = quota.QUOTAS

_PLACEMENT_SPECS = ('volume_backend_name', 'RESKEY:availability_zones')
"""Extra specs that only the scheduler reads."""

_NO_RETYPE = (volume_driver.BaseVD.retype, volume_driver.VolumeDriver.retype)
"""What a driver has that cannot do anything about a new type."""


class GuardedVolumeManager(manager.VolumeManager):
    """Bookkeeping of Cinder's own manager, corrected."""

    # -- retype -----------------------------------------------------------

    def retype(
        self,
        context: Any,
        volume: Any,
        new_type_id: str,
        host: dict[str, Any],
        migration_policy: str = 'never',
        reservations: Any = None,
        old_reservations: Any = None,
    ) -> None:
        """Two cases are done here, the others by Cinder.

        * Two types of the same content, and the scheduler chose another
          backend: Cinder writes that backend down and moves no data.
        * Two types that differ only in what the scheduler reads, a backend
          that fits both, and a driver that cannot retype: Cinder copies the
          volume onto its own backend, under another name.
        """
        volume_utils.require_driver_initialized(self.driver)
        diff, equal = volume_types.volume_types_diff(
            context.elevated(), volume.volume_type_id, new_type_id
        )
        ours = self._is_our_backend(host['host'], host.get('cluster_name'))
        if equal and not ours:
            change = self._move_retyped
        elif not equal and ours and self._needs_no_data_moved(diff):
            change = self._relabel
        else:
            super().retype(
                context,
                volume,
                new_type_id,
                host,
                migration_policy,
                reservations,
                old_reservations,
            )
            return
        both = [one for one in (old_reservations, reservations) if one]
        status = volume.previous_status or volume.status
        try:
            change(context, volume, new_type_id, host, migration_policy)
        except Exception:
            volume.update({'status': status})
            volume.save()
            for one in both:
                QUOTAS.rollback(context, one)
            raise
        for one in both:
            QUOTAS.commit(context, one, project_id=volume.project_id)
        self._notify_about_volume_usage(
            context,
            volume,
            'retype',
            extra_usage_info={'volume_type': new_type_id},
        )
        self.publish_service_capabilities(context)

    def _move_retyped(
        self,
        context: Any,
        volume: Any,
        new_type_id: str,
        host: dict[str, Any],
        migration_policy: str,
    ) -> None:
        """The same refusals as Cinder's, then the move."""
        if migration_policy == 'never':
            raise cinder_exception.VolumeMigrationFailed(
                reason='Retype requires migration but is not allowed.'
            )
        if objects.SnapshotList.get_all_for_volume(context, volume.id):
            raise cinder_exception.InvalidVolume(
                reason='Volume must not have snapshots.'
            )
        if volume.replication_status not in (
            None,
            fields.ReplicationStatus.DISABLED,
            fields.ReplicationStatus.NOT_CAPABLE,
        ):
            raise cinder_exception.InvalidVolume(
                reason='Volume must not be replicated.'
            )
        volume.migration_status = 'starting'
        volume.save()
        self.migrate_volume(context, volume, host, new_type_id=new_type_id)

    def _relabel(
        self,
        context: Any,
        volume: Any,
        new_type_id: str,
        host: dict[str, Any],
        migration_policy: str,
    ) -> None:
        LOG.info('The new type needs no change of data', resource=volume)
        volume.update(
            {
                'volume_type_id': new_type_id,
                'host': host['host'],
                'cluster_name': host.get('cluster_name'),
                'status': volume.previous_status or volume.status,
            }
        )
        volume.save()
        for snapshot in volume.snapshots:
            snapshot.volume_type_id = new_type_id
            snapshot.save()

    def _needs_no_data_moved(self, diff: dict[str, Any]) -> bool:
        if _differs(diff, 'qos_specs') or _differs(diff, 'encryption'):
            return False
        changed = _differs(diff, 'extra_specs')
        # A driver that has a say is asked.
        asks = type(self.driver).retype not in _NO_RETYPE
        return not asks and all(
            name in _PLACEMENT_SPECS or name.startswith('capabilities:')
            for name in changed
        )

    # -- the end of a migration -------------------------------------------

    def migrate_volume_completion(
        self, ctxt: Any, volume: Any, new_volume: Any, error: bool = False
    ) -> Any:
        """Correct the quotas when a retype of a volume in use failed.

        Cinder has committed them when it handed the volume to Nova, long
        before Nova failed.
        """
        late = (
            error
            and volume.status == 'retyping'
            and volume.volume_type_id != new_volume.volume_type_id
        )
        types = (new_volume.volume_type_id, volume.volume_type_id)
        result = super().migrate_volume_completion(
            ctxt, volume, new_volume, error=error
        )
        if late:
            self._count_retyped(ctxt, volume, *types)
        return result

    def _count_retyped(
        self, ctxt: Any, volume: Any, old_type_id: str, new_type_id: str
    ) -> None:
        """Count a volume as being of one type and no longer of the other."""
        for type_id, sign in ((old_type_id, -1), (new_type_id, 1)):
            deltas = {'volumes': sign, 'gigabytes': sign * volume.size}
            QUOTAS.add_volume_type_opts(ctxt, deltas, type_id)
            # The totals do not change, only those of the types.
            del deltas['volumes'], deltas['gigabytes']
            reservations = QUOTAS.reserve(
                ctxt, project_id=volume.project_id, **deltas
            )
            QUOTAS.commit(ctxt, reservations, project_id=volume.project_id)

    def delete_volume(
        self,
        context: Any,
        volume: Any,
        unmanage_only: bool = False,
        cascade: bool = False,
    ) -> Any:
        """Give back the capacity of what a migration leaves behind.

        Cinder counts what it creates for a migration, and does not count it
        off again when it deletes that, or the source.
        """
        known = all(map(volume.obj_attr_is_set, ('use_quota', 'host')))
        left = known and not volume.use_quota and volume.migration_status
        host = volume.host if left else None
        kept = super().delete_volume(
            context, volume, unmanage_only=unmanage_only, cascade=cascade
        )
        if left and not kept and volume.deleted:
            self._update_allocated_capacity(volume, decrement=True, host=host)
            self.publish_service_capabilities(
                cinder_context.get_admin_context()
            )
        return kept


def _differs(diff: dict[str, Any], section: str) -> list[str]:
    """Names in a section of a difference of types whose values differ;
    Cinder lists equal ones as well."""
    found = diff.get(section) or {}
    return [name for name, (old, new) in found.items() if old != new]
