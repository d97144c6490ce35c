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

"""The disks of a domain as the engine wants them."""

from __future__ import annotations

import collections.abc

from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.hypervisor import domain as hypervisor_domain
from sxm_openstack.hypervisor import xml
from sxm_openstack.storage import image


def read(
    domain: hypervisor_domain.LibvirtDomain,
) -> collections.abc.Sequence[engine_disk.Disk]:
    """Every disk, in the order of a move.

    Backing files in this lab are the same on both hosts.
    """
    return engine_disk.smallest_first(
        [_disk(element) for element in domain.disks()]
    )


def _disk(element: xml.DiskElement) -> engine_disk.Disk:
    assert element.source is not None, element
    found = image.info(element.source)
    return engine_disk.Disk(
        target=element.target,
        path=element.source,
        format=element.format,
        size_bytes=found.size_bytes,
        allocated_bytes=found.allocated_bytes,
        backing=(
            engine_disk.Backing.SHARED
            if found.backing_path
            else engine_disk.Backing.NONE
        ),
        read_only=element.read_only,
    )
