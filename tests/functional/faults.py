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

"""Ports that fail, or wait, where a test says so."""

from __future__ import annotations

import collections.abc
import dataclasses
import logging
import threading
import time
import typing

from sxm_openstack import exception

LOG = logging.getLogger(__name__)

TIMED = frozenset(
    {
        'blockCommit',
        'blockCopy',
        'blockJobAbort',
        'hand_over',
        'prepare',
        'resume',
        'snapshotCreateXML',
        'suspend',
    }
)
"""Calls whose time is logged."""


@dataclasses.dataclass(slots=True)
class Fault:
    """What is to happen at one call of a port.

    :param call: ``PORT.METHOD``, such as ``domain.snapshot``; the port
        ``libvirt`` is the ``virDomain`` below the port ``domain``.
    :param when: ``before`` or ``after`` the real call.
    :param nth: at which of the calls, from 1.
    :param action: ``raise``, or ``hold`` until it is released.
    """

    call: str
    when: str = 'before'
    nth: int = 1
    action: str = 'raise'
    seen: int = 0
    reached: threading.Event = dataclasses.field(
        default_factory=threading.Event
    )
    released: threading.Event = dataclasses.field(
        default_factory=threading.Event
    )

    HOLD_AT_MOST_S: typing.ClassVar[float] = 120.0

    def strike(self) -> None:
        """Do it."""
        self.reached.set()
        if self.action == 'raise':
            raise exception.MoveFailed(
                f'The test let {self.call} fail {self.when} it was done.'
            )
        if not self.released.wait(self.HOLD_AT_MOST_S):
            raise exception.MoveFailed(f'Nobody released {self.call}.')


class Faulty:
    """Stands before a port and passes every call on, but for the faults.

    :param port: the real thing.
    :param name: what the faults call it.
    """

    def __init__(
        self, port: typing.Any, name: str, faults: typing.Sequence[Fault]
    ) -> None:
        self._port = port
        self._name = name
        self._faults = faults

    def __getattr__(self, attribute: str) -> typing.Any:
        value = getattr(self._port, attribute)
        call = f'{self._name}.{attribute}'
        wanted = [fault for fault in self._faults if fault.call == call]
        if attribute in TIMED:
            value = _timed(call, value)
        if not wanted or not callable(value):
            return value

        def with_faults(
            *arguments: typing.Any, **named: typing.Any
        ) -> typing.Any:
            for fault in wanted:
                fault.seen += 1
            now = [fault for fault in wanted if fault.seen == fault.nth]
            for fault in now:
                if fault.when == 'before':
                    fault.strike()
            result = value(*arguments, **named)
            for fault in now:
                if fault.when == 'after':
                    fault.strike()
            return result

        return with_faults


def _timed(
    call: str, method: collections.abc.Callable[..., typing.Any]
) -> collections.abc.Callable[..., typing.Any]:
    """The same, and its time in the log."""

    def timed(*arguments: typing.Any, **named: typing.Any) -> typing.Any:
        began_s = time.monotonic()
        try:
            return method(*arguments, **named)
        finally:
            LOG.debug('%s took %.4f s', call, time.monotonic() - began_s)

    return timed


class FaultyConnection:
    """A connection to libvirt whose domains have faults.

    :param connection: the ``virConnect``.
    """

    def __init__(
        self, connection: typing.Any, faults: typing.Sequence[Fault]
    ) -> None:
        self._connection = connection
        self._faults = faults

    def __getattr__(self, attribute: str) -> typing.Any:
        return getattr(self._connection, attribute)

    def lookupByUUIDString(self, uuid: str) -> typing.Any:
        return Faulty(
            self._connection.lookupByUUIDString(uuid), 'libvirt', self._faults
        )
