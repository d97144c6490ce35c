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

"""Help for a nova-compute that is not root."""

import os

import nova.conf

from sxm_openstack.privileged import sockets
from sxm_openstack.transfer import base

CONF = nova.conf.CONF


class Privsep:
    """:class:`.transfer.base.Privileges` by a daemon of oslo.privsep."""

    def share_directory(self, path: str) -> None:
        sockets.share_directory(path, os.geteuid())

    def admit(self, path: str) -> None:
        sockets.admit(path, os.geteuid())


def needed() -> base.Privileges | None:
    """What this service needs; ``None`` if it can do all by itself."""
    if os.geteuid() == 0 or not CONF.sxm.qemu_group:
        return None
    return Privsep()
