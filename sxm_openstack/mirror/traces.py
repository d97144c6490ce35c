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

"""What moves have left on this host: as the journal says, and as it is.

Nothing here changes anything.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import enum
import pathlib
from typing import Any
from typing import Protocol

from sxm_openstack import exception
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.transfer import process

_FILES = '*.sxm-*'
_JOURNALS = '*.json', '*.new', '*.lock'


class Kind(enum.StrEnum):
    """What a trace is."""

    JOURNAL = 'journal'
    FILE = 'file'
    RUNTIME = 'runtime'
    PROCESS = 'process'
    DISK = 'disk'


@dataclasses.dataclass(frozen=True, slots=True)
class Trace:
    """One thing that a move made, or may have made.

    :param server: UUID of the server.
    :param name: path, number of the process, or target of the disk.
    :param detail: more of it, for people.
    """

    server: str
    kind: Kind
    name: str
    detail: str = ''

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class OverlaidDisk(Protocol):
    """A disk that runs on an overlay; :class:`.survey.Finding`."""

    @property
    def server(self) -> str: ...

    @property
    def target(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def job(self) -> str: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """Where to look.

    :param state: directory of the journals.
    :param runtime: directory of the runtime directories.
    :param instances: Nova's directory, one below it for each server.
    :param disks: disks that are on overlays, as the hypervisor says.
    """

    state: str
    runtime: str
    instances: str
    disks: Callable[[], Iterable[OverlaidDisk]]


def find(
    places: Places, journal: engine_journal.Journal
) -> dict[str, list[Trace]]:
    """Every trace, by server.

    :raises Retryable: the hypervisor cannot be asked.
    """
    found: dict[str, list[Trace]] = {}
    for trace in (
        *_journals(places, journal),
        *_files(places),
        *_runtimes(places),
        *_processes(places),
        *_disks(places),
    ):
        found.setdefault(trace.server, []).append(trace)
    return dict(sorted(found.items()))


def _journals(
    places: Places, journal: engine_journal.Journal
) -> Iterator[Trace]:
    for pattern in _JOURNALS:
        for path in sorted(pathlib.Path(places.state).glob(pattern)):
            detail = _journal_detail(path, journal)
            if detail is not None:
                yield Trace(path.stem, Kind.JOURNAL, str(path), detail)


def _journal_detail(
    path: pathlib.Path, journal: engine_journal.Journal
) -> str | None:
    if path.suffix == '.new':
        return 'unfinished'
    if path.suffix == '.lock':
        # Of a process that works is not left, it is in use.
        held = journal.is_held(path.stem)
        return None if held else 'of a process that was killed'
    try:
        record = journal.read(path.stem)
    except exception.NeedsOperator as error:
        return error.message
    return _described(record) if record else None


def _described(record: engine_journal.Record) -> str:
    steps = ', '.join(f'{name}: {mark}' for name, mark in record.steps)
    text = f'{record.role}, with {record.peer}'
    if record.committed:
        text += ', committed'
    return f'{text}, {steps}' if steps else text


def _files(places: Places) -> Iterator[Trace]:
    for path in sorted(pathlib.Path(places.instances).glob(f'*/{_FILES}')):
        try:
            size = path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
        yield Trace(
            path.parent.name, Kind.FILE, str(path), f'{size} bytes occupied'
        )


def _runtimes(places: Places) -> Iterator[Trace]:
    root = pathlib.Path(places.runtime)
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if path.is_dir():
            yield Trace(path.name, Kind.RUNTIME, str(path))


def _processes(places: Places) -> Iterator[Trace]:
    for program in process.strays(places.runtime):
        yield Trace(
            program.directory.name,
            Kind.PROCESS,
            str(program.pid),
            program.name,
        )


def _disks(places: Places) -> Iterator[Trace]:
    for disk in places.disks():
        job = f', block job {disk.job}' if disk.job else ''
        yield Trace(
            disk.server,
            Kind.DISK,
            disk.target,
            f'on {disk.source}{job}',
        )
