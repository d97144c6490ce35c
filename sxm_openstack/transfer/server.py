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

"""Destination side of the NBD transfer: exports and the relay."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Sequence
import logging
import pathlib
import secrets
import threading
import time

from sxm_openstack import exception
from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import ports
from sxm_openstack.transfer import base
from sxm_openstack.transfer import digest_client
from sxm_openstack.transfer import export
from sxm_openstack.transfer import greeting
from sxm_openstack.transfer import process
from sxm_openstack.transfer import relay_client
from sxm_openstack.transfer.relay import loop

LOG = logging.getLogger(__name__)

_POLL_S = 0.02


class NBDServer:
    """Serves the bases and overlays of one move.

    Not thread-safe.  A later process may make another one for the same
    directory: :meth:`start` then starts anew, the other methods go on with
    what runs.

    :param runtime_dir: directory of this move alone, and of this side alone;
        its path is at most 80 bytes long.
    :param address: on which the relay listens.
    :param port_range: TCP ports, of which one is taken.
    :param peer: gives the names of the source.
    :param pki: directory of certificates; ``None`` is no TLS.
    :param helper_python: interpreter that can import ``nbd``.
    :param group_id: group of QEMU's processes, ``None`` when they run as
        this user.
    :param privileges: help for a service that is not root.
    :param idle_exit_s: a relay that nobody uses or asks for so long ends.
    """

    def __init__(
        self,
        runtime_dir: str,
        address: str,
        port_range: range,
        *,
        peer: Callable[[], Collection[str]] = tuple,
        pki: str | None = None,
        helper_python: str = '/usr/bin/python3',
        storage_daemon: str = 'qemu-storage-daemon',
        group_id: int | None = None,
        privileges: base.Privileges | None = None,
        idle_exit_s: float = 3600.0,
    ) -> None:
        self._directory = pathlib.Path(runtime_dir)
        self._address = address
        self._port_range = port_range
        self._peer = peer
        self._pki = pki
        self._helper_python = helper_python
        self._storage_daemon = storage_daemon
        self._group_id = group_id
        self._privileges = privileges
        self._idle_exit_s = idle_exit_s

    @property
    def disks_socket(self) -> str:
        """Where the incoming QEMU has to listen for libvirt's mirror."""
        return str(self._directory / f'{ports.DISKS_CHANNEL}.sock')

    def start(self, disks: Sequence[engine_disk.Disk]) -> ports.Endpoint:
        """Serve what was prepared, and listen.

        Ends what an earlier start left in the directory.

        :raises MoveFailed: something could not be started; nothing is left.
        """
        self.close()
        self._prepare_directory()
        try:
            token = secrets.token_hex(32)
            channels = [
                served.program.name
                for disk in disks
                for served in self._serve(disk, token)
            ]
            return self._listen(channels, token)
        except exception.MoveFailed:
            self.close()
            raise

    def stop_exports(self) -> None:
        """Flush and close every image; the relay and ``disks`` stay.

        :raises MoveFailed: a daemon had died, or did not end well: its image
            may lack what was written last.
        """
        self._expect_qemu()
        failures = export.stop_daemons(
            program
            for program in process.recorded(self._directory)
            if not program.name.startswith('relay-')
        )
        if failures:
            raise exception.MoveFailed(
                '; '.join(failure.message for failure in failures),
                remedy=failures[0].remedy,
            )

    def digests(
        self,
        disk: engine_disk.Disk,
        chunk_bytes: int,
        chunks: Sequence[int] | None = None,
        view: content.View = content.View.BASE,
    ) -> Sequence[str]:
        """See :meth:`.ports.Destination.digests`."""
        self._prepare_directory()
        if view is content.View.BASE:
            served = export.running(
                self._directory,
                disk.base_channel,
                lambda: self._export_name(disk.base_channel),
            )
            if served is not None:
                return digest_client.digests(
                    self._helper_python, served, disk, chunk_bytes, chunks
                )
        with digest_client.read_only(
            self._storage_daemon, self._directory, disk, view
        ) as served:
            return digest_client.digests(
                self._helper_python, served, disk, chunk_bytes, chunks
            )

    def close(self) -> None:
        """End everything and remove the directory.  Idempotent.

        :raises NeedsOperator: a program does not end.
        """
        process.clean_directory(str(self._directory))

    def _export_name(self, channel: str) -> str:
        """:raises VerifyFailed: the relay, which knows it, has gone."""
        relay = relay_client.RelayClient(self._directory, 'listen')
        try:
            return relay.export(channel)
        except OSError as error:
            raise exception.VerifyFailed(
                f'The relay in {self._directory} is gone: {error}',
                remedy='Look for its end in the log of the kernel.',
            ) from error

    def _serve(
        self, disk: engine_disk.Disk, token: str
    ) -> Iterator[export.Export]:
        yield export.serve_base(
            self._storage_daemon,
            self._directory,
            disk,
            disk.base_channel,
            export=loop.export_name(token, disk.base_channel),
            writable=True,
        )
        if not disk.read_only:
            yield export.serve_overlay(
                self._storage_daemon,
                self._directory,
                disk,
                disk.mirror_channel,
                loop.export_name(token, disk.mirror_channel),
            )

    def _listen(self, exported: Sequence[str], token: str) -> ports.Endpoint:
        channels = {name: f'{name}.nbd' for name in exported}
        channels[ports.DISKS_CHANNEL] = f'{ports.DISKS_CHANNEL}.sock'
        _, port = relay_client.start_relay(
            'listen',
            self._directory,
            {
                'token': token,
                'address': self._address,
                'ports': [self._port_range[0], self._port_range[-1]],
                'channels': channels,
                'late_channels': [ports.DISKS_CHANNEL],
                'idle_exit_s': self._idle_exit_s,
                'tls': self._tls(),
            },
        )
        LOG.info(
            'Serving %s for a move on %s port %s',
            ', '.join(exported),
            self._address,
            port,
        )
        return ports.Endpoint(self._address, port, token)

    def _expect_qemu(self) -> None:
        """From now on QEMU may make a socket that only it could use."""
        privileges = self._privileges
        if privileges is not None:
            threading.Thread(
                target=_admit,
                args=(self.disks_socket, privileges, self._idle_exit_s),
                name='sxm-admit',
                daemon=True,
            ).start()

    def _prepare_directory(self) -> None:
        process.prepare_directory(
            str(self._directory), self._group_id, self._privileges
        )

    def _tls(self) -> greeting.TLS | None:
        if self._pki is None:
            LOG.warning(
                'The disks come in without encryption, from whoever knows '
                'the token: TLS is off (%s)',
                self._directory.name,
            )
            return None
        return {'directory': self._pki, 'names': list(self._peer())}


def _admit(path: str, privileges: base.Privileges, timeout_s: float) -> None:
    """Let this service use a socket as soon as QEMU has made it.

    Ends without when the directory has gone, and with it the move.
    """
    deadline = time.monotonic() + timeout_s
    socket = pathlib.Path(path)
    while socket.parent.exists() and time.monotonic() < deadline:
        if socket.exists():
            try:
                privileges.admit(path)
            except exception.SXMError as error:
                LOG.error('QEMU cannot be reached: %s', error)
            return
        time.sleep(_POLL_S)
