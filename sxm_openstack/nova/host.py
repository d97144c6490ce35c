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

"""All moves that this compute host has a part in."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
import contextlib
import dataclasses
import secrets
import threading
import time

import nova.conf
from nova.virt.libvirt import host as libvirt_host
from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.engine import checks as engine_checks
from sxm_openstack.engine import clock
from sxm_openstack.engine import control
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import ports
from sxm_openstack.engine import progress
from sxm_openstack.hypervisor import domain as hypervisor_domain
from sxm_openstack.mirror import base as mirror_base
from sxm_openstack.mirror import destination
from sxm_openstack.mirror import facts as mirror_facts
from sxm_openstack.mirror import move as mirror_move
from sxm_openstack.mirror import source
from sxm_openstack.nova import arrivals
from sxm_openstack.nova import checks
from sxm_openstack.nova import options
from sxm_openstack.nova import session as sxm_session
from sxm_openstack.nova import settler as sxm_settler
from sxm_openstack.storage import drivers as storage_drivers

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)


class MoveHost:
    """Keeps the moves of one nova-compute, by UUID of the server.

    Thread-safe.

    :param libvirt: Nova's connection to the hypervisor.
    :param ask_peer: state of a server's domain on the other host.
    """

    def __init__(
        self, libvirt: libvirt_host.Host, ask_peer: sxm_settler.AskPeer
    ) -> None:
        self._libvirt = libvirt
        self._ask_peer = ask_peer
        self._lock = threading.Lock()
        self._one_ended = threading.Condition(self._lock)
        self._sessions: dict[str, sxm_session.Session] = {}
        self._held: dict[str, contextlib.ExitStack] = {}
        self._cut_short: dict[str, str] = {}
        self._gone: dict[str, str] = {}
        self._journal = engine_journal.Journal(CONF.sxm.state_dir)
        self._settler = sxm_settler.Settler(
            self._journal,
            self.domain,
            lambda runtime: options.transfer().cleanup(runtime),
            ask_peer,
            CONF.host,
        )
        self.arrivals = arrivals.Arrivals(
            self._make_arrival, self._journal, self._settler, CONF.host
        )

    def domain(self, server: str) -> hypervisor_domain.LibvirtDomain:
        """The server's domain on this host, also while it is absent."""
        return hypervisor_domain.LibvirtDomain(
            self._libvirt.get_connection, server, host=CONF.host
        )

    # -- before a move ----------------------------------------------------

    def facts(self, server: str = '') -> mirror_facts.Facts:
        """This host as it is now; see :func:`.checks.facts`."""
        return checks.facts(
            self._libvirt.get_connection, self._journal, server
        )

    def check(
        self,
        server: str,
        disks: Sequence[engine_disk.Disk],
        there: mirror_facts.Facts | None,
        trouble: Sequence[engine_checks.Check],
    ) -> None:
        """Look at everything that a move away from here needs.

        :param there: the destination, if it reports on itself.
        :param trouble: what was found to be wrong already.
        :raises PreCheckFailed: something failed; nothing was changed.
        """
        # As near as can be to when the destination said what time it is.
        asked_at_s = time.time()
        here = dataclasses.replace(self.facts(), time_s=asked_at_s)
        found = (
            *trouble,
            *checks.of_pair(here, there),
            *checks.of_server(there, disks, self.domain(server).live_xml()),
        )
        checks.log(server, found)
        engine_checks.require(found)

    # -- moves away from here ---------------------------------------------

    def begin(
        self,
        server: str,
        peer: str,
        peer_names: Collection[str],
        chosen: dict[str, mirror_base.MirrorDriver],
        disks: Sequence[engine_disk.Disk],
        remote: ports.Destination,
        listener: Callable[[progress.PhaseChange], None],
    ) -> sxm_session.Session:
        """A new move away from this host, not running yet.

        :param peer_names: what the peer's certificate may be issued for.
        :param chosen: mirror driver of each writable disk.
        :raises PreCheckFailed: one is under way already.
        """
        runtime = options.runtime(server)
        domain = self.domain(server)
        now = clock.SystemClock()
        move = mirror_move.Move(
            server=server,
            host=CONF.host,
            peer=peer,
            disks=tuple(disks),
            domain=domain,
            destination=remote,
            transfer=options.transfer().source(runtime, peer_names),
            overlays=storage_drivers.load,
            control=control.Control(),
            clock=now,
            progress=progress.Progress(disks, now, listener),
            settings=options.settings(),
            reread=options.settings,
            verify_seed=secrets.token_hex(8),
        )
        session = sxm_session.Session(
            source.SourceMove(move, chosen, self._journal, runtime),
            domain,
            _whole_disk_bandwidth(chosen),
        )
        with self._lock:
            if server in self._sessions:
                raise _busy(server, 'a second move')
            held = contextlib.ExitStack()
            held.enter_context(self._journal.hold(server))
            self._held[server] = held
            self._cut_short.pop(server, None)
            self._gone.pop(server, None)
            self._sessions[server] = session
        return session

    def end(self, server: str) -> None:
        """Forget the move away from this host.

        What it could not undo is tried again in the background.
        """
        with self._lock:
            session = self._sessions.pop(server, None)
            if session is None:
                return
            self._held.pop(server).close()
            self._one_ended.notify_all()
        record = self._journal.read(server)
        if record is None:
            return
        if record.committed:
            self._journal.forget(server)
        else:
            self._settler.begin(server)

    def call_off(self, server: str, reason: str, timeout_s: float) -> bool:
        """Abort the move away from this host, and wait for its end.

        Does nothing when there is none, or when its own thread asks.

        :returns: whether nothing is under way any more.
        """
        session = self.session(server)
        if session is None or session.thread is threading.current_thread():
            return True
        session.abort(reason)
        with self._lock:
            return self._one_ended.wait_for(
                lambda: self._sessions.get(server) is not session, timeout_s
            )

    def session(self, server: str) -> sxm_session.Session | None:
        """The move away from this host that is under way, if any."""
        with self._lock:
            return self._sessions.get(server)

    # -- whatever moves have left -----------------------------------------

    def settle(self, server: str, action: str) -> None:
        """Bring the disks into their ordinary files before something else.

        Does nothing for a server without traces of a move.

        :param action: what is about to happen, for the message.
        :raises PreCheckFailed: a move, or its end, is under way.
        :raises NeedsOperator: an overlay could not be folded.
        """
        if self.session(server) is not None:
            raise _busy(server, action)
        self._settler.settle(server, action, CONF.sxm.handover_timeout)

    def forget(self, server: str) -> None:
        """The server's disks are gone from this host: so are our traces."""
        if self.session(server) is not None:
            return
        with self._lock:
            self._gone.pop(server, None)
        record = self._journal.read(server)
        if record is not None:
            self._journal.forget(server)
            options.transfer().cleanup(record.runtime)

    def take_cut_short(self, server: str) -> str | None:
        """Name of the host to which a move was cut short by our last end."""
        with self._lock:
            return self._cut_short.pop(server, None)

    def gone(self) -> dict[str, str]:
        """Where the servers run now that our last end kept from saying that
        they have gone, by UUID."""
        with self._lock:
            return dict(self._gone)

    def recover(self) -> None:
        """Settle what a nova-compute that was killed has left.

        Called before Nova looks at its servers, so that none can start on a
        disk whose newest writes are still in an overlay.  Disks of guests
        that run are waited for only for a while: nothing starts them.
        """
        working = []
        for server in list(self._journal.servers()):
            try:
                worker = self._recover(server)
            except exception.SXMError as error:
                LOG.error('Server %s is not settled: %s', server, error)
            else:
                if worker is not None:
                    working.append(worker)
        now = clock.SystemClock()
        deadline = now.now() + CONF.sxm.handover_timeout
        for worker in working:
            worker.join(max(0.0, deadline - now.now()))

    def _recover(self, server: str) -> threading.Thread | None:
        record = self._journal.read(server)
        if record is None:
            return None
        runs_here = self.domain(server).state() in sxm_settler.GUEST
        if record.role is engine_journal.Role.DESTINATION:
            if not record.committed and not runs_here:
                # It may still come, or be coming in right now.
                LOG.info('Server %s may still arrive', server)
                self.arrivals.restore(record)
                return None
        elif not runs_here and self._has_gone(record):
            LOG.warning('Server %s runs on %s', server, record.peer)
            with self._lock:
                self._gone[server] = record.peer
            options.transfer().cleanup(record.runtime)
            return None
        elif not record.committed:
            LOG.warning('The move of server %s was cut short', server)
            with self._lock:
                self._cut_short[server] = record.peer
        if runs_here:
            return self._settler.begin(server)
        self._settler.settle(
            server, 'the start of nova-compute', CONF.sxm.handover_timeout
        )
        return None

    def _has_gone(self, record: engine_journal.Record) -> bool:
        """Whether a guest that is not on here has arrived at the other host;
        from now on the journal says so."""
        if record.committed:
            return True
        try:
            if self._ask_peer(record) not in sxm_settler.GUEST:
                return False
        except exception.SXMError as error:
            LOG.warning('%s does not say what it has: %s', record.peer, error)
            return False
        self._journal.write(dataclasses.replace(record, committed=True))
        return True

    def _make_arrival(
        self, server: str, peer: str
    ) -> destination.DestinationMove:
        runtime = options.runtime(server)
        return destination.DestinationMove(
            server=server,
            peer=peer,
            nbd=options.transfer().server(
                runtime,
                options.migration_address(),
                options.port_range(),
                lambda: self.arrivals.names(server),
            ),
            storage=storage_drivers.load,
            domain=self.domain(server),
            journal=self._journal,
            runtime=runtime,
        )


def _whole_disk_bandwidth(
    chosen: dict[str, mirror_base.MirrorDriver],
) -> int:
    """libvirt's limit, in MiB/s, when it mirrors whole disks; 0 is none.

    It counts for each disk by itself.
    """
    whole = sum(not driver.hands_over for driver in chosen.values())
    limit: int = CONF.sxm.max_rate_mib_per_s
    return max(1, limit // whole) if whole and limit else 0


def _busy(server: str, action: str) -> exception.PreCheckFailed:
    return exception.PreCheckFailed(
        f'Server {server} is being moved with its disks: {action} is not '
        'possible now.',
        host=CONF.host,
        remedy='Wait for the migration, or abort it.',
    )
