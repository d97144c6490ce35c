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

"""Checks of two hosts, and of a server that is to go from one to the other.

They change nothing.  All that is known of the destination is what it says.
"""

from collections.abc import Collection
from collections.abc import Iterator

from sxm_openstack.engine import checks
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.hypervisor import xml
from sxm_openstack.mirror import facts as mirror_facts

Facts = mirror_facts.Facts

CLOCK_TOLERANCE_S = 5.0


def hosts(here: Facts, there: Facts) -> Iterator[checks.Check]:
    """Whether the two fit each other."""
    yield _same(
        'instances-path',
        here.instances_path,
        there.instances_path,
        'Set [DEFAULT] instances_path to the same on all hosts.',
    )
    yield _same(
        'runtime-dir',
        here.runtime_dir,
        there.runtime_dir,
        'Set [sxm] runtime_dir to the same on all hosts.',
    )
    yield _same(
        'transfer-driver',
        here.transfer_driver,
        there.transfer_driver,
        'Set [sxm] transfer_driver to the same on all hosts.',
    )
    yield _versions(here, there)
    yield _clock(here, there)


def server(
    there: Facts,
    disks: Collection[engine_disk.Disk],
    machine: xml.Machine,
    reserve_percent: int,
) -> Iterator[checks.Check]:
    """Whether the destination has what the server needs.

    :param machine: its machine type, as of its live XML.
    :param reserve_percent: room for overlays, of the size of the disks.
    """
    yield _machine(there, machine)
    yield _formats(there, disks)
    yield _space(there, disks, reserve_percent)


def _same(name: str, here: str, there: str, remedy: str) -> checks.Check:
    if here == there:
        return checks.passed(name, f'It is {here} on both hosts.')
    return checks.failed(
        name, f'It is {here} on this host and {there} on the other.', remedy
    )


def _versions(here: Facts, there: Facts) -> checks.Check:
    text = (
        f'QEMU {checks.version_text(here.qemu_version)} here, '
        f'{checks.version_text(there.qemu_version)} there; libvirt '
        f'{checks.version_text(here.libvirt_version)} and '
        f'{checks.version_text(there.libvirt_version)}.'
    )
    if there.qemu_version < here.qemu_version:
        return checks.warned(
            'versions',
            text,
            'Guests that were started here may not run on the older QEMU '
            'there; see their machine type.',
        )
    return checks.passed('versions', text)


def _clock(here: Facts, there: Facts) -> checks.Check:
    apart_s = abs(here.time_s - there.time_s)
    text = f'The clocks are {apart_s:.1f} s apart.'
    if apart_s > CLOCK_TOLERANCE_S:
        return checks.warned(
            'clock', text, 'Let both hosts take the time from the same source.'
        )
    return checks.passed('clock', text)


def _machine(there: Facts, machine: xml.Machine) -> checks.Check:
    name = 'machine-type'
    if machine.arch != there.arch:
        return checks.passed(
            name, f'{machine.name} is of {machine.arch}: not compared.'
        )
    if machine.name in there.machines:
        return checks.passed(name, f'{machine.name} is known there.')
    return checks.failed(
        name,
        f'The QEMU of the destination has no machine type {machine.name}.',
        'Choose another destination, or upgrade its QEMU.',
    )


def _formats(
    there: Facts, disks: Collection[engine_disk.Disk]
) -> checks.Check:
    needed = {disk.format for disk in disks}
    missing = sorted(needed - set(there.formats))
    if missing:
        return checks.failed(
            'formats',
            f'The destination has no storage driver for {", ".join(missing)}.',
            'Install the same drivers on all hosts.',
        )
    return checks.passed(
        'formats', f'{", ".join(sorted(needed)) or "None"} can be stored.'
    )


def _space(
    there: Facts, disks: Collection[engine_disk.Disk], reserve_percent: int
) -> checks.Check:
    needed_bytes = sum(
        disk.allocated_bytes
        + (0 if disk.read_only else disk.size_bytes * reserve_percent // 100)
        for disk in disks
    )
    text = (
        f'{there.instances_path} has {there.free_bytes >> 20} MiB free, and '
        f'the disks with their overlays need {needed_bytes >> 20} MiB.'
    )
    if there.free_bytes < needed_bytes:
        return checks.failed(
            'space-destination',
            text,
            'Make room there, choose another destination, or lower [sxm] '
            'overlay_reserve_percent.',
        )
    return checks.passed('space-destination', text)
