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

"""The destination's side: TCP in, after a check, unix sockets out."""

from __future__ import annotations

import contextlib
import errno
import hmac
import socket
import time
from typing import Any

from sxm_openstack.transfer.relay import loop
from sxm_openstack.transfer.relay import pipe
from sxm_openstack.transfer.relay import tls

PREAMBLE_S = 10.0
PREAMBLE_BYTES = 512
UNCHECKED_AT_MOST = 64  # connections whose preamble is not complete yet


class ListenRelay(loop.Relay):
    """The destination's side."""

    mode = 'listen'

    def __init__(self, directory: str, config: dict[str, Any]) -> None:
        super().__init__(directory, config)
        self.scratch = memoryview(
            bytearray(pipe.BUFFER_BYTES - PREAMBLE_BYTES)
        )
        self.waiting: dict[socket.socket, tuple[bytearray, float]] = {}
        self.dialing: list[
            tuple[pipe.Channel, socket.socket, bytes, float]
        ] = []
        self.refused = 0
        self.refusal: str | None = None
        self.listener = self.listen_tcp(config['address'], config['ports'])
        self.port = int(self.listener.getsockname()[1])
        self.want(self.listener, loop.READ, self.on_client)

    def listen_tcp(
        self, address: str, ports: tuple[int, int]
    ) -> socket.socket:
        """Take the first free port of the range."""
        for port in range(ports[0], ports[1] + 1):
            found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[
                0
            ]
            sock = socket.socket(found[0], socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(found[4])
                sock.listen(64)
            except OSError as error:
                sock.close()
                if error.errno != errno.EADDRINUSE:
                    raise OSError(
                        error.errno, f'{address} port {port}: {error}'
                    ) from error
                continue
            sock.setblocking(False)
            return sock
        raise OSError(
            errno.EADDRINUSE,
            f'all ports from {ports[0]} to {ports[1]} of {address} are taken',
        )

    def on_client(self, mask: int) -> None:
        try:
            plain, _ = self.listener.accept()
        except OSError:
            return
        if len(self.waiting) >= UNCHECKED_AT_MOST:
            plain.close()
            return
        self.tune(plain, None)
        try:
            near = self.secured(plain)
        except OSError:
            # It has gone already.
            plain.close()
            return
        self.waiting[near] = (bytearray(), time.monotonic() + PREAMBLE_S)
        self.on_handshake(near)

    def on_handshake(self, near: socket.socket) -> None:
        try:
            wanted = self.shake(near)
        except OSError as error:
            self.refuse(near, tls.why(error))
            return
        if wanted:
            self.want(near, wanted, lambda mask: self.on_handshake(near))
        else:
            self.want(near, loop.READ, lambda mask: self.on_preamble(near))

    def on_preamble(self, near: socket.socket) -> None:
        pending, _ = self.waiting[near]
        count = 0
        try:
            count = near.recv_into(self.scratch)
        except BlockingIOError:
            return
        except OSError as error:
            self.refusal = tls.why(error)
        pending += self.scratch[:count]
        line, found, rest = bytes(pending).partition(b'\n')
        if count and not found and len(pending) < PREAMBLE_BYTES:
            return
        if not pending:
            # Somebody who only looked whether there is anybody.
            self.let_go(near)
            near.close()
        elif not found or not self.knows_token(line):
            self.refuse(near, 'it does not know the token')
        else:
            self.admit(near, line.split(b' ')[2], rest)

    def refuse(self, near: socket.socket, reason: str) -> None:
        self.refused += 1
        self.refusal = reason
        self.let_go(near)
        near.close()

    def let_go(self, near: socket.socket) -> None:
        """It is not one of those that wait to be checked any more."""
        self.want(near, 0, self.on_client)
        self.waiting.pop(near, None)

    def admit(self, near: socket.socket, name: bytes, rest: bytes) -> None:
        if name == loop.GREETING.encode():
            self.let_go(near)
            with near, contextlib.suppress(OSError):
                near.send(loop.GREETED)
            return
        channel = self.channels.get(name.decode('ascii', 'replace'))
        if channel is None:
            self.refuse(near, 'there is no such channel')
        else:
            self.let_go(near)
            wait_s = loop.LATE_S if channel.name in self.late else 0.0
            give_up_at = time.monotonic() + wait_s
            self.dialing.append((channel, near, rest, give_up_at))
            self.dial_all(time.monotonic())

    def knows_token(self, line: bytes) -> bool:
        words = line.split(b' ')
        if len(words) != 3 or words[0] != b'SXM1':
            return False
        return hmac.compare_digest(words[1], self.token.encode())

    def dial(
        self, channel: pipe.Channel, near: socket.socket, rest: bytes
    ) -> bool:
        """Connect to the local server; whether that worked."""
        far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        far.setblocking(False)
        try:
            far.connect(channel.path)
        except OSError as error:
            far.close()
            channel.last_error = f'{channel.path}: {error.strerror}'
            return False
        self.tune(near, channel)
        pipe.Connection(self, channel, near, far, near).start(rest)
        return True

    def tick(self, now: float, elapsed_s: float) -> None:
        super().tick(now, elapsed_s)
        for near, (_, give_up_at) in tuple(self.waiting.items()):
            if now > give_up_at:
                self.let_go(near)
                near.close()
        self.dial_all(now)

    def dial_all(self, now: float) -> None:
        dialing, self.dialing = self.dialing, []
        for channel, near, rest, give_up_at in dialing:
            if self.dial(channel, near, rest):
                continue
            if now >= give_up_at or channel.name not in self.channels:
                channel.connect_errors += 1
                near.close()
            else:
                self.dialing.append((channel, near, rest, give_up_at))

    def do_stats(self, request: dict[str, Any]) -> dict[str, Any]:
        return {
            **super().do_stats(request),
            'refused': self.refused,
            'refusal': self.refusal,
        }

    def do_close(self, request: dict[str, Any]) -> dict[str, Any]:
        channel = self.channels.pop(request['channel'])
        self.close_channel(channel)
        return {}
