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

"""What the libvirt and the QEMU of this host are."""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
from typing import Any

import libvirt

from sxm_openstack import exception
from sxm_openstack.engine import checks as engine_checks
from sxm_openstack.hypervisor import errors
from sxm_openstack.hypervisor import xml

LIBVIRT_AT_LEAST = 8000000
QEMU_AT_LEAST = 6002000

_BINDINGS = (
    'VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES',
    'VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES',
)


@dataclasses.dataclass(frozen=True, slots=True)
class Platform:
    """Versions as libvirt counts: 11003000 is 11.3.0."""

    libvirt_version: int
    qemu_version: int
    capabilities: xml.Capabilities

    def checks(self) -> Iterator[engine_checks.Check]:
        """Whether they are new enough."""
        for name, found, least in (
            ('libvirt', self.libvirt_version, LIBVIRT_AT_LEAST),
            ('qemu', self.qemu_version, QEMU_AT_LEAST),
        ):
            text = f'{name} is {engine_checks.version_text(found)}'
            if found < least:
                yield engine_checks.failed(
                    name,
                    f'{text}; {engine_checks.version_text(least)} is needed.',
                    'Upgrade it.',
                )
            else:
                yield engine_checks.passed(name, f'{text}.')
        missing = [name for name in _BINDINGS if not hasattr(libvirt, name)]
        if missing:
            yield engine_checks.failed(
                'libvirt-python',
                f'The bindings of libvirt lack {", ".join(missing)}.',
                'Install libvirt-python 8.0 or newer.',
            )


def read(connect: Callable[[], Any], host: str) -> Platform:
    """Ask the daemon.

    :raises Retryable: it does not answer.
    """
    with errors.translated('read versions', exception.Retryable, host=host):
        connection = connect()
        return Platform(
            connection.getLibVersion(),
            connection.getVersion(),
            xml.capabilities(connection.getCapabilities()),
        )


def compare_cpu(connect: Callable[[], Any], cpu: str, host: str) -> bool:
    """Whether this host has all that a CPU has.

    :param cpu: as XML, see :class:`.xml.Capabilities`.
    :raises Retryable: the daemon does not answer.
    """
    with errors.translated('compare CPUs', exception.Retryable, host=host):
        found = connect().compareCPU(cpu, 0)
    return found in (
        libvirt.VIR_CPU_COMPARE_IDENTICAL,
        libvirt.VIR_CPU_COMPARE_SUPERSET,
    )
