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

"""What became of a block job, from libvirt's events.

The live XML forgets a job as soon as it is gone: it cannot tell one that
failed from one that was never started.  The events can, but one may be lost
with its connection.  So the XML is the truth about a job that is there, and
a watch, registered *before* the job is started, is the truth about how it
ended and the alarm clock of whoever waits.
"""

from collections.abc import Callable
import enum
import threading
import time
import types
from typing import Any
import weakref

import libvirt
from oslo_log import log as logging

LOG = logging.getLogger(__name__)

POLL_S = 0.2
"""Safety net under the events: how often the live XML is read anyway."""


class JobEnd(enum.StrEnum):
    """How a block job ended, as BLOCK_JOB_2 said."""

    COMPLETED = 'completed'
    FAILED = 'failed'
    CANCELED = 'canceled'


_ENDS = {
    libvirt.VIR_DOMAIN_BLOCK_JOB_COMPLETED: JobEnd.COMPLETED,
    libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED: JobEnd.FAILED,
    libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED: JobEnd.CANCELED,
}


class JobWatch:
    """Listens to the block job events of one disk from now on.

    The first end that is reported counts; repeated events change nothing.
    Events arrive on the thread that runs libvirt's event loop; everything
    here may be called from any thread.  Close it always.

    :param domain: the ``virDomain``; its connection's event loop must run.
    :param target: disk, ``vda``.
    :raises libvirt.libvirtError: the events cannot be had.
    """

    def __init__(self, domain: Any, target: str) -> None:
        self._target = target
        self._changed = threading.Event()
        self._end: JobEnd | None = None
        self._switchboard = _switchboard_of(domain.connect())
        self._key = (domain.UUIDString(), target)
        self._switchboard.add(self._key, self)

    def __enter__(self) -> 'JobWatch':
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.close()

    def on_status(self, status: int) -> None:
        """Take in a ``VIR_DOMAIN_BLOCK_JOB_*`` status."""
        LOG.debug('block job of %s: event status %d', self._target, status)
        if self._end is None:
            self._end = _ENDS.get(status)
        self._changed.set()

    @property
    def end(self) -> JobEnd | None:
        """How the job ended; ``None`` as long as no event said so."""
        return self._end

    def wait(self, timeout_s: float) -> None:
        """Return at the next event, at once if one came since the last."""
        self._changed.wait(timeout_s)
        self._changed.clear()

    def wait_until(
        self, condition: Callable[[], bool], timeout_s: float
    ) -> bool:
        """Wait until a condition holds, asking at events and every 0.2 s.

        :returns: whether it held before the time was over.
        """
        return wait_until(condition, timeout_s, self.wait)

    def close(self) -> None:
        """Stop listening.  Idempotent."""
        self._switchboard.remove(self._key, self)


class _Switchboard:
    """The one registration of a connection, and who listens to it.

    libvirt refuses to register the same function twice for one event, and
    its Python binding has only one function for all callers.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = weakref.proxy(connection)
        self._lock = threading.Lock()
        self._watches: dict[tuple[str, str], list[JobWatch]] = {}
        self._id: int | None = None

    def add(self, key: tuple[str, str], watch: JobWatch) -> None:
        """Let a watch hear of a domain's disk.

        :raises libvirt.libvirtError: the events cannot be had.
        """
        with self._lock:
            if self._id is None:
                self._id = self._connection.domainEventRegisterAny(
                    None,
                    libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
                    self._on_event,
                    None,
                )
            self._watches.setdefault(key, []).append(watch)

    def remove(self, key: tuple[str, str], watch: JobWatch) -> None:
        """Forget a watch; the last one ends the registration.  Idempotent."""
        with self._lock:
            listening = self._watches.get(key, [])
            if watch not in listening:
                return
            listening.remove(watch)
            if not listening:
                del self._watches[key]
            if not self._watches:
                self._deregister()

    def _deregister(self) -> None:
        callback, self._id = self._id, None
        try:
            self._connection.domainEventDeregisterAny(callback)
        except (libvirt.libvirtError, ReferenceError) as error:
            # The registration died with its connection: nothing is left.
            LOG.debug('block job events were already gone: %s', error)

    def _on_event(
        self,
        _connection: Any,
        domain: Any,
        target: str,
        _job_type: int,
        status: int,
        _opaque: object,
    ) -> None:
        key = (domain.UUIDString(), target)
        with self._lock:
            listening = tuple(self._watches.get(key, ()))
        for watch in listening:
            watch.on_status(status)


_switchboards: weakref.WeakKeyDictionary[Any, _Switchboard] = (
    weakref.WeakKeyDictionary()
)
_switchboards_lock = threading.Lock()


def _switchboard_of(connection: Any) -> _Switchboard:
    with _switchboards_lock:
        switchboard = _switchboards.get(connection)
        if switchboard is None:
            switchboard = _switchboards[connection] = _Switchboard(connection)
        return switchboard


def wait_until(
    condition: Callable[[], bool],
    timeout_s: float,
    wait: Callable[[float], None] = time.sleep,
) -> bool:
    """Ask until the answer is yes, at least every :data:`POLL_S`.

    :param wait: sleeps for the seconds it is given, or less.
    :returns: whether it was yes before the time was over.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        wait(min(POLL_S, left_s))
    return True
