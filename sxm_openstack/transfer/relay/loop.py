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

"""What both modes share: event loop, timers, control socket."""

from __future__ import annotations

from collections.abc import Callable
import hashlib
import hmac
import json
import os
import re
import select
import socket
import ssl
import struct
import time
from typing import Any

from sxm_openstack.transfer.relay import pipe
from sxm_openstack.transfer.relay import tls
from sxm_openstack.transfer.relay import watch

TICK_S = 0.1
LATE_S = 10.0  # QEMU listens for its migration a little later
CONTROL_LINE_BYTES = 65536
UNSENT_BYTES = 256 << 10  # in the kernel; what is counted is on its way
SO_MAX_PACING_RATE = 47  # asm-generic/socket.h; Python has no name for it
READ, WRITE = select.EPOLLIN, select.EPOLLOUT
CHANNEL = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,63}')
GREETING = '-'  # in place of a channel: says only that it was let in
GREETED = b'SXM1 -\n'


def export_name(token: str, channel: str) -> str:
    """Name of what a channel exports; cannot be guessed without the token.

    Whoever finds a way to a socket still has to know it.
    """
    digest = hmac.digest(token.encode(), channel.encode(), hashlib.sha256)
    return f'{channel}.{digest.hex()[:32]}'


class Relay:
    """Event loop, timers and control socket that both modes share."""

    mode = ''
    port = 0

    def __init__(self, directory: str, config: dict[str, Any]) -> None:
        self.config = config
        self.directory = directory
        self.token: str = config['token']
        self.names: list[str] = []
        self.tls: ssl.SSLContext | None = None
        if config.get('tls'):
            self.names = config['tls']['names']
            self.tls = tls.context(
                config['tls']['directory'], server_side=self.mode == 'listen'
            )
            self.tls.sslsocket_class = tls.Stream
        self.channels: dict[str, pipe.Channel] = {}
        for name, file in config['channels'].items():
            if not CHANNEL.fullmatch(name):
                raise ValueError(f'{name!r} cannot be the name of a channel')
            path = os.path.join(self.directory, file)
            self.channels[name] = pipe.Channel(name, path)
        self.late = frozenset(config.get('late_channels', ()))
        self.failure: str | None = None
        self.idle_exit_s = float(config.get('idle_exit_s', 0))
        self.used_at = time.monotonic()
        self.running = True
        # Not the module selectors: it costs a third of the time per event.
        self.epoll = select.epoll()
        self.calls: dict[int, tuple[int, Callable[[int], None]]] = {}
        self.control_path = os.path.join(
            self.directory, f'relay-{self.mode}.ctl'
        )
        self.control = self.listen_unix(self.control_path, 0o600)
        self.want(self.control, READ, self.on_control)

    def want(
        self, sock: socket.socket, mask: int, call: Callable[[int], None]
    ) -> None:
        """Call back on these events of a socket from now on; 0 for none."""
        number = sock.fileno()
        known, _ = self.calls.get(number, (0, None))
        if known and not mask:
            self.epoll.unregister(number)
            del self.calls[number]
        if not mask:
            return
        if not known:
            self.epoll.register(number, mask)
        elif known != mask:
            self.epoll.modify(number, mask)
        self.calls[number] = (mask, call)

    def listen_unix(self, path: str, mode: int) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if os.path.exists(path):
            os.unlink(path)
        try:
            sock.bind(path)
        except OSError as error:
            raise OSError(error.errno, f'{path}: {error}') from error
        if 'socket_gid' in self.config:
            os.chown(path, -1, self.config['socket_gid'])
        os.chmod(path, mode)
        sock.listen(64)
        sock.setblocking(False)
        return sock

    def run(self) -> None:
        last = time.monotonic()
        while self.running:
            for number, mask in self.epoll.poll(TICK_S):
                self.call(number, mask)
            now = time.monotonic()
            if now - last >= TICK_S:
                self.tick(now, now - last)
                last = now
        self.end()

    def call(self, number: int, mask: int) -> None:
        """Tell of an event, unless an earlier one closed the socket."""
        _, call = self.calls.get(number, (0, None))
        if call is None:
            return
        if mask & ~(READ | WRITE):
            # An error or a hang-up: whatever is tried next finds it.
            mask |= READ | WRITE
        call(mask)

    def tick(self, now: float, elapsed_s: float) -> None:
        """Look at every connection.

        :param elapsed_s: since the last tick; much more than TICK_S when
            this process was not running.
        """
        for connection in self.connections():
            self.used_at = now
            info = watch.tcp_info(connection.tcp)
            if info.acked_bytes != connection.acked_bytes:
                connection.acked_bytes = info.acked_bytes
                connection.channel.measure(info)
            if connection.linger_at and now > connection.linger_at:
                connection.close()
        if self.idle_exit_s and now - self.used_at > self.idle_exit_s:
            self.running = False

    def connections(self) -> list[pipe.Connection]:
        return [
            connection
            for channel in self.channels.values()
            for connection in channel.connections
        ]

    def secured(self, sock: socket.socket) -> socket.socket:
        """With TLS on it, if so configured; :meth:`shake` does the rest."""
        if self.tls is None:
            return sock
        return self.tls.wrap_socket(
            sock,
            server_side=self.mode == 'listen',
            do_handshake_on_connect=False,
        )

    def shake(self, sock: socket.socket) -> int:
        """Go on with the handshake; the events to wait for, 0 at its end.

        :raises OSError: it failed, or the other side is not the peer.
        """
        if not isinstance(sock, tls.Stream):
            return 0
        wanted = tls.handshake(sock, self.names)
        return {None: 0, tls.READ: READ, tls.WRITE: WRITE}[wanted]

    def tune(self, sock: socket.socket, channel: pipe.Channel | None) -> None:
        """Small delays, and probes that tell a silent link from an idle one.

        The probes are no watchdog: an idle connection outlives two minutes
        without a link.
        """
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES
        )
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 120)
        if channel is not None and channel.pacing:
            self.pace(sock, channel.pacing)

    def pace(self, sock: socket.socket, rate_bytes_per_s: int) -> None:
        rate = min(rate_bytes_per_s or 0xFFFFFFFF, 0xFFFFFFFF)
        sock.setsockopt(
            socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack('=I', rate)
        )

    def on_control(self, mask: int) -> None:
        try:
            sock, _ = self.control.accept()
        except OSError:
            return
        sock.setblocking(False)
        self.used_at = time.monotonic()
        pending = bytearray()

        def on_line(mask: int) -> None:
            if not self.talk(sock, pending):
                self.want(sock, 0, on_line)
                sock.close()

        self.want(sock, READ, on_line)

    def talk(self, sock: socket.socket, pending: bytearray) -> bool:
        """Answer the complete lines; whether to go on."""
        try:
            data = sock.recv(CONTROL_LINE_BYTES)
            pending += data
            while b'\n' in pending:
                line, _, rest = bytes(pending).partition(b'\n')
                pending[:] = rest
                answer = json.dumps(self.answer(line))
                sock.sendall(answer.encode() + b'\n')
        except OSError:
            return False
        return bool(data) and len(pending) < CONTROL_LINE_BYTES

    def answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            operation = getattr(self, f'do_{request["op"]}', None)
            if operation is None:
                return {'error': f'unknown operation {request["op"]!r}'}
            return {'ok': True, **operation(request)}
        except (ValueError, KeyError, TypeError, OSError) as error:
            return {'error': f'bad request: {error!r}'}

    def do_stats(self, request: dict[str, Any]) -> dict[str, Any]:
        return {
            'failure': self.failure,
            'channels': {
                name: channel.stats()
                for name, channel in self.channels.items()
            },
        }

    def do_export(self, request: dict[str, Any]) -> dict[str, Any]:
        channel = self.channels[request['channel']]
        return {'export': export_name(self.token, channel.name)}

    def do_close(self, request: dict[str, Any]) -> dict[str, Any]:
        self.close_channel(self.channels[request['channel']])
        return {}

    def do_set(self, request: dict[str, Any]) -> dict[str, Any]:
        for name, rate in request.get('pacing', {}).items():
            channel = self.channels[name]
            channel.pacing = int(rate)
            for connection in channel.connections:
                self.pace(connection.tcp, channel.pacing)
        return {}

    def do_shutdown(self, request: dict[str, Any]) -> dict[str, Any]:
        self.running = False
        return {}

    def close_channel(self, channel: pipe.Channel) -> None:
        """Users of the channel see a closed connection; nobody comes in."""
        if channel.listener is not None:
            self.want(channel.listener, 0, self.on_control)
            channel.listener.close()
            channel.listener = None
            os.unlink(channel.path)
        for connection in tuple(channel.connections):
            connection.close('the channel was closed')

    def end(self) -> None:
        for channel in self.channels.values():
            self.close_channel(channel)
        self.control.close()
        os.unlink(self.control_path)
