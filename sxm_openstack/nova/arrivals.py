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

"""Moves that come to this host."""

from collections.abc import Callable
import dataclasses
import threading

from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import ports
from sxm_openstack.mirror import destination
from sxm_openstack.nova import settler as sxm_settler

LOG = logging.getLogger(__name__)

Make = Callable[[str, str], destination.DestinationMove]


class Arrivals:
    """This host's side of each move to it, by UUID of the server.

    A side outlives the process: it is made anew from the journal, so that a
    restart of nova-compute neither drops the files under an incoming guest
    nor leaves them for ever.  Thread-safe.

    :param make: a side for a server and the name of its source.
    """

    def __init__(
        self,
        make: Make,
        journal: engine_journal.Journal,
        settler: sxm_settler.Settler,
        host: str,
    ) -> None:
        self._make = make
        self._journal = journal
        self._settler = settler
        self._host = host
        self._lock = threading.Lock()
        self._expected: dict[str, str] = {}
        self._sides: dict[str, destination.DestinationMove] = {}

    def expect(self, server: str, peer: str) -> None:
        """Nova has prepared this host for a server that comes from a peer.

        So Nova knows that it was not here: that it once went from here needs
        to be remembered no longer.
        """
        record = self._journal.read(server)
        if (
            record is not None
            and record.role is engine_journal.Role.SOURCE
            and record.committed
        ):
            self._journal.forget(server)
        with self._lock:
            self._expected[server] = peer

    def restore(self, record: engine_journal.Record) -> None:
        """Take up a side that an earlier process had made."""
        side = self._make(record.server, record.peer)
        side.adopt(record)
        with self._lock:
            self._expected[record.server] = record.peer
            self._sides[record.server] = side

    def side(self, server: str, peer: str) -> destination.DestinationMove:
        """The side for a move that is under way.

        :raises PreCheckFailed: none is expected from there.
        """
        with self._lock:
            if self._expected.get(server) != peer:
                raise exception.PreCheckFailed(
                    f'No move of server {server} from {peer} is expected.',
                    host=self._host,
                    remedy='Start the migration again; was nova-compute '
                    'restarted meanwhile?',
                )
            side = self._sides.get(server)
            if side is None:
                side = self._sides[server] = self._make(server, peer)
            return side

    def state(self, server: str, peer: str) -> ports.DomainState:
        """What this host says of the domain, whatever is under way."""
        with self._lock:
            side = self._sides.get(server) or self._make(server, peer)
        return side.state()

    def arrived(self, server: str) -> threading.Thread | None:
        """The guest runs here: begin to flatten its disks.

        :returns: the thread that does it; ``None`` if nothing is to be done.
        """
        side = self._forget(server)
        record = self._journal.read(server)
        if record is None or record.role is engine_journal.Role.SOURCE:
            return None
        self._journal.write(dataclasses.replace(record, committed=True))
        if side is not None:
            try:
                side.nbd.close()
            except exception.SXMError as error:
                LOG.error('Exports not ended, trying again: %s', error)
        return self._settler.begin(server)

    def discard(self, server: str) -> None:
        """The guest does not come: leave nothing here.  Idempotent.

        :raises NeedsOperator: it runs here.
        """
        with self._lock:
            side = self._sides.get(server)
        if side is not None:
            side.discard()
        self._forget(server)

    def _forget(self, server: str) -> destination.DestinationMove | None:
        with self._lock:
            self._expected.pop(server, None)
            return self._sides.pop(server, None)
