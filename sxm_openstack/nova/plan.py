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

"""What of a server goes, and in which way: as the options here say."""

from collections.abc import Collection
import dataclasses
from typing import Any

import nova.conf
from nova.virt import driver as virt_driver
from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.mirror import base as mirror_base
from sxm_openstack.mirror import drivers as mirror_drivers
from sxm_openstack.nova import inventory
from sxm_openstack.nova import options

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """The disks of a server, in the order in which they go.

    :param drivers: mirror driver of every writable disk, by target.
    """

    disks: tuple[engine_disk.Disk, ...]
    drivers: dict[str, mirror_base.MirrorDriver]

    @property
    def copied(self) -> int:
        """Number of disks that are copied before the memory goes."""
        return sum(
            disk.read_only or self.drivers[disk.target].hands_over
            for disk in self.disks
        )


def make(domain_xml: str, volumes: Collection[str]) -> Plan:
    """Look at a running server.

    :param domain_xml: its live XML.
    :param volumes: targets of its volumes.
    :raises UnsupportedServer: something in it cannot be moved by SXM.
    :raises PreCheckFailed: something on this host has to be changed first.
    """
    _check_link()
    options.transfer()
    disks = inventory.read(domain_xml, volumes)
    inventory.check_space(disks, CONF.sxm.overlay_reserve_percent)
    names = [CONF.sxm.mirror_driver]
    if 'direct' in CONF.sxm.fallback and 'direct' not in names:
        names.append('direct')
    chosen = inventory.choose_drivers(
        disks, [mirror_drivers.load(name) for name in names]
    )
    _check_comparable(chosen)
    for target, driver in chosen.items():
        if driver.name != names[0]:
            LOG.warning('Disk %s goes by %s', target, driver.name)
    return Plan(disks, chosen)


def volume_targets(block_device_info: Any) -> set[str]:
    """Target names of a server's volumes, in Nova's form."""
    return {
        mapping['mount_device'].rpartition('/')[2]
        for mapping in virt_driver.block_device_info_get_mapping(
            block_device_info
        )
    }


def _check_link() -> None:
    """Never weaken silently what the operator wants of the link."""
    for option in (
        'live_migration_tunnelled',
        # libvirt 11.3: "NBD migration with TLS is not supported over UNIX
        # socket".
        'live_migration_with_native_tls',
    ):
        if CONF.libvirt[option]:
            raise exception.UnsupportedServer(
                f'[libvirt] {option} is set, and libvirt cannot mirror '
                'through a local socket with that.',
                host=CONF.host,
                remedy='Unset it, or allow nova in [sxm] fallback.',
            )


def _check_comparable(chosen: dict[str, mirror_base.MirrorDriver]) -> None:
    """Never promise a proof that is not given.

    :raises PreCheckFailed: ``[sxm] verify`` asks for one.
    """
    if CONF.sxm.verify != content.Verify.FULL:
        return
    whole = sorted(
        target for target, driver in chosen.items() if not driver.hands_over
    )
    if whole:
        raise exception.PreCheckFailed(
            f'Disks that are mirrored as a whole ({", ".join(whole)}) cannot '
            'be compared.',
            host=CONF.host,
            remedy='Lower [sxm] verify, or set [sxm] mirror_driver to '
            'snapshot.',
        )
