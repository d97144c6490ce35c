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

"""A step of a move: do it, undo it, or find out whether it was done."""

import abc
import enum


class Outcome(enum.StrEnum):
    """What a host answers when it is asked whether a step was done."""

    DONE = 'done'
    NOT_DONE = 'not-done'
    UNKNOWN = 'unknown'


class Step(abc.ABC):
    """One step.  The runner writes the journal around it.

    :cvar name: stable name, written to the journal and to errors.
    :ivar target: disk that it is about, or the empty string for all.
    :ivar resumable: after a failure that was put right, :meth:`execute` goes
        on where it was.
    """

    name: str = ''
    target: str = ''
    resumable: bool = False

    @abc.abstractmethod
    def execute(self) -> None:
        """Do it.

        Idempotent, bounded in time, and ends soon after an abort was asked
        for by raising :class:`.Aborted`.
        """

    @abc.abstractmethod
    def revert(self) -> None:
        """Undo it.

        Safe when :meth:`execute` never ran, ran half way, or this ran
        before.
        """

    @abc.abstractmethod
    def probe(self) -> Outcome:
        """Ask the hosts, not the memory, whether it was done."""

    def __str__(self) -> str:
        return f'{self.name} {self.target}'.strip()
