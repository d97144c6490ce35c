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

"""What the guest and a collector say to each other, one datagram each.

Ticks are binary (``tick.c``), requests and replies are text
(``control.c``): ``SXM1 CLIENT NUMBER VERB key=value ...`` and ``SXM1 CLIENT
NUMBER ok key=value ...`` or ``... error TEXT``.
"""

from __future__ import annotations

import dataclasses
import struct

#: The guest's UDP port for requests; its ticks come from there too.
GUEST_PORT = 7007

TAG = "SXM1"
TICK_MAGIC = 0x544D5853
TICK_VERSION = 1
_HEAD = struct.Struct("<IHHQQQQQQIIIII")
_DISK = struct.Struct("<IIQII")
_US = 1e-6


class ProtocolError(ValueError):
    """A datagram is not what the other side may send."""


@dataclasses.dataclass(frozen=True, slots=True)
class DiskTick:
    """One disk's part of a tick; see :class:`Tick` for the fields."""

    name: str
    errors: int
    acked_bytes: int
    worst_latency_s: float
    oldest_in_flight_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """What the guest said at one instant.

    Latencies are by the guest's clock, which does not see that the virtual
    machine was paused; arrival times are what shows that.

    :ivar arrived_s: by this machine's CLOCK_MONOTONIC.
    :ivar boot_id: drawn when the workload started: another one means
        that the guest booted again and its counters began at 0.
    :ivar number: counts ticks; a hole in it is packets that were lost.
    :ivar guest_s: the guest's CLOCK_MONOTONIC.
    :ivar acked_bytes: acknowledged since the workload started.
    :ivar threads: writer threads that run.
    :ivar worst_latency_s: of the writes that ended since the last tick.
    :ivar worst_recent_s: the same over the last 128 ticks.
    :ivar oldest_in_flight_s: age of the oldest unanswered write, 0: none.
    """

    arrived_s: float
    boot_id: int
    number: int
    guest_s: float
    acked_bytes: int
    acked_writes: int
    issued_bytes: int
    errors: int
    threads: int
    worst_latency_s: float
    worst_recent_s: float
    oldest_in_flight_s: float
    disks: tuple[DiskTick, ...] = ()


def is_tick(datagram: bytes) -> bool:
    """Whether a datagram from a guest is a tick and not a reply."""
    return datagram[:4] == TICK_MAGIC.to_bytes(4, "little")


def tick_identity(datagram: bytes) -> tuple[int, int]:
    """Boot id and number of a tick, without reading the rest.

    :raises ProtocolError: it is too short or of another version.
    """
    if len(datagram) < _HEAD.size:
        raise ProtocolError(f"a tick of {len(datagram)} bytes")
    fields = _HEAD.unpack_from(datagram)
    if fields[0] != TICK_MAGIC or fields[1] != TICK_VERSION:
        raise ProtocolError(
            f"a tick of version {fields[1]}, not "
            f"{TICK_VERSION}: build the guest again"
        )
    return fields[3], fields[4]


def read_tick(datagram: bytes, arrived_s: float) -> Tick:
    """Decode a tick.

    :raises ProtocolError: it is cut off or of another version.
    """
    tick_identity(datagram)
    (
        _,
        _,
        disk_count,
        boot_id,
        number,
        guest_us,
        acked_bytes,
        acked_writes,
        issued_bytes,
        errors,
        threads,
        worst_us,
        recent_us,
        oldest_us,
    ) = _HEAD.unpack_from(datagram)
    if len(datagram) != _HEAD.size + disk_count * _DISK.size:
        raise ProtocolError(
            f"a tick of {len(datagram)} bytes with {disk_count} disks"
        )
    disks = tuple(
        DiskTick(
            f"vd{chr(ord('a') + index)}",
            failed,
            acked,
            worst * _US,
            oldest * _US,
        )
        for index, failed, acked, worst, oldest in _DISK.iter_unpack(
            datagram[_HEAD.size :]
        )
    )
    return Tick(
        arrived_s,
        boot_id,
        number,
        guest_us * _US,
        acked_bytes,
        acked_writes,
        issued_bytes,
        errors,
        threads,
        worst_us * _US,
        recent_us * _US,
        oldest_us * _US,
        disks,
    )


def write_tick(tick: Tick) -> bytes:
    """Encode a tick as the guest does; for guests that tests make up."""

    def us(seconds: float) -> int:
        return round(seconds / _US)

    head = _HEAD.pack(
        TICK_MAGIC,
        TICK_VERSION,
        len(tick.disks),
        tick.boot_id,
        tick.number,
        us(tick.guest_s),
        tick.acked_bytes,
        tick.acked_writes,
        tick.issued_bytes,
        tick.errors,
        tick.threads,
        us(tick.worst_latency_s),
        us(tick.worst_recent_s),
        us(tick.oldest_in_flight_s),
    )
    return head + b"".join(
        _DISK.pack(
            ord(disk.name[2]) - ord("a"),
            disk.errors,
            disk.acked_bytes,
            us(disk.worst_latency_s),
            us(disk.oldest_in_flight_s),
        )
        for disk in tick.disks
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """A reply: either ``values``, or ``error`` is not empty."""

    client: str
    number: str
    values: dict[str, str]
    error: str = ""


def request(
    client: str, number: int, verb: str, arguments: dict[str, str]
) -> bytes:
    """Encode a request.

    :raises ProtocolError: an argument cannot be one word.
    """
    words = [TAG, client, str(number), verb]
    for key, value in arguments.items():
        if not value or any(character.isspace() for character in value):
            raise ProtocolError(f"{key}={value!r} is not one word")
        words.append(f"{key}={value}")
    return " ".join(words).encode()


def read_reply(datagram: bytes) -> Reply:
    """Decode a reply.

    :raises ProtocolError: it is not one.
    """
    try:
        tag, client, number, verdict, *rest = (
            datagram.decode().rstrip().split(" ", 4)
        )
    except ValueError:
        raise ProtocolError(f"no reply: {datagram[:80]!r}") from None
    text = rest[0] if rest else ""
    if tag != TAG or verdict not in ("ok", "error"):
        raise ProtocolError(f"no reply: {datagram[:80]!r}")
    if verdict == "error":
        return Reply(client, number, {}, text or "no reason given")
    return Reply(
        client, number, dict(word.partition("=")[::2] for word in text.split())
    )
