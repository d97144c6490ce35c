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

"""Is a connection stalled?  What TCP knows of it, and the judgement."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

SILENCE_MIN_S = 3.0  # two keepalive probes and some air


class TCPInfo(NamedTuple):
    """What is used of struct tcp_info (linux/tcp.h)."""

    rtt_s: float | None
    min_rtt_s: float | None
    acked_bytes: int
    ack_age_s: float


def tcp_info(sock: socket.socket) -> TCPInfo:
    """Ask the kernel; 0 and the initial maximum mean "no sample yet"."""
    raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    ack_age_ms, rtt_us = struct.unpack_from('=56xI8xI', raw)
    (acked,) = struct.unpack_from('=Q', raw, 120)
    (min_us,) = struct.unpack_from('=I', raw, 148)
    return TCPInfo(
        rtt_us / 1e6 if rtt_us else None,
        min_us / 1e6 if 0 < min_us < 0xFFFFFFFF else None,
        acked,
        ack_age_ms / 1e3,
    )


class Watch:
    """Decides for how long a connection has been stalled; knows no socket.

    Bytes are due while some are not acknowledged, or while the last byte
    that went out is later than the last that came in.  It cannot see that
    one of several requests is never answered while others are.
    """

    def __init__(self, now: float) -> None:
        self.sent_at = self.received_at = self.due_at = now
        self.moved_at = now
        self.acked_bytes = 0
        self.answered = False

    def sent(self, now: float) -> None:
        if self.sent_at <= self.received_at:
            self.due_at = now
        self.sent_at = now

    def received(self, now: float) -> None:
        self.received_at = self.moved_at = now
        self.answered = True

    def restart(self, now: float) -> None:
        """Forget the past: whoever measures was not there to see it."""
        self.moved_at = now

    def stalled_s(
        self, now: float, info: TCPInfo, waiting_bytes: int
    ) -> tuple[float, bool]:
        """Seconds without progress while due, and whether the link is silent.

        The link is silent when bytes are not acknowledged, or when the
        keepalive probes of a connection that was just in use are not.

        :param waiting_bytes: read from the client and not acknowledged.
        """
        if info.acked_bytes > self.acked_bytes:
            self.acked_bytes = info.acked_bytes
            self.moved_at = now
        still_s = now - max(self.moved_at, self.due_at)
        if waiting_bytes:
            return still_s, True
        used_at = max(self.sent_at, self.received_at)
        idle_before_s = now - info.ack_age_s - used_at
        if info.ack_age_s > SILENCE_MIN_S and idle_before_s < SILENCE_MIN_S:
            return info.ack_age_s, True
        if self.sent_at > self.received_at:
            return still_s, False
        return 0.0, False
