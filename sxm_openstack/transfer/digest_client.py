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

from sxm_openstack import exception
from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.transfer import export
from sxm_openstack.transfer import process
from sxm_openstack.transfer import program


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
    name = f'{disk.target}.digester'
    directory = served.program.directory
    child, stdin, stdout = process.start_with_pipes(
        directory,
        name,
        [*program.command(helper_python, 'digest'), served.socket],
    )
    found: list[str] = []
    error = ''
    with stdin, stdout:
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
        stdin.close()
        for line in stdout:
            if not line.endswith('\n'):
                break  # it was killed while it wrote
            answer = json.loads(line)
            if 'digest' in answer:
                found.append(answer['digest'])
            error = answer.get('error', '')
    child.stop()
    error = error or child.log_tail()
    child.forget()
    wanted = content.number_of_chunks(disk.size_bytes, chunk_bytes)
    if len(found) != (wanted if chunks is None else len(chunks)):
        raise exception.VerifyFailed(
            f'The base {disk.path} could not be read to its end: {error}',
            disk=disk.target,
            remedy='Check the storage of this host.',
        )
    return found
