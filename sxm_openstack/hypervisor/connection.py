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

"""A libvirt connection with an event loop, for programs of our own.

nova-compute has both already; there this module is not used.
"""

import threading
import types
from typing import Any

import libvirt
from oslo_log import log as logging

from sxm_openstack import exception

LOG = logging.getLogger(__name__)

_KEEPALIVE_INTERVAL_S = 5
_KEEPALIVE_COUNT = 3

_loop_lock = threading.Lock()
_loop: threading.Thread | None = None


def run_event_loop() -> None:
    """Start this process's one libvirt event loop.  Idempotent.

    Must come before the first connection is opened: libvirt ties a
    connection to the loop that it finds then.
    """
    global _loop
    with _loop_lock:
        if _loop is not None:
            return
        libvirt.virEventRegisterDefaultImpl()
        # Errors arrive as exceptions; by default they are printed as well.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        _loop = threading.Thread(
            target=_run_loop, name='libvirt-events', daemon=True
        )
        _loop.start()


def _run_loop() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:
            LOG.exception('The libvirt event loop had an error; it goes on.')


class Connection:
    """Opens a connection when it is first asked for, and anew when it died.

    :param uri: of the daemon; the local one by default.
    """

    def __init__(self, uri: str = 'qemu:///system') -> None:
        self._uri = uri
        self._lock = threading.Lock()
        self._connection: Any = None

    def __enter__(self) -> 'Connection':
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.close()

    def get(self) -> Any:
        """A connection that was alive a moment ago.

        :raises Retryable: the daemon does not answer.
        """
        with self._lock:
            if self._connection is None or not self._connection.isAlive():
                self._connection = self._open()
            return self._connection

    def _open(self) -> Any:
        run_event_loop()
        try:
            connection = libvirt.open(self._uri)
            connection.setKeepAlive(_KEEPALIVE_INTERVAL_S, _KEEPALIVE_COUNT)
        except libvirt.libvirtError as error:
            raise exception.Retryable(
                f'Cannot connect to libvirt at {self._uri}: {error}',
                remedy='See that libvirtd runs there.',
            ) from error
        return connection

    def close(self) -> None:
        """Let go of the connection.  Idempotent."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            try:
                connection.close()
            except libvirt.libvirtError as error:
                LOG.debug('closing %s: %s', self._uri, error)
