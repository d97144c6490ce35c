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

"""What libvirt's domain states mean to a move."""

from typing import Any

import libvirt

from sxm_openstack.engine import ports

_HOLDS_RUNNING_GUEST = frozenset(
    {
        libvirt.VIR_DOMAIN_RUNNING,
        libvirt.VIR_DOMAIN_BLOCKED,
        # The guest's own shutdown is under way: its QEMU still runs.
        libvirt.VIR_DOMAIN_SHUTDOWN,
    }
)
_HOLDS_STOPPED_GUEST = frozenset(
    {libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED}
)
_MAY_BE_INCOMING = frozenset(
    {
        libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
        libvirt.VIR_DOMAIN_PAUSED_STARTING_UP,
    }
)
_REFUSED_ON_DESTINATION = frozenset(
    {
        libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
        libvirt.VIR_ERR_OPERATION_INVALID,
    }
)


def read(domain: Any) -> ports.DomainState:
    """State of a domain that exists.

    During the switch-over source and destination both say *paused, reason
    migration*; only the source's is a guest.

    :param domain: the ``virDomain``.
    :raises libvirt.libvirtError: it does not exist or cannot be asked.
    """
    state, reason = domain.state()
    if state in _HOLDS_RUNNING_GUEST:
        return ports.DomainState.RUNNING
    if state not in _HOLDS_STOPPED_GUEST:
        return ports.DomainState.SHUTOFF
    if (
        state == libvirt.VIR_DOMAIN_PAUSED
        and reason in _MAY_BE_INCOMING
        and _is_migrating_in(domain)
    ):
        return ports.DomainState.INCOMING
    return ports.DomainState.PAUSED


def _is_migrating_in(domain: Any) -> bool:
    """Whether this is the receiving side of a migration.

    libvirt has no question for it, but it refuses statistics of a migration
    job on the destination, and gives them (or an empty answer) elsewhere.
    """
    try:
        domain.jobStats()
    except libvirt.libvirtError as error:
        if error.get_error_code() in _REFUSED_ON_DESTINATION:
            return True
        raise
    return False
