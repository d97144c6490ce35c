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

"""Requests over a unix socket: one JSON line there, one back.

For the lab only: whoever can open the socket may call every method.  The
socket lies in a directory that is seen from outside the hosts.
"""

from __future__ import annotations

import json
import logging
import pathlib
import socket
import socketserver
import typing

from sxm_openstack import exception

LOG = logging.getLogger(__name__)


class RemoteError(Exception):
    """The other side failed with something that is no error of ours."""


def error_to_dict(error: BaseException) -> dict[str, typing.Any]:
    """An error as plain data.

    ``{"class", "message", "text", "kwargs"}``; the class is the nearest one
    of :mod:`sxm_openstack.exception`, or the error's own name.
    """
    if isinstance(error, exception.SXMError):
        return {
            'class': type(error).__name__,
            'message': error.message,
            'text': str(error),
            'kwargs': error.kwargs,
        }
    return {
        'class': type(error).__name__,
        'message': str(error),
        'text': f'{type(error).__name__}: {error}',
        'kwargs': {},
    }


def error_from_dict(data: dict[str, typing.Any]) -> Exception:
    """Inverse of :func:`error_to_dict`, for errors of this project."""
    found = getattr(exception, data['class'], None)
    if isinstance(found, type) and issubclass(found, exception.SXMError):
        return found(data['message'], **data['kwargs'])
    return RemoteError(data['text'])


class Client:
    """Calls the methods of an agent; a connection for each call."""

    def __init__(self, path: str | pathlib.Path) -> None:
        self._path = str(path)

    def call(
        self,
        method: str,
        *,
        timeout_s: float = 120.0,
        **arguments: typing.Any,
    ) -> typing.Any:
        """Call and wait for the answer.

        :raises PeerUnreachable: nobody answers.
        :raises SXMError: what the method raised.
        :raises RemoteError: anything else that it raised.
        """
        request = json.dumps({'method': method, 'arguments': arguments})
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(timeout_s)
                connection.connect(self._path)
                connection.sendall(request.encode() + b'\n')
                with connection.makefile('rb') as stream:
                    line = stream.readline()
        except OSError as error:
            raise exception.PeerUnreachable(
                f'{self._path} does not answer {method}: {error}'
            ) from error
        if not line:
            raise exception.PeerUnreachable(
                f'{self._path} closed the connection in {method}.'
            )
        answer = json.loads(line)
        if 'error' in answer:
            raise error_from_dict(answer['error'])
        return answer['result']


class _Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        try:
            method = getattr(self.server.service, request['method'])
            answer = {'result': method(**request['arguments'])}
        except Exception as error:
            LOG.exception('%s failed', request['method'])
            answer = {'error': error_to_dict(error)}
        self.wfile.write(json.dumps(answer).encode() + b'\n')


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves the public methods of an object, a thread for each call."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, path: str, service: object) -> None:
        self.service = service
        pathlib.Path(path).unlink(missing_ok=True)
        super().__init__(path, _Handler)
