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

"""``volume_manager = sxm_openstack.cinder.manager.SXMVolumeManager``.

Cinder's own manager of a backend, with another way of copying a volume that
no server uses, and with the guards of :mod:`.guards`.  What decides whether,
where and when a volume is moved is Cinder's.

Nothing here knows whether the process has native threads or green ones.
"""

from collections.abc import Iterator
import contextlib
from typing import Any

from cinder import context as cinder_context
from cinder import exception as cinder_exception
from cinder import rpc
from cinder.volume import rpcapi as volume_rpcapi
from cinder.volume import volume_types
from cinder.volume import volume_utils
from oslo_log import log as logging
from oslo_utils import units

from sxm_openstack import exception
from sxm_openstack.cinder import copies
from sxm_openstack.cinder import guards
from sxm_openstack.cinder import options
from sxm_openstack.cinder import places
from sxm_openstack.cinder import recovery

LOG = logging.getLogger(__name__)


class SXMVolumeManager(guards.GuardedVolumeManager):
    """Copies volumes sparsely, by their format, and verifies the copy."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        options.register()
        super().__init__(*arguments, **named)
        self._copies = copies.Copies(self.host, self._report)
        self._recovery = recovery.Recovery(self)

    def init_host(self, *arguments: Any, **named: Any) -> None:
        """No request is served yet: what is under way now has been cut
        short."""
        super().init_host(*arguments, **named)
        if self.driver.initialized:
            self._copies.clean()
            self._recovery.look()

    def init_host_with_rpc(self) -> None:
        super().init_host_with_rpc()
        self._recovery.start()

    # -- the copy ---------------------------------------------------------

    def _copy_volume_data(
        self, ctxt: Any, src_vol: Any, dest_vol: Any, remote: str | None = None
    ) -> None:
        """Copy what a guest would see of one volume to another.

        :param remote: which of them are of another backend: ``src``,
            ``dest``, ``both`` or ``None``.
        """
        if _is_encrypted(ctxt, src_vol, dest_vol):
            # It has to go through dm-crypt.
            super()._copy_volume_data(ctxt, src_vol, dest_vol, remote)
            return
        with contextlib.ExitStack() as stack:
            there, here = (
                stack.enter_context(self._attached(ctxt, volume, far))
                for volume, far in (
                    (dest_vol, remote in ('dest', 'both')),
                    (src_vol, remote in ('src', 'both')),
                )
            )
            try:
                self._copy_attached(ctxt, src_vol, here, dest_vol, there)
            except exception.SXMError as error:
                raise cinder_exception.VolumeMigrationFailed(
                    reason=str(error)
                ) from error

    def _copy_attached(
        self, ctxt: Any, src_vol: Any, here: Any, dest_vol: Any, there: Any
    ) -> None:
        """Our way, or Cinder's where QEMU cannot open both.

        :param here: how the source is attached.
        :param there: how the destination is.
        """
        capabilities = (
            volume_rpcapi.VolumeAPI().get_capabilities(
                ctxt, dest_vol.service_topic_queue, False
            )
            or {}
        )
        size_bytes = int(src_vol['size']) * units.Gi
        formats = [places.image_format(one) for one in (here, there)]
        try:
            source = places.locate(here, size_bytes)
            destination = places.locate(there, size_bytes, capabilities)
        except places.NotOurs as reason:
            if formats[0] != formats[1]:
                # Cinder would copy the container as if it were the content.
                raise exception.PreCheckFailed(
                    f'{formats[0]} cannot be copied to {formats[1]}: {reason}'
                ) from reason
            LOG.info('Copied by Cinder itself: %s', reason, resource=src_vol)
            volume_utils.copy_volume(
                here['device']['path'],
                there['device']['path'],
                size_bytes // units.Mi,
                self.configuration.volume_dd_blocksize,
                sparse=bool(capabilities.get('sparse_copy_volume')),
            )
            return
        names = [
            src_vol.id,
            dest_vol.id,
            src_vol.name_id,
            dest_vol.name_id,
            *formats,
            str(size_bytes),
        ]
        with places.accessible(source, destination):
            self._copies.copy(names, source, destination)

    @contextlib.contextmanager
    def _attached(
        self, ctxt: Any, volume: Any, remote: bool
    ) -> Iterator[dict[str, Any]]:
        """Connect a volume to this host for the time of the copy."""
        properties = volume_utils.brick_get_connector_properties(
            self.configuration.use_multipath_for_image_xfer,
            self.configuration.enforce_multipath_for_image_xfer,
        )
        info = self._attach_volume(
            ctxt, volume, properties, remote=remote, attach_encryptor=False
        )
        try:
            yield info
        finally:
            self._detach_volume(
                ctxt,
                info,
                volume,
                properties,
                force=True,
                remote=remote,
                attach_encryptor=False,
            )

    def _report(self, report: copies.Report) -> None:
        """Into the log, and out as a notification."""
        LOG.info(
            'Volume %(volume_id)s: %(phase)s %(done)d of %(total)d MiB, '
            '%(rate)d MiB/s',
            {
                'volume_id': report.volume_id,
                'phase': report.phase,
                'done': report.done_bytes >> 20,
                'total': report.total_bytes >> 20,
                'rate': report.rate_bytes_per_s >> 20,
            },
        )
        rpc.get_notifier('volume', self.host).info(
            cinder_context.get_admin_context(),
            'volume.migrate.progress',
            {
                'volume_id': report.volume_id,
                'destination_id': report.destination_id,
                'phase': report.phase,
                'total_bytes': report.total_bytes,
                'done_bytes': report.done_bytes,
                'rate_bytes_per_s': report.rate_bytes_per_s,
                'eta_s': report.eta_s,
            },
        )


def _is_encrypted(ctxt: Any, src_vol: Any, dest_vol: Any) -> bool:
    return bool(
        src_vol.encryption_key_id
        or dest_vol.encryption_key_id
        or volume_types.volume_types_encryption_changed(
            ctxt, src_vol.volume_type_id, dest_vol.volume_type_id
        )
    )
