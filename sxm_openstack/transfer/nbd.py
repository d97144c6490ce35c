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

"""Transfer driver ``nbd``: NBD through relays, bases copied by libnbd."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Sequence
import grp
import logging
import pathlib

from sxm_openstack import exception
from sxm_openstack.engine import checks as engine_checks
from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import ports
from sxm_openstack.transfer import base
from sxm_openstack.transfer import checks
from sxm_openstack.transfer import copier_client
from sxm_openstack.transfer import digest_client
from sxm_openstack.transfer import export as nbd_export
from sxm_openstack.transfer import greeting
from sxm_openstack.transfer import process
from sxm_openstack.transfer import relay_client
from sxm_openstack.transfer import server

LOG = logging.getLogger(__name__)

_BASE_ANSWER_TIMEOUT_S = 60.0
"""A base's server may be busy for longer than the watchdog's time, flushing
a slow disk, and no guest waits for it.  A dead link is noticed all the
same, see :class:`sxm_openstack.transfer.relay.watch.Watch`."""


class NBDDriver(base.TransferDriver):
    """Makes both sides of the transfer."""

    name = 'nbd'

    def source(self, runtime: str, peer: Collection[str]) -> 'NBDTransfer':
        return NBDTransfer(
            runtime,
            peer=peer,
            pki=self.settings.pki,
            watchdog_timeout_s=self.settings.watchdog_timeout_s,
            helper_python=self.settings.helper_python,
            connections=self.settings.copy_connections,
            group_id=self._group_id(),
            privileges=self.settings.privileges,
        )

    def server(
        self,
        runtime: str,
        address: str,
        port_range: range,
        peer: Callable[[], Collection[str]],
    ) -> server.NBDServer:
        return server.NBDServer(
            runtime,
            address,
            port_range,
            peer=peer,
            pki=self.settings.pki,
            helper_python=self.settings.helper_python,
            group_id=self._group_id(),
            privileges=self.settings.privileges,
        )

    def checks(
        self, runtime_dir: str, address: str, port_range: range
    ) -> Iterator[engine_checks.Check]:
        yield from checks.programs()
        yield checks.helper(self.settings.helper_python)
        if self.settings.privileges is None:
            yield checks.runtime(runtime_dir)
        yield checks.certificates(self.settings.pki)
        yield checks.listening(address, port_range)

    def reach(self, address: str, port: int) -> Iterator[engine_checks.Check]:
        yield checks.reachable(address, port)

    def cleanup(self, runtime: str) -> None:
        process.clean_directory(runtime)

    def _group_id(self) -> int | None:
        name = self.settings.qemu_group
        if not name:
            return None
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError as error:
            raise exception.PreCheckFailed(
                f'There is no group {name} on this host.',
                remedy="Set it to the group of QEMU's processes.",
            ) from error


class NBDTransfer:
    """Source side, for one move; implements :class:`.ports.Transfer`.

    :param runtime_dir: directory of this move alone, and of this side alone;
        its path is at most 80 bytes long.
    :param peer: names of the destination, beside its address.
    :param pki: directory of certificates; ``None`` is no TLS.
    :param watchdog_timeout_s: the link is cut when bytes are due and none
        move for so long.
    :param helper_python: interpreter that can import ``nbd``.
    :param connections: number of connections that copy one disk.
    :param group_id: group of QEMU's processes, ``None`` when they run as
        this user.
    :param privileges: help for a service that is not root.
    :param idle_exit_s: a relay that nobody uses or asks for so long ends.
    """

    def __init__(
        self,
        runtime_dir: str,
        *,
        peer: Collection[str] = (),
        pki: str | None = None,
        watchdog_timeout_s: float = 5.0,
        helper_python: str = '/usr/bin/python3',
        connections: int = 1,
        storage_daemon: str = 'qemu-storage-daemon',
        group_id: int | None = None,
        privileges: base.Privileges | None = None,
        idle_exit_s: float = 3600.0,
    ) -> None:
        self._directory = pathlib.Path(runtime_dir)
        self._peer = peer
        self._pki = pki
        self._watchdog_timeout_s = watchdog_timeout_s
        self._helper_python = helper_python
        self._connections = connections
        self._storage_daemon = storage_daemon
        self._group_id = group_id
        self._privileges = privileges
        self._idle_exit_s = idle_exit_s

    def connect(
        self, endpoint: ports.Endpoint, channels: Sequence[str]
    ) -> relay_client.RelayLink:
        """Start the relay; what an earlier one left is ended first.

        :raises PeerUnreachable: the destination does not accept connections.
        :raises MoveFailed: it is not the peer or does not take this host for
            its own, or the relay did not start.
        """
        tls = self._tls(endpoint)
        greeting.greet(endpoint, tls, self._watchdog_timeout_s)
        self._prepare_directory()
        process.end_recorded(self._directory, 'relay-connect')
        config = {
            'token': endpoint.token,
            'address': endpoint.address,
            'port': endpoint.port,
            'channels': {name: f'{name}.sock' for name in channels},
            'late_channels': [ports.DISKS_CHANNEL],
            'watchdog_timeout_s': self._watchdog_timeout_s,
            'answer_timeout_s': {
                name: _BASE_ANSWER_TIMEOUT_S
                for name in channels
                if name.endswith('.base')
            },
            'idle_exit_s': self._idle_exit_s,
            'tls': tls,
        }
        if self._group_id is not None:
            config |= {'socket_gid': self._group_id, 'socket_mode': 0o660}
        relay_client.start_relay('connect', self._directory, config)
        return relay_client.RelayLink(self._directory, channels)

    def is_reachable(self, endpoint: ports.Endpoint) -> bool:
        """See :meth:`.ports.Transfer.is_reachable`."""
        try:
            greeting.connect(endpoint, self._watchdog_timeout_s).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return True

    def start_copy(
        self,
        disk: engine_disk.Disk,
        socket: str,
        export: str,
        *,
        rate_bytes_per_s: int,
        offset: int = 0,
    ) -> copier_client.BaseCopy:
        """Begin to copy the frozen base.

        :param socket: local unix socket that leads to the base's server.
        :param export: NBD export name there.
        :param rate_bytes_per_s: 0 is no limit.
        :param offset: everything below it is at the destination already.
        :raises MoveFailed: the base could not be opened.
        """
        self._prepare_directory()
        source = nbd_export.serve_base(
            self._storage_daemon,
            self._directory,
            disk,
            f'{disk.target}.source',
            writable=False,
        )
        try:
            return copier_client.BaseCopy(
                self._helper_python,
                source,
                disk,
                socket,
                export,
                connections=self._connections,
                rate_bytes_per_s=rate_bytes_per_s,
                offset=offset,
            )
        except exception.MoveFailed:
            source.stop()
            raise

    def digests(
        self,
        disk: engine_disk.Disk,
        chunk_bytes: int,
        chunks: Sequence[int] | None = None,
        view: content.View = content.View.BASE,
    ) -> Sequence[str]:
        """See :meth:`.ports.Destination.digests`."""
        self._prepare_directory()
        with digest_client.read_only(
            self._storage_daemon, self._directory, disk, view
        ) as served:
            return digest_client.digests(
                self._helper_python, served, disk, chunk_bytes, chunks
            )

    def _prepare_directory(self) -> None:
        process.prepare_directory(
            str(self._directory), self._group_id, self._privileges
        )

    def _tls(self, endpoint: ports.Endpoint) -> greeting.TLS | None:
        if self._pki is None:
            LOG.warning(
                'The disks go to %s without encryption: TLS is off (%s)',
                endpoint.address,
                self._directory.name,
            )
            return None
        return {
            'directory': self._pki,
            'names': [*self._peer, endpoint.address],
        }
