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

"""Stands between a caller and its ports: counts calls and lets them fail."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import threading
from typing import Any

_WRAPPED = {
    'connect': 'link',
    'start_copy': 'copy',
}
"""Methods that return another port, and the name of that."""


@dataclasses.dataclass
class Trap:
    """A call that fails.

    :param call: ``PORT.METHOD``, or ``None`` for any.
    :param nth: at which of these calls, from 1; 0 is at each.
    :param after: it fails when the real call was done already.
    :param error: makes what is raised, or does what is to be done.
    """

    call: str | None
    nth: int = 1
    after: bool = False
    error: Callable[[], Exception | None] = lambda: OSError('trap')
    seen: int = 0
    sprung: int = 0

    def strike(self) -> None:
        self.sprung += 1
        error = self.error()
        if error is not None:
            raise error


class Wires:
    """Every call of a port passes here.

    :ivar calls: ``PORT.METHOD`` of each, in order.
    :ivar before_call: called with the name before each.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.traps: list[Trap] = []
        self.before_call: Callable[[str], None] = lambda call: None
        self._lock = threading.RLock()

    def trap(self, call: str | None, **named: Any) -> Trap:
        """Set a trap; it stays until it is removed from ``traps``."""
        trap = Trap(call, **named)
        self.traps.append(trap)
        return trap

    def port(self, name: str, real: Any) -> Any:
        return _Port(name, real, self)

    def call(
        self, name: str, method: Callable[..., Any], *args: Any, **named: Any
    ) -> Any:
        with self._lock:
            self.before_call(name)
            self.calls.append(name)
            struck = []
            for trap in self.traps:
                if trap.call in (None, name):
                    trap.seen += 1
                    if trap.nth in (0, trap.seen):
                        struck.append(trap)
            for trap in struck:
                if not trap.after:
                    trap.strike()
            result = method(*args, **named)
            for trap in struck:
                if trap.after:
                    trap.strike()
            return result


class _Port:
    def __init__(self, name: str, real: Any, wires: Wires) -> None:
        self._name = name
        self._real = real
        self._wires = wires

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._real, attribute)
        if not callable(value):
            return value

        def called(*args: Any, **named: Any) -> Any:
            result = self._wires.call(
                f'{self._name}.{attribute}', value, *args, **named
            )
            inner = _WRAPPED.get(attribute)
            return self._wires.port(inner, result) if inner else result

        return called
