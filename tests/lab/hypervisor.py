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

"""libvirt on a compute host, and its certificates."""

from __future__ import annotations

from tests.lab import configuration
from tests.lab import host as host_mod
from tests.lab import pki
from tests.lab import services

_SERVICES = (
    services.Service("virtlogd", ("virtlogd",)),
    # One monolithic daemon; it listens on TCP for peers, on both networks.
    services.Service("libvirtd", ("libvirtd", "--listen")),
    services.Service("tapwatch", ("sh", "/etc/lab/tapwatch.sh")),
)


def start(host: host_mod.Host, authority: pki.Authority) -> None:
    """Start libvirt and what it needs; wait until it answers.

    :param authority: issues the host's certificates.
    :raises LabError: it does not, or has ended; with the end of its log.
    """
    configuration.write(
        host.root / "etc/libvirt", configuration.libvirt_files(host.plan)
    )
    authority.issue(
        host.root / "etc/pki/qemu", (host.name, host.migration_address)
    )
    host.shell(
        "mkdir -p /var/lock/lab /var/lib/nova/mnt\n"
        "ln -sf /etc/lab/mount.nfs /usr/sbin/mount.nfs\n"
        "rm -f /etc/libvirt/qemu/networks/autostart/*"
    )
    for service in _SERVICES:
        services.start(host, service)
    ask = ["virsh", "-c", "qemu:///system", "uri"]
    services.wait_ready(
        host,
        "libvirtd",
        lambda: not host.run(ask, check=False).returncode,
        timeout_s=60,
    )
