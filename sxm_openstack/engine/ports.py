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

"""The small contracts through which the engine sees hosts and tools.

The engine knows no libvirt, no NBD and no Nova: it is given objects that
keep these contracts.  Contract tests run against the fakes and against the
real implementations alike.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import enum
from typing import Protocol

from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk

DISKS_CHANNEL = 'disks'
"""Channel that carries libvirt's own mirror in the memory phase."""


class MirrorState(enum.StrEnum):
    """State of one disk's block copy job.

    READY is the only success; NONE after a start means that it was lost.
    """

    NONE = 'none'
    RUNNING = 'running'
    READY = 'ready'
    FAILED = 'failed'


class DomainState(enum.StrEnum):
    """What a host says of a domain; only RUNNING and PAUSED hold a guest."""

    ABSENT = 'absent'
    RUNNING = 'running'
    PAUSED = 'paused'
    INCOMING = 'incoming'  # paused, waiting for an inbound migration
    SHUTOFF = 'shutoff'


@dataclasses.dataclass(frozen=True, slots=True)
class WriteStats:
    """Counters of a disk since the domain started; they only grow."""

    operations: int
    written_bytes: int
    busy_s: float
    """Sum of the latencies of all finished writes, seconds."""


class Domain(Protocol):
    """The guest on the host where this process runs.

    All paths are absolute.  Every method may block for as long as the
    hypervisor takes; those with ``timeout_s`` raise :class:`.MirrorFailed`
    when it is over.
    """

    def state(self) -> DomainState: ...

    def source_path(self, target: str) -> str:
        """File on top of the disk's chain right now."""

    def write_stats(self, target: str) -> WriteStats: ...

    def snapshot(self, overlays: Mapping[str, str]) -> None:
        """Put pre-created overlays on top of disks, atomically.

        :param overlays: target to path of the existing, empty overlay.
        """

    def start_mirror(
        self,
        target: str,
        socket: str,
        export: str,
        rate_bytes_per_s: int = 0,
    ) -> None:
        """Start a shallow, synchronously writing copy of the top overlay.

        :param socket: local unix socket that leads to the NBD server.
        :param export: NBD export name.
        :param rate_bytes_per_s: limit for what the overlay holds already,
            not for new writes; 0 is none.
        """

    def mirror_state(self, target: str) -> MirrorState: ...

    def wait_mirror_ready(self, target: str, timeout_s: float) -> None:
        """Return when the mirror is READY; raise when it ended otherwise."""

    def end_mirror(self, target: str) -> None:
        """End a READY mirror without pivot: a point-in-time copy.

        Never call it when the link may be dead: close the link instead.
        """

    def hand_over(self, overlays: Mapping[str, str]) -> None:
        """End the mirrors of these disks and put overlays on them.

        The guest is stopped meanwhile (one that was paused stays paused),
        so that the mirrored side is exactly what lies below the overlays.
        On failure some mirrors may have ended, the guest runs, and either
        all overlays are in use or none is.

        :param overlays: as for :meth:`snapshot`.
        :raises MirrorFailed: a mirror is not READY.
        :raises NeedsOperator: the guest cannot be resumed.
        """

    def wait_no_job(self, target: str, timeout_s: float) -> None:
        """Return when the disk has no block job, dismissing a failed one."""

    def commit(self, target: str, base: str, timeout_s: float) -> None:
        """Fold everything above ``base`` into it and run on it again.

        Does nothing when the disk already runs on ``base``.
        """

    def define_source(self, target: str, path: str, image_format: str) -> None:
        """See that the next start of a domain that is off uses this file."""

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Guest stopped inside; a guest that was paused stays paused."""


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the destination's relay listens, and what opens it.

    :param address: IP address on the migration network.
    :param port: TCP port.
    :param token: unguessable secret of this move; never logged.
    """

    address: str
    port: int
    token: str = dataclasses.field(repr=False)


class Destination(Protocol):
    """The other host, for one server; calls cross the network."""

    def prepare(self, disks: Sequence[engine_disk.Disk]) -> Endpoint:
        """Make bases and overlays, serve them, listen.

        A second call starts over: nothing of an earlier attempt is kept.
        """

    def reconnect(self, disks: Sequence[engine_disk.Disk]) -> Endpoint:
        """Listen anew after the link was lost, before the hand-over.

        What was copied of the bases is kept; overlays are empty again.
        """

    def hand_over(self, disks: Sequence[engine_disk.Disk]) -> None:
        """Stop serving all images; put second overlays on these disks.

        :raises MoveFailed: an image was not flushed and closed in order, so
            that it may lack what was written last.
        """

    def digests(
        self,
        disk: engine_disk.Disk,
        chunk_bytes: int,
        chunks: Sequence[int] | None = None,
        view: content.View = content.View.BASE,
    ) -> Sequence[str]:
        """Digest of each chunk, in order.

        :param chunks: indices of those that are wanted, in order; by
            default all.
        :raises VerifyFailed: it could not be read to its end.
        """

    def written(
        self, disk: engine_disk.Disk, chunk_bytes: int
    ) -> Sequence[int]:
        """Indices of the chunks of which the overlay holds any part."""

    def state(self) -> DomainState:
        """What that host says of the domain."""

    def discard(self) -> None:
        """Stop serving and remove what :meth:`prepare` made.  Idempotent.

        :raises NeedsOperator: the guest is there, or may be.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class ChannelMeter:
    """What the relay counted on one channel since it was opened.

    :param sent_bytes: bytes that went towards the destination.
    :param received_bytes: bytes that came back.
    :param rtt_s: smoothed round trip time, ``None`` before the first sample.
    :param min_rtt_s: shortest round trip time seen on the channel.
    :param connections: open connections.
    """

    sent_bytes: int
    received_bytes: int
    rtt_s: float | None
    min_rtt_s: float | None
    connections: int


class Link(Protocol):
    """The source's relay: local sockets that lead to the destination.

    A watchdog closes the whole link when bytes are due and none move for
    its time; from then on :meth:`failure` tells the reason and every local
    user of the link sees a closed connection at once.
    """

    def socket(self, channel: str) -> str:
        """Path of the local unix socket of a channel."""

    def meter(self, channel: str) -> ChannelMeter: ...

    def failure(self) -> str | None:
        """Why the link closed itself, or ``None`` while it is fine."""

    def close_channel(self, channel: str) -> None:
        """Cut one channel: its users see a closed connection."""

    def close(self) -> None:
        """Cut all channels and end the relay.  Idempotent, never raises."""


@dataclasses.dataclass(frozen=True, slots=True)
class CopyProgress:
    """Progress of one base copy.

    :param total_bytes: bytes to send (known holes and zeros left out); 0
        until the map of the disk was read.
    :param done_bytes: of those, acknowledged by the destination.
    :param offset: everything below it is at the destination: resume here.
    :param finished: all sent and flushed.
    """

    total_bytes: int
    done_bytes: int
    offset: int
    finished: bool


class Copy(Protocol):
    """A running copy of a frozen base."""

    def progress(self) -> CopyProgress:
        """Latest progress; raises :class:`.CopyFailed` when it failed."""

    def set_rate(self, rate_bytes_per_s: int) -> None:
        """New limit, effective within 100 ms; 0 lifts it."""

    def close(self) -> None:
        """End it if it runs and let go of the base.  Idempotent."""


class Transfer(Protocol):
    """Source side of a transfer driver."""

    def connect(self, endpoint: Endpoint, channels: Sequence[str]) -> Link: ...

    def is_reachable(self, endpoint: Endpoint) -> bool:
        """Whether the host answers there, be it with a refusal.

        Blocks for no longer than the watchdog waits.
        """

    def start_copy(
        self,
        disk: engine_disk.Disk,
        socket: str,
        *,
        rate_bytes_per_s: int,
        offset: int = 0,
    ) -> Copy: ...

    def digests(
        self,
        disk: engine_disk.Disk,
        chunk_bytes: int,
        chunks: Sequence[int] | None = None,
        view: content.View = content.View.BASE,
    ) -> Sequence[str]:
        """See :meth:`Destination.digests`."""


class Overlays(Protocol):
    """Storage of a disk on this host: the files of its overlays."""

    def create_overlay(
        self, path: str, backing_path: str, backing_format: str, size: int
    ) -> None:
        """Make an empty overlay that never needs to fill from below.

        :raises MoveFailed: there is a file of that name that holds data.
        """

    def exists(self, path: str) -> bool: ...

    def holds_data(self, path: str) -> bool:
        """Whether anything was ever written into an overlay's own file."""

    def occupied_bytes(self, path: str) -> int:
        """What the file occupies; 0 when there is none."""

    def written_chunks(self, path: str, chunk_bytes: int) -> Sequence[int]:
        """Indices of the chunks of which an overlay's own file has a part.

        The overlay must not be written meanwhile.
        """

    def fold(self, path: str) -> None:
        """Commit an overlay into the file below it; nothing may use it.

        Doing it twice does no harm as long as nothing was written to the
        file below in between.
        """

    def set_aside(self, path: str) -> str:
        """Rename a file that must not be used and must not be lost.

        :returns: its new path, in the same directory.
        """

    def remove(self, path: str) -> None:
        """Delete a file if it is there."""
