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

"""A real guest for contract tests: QEMU and libvirt, no operating system.

The guest is a firmware that finds nothing to boot.  Its disks are written
and read through QEMU's own ``qemu-io`` command, which goes through the same
block backend as the guest's device.  Runs as root on a host with libvirtd.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import uuid

import libvirt
import libvirt_qemu

from sxm_openstack.hypervisor import connection
from sxm_openstack.hypervisor import domain as hypervisor_domain

from tests.contract import domain as contract

BLOCK_BYTES = 65536
SIZE_BYTES = 64 * 1024 * 1024

_DISK = """
<disk type='file' device='disk'>
  <driver name='qemu' type='{format}' cache='none' discard='unmap'/>
  <source file='{path}'/><target dev='{target}' bus='virtio'/>{extra}
</disk>"""

_DOMAIN = """
<domain type='qemu'>
  <name>{name}</name><uuid>{uuid}</uuid>
  <memory unit='MiB'>64</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/><memballoon model='none'/>
    {disks}
  </devices>
</domain>"""


def run(*argv: str) -> str:
    """Run a tool; its output, or an error with it."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f'{argv} failed: {done.stdout}{done.stderr}')
    return done.stdout


def create_overlay(
    path: str, backing_path: str, backing_format: str, size_bytes: int
) -> None:
    """An empty overlay, as the storage driver of the source makes it."""
    run(
        'qemu-img',
        'create',
        '-q',
        '-u',
        '-f',
        'qcow2',
        '-o',
        'cluster_size=16k,extended_l2=on',
        '-b',
        backing_path,
        '-F',
        backing_format,
        path,
        str(size_bytes),
    )


class Server:
    """The destination's end of a mirror: an overlay behind a socket."""

    def __init__(self, directory: pathlib.Path, size_bytes: int) -> None:
        self.path = directory / 'mirrored'
        self.socket = str(directory / 'nbd')
        run(
            'qemu-img',
            'create',
            '-q',
            '-f',
            'qcow2',
            '-o',
            'cluster_size=16k,extended_l2=on',
            str(self.path),
            str(size_bytes),
        )
        stand_in = json.dumps(
            {
                'driver': 'null-co',
                'node-name': 'z',
                'size': size_bytes,
                'read-zeroes': True,
            }
        )
        self._process = subprocess.Popen(
            [
                'qemu-storage-daemon',
                '--blockdev',
                'driver=file,node-name=f,cache.direct=on,'
                f'discard=unmap,filename={self.path}',
                '--blockdev',
                stand_in,
                '--blockdev',
                'driver=qcow2,node-name=o,file=f,backing=z,'
                'discard=unmap,cache.direct=on',
                '--nbd-server',
                f'addr.type=unix,addr.path={self.socket}',
                '--export',
                f'type=nbd,id=e,node-name=o,name={contract.EXPORT},'
                'writable=on',
            ]
        )
        deadline = time.monotonic() + 10
        while not pathlib.Path(self.socket).exists():
            if self._process.poll() is not None:
                raise AssertionError('qemu-storage-daemon did not start')
            if time.monotonic() > deadline:
                raise AssertionError('qemu-storage-daemon does not listen')
            time.sleep(0.01)

    def stop(self) -> None:
        """End it in order: it flushes and closes its file."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it accept and answer nothing, as a dead link does."""
        self._process.send_signal(signal.SIGSTOP)

    def _end(self, how: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(how)
            # A stopped process takes no other signal in.
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(20)

    def read(self, block: int) -> int:
        """Value of a block in the stopped server's file."""
        return read_file(str(self.path), 'qcow2', block)


def read_file(path: str, image_format: str, block: int) -> int:
    """The value that fills a block of an image that may be in use."""
    offset = block * BLOCK_BYTES
    text = run(
        'qemu-io',
        '-U',
        '-r',
        '-f',
        image_format,
        '-c',
        f'read -v {offset} {BLOCK_BYTES}',
        path,
    )
    values = {
        byte
        for line in text.splitlines()
        if line[8:9] == ':' and len(line) > 40
        for byte in line[9:58].split()
    }
    if len(values) != 1:
        raise AssertionError(f'block {block} of {path} holds {values}')
    return int(values.pop(), 16)


class RealGuest:
    """A running domain with disks, and hands to use them."""

    def __init__(
        self, disks: dict[str, str] | None = None, *, persistent: bool = False
    ) -> None:
        """:param disks: target to format; with a backing image below each."""
        self.formats = disks or {'vda': 'qcow2', 'vdb': 'raw'}
        self._servers: list[Server] = []
        self.directory = pathlib.Path(
            tempfile.mkdtemp(prefix='sxm-contract-', dir='/var/tmp')
        )
        self.uuid = str(uuid.uuid4())
        self.connection = connection.Connection()
        self._image = self._make_image()
        xml = _DOMAIN.format(
            name=f'sxm-contract-{self.uuid[:8]}',
            uuid=self.uuid,
            disks=''.join(self._make_disk(target) for target in self.formats)
            + self._make_config_drive(),
        )
        virt = self.connection.get()
        if persistent:
            virt.defineXML(xml).create()
        else:
            virt.createXML(xml)
        self.domain = hypervisor_domain.LibvirtDomain(
            self.connection.get, self.uuid, host='contract'
        )

    def _make_image(self) -> str:
        path = str(self.directory / 'image')
        run('qemu-img', 'create', '-q', '-f', 'raw', path, str(SIZE_BYTES))
        run(
            'qemu-io',
            '-f',
            'raw',
            '-c',
            f'write -P {contract.IMAGE_VALUE} 0 {BLOCK_BYTES}',
            path,
        )
        return path

    def _make_disk(self, target: str) -> str:
        path = self.base(target)
        image_format = self.formats[target]
        if image_format == 'qcow2':
            run(
                'qemu-img',
                'create',
                '-q',
                '-f',
                'qcow2',
                '-b',
                self._image,
                '-F',
                'raw',
                path,
            )
        else:
            run(
                'qemu-img',
                'create',
                '-q',
                '-f',
                image_format,
                path,
                str(SIZE_BYTES),
            )
        return _DISK.format(
            path=path, target=target, format=image_format, extra=''
        )

    def _make_config_drive(self) -> str:
        path = str(self.directory / 'disk.config')
        run('qemu-img', 'create', '-q', '-f', 'raw', path, '1M')
        return (
            _DISK.format(
                path=path, target='hda', format='raw', extra='<readonly/>'
            )
            .replace("device='disk'", "device='cdrom'")
            .replace("bus='virtio'", "bus='ide'")
        )

    def image(self) -> str:
        """The image below the base of a qcow2 disk."""
        return self._image

    def base(self, target: str) -> str:
        """The disk's ordinary file."""
        return str(self.directory / f'{target}.base')

    def overlay(self, target: str, number: int = 1) -> str:
        """Make an empty overlay for the disk as it is now."""
        path = f'{self.base(target)}.overlay{number}'
        current = self.domain.source_path(target)
        below = (
            self.formats[target] if current == self.base(target) else 'qcow2'
        )
        create_overlay(path, current, below, SIZE_BYTES)
        return path

    def serve(self) -> Server:
        """A destination for a mirror, with its ``socket``."""
        directory = self.directory / f'server{len(self._servers)}'
        directory.mkdir()
        server = Server(directory, SIZE_BYTES)
        self._servers.append(server)
        return server

    def monitor(self, command: str) -> None:
        """Run a human monitor command."""
        libvirt_qemu.qemuMonitorCommand(
            self.domain.lookup(),
            command,
            libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP,
        )

    def io(self, target: str, command: str) -> None:
        """Run a ``qemu-io`` command on the guest's own block backend."""
        index = list(self.formats).index(target)
        device = f'/machine/peripheral/virtio-disk{index}/virtio-backend'
        self.monitor(f'qemu-io -d {device} "{command}"')

    def write(
        self, target: str, block: int, value: int, count: int = 1
    ) -> None:
        """Fill blocks as the guest; returns when QEMU acknowledged it.

        What ``qemu-io`` says of an error is not seen here, the disk's own
        counters are.
        """
        before = self._writes(target)
        offset, length = block * BLOCK_BYTES, count * BLOCK_BYTES
        self.io(target, f'aio_write -q -P {value} {offset} {length}')
        self.io(target, 'aio_flush')
        if self._writes(target) != before + 1:
            raise OSError(f'the write to block {block} of {target} failed')

    def _writes(self, target: str) -> int:
        return self.domain.write_stats(target).operations

    def read(self, target: str, block: int) -> int:
        """The value that fills a block, as the guest sees it."""
        path = self.domain.source_path(target)
        return self.read_file(path, block)

    def read_file(self, path: str, block: int) -> int:
        """Value of a block of a file and its chain, flushed before."""
        for target in self.formats:
            self.io(target, 'flush')
        image_format = 'qcow2'
        for target, its_format in self.formats.items():
            if path == self.base(target):
                image_format = its_format
        if path == self._image:
            image_format = 'raw'
        return read_file(path, image_format, block)

    def begin_commit(self, target: str, base: str) -> None:
        """Leave a commit running, as a caller that died does."""
        self.domain.lookup().blockCommit(
            target, base, None, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE
        )

    def destroy(self) -> None:
        """Remove the domain; its files stay to be looked at."""
        try:
            domain = self.domain.lookup()
        except libvirt.libvirtError:
            return
        with contextlib.suppress(libvirt.libvirtError):
            domain.destroy()
        with contextlib.suppress(libvirt.libvirtError):
            domain.undefine()

    def close(self) -> None:
        """Leave nothing behind."""
        self.domain.close()
        for server in self._servers:
            server.kill()
        self.destroy()
        self.connection.close()
        shutil.rmtree(self.directory)


def allocated_bytes(path: str) -> int:
    """How much of a qcow2 image has content of its own."""
    extents = json.loads(
        run('qemu-img', 'map', '--output=json', '-f', 'qcow2', path)
    )
    return sum(one['length'] for one in extents if one['data'])
