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

"""The destination's side of a move."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import logging
import threading
from typing import Protocol

from sxm_openstack import exception
from sxm_openstack.engine import clock as engine_clock
from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import ports
from sxm_openstack.mirror import settle
from sxm_openstack.storage import base as storage_base

LOG = logging.getLogger(__name__)

_GUEST = (ports.DomainState.RUNNING, ports.DomainState.PAUSED)
_POLL_S = 0.5


class Server(Protocol):
    """Destination side of a transfer driver, for one move."""

    def start(self, disks: Sequence[engine_disk.Disk]) -> ports.Endpoint:
        """Serve bases and overlays, and listen for the source's relay."""

    def stop_exports(self) -> None:
        """Flush and close every image; the relay stays."""

    def digests(
        self,
        disk: engine_disk.Disk,
        chunk_bytes: int,
        chunks: Sequence[int] | None = None,
        view: content.View = content.View.BASE,
    ) -> Sequence[str]: ...

    def close(self) -> None:
        """End everything.  Idempotent."""


@dataclasses.dataclass(slots=True)
class DestinationMove:
    """One server's move as its destination host sees it.

    Implements :class:`.ports.Destination`; the layer above carries its
    calls over the network.  A caller that gave up waiting may send its next
    call while the one before still runs: those that change something wait
    for each other.

    :param server: UUID of the server.
    :param peer: name of the source.
    :param nbd: not started yet.
    :param storage: storage driver of a format.
    :param domain: the domain on this host, also while it is absent.
    """

    server: str
    peer: str
    nbd: Server
    storage: Callable[[str], storage_base.StorageDriver]
    domain: ports.Domain
    journal: engine_journal.Journal
    runtime: str
    job_timeout_s: float = 60.0
    clock: engine_clock.Clock = dataclasses.field(
        default_factory=engine_clock.SystemClock
    )
    _disks: tuple[engine_disk.Disk, ...] = ()
    _made: tuple[str, ...] = ()
    _lock: threading.RLock = dataclasses.field(default_factory=threading.RLock)

    def adopt(self, record: engine_journal.Record) -> None:
        """Go on with what an earlier process had prepared."""
        self._disks = record.disks
        self._made = record.made

    def prepare(self, disks: Sequence[engine_disk.Disk]) -> ports.Endpoint:
        """See :meth:`.ports.Destination.prepare`.

        :raises PreCheckFailed: an earlier move of the server has left
            overlays here that may hold data.
        :raises MoveFailed: a file could not be made, or is in the way.
        """
        with self._lock:
            self._drop_earlier()
            self._disks = tuple(disks)
            self._made = tuple(
                disk.path
                for disk in disks
                if not self.storage(disk.format).exists(disk.path)
            )
            self.journal.begin(self._record(committed=False))
            for disk in disks:
                self.storage(disk.format).create_base(disk)
                if not disk.read_only:
                    self._create_overlay(disk)
            return self.nbd.start(disks)

    def reconnect(self, disks: Sequence[engine_disk.Disk]) -> ports.Endpoint:
        """See :meth:`.ports.Destination.reconnect`.

        Overlays are made anew: the mirrors send all that theirs hold, and
        nobody knows which of the last writes had arrived here.

        :raises MoveFailed: nothing was prepared here.
        :raises NeedsOperator: the guest is, or may be, on this host.
        """
        with self._lock:
            self._recall()
            if not self._disks:
                raise exception.MoveFailed(
                    f'Server {self.server} was not prepared on this host.'
                )
            self._check_may_go()
            self.nbd.close()
            for disk in disks:
                if not disk.read_only:
                    storage = self.storage(disk.format)
                    storage.remove(disk.overlay_path)
                    self._create_overlay(disk)
            return self.nbd.start(disks)

    def hand_over(self, disks: Sequence[engine_disk.Disk]) -> None:
        with self._lock:
            if not self._disks:
                raise exception.MoveFailed(
                    f'Server {self.server} was not prepared on this host.'
                )
            self.nbd.stop_exports()
            for disk in disks:
                self.storage(disk.format).create_overlay(
                    disk.handover_path,
                    disk.overlay_path,
                    'qcow2',
                    disk.size_bytes,
                )

    def digests(
        self,
        disk: engine_disk.Disk,
        chunk_bytes: int,
        chunks: Sequence[int] | None = None,
        view: content.View = content.View.BASE,
    ) -> Sequence[str]:
        return self.nbd.digests(disk, chunk_bytes, chunks, view)

    def written(
        self, disk: engine_disk.Disk, chunk_bytes: int
    ) -> Sequence[int]:
        return self.storage(disk.format).written_chunks(
            disk.overlay_path, chunk_bytes
        )

    def state(self) -> ports.DomainState:
        return self.domain.state()

    def discard(self) -> None:
        """Leave nothing; refuses unless it is certain that no guest is here.

        One that is off is refused too: it has come, and its newest writes
        are in the overlays.  A guest that was coming in is waited for:
        libvirt ends it when its source has given up.

        :raises NeedsOperator: the guest is, or may be, on this host.
        """
        with self._lock:
            self._recall()
            self._check_may_go()
            self.nbd.close()
            for disk in self._disks:
                files = self.storage(disk.format)
                settle.remove_overlays(disk, files)
                if disk.path in self._made:
                    files.remove(disk.path)
            self.journal.forget(self.server)
            self._disks = self._made = ()

    def arrived(self) -> None:
        """The guest runs here: flatten its disks.  Idempotent.

        :raises NeedsOperator: a commit did not end in time; call again.
        """
        with self._lock:
            self._recall()
            if not self._disks:
                return
            self.journal.write(self._record(committed=True))
            self.nbd.close()
            settle.settle_all(
                self.domain, self._disks, self.job_timeout_s, self.storage
            )
            self.journal.forget(self.server)
            self._disks = self._made = ()
            LOG.info('Disks of server %s are flat', self.server)

    def _create_overlay(self, disk: engine_disk.Disk) -> None:
        self.storage(disk.format).create_overlay(
            disk.overlay_path, disk.path, disk.format, disk.size_bytes
        )

    def _recall(self) -> None:
        """Take from the journal what an earlier process had prepared."""
        if self._disks:
            return
        record = self.journal.read(self.server)
        if record is not None and self._is_ours(record):
            self.adopt(record)

    def _drop_earlier(self) -> None:
        """Start over: what an earlier attempt wrote is not trusted.

        Its overlays would hide newer content of the base.
        """
        record = self.journal.read(self.server)
        if self._disks or (
            record is not None
            and self._is_ours(record)
            and not record.committed
        ):
            LOG.warning('Dropping an earlier try of server %s', self.server)
            self.discard()

    def _check_may_go(self) -> None:
        record = self.journal.read(self.server)
        if record is not None and record.committed:
            raise exception.NeedsOperator(
                f'Server {self.server} has arrived here: its disks are not '
                'discarded.',
                remedy='Let its disks be settled: restart nova-compute.',
            )
        deadline_s = self.clock.now() + self.job_timeout_s
        while True:
            state = self.domain.state()
            if state is ports.DomainState.ABSENT:
                return
            if state in _GUEST or self.clock.now() >= deadline_s:
                raise exception.NeedsOperator(
                    f'Server {self.server} is {state} on its destination: '
                    'its disks there are not discarded.',
                    remedy='Find out on which host the guest runs.',
                )
            self.clock.sleep(_POLL_S)

    @staticmethod
    def _is_ours(record: engine_journal.Record) -> bool:
        return record.role is engine_journal.Role.DESTINATION

    def _record(self, committed: bool) -> engine_journal.Record:
        return engine_journal.Record(
            server=self.server,
            role=engine_journal.Role.DESTINATION,
            peer=self.peer,
            disks=self._disks,
            committed=committed,
            runtime=self.runtime,
            made=self._made,
        )
