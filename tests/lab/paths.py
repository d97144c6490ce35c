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

"""Where the lab keeps things, and who has which address.

Nothing here touches the machine: these are names and plans only.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib

#: The checkout that this lab belongs to.
REPO = pathlib.Path(__file__).resolve().parents[2]

#: The virtual environment inside every host.
VENV = "/opt/os"

CTL = "ctl"

#: The bridge of the management and guest network, in every host.
BRIDGE = "br-lab"
#: The migration network's interface in every host.
MIGRATION_LINK = "mig0"
#: The bridge that joins the hosts' migration interfaces, in ctl.
MIGRATION_BRIDGE = "br-mig"

GUEST_CIDR = "10.77.0.0/24"
GUEST_POOL = ("10.77.0.100", "10.77.0.200")


class LabError(Exception):
    """The lab cannot do what was asked; the text says why and what next."""


@dataclasses.dataclass(frozen=True, slots=True)
class HostPlan:
    """One lab host as planned: name, last octet, and Nova cell.

    :ivar cell: ``cell1`` or ``cell2`` for a compute host, "" for ctl.
    """

    name: str
    octet: int
    cell: str = ""

    @property
    def address(self) -> str:
        """Management (and guest network) address."""
        return f"10.77.0.{self.octet}"

    @property
    def migration_address(self) -> str:
        """Address on the migration network."""
        return f"10.78.0.{self.octet}"

    @property
    def is_compute(self) -> bool:
        return bool(self.cell)


HOSTS = (
    HostPlan(CTL, 1),
    HostPlan("compute1", 11, "cell1"),
    HostPlan("compute2", 12, "cell1"),
    HostPlan("compute3", 21, "cell2"),
)
COMPUTES = tuple(plan for plan in HOSTS if plan.is_compute)
CELLS = tuple(sorted({plan.cell for plan in COMPUTES}))


def plan_of(name: str) -> HostPlan:
    """The plan of one host.

    :raises LabError: no host has that name.
    """
    for plan in HOSTS:
        if plan.name == name:
            return plan
    raise LabError(
        f"there is no lab host {name!r}: choose one of "
        + ", ".join(plan.name for plan in HOSTS)
    )


def etc_hosts() -> str:
    """The content of /etc/hosts, the same in every host."""
    lines = ["127.0.0.1 localhost"]
    for plan in HOSTS:
        lines.append(f"{plan.address} {plan.name}")
        lines.append(f"{plan.migration_address} {plan.name}-mig")
    return "\n".join(lines) + "\n"


def cache_dir() -> pathlib.Path:
    """What outlives a lab: rootfs, guest images, database seeds."""
    return pathlib.Path(os.environ.get("SXM_LAB_CACHE", "/var/cache/sxm-lab"))


def state_dir() -> pathlib.Path:
    """What belongs to the one lab that runs now."""
    return pathlib.Path(
        os.environ.get("SXM_LAB_STATE", "/var/lib/sxm-lab")
    ).resolve()
