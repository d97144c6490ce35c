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

"""Only a server that greets as NBD does is let near QEMU."""

from __future__ import annotations

import pathlib
import socket
import tempfile
import threading
import unittest

from sxm_openstack.hypervisor import greeting


class TestGreeting(unittest.TestCase):
    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = str(pathlib.Path(directory.name) / 'nbd')

    def listen(self, *pieces: bytes, close: bool = True) -> None:
        """Serve one client: send the pieces, then close or stay silent."""
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(self.path)
        listener.listen(1)

        def serve() -> None:
            client, _address = listener.accept()
            self.addCleanup(client.close)
            for piece in pieces:
                client.sendall(piece)
            if close:
                client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        self.addCleanup(thread.join)

    def test_server(self) -> None:
        self.listen(b'NBD', b'MAGICIHAVEOPT\0\3', close=False)
        greeting.await_greeting(self.path, 5)

    def test_nobody_listens(self) -> None:
        self.assertRaises(
            FileNotFoundError, greeting.await_greeting, self.path, 5
        )

    def test_silence(self) -> None:
        self.listen(close=False)
        self.assertRaises(
            TimeoutError, greeting.await_greeting, self.path, 0.05
        )

    def test_closed(self) -> None:
        self.listen(b'NBD')
        self.assertRaisesRegex(
            OSError,
            'without a greeting',
            greeting.await_greeting,
            self.path,
            5,
        )

    def test_stranger(self) -> None:
        self.listen(b'SSH-2.0-something_else')
        self.assertRaisesRegex(
            OSError, 'no NBD server', greeting.await_greeting, self.path, 5
        )
