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

"""From Nova's configuration to what the layers below take."""

import os

import nova.conf

import sxm_openstack.conf
from sxm_openstack.conf import types as conf_types
from sxm_openstack.engine import content
from sxm_openstack.engine import governor
from sxm_openstack.mirror import move
from sxm_openstack.nova import privileges
from sxm_openstack.transfer import base as transfer_base
from sxm_openstack.transfer import drivers as transfer_drivers

CONF = nova.conf.CONF


def register() -> None:
    """Add group ``[sxm]`` to Nova's options.  Idempotent."""
    sxm_openstack.conf.register_opts(CONF)


def migration_address() -> str:
    """Address at which this host listens for disks."""
    return str(
        CONF.sxm.my_migration_address
        or CONF.libvirt.live_migration_inbound_addr
        or CONF.my_ip
    )


def port_range() -> range:
    """Ports at which it does."""
    return conf_types.ports(CONF.sxm.port_range)


def runtime(server: str) -> str:
    """Directory of the sockets of one server's move.

    libvirt's own mirror needs a socket of the same path on both hosts, so
    the two sides of a move use the same name.
    """
    return os.path.join(CONF.sxm.runtime_dir, server)


def settings() -> move.Settings:
    """Bounds of a move, as the options have them by now."""
    return move.Settings(
        limits=governor.Limits(
            guest_share=CONF.sxm.guest_share,
            latency_target_s=CONF.sxm.latency_target_ms / 1000,
            max_rate_bytes_per_s=CONF.sxm.max_rate_mib_per_s << 20,
        ),
        verify=content.Verify(CONF.sxm.verify),
        verify_percent=CONF.sxm.verify_sample_percent,
        storage_timeout_s=CONF.sxm.storage_timeout,
        link_timeout_s=CONF.sxm.link_timeout,
        job_timeout_s=CONF.sxm.handover_timeout,
    )


def transfer() -> transfer_base.TransferDriver:
    """The transfer driver that the options name.

    :raises PreCheckFailed: there is none of that name.
    """
    return transfer_drivers.load(
        CONF.sxm.transfer_driver,
        transfer_base.Settings(
            helper_python=CONF.sxm.helper_python,
            watchdog_timeout_s=CONF.sxm.watchdog_timeout,
            copy_connections=CONF.sxm.copy_connections,
            qemu_group=CONF.sxm.qemu_group,
            privileges=privileges.needed(),
            pki=CONF.sxm.tls_directory if CONF.sxm.tls != 'off' else None,
        ),
    )
