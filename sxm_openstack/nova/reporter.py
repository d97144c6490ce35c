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

"""Shows operators a move where they look for a migration.

``openstack server migration list`` and ``show`` read Nova's record of the
migration.  Nova itself writes to it every few seconds, and about memory
only.
"""

import threading
from typing import Any

import libvirt
from oslo_log import log as logging

from sxm_openstack.engine import clock as engine_clock
from sxm_openstack.nova import session as sxm_session

LOG = logging.getLogger(__name__)

_EVERY_S = 1.0


class Reporter:
    """Writes bytes of disks, and then of memory, into the record.

    While it is entered, the storage stage is reported by a thread; the
    memory stage is reported by whoever watches it, through
    :meth:`add_memory`.  The two do not overlap.
    """

    def __init__(
        self,
        session: sxm_session.Session,
        migration: Any,
        instance: Any,
        clock: engine_clock.Clock | None = None,
    ) -> None:
        self._session = session
        self._migration = migration
        self._instance = instance
        self._clock = clock or engine_clock.SystemClock()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name='sxm-reporter', daemon=True
        )
        self._done_bytes = 0
        self._saved_s = 0.0

    def __enter__(self) -> 'Reporter':
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def add_memory(self, info: Any) -> Any:
        """Put the bases, which went before, on top of libvirt's figures.

        So nothing jumps back when the memory stage begins.

        :param info: Nova's, of libvirt's job; changed and given back.
        """
        total_bytes, done_bytes = self._session.totals()
        info.disk_total += total_bytes
        info.disk_processed = self._monotonic(info.disk_processed + done_bytes)
        info.disk_total = max(info.disk_total, info.disk_processed)
        info.disk_remaining = info.disk_total - info.disk_processed
        running = info.type == libvirt.VIR_DOMAIN_JOB_UNBOUNDED
        if running and self._clock.now() - self._saved_s >= _EVERY_S:
            self._save(
                memory_total=info.memory_total,
                memory_processed=info.memory_processed,
                memory_remaining=info.memory_remaining,
                disk_total=info.disk_total,
                disk_processed=info.disk_processed,
                disk_remaining=info.disk_remaining,
            )
        return info

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self._save_storage()
        self._save_storage()

    def _save_storage(self) -> None:
        total_bytes, done_bytes = self._session.totals()
        done_bytes = self._monotonic(done_bytes)
        total_bytes = max(total_bytes, done_bytes)
        self._save(
            memory_total=0,
            memory_processed=0,
            memory_remaining=0,
            disk_total=total_bytes,
            disk_processed=done_bytes,
            disk_remaining=total_bytes - done_bytes,
        )

    def _monotonic(self, done_bytes: int) -> int:
        self._done_bytes = max(self._done_bytes, done_bytes)
        return self._done_bytes

    def _save(self, **figures: int) -> None:
        self._saved_s = self._clock.now()
        for name, value in figures.items():
            setattr(self._migration, name, value)
        try:
            self._migration.save()
        except Exception:
            # A report that is lost must not end the move.
            LOG.exception('Progress not saved', instance=self._instance)
