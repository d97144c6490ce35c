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

"""One live migration on its source host, between Nova and the engine."""

from collections.abc import Iterator
import contextlib
import enum
import threading
from typing import Any

from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.engine import clock as engine_clock
from sxm_openstack.engine import control as engine_control
from sxm_openstack.engine import ports
from sxm_openstack.hypervisor import domain as hypervisor_domain
from sxm_openstack.mirror import source
from sxm_openstack.nova import memory

LOG = logging.getLogger(__name__)

_GUEST = (ports.DomainState.RUNNING, ports.DomainState.PAUSED)
_LOCATE_FOR_S = 120.0
_LOCATE_EVERY_S = 2.0
_ABORT_FOR_S = 300.0
_ABORT_EVERY_S = 1.0


class Stage(enum.StrEnum):
    """How far the migration is, for what an operator asks of it."""

    STORAGE = 'storage'
    MEMORY = 'memory'
    ENDED = 'ended'


class Session:
    """Holds the move while Nova's own code migrates the memory.

    Methods may be called from any thread.

    :ivar thread: the one that migrates the server, in which this was made.
    :param move: not run yet.
    :param domain: of the server, on this host.
    :param bandwidth_mib_per_s: limit of libvirt's mirror; 0 is Nova's own.
    """

    def __init__(
        self,
        move: source.SourceMove,
        domain: hypervisor_domain.LibvirtDomain,
        bandwidth_mib_per_s: int = 0,
        clock: engine_clock.Clock | None = None,
    ) -> None:
        self._move = move
        self._domain = domain
        self._clock = clock or engine_clock.SystemClock()
        self._lock = threading.Lock()
        self._stage = Stage.STORAGE
        self._ended = threading.Event()
        self._memory_over = threading.Event()
        self._memory_over.set()
        self._aborter: threading.Thread | None = None
        self.thread = threading.current_thread()
        self.forced = False
        self.memory_error: Exception | None = None
        self.bandwidth_mib_per_s = bandwidth_mib_per_s

    @property
    def stage(self) -> Stage:
        return self._stage

    @property
    def ended(self) -> bool:
        """Whether the move was completed, or undone."""
        return self._ended.is_set()

    @property
    def aborted(self) -> bool:
        return self._control.aborted

    @property
    def disks_socket(self) -> str:
        """Where libvirt's mirror of the memory phase connects to."""
        return self._move.disks_socket

    def handed_over(self) -> dict[str, str]:
        """Second overlay of each disk that has one, by target."""
        return {
            disk.target: disk.handover_path
            for disk in self._move.remaining()
            if self._move.source_paths()[disk.target] == disk.handover_path
        }

    def remaining(self) -> list[str]:
        """Targets of the disks that libvirt still mirrors."""
        return [disk.target for disk in self._move.remaining()]

    def totals(self) -> tuple[int, int]:
        """Bytes of the bases in all, and of those sent."""
        return self._move.move.progress.totals()

    def figures(self) -> dict[str, Any]:
        """What became of each disk, and how long the guest stood."""
        return {
            'pause_s': self._domain.last_pause_s,
            'disks': {
                disk.target: {
                    'total_bytes': disk.total_bytes,
                    'copied_bytes': disk.done_bytes,
                    'mirrored_bytes': disk.mirrored_bytes,
                }
                for disk in self._move.move.progress.disks()
            },
        }

    # -- the stages -------------------------------------------------------

    def run_storage(self) -> None:
        """Mirror and copy the disks, and hand them over.

        :raises SXMError: it failed; see :meth:`.SourceMove.run`.
        :raises Aborted: also when the abort came with the last step: then
            :meth:`rollback` is due.
        """
        try:
            self._move.run()
        except Exception:
            self._end()
            raise
        with self._lock:
            self._control.check()
            self._stage = Stage.MEMORY

    @contextlib.contextmanager
    def migrating(self) -> Iterator[None]:
        """Around libvirt's call that migrates the memory.

        :raises Aborted: on entry, when an abort was asked for before.
        """
        with self._lock:
            self._control.check()
            self._memory_over.clear()
        try:
            yield
        except Exception as error:
            self.memory_error = error
            raise
        finally:
            self._memory_over.set()

    def abort(self, reason: str) -> None:
        """End the migration, whatever stage it is in.

        Returns at once; the migration ends soon after.
        """
        self._control.abort(reason)
        with self._lock:
            if self._stage is not Stage.MEMORY or self._aborter is not None:
                return
            self._aborter = threading.Thread(
                target=self._abort_memory, name='sxm-abort', daemon=True
            )
            self._aborter.start()

    def force_complete(self) -> None:
        """Stop yielding to the guest, and force the memory phase later."""
        self.forced = True
        self._control.hurry()

    # -- the end ----------------------------------------------------------

    def stop_memory(self) -> None:
        """See that no memory is on its way any more, aborting it if needed.

        libvirt goes on with a migration when its caller has gone; whatever
        is decided while it does would be wrong a moment later.

        :raises NeedsOperator: it does not end.
        """
        stopped = memory.stop(self._domain.lookup, _ABORT_FOR_S, self._clock)
        if not (stopped and self._memory_over.wait(_LOCATE_FOR_S)):
            raise exception.NeedsOperator(
                'The migration of the memory neither ends nor can be '
                'aborted: nothing was undone.',
                remedy='See what libvirtd does on this host; restart '
                'nova-compute when the domain has no job any more.',
            )

    def guest_is_at(self) -> str:
        """``source`` or ``destination``: ask both, believe no error.

        A host that does not answer is asked again for a while: after the
        switch-over there is no way back, and before it none forward.

        :raises NeedsOperator: the guest runs on neither, or they cannot be
            asked.
        """
        deadline = self._clock.now() + _LOCATE_FOR_S
        while True:
            try:
                return self._locate()
            except exception.Retryable as error:
                if self._clock.now() > deadline:
                    raise exception.NeedsOperator(
                        f'Cannot find out where the guest runs: {error}',
                        remedy='Look at both hosts with "virsh list --all"; '
                        'nothing was undone or deleted.',
                    ) from error
                LOG.warning('Where is the guest? Asking again: %s', error)
            self._clock.sleep(_LOCATE_EVERY_S)

    def rollback(self) -> None:
        """The guest stays: undo everything.

        :raises NeedsOperator: something is left, by name.
        """
        if not self._ended.is_set():
            self._end()
            self._move.rollback()

    def complete(self) -> None:
        """The guest has gone: let go of everything here.

        The journal says so until Nova's database does.
        """
        if not self._ended.is_set():
            self._end()
            self._move.complete(keep_record=True)

    @property
    def _control(self) -> engine_control.Control:
        return self._move.move.control

    def _end(self) -> None:
        with self._lock:
            self._stage = Stage.ENDED
        self._ended.set()

    def _locate(self) -> str:
        here = self._domain.state()
        if here is ports.DomainState.RUNNING:
            return 'source'
        peer = self._move.move.peer
        there = self._move.move.destination.state()
        if there is ports.DomainState.RUNNING:
            # Also when it still stands here: libvirt could not clean up.
            return 'destination'
        if here in _GUEST:
            return 'source'
        if there in _GUEST:
            return 'destination'
        if there is ports.DomainState.INCOMING:
            raise exception.Retryable(
                f'It is {here} here and still coming in at {peer}.'
            )
        raise exception.NeedsOperator(
            f'The guest is {here} here and {there} on {peer}.',
            remedy='Start the server: its disks are complete on the source.',
        )

    def _abort_memory(self) -> None:
        """Until libvirt's call returns: it may only be about to begin."""
        deadline = self._clock.now() + _ABORT_FOR_S
        while not self._memory_over.is_set():
            memory.abort(self._domain.lookup)
            if self._clock.now() > deadline:
                LOG.error(
                    'The memory phase did not end %d s after the abort',
                    _ABORT_FOR_S,
                )
                return
            self._memory_over.wait(_ABORT_EVERY_S)
