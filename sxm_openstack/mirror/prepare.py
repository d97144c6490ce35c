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

"""Step: make the destination ready and connect to it."""

from sxm_openstack.engine import step as engine_step
from sxm_openstack.mirror import move as mirror_move


class PrepareDestination(engine_step.Step):
    """Bases, overlays and exports on the destination, and the link to it."""

    name = 'prepare-destination'

    def __init__(self, move: mirror_move.Move) -> None:
        self._move = move

    def execute(self) -> None:
        move = self._move
        self._close_link()
        endpoint = move.destination.prepare(move.disks)
        move.control.check()
        move.connect(endpoint)

    def revert(self) -> None:
        self._close_link()
        self._move.destination.discard()

    def probe(self) -> engine_step.Outcome:
        if self._move.link is None:
            return engine_step.Outcome.NOT_DONE
        if self._move.link.failure() is not None:
            return engine_step.Outcome.UNKNOWN
        return engine_step.Outcome.DONE

    def _close_link(self) -> None:
        if self._move.link is not None:
            self._move.link.close()
            self._move.link = None
