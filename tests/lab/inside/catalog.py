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

"""Fills a new Keystone: service user, roles and the service catalog.

One process with one session: twenty calls of the command line would take
half a minute.
"""

from __future__ import annotations

import typing

from keystoneauth1 import session as ks_session
from keystoneauth1.identity import v3

from tests.lab import paths

_HOST = f"http://{paths.plan_of(paths.CTL).address}"
_KEYSTONE = f"{_HOST}:5000/v3"

_SERVICES = (
    ("image", "glance", ":9292"),
    ("placement", "placement", ":8778"),
    ("network", "neutron", ":9696"),
    ("compute", "nova", ":8774/v2.1"),
    ("block-storage", "cinder", ":8776/v3"),
)


def main() -> None:
    session = ks_session.Session(
        auth=v3.Password(
            auth_url=_KEYSTONE,
            username="admin",
            password="admin",
            project_name="admin",
            user_domain_name="Default",
            project_domain_name="Default",
        )
    )

    def create(kind: str, **body: typing.Any) -> str:
        answer = session.post(f"{_KEYSTONE}/{kind}s", json={kind: body})
        return str(answer.json()[kind]["id"])

    project = create("project", name="service", domain_id="default")
    user = create("user", name="svc", password="svc", domain_id="default")
    roles = {
        role["name"]: role["id"]
        for role in session.get(f"{_KEYSTONE}/roles").json()["roles"]
    }
    for name in ("admin", "service"):
        role = roles.get(name) or create("role", name=name)
        session.put(
            f"{_KEYSTONE}/projects/{project}/users/{user}/roles/{role}"
        )
    for kind, name, port in _SERVICES:
        service = create("service", type=kind, name=name)
        for interface in ("public", "internal", "admin"):
            create(
                "endpoint",
                service_id=service,
                interface=interface,
                url=_HOST + port,
                region_id="RegionOne",
            )


if __name__ == "__main__":
    main()
