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

"""Nova's guest, with the memory phase of a move in place of its own."""

from typing import Any

import libvirt
from nova.virt.libvirt import guest as libvirt_guest
from oslo_log import log as logging

from sxm_openstack.hypervisor import xml
from sxm_openstack.nova import reporter as sxm_reporter
from sxm_openstack.nova import session as sxm_session

LOG = logging.getLogger(__name__)


class SXMGuest(libvirt_guest.Guest):
    """Stands in for Nova's guest while one live migration runs.

    :param guest: Nova's own.
    :param session: the move, its storage stage done.
    """

    def __init__(
        self,
        guest: libvirt_guest.Guest,
        session: sxm_session.Session,
        reporter: sxm_reporter.Reporter,
    ) -> None:
        super().__init__(guest._domain)
        self._session = session
        self._reporter = reporter

    def migrate(
        self,
        destination: str,
        *,
        migrate_uri: str | None = None,
        migrate_disks: list[str] | None = None,
        destination_xml: str | None = None,
        flags: int = 0,
        bandwidth: int = 0,
        **unknown: Any,
    ) -> None:
        """Migrate with the small overlays mirrored synchronously.

        ``migrate_disks`` of Nova is replaced by the disks of the move, and
        libvirt's mirror goes through the link, so that a dead link cannot
        hold the guest's writes.

        :param bandwidth: MiB/s, as Nova's option says; 0 is no limit.
        :param unknown: what another release of Nova may add.
        """
        session = self._session
        with session.migrating():
            if destination_xml is None or not session.remaining():
                super().migrate(
                    destination,
                    migrate_uri=migrate_uri,
                    migrate_disks=migrate_disks,
                    destination_xml=destination_xml,
                    flags=flags,
                    bandwidth=bandwidth,
                    **unknown,
                )
                return
            parameters = self._parameters(destination_xml)
            parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = (
                session.bandwidth_mib_per_s or bandwidth
            )
            if migrate_uri:
                parameters[libvirt.VIR_MIGRATE_PARAM_URI] = migrate_uri
            if unknown.get('parallel', 0) > 1:
                parameters[libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS] = (
                    unknown['parallel']
                )
            flags |= libvirt.VIR_MIGRATE_NON_SHARED_INC
            flags |= libvirt.VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES
            self._domain.migrateToURI3(
                destination, params=parameters, flags=flags
            )

    def _parameters(self, destination_xml: str) -> dict[str, Any]:
        """The part that is about disks: the guest starts on its second
        overlays, and they alone are mirrored."""
        session = self._session
        overlays = session.handed_over()
        if overlays:
            destination_xml = xml.with_sources(destination_xml, overlays)
        LOG.debug('Disks %s on %s', session.remaining(), overlays)
        return {
            libvirt.VIR_MIGRATE_PARAM_DEST_XML: destination_xml,
            libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: destination_xml,
            libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS: session.remaining(),
            libvirt.VIR_MIGRATE_PARAM_DISKS_URI: (
                f'unix://{session.disks_socket}'
            ),
        }

    def abort_job(self) -> None:
        """Nova's time-out: abort as an operator would."""
        self._session.abort(
            'The migration took longer than [libvirt] '
            'live_migration_completion_timeout allows.'
        )

    def get_job_info(self) -> libvirt_guest.JobInfo:
        """libvirt's figures, with the bases that went before on top."""
        return self._reporter.add_memory(super().get_job_info())
