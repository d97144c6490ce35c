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

"""UDP sockets in other network namespaces, and exact times of arrival."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import threading
import time

#: Bytes that :meth:`socket.socket.recvmsg` needs for the stamp.
ANCILLARY_BYTES = socket.CMSG_SPACE(16)

_CLONE_NEWNET = 0x40000000
#: Python 3.11 has no name for these; the values are Linux's.
_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER_BYTES = 4 << 20
#: Between two clocks that are read one after the other; more means that
#: another process ran in between.
_SAME_INSTANT_S = 1e-4


def socket_in(
    netns_pid: int | None, address: tuple[str, int]
) -> socket.socket:
    """Bind a UDP socket in the network namespace of a process.

    A socket belongs to the namespace in which it was made, so a thread
    goes there, makes it, and ends.

    :param netns_pid: whose namespace; None is the caller's own.
    :raises OSError: no such process, not root, or the address is taken.
    """
    if netns_pid is None:
        return _bound(address)
    made: list[socket.socket | OSError] = []

    def make() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            with open(f"/proc/{netns_pid}/ns/net") as namespace:
                if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(
                        number,
                        f"setns to the network namespace "
                        f"of {netns_pid}: {os.strerror(number)}",
                    )
            made.append(_bound(address))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def _bound(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        # Root may go beyond the system's limit; without it, this is less.
        with contextlib.suppress(PermissionError):
            sock.setsockopt(
                socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES
            )
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def arrival_s(ancillary: list[tuple[int, int, bytes]]) -> float:
    """When the kernel received a datagram, by CLOCK_MONOTONIC.

    The kernel's stamp is by CLOCK_REALTIME; how long ago that was does not
    depend on the clock. This keeps a busy machine's delays out.
    """
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            stamp: tuple[int, int] = struct.unpack("qq", data[:16])
            now_s, real_s = _both_clocks()
            return now_s - (real_s - stamp[0] - stamp[1] * 1e-9)
    return time.monotonic()


def _both_clocks() -> tuple[float, float]:
    """CLOCK_MONOTONIC and CLOCK_REALTIME at one instant, to 0.1 ms."""
    for _ in range(20):
        before_s = time.monotonic()
        real_s = time.time()
        if time.monotonic() - before_s < _SAME_INSTANT_S:
            break
    return before_s, real_s
