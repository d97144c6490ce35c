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

"""A small program in each lab host that plays nova-compute's part.

Started as ``/opt/os/bin/python -m tests.functional.agent``.  It holds the
moves that leave this host and those that come in, built from the same parts
as :mod:`sxm_openstack.nova.host`, and takes requests over a unix socket in a
directory that both hosts and the outside see.  The source's agent calls the
destination's over that socket, where Nova has its message bus.
"""

from __future__ import annotations

import argparse
import collections.abc
import dataclasses
import logging
import os
import pathlib
import threading
import typing

from sxm_openstack import exception
from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import ports
from sxm_openstack.hypervisor import connection as hypervisor_connection
from sxm_openstack.hypervisor import domain as hypervisor_domain
from sxm_openstack.mirror import destination
from sxm_openstack.nova import settler as sxm_settler
from sxm_openstack.nova import upkeep as sxm_upkeep
from sxm_openstack.storage import drivers as storage_drivers

from tests.functional import departure
from tests.functional import parts
from tests.functional import upkeep
from tests.functional import wire

LOG = logging.getLogger(__name__)


class RemoteDestination:
    """The other host's agent as a :class:`.ports.Destination`."""

    def __init__(self, path: str, server: str, peer: str) -> None:
        self._client = wire.Client(path)
        self._named = {'server': server, 'peer': peer}

    def prepare(
        self, disks: collections.abc.Sequence[engine_disk.Disk]
    ) -> ports.Endpoint:
        answer = self._client.call(
            'prepare', disks=[disk.to_dict() for disk in disks], **self._named
        )
        return ports.Endpoint(**answer)

    def reconnect(
        self, disks: collections.abc.Sequence[engine_disk.Disk]
    ) -> ports.Endpoint:
        answer = self._client.call(
            'reconnect',
            disks=[disk.to_dict() for disk in disks],
            **self._named,
        )
        return ports.Endpoint(**answer)

    def hand_over(
        self, disks: collections.abc.Sequence[engine_disk.Disk]
    ) -> None:
        self._client.call(
            'hand_over',
            disks=[disk.to_dict() for disk in disks],
            **self._named,
        )

    def digests(
        self,
        disk: engine_disk.Disk,
        chunk_bytes: int,
        chunks: collections.abc.Sequence[int] | None = None,
        view: content.View = content.View.BASE,
    ) -> collections.abc.Sequence[str]:
        answer: list[str] = self._client.call(
            'digests',
            disk=disk.to_dict(),
            chunk_bytes=chunk_bytes,
            chunks=None if chunks is None else list(chunks),
            view=str(view),
            **self._named,
        )
        return answer

    def written(
        self, disk: engine_disk.Disk, chunk_bytes: int
    ) -> collections.abc.Sequence[int]:
        answer: list[int] = self._client.call(
            'written',
            disk=disk.to_dict(),
            chunk_bytes=chunk_bytes,
            **self._named,
        )
        return answer

    def state(self) -> ports.DomainState:
        return ports.DomainState(self._client.call('state', **self._named))

    def discard(self) -> None:
        self._client.call('discard', **self._named)

    def arrived(self) -> None:
        self._client.call('arrived', **self._named)


class Agent:
    """The requests; every public method is one.

    :param host: name of this host.
    :param sockets: directory with a socket for each host's agent.
    """

    def __init__(self, host: str, sockets: str) -> None:
        self._host = host
        self._sockets = pathlib.Path(sockets)
        self._connection = hypervisor_connection.Connection()
        self._journal = engine_journal.Journal(parts.STATE_DIR)
        self._lock = threading.Lock()
        self._arrivals: dict[str, destination.DestinationMove] = {}
        self._departures: dict[str, departure.Departure] = {}
        self._settler = sxm_settler.Settler(
            self._journal,
            self._domain,
            lambda runtime: parts.transfer().cleanup(runtime),
            self._ask_peer,
            host,
        )
        self._upkeep = upkeep.make(
            self._journal,
            self._settler,
            self._domain,
            self._connection.get,
            self._ask_peer,
            host,
        )

    def ping(self) -> str:
        return self._host

    def _domain(self, server: str) -> hypervisor_domain.LibvirtDomain:
        return hypervisor_domain.LibvirtDomain(
            self._connection.get, server, host=self._host
        )

    def _ask_peer(self, record: engine_journal.Record) -> ports.DomainState:
        path = str(self._sockets / f'{record.peer}.sock')
        return RemoteDestination(path, record.server, self._host).state()

    def clean_up(self, server: str) -> list[dict[str, typing.Any]]:
        """``sxm-manage cleanup`` for a server; what it found and did."""
        with self._lock:
            self._arrivals.pop(server, None)
        self._note_gone(server)
        return [
            result.to_dict()
            for result in self._upkeep.run(sxm_upkeep.EITHER, [server])
        ]

    def _note_gone(self, server: str) -> None:
        """What nova-compute does when it starts, see
        :meth:`sxm_openstack.nova.host.MoveHost.recover`: the journal says so
        when a guest has gone while nobody looked."""
        record = self._journal.read(server)
        if (
            record is not None
            and record.role is engine_journal.Role.SOURCE
            and self._domain(server).state() not in sxm_settler.GUEST
            and self._ask_peer(record) in sxm_settler.GUEST
        ):
            self._journal.write(dataclasses.replace(record, committed=True))

    def traces(self, server: str) -> list[dict[str, typing.Any]]:
        """``sxm-manage leftovers`` for a server."""
        return [case.to_dict() for case in self._upkeep.leftovers([server])]

    # -- destination -----------------------------------------------------

    def _arrival(self, server: str, peer: str) -> destination.DestinationMove:
        with self._lock:
            known = self._arrivals.get(server)
            if known is None:
                runtime = parts.runtime(server)
                known = destination.DestinationMove(
                    server=server,
                    peer=peer,
                    nbd=parts.transfer().server(
                        runtime,
                        parts.migration_address(),
                        parts.PORTS,
                        lambda: [peer],
                    ),
                    storage=storage_drivers.load,
                    domain=self._domain(server),
                    journal=self._journal,
                    runtime=runtime,
                )
                self._arrivals[server] = known
            return known

    def prepare(
        self, server: str, peer: str, disks: list[dict[str, typing.Any]]
    ) -> dict[str, typing.Any]:
        side = self._arrival(server, peer)
        return dataclasses.asdict(side.prepare(_load(disks)))

    def reconnect(
        self, server: str, peer: str, disks: list[dict[str, typing.Any]]
    ) -> dict[str, typing.Any]:
        side = self._arrival(server, peer)
        return dataclasses.asdict(side.reconnect(_load(disks)))

    def hand_over(
        self, server: str, peer: str, disks: list[dict[str, typing.Any]]
    ) -> None:
        self._arrival(server, peer).hand_over(_load(disks))

    def digests(
        self,
        server: str,
        peer: str,
        disk: dict[str, typing.Any],
        chunk_bytes: int,
        chunks: list[int] | None,
        view: str,
    ) -> list[str]:
        side = self._arrival(server, peer)
        return list(
            side.digests(
                _load([disk])[0], chunk_bytes, chunks, content.View(view)
            )
        )

    def written(
        self,
        server: str,
        peer: str,
        disk: dict[str, typing.Any],
        chunk_bytes: int,
    ) -> list[int]:
        side = self._arrival(server, peer)
        return list(side.written(_load([disk])[0], chunk_bytes))

    def state(self, server: str, peer: str = '') -> str:
        return str(self._domain(server).state())

    def discard(self, server: str, peer: str) -> None:
        self._arrival(server, peer).discard()
        with self._lock:
            self._arrivals.pop(server, None)

    def arrived(self, server: str, peer: str) -> None:
        self._arrival(server, peer).arrived()
        with self._lock:
            self._arrivals.pop(server, None)

    # -- source ----------------------------------------------------------

    def start(self, **order: typing.Any) -> None:
        """Begin a move away; see :class:`.departure.Order`."""
        parsed = departure.Order(**order)
        remote = RemoteDestination(
            str(self._sockets / f'{parsed.peer}.sock'),
            parsed.server,
            self._host,
        )
        with self._lock:
            old = self._departures.get(parsed.server)
            if old is not None and not old.is_over:
                raise exception.PreCheckFailed(
                    f'Server {parsed.server} is being moved already.'
                )
            self._departures[parsed.server] = departure.Departure(
                self._host,
                parsed,
                self._connection.get,
                remote,
                self._journal,
            )
            self._departures[parsed.server].start()

    def status(self, server: str) -> dict[str, typing.Any]:
        return self._departures[server].status()

    def samples(self, server: str) -> list[dict[str, typing.Any]]:
        return self._departures[server].samples()

    def abort(self, server: str) -> None:
        self._departures[server].abort()

    def hurry(self, server: str) -> None:
        self._departures[server].hurry()

    def release(self, server: str) -> None:
        """Let go of every call that a fault holds."""
        self._departures[server].release()

    # -- looking ---------------------------------------------------------

    def live_xml(self, server: str) -> str:
        return self._domain(server).live_xml()

    def disks(self, server: str) -> list[dict[str, typing.Any]]:
        """Every disk as the live XML has it."""
        return [
            dataclasses.asdict(disk) for disk in self._domain(server).disks()
        ]

    def forget(self, server: str) -> None:
        """End whatever is left of a move, and its records."""
        with self._lock:
            self._arrivals.pop(server, None)
            self._departures.pop(server, None)
        parts.transfer().cleanup(parts.runtime(server))
        self._journal.forget(server)

    def leftovers(self, server: str) -> dict[str, list[str]]:
        """What a move has left on this host: should be empty lists."""
        return parts.leftovers(server, self._journal)


def _load(
    disks: collections.abc.Sequence[dict[str, typing.Any]],
) -> list[engine_disk.Disk]:
    return [engine_disk.Disk.from_dict(disk) for disk in disks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--sockets', required=True, metavar='DIRECTORY')
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.DEBUG,
        format='%(asctime)s.%(msecs)03d %(levelname)s %(name)s %(message)s',
        datefmt='%H:%M:%S',
    )
    host = os.uname().nodename
    path = pathlib.Path(arguments.sockets) / f'{host}.sock'
    path.parent.mkdir(parents=True, exist_ok=True)
    parts.warm_up()
    with wire.Server(str(path), Agent(host, arguments.sockets)) as server:
        server.serve_forever()


if __name__ == '__main__':
    main()
