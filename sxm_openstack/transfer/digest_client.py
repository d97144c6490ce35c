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

"""Digests of an image, by :mod:`sxm_openstack.transfer.digest`."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import json
import pathlib
import time

from sxm_openstack import exception
from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.transfer import export
from sxm_openstack.transfer import process
from sxm_openstack.transfer import program

_STOP_TIMEOUT_S = 2.0
_POLL_S = 0.02


@contextlib.contextmanager
def read_only(
    storage_daemon: str,
    directory: pathlib.Path,
    disk: engine_disk.Disk,
    view: content.View,
) -> Iterator[export.Export]:
    """Serve a disk for as long as it is read."""
    name = f'{disk.target}.digest'
    if view is content.View.HANDED_OVER:
        served = export.serve_handed_over(
            storage_daemon, directory, disk, name
        )
    else:
        served = export.serve_base(
            storage_daemon, directory, disk, name, writable=False
        )
    try:
        yield served
    finally:
        served.stop()


class Digesting:
    """Digests being read from an image; nothing here waits but ``close``.

    :param served: this object does not end it.
    :param chunks: indices of those that are wanted, in order; by default
        all.
    :raises MoveFailed: the program could not be started.
    """

    def __init__(
        self,
        helper_python: str,
        served: export.Export,
        disk: engine_disk.Disk,
        chunk_bytes: int,
        chunks: Sequence[int] | None = None,
    ) -> None:
        self._disk = disk
        self._expected = (
            content.number_of_chunks(disk.size_bytes, chunk_bytes)
            if chunks is None
            else len(chunks)
        )
        self._found: list[str] = []
        self._error = ''
        self._pending = b''
        self._closed = False
        self._program, stdin, self._stdout = process.start_with_pipes(
            served.program.directory,
            f'{served.program.name}.digester',
            [*program.command(helper_python, 'digest'), served.socket],
        )
        with contextlib.suppress(BrokenPipeError), stdin:
            json.dump(
                {
                    'socket': served.socket,
                    'export': served.export,
                    'size_bytes': disk.size_bytes,
                    'chunk_bytes': chunk_bytes,
                    'chunks': None if chunks is None else list(chunks),
                },
                stdin,
            )

    @property
    def part(self) -> float:
        """How much of the image has been read, 0 to 1."""
        return len(self._found) / self._expected if self._expected else 1.0

    def finished(self) -> bool:
        """Whether it has ended, well or not; takes in what it said."""
        ended = self._closed or not self._program.alive()
        if not self._closed:
            self._read()
        return ended

    def result(self) -> Sequence[str]:
        """All digests, when it has finished.

        :raises VerifyFailed: the image could not be read to its end.
        """
        if len(self._found) == self._expected and not self._error:
            return self._found
        error = self._error or self._program.log_tail()
        raise exception.VerifyFailed(
            f'{self._disk.path} could not be read to its end: {error}',
            disk=self._disk.target,
            remedy='Check the storage of this host.',
        )

    def close(self) -> None:
        """End it if it runs.  Idempotent."""
        if self._closed:
            return
        self._program.stop(_STOP_TIMEOUT_S)
        self._read()
        self._stdout.close()
        self._closed = True
        if len(self._found) < self._expected and not self._error:
            self._error = self._program.log_tail()
        self._program.forget()

    def _read(self) -> None:
        self._pending += process.read_available(self._stdout.fileno())
        # What is cut short was being written when it was killed.
        *lines, self._pending = self._pending.split(b'\n')
        for line in lines:
            answer = json.loads(line)
            if 'digest' in answer:
                self._found.append(answer['digest'])
            self._error = answer.get('error', self._error)


def digests(
    helper_python: str,
    served: export.Export,
    disk: engine_disk.Disk,
    chunk_bytes: int,
    chunks: Sequence[int] | None = None,
) -> Sequence[str]:
    """Digest of each chunk of the disk, in order; blocks until all are read.

    What an image has beyond the size of the disk is left out.

    :param chunks: indices of those that are wanted, in order.

    :raises VerifyFailed: it could not be read to its end.
    """
    digesting = Digesting(helper_python, served, disk, chunk_bytes, chunks)
    try:
        while not digesting.finished():
            time.sleep(_POLL_S)
    finally:
        digesting.close()
    return digesting.result()
