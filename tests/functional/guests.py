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

"""Guests of functional tests and benchmarks: their disks and their XML."""

from __future__ import annotations

import dataclasses
import shlex
from xml.sax import saxutils

INSTANCES = '/var/lib/nova/instances'
SHARED = '/srv/nfs-a'
"""A directory that both hosts see."""
IMAGES = f'{SHARED}/sxm-guest'
"""Kernel and initial RAM disk of the guest."""
BASES = f'{INSTANCES}/_base'
MEMORY_MIB = 192

STATE_DIR = '/var/lib/sxm-functional'
RUNTIME_DIR = '/run/sxm-functional'
"""Of the agents' moves, in every host."""

_IMAGE_SIZE_MIB = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Disk:
    """A disk as a test wants it.

    :param name: file in the instance directory, as Nova calls it.
    :param format: ``qcow2`` or ``raw``.
    :param backed: on a base in the image cache, the same on both hosts.
    :param config: a read-only cdrom with some content.
    """

    target: str
    name: str
    format: str = 'qcow2'
    size_mib: int = 128
    backed: bool = False
    config: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A guest as a test wants it.

    :param number: of the guest: its address, UUID and MAC follow from it.
    :param directory: where its instance directory is.
    :param persistent: defined with libvirt, as Nova's servers are.
    """

    number: int
    disks: tuple[Disk, ...]
    memory_mib: int = MEMORY_MIB
    directory: str = INSTANCES
    persistent: bool = True

    @property
    def uuid(self) -> str:
        return f'5c4d0000-0000-4000-8000-{self.number:012d}'

    @property
    def ip(self) -> str:
        return f'10.77.0.{200 + self.number}'

    @property
    def path(self) -> str:
        """The instance directory, in every host."""
        return f'{self.directory}/{self.uuid}'

    def file(self, target: str) -> str:
        """The ordinary file of a disk."""
        for disk in self.disks:
            if disk.target == target:
                return f'{self.path}/{disk.name}'
        raise KeyError(target)


def base_path(disk: Disk) -> str:
    """The file in the image cache below a disk."""
    return f'{BASES}/sxm-image-{disk.size_mib}'


def make_bases(plan: Plan) -> str:
    """Shell script: the image cache of one host.

    The content is made from a fixed key, so it is the same everywhere.
    """
    lines = [f'mkdir -p {BASES}']
    for disk in plan.disks:
        if disk.backed:
            path = base_path(disk)
            lines += [
                f'test -e {path} || {{',
                f'openssl enc -aes-128-ctr -nosalt -pass pass:{disk.size_mib}'
                ' -pbkdf2 -iter 1 -in /dev/zero 2>/dev/null | '
                f'head -c {_IMAGE_SIZE_MIB}M > {path}.new',
                f'truncate -s {disk.size_mib}M {path}.new',
                f'mv {path}.new {path}; }}',
            ]
    return '\n'.join(lines)


def make_disks(plan: Plan, empty_config: bool = False) -> str:
    """Shell script: the files of a guest's disks, as Nova makes them.

    :param empty_config: as Nova does it on the destination: a file of the
        config drive's size.
    """
    lines = [f'mkdir -p {plan.path}']
    for disk in plan.disks:
        path = shlex.quote(f'{plan.path}/{disk.name}')
        if disk.config and not empty_config:
            lines.append(f'head -c {disk.size_mib}M /dev/urandom > {path}')
        elif disk.backed:
            lines.append(
                f'qemu-img create -q -f qcow2 -b {base_path(disk)} -F raw '
                f'{path} {disk.size_mib}M'
            )
        else:
            lines.append(
                f'qemu-img create -q -f {disk.format} {path} {disk.size_mib}M'
            )
    return '\n'.join(lines)


# As Nova has it: io='native' only for preallocated images.
_DISK = """
<disk type='file' device='disk'>
  <driver name='qemu' type='{format}' cache='none' discard='unmap'/>
  <source file='{path}'/><target dev='{target}' bus='virtio'/>
</disk>"""

_CONFIG = """
<disk type='file' device='cdrom'>
  <driver name='qemu' type='raw' cache='none'/>
  <source file='{path}'/><target dev='{target}' bus='ide'/><readonly/>
</disk>"""

_DOMAIN = """
<domain type='qemu'>
  <name>sxm-{number}</name><uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory_mib}</memory><vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{images}/vmlinuz</kernel><initrd>{images}/initrd</initrd>
    <cmdline>{cmdline} sxm.ip={ip}</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/><memballoon model='none'/>
    {disks}
    <interface type='bridge'>
      <mac address='52:54:00:5c:4d:{number:02x}'/>
      <source bridge='br-lab'/><model type='virtio'/>
    </interface>
    <serial type='file'>
      <source path='/var/log/lab/guest-{number}.log'/>
    </serial>
  </devices>
</domain>"""


def domain_xml(plan: Plan, cmdline: str) -> str:
    """The domain, booting the guest's kernel directly."""
    disks = ''.join(
        (_CONFIG if disk.config else _DISK).format(
            format=disk.format,
            path=f'{plan.path}/{disk.name}',
            target=disk.target,
        )
        for disk in plan.disks
    )
    return _DOMAIN.format(
        number=plan.number,
        uuid=plan.uuid,
        memory_mib=plan.memory_mib,
        images=IMAGES,
        cmdline=saxutils.escape(cmdline),
        ip=plan.ip,
        disks=disks,
    )
