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

"""Whether an NBD server speaks, asked before QEMU depends on it.

QEMU 10.0 opens an NBD node in its main loop: from the connection to the end
of the handshake nothing else happens there, so with a peer that accepts and
says nothing the guest's devices stand still (seen: until the socket was
closed, four seconds later).  A server greets first, which any process can
look at.
"""

import socket

_GREETING = b'NBDMAGICIHAVEOPT'
_LENGTH_BYTES = len(_GREETING) + 2
"""Two bytes of flags follow; all is read so that closing is no reset."""


def await_greeting(path: str, timeout_s: float) -> None:
    """Connect, wait for an NBD server's greeting, and leave.

    Source: NBD protocol, section "Fixed newstyle negotiation".

    :param path: unix socket that leads to the server.
    :raises OSError: nobody listens or answers, or it is no NBD server.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(timeout_s)
        client.connect(path)
        received = b''
        while len(received) < _LENGTH_BYTES:
            data = client.recv(_LENGTH_BYTES - len(received))
            if not data:
                raise OSError('the connection was closed without a greeting')
            received += data
    if not received.startswith(_GREETING):
        raise OSError(f'what greets there is no NBD server: {received!r}')
