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

"""Contract of a transfer driver: how a disk's bytes get to the other host."""

import abc
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
from typing import Protocol

from sxm_openstack.engine import checks as engine_checks
from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import ports


class Privileges(Protocol):
    """Does as root what this service may not do."""

    def share_directory(self, path: str) -> None:
        """Make a directory of this service and QEMU's group."""

    def admit(self, path: str) -> None:
        """Let this service use a socket that QEMU has made there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What the operator's options say of the transfer.

    :param helper_python: interpreter that has libnbd's bindings.
    :param watchdog_timeout_s: without progress for this long, the link is
        closed.
    :param copy_connections: connections that copy one disk.
    :param pki: directory of certificates and keys, under the names that
        QEMU gives them; ``None`` is no TLS between the hosts.
    :param qemu_group: group of QEMU's processes, which need to use and make
        sockets in the runtime directory; empty where QEMU runs as the same
        user as this service.
    :param privileges: for a service that is not root and runs as another
        user than QEMU; ``None`` where it needs no help.
    """

    helper_python: str = '/usr/bin/python3'
    watchdog_timeout_s: float = 5.0
    copy_connections: int = 1
    pki: str | None = None
    qemu_group: str = ''
    privileges: Privileges | None = None


class Server(Protocol):
    """Destination side, for one move."""

    def start(self, disks: Sequence[engine_disk.Disk]) -> ports.Endpoint:
        """Serve bases and overlays, and listen for the source's relay."""

    def stop_exports(self) -> None:
        """Flush and close every image; the relay stays."""

    def digests(
        self,
        disk: engine_disk.Disk,
        chunk_bytes: int,
        chunks: Sequence[int] | None = None,
        view: content.View = content.View.BASE,
    ) -> Sequence[str]:
        """See :meth:`.ports.Destination.digests`."""

    def close(self) -> None:
        """End everything.  Idempotent."""


class TransferDriver(abc.ABC):
    """A way to get bytes to the other host, entry point ``sxm.transfer``.

    Source and destination of a move use the same driver.  What a driver
    starts outlives the process that started it, so that a restart of the
    service does not cut a move's mirrors: all that is needed to find it
    again is in the ``runtime`` directory, one for each move.

    Methods may be called from any thread.

    :cvar name: name of the entry point.
    :param settings: the operator's.
    """

    name: str

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abc.abstractmethod
    def source(self, runtime: str, peer: Collection[str]) -> ports.Transfer:
        """The side that sends; nothing is started yet.

        :param runtime: directory of this move, made when it is needed.
        :param peer: names of the destination: it must have a certificate
            for one of them, or for the address at which it listens.
        """

    @abc.abstractmethod
    def server(
        self,
        runtime: str,
        address: str,
        port_range: range,
        peer: Callable[[], Collection[str]],
    ) -> Server:
        """The side that receives; nothing is started yet.

        :param address: IP address to listen at.
        :param port_range: ports of which it takes one.
        :param peer: gives the names of the source: it must have a
            certificate for one of them.  Called when it begins to serve:
            this side is made before it is known which move comes.
        """

    def checks(
        self, runtime_dir: str, address: str, port_range: range
    ) -> Iterable[engine_checks.Check]:
        """What this host lacks to take part in a move; changes nothing.

        :param runtime_dir: directory of the runtime directories.
        """
        return ()

    def reach(self, address: str, port: int) -> Iterable[engine_checks.Check]:
        """Whether another host can be reached where it will listen.

        :param port: first of its range.
        """
        return ()

    @abc.abstractmethod
    def cleanup(self, runtime: str) -> None:
        """End whatever an earlier process left there, and remove it.

        Idempotent; the directory may be missing, and processes named in it
        may have gone or their numbers belong to others by now.

        :raises NeedsOperator: something could not be ended.
        """
