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

"""``compute_driver = sxm.SXMLibvirtDriver``: Nova's libvirt driver, and SXM.

Thin on purpose: it tells :mod:`.host` what Nova asks for, and Nova what
became of it.  Whatever is not about moving disks is Nova's own.  Here is the
source's half of a move; the destination's is in :mod:`.receiving`, and what
else may not touch the disks meanwhile in :mod:`.guards`.
"""

from collections.abc import Callable
import threading
from typing import Any

from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
import nova.conf
from nova.virt import driver as virt_driver
from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.engine import checks
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import ports
from sxm_openstack.nova import checks as sxm_checks
from sxm_openstack.nova import ends as sxm_ends
from sxm_openstack.nova import events
from sxm_openstack.nova import finishing
from sxm_openstack.nova import guest as sxm_guest
from sxm_openstack.nova import host as sxm_host
from sxm_openstack.nova import options
from sxm_openstack.nova import peer
from sxm_openstack.nova import plan as sxm_plan
from sxm_openstack.nova import receiving
from sxm_openstack.nova import reporter as sxm_reporter
from sxm_openstack.nova import session as sxm_session
from sxm_openstack.rpc import destination as rpc_destination

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)


class SXMLibvirtDriver(receiving.ReceivingDriver):
    """Block live migration by snapshot and synchronous mirror."""

    def __init__(self, virtapi: Any, read_only: bool = False) -> None:
        options.register()
        super().__init__(virtapi, read_only)
        self._moves = sxm_host.MoveHost(self._host, _ask_peer)
        self._reporters: dict[str, sxm_reporter.Reporter] = {}
        self._manager = getattr(virtapi, '_compute', None)
        if self._manager is not None:
            self._manager.additional_endpoints.append(
                rpc_destination.DestinationEndpoint(
                    self._moves.arrivals, peer.check_caller
                )
            )

    def init_host(self, host: str) -> None:
        super().init_host(host)
        self._moves.recover()
        for server, dest in self._moves.gone().items():
            if finishing.finish(self._manager, server, dest):
                self._moves.forget(server)

    # -- before the move --------------------------------------------------

    def check_can_live_migrate_source(
        self,
        context: Any,
        instance: Any,
        dest_check_data: Any,
        block_device_info: Any = None,
    ) -> Any:
        with sxm_checks.as_pre_check():
            self._moves.settle(instance.uuid, 'a migration')
        result = super().check_can_live_migrate_source(
            context, instance, dest_check_data, block_device_info
        )
        if result.block_migration:
            with sxm_checks.as_pre_check():
                self._check(instance, block_device_info, result)
        return result

    def _check(
        self, instance: Any, block_device_info: Any, migrate_data: Any
    ) -> None:
        """One report of everything that could stand in the way.

        :raises PreCheckFailed: something does.
        """
        there = sxm_checks.take(migrate_data)
        disks: tuple[engine_disk.Disk, ...] = ()
        trouble: tuple[checks.Check, ...] = ()
        try:
            found = self._plan(instance, block_device_info, migrate_data)
        except exception.PreCheckFailed as error:
            trouble = (checks.of_error('server', error),)
        else:
            if found is None:
                return
            disks = found.disks
        self._moves.check(instance.uuid, disks, there, trouble)

    def _plan(
        self, instance: Any, block_device_info: Any, migrate_data: Any
    ) -> sxm_plan.Plan | None:
        """What is to be moved, or ``None`` when Nova itself is to do it.

        :raises PreCheckFailed: SXM cannot, and ``[sxm] fallback`` does not
            allow Nova's own way.
        """
        try:
            peer.require_mark(migrate_data)
            return sxm_plan.make(
                self._moves.domain(instance.uuid).live_xml(),
                sxm_plan.volume_targets(block_device_info),
            )
        except exception.UnsupportedServer as error:
            if 'nova' not in CONF.sxm.fallback:
                raise
            LOG.warning(
                "Goes by Nova's own block migration: %s",
                error,
                instance=instance,
            )
            return None

    # -- the move, source -------------------------------------------------

    def live_migration(
        self,
        context: Any,
        instance: Any,
        dest: str,
        post_method: Callable[..., Any],
        recover_method: Callable[..., Any],
        block_migration: bool = False,
        migrate_data: Any = None,
    ) -> None:
        """Move the disks, then let Nova move the memory.

        Nothing of ours is raised: Nova would leave the server in ERROR
        without undoing anything.
        """
        migrate = super().live_migration
        arguments = (context, instance, dest)
        ends_of_nova = (post_method, recover_method)
        if not (migrate_data and migrate_data.block_migration):
            migrate(*arguments, *ends_of_nova, block_migration, migrate_data)
            return
        stages = events.Stages(
            context, instance.uuid, migrate_data.migration.uuid, CONF.host
        )
        stages.begin(events.PREPARE)
        try:
            session = self._begin(*arguments, migrate_data, stages)
        except Exception as error:
            LOG.exception('The move did not begin', instance=instance)
            stages.end(error)
            recover_method(*arguments, migrate_data)
            return
        if session is None:
            stages.end()
            migrate(*arguments, *ends_of_nova, block_migration, migrate_data)
            return
        self._reporters[instance.uuid] = sxm_reporter.Reporter(
            session, migrate_data.migration, instance
        )
        ends = sxm_ends.Ends(session, stages, *ends_of_nova)
        try:
            if self._move_storage(
                session, stages, ends, *arguments, migrate_data
            ):
                stages.begin(events.MEMORY)
                migrate(
                    *arguments,
                    ends.completed,
                    ends.failed,
                    block_migration,
                    migrate_data,
                )
        except Exception:
            if ends.nova_failed:
                raise
            # Nova's monitor raises once more what libvirt's call raised,
            # also when it has recovered from that.
            LOG.exception('The migration was cut short', instance=instance)
            if not ends.reached:
                ends.failed(*arguments, migrate_data)
        finally:
            stages.report(session.figures())
            self._moves.end(instance.uuid)
            del self._reporters[instance.uuid]

    def _begin(
        self,
        context: Any,
        instance: Any,
        dest: str,
        migrate_data: Any,
        stages: events.Stages,
    ) -> sxm_session.Session | None:
        mappings = objects.BlockDeviceMappingList.get_by_instance_uuid(
            context, instance.uuid
        )
        found = self._plan(
            instance,
            virt_driver.get_block_device_info(instance, mappings),
            migrate_data,
        )
        if found is None:
            return None
        stages.expect(found.copied)
        return self._moves.begin(
            instance.uuid,
            dest,
            found.drivers,
            found.disks,
            peer.connect(context, instance, dest),
            stages.on_change,
        )

    def _move_storage(
        self,
        session: sxm_session.Session,
        stages: events.Stages,
        ends: sxm_ends.Ends,
        context: Any,
        instance: Any,
        dest: str,
        migrate_data: Any,
    ) -> bool:
        """The storage stage; false when it failed and Nova was told."""
        try:
            with self._reporters[instance.uuid]:
                session.run_storage()
        except Exception as error:
            LOG.exception('Moving the disks failed', instance=instance)
            stages.end(error)
            ends.failed(context, instance, dest, migrate_data)
            return False
        return True

    def _live_migration_operation(
        self,
        context: Any,
        instance: Any,
        dest: str,
        block_migration: bool,
        migrate_data: Any,
        guest: Any,
        device_names: list[str],
    ) -> None:
        super()._live_migration_operation(
            context,
            instance,
            dest,
            block_migration,
            migrate_data,
            self._wrap(guest, instance),
            device_names,
        )

    def _live_migration_monitor(
        self, context: Any, instance: Any, guest: Any, *arguments: Any
    ) -> None:
        session = self._moves.session(instance.uuid)
        if session is not None and session.forced:
            super().live_migration_force_complete(instance)
        super()._live_migration_monitor(
            context, instance, self._wrap(guest, instance), *arguments
        )

    def _wrap(self, guest: Any, instance: Any) -> Any:
        session = self._moves.session(instance.uuid)
        if session is None:
            return guest
        return sxm_guest.SXMGuest(
            guest, session, self._reporters[instance.uuid]
        )

    def live_migration_abort(self, instance: Any) -> None:
        if instance.uuid in self._moves.gone():
            # nova-compute has just started, could not say that the server
            # runs elsewhere, and says so when it starts the next time.
            return
        cut_short = self._moves.take_cut_short(instance.uuid)
        if cut_short is not None:
            # nova-compute has just started, and found the server migrating.
            peer.roll_back(self._manager, instance, cut_short)
            return
        session = self._moves.session(instance.uuid)
        if session is None:
            super().live_migration_abort(instance)
        elif session.thread is not threading.current_thread():
            session.abort('The operator aborted the migration.')
        # Else it is Nova's monitor, which failed and tidies up: the end of
        # the move, which it comes to next, does that better.

    def live_migration_force_complete(self, instance: Any) -> None:
        session = self._moves.session(instance.uuid)
        if session is None or session.stage is not sxm_session.Stage.STORAGE:
            super().live_migration_force_complete(instance)
        else:
            session.force_complete()

    def rollback_live_migration_at_source(
        self, context: Any, instance: Any, migrate_data: Any
    ) -> None:
        """Nova gives up here when the server was deleted meanwhile, and
        would leave the destination as it is."""
        try:
            super().rollback_live_migration_at_source(
                context, instance, migrate_data
            )
        except nova_exception.InstanceNotFound:
            LOG.warning('The guest has gone', instance=instance)


def _ask_peer(record: engine_journal.Record) -> ports.DomainState:
    """State of a server's domain on the other host of a move."""
    context = nova_context.get_admin_context()
    try:
        instance = objects.Instance.get_by_uuid(context, record.server)
    except nova_exception.InstanceNotFound:
        # It was deleted meanwhile: it runs nowhere.
        return ports.DomainState.ABSENT
    return peer.connect(context, instance, record.peer).state()
