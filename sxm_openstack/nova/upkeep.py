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

"""Finds what moves have left on this host, and ends it.

Another process, nova-compute first of all, may be at work here at the same
time: nothing is done to a server that one holds, or that Nova is migrating.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import enum
from typing import Any
from typing import Protocol

from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import ports
from sxm_openstack.mirror import traces as mirror_traces
from sxm_openstack.nova import clearing
from sxm_openstack.nova import settler as sxm_settler

LOG = logging.getLogger(__name__)

Role = engine_journal.Role


class Standing(enum.StrEnum):
    """How far a move is, of which something is on this host."""

    UNDER_WAY = 'under way'
    """It goes on, or is being ended: it is left alone."""
    CUT_SHORT = 'cut short'
    """It ended half way, the guest has not changed hosts: to be undone."""
    ARRIVED = 'arrived'
    """The guest is here: its overlays are to be folded."""
    MOVED_AWAY = 'moved away'
    """The guest has gone: what is here is of no use any more."""
    STRAY = 'stray'
    """There are traces, and no record of a move."""
    UNCLEAR = 'unclear'
    """It cannot be told; the reason says why."""


class Action(enum.StrEnum):
    """What is done about it."""

    NONE = 'none'
    UNDO = 'undo'
    FOLD = 'fold'
    FORGET = 'forget'
    CLEAR = 'clear'


FORWARD = {Standing.ARRIVED: Action.FOLD, Standing.MOVED_AWAY: Action.FORGET}
"""What ``resume`` does."""
BACK = {Standing.CUT_SHORT: Action.UNDO}
"""What ``rollback`` does."""
EITHER = {**FORWARD, **BACK, Standing.STRAY: Action.CLEAR}
"""What ``cleanup`` does."""


class Cloud(Protocol):
    """What Nova knows of a server."""

    def is_moving(self, server: str) -> bool:
        """Whether Nova is migrating it; false also when it is deleted.

        :raises Retryable: Nova cannot be asked.
        """

    def host_of(self, server: str) -> str:
        """Host of a server; empty when it is deleted.

        :raises Retryable: Nova cannot be asked.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A server of which something is left on this host.

    :param reason: why it stands so, for people.
    """

    server: str
    standing: Standing
    reason: str
    traces: Sequence[mirror_traces.Trace]
    record: engine_journal.Record | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            'server': self.server,
            'standing': str(self.standing),
            'reason': self.reason,
            'role': str(self.record.role) if self.record else None,
            'peer': self.record.peer if self.record else None,
            'traces': [trace.to_dict() for trace in self.traces],
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What was done, or would be.

    :param error: why it was not done; empty if it was.
    """

    case: Case
    action: Action
    error: str = ''

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.case.to_dict(),
            'action': str(self.action),
            'error': self.error,
        }


class Upkeep:
    """Everything that is left on one host.  Not thread-safe.

    :param assume_ended: the operator vouches that no server of which there
        is a record is being migrated, when Nova cannot be asked.
    :param timeout_s: how long folding one server's disks may take.
    """

    def __init__(
        self,
        journal: engine_journal.Journal,
        settler: sxm_settler.Settler,
        places: mirror_traces.Places,
        clearer: clearing.Clearer,
        cloud: Cloud,
        domain: Callable[[str], ports.Domain],
        host: str,
        *,
        assume_ended: bool = False,
        timeout_s: float = 3600.0,
    ) -> None:
        self._journal = journal
        self._settler = settler
        self._places = places
        self._clearer = clearer
        self._cloud = cloud
        self._domain = domain
        self._host = host
        self._assume_ended = assume_ended
        self._timeout_s = timeout_s

    def leftovers(self, servers: Sequence[str] = ()) -> list[Case]:
        """What is left, by server; changes nothing.

        :param servers: UUIDs of those to look at; by default all.
        :raises Retryable: the hypervisor cannot be asked.
        """
        found = mirror_traces.find(self._places, self._journal)
        return [
            self._case(server, traces)
            for server, traces in found.items()
            if not servers or server in servers
        ]

    def run(
        self,
        actions: dict[Standing, Action],
        servers: Sequence[str] = (),
        *,
        dry_run: bool = False,
    ) -> Iterator[Result]:
        """Do what is due for each server, going on past one that fails.

        May be repeated.
        """
        for case in self.leftovers(servers):
            action = actions.get(case.standing, Action.NONE)
            if dry_run:
                yield Result(case, action)
                continue
            yield self._run(case, action)
            if action in (Action.NONE, Action.CLEAR):
                continue
            # What the record did not tell of shows when it has gone.
            for rest in self.leftovers([case.server]):
                if (rest.standing, actions) == (Standing.STRAY, EITHER):
                    yield self._run(rest, Action.CLEAR)

    def _run(self, case: Case, action: Action) -> Result:
        try:
            self._act(case, action)
        except (exception.SXMError, OSError) as error:
            LOG.warning('Server %s: %s failed: %s', case.server, action, error)
            return Result(case, action, str(error))
        return Result(case, action)

    def _act(self, case: Case, action: Action) -> None:
        match action:
            case Action.NONE:
                raise exception.PreCheckFailed(_why_not(case))
            case Action.UNDO | Action.FOLD:
                self._settler.settle(
                    case.server, f'sxm-manage ({action})', self._timeout_s
                )
            case Action.FORGET:
                with self._journal.hold(case.server):
                    self._forget(case)
            case Action.CLEAR:
                with self._journal.hold(case.server):
                    self._clearer.clear(
                        case.server, case.traces, self._timeout_s
                    )

    def _forget(self, case: Case) -> None:
        """Drop the source's half of a move that was completed.

        :raises NeedsOperator: the guest may not be where it should.
        """
        record = case.record
        if record is None:
            return
        here = self._domain(case.server).state()
        owner = self._cloud.host_of(case.server)
        if here is not ports.DomainState.ABSENT or owner == self._host:
            raise exception.NeedsOperator(
                f'The server has moved to {record.peer}, but it is {here} '
                f'here and Nova has it on {owner or "no host"}.',
                host=self._host,
                remedy='Start nova-compute here: it looks at both hosts, and '
                'tells Nova if the guest has gone.',
            )
        self._clearer.drop(record)
        self._journal.forget(case.server)

    def _case(
        self, server: str, traces: Sequence[mirror_traces.Trace]
    ) -> Case:
        record = None
        try:
            record = self._journal.read(server)
            standing, reason = self._standing(server, record)
        except exception.SXMError as error:
            standing, reason = Standing.UNCLEAR, str(error)
        return Case(server, standing, reason, tuple(traces), record)

    def _standing(
        self, server: str, record: engine_journal.Record | None
    ) -> tuple[Standing, str]:
        if self._journal.is_held(server):
            return Standing.UNDER_WAY, 'a process of this host works at it'
        if record is None:
            return Standing.STRAY, 'no record of a move'
        if record.role is Role.SOURCE:
            if record.committed:
                return Standing.MOVED_AWAY, f'the guest went to {record.peer}'
            return Standing.CUT_SHORT, 'nobody works at it any more'
        return self._standing_here(record)

    def _standing_here(
        self, record: engine_journal.Record
    ) -> tuple[Standing, str]:
        """Of a server that was to come."""
        state = self._domain(record.server).state()
        if record.committed or state in (
            *sxm_settler.GUEST,
            ports.DomainState.SHUTOFF,
        ):
            return Standing.ARRIVED, f'the guest is {state} here'
        if state is ports.DomainState.INCOMING:
            return Standing.UNDER_WAY, 'the guest is coming in'
        if not self._assume_ended and self._cloud.is_moving(record.server):
            return Standing.UNDER_WAY, 'Nova is migrating the server'
        return Standing.CUT_SHORT, 'the guest has not come'


def _why_not(case: Case) -> str:
    match case.standing:
        case Standing.UNDER_WAY | Standing.UNCLEAR:
            return f'Nothing was done: {case.reason}.'
        case Standing.CUT_SHORT:
            return 'It cannot go on from here; "rollback" undoes it.'
        case Standing.STRAY:
            return 'There is no record of a move; "cleanup" clears it.'
        case _:
            return 'There is no way back; "resume" finishes it.'
