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

"""ML2 mechanism driver that binds every port as a tap without an agent.

Nova makes the tap itself; ``config/tapwatch.sh`` on each host puts it on
the lab's bridge.  It runs inside neutron-server only.
"""

from __future__ import annotations

import typing

from neutron_lib.plugins.ml2 import api


class LabTap(api.MechanismDriver):
    """Binds any port on any host, at once and active."""

    def initialize(self) -> None:
        """Nothing to set up."""

    @property
    def connectivity(self) -> str:
        return "l2"

    def bind_port(self, context: typing.Any) -> None:
        """Bind to the first segment offered."""
        for segment in context.segments_to_bind[:1]:
            context.set_binding(
                segment[api.ID],
                "tap",
                {"port_filter": False, "connectivity": "l2"},
                status="ACTIVE",
            )
