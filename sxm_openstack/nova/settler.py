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

"""Brings disks back into their ordinary files, now or in the background.

Whatever a move leaves on a host, be it the overlays of one that was cut
short or those of a guest that has just arrived, is in the journal.  As long
as it is, nothing else may start the server or touch its disks.
"""

from collections.abc import Callable
import os
import threading

from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.engine import clock as engine_clock
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import ports
from sxm_openstack.hypervisor import domain as hypervisor_domain
from sxm_openstack.mirror import settle
from sxm_openstack.nova import memory
from sxm_openstack.storage import drivers

LOG = logging.getLogger(__name__)

GUEST = (ports.DomainState.RUNNING, ports.DomainState.PAUSED)

_FLATTEN_FOR_S = 24 * 3600.0
_MEMORY_FOR_S = 120.0
_AGAIN_AFTER_S = 10.0

FindDomain = Callable[[str], hypervisor_domain.LibvirtDomain]
AskPeer = Callable[[engine_journal.Record], ports.DomainState]


class Settler:
    """Settles the servers of which the journal has a record.

    Thread-safe; one server is settled by one thread at a time.

    :param domain: the domain of a server, also while it is absent.
    :param cleanup: ends the transfer of a runtime directory.
    :param ask_peer: state of the server's domain on the other host.
    """

    def __init__(
        self,
        journal: engine_journal.Journal,
        domain: FindDomain,
        cleanup: Callable[[str], None],
        ask_peer: AskPeer,
        host: str,
    ) -> None:
        self._journal = journal
        self._domain = domain
        self._cleanup = cleanup
        self._ask_peer = ask_peer
        self._host = host
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._workers: dict[str, threading.Thread] = {}

    def settle(self, server: str, action: str, timeout_s: float) -> None:
        """Settle a server before something else is done with it.

        Does nothing for a server without a record.

        :param action: what is about to happen, for messages.
        :raises PreCheckFailed: it is being settled and not done in time.
        :raises NeedsOperator: it cannot be settled; the guest, if it runs,
            goes on.
        """
        if self._journal.read(server) is None:
            return
        lock = self._lock(server)
        if not lock.acquire(timeout=timeout_s):
            raise exception.PreCheckFailed(
                f'The disks of server {server} are still being folded into '
                f'one file each: {action} is not possible now.',
                host=self._host,
                remedy='Try again when the log says that they are flat.',
            )
        try:
            with self._journal.hold(server, timeout_s):
                record = self._journal.read(server)
                if record is not None:
                    LOG.warning('Settling server %s before %s', server, action)
                    self._settle(record, timeout_s)
        finally:
            lock.release()

    def begin(self, server: str) -> threading.Thread:
        """Settle a running guest in the background, until it is done.

        A guest that is off is left alone: it is settled before it is
        started.

        :returns: the thread, for whoever wants to wait.
        """
        with self._guard:
            worker = self._workers.get(server)
            if worker is None or not worker.is_alive():
                worker = threading.Thread(
                    target=self._work,
                    args=(server,),
                    name=f'sxm-settle-{server[:8]}',
                    daemon=True,
                )
                self._workers[server] = worker
                worker.start()
            return worker

    def is_settled(self, server: str) -> bool:
        return self._journal.read(server) is None

    def _work(self, server: str) -> None:
        again = threading.Event()
        while True:
            try:
                with self._lock(server), self._journal.hold(server):
                    record = self._journal.read(server)
                    if record is None:
                        return
                    if self._domain(server).state() in GUEST:
                        self._settle(record, _FLATTEN_FOR_S)
                        return
            except exception.SXMError as error:
                LOG.warning(
                    'Server %s keeps its overlays, trying again in %d s: %s',
                    server,
                    _AGAIN_AFTER_S,
                    error,
                )
            again.wait(_AGAIN_AFTER_S)

    def _settle(self, record: engine_journal.Record, timeout_s: float) -> None:
        domain = self._domain(record.server)
        is_source = record.role is engine_journal.Role.SOURCE
        if domain.state() in GUEST:
            if is_source:
                self._end_jobs(domain, record, timeout_s)
            else:
                self._cleanup(record.runtime)
        elif is_source:
            self._check_guest_is_ours(record)
            self._cleanup(record.runtime)
        else:
            self._cleanup(record.runtime)
            if self._never_arrived(domain, record):
                self._discard(record)
                return
        settle.settle_all(domain, record.disks, timeout_s)
        self._journal.forget(record.server)
        LOG.info('Disks of server %s are flat', record.server)

    def _discard(self, record: engine_journal.Record) -> None:
        for disk in record.disks:
            files = drivers.load(disk.format)
            settle.remove_overlays(disk, files)
            if disk.path in record.made:
                files.remove(disk.path)
        self._journal.forget(record.server)
        LOG.info('Nothing is left of the move of server %s', record.server)

    @staticmethod
    def _never_arrived(
        domain: ports.Domain, record: engine_journal.Record
    ) -> bool:
        """Whether this host only has the half of a move that was dropped.

        A domain that is known here has come, also when it is off by now.
        Without one, the bases may be unfinished: nothing is folded in.
        """
        if not any(os.path.exists(disk.path) for disk in record.disks):
            return True
        return (
            not record.committed and domain.state() is ports.DomainState.ABSENT
        )

    def _end_jobs(
        self,
        domain: hypervisor_domain.LibvirtDomain,
        record: engine_journal.Record,
        timeout_s: float,
    ) -> None:
        """Stop what a move that was cut short still has under way.

        The relay first: then a mirror ends by itself, while one on a dead
        link could not even be asked.
        """
        stopped = memory.stop(
            domain.lookup, _MEMORY_FOR_S, engine_clock.SystemClock()
        )
        if not stopped:
            raise exception.NeedsOperator(
                f'The migration of server {record.server} goes on and cannot '
                'be aborted.',
                host=self._host,
                remedy='See what libvirtd does on this host.',
            )
        self._cleanup(record.runtime)
        for disk in record.disks:
            if not disk.read_only and not settle.is_settled(disk):
                domain.wait_no_job(disk.target, timeout_s)

    def _check_guest_is_ours(self, record: engine_journal.Record) -> None:
        """Before disks are folded, and the guest started, with it off here.

        :raises NeedsOperator: it runs on the other host, or that cannot be
            asked.
        """
        remedy = (
            f'See whether the guest runs on {record.peer}: if so it must not '
            f'be started on {self._host}, whose disks are older.'
        )
        if record.committed:
            raise exception.NeedsOperator(
                f'Server {record.server} has moved to {record.peer}.',
                host=self._host,
                remedy=remedy,
            )
        try:
            there = self._ask_peer(record)
        except exception.SXMError as error:
            raise exception.NeedsOperator(
                f'Server {record.server} was being moved to {record.peer}, '
                f'which cannot be asked whether it runs there: {error}',
                host=self._host,
                remedy=remedy,
            ) from error
        if there in (*GUEST, ports.DomainState.INCOMING):
            raise exception.NeedsOperator(
                f'Server {record.server} is {there} on {record.peer}.',
                host=self._host,
                remedy=remedy,
            )

    def _lock(self, server: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(server, threading.Lock())
