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

"""The guest on this host, through libvirt: :class:`.ports.Domain`.

The calls were chosen by measurement on libvirt 11.3 with QEMU 10.0; see
https://libvirt.org/html/libvirt-libvirt-domain.html for their contracts.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import time
from typing import Any

import libvirt

from sxm_openstack import exception
from sxm_openstack.engine import ports
from sxm_openstack.hypervisor import blockjob
from sxm_openstack.hypervisor import commit
from sxm_openstack.hypervisor import errors
from sxm_openstack.hypervisor import greeting
from sxm_openstack.hypervisor import pause
from sxm_openstack.hypervisor import states
from sxm_openstack.hypervisor import xml

_SNAPSHOT_FLAGS = (
    libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
)
_MIRROR_FLAGS = (
    libvirt.VIR_DOMAIN_BLOCK_COPY_SHALLOW
    | libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT
    | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
    | libvirt.VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES
)

_GREETING_TIMEOUT_S = 5.0
_GRACE_S = 1.0
"""How long a job whose link was closed may take to fail by itself."""


class LibvirtDomain:
    """One domain of one libvirt daemon.

    The domain is looked up anew for every call, so that an instance outlives
    a restart of the daemon as long as ``connect`` gives a live connection.
    Methods may be called from any thread; one disk at a time from one.

    :param connect: gives a connection whose event loop runs: Nova's
        ``Host.get_connection``, or :class:`.connection.Connection.get`.
    :param uuid: the domain's UUID, which is the Nova server's.
    :param host: name of this host, for messages.
    """

    def __init__(
        self, connect: Callable[[], Any], uuid: str, *, host: str
    ) -> None:
        self._connect = connect
        self._uuid = uuid
        self._host = host
        self._watches: dict[str, blockjob.JobWatch] = {}
        self.last_pause_s = 0.0
        """How long :meth:`paused` last held the guest, both calls included,
        seconds; 0 if it found it paused."""

    def lookup(self) -> Any:
        """The ``virDomain`` as of now.

        :raises libvirt.libvirtError: there is none, or it cannot be asked.
        """
        return self._connect().lookupByUUIDString(self._uuid)

    def live_xml(self) -> str:
        """The domain's XML, with secrets left out."""
        with self._translated('read the domain', exception.Retryable):
            return str(self.lookup().XMLDesc(0))

    def state(self) -> ports.DomainState:
        """What this host says of the domain.

        :raises Retryable: libvirt cannot be asked; that says nothing.
        """
        with self._translated('read the state', exception.Retryable):
            try:
                return states.read(self.lookup())
            except libvirt.libvirtError as error:
                if errors.is_absent(error):
                    return ports.DomainState.ABSENT
                raise

    def disks(self) -> tuple[xml.DiskElement, ...]:
        """Every disk as the live XML has it."""
        return xml.disks(self.live_xml())

    def source_path(self, target: str) -> str:
        source = self._disk(target).source
        if source is None:
            raise exception.MoveFailed(
                f'The disk {target} has no medium.',
                host=self._host,
                disk=target,
            )
        return source

    def write_stats(self, target: str) -> ports.WriteStats:
        """Counters since the domain started.

        Source: virDomainBlockStatsFlags; QEMU's query-blockstats.
        """
        with self._translated('read statistics', exception.Retryable, target):
            stats = self.lookup().blockStatsFlags(target)
        return ports.WriteStats(
            operations=stats['wr_operations'],
            written_bytes=stats['wr_bytes'],
            busy_s=stats['wr_total_times'] / 1e9,
        )

    def snapshot(self, overlays: Mapping[str, str]) -> None:
        """Put overlays on top; one transaction, refused as a whole."""
        described = ', '.join(sorted(overlays))
        with self._translated(
            f'put overlays on {described}', exception.MoveFailed
        ):
            domain = self.lookup()
            text = self._snapshot_xml(domain, overlays)
            domain.snapshotCreateXML(text, _SNAPSHOT_FLAGS)

    def _snapshot_xml(self, domain: Any, overlays: Mapping[str, str]) -> str:
        try:
            return xml.snapshot_xml(domain.XMLDesc(0), overlays)
        except KeyError as error:
            raise self._no_disk(error.args[0]) from error

    def start_mirror(
        self,
        target: str,
        socket: str,
        export: str,
        rate_bytes_per_s: int = 0,
    ) -> None:
        """Start a shallow, synchronously writing copy of the top overlay.

        QEMU connects inside this call and the guest's devices stand still
        until the server answered, so it is asked for a greeting first.
        """
        self._forget(target)
        try:
            greeting.await_greeting(socket, _GREETING_TIMEOUT_S)
        except OSError as error:
            raise exception.MirrorFailed(
                f'Cannot start the mirror: the server behind {socket} does '
                f'not answer: {error}',
                host=self._host,
                disk=target,
            ) from error
        with self._translated(
            'start the mirror', exception.MirrorFailed, target
        ):
            domain = self.lookup()
            watch = blockjob.JobWatch(domain, target)
            self._watches[target] = watch
            try:
                domain.blockCopy(
                    target,
                    xml.mirror_xml(socket, export),
                    _limits(rate_bytes_per_s),
                    _MIRROR_FLAGS,
                )
            except BaseException:
                self._forget(target)
                raise

    def mirror_state(self, target: str) -> ports.MirrorState:
        mirror = self._disk(target).mirror
        if mirror is not None and mirror.job == xml.JOB_COPY:
            return (
                ports.MirrorState.READY
                if mirror.ready == 'yes'
                else ports.MirrorState.RUNNING
            )
        watch = self._watches.get(target)
        if watch is not None and watch.end is blockjob.JobEnd.FAILED:
            return ports.MirrorState.FAILED
        return ports.MirrorState.NONE

    def wait_mirror_ready(self, target: str, timeout_s: float) -> None:
        state = ports.MirrorState.NONE

        def is_settled() -> bool:
            nonlocal state
            state = self.mirror_state(target)
            return state is not ports.MirrorState.RUNNING

        settled = self._wait(target, is_settled, timeout_s)
        if state is ports.MirrorState.READY:
            return
        if not settled:
            reason = f'was not ready after {timeout_s:g} s'
        elif state is ports.MirrorState.FAILED:
            reason = 'failed'
        else:
            reason = 'is gone without a word: it was lost'
        raise exception.MirrorFailed(
            f'The mirror {reason}.', host=self._host, disk=target
        )

    def end_mirror(self, target: str) -> None:
        """End a READY mirror without pivot: a point-in-time copy.

        QEMU drains, flushes the target and ends the job.  libvirt calls the
        outcome *cancelled* even if that last flush failed, so a caller must
        see that the server behind the link closed its file in order.
        """
        self._require_ready(target)
        with self._translated(
            'end the mirror', exception.MirrorFailed, target
        ):
            self.lookup().blockJobAbort(target, 0)
        self._forget(target)

    def hand_over(self, overlays: Mapping[str, str]) -> None:
        """End the mirrors of these disks and put overlays on them, paused.

        The same as :meth:`end_mirror` for each and :meth:`snapshot` inside
        :meth:`paused`, but only what must be inside is: the guest stands for
        61 ms instead of 69 ms with two disks, 93 ms instead of 112 ms with
        three (medians; libvirt 11.3, QEMU 10.0, TCG, two busy cores).

        A disk costs about 12 ms to end its mirror and as much to add its
        overlay, most of it QMP: QEMU reads its monitor byte by byte.  With
        ``io='native'``, which Nova sets only for preallocated images, it
        costs up to 31 ms more: QEMU sets up and tears down an AIO context to
        try something out, and the kernel waits for a grace period.  Measured
        without gain: to end the mirrors asynchronously, to sync the files
        before.  libvirt does not probe the overlays here in any case.

        If it fails some of the mirrors may have ended, the guest runs (if it
        ran), and no overlay or every overlay is in use.
        """
        for target in overlays:
            self._require_ready(target)
        described = ', '.join(sorted(overlays))
        with self._translated(
            f'put overlays on {described}', exception.MoveFailed
        ):
            domain = self.lookup()
            text = self._snapshot_xml(domain, overlays)
        with self.paused():
            for target in overlays:
                with self._translated(
                    'end the mirror', exception.MirrorFailed, target
                ):
                    domain.blockJobAbort(target, 0)
            with self._translated(
                f'put overlays on {described}', exception.MoveFailed
            ):
                domain.snapshotCreateXML(text, _SNAPSHOT_FLAGS)
        for target in overlays:
            self._forget(target)

    def _require_ready(self, target: str) -> None:
        state = self.mirror_state(target)
        if state is not ports.MirrorState.READY:
            raise exception.MirrorFailed(
                f'The mirror cannot be ended as a copy: it is {state}.',
                host=self._host,
                disk=target,
            )

    def wait_no_job(self, target: str, timeout_s: float) -> None:
        """Return when the disk has no block job.

        A job that does not end by itself within a second is told to: an
        idle mirror does not notice that its link was closed.
        """
        deadline = time.monotonic() + timeout_s
        if not self._wait(
            target, lambda: self._is_idle(target), min(_GRACE_S, timeout_s)
        ):
            self._dismiss(target)
            left_s = max(deadline - time.monotonic(), 0.0)
            if not self._wait(target, lambda: self._is_idle(target), left_s):
                raise exception.MirrorFailed(
                    f'The block job is still there after {timeout_s:g} s.',
                    host=self._host,
                    disk=target,
                    remedy='Close its link, then ask again.',
                )
        self._forget(target)

    def commit(self, target: str, base: str, timeout_s: float) -> None:
        with self._translated(
            f'commit into {base}', exception.MirrorFailed, target
        ):
            try:
                commit.run(self.lookup(), target, base, timeout_s, self._host)
            except KeyError as error:
                raise self._no_disk(target) from error
        self._forget(target)

    def define_source(self, target: str, path: str, image_format: str) -> None:
        with self._translated(f'define {path}', exception.MoveFailed, target):
            try:
                commit.settle_persistent(
                    self.lookup(), target, path, image_format
                )
            except KeyError as error:
                raise self._no_disk(target) from error

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self.last_pause_s = 0.0
        if self.state() is ports.DomainState.PAUSED:
            yield
            return
        with self._translated('pause the guest', exception.MoveFailed):
            domain = self.lookup()
            started = time.monotonic()
            domain.suspend()
        try:
            yield
        finally:
            pause.resume(self.lookup, self._uuid, self._host)
            self.last_pause_s = time.monotonic() - started

    def close(self) -> None:
        """Stop listening to jobs.  The jobs go on.  Idempotent."""
        for target in tuple(self._watches):
            self._forget(target)

    def _forget(self, target: str) -> None:
        watch = self._watches.pop(target, None)
        if watch is not None:
            watch.close()

    def _is_idle(self, target: str) -> bool:
        with self._translated(
            'read the block job', exception.MirrorFailed, target
        ):
            try:
                return commit.is_idle(self.lookup(), target)
            except KeyError as error:
                raise self._no_disk(target) from error

    def _dismiss(self, target: str) -> None:
        with self._translated(
            'dismiss the block job', exception.MirrorFailed, target
        ):
            commit.dismiss(self.lookup(), target)

    def _wait(
        self, target: str, condition: Callable[[], bool], timeout_s: float
    ) -> bool:
        watch = self._watches.get(target)
        if watch is not None:
            return watch.wait_until(condition, timeout_s)
        return blockjob.wait_until(condition, timeout_s)

    def _disk(self, target: str) -> xml.DiskElement:
        try:
            return xml.disk(self.live_xml(), target)
        except KeyError as error:
            raise self._no_disk(target) from error

    def _no_disk(self, target: str) -> exception.MoveFailed:
        return exception.MoveFailed(
            f'The domain {self._uuid} has no disk {target}.',
            host=self._host,
            disk=target,
        )

    def _translated(
        self,
        doing: str,
        failure: type[exception.SXMError],
        disk: str | None = None,
    ) -> contextlib.AbstractContextManager[None]:
        return errors.translated(doing, failure, host=self._host, disk=disk)


def _limits(rate_bytes_per_s: int) -> dict[str, int]:
    """Parameters of a block copy; QEMU holds back what it copies in the
    background, and never the guest's own writes."""
    if not rate_bytes_per_s:
        return {}
    return {libvirt.VIR_DOMAIN_BLOCK_COPY_BANDWIDTH: rate_bytes_per_s}
