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

"""Step: copy a frozen base to the destination."""

from collections.abc import Sequence

from sxm_openstack import exception
from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import governor as engine_governor
from sxm_openstack.engine import ports
from sxm_openstack.engine import step as engine_step
from sxm_openstack.mirror import move as mirror_move
from sxm_openstack.mirror import verify

_TICK_S = 0.1
_TELL_PARTS = 32  # a rate that changed by less is not worth telling


def copy_steps(
    move: mirror_move.Move, disk: engine_disk.Disk
) -> Sequence[engine_step.Step]:
    """Copy, and compare where the operator or the kind of disk asks."""
    steps: list[engine_step.Step] = [CopyBase(move, disk)]
    whole = disk.read_only or move.settings.verify == content.Verify.FULL
    if whole or move.settings.verify == content.Verify.SAMPLE:
        steps.append(verify.VerifyBase(move, disk, whole=whole))
    return steps


class CopyBase(engine_step.Step):
    """Copy one frozen base, as fast as the guest's writes leave room."""

    name = 'copy-base'
    resumable = True

    def __init__(self, move: mirror_move.Move, disk: engine_disk.Disk) -> None:
        self._move = move
        self._disk = disk
        self.target = disk.target
        self._copy: ports.Copy | None = None
        self._finished = False
        self._writes: dict[str, ports.WriteStats] = {}
        self._seen_bytes: int | None = None
        self._offset = 0
        self._started_s: float | None = None

    def execute(self) -> None:
        move, disk = self._move, self._disk
        if self._finished:
            return
        if self._copy is not None:
            self._copy.close()
        self._seen_bytes = None
        move.progress.phase(disk.target, engine_disk.DiskPhase.COPYING)
        with move.explained():
            self._copy = move.transfer.start_copy(
                disk,
                move.open_link.socket(disk.base_channel),
                move.open_link.export(disk.base_channel),
                rate_bytes_per_s=move.governor.rate_bytes_per_s,
                offset=self._offset,
            )
            self._follow(self._copy)
        # After a failure the runner reverts, which closes it as well, and
        # nothing hides the first error.
        self._copy.close()
        self._finished = True
        move.progress.phase(disk.target, engine_disk.DiskPhase.MIRRORED)

    def revert(self) -> None:
        """End the copier: while it holds the base, nothing can commit."""
        if self._copy is not None:
            self._copy.close()
        self._finished = False
        self._offset = 0

    def probe(self) -> engine_step.Outcome:
        if self._finished:
            return engine_step.Outcome.DONE
        return engine_step.Outcome.UNKNOWN

    def _follow(self, copy: ports.Copy) -> None:
        """Steer the copy until it has finished."""
        move = self._move
        if self._started_s is None:
            self._started_s = move.clock.now()
        told = move.governor.rate_bytes_per_s
        while True:
            move.check()
            self._check_time(self._started_s)
            done = copy.progress()
            move.progress.copied(
                self.target, done.total_bytes, done.done_bytes
            )
            self._offset = done.offset
            if done.finished:
                return
            if done.done_bytes:
                rate = move.governor.update(
                    self._sample(done), move.control.hurried
                )
                if abs(rate - told) > told / _TELL_PARTS:
                    copy.set_rate(rate)
                    told = rate
            # Else the copier reads the disk's map: that the link is empty
            # then says nothing of what it carries.
            move.clock.sleep(_TICK_S)

    def _check_time(self, started_s: float) -> None:
        limit_s = self._move.settings.storage_timeout_s
        if limit_s and self._move.clock.now() - started_s > limit_s:
            raise exception.CopyFailed(
                f'The base of {self.target} was not copied within '
                f'{limit_s:.0f} s.',
                remedy='Raise [sxm] storage_timeout, lower [sxm] '
                'guest_share or force the completion.',
            )

    def _sample(self, done: ports.CopyProgress) -> engine_governor.Sample:
        move, link = self._move, self._move.open_link
        base = link.meter(self._disk.base_channel)
        # Not what was sent: that may still lie in a buffer here, and zeros
        # are work for the other side with next to nothing to send.
        if self._seen_bytes is not None:
            move.copied_bytes += done.done_bytes - self._seen_bytes
        self._seen_bytes = done.done_bytes
        mirrored = 0
        for disk in move.mirrored:
            sent = move.mirrored_bytes(disk)
            move.progress.mirrored(disk.target, sent)
            mirrored += sent
        delay_s = None
        if base.rtt_s is not None and base.min_rtt_s is not None:
            delay_s = max(0.0, base.rtt_s - base.min_rtt_s)
        return engine_governor.Sample(
            at_s=move.clock.now(),
            copied_bytes=move.copied_bytes,
            mirrored_bytes=mirrored,
            queue_delay_s=delay_s,
            write_latency_s=self._write_latency_s(),
        )

    def _write_latency_s(self) -> float | None:
        """Mean latency of the writes to mirrored disks since last asked."""
        operations, busy_s = 0, 0.0
        for disk in self._move.mirrored:
            try:
                new = self._move.domain.write_stats(disk.target)
            except exception.Retryable:
                return None  # advice only: the move must not end for it
            old = self._writes.get(disk.target, new)
            self._writes[disk.target] = new
            operations += new.operations - old.operations
            busy_s += new.busy_s - old.busy_s
        return busy_s / operations if operations > 0 else None
