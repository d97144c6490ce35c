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

"""TLS on the connection between two relays.

Both sides show a certificate and check the other's, against the authority
and the names that they were told.  The files have the names that QEMU gives
them, see the chapter on TLS of its documentation: ``ca-cert.pem``,
``server-cert.pem``, ``server-key.pem``, ``client-cert.pem``,
``client-key.pem`` and, if there is one, ``ca-crl.pem``.

The end of a stream is that of the TCP connection: what goes through is NBD,
which knows by itself whether it was ended or cut.
"""

from __future__ import annotations

from collections.abc import Collection
import ipaddress
import os
import socket
import ssl
from typing import Any

RECORD_BYTES = 16 << 10
READ, WRITE = 'read', 'write'

_BUSY = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Refused(OSError):
    """The certificate of the other side is not that of the peer."""


class Stream(ssl.SSLSocket):
    """Reads and writes as much as it can at once, as a plain socket does.

    A call that can do nothing raises :class:`BlockingIOError`.
    """

    over = False

    def recv_into(
        self, buffer: Any, nbytes: int | None = None, flags: int = 0
    ) -> int:
        """Take whole records only: what OpenSSL kept, epoll would not tell.

        :param buffer: of at least :data:`RECORD_BYTES`.
        """
        view, count = memoryview(buffer), 0
        while not self.over and len(view) - count >= RECORD_BYTES:
            try:
                got = super().recv_into(view[count:])
            except _BUSY:
                if not count:
                    raise BlockingIOError from None
                break
            self.over = not got
            count += got
        return count

    def send(self, data: Any, flags: int = 0) -> int:
        """After a partial one, go on with the rest of the same bytes."""
        view, count = memoryview(data), 0
        while count < len(view):
            try:
                count += super().send(view[count:])
            except _BUSY:
                if not count:
                    raise BlockingIOError from None
                break
        return count

    def shutdown(self, how: int) -> None:
        """Half-close; what comes in is still decrypted."""
        socket.socket.shutdown(self, how)


def context(directory: str, server_side: bool) -> ssl.SSLContext:
    """What one side has and demands; its sockets are ordinary ones.

    :raises OSError: a file is missing or makes no sense; the text has its
        name.
    """
    side = 'server' if server_side else 'client'
    made = ssl.SSLContext(
        ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    )
    # Names are compared by check(): a host has more than one.
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    if server_side:
        made.num_tickets = 0
    names = [f'{side}-cert.pem', f'{side}-key.pem']
    paths = [os.path.join(directory, name) for name in names]
    for path in paths:
        _readable(path)
    try:
        made.load_cert_chain(*paths)
    except ssl.SSLError as error:
        raise OSError(
            f'{paths[0]} and {paths[1]} are no pair: {error.reason}'
        ) from error
    _trust(made, os.path.join(directory, 'ca-cert.pem'))
    revoked = os.path.join(directory, 'ca-crl.pem')
    if os.path.exists(revoked):
        _trust(made, revoked)
        made.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return made


def _trust(made: ssl.SSLContext, path: str) -> None:
    _readable(path)
    try:
        made.load_verify_locations(path)
    except ssl.SSLError as error:
        raise OSError(f'{path} makes no sense: {error.reason}') from error


def _readable(path: str) -> None:
    try:
        with open(path, 'rb'):
            pass
    except OSError as error:
        raise OSError(f'{path}: {error.strerror}') from error


def handshake(stream: Stream, names: Collection[str]) -> str | None:
    """Go on with it; call again until it is done.

    :param names: of the peer; its certificate must be for one of them.
    :returns: what it waits for, or ``None`` when it is done.
    :raises OSError: it failed, or the other side is not the peer.
    """
    try:
        stream.do_handshake()
    except ssl.SSLWantReadError:
        return READ
    except ssl.SSLWantWriteError:
        return WRITE
    check(stream, names)
    return None


def check(stream: ssl.SSLSocket, names: Collection[str]) -> None:
    """See whose certificate it is; the handshake has checked its issuer.

    :raises Refused: it is somebody else's.
    """
    found = names_of(stream.getpeercert() or {})
    if not found & {_plain(name) for name in names}:
        raise Refused(
            f'its certificate is for {", ".join(sorted(found)) or "nobody"}, '
            f'not for {" or ".join(names)}'
        )


def names_of(certificate: dict[str, Any]) -> set[str]:
    """DNS names and addresses; the common name only in place of both.

    :param certificate: in the form of :meth:`ssl.SSLSocket.getpeercert`.
    """
    found = {
        _plain(value)
        for kind, value in certificate.get('subjectAltName', ())
        if kind in ('DNS', 'IP Address')
    }
    if found:
        return found
    return {
        _plain(value)
        for part in certificate.get('subject', ())
        for kind, value in part
        if kind == 'commonName'
    }


def why(error: OSError) -> str:
    """One line on what failed, fit for an operator."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f'its certificate is not valid: {error.verify_message}'
    if isinstance(error, ssl.SSLError):
        reason = error.reason or error.strerror or str(error)
        return f'TLS failed: {reason.lower().replace("_", " ")}'
    return error.strerror or str(error)


def _plain(name: str) -> str:
    """The one form of a name or an address."""
    try:
        return str(ipaddress.ip_address(name.strip()))
    except ValueError:
        return name.strip().rstrip('.').lower()
