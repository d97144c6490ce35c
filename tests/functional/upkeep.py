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
"""``sxm-manage`` on a host of the lab, without Nova to ask."""

from __future__ import annotations

import collections.abc
import typing

from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import ports
from sxm_openstack.hypervisor import domain as hypervisor_domain
from sxm_openstack.hypervisor import survey
from sxm_openstack.mirror import traces
from sxm_openstack.nova import clearing
from sxm_openstack.nova import settler as sxm_settler
from sxm_openstack.nova import upkeep

from tests.functional import guests
from tests.functional import parts

_GUEST = (ports.DomainState.RUNNING, ports.DomainState.PAUSED)


class Hosts:
    """Knows what Nova would: where a server is."""

    def __init__(
        self,
        journal: engine_journal.Journal,
        ask_peer: sxm_settler.AskPeer,
        host: str,
    ) -> None:
        self._journal = journal
        self._ask_peer = ask_peer
        self._host = host

    def is_moving(self, server: str) -> bool:
        """Whoever cleans up in a test has waited for the end."""
        return False

    def host_of(self, server: str) -> str:
        record = self._journal.read(server)
        if record is not None and self._ask_peer(record) in _GUEST:
            return record.peer
        return self._host


def make(
    journal: engine_journal.Journal,
    settler: sxm_settler.Settler,
    domain: collections.abc.Callable[[str], hypervisor_domain.LibvirtDomain],
    connect: collections.abc.Callable[[], typing.Any],
    ask_peer: sxm_settler.AskPeer,
    host: str,
) -> upkeep.Upkeep:
    """As ``sxm-manage`` makes it, for the places of the lab's agents."""
    return upkeep.Upkeep(
        journal,
        settler,
        traces.Places(
            state=parts.STATE_DIR,
            runtime=parts.RUNTIME_DIR,
            instances=guests.INSTANCES,
            disks=lambda: survey.overlaid(connect, host),
        ),
        clearing.Clearer(
            domain,
            parts.runtime,
            lambda runtime: parts.transfer().cleanup(runtime),
        ),
        Hosts(journal, ask_peer, host),
        domain,
        host,
        assume_ended=True,
        timeout_s=60.0,
    )
