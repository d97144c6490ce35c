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

"""Contract of a mirror driver: the way in which one disk is moved."""

import abc
from collections.abc import Sequence

from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import step as engine_step
from sxm_openstack.mirror import move as mirror_move


class MirrorDriver(abc.ABC):
    """A way to move a disk, entry point ``sxm.mirror``.

    Drivers keep no state and may be called from any thread.

    :cvar name: name of the entry point.
    :cvar hands_over: the disk is frozen on both sides before the memory
        goes, and only a second overlay is left for libvirt to mirror.  When
        false, libvirt mirrors the whole disk while the memory goes.
    """

    name: str
    hands_over: bool

    @abc.abstractmethod
    def refuse(self, disk: engine_disk.Disk) -> str | None:
        """Reason why this driver cannot move the disk, or ``None``."""

    @abc.abstractmethod
    def steps(
        self, move: mirror_move.Move, disk: engine_disk.Disk
    ) -> Sequence[engine_step.Step]:
        """Steps before the hand-over, in order."""
