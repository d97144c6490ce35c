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

"""Nothing else may touch a server's disks while overlays lie on them.

Nova knows one file for each disk.  While a move is under way, and until its
end has folded the overlays, that file lacks the newest writes; starting the
server on it, copying it or moving it would lose them.
"""

from typing import Any

from nova import exception as nova_exception
import nova.conf
from nova.virt.libvirt import driver as libvirt_driver
from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.nova import host as sxm_host

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)


class GuardedDriver(libvirt_driver.LibvirtDriver):
    """Nova's driver, which first sees that the disks are ordinary files.

    Signatures are Nova's, of which only the instance matters here.
    """

    _moves: sxm_host.MoveHost

    def _hard_reboot(
        self, context: Any, instance: Any, *arguments: Any, **named: Any
    ) -> None:
        """Also starts a server, and resumes it after the host has booted."""
        self._settle(instance, 'a start or hard reboot')
        super()._hard_reboot(context, instance, *arguments, **named)

    def suspend(self, context: Any, instance: Any) -> None:
        self._settle(instance, 'a suspension')
        super().suspend(context, instance)

    def snapshot(
        self, context: Any, instance: Any, *arguments: Any, **named: Any
    ) -> None:
        """Also what shelving begins with."""
        self._settle(instance, 'a snapshot')
        super().snapshot(context, instance, *arguments, **named)

    def swap_volume(
        self,
        context: Any,
        old_connection_info: Any,
        new_connection_info: Any,
        instance: Any,
        *arguments: Any,
        **named: Any,
    ) -> None:
        self._settle(instance, 'a change of volumes')
        super().swap_volume(
            context,
            old_connection_info,
            new_connection_info,
            instance,
            *arguments,
            **named,
        )

    def migrate_disk_and_power_off(
        self, context: Any, instance: Any, *arguments: Any, **named: Any
    ) -> Any:
        """A cold migration or resize; when refused, the server stays as it
        is, which Nova has to be told."""
        try:
            self._settle(instance, 'a cold migration or resize')
        except nova_exception.InstanceInvalidState as error:
            raise nova_exception.InstanceFaultRollback(error) from error
        return super().migrate_disk_and_power_off(
            context, instance, *arguments, **named
        )

    def rescue(
        self, context: Any, instance: Any, *arguments: Any, **named: Any
    ) -> None:
        self._settle(instance, 'a rescue')
        super().rescue(context, instance, *arguments, **named)

    def destroy(
        self, context: Any, instance: Any, *arguments: Any, **named: Any
    ) -> None:
        """A server that is deleted is not moved any more: as long as Nova
        still knows it, Nova can empty the destination."""
        if not self._moves.call_off(
            instance.uuid, 'The server is deleted.', CONF.sxm.handover_timeout
        ):
            LOG.warning('The move does not end', instance=instance)
        super().destroy(context, instance, *arguments, **named)

    def cleanup(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        destroy_disks: bool = True,
        *arguments: Any,
        **named: Any,
    ) -> None:
        """The server is deleted here: what is known of its disks goes too."""
        super().cleanup(
            context,
            instance,
            network_info,
            block_device_info,
            destroy_disks,
            *arguments,
            **named,
        )
        if destroy_disks:
            self._moves.forget(instance.uuid)

    def _settle(self, instance: Any, action: str) -> None:
        """Fold what overlays there are, or refuse the action.

        :raises InstanceInvalidState: with the reason.
        """
        try:
            self._moves.settle(instance.uuid, action)
        except exception.SXMError as error:
            raise nova_exception.InstanceInvalidState(
                attr='disks',
                instance_uuid=instance.uuid,
                state=str(error),
                method=action,
            ) from error
