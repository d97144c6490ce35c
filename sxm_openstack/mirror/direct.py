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

"""Mirror ``direct``: libvirt's own synchronous mirror of the whole disk.

For disks that cannot take an overlay.  There is nothing to do before the
memory phase: libvirt copies and mirrors in one block job, whose background
copy the memory phase limits to the copy's share of the link.
"""

from collections.abc import Sequence

from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import step as engine_step
from sxm_openstack.mirror import base
from sxm_openstack.mirror import move as mirror_move


class DirectMirror(base.MirrorDriver):
    """One block job, synchronous writes, limited background copy."""

    name = 'direct'
    hands_over = False

    def refuse(self, disk: engine_disk.Disk) -> str | None:
        if disk.backing is engine_disk.Backing.DIFFERENT:
            return (
                'libvirt mirrors the top layer alone, and the backing file '
                'on the destination is not proven equal'
            )
        return None

    def steps(
        self, move: mirror_move.Move, disk: engine_disk.Disk
    ) -> Sequence[engine_step.Step]:
        return ()
