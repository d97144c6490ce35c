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

"""The source's side: unix sockets in, TCP out, and the watchdog."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from sxm_openstack.transfer.relay import loop
from sxm_openstack.transfer.relay import pipe
from sxm_openstack.transfer.relay import watch


class ConnectRelay(loop.Relay):
    """The source's side."""

    mode = 'connect'

    def __init__(self, directory: str, config: dict[str, Any]) -> None:
        super().__init__(directory, config)
        self.timeout_s = float(config.get('watchdog_timeout_s', 5.0))
        self.answer_s: dict[str, float] = config.get('answer_timeout_s', {})
        self.port = int(config['port'])
        found = socket.getaddrinfo(
            config['address'], self.port, type=socket.SOCK_STREAM
        )
        self.family, self.remote = found[0][0], found[0][4]
        self.peer = f'{config["address"]} port {self.port}'
        for channel in self.channels.values():
            self.open_channel(channel)

    def open_channel(self, channel: pipe.Channel) -> None:
        mode = int(self.config.get('socket_mode', 0o600))
        listener = self.listen_unix(channel.path, mode)
        channel.listener = listener

        def on_client(mask: int) -> None:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            near.setblocking(False)
            self.dial(channel, near)

        self.want(listener, loop.READ, on_client)

    def dial(self, channel: pipe.Channel, near: socket.socket) -> None:
        far = self.secured(socket.socket(self.family, socket.SOCK_STREAM))
        self.tune(far, channel)
        connection = pipe.Connection(self, channel, near, far, far)
        connection.connecting = True
        code = far.connect_ex(self.remote)
        if code not in (0, errno.EINPROGRESS):
            channel.connect_errors += 1
            connection.close(f'connecting failed: {os.strerror(code)}')
            return
        connection.start(f'SXM1 {self.token} {channel.name}\n'.encode())

    def do_set(self, request: dict[str, Any]) -> dict[str, Any]:
        timeout_s = request.get('watchdog_timeout_s')
        self.timeout_s = float(timeout_s or self.timeout_s)
        return super().do_set(request)

    def tick(self, now: float, elapsed_s: float) -> None:
        for connection in self.connections():
            # Not the link's fault: this process slept, the client does not
            # take its answers, or it has gone.
            if (
                elapsed_s > 10 * loop.TICK_S
                or connection.down.pending
                or connection.up.eof
            ):
                connection.watch.restart(now)
            elif self.failed(connection, now):
                break
        super().tick(now, elapsed_s)

    def failed(self, connection: pipe.Connection, now: float) -> bool:
        """Whether a connection made the whole link fail just now."""
        waiting = connection.waiting_bytes()
        stalled_s, silent = connection.watch.stalled_s(
            now, watch.tcp_info(connection.tcp), waiting
        )
        limit_s = self.timeout_s
        name = connection.channel.name
        if not silent:
            limit_s = max(limit_s, self.answer_s.get(name, 0.0))
            if name in self.late and not connection.watch.answered:
                limit_s += loop.LATE_S
        if stalled_s <= limit_s:
            return False
        self.fail(connection, stalled_s, waiting, silent)
        return True

    def fail(
        self,
        connection: pipe.Connection,
        stalled_s: float,
        waiting: int,
        silent: bool,
    ) -> None:
        """Cut everything; the control socket goes on to tell why."""
        what = f'{waiting} bytes wait to be acknowledged by'
        if connection.connecting:
            what = 'no connection could be opened to'
        elif not silent:
            what = 'all bytes were acknowledged but no answer came from'
        elif not waiting:
            what = 'no sign of life came from'
        self.failure = (
            f'channel {connection.channel.name} made no progress for '
            f'{stalled_s:.1f} s: {what} {self.peer}'
        )
        for channel in self.channels.values():
            self.close_channel(channel)
