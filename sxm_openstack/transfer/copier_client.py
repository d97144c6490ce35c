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

"""A base being copied, by :mod:`sxm_openstack.transfer.copier`."""

import contextlib
import json
import logging

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import ports
from sxm_openstack.transfer import export
from sxm_openstack.transfer import process
from sxm_openstack.transfer import program

LOG = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 2.0


class BaseCopy:
    """A running copy of a frozen base; implements :class:`.ports.Copy`.

    Not thread-safe.  Nothing runs in this process between two calls.

    :param source: the base, served read-only; this object ends it.
    :param socket: local unix socket that leads to the base's server.
    :param to_export: NBD export name there.
    :param zeros: what is done about zeros, see :mod:`.copier`; by default
        what lies under the disk's file decides.
    :raises MoveFailed: the copier could not be started.
    """

    def __init__(
        self,
        helper_python: str,
        source: export.Export,
        disk: engine_disk.Disk,
        socket: str,
        to_export: str,
        *,
        connections: int,
        rate_bytes_per_s: int,
        offset: int,
        zeros: str = '',
    ) -> None:
        self._disk = disk
        self._source = source
        self._progress = ports.CopyProgress(0, 0, offset, False)
        self._error = ''
        self._pending = b''
        self._closed = False
        self._program, self._stdin, self._stdout = process.start_with_pipes(
            source.program.directory,
            f'{disk.target}.copier',
            [*program.command(helper_python, 'copier'), source.socket],
        )
        self._tell(
            {
                'source': {'socket': source.socket, 'export': source.export},
                'destination': {'socket': socket, 'export': to_export},
                'connections': connections,
                'offset': offset,
                'rate_bytes_per_s': rate_bytes_per_s,
                **_what_goes(disk),
                **({'zeros': zeros} if zeros else {}),
            }
        )

    def progress(self) -> ports.CopyProgress:
        """Latest progress; does not block.

        :raises CopyFailed: it failed, or was closed before its end.
        """
        ended = self._closed or not self._program.alive()
        if not self._closed:
            self._read()
        if self._error or (ended and not self._progress.finished):
            reason = self._error or self._program.log_tail()
            raise exception.CopyFailed(
                f'The base {self._disk.path} was not copied: {reason}',
                disk=self._disk.target,
                remedy='Check space and errors on the destination and the '
                'link to it.',
            )
        return self._progress

    def set_rate(self, rate_bytes_per_s: int) -> None:
        """New limit, effective within 100 ms; 0 lifts it."""
        if not self._closed:
            self._tell({'rate_bytes_per_s': rate_bytes_per_s})

    def close(self) -> None:
        """End it if it runs and let go of the base.  Idempotent.

        Nothing holds the base on return: a commit into it can take the
        write lock.

        :raises NeedsOperator: a process does not end.
        """
        if self._closed:
            return
        self._read()
        # The end of its input ends it as well; so it does if this process
        # dies.
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        self._program.stop(_STOP_TIMEOUT_S)
        self._stdout.close()
        self._closed = True
        if not self._progress.finished and not self._error:
            self._error = 'it was ended before its end'
        self._program.forget()
        try:
            self._source.stop()
        except exception.MoveFailed as error:
            # It was only read; what counts is that it has gone.
            LOG.warning('%s', error)

    def _tell(self, command: dict[str, object]) -> None:
        # A copier that has ended cannot be told; progress() says why.
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(json.dumps(command) + '\n')
            self._stdin.flush()

    def _read(self) -> None:
        """Take in all that the copier has said so far."""
        self._pending += process.read_available(self._stdout.fileno())
        *lines, self._pending = self._pending.split(b'\n')
        for line in lines:
            answer = json.loads(line)
            if 'error' in answer:
                self._error = answer['error']
                continue
            self._progress = ports.CopyProgress(
                total_bytes=answer['total_bytes'],
                done_bytes=answer['done_bytes'],
                offset=answer['offset'],
                finished=answer['finished'],
            )


def _what_goes(disk: engine_disk.Disk) -> dict[str, str]:
    """Which part of the base is sent, and what is done about its zeros.

    The destination reads as zeros where its file has nothing and no backing
    file; elsewhere a zero that is not written would let it shine through.
    """
    match disk.backing:
        case engine_disk.Backing.NONE:
            return {'extent': 'all', 'zeros': 'skip'}
        case engine_disk.Backing.SHARED:
            return {'extent': 'top', 'zeros': 'write'}
        case engine_disk.Backing.DIFFERENT:
            return {'extent': 'all', 'zeros': 'write'}
