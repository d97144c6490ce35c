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

"""Mirror ``snapshot``: freeze the disk, mirror new writes, copy the rest.

From the snapshot on, every write of the guest is acknowledged only when
both sides have it; the frozen base is copied meanwhile, out of the guest's
process and behind the guest's writes.
"""

from collections.abc import Sequence
import logging

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import ports
from sxm_openstack.engine import step as engine_step
from sxm_openstack.mirror import base
from sxm_openstack.mirror import copy
from sxm_openstack.mirror import move as mirror_move
from sxm_openstack.mirror import recovery
from sxm_openstack.mirror import settle

LOG = logging.getLogger(__name__)


class SnapshotMirror(base.MirrorDriver):
    """The default for disks in files."""

    name = 'snapshot'
    hands_over = True

    def refuse(self, disk: engine_disk.Disk) -> str | None:
        return None

    def steps(
        self, move: mirror_move.Move, disk: engine_disk.Disk
    ) -> Sequence[engine_step.Step]:
        return (MirrorDisk(move, disk), *copy.copy_steps(move, disk))


class MirrorDisk(engine_step.Step):
    """Snapshot one disk and at once mirror its new overlay."""

    name = 'mirror-disk'
    resumable = True

    def __init__(self, move: mirror_move.Move, disk: engine_disk.Disk) -> None:
        self._move = move
        self._disk = disk
        self.target = disk.target
        self._folded = False
        self._snapshot_taken = False

    def execute(self) -> None:
        move, disk = self._move, self._disk
        move.check()
        self._folded = False
        with move.explained():
            if self._snapshot_taken:
                # The link was lost in between: what the guest has written
                # since has to be sent.
                recovery.mirror_again(move, disk)
                return
            self._take_snapshot()
            recovery.begin_mirror(move, disk)
            move.domain.wait_mirror_ready(
                disk.target, move.settings.job_timeout_s
            )
        move.mirrored.append(disk)

    def _take_snapshot(self) -> None:
        move, disk = self._move, self._disk
        self._check_top()
        move.progress.phase(disk.target, engine_disk.DiskPhase.PREPARING)
        move.overlays(disk.format).create_overlay(
            disk.overlay_path, disk.path, disk.format, disk.size_bytes
        )
        move.domain.snapshot({disk.target: disk.overlay_path})
        self._snapshot_taken = True

    def revert(self) -> None:
        """Cut the mirror first: a job on a dead link cannot be asked."""
        move, disk = self._move, self._disk
        if disk in move.mirrored:
            move.mirrored.remove(disk)
        self._cut()
        files = move.overlays(disk.format)
        if settle.is_settled(disk, files):
            return
        if not self._folded:
            self._fold(files)
            self._folded = True
            self._snapshot_taken = False
        settle.remove_overlays(disk, files)
        move.progress.phase(disk.target, engine_disk.DiskPhase.REVERTED)

    def _fold(self, files: ports.Overlays) -> None:
        move, disk = self._move, self._disk
        limit_s = move.settings.job_timeout_s
        if move.domain.state() in (
            ports.DomainState.RUNNING,
            ports.DomainState.PAUSED,
        ):
            move.domain.wait_no_job(disk.target, limit_s)
        limit_s += settle.fold_time_s(disk, files)
        settle.fold(move.domain, disk, limit_s, files)

    def probe(self) -> engine_step.Outcome:
        state = self._move.domain.mirror_state(self._disk.target)
        if state is ports.MirrorState.READY:
            return engine_step.Outcome.DONE
        top = self._move.domain.source_path(self._disk.target)
        if top == self._disk.path and state is ports.MirrorState.NONE:
            return engine_step.Outcome.NOT_DONE
        return engine_step.Outcome.UNKNOWN

    def _check_top(self) -> None:
        """An overlay that is in use already must not be made anew."""
        top = self._move.domain.source_path(self.target)
        if top != self._disk.path:
            raise exception.MoveFailed(
                f'{self.target} runs on {top}, not on its ordinary file '
                f'{self._disk.path}.',
                remedy='Fold it back with "virsh blockcommit" first.',
            )

    def _cut(self) -> None:
        link = self._move.link
        if link is None:
            return
        try:
            link.close_channel(self._disk.mirror_channel)
        except Exception:
            LOG.exception('Cutting the whole link in place of one channel')
            link.close()
