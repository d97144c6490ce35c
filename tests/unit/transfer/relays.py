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

"""A pair of relays on this machine, with fake servers behind them."""

import contextlib
import json
import os
import pathlib
import random
import shutil
import socket
import tempfile
import threading
import time
import unittest

from sxm_openstack.transfer import process
from sxm_openstack.transfer import relay_client

TOKEN = 'a' * 64
DEADLINE_S = 20.0


def wait_for(what, timeout_s=DEADLINE_S):
    """Result of a callable once it is true."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        result = what()
        if result:
            return result
        time.sleep(0.01)
    raise AssertionError(f'waited {timeout_s} s for {what}')


def receive(sock, count):
    """Exactly that many bytes."""
    data = bytearray()
    while len(data) < count:
        part = sock.recv(min(count - len(data), 1 << 20))
        if not part:
            raise AssertionError(f'end after {len(data)} of {count} bytes')
        data += part
    return bytes(data)


def random_bytes(count, seed=1):
    return random.Random(seed).randbytes(count)


class RelayCase(unittest.TestCase):
    """Relays in real processes; servers are sockets of this one."""

    def setUp(self):
        super().setUp()
        path = tempfile.mkdtemp(prefix='sxm')
        self.addCleanup(shutil.rmtree, path, ignore_errors=True)
        self.source = pathlib.Path(path, 's')
        self.destination = pathlib.Path(path, 'd')
        for directory in (self.source, self.destination):
            directory.mkdir()
            self.addCleanup(process.clean_directory, str(directory))

    def both(self):
        """What the configurations of both relays have in common."""
        return {}

    def listen(self, *channels, **config):
        """Start the destination's relay; its program."""
        relay, self.port = relay_client.start_relay(
            'listen',
            self.destination,
            {
                'token': TOKEN,
                'address': '127.0.0.1',
                'ports': [0, 0],
                'channels': {name: f'{name}.nbd' for name in channels},
                **self.both(),
                **config,
            },
        )
        return relay

    def connect(self, *channels, **config):
        """Start the source's relay; its program."""
        relay, _ = relay_client.start_relay(
            'connect',
            self.source,
            {
                'token': TOKEN,
                'address': '127.0.0.1',
                'port': self.port,
                'channels': {name: f'{name}.sock' for name in channels},
                **self.both(),
                **config,
            },
        )
        return relay

    def pair(self, *channels, **config):
        self.far_relay = self.listen(*channels)
        self.near_relay = self.connect(*channels, **config)

    def ask(self, operation, mode='connect', **arguments):
        directory = self.source if mode == 'connect' else self.destination
        client = relay_client.RelayClient(directory, mode)
        return client.ask(operation, **arguments)

    def stats(self, channel, mode='connect'):
        return self.ask('stats', mode)['channels'][channel]

    def serve(self, channel):
        """Listening socket of a channel's server."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(sock.close)
        sock.bind(str(self.destination / f'{channel}.nbd'))
        sock.listen()
        sock.settimeout(DEADLINE_S)
        return sock

    def dial(self, channel):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(sock.close)
        sock.settimeout(DEADLINE_S)
        sock.connect(str(self.source / f'{channel}.sock'))
        return sock

    def joined(self, channel):
        """Both ends of a new connection through both relays."""
        listener = self.serve(channel)
        client = self.dial(channel)
        server, _ = listener.accept()
        self.addCleanup(server.close)
        server.settimeout(DEADLINE_S)
        listener.close()
        os.unlink(self.destination / f'{channel}.nbd')
        return client, server

    def background(self, function, *arguments):
        """Run it in a thread that ends before the test does."""
        thread = threading.Thread(target=function, args=arguments)
        thread.start()
        self.addCleanup(thread.join)
        return thread

    def knock(self, data):
        """What the destination's relay answers to these first bytes."""
        with socket.create_connection(('127.0.0.1', self.port)) as sock:
            sock.settimeout(DEADLINE_S)
            sock.sendall(data)
            with contextlib.suppress(ConnectionError):
                return sock.recv(1)
        return b''

    def raw_control(self, data):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE_S)
            sock.connect(str(self.source / 'relay-connect.ctl'))
            sock.sendall(data)
            with sock.makefile('rb') as file:
                count = data.count(b'\n')
                return [json.loads(file.readline()) for _ in range(count)]
