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

"""The stages of a move, where operators look for what became of it.

Each stage is an event of the server's action, so that ``openstack server
event show`` lists it with its beginning, end and result.  Each change of
phase is one line of the log, and the end of a move one line with all of its
figures; ``grep`` for the UUID of the migration finds them on both hosts.
"""

import json
import threading
import time
from typing import Any

from nova import exception as nova_exception
from nova import objects
from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import progress

LOG = logging.getLogger(__name__)

PREPARE = 'sxm_prepare'
DISK = 'sxm_disk_{}'
HAND_OVER = 'sxm_hand_over'
MEMORY = 'sxm_memory'
FLATTEN = 'sxm_flatten'
SETTLE = 'sxm_settle'

_DISK_BEGINS = frozenset(
    {
        engine_disk.DiskPhase.PREPARING,
        engine_disk.DiskPhase.MIRRORING,
        engine_disk.DiskPhase.COPYING,
    }
)


class Stages:
    """Writes one action event for each stage; stages do not overlap.

    Thread-safe.  Nothing is raised: what cannot be written must not end the
    move.

    :param context: of the request that the action belongs to.
    :param server: UUID.
    :param migration: UUID of Nova's migration record.
    :param host: name of this host.
    """

    def __init__(
        self, context: Any, server: str, migration: str, host: str
    ) -> None:
        self._context = context
        self._server = server
        self._migration = migration
        self._host = host
        self._lock = threading.Lock()
        self._current: str | None = None
        self._mirrored: set[str] = set()
        self._disks = 0
        self._origin_s = time.time() - time.monotonic()
        self._history: list[tuple[float, str, str]] = []

    def expect(self, disks: int) -> None:
        """How many disks there are: the last one begins the hand-over."""
        self._disks = disks

    def begin(self, stage: str) -> None:
        """End the stage before with success and begin this one."""
        with self._lock:
            if self._current == stage:
                return
            self._finish(None)
            self._current = stage
            self._write('event_start', stage, host=self._host)

    def end(self, error: BaseException | None = None) -> None:
        """End the current stage, if any; with its error if it failed."""
        with self._lock:
            self._finish(error)

    def on_change(self, change: progress.PhaseChange) -> None:
        """Listener of the engine: log the phase, begin the stage it is in.

        Called while the guest stands: nothing is written over the network
        for the phases around that.
        """
        at_s = self._origin_s + change.at_s
        self._history.append((at_s, change.target, change.phase))
        LOG.info(
            'sxm phase %s disk %s migration %s server %s at %.3f',
            change.phase,
            change.target or '-',
            self._migration,
            self._server,
            at_s,
        )
        if not change.target:
            return
        if change.phase in _DISK_BEGINS:
            self.begin(DISK.format(change.target))
        elif change.phase == engine_disk.DiskPhase.MIRRORED:
            self._mirrored.add(change.target)
            if len(self._mirrored) == self._disks:
                self.begin(HAND_OVER)

    def report(self, figures: dict[str, Any]) -> None:
        """The one line at the end."""
        LOG.info(
            'sxm report migration %s server %s %s',
            self._migration,
            self._server,
            json.dumps({**figures, 'phases': self._history}),
        )

    def _finish(self, error: BaseException | None) -> None:
        stage, self._current = self._current, None
        if stage is None:
            return
        if error is None:
            self._write('event_finish', stage)
            return
        # Text, as Nova shows no more than the class of others' exceptions;
        # and a traceback, as one that is None means success.
        self._write(
            'event_finish_with_failure',
            stage,
            exc_val=describe(error),
            exc_tb='',
        )

    def _write(self, method: str, stage: str, **arguments: Any) -> None:
        write = getattr(objects.InstanceActionEvent, method)
        try:
            write(
                self._context,
                self._server,
                stage,
                want_result=False,
                **arguments,
            )
        except nova_exception.InstanceActionNotFound:
            LOG.debug('No action of server %s to write to', self._server)
        except Exception:
            LOG.exception('Event %s of %s not written', stage, self._server)


def describe(error: BaseException) -> str:
    """One line: what failed, where, and what to do next."""
    if isinstance(error, exception.SXMError):
        return str(error)
    return f'{type(error).__name__}: {error}'
