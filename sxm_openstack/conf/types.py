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

"""Types of option values that oslo.config does not have."""

from typing import Any

from oslo_config import types

_LOWEST = 1024
_HIGHEST = 65535


def ports(text: str) -> range:
    """The ports of ``first:last``, both included.

    :raises ValueError: not two port numbers, lower one first, neither of
        them privileged.
    """
    first_text, colon, last_text = text.strip().partition(':')
    if not (colon and first_text.isdecimal() and last_text.isdecimal()):
        raise ValueError(
            f'{text!r} is no range of ports: write it as first:last, '
            'for example 49300:49399'
        )
    first, last = int(first_text), int(last_text)
    if not _LOWEST <= first <= last <= _HIGHEST:
        raise ValueError(
            f'{text!r} is no range of ports: first must not be above last, '
            f'and both lie between {_LOWEST} and {_HIGHEST}'
        )
    return range(first, last + 1)


class PortRange(types.ConfigType):
    """Text of the form ``first:last``; :func:`ports` gives the numbers."""

    def __init__(self) -> None:
        super().__init__(type_name='port range')

    def __call__(self, value: Any) -> str:
        span = ports(str(value))
        return f'{span[0]}:{span[-1]}'

    def __repr__(self) -> str:
        return 'PortRange'

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PortRange)

    def __hash__(self) -> int:
        return hash(PortRange)

    def _formatter(self, value: str) -> str:
        return value
