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

"""The source's side of a move, from the first check to the last file."""

from collections.abc import Mapping
import logging

from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import ports
from sxm_openstack.engine import runner as engine_runner
from sxm_openstack.engine import step as engine_step
from sxm_openstack.mirror import base
from sxm_openstack.mirror import copy
from sxm_openstack.mirror import handover
from sxm_openstack.mirror import move as mirror_move
from sxm_openstack.mirror import prepare
from sxm_openstack.mirror import recovery
from sxm_openstack.mirror import verify

LOG = logging.getLogger(__name__)


def plan(
    move: mirror_move.Move, drivers: Mapping[str, base.MirrorDriver]
) -> list[engine_step.Step]:
    """Steps of the storage stage, in order; none without disks.

    :param drivers: mirror driver of every writable disk, by target.
    """
    if not move.disks:
        return []
    steps: list[engine_step.Step] = [prepare.PrepareDestination(move)]
    frozen = []
    for disk in engine_disk.smallest_first(list(move.disks)):
        if disk.read_only:
            steps.extend(copy.copy_steps(move, disk))
            continue
        driver = drivers[disk.target]
        steps.extend(driver.steps(move, disk))
        if driver.hands_over:
            frozen.append(disk)
    steps.append(handover.HandOver(move, tuple(frozen)))
    if move.settings.verify == content.Verify.FULL:
        steps.extend(verify.VerifyHandOver(move, disk) for disk in frozen)
    return steps


class SourceMove:
    """Runs the storage stage, and ends it one way or the other.

    After :meth:`run` the caller migrates the memory, with libvirt mirroring
    :meth:`remaining` through :attr:`disks_socket`, and then calls either
    :meth:`complete` or :meth:`rollback`.  A server without local disks goes
    through the same calls, and nothing is done.

    :param drivers: mirror driver of every writable disk, by target.
    :param runtime: directory of this move's sockets and processes.
    """

    def __init__(
        self,
        move: mirror_move.Move,
        drivers: Mapping[str, base.MirrorDriver],
        journal: engine_journal.Journal,
        runtime: str,
    ) -> None:
        self.move = move
        self._drivers = drivers
        self._journal = journal
        self._runner = engine_runner.Runner(
            plan(move, drivers),
            journal,
            engine_journal.Record(
                server=move.server,
                role=engine_journal.Role.SOURCE,
                peer=move.peer,
                disks=move.disks,
                runtime=runtime,
            ),
            move.control,
            move.host,
            move.clock,
            recovery.LinkRecovery(move),
        )

    def run(self) -> None:
        """The storage stage.  Blocks until the disks are handed over.

        :raises PreCheckFailed: an earlier move of the server left traces;
            nothing was done.
        :raises SXMError: it failed and everything was undone.
        :raises NeedsOperator: it failed and not everything was undone;
            :meth:`rollback` tries the rest again.
        """
        LOG.info(
            'Moving disks %s of server %s to %s',
            ', '.join(disk.target for disk in self.move.disks) or '(none)',
            self.move.server,
            self.move.peer,
        )
        self._runner.run()

    @property
    def disks_socket(self) -> str:
        """Where libvirt's mirror of the memory phase connects to."""
        return self.move.open_link.socket(ports.DISKS_CHANNEL)

    def remaining(self) -> list[engine_disk.Disk]:
        """Disks that libvirt still mirrors while the memory goes."""
        return [disk for disk in self.move.disks if not disk.read_only]

    def source_paths(self) -> dict[str, str]:
        """File that each remaining disk has on both hosts from here on."""
        return {
            disk.target: (
                disk.handover_path
                if self._drivers[disk.target].hands_over
                else disk.path
            )
            for disk in self.remaining()
        }

    def rollback(self) -> None:
        """The memory phase failed: back to the ordinary files.

        May be called again after it, or :meth:`run`, raised.

        :raises NeedsOperator: something could not be undone; the journal
            keeps it.
        """
        self._runner.revert()
        self.move.progress.mark('reverted')

    def complete(self, *, keep_record: bool = False) -> None:
        """The guest runs on the destination: nothing is undone any more.

        Call it before the source's files are deleted.

        :param keep_record: the journal goes on to say that the server has
            gone, until its caller has said so elsewhere.
        :raises OSError: the journal could not be written; nothing else is
            left to do.
        """
        try:
            self._runner.commit()
        finally:
            if self.move.link is not None:
                self.move.link.close()
                self.move.link = None
            if not keep_record:
                self._journal.forget(self.move.server)
            self.move.progress.mark('arrived')
