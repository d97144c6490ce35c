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

"""What a host tells the other one of a move before it begins."""

from collections.abc import Iterable
import dataclasses
import json
from typing import Any

from sxm_openstack.engine import checks as engine_checks


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """A host as it is now.

    :param time_s: seconds since 1970, by the clock of that host.
    :param libvirt_version: as libvirt counts, 11003000 is 11.3.0.
    :param qemu_version: likewise.
    :param arch: architecture of the host.
    :param machines: machine types of that architecture.
    :param cpu: its CPU, as libvirt's XML.
    :param free_bytes: where the instances are.
    :param formats: of disks that it has storage drivers for.
    :param port: first of those at which it listens.
    :param checks: what it found about itself.
    """

    host: str
    time_s: float
    libvirt_version: int
    qemu_version: int
    arch: str
    machines: tuple[str, ...]
    cpu: str
    instances_path: str
    runtime_dir: str
    free_bytes: int
    formats: tuple[str, ...]
    transfer_driver: str
    address: str
    port: int
    checks: tuple[engine_checks.Check, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
        }
        for name in ('machines', 'formats'):
            values[name] = list(values[name])
        values['checks'] = [check.to_dict() for check in self.checks]
        return values

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> 'Facts':
        """Inverse of :meth:`to_dict`; keys of later versions are left out.

        :raises ValueError: something is missing.
        """
        try:
            values = {
                field.name: data[field.name]
                for field in dataclasses.fields(cls)
            }
            values['machines'] = tuple(values['machines'])
            values['formats'] = tuple(values['formats'])
            values['checks'] = _checks(values['checks'])
        except (KeyError, TypeError) as error:
            raise ValueError(f'These are no facts: {error!r}') from error
        return cls(**values)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), separators=(',', ':'))

    @classmethod
    def from_json(cls, text: str) -> 'Facts':
        """Inverse of :meth:`to_json`.

        :raises ValueError: it is something else.
        """
        return cls.from_dict(json.loads(text))


def _checks(data: Iterable[dict[str, Any]]) -> tuple[engine_checks.Check, ...]:
    return tuple(engine_checks.Check.from_dict(check) for check in data)
