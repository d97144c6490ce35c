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

"""Step: freeze both sides at one point and leave libvirt a small overlay.

libvirt refuses to migrate a domain that has a block job.  So the guest is
stopped for a moment, the mirrors are ended (a READY mirror that is ended
without pivot is a point-in-time copy), and second overlays go on top; the
memory phase mirrors only these.
"""

from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import step as engine_step
from sxm_openstack.mirror import move as mirror_move


class HandOver(engine_step.Step):
    """End all mirrors and put second overlays on both sides.

    Due also without any such disk: until the destination has let go of the
    images that it serves, no QEMU can open them there.

    :param disks: those that are mirrored.
    """

    name = 'hand-over'

    def __init__(
        self, move: mirror_move.Move, disks: tuple[engine_disk.Disk, ...]
    ) -> None:
        self._move = move
        self._disks = disks
        self.resumable = True

    def execute(self) -> None:
        move = self._move
        with move.explained():
            for disk in self._disks:
                move.domain.wait_mirror_ready(
                    disk.target, move.settings.job_timeout_s
                )
                move.overlays(disk.format).create_overlay(
                    disk.handover_path,
                    disk.overlay_path,
                    'qcow2',
                    disk.size_bytes,
                )
            move.check()
            if self._disks:
                self._freeze()
        for disk in self._disks:
            move.open_link.close_channel(disk.mirror_channel)
            move.progress.phase(disk.target, engine_disk.DiskPhase.HANDED_OVER)
        move.destination.hand_over(self._disks)

    def _freeze(self) -> None:
        """The only moment before the switch in which the guest stands."""
        move = self._move
        self.resumable = False
        move.progress.mark('pause')
        try:
            move.domain.hand_over(
                {disk.target: disk.handover_path for disk in self._disks}
            )
        finally:
            move.progress.mark('resume')
        move.mirrored.clear()

    def revert(self) -> None:
        """The overlays fold into their bases with the steps before this."""

    def probe(self) -> engine_step.Outcome:
        tops = {
            self._move.domain.source_path(disk.target) == disk.handover_path
            for disk in self._disks
        }
        if tops == {True}:
            return engine_step.Outcome.DONE
        if tops == {False}:
            return engine_step.Outcome.NOT_DONE
        return engine_step.Outcome.UNKNOWN
