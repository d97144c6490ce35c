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

"""What a host must remember of a move to find and undo its traces.

One JSON file a server, replaced as a whole: written to a temporary name,
synced, renamed, and the directory synced, so that a reader sees the state
before or after a change and never in between.  Whoever works at what a record
tells holds the server meanwhile, see :meth:`Journal.hold`.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import enum
import fcntl
import json
import os
import pathlib
import time
from typing import Any

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import files

SCHEMA = 1

_HOLD_EVERY_S = 0.2


class Role(enum.StrEnum):
    """Which side of the move this host is."""

    SOURCE = 'source'
    DESTINATION = 'destination'


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """All that is known of one server's move on this host.

    :param server: UUID of the server.
    :param role: side of this host.
    :param peer: name of the other host.
    :param disks: disks that may have overlays on this host.
    :param steps: names of the steps that were begun, oldest first, each with
        ``intent`` or ``done``.
    :param committed: the guest was handed to the destination: from here on
        only forward.
    :param runtime: directory of sockets and processes of this move.
    :param made: files that the move itself made for the disks, and that go
        with it when it fails; not the overlays.
    """

    server: str
    role: Role
    peer: str
    disks: tuple[engine_disk.Disk, ...] = ()
    steps: tuple[tuple[str, str], ...] = ()
    committed: bool = False
    runtime: str = ''
    made: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            'schema': SCHEMA,
            'server': self.server,
            'role': str(self.role),
            'peer': self.peer,
            'disks': [disk.to_dict() for disk in self.disks],
            'steps': [list(step) for step in self.steps],
            'committed': self.committed,
            'runtime': self.runtime,
            'made': list(self.made),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> 'Record':
        return cls(
            server=data['server'],
            role=Role(data['role']),
            peer=data['peer'],
            disks=tuple(engine_disk.Disk.from_dict(d) for d in data['disks']),
            steps=tuple((name, mark) for name, mark in data['steps']),
            committed=bool(data['committed']),
            runtime=data['runtime'],
            made=tuple(data.get('made', ())),
        )


class Journal:
    """The records of one host, a file each under a directory."""

    def __init__(self, directory: str) -> None:
        self._directory = pathlib.Path(directory)

    def read(self, server: str) -> Record | None:
        """Record of a server, or ``None``.

        :raises NeedsOperator: the file is damaged, of a newer schema, or of
            another server, or it cannot be read.
        """
        try:
            content = self._path(server).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._damaged(server, error) from error
        try:
            data = json.loads(content)
            if data['schema'] > SCHEMA:
                raise exception.NeedsOperator(
                    f'Journal {self._path(server)} has schema '
                    f'{data["schema"]}, this version reads up to {SCHEMA}.',
                    remedy='Start the version that wrote it.',
                )
            record = Record.from_dict(data)
            if record.server != server:
                raise ValueError(f'it is about server {record.server}')
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(server, error) from error
        return record

    def begin(self, record: Record) -> None:
        """Keep the first record of a move.

        :raises PreCheckFailed: there is one of an earlier move, which must
            not be overwritten: it names what is left of that.
        """
        old = self.read(record.server)
        if old is not None:
            raise exception.PreCheckFailed(
                f'This host has not finished an earlier move of server '
                f'{record.server} ({old.role}, with {old.peer}); see '
                f'{self._path(record.server)}.',
                remedy='Let its disks be settled first: restart nova-compute '
                'on this host and look at its log.',
            )
        self.write(record)

    def write(self, record: Record) -> None:
        """Keep a record; on return it survives a power cut."""
        self._make_directory()
        path = self._path(record.server)
        temporary = path.with_suffix('.new')
        with temporary.open('w') as stream:
            json.dump(record.to_dict(), stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(path)
        files.sync_directory(self._directory)

    def forget(self, server: str) -> None:
        """Nothing of the move is left on this host.  Idempotent."""
        try:
            self._path(server).unlink()
        except FileNotFoundError:
            return
        files.sync_directory(self._directory)

    def servers(self) -> Iterator[str]:
        """UUIDs of the servers with a record, in order."""
        for path in sorted(self._directory.glob('*.json')):
            yield path.stem

    @contextlib.contextmanager
    def hold(self, server: str, timeout_s: float = 1.0) -> Iterator[None]:
        """Keep other processes of this host from working at a server.

        The end of the process, however it comes, ends it as well.  Not for
        use by two threads of a process at the same time, which wait for each
        other as two processes do.

        :param timeout_s: how long to wait for another process.
        :raises PreCheckFailed: another one holds it.
        """
        descriptor = self._lock(server, time.monotonic() + timeout_s)
        try:
            yield
        finally:
            self._lock_path(server).unlink(missing_ok=True)
            os.close(descriptor)

    def is_held(self, server: str) -> bool:
        """Whether some process works at the server at this moment."""
        try:
            descriptor = os.open(self._lock_path(server), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _lock(self, server: str, deadline_s: float) -> int:
        self._make_directory()
        path = self._lock_path(server)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                if time.monotonic() >= deadline_s:
                    raise exception.PreCheckFailed(
                        f'Another process of this host works at server '
                        f'{server} (lock {path}).',
                        remedy='Wait until the move, or its end, is done.',
                    ) from None
                time.sleep(_HOLD_EVERY_S)
                continue
            if _is_named(descriptor, path):
                return descriptor
            # Whoever had it before has removed the file in between: this
            # lock is on one that nobody else will find.
            os.close(descriptor)

    def _make_directory(self) -> None:
        """It must itself outlive a power cut before a record in it can."""
        missing = [
            directory
            for directory in (self._directory, *self._directory.parents)
            if not directory.is_dir()
        ]
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for directory in missing:
            files.sync_directory(directory.parent)

    def _damaged(
        self, server: str, error: Exception
    ) -> exception.NeedsOperator:
        return exception.NeedsOperator(
            f'Journal {self._path(server)} cannot be read: '
            f'{type(error).__name__}: {error}.',
            remedy='Compare the overlays of the server with its domain '
            'before anything is deleted.',
        )

    def _path(self, server: str) -> pathlib.Path:
        if not server or '/' in server or server.startswith('.'):
            raise ValueError(f'Not a server UUID: {server!r}')
        return self._directory / f'{server}.json'

    def _lock_path(self, server: str) -> pathlib.Path:
        return self._path(server).with_suffix('.lock')


def _is_named(descriptor: int, path: pathlib.Path) -> bool:
    """Whether a file that is open still has that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
