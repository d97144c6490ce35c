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

"""Lab guests under libvirt alone, in a lab without OpenStack.

::

    lab_guest = LabGuest("g1", "10.77.0.50", image, [
        Disk("vda", 1 << 30), Disk("vdb", 512 << 20, fmt="raw")])
    lab_guest.create_disks(host)
    guest = lab_guest.start(host, collector)
    guest.write("vda", rate_bytes_per_s=10 << 20)
"""

from __future__ import annotations

import collections.abc
import dataclasses
import pathlib
import shutil
import uuid
from xml.etree import ElementTree

from tests.lab import collector as collector_mod
from tests.lab import host as host_mod
from tests.lab import paths
from tests.lab.guest import build
from tests.lab.guest import control

#: Where a guest's disks are, inside its host; each host has its own.
INSTANCES = "/var/lib/nova/instances"
#: Where serial consoles are written, inside a host.
LOGS = "/var/log/lab"


@dataclasses.dataclass(frozen=True, slots=True)
class Disk:
    """A file-backed disk.

    :ivar target: name in the guest, ``vda`` on.
    :ivar fmt: ``qcow2`` or ``raw``.
    :ivar path: in the host; "" takes ``INSTANCES/GUEST/TARGET``.
    :ivar backing: file that a qcow2 disk lies on, "" none.
    :ivar readonly: for disks that are copied and never written.
    """

    target: str
    size_bytes: int
    fmt: str = "qcow2"
    path: str = ""
    backing: str = ""
    backing_fmt: str = "qcow2"
    readonly: bool = False


def mac_of(ip: str) -> str:
    """A MAC address that belongs to the guest's IPv4 address."""
    return "52:54:" + ":".join(f"{int(part):02x}" for part in ip.split("."))


def domain_xml(
    name: str,
    disks: collections.abc.Iterable[Disk],
    ip: str,
    kernel: str,
    initrd: str,
    cmdline: str = build.CMDLINE,
    memory_mib: int = 192,
    vcpus: int = 1,
    domain_uuid: str | None = None,
) -> str:
    """The libvirt domain of a lab guest; QEMU by TCG, direct kernel boot.

    The serial console goes to ``LOGS/NAME-serial.log``, because that
    directory is on every host that the guest may move to.

    :param disks: with their paths.
    :param kernel: path inside the host, the same on every host.
    :param domain_uuid: None draws one.
    """
    domain = ElementTree.Element("domain", type="qemu")

    def add(
        parent: ElementTree.Element,
        tag: str,
        text: str = "",
        **attributes: str,
    ) -> ElementTree.Element:
        element = ElementTree.SubElement(parent, tag, attributes)
        element.text = text or None
        return element

    add(domain, "name", name)
    add(domain, "uuid", domain_uuid or str(uuid.uuid4()))
    add(domain, "memory", str(memory_mib), unit="MiB")
    add(domain, "vcpu", str(vcpus))
    boot = add(domain, "os")
    add(boot, "type", "hvm", arch="x86_64", machine="pc")
    add(boot, "kernel", kernel)
    add(boot, "initrd", initrd)
    add(boot, "cmdline", f"{cmdline} sxm.ip={ip}")
    features = add(domain, "features")
    add(features, "acpi")
    add(features, "apic")
    # A model that TCG has whole, so that it may move between any hosts.
    cpu = add(domain, "cpu", mode="custom", match="exact", check="none")
    add(cpu, "model", "Nehalem", fallback="forbid")
    add(domain, "on_crash", "destroy")
    devices = add(domain, "devices")
    for disk in disks:
        entry = add(devices, "disk", type="file", device="disk")
        add(
            entry,
            "driver",
            name="qemu",
            type=disk.fmt,
            cache="none",
            io="native",
            discard="unmap",
        )
        add(entry, "source", file=disk.path)
        add(entry, "target", dev=disk.target, bus="virtio")
        if disk.readonly:
            add(entry, "readonly")
    link = add(devices, "interface", type="bridge")
    add(link, "mac", address=mac_of(ip))
    add(link, "source", bridge=paths.BRIDGE)
    add(link, "model", type="virtio")
    serial = add(devices, "serial", type="file")
    add(serial, "source", path=f"{LOGS}/{name}-serial.log", append="on")
    add(devices, "controller", type="usb", model="none")
    add(devices, "memballoon", model="none")
    return ElementTree.tostring(domain, encoding="unicode")


class LabGuest:
    """A guest on a lab host that has libvirt and no OpenStack.

    It may have moved since it was started: the methods take the host.

    :param ip: in 10.77.0.0/24, of no lab host and no other guest.
    :param image: what :func:`build.build` returned.
    :param disks: paths may be empty, see :class:`Disk`.
    """

    def __init__(
        self,
        name: str,
        ip: str,
        image: build.GuestImage,
        disks: collections.abc.Iterable[Disk],
        memory_mib: int = 192,
        vcpus: int = 1,
    ) -> None:
        self.name = name
        self.ip = ip
        self.uuid = str(uuid.uuid4())
        self.directory = f"{INSTANCES}/{name}"
        self.disks = tuple(
            disk
            if disk.path
            else dataclasses.replace(
                disk, path=f"{self.directory}/{disk.target}"
            )
            for disk in disks
        )
        self._image = image
        self._memory_mib = memory_mib
        self._vcpus = vcpus

    def xml(self) -> str:
        """The domain, as :meth:`start` creates it."""
        inside = pathlib.PurePath("/etc/lab", self._image.kernel.parent.name)
        return domain_xml(
            self.name,
            self.disks,
            self.ip,
            kernel=str(inside / self._image.kernel.name),
            initrd=str(inside / self._image.initrd.name),
            cmdline=self._image.cmdline,
            memory_mib=self._memory_mib,
            vcpus=self._vcpus,
            domain_uuid=self.uuid,
        )

    def create_disks(self, host: host_mod.Host) -> None:
        """Make the disks' files, empty, with qemu-img.

        :raises CommandFailed: qemu-img failed.
        """
        for disk in self.disks:
            host.run(["mkdir", "-p", str(pathlib.Path(disk.path).parent)])
            backing = (
                ["-b", disk.backing, "-F", disk.backing_fmt]
                if disk.backing
                else []
            )
            host.run(
                [
                    "qemu-img",
                    "create",
                    "-q",
                    "-f",
                    disk.fmt,
                    *backing,
                    disk.path,
                    str(disk.size_bytes),
                ]
            )

    def start(
        self,
        host: host_mod.Host,
        collector: collector_mod.Collector,
        timeout_s: float = 180.0,
    ) -> control.GuestControl:
        """Create the (transient) domain and wait until its workload answers.

        :raises CommandFailed: libvirt refused.
        :raises GuestTimeout: it did not boot; its serial console is in the
            host's log directory.
        """
        self._provide_kernel(host)
        (host.log_dir / f"{self.name}-serial.log").unlink(missing_ok=True)
        host.run(["virsh", "-q", "create", "/dev/stdin"], input=self.xml())
        guest = collector.guest(self.ip)
        guest.wait_ready(timeout_s)
        return guest

    def suspend(self, host: host_mod.Host) -> None:
        """Pause the virtual machine."""
        host.run(["virsh", "-q", "suspend", self.name])

    def resume(self, host: host_mod.Host) -> None:
        """Let the virtual machine go on."""
        host.run(["virsh", "-q", "resume", self.name])

    def is_on(self, host: host_mod.Host) -> bool:
        """Whether libvirt on this host has the domain, in any state."""
        listed = host.run(["virsh", "-q", "list", "--all", "--name"]).stdout
        return self.name in listed.split()

    def destroy(self, host: host_mod.Host) -> None:
        """End the domain if it is on this host; its disks stay."""
        if self.is_on(host):
            host.run(["virsh", "-q", "destroy", self.name])

    def remove_disks(self, host: host_mod.Host) -> None:
        """Remove the directory with the guest's disks on this host."""
        host.run(["rm", "-rf", self.directory])

    def serial(self, host: host_mod.Host) -> str:
        """What the guest said on its console while on this host."""
        file = host.log_dir / f"{self.name}-serial.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def _provide_kernel(self, host: host_mod.Host) -> None:
        # All hosts of a lab share this directory as /etc/lab.
        target = host.state / "shared/etc" / self._image.kernel.parent.name
        if target.is_dir():
            return
        partial = target.with_suffix(".partial")
        partial.mkdir(exist_ok=True)
        for file in (self._image.kernel, self._image.initrd):
            shutil.copy(file, partial)
        partial.rename(target)
