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

"""Migrations that the end of a cinder-volume cut short.

Cinder leaves them as they are: the volume ``migrating`` and its copy
``available`` for ever, neither of which can be deleted.  They are gone on
with here, or undone.  Volumes in use are Nova's to complete.
"""

import threading
from typing import Any

from cinder import context as cinder_context
from cinder import objects
from oslo_log import log as logging

LOG = logging.getLogger(__name__)


class Recovery:
    """Settles what an earlier process left of one backend's migrations.

    :param manager: the :class:`.manager.SXMVolumeManager`.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._context = cinder_context.get_admin_context()
        self._found: list[Any] = []

    def look(self) -> None:
        """Note what is cut short; before the first request is served, which
        may begin a migration."""
        self._found = self.find()

    def start(self) -> None:
        """Settle what was noted, in the background."""
        found, self._found = self._found, []
        if found:
            threading.Thread(
                target=self.settle, args=(found,), name='sxm-recovery'
            ).start()

    def find(self) -> list[Any]:
        """Volumes of this backend that nobody migrates any more."""
        manager, context = self._manager, self._context
        filters = {'migration_status': 'migrating'}
        if manager.cluster:
            # Another member of the cluster may be at it.
            return []
        return [
            volume
            for volume in objects.VolumeList.get_all_by_host(
                context, manager.host, filters
            )
            if not volume.volume_attachment
        ]

    def settle(self, volumes: list[Any]) -> None:
        """Go on with each, or undo it.  One that fails stops no other."""
        for volume in volumes:
            try:
                self._settle(volume)
            except Exception:
                LOG.exception(
                    'The migration that was cut short could not be '
                    'completed; the volume stays where it was',
                    resource=volume,
                )

    def _settle(self, volume: Any) -> None:
        target = self._target(volume)
        if target is None or target.status != 'available':
            self._undo(volume, target, 'its copy had not been created')
            return
        LOG.info('A migration that was cut short goes on', resource=volume)
        manager, context = self._manager, self._context
        retyped = volume.status == 'retyping'
        types = (volume.volume_type_id, target.volume_type_id)
        try:
            manager._copy_volume_data(context, volume, target, remote='dest')
            manager.driver.after_volume_copy(
                context, volume, target, remote='dest'
            )
            manager.migrate_volume_completion(
                context, volume, target, error=False
            )
        except Exception as error:
            if volume.migration_status == 'migrating':
                self._undo(volume, target, str(error))
            raise
        if retyped and types[0] != types[1]:
            # What was reserved for it is never committed; it expires.
            manager._count_retyped(context, volume, *types)

    def _target(self, volume: Any) -> Any:
        found = objects.VolumeList.get_all(
            self._context,
            filters={'migration_status': f'target:{volume.id}'},
        )
        return found[0] if found else None

    def _undo(self, volume: Any, target: Any, reason: str) -> None:
        LOG.warning(
            'A migration that was cut short is undone: %s',
            reason,
            resource=volume,
        )
        if target is not None:
            self._manager.migrate_volume_completion(
                self._context, volume, target, error=True
            )
            return
        volume.update(
            {
                'migration_status': 'error',
                'status': volume.previous_status or 'available',
            }
        )
        volume.save()
