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

"""The first words with the destination's relay, before anything is begun.

That a relay lets this host in is found out here, where the reason can be
told, and not by a block job that ends with "connection closed".
"""

import socket
import ssl
from typing import TypedDict

from sxm_openstack import exception
from sxm_openstack.engine import ports
from sxm_openstack.transfer.relay import loop
from sxm_openstack.transfer.relay import tls

_REMEDY = (
    'Compare [sxm] tls and the certificates of both hosts: each must have '
    "been issued for the name of its host, by the authority in the other's "
    'ca-cert.pem.'
)


class TLS(TypedDict):
    """What a relay is told of TLS.

    :ivar directory: of certificates and keys.
    :ivar names: of the other side, one of which its certificate must have.
    """

    directory: str
    names: list[str]


def check_files(directory: str, server_side: bool) -> None:
    """See that the certificates and keys of this host are there.

    :raises PreCheckFailed: one is missing, or makes no sense.
    """
    try:
        tls.context(directory, server_side)
    except OSError as error:
        raise exception.PreCheckFailed(
            f'There can be no TLS between the hosts: {tls.why(error)}.',
            remedy='Put the certificates there that QEMU-native TLS needs, '
            'or set [sxm] tls_directory; [sxm] tls = off on both hosts does '
            'without.',
        ) from error


def connect(endpoint: ports.Endpoint, timeout_s: float) -> socket.socket:
    """:raises OSError: nobody accepts connections there."""
    return socket.create_connection(
        (endpoint.address, endpoint.port), timeout=timeout_s
    )


def greet(
    endpoint: ports.Endpoint, config: TLS | None, timeout_s: float
) -> None:
    """See that the destination listens, is the peer, and lets us in.

    :param timeout_s: for each of the three.
    :raises PeerUnreachable: nobody accepts connections there, or this one.
    :raises PreCheckFailed: this host has no certificate of its own.
    :raises MoveFailed: one of the two does not trust the other.
    """
    where = f'{endpoint.address} port {endpoint.port}'
    if config is not None:
        check_files(config['directory'], server_side=False)
    try:
        plain = connect(endpoint, timeout_s)
    except OSError as error:
        raise exception.PeerUnreachable(
            f'{where} does not accept connections: {error}',
            remedy='Check the migration network and the firewall of the '
            'destination.',
        ) from error
    with plain:
        try:
            answer = _say(plain, endpoint.token, config)
        except (ssl.SSLError, tls.Refused) as error:
            raise exception.MoveFailed(
                f'There is no trusted connection to {where}: '
                f'{tls.why(error)}.',
                remedy=_REMEDY,
            ) from error
        except OSError as error:
            reason = tls.why(error)
        else:
            if answer == loop.GREETED:
                return
            reason = 'it closed the connection without an answer'
    # It may be the link as well as a certificate that is not accepted.
    raise exception.PeerUnreachable(
        f'{where} does not let this host in: {reason}.', remedy=_REMEDY
    )


def _say(plain: socket.socket, token: str, config: TLS | None) -> bytes:
    """The answer to a greeting; empty when the other side hung up."""
    if config is None:
        return _exchange(plain, token)
    context = tls.context(config['directory'], server_side=False)
    with context.wrap_socket(plain) as sock:
        tls.check(sock, config['names'])
        return _exchange(sock, token)


def _exchange(sock: socket.socket, token: str) -> bytes:
    sock.sendall(f'SXM1 {token} {loop.GREETING}\n'.encode())
    with sock.makefile('rb') as file:
        return file.readline(len(loop.GREETED))
