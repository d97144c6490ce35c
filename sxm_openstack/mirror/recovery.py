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

"""Take a move up again after its link, or the other end of it, was lost.

The watchdog closes a link on which nothing moves, so the guest goes on by
itself on the source.  Its writes are in the overlays there, and what was
copied of the frozen bases stays good.  Once the destination answers again,
each overlay is sent as it is by then, and the copies go on where they were.

The same puts right what else may pass: a connection that was reset, a server
or a relay that was killed.  A destination that is full or broken fails again
without having got any further, and that ends the move.
"""

import logging

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import ports
from sxm_openstack.mirror import move as mirror_move

LOG = logging.getLogger(__name__)

_AGAIN_AFTER_S = 2.0
_POLL_S = 0.1
_FURTHER_BYTES = 16 << 20
"""More than may be on its way when something fails."""


class LinkRecovery:
    """Puts right that the link of a move was lost; see :class:`.Runner`.

    Only before the hand-over: the steps that may be resumed say so.
    """

    def __init__(self, move: mirror_move.Move) -> None:
        self._move = move
        self._lost: list[engine_disk.Disk] = []
        self._enough_bytes = 0

    def __call__(self, error: Exception) -> bool:
        """Wait for the link, and mirror again what was mirrored.

        :returns: false if it is not the link, or would fail again.
        :raises LinkStalled: it did not come back in time.
        :raises Aborted: an operator asked for it meanwhile.
        """
        move = self._move
        if not move.settings.link_timeout_s or not self._may_pass(error):
            return False
        phases = {disk.target: disk.phase for disk in move.progress.disks()}
        self._let_go(error)
        while True:
            self._connect()
            try:
                self._mirror(phases)
                break
            except exception.LinkStalled as again:
                self._let_go(again)
        move.progress.mark('link-back')
        LOG.info('The move to %s goes on', move.peer)
        return True

    def _may_pass(self, error: Exception) -> bool:
        """Whether it is the link; if only perhaps, then once without any
        progress in between."""
        if isinstance(error, exception.LinkStalled):
            return True
        if not isinstance(
            error, exception.MirrorFailed | exception.CopyFailed
        ):
            return False
        _total, done = self._move.progress.totals()
        got_further = done >= self._enough_bytes
        self._enough_bytes = max(self._enough_bytes, done + _FURTHER_BYTES)
        return got_further

    def _let_go(self, error: Exception) -> None:
        move = self._move
        LOG.warning('The guest goes on here alone for now: %s', error)
        move.progress.mark('link-lost')
        for disk in move.mirrored:
            self._keep_count(disk)
        self._lost = [*move.mirrored, *self._lost]
        move.mirrored.clear()
        # It stays the move's link: what still runs next to it keeps it from
        # being removed, and the undoing closes it once more.
        move.open_link.close()

    def _keep_count(self, disk: engine_disk.Disk) -> None:
        move = self._move
        try:
            move.mirrored_before[disk.target] = move.mirrored_bytes(disk)
        except exception.LinkStalled:
            LOG.info('What was mirrored of %s is not known', disk.target)

    def _connect(self) -> None:
        """Open a link to the destination, as soon as that answers."""
        move = self._move
        deadline_s = move.clock.now() + move.settings.link_timeout_s
        while True:
            move.control.check()
            try:
                move.check_guest()
                reason = self._try()
            except exception.Retryable as error:
                reason = str(error)
            if not reason:
                return
            if move.clock.now() >= deadline_s:
                raise exception.LinkStalled(
                    f'The link to {move.peer} did not come back within '
                    f'{move.settings.link_timeout_s:.0f} s: {reason}',
                    host=move.host,
                    remedy='Check the migration network and start again.',
                )
            move.clock.sleep(_AGAIN_AFTER_S)

    def _try(self) -> str:
        """One attempt; why it failed, or nothing."""
        move = self._move
        endpoint = move.endpoint
        if endpoint is None:
            return 'it was never open'
        if not move.transfer.is_reachable(endpoint):
            return f'{endpoint.address} does not answer'
        move.connect(move.destination.reconnect(move.disks))
        return ''

    def _mirror(self, phases: dict[str, engine_disk.DiskPhase]) -> None:
        move = self._move
        with move.explained():
            while self._lost:
                disk = self._lost[0]
                mirror_again(move, disk)
                self._lost.pop(0)
                move.progress.phase(disk.target, phases[disk.target])


def begin_mirror(
    move: mirror_move.Move, disk: engine_disk.Disk, rate_bytes_per_s: int = 0
) -> None:
    """Start the mirror of an overlay; see :meth:`.Domain.start_mirror`."""
    move.domain.start_mirror(
        disk.target,
        move.open_link.socket(disk.mirror_channel),
        move.open_link.export(disk.mirror_channel),
        rate_bytes_per_s=rate_bytes_per_s,
    )
    move.progress.phase(disk.target, engine_disk.DiskPhase.MIRRORING)


def mirror_again(move: mirror_move.Move, disk: engine_disk.Disk) -> None:
    """Mirror an overlay that holds data already.

    Blocks until both sides have all of it, for as long as the link works.
    What it holds goes no faster than the guest's share of the link allows.

    :raises MirrorFailed: the job ended otherwise.
    """
    domain, target = move.domain, disk.target
    domain.wait_no_job(target, move.settings.job_timeout_s)
    begin_mirror(move, disk, move.governor.rate_bytes_per_s)
    while True:
        state = domain.mirror_state(target)
        if state is ports.MirrorState.READY:
            break
        move.check()
        if state is not ports.MirrorState.RUNNING:
            raise exception.MirrorFailed(
                f'The mirror of {target} ended before all was sent: {state}.',
                host=move.host,
                disk=target,
            )
        move.clock.sleep(_POLL_S)
    move.mirrored.append(disk)
