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

"""libvirt's own migration, for what drives it without Nova.

The memory phase of functional tests and benchmarks, and the plain ways that
the benchmark compares with: what differs is only the request.

Source: virDomainMigrateToURI3, https://libvirt.org/migration.html.
"""

from collections.abc import Callable
import dataclasses
import enum
import threading
from typing import Any

import libvirt
from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.hypervisor import errors

LOG = logging.getLogger(__name__)

_ABORT_INTERVAL_S = 1.0


class Storage(enum.StrEnum):
    """How libvirt brings the disks along."""

    NONE = 'none'
    """Not at all: they are on the other side already."""
    COPY_DIRTY = 'copy-dirty'
    """Copy, and copy again what changed, until little is left."""
    SYNCHRONOUS = 'synchronous'
    """Copy, and write what changes to both sides."""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What to migrate, where and how.

    :param uri: the destination's libvirtd as the source's sees it.
    :param migrate_uri: where the memory goes, ``tcp://ADDRESS``.
    :param destination_xml: domain as it starts there; the source's if none.
    :param persistent_xml: likewise, of a persistent domain's next start.
    :param storage: how the disks come along.
    :param disks: targets that do; all that libvirt finds if empty.
    :param disks_socket: unix socket, the same path on both hosts, through
        which libvirt's mirror goes; a connection of its own if ``None``.
    :param bandwidth_mib_per_s: limit of *each* disk's copy and of the
        memory; 0 for none.
    :param tls: QEMU's own TLS on memory and disks.
    :param flags: more ``VIR_MIGRATE_*``.
    """

    uri: str
    migrate_uri: str
    destination_xml: str | None = None
    persistent_xml: str | None = None
    storage: Storage = Storage.SYNCHRONOUS
    disks: tuple[str, ...] = ()
    disks_socket: str | None = None
    bandwidth_mib_per_s: int = 0
    tls: bool = False
    flags: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """libvirt's statistics of the job; all 0 before it has any.

    :param memory_processed_bytes: 0 as long as disks are copied.
    :param downtime_s: of a finished migration, as QEMU measured it.
    """

    elapsed_s: float = 0.0
    memory_total_bytes: int = 0
    memory_processed_bytes: int = 0
    memory_remaining_bytes: int = 0
    disk_total_bytes: int = 0
    disk_processed_bytes: int = 0
    disk_remaining_bytes: int = 0
    downtime_s: float = 0.0


class Migration:
    """One migration, running on a thread of its own.

    :param lookup: gives the ``virDomain`` on the source.
    :param host: name of the source, for messages.
    """

    def __init__(
        self, lookup: Callable[[], Any], request: Request, *, host: str
    ) -> None:
        self._lookup = lookup
        self._request = request
        self._host = host
        self._error: libvirt.libvirtError | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name='migration', daemon=True
        )

    def start(self) -> None:
        """Begin, and return at once."""
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether libvirt's call returned."""
        return self._over.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end.

        :returns: whether it came in time.
        :raises MoveFailed: libvirt's call failed.  That is no verdict: the
            domain may run on either host, so ask both.
        """
        if not self._over.wait(timeout_s):
            return False
        if self._error is not None:
            raise exception.MoveFailed(
                f"libvirt's migration call failed: {self._error}",
                host=self._host,
                remedy='Ask both hosts where the domain runs.',
            ) from self._error
        return True

    def progress(self) -> Progress:
        """Statistics of the running job.

        :raises Retryable: libvirt cannot be asked, or the domain has gone.
        """
        return self._statistics(0)

    def completed(self) -> Progress:
        """Statistics of the finished job; the source forgets once asked."""
        return self._statistics(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)

    def set_bandwidth(self, mib_per_s: int) -> None:
        """New limit of the memory phase, MiB/s."""
        with errors.translated(
            'set the migration speed', exception.Retryable, host=self._host
        ):
            self._lookup().migrateSetMaxSpeed(mib_per_s, 0)

    def abort(self, timeout_s: float) -> bool:
        """Ask libvirt to give up until its call returns.

        libvirt 11.3 can lose one request when two disks are being mirrored,
        and waits for ever; a second request wakes it.

        :returns: whether the call returned in time.
        """
        waited_s = 0.0
        while not self.is_over and waited_s < timeout_s:
            try:
                self._lookup().abortJob()
            except libvirt.libvirtError as error:
                LOG.debug('abort of the migration: %s', error)
            self._over.wait(_ABORT_INTERVAL_S)
            waited_s += _ABORT_INTERVAL_S
        return self.is_over

    def _run(self) -> None:
        try:
            domain = self._lookup()
            domain.migrateToURI3(
                self._request.uri,
                parameters(self._request),
                flags(self._request, bool(domain.isPersistent())),
            )
        except libvirt.libvirtError as error:
            self._error = error
        finally:
            self._over.set()

    def _statistics(self, stats_flags: int) -> Progress:
        with errors.translated(
            'read job statistics', exception.Retryable, host=self._host
        ):
            stats = self._lookup().jobStats(stats_flags)
        return Progress(
            elapsed_s=stats.get('time_elapsed', 0) / 1000,
            memory_total_bytes=stats.get('memory_total', 0),
            memory_processed_bytes=stats.get('memory_processed', 0),
            memory_remaining_bytes=stats.get('memory_remaining', 0),
            disk_total_bytes=stats.get('disk_total', 0),
            disk_processed_bytes=stats.get('disk_processed', 0),
            disk_remaining_bytes=stats.get('disk_remaining', 0),
            downtime_s=stats.get('downtime', 0) / 1000,
        )


def flags(request: Request, persistent: bool) -> int:
    """``VIR_MIGRATE_*`` of a request.

    :param persistent: whether the domain is: it then is so on the
        destination, and no longer defined on the source.
    """
    value: int = (
        request.flags
        | libvirt.VIR_MIGRATE_LIVE
        | libvirt.VIR_MIGRATE_PEER2PEER
    )
    if request.storage is not Storage.NONE:
        value |= libvirt.VIR_MIGRATE_NON_SHARED_INC
    if request.storage is Storage.SYNCHRONOUS:
        value |= libvirt.VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES
    if request.tls:
        value |= libvirt.VIR_MIGRATE_TLS
    if persistent:
        value |= libvirt.VIR_MIGRATE_PERSIST_DEST
        value |= libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    return value


def parameters(request: Request) -> dict[str, str | int | list[str]]:
    """Typed parameters of a request."""
    values: dict[str, str | int | list[str]] = {
        libvirt.VIR_MIGRATE_PARAM_URI: request.migrate_uri
    }
    if request.destination_xml is not None:
        values[libvirt.VIR_MIGRATE_PARAM_DEST_XML] = request.destination_xml
    if request.persistent_xml is not None:
        values[libvirt.VIR_MIGRATE_PARAM_PERSIST_XML] = request.persistent_xml
    if request.bandwidth_mib_per_s:
        values[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = (
            request.bandwidth_mib_per_s
        )
    if request.storage is Storage.NONE:
        return values
    if request.disks:
        values[libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = list(request.disks)
    if request.disks_socket is not None:
        values[libvirt.VIR_MIGRATE_PARAM_DISKS_URI] = (
            f'unix://{request.disks_socket}'
        )
    return values
