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

"""The ``openstack`` command, as the cloud's administrator."""

from __future__ import annotations

import json
import typing

from tests.lab import host as host_mod
from tests.lab import paths

_CTL = paths.plan_of(paths.CTL).address

#: What the command line and the SDK need to be the cloud's administrator.
ADMIN = {
    "OS_AUTH_URL": f"http://{_CTL}:5000/v3",
    "OS_USERNAME": "admin",
    "OS_PASSWORD": "admin",
    "OS_PROJECT_NAME": "admin",
    "OS_USER_DOMAIN_NAME": "Default",
    "OS_PROJECT_DOMAIN_NAME": "Default",
    "OS_IDENTITY_API_VERSION": "3",
    "OS_REGION_NAME": "RegionOne",
    "OS_COMPUTE_API_VERSION": "2.latest",
    "OS_VOLUME_API_VERSION": "3.latest",
}


def client(
    ctl: host_mod.Host, args: typing.Sequence[str], timeout_s: float = 600.0
) -> typing.Any:
    """Run the ``openstack`` command as administrator.

    :param args: as on the command line; ``-f json`` is added to commands
        that print a table.
    :returns: the parsed output, or None if the command prints none.
    :raises CommandFailed: with what the command said.
    """
    words = set(args)
    formatted = bool(words & {"list", "show", "create", "issue"})
    result = ctl.run(
        ["openstack", *args, *(["-f", "json"] if formatted else [])],
        environ=ADMIN,
        timeout=timeout_s,
    )
    if not result.stdout.strip():
        return None
    try:
        return json.loads(result.stdout)
    except ValueError:
        return result.stdout
