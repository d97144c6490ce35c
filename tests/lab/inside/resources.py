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

"""Makes what a user of the lab's cloud starts from; safe to repeat.

Usage: ``python -m tests.lab.inside.resources IMAGE_FILE IMAGE_FORMAT``,
with admin credentials in the environment.
"""

from __future__ import annotations

import sys
import typing

import openstack

from tests.lab import paths

#: MB of RAM, GB of root and ephemeral disk, MB of swap.
FLAVORS: dict[str, dict[str, int]] = {
    "lab": {"ram": 128, "vcpus": 1, "disk": 1},
    "lab-eph": {
        "ram": 128,
        "vcpus": 1,
        "disk": 1,
        "ephemeral": 1,
        "swap": 256,
    },
}

VOLUME_TYPES = ("nfsa", "nfsb")


def main(image_file: str, image_format: str) -> None:
    cloud = openstack.connect()
    for number, (name, size) in enumerate(FLAVORS.items(), start=1):
        if not cloud.compute.find_flavor(name):
            cloud.compute.create_flavor(name=name, id=str(number), **size)
    _network(cloud)
    for name in VOLUME_TYPES:
        if not cloud.block_storage.find_type(name):
            cloud.block_storage.create_type(
                name=name, extra_specs={"volume_backend_name": name}
            )
    if not cloud.image.find_image("lab"):
        cloud.create_image(
            "lab",
            filename=image_file,
            disk_format=image_format,
            container_format="bare",
            visibility="public",
            wait=True,
        )


def _network(cloud: typing.Any) -> None:
    network = cloud.network.find_network("lab")
    if not network:
        network = cloud.network.create_network(
            name="lab",
            provider_network_type="flat",
            provider_physical_network="lab",
            shared=True,
        )
    if not cloud.network.find_subnet("lab"):
        first, last = paths.GUEST_POOL
        cloud.network.create_subnet(
            network_id=network.id,
            name="lab",
            ip_version=4,
            cidr=paths.GUEST_CIDR,
            enable_dhcp=False,
            gateway_ip=None,
            allocation_pools=[{"start": first, "end": last}],
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
