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

"""OpenStack's APIs from outside the lab, quicker than the command line.

An `openstack` command takes seconds of processor time to start; tests that
look at a migration many times a second ask the APIs themselves.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import socket
import threading
import time
import typing

from tests.lab import host as host_mod
from tests.lab import openstack

_CLONE_NEWNET = 0x40000000
_TIMEOUT_S = 180.0
_MICROVERSIONS = {
    'compute': {'X-OpenStack-Nova-API-Version': '2.96'},
    'volume': {'OpenStack-API-Version': 'volume 3.70'},
    'image': {},
    'network': {},
}
_ROOTS = {
    'identity': (5000, '/v3'),
    'compute': (8774, '/v2.1'),
    'volume': (8776, '/v3/{project}'),
    'image': (9292, '/v2'),
    'network': (9696, '/v2.0'),
}

Json = dict[str, typing.Any]


class ApiError(Exception):
    """An API answered with an error.

    :ivar status: HTTP status code.
    :ivar text: what it said.
    """

    def __init__(self, method: str, path: str, status: int, text: str) -> None:
        super().__init__(f'{method} {path}: {status} {text[:500]}')
        self.status = status
        self.text = text


class Api:
    """The cloud's administrator.

    :param ctl: the control host of a running lab.
    """

    def __init__(self, ctl: host_mod.Host) -> None:
        self._ctl = ctl
        self._token = ''
        self._project = ''
        self._until_s = 0.0

    def call(
        self,
        method: str,
        service: str,
        path: str,
        body: Json | None = None,
    ) -> Json:
        """One request; what it answered, or an empty dictionary.

        :param path: below the service's root, ``/servers``.
        :raises ApiError: with the status.
        """
        self._log_in()
        port, root = _ROOTS[service]
        _, answer = self._send(
            method,
            port,
            root.format(project=self._project) + path,
            body,
            {'X-Auth-Token': self._token, **_MICROVERSIONS[service]},
        )
        return answer

    def get(self, service: str, path: str) -> Json:
        return self.call('GET', service, path)

    def _log_in(self) -> None:
        if time.monotonic() < self._until_s:
            return
        admin = openstack.ADMIN
        domain = {'name': admin['OS_USER_DOMAIN_NAME']}
        user = {
            'name': admin['OS_USERNAME'],
            'password': admin['OS_PASSWORD'],
            'domain': domain,
        }
        project = {'name': admin['OS_PROJECT_NAME'], 'domain': domain}
        port, root = _ROOTS['identity']
        headers, answer = self._send(
            'POST',
            port,
            f'{root}/auth/tokens',
            {
                'auth': {
                    'identity': {
                        'methods': ['password'],
                        'password': {'user': user},
                    },
                    'scope': {'project': project},
                }
            },
            {},
        )
        self._token = headers['X-Subject-Token']
        self._project = answer['token']['project']['id']
        self._until_s = time.monotonic() + 1800

    def _send(
        self,
        method: str,
        port: int,
        path: str,
        body: Json | None,
        headers: dict[str, str],
    ) -> tuple[http.client.HTTPMessage, Json]:
        address = (self._ctl.address, port)
        connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT_S)
        connection.sock = _connect_in(self._ctl.pid, address)
        try:
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {'Content-Type': 'application/json', **headers},
            )
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status >= 400:
            raise ApiError(method, path, response.status, text)
        try:
            found = json.loads(text) if text else {}
        except ValueError:
            found = {}
        return response.headers, found


def _connect_in(pid: int, address: tuple[str, int]) -> socket.socket:
    """Connect from the network namespace of a process.

    A socket belongs to the namespace in which it was made, so a thread goes
    there, makes it, and ends.
    """
    made: list[socket.socket | OSError] = []

    def connect() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            with open(f'/proc/{pid}/ns/net') as namespace:
                if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number))
            made.append(socket.create_connection(address, _TIMEOUT_S))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]
