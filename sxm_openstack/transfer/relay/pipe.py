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

"""One connection of one channel: two sockets, and bytes between them."""

from __future__ import annotations

from collections.abc import Callable
import fcntl
import os
import select
import socket
import struct
import time
from typing import Any
from typing import Protocol

from sxm_openstack.transfer.relay import tls
from sxm_openstack.transfer.relay import watch

BUFFER_BYTES = 256 << 10
LINGER_S = 10.0  # for a server to end after its client has gone
SIOCOUTQ = 0x5411  # bytes not acknowledged yet, see tcp(7)
READ, WRITE = select.EPOLLIN, select.EPOLLOUT


class Flow:
    """One direction of a connection: a bounded buffer between two sockets."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.buffer = memoryview(bytearray(BUFFER_BYTES))
        self.head = self.tail = 0
        self.eof = self.shut = False

    @property
    def pending(self) -> int:
        return self.tail - self.head

    def feed(self, data: bytes) -> None:
        self.buffer[self.tail : self.tail + len(data)] = data
        self.tail += len(data)

    def pull(self) -> int | None:
        """Fill the empty buffer; bytes read, 0 at the end of the stream."""
        try:
            count = self.source.recv_into(self.buffer)
        except BlockingIOError:
            return None
        self.eof = count == 0
        self.head, self.tail = 0, count
        return count

    def push(self) -> int:
        """Send what is there, then the end of the stream; bytes sent."""
        sent = 0
        if self.pending:
            try:
                sent = self.sink.send(self.buffer[self.head : self.tail])
            except BlockingIOError:
                return 0
            self.head += sent
        if self.eof and not self.pending and not self.shut:
            self.shut = True
            self.sink.shutdown(socket.SHUT_WR)
        return sent


class Loop(Protocol):
    """What a connection needs of the event loop."""

    def want(
        self, sock: socket.socket, mask: int, call: Callable[[int], None]
    ) -> None: ...

    def shake(self, sock: socket.socket) -> int: ...


class Channel:
    """A name that may be used, where it leads to, and what was counted."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self.listener: socket.socket | None = None
        self.connections: set[Connection] = set()
        self.sent_bytes = self.received_bytes = 0
        self.rtt_s: float | None = None
        self.min_rtt_s: float | None = None
        self.connect_errors = 0
        self.last_error: str | None = None
        self.pacing = 0

    def measure(self, info: watch.TCPInfo) -> None:
        self.rtt_s = info.rtt_s or self.rtt_s
        if info.min_rtt_s is not None:
            self.min_rtt_s = min(
                info.min_rtt_s, self.min_rtt_s or info.min_rtt_s
            )

    def stats(self) -> dict[str, Any]:
        return {
            'sent_bytes': self.sent_bytes,
            'received_bytes': self.received_bytes,
            'rtt_s': self.rtt_s,
            'min_rtt_s': self.min_rtt_s,
            'connections': len(self.connections),
            'connect_errors': self.connect_errors,
            'last_error': self.last_error,
        }


class Connection:
    """A client on the near side, the server on the far side.

    :ivar tcp: the one of the two that crosses the network.
    """

    def __init__(
        self,
        loop: Loop,
        channel: Channel,
        near: socket.socket,
        far: socket.socket,
        tcp: socket.socket,
    ) -> None:
        self.loop = loop
        self.channel = channel
        self.near, self.far, self.tcp = near, far, tcp
        self.up = Flow(near, far)
        self.down = Flow(far, near)
        self.watch = watch.Watch(time.monotonic())
        self.connecting = self.closed = False
        self.linger_at: float | None = None
        self.acked_bytes = 0
        self.wanted = (0, 0)
        channel.connections.add(self)

    def start(self, first: bytes = b'') -> None:
        """Begin to move bytes.

        :param first: sent to the server before anything of the client.
        """
        if first:
            self.up.feed(first)
            self.watch.sent(time.monotonic())
        self.arm()

    def arm(self) -> None:
        """Wait for just what can go on."""
        if self.connecting:
            self.loop.want(self.far, WRITE, self.on_connected)
            return
        up, down = self.up, self.down
        read_near = READ if not up.pending and not up.eof else 0
        read_far = READ if not down.pending and not down.eof else 0
        write_near = WRITE if down.pending else 0
        write_far = WRITE if up.pending else 0
        wanted = (read_near | write_near, read_far | write_far)
        if wanted == self.wanted:
            return
        self.wanted = wanted
        self.loop.want(self.near, wanted[0], self.on_near)
        self.loop.want(self.far, wanted[1], self.on_far)

    def on_connected(self, mask: int) -> None:
        code = self.far.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.channel.connect_errors += 1
            self.close(f'connecting failed: {os.strerror(code)}')
            return
        try:
            wanted = self.loop.shake(self.far)
        except OSError as error:
            self.channel.connect_errors += 1
            self.close(f'the peer is not trusted: {tls.why(error)}')
            return
        if wanted:
            self.loop.want(self.far, wanted, self.on_connected)
            return
        self.connecting = False
        self.push(self.up)

    def on_near(self, mask: int) -> None:
        self.move(mask, self.up, self.down)

    def on_far(self, mask: int) -> None:
        self.move(mask, self.down, self.up)

    def move(self, mask: int, reading: Flow, writing: Flow) -> None:
        """One socket is ready: read into one flow, send from the other."""
        if mask & WRITE:
            self.push(writing)
        if mask & READ:
            self.pull(reading)

    def pull(self, flow: Flow) -> None:
        if self.closed or flow.pending or flow.eof:
            return
        try:
            count = flow.pull()
        except OSError as error:
            self.close(tls.why(error))
            return
        now = time.monotonic()
        if count is None:
            return
        if flow is self.up and not count:
            self.linger_at = now + LINGER_S
        elif flow is self.up:
            self.watch.sent(now)
        elif count:
            self.watch.received(now)
        self.push(flow)

    def push(self, flow: Flow) -> None:
        if self.closed:
            return
        try:
            sent = flow.push()
        except OSError as error:
            self.close(tls.why(error))
            return
        if flow is self.up:
            self.channel.sent_bytes += sent
        else:
            self.channel.received_bytes += sent
        if self.down.shut:
            # Without its server the client has nothing to wait for.
            self.close('the server closed the connection')
            return
        self.arm()

    def waiting_bytes(self) -> int:
        queued = 0
        if not self.connecting:
            raw = fcntl.ioctl(self.tcp, SIOCOUTQ, b'\0\0\0\0')
            (queued,) = struct.unpack('=i', raw)
        return int(queued) + self.up.pending

    def close(self, reason: str | None = None) -> None:
        if self.closed:
            return
        self.closed = True
        if reason and not self.up.eof:
            self.channel.last_error = reason
        self.channel.connections.discard(self)
        for sock in (self.near, self.far):
            self.loop.want(sock, 0, self.on_near)
            sock.close()
