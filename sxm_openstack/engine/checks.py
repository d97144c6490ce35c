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

"""What is looked at before a move, and the report of it."""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import enum
from typing import Any

from sxm_openstack import exception


class Verdict(enum.StrEnum):
    """What a check says."""

    OK = 'ok'
    WARNING = 'warning'
    """A move may be made; somebody should look at it."""
    FAILED = 'failed'
    """No move is begun."""


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    :param name: stable, for documentation and monitoring.
    :param message: what was found, a sentence.
    :param remedy: what to do about it, a sentence; empty if all is well.
    :param host: name of the host that it is about.
    """

    name: str
    verdict: Verdict
    message: str
    remedy: str = ''
    host: str = ''

    def to_dict(self) -> dict[str, str]:
        return {key: str(value) for key, value in self._items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> 'Check':
        """Inverse of :meth:`to_dict`; keys of later versions are left out.

        :raises ValueError: it is none.
        """
        try:
            return cls(
                name=str(data['name']),
                verdict=Verdict(data['verdict']),
                message=str(data['message']),
                remedy=str(data.get('remedy', '')),
                host=str(data.get('host', '')),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f'{data!r} is no check') from error

    def _items(self) -> Iterable[tuple[str, object]]:
        return (
            (field.name, getattr(self, field.name))
            for field in dataclasses.fields(self)
        )

    def __str__(self) -> str:
        where = f' ({self.host})' if self.host else ''
        text = f'{self.name}{where}: {self.message}'
        return f'{text} Next: {self.remedy}' if self.remedy else text


def passed(name: str, message: str) -> Check:
    return Check(name, Verdict.OK, message)


def warned(name: str, message: str, remedy: str) -> Check:
    return Check(name, Verdict.WARNING, message, remedy)


def failed(name: str, message: str, remedy: str) -> Check:
    return Check(name, Verdict.FAILED, message, remedy)


def of_error(name: str, error: exception.SXMError) -> Check:
    """The failed check that an error tells of."""
    return Check(
        name,
        Verdict.FAILED,
        error.message,
        error.remedy or '',
        error.host or '',
    )


def at(host: str, found: Iterable[Check]) -> tuple[Check, ...]:
    """The checks, with the host where none is named."""
    return tuple(
        dataclasses.replace(check, host=check.host or host) for check in found
    )


def failures(found: Iterable[Check]) -> list[Check]:
    return [check for check in found if check.verdict is Verdict.FAILED]


def require(found: Sequence[Check]) -> None:
    """See that nothing failed.

    :raises PreCheckFailed: quoting each check that did, the worst of what
        may be cut off first.
    """
    bad = failures(found)
    if not bad:
        return
    if len(bad) == 1:
        raise exception.PreCheckFailed(
            f'{bad[0].name}: {bad[0].message}',
            host=bad[0].host or None,
            remedy=bad[0].remedy or None,
        )
    raise exception.PreCheckFailed(
        f'{len(bad)} of {len(found)} checks failed: '
        + ' | '.join(str(check) for check in bad)
    )


def version_text(version: int) -> str:
    """A version as libvirt counts: ``11003000`` is 11.3.0."""
    return f'{version // 1000000}.{version // 1000 % 1000}.{version % 1000}'
