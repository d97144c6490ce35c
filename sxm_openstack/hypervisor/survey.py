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

"""Which guests of this host have anything of a move on their disks."""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
from typing import Any

import libvirt

from sxm_openstack import exception
from sxm_openstack.hypervisor import errors
from sxm_openstack.hypervisor import xml

OVERLAY_SUFFIXES = ('.sxm-overlay', '.sxm-handover')


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """A disk that runs on an overlay of ours, or has a block job.

    :param server: UUID of the domain.
    :param source: path of the top of the chain.
    :param job: kind of the block job, or the empty string.
    """

    server: str
    target: str
    source: str
    job: str


def overlaid(connect: Callable[[], Any], host: str) -> Iterator[Finding]:
    """Disks of all domains, also of those that are off.

    A block job on an ordinary file is not ours.

    :raises Retryable: libvirt cannot be asked.
    """
    with errors.translated('list domains', exception.Retryable, host=host):
        domains = connect().listAllDomains()
    for domain in domains:
        with errors.translated(
            'read a domain', exception.Retryable, host=host
        ):
            try:
                text, server = domain.XMLDesc(0), domain.UUIDString()
            except libvirt.libvirtError as error:
                if errors.is_absent(error):
                    continue  # it has gone since
                raise
        for disk in xml.disks(text):
            if disk.source and disk.source.endswith(OVERLAY_SUFFIXES):
                job = disk.mirror.job if disk.mirror else ''
                yield Finding(server, disk.target, disk.source, job)
