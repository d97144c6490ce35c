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

"""Both sides of a transfer on this machine, with QEMU's real tools."""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import ports
from sxm_openstack.transfer import nbd
from sxm_openstack.transfer import process
from sxm_openstack.transfer import relay_client
from sxm_openstack.transfer import server

from tests.lab import pki

MIB = 1 << 20
DEADLINE_S = 120.0
HELPER = os.environ.get('SXM_HELPER_PYTHON', '/usr/bin/python3')
SCRATCH = '/var/tmp'  # on a disk; /tmp may be a tmpfs


def run(*command):
    """Standard output; an exit code other than 0 fails the test."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        raise AssertionError(
            f'{" ".join(command)}: {done.returncode} {done.stderr}'
        )
    return done.stdout


def qemu_io(path, image_format, *commands):
    """Run qemu-io; it exits with 1 when one of its commands failed."""
    arguments = [part for one in commands for part in ('-c', one)]
    return run('qemu-io', '-f', image_format, *arguments, str(path))


def create(path, image_format, size_bytes, *, backing=None):
    extra = ['-b', str(backing), '-F', 'qcow2'] if backing else []
    run(
        'qemu-img',
        'create',
        '-q',
        '-f',
        image_format,
        *extra,
        str(path),
        str(size_bytes),
    )


def content_hash(path, image_format):
    """SHA-256 of what a guest sees in an image."""
    raw = f'{path}.content'
    run('qemu-img', 'convert', '-f', image_format, '-O', 'raw', path, raw)
    digest = hashlib.sha256()
    with open(raw, 'rb') as file:
        while data := file.read(MIB):
            digest.update(data)
    os.unlink(raw)
    return digest.hexdigest()


def allocated(path):
    return os.stat(path).st_blocks * 512


def wait_for(what, timeout_s=DEADLINE_S):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        result = what()
        if result:
            return result
        time.sleep(0.01)
    raise AssertionError(f'waited {timeout_s} s for {what}')


class StackCase(unittest.TestCase):
    """Images under a scratch directory; relays on the loopback device."""

    address = '127.0.0.1'

    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(tempfile.mkdtemp(prefix='sxm', dir=SCRATCH))
        self.addCleanup(shutil.rmtree, self.root, ignore_errors=True)
        self.authority = pki.Authority(self.root / 'ca')
        self.server = server.NBDServer(
            str(self.root / 'rd'),
            self.address,
            range(22000, 22500),
            helper_python=HELPER,
            peer=lambda: ['source'],
            pki=self.certify('destination'),
        )
        self.addCleanup(self.server.close)
        self.transfer = nbd.NBDTransfer(
            str(self.root / 'rs'),
            helper_python=HELPER,
            peer=['destination'],
            pki=self.certify('source'),
        )
        self.addCleanup(process.clean_directory, str(self.root / 'rs'))
        self.make_hosts()

    def certify(self, name):
        """Directory of the certificates of a host."""
        return str(self.authority.issue(self.root / f'pki-{name}', [name]))

    def make_hosts(self):
        """Empty directories for the images of both sides."""
        for name in ('source', 'destination'):
            path = self.root / name
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()

    def disks(self, image_format, size_bytes, **values):
        """The same disk on the source and on the destination."""
        ours = engine_disk.Disk(
            'vda',
            str(self.root / 'source' / 'disk'),
            image_format,
            size_bytes,
            **values,
        )
        path = str(self.root / 'destination' / 'disk')
        return ours, dataclasses.replace(ours, path=path)

    def blank(self, disk, size_bytes=None, backing=None):
        """Base and overlay, as the storage drivers make them."""
        create(
            disk.path,
            disk.format,
            size_bytes or disk.size_bytes,
            backing=backing,
        )
        self.overlay(disk)

    def overlay(self, disk):
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
            disk.path,
            '-F',
            disk.format,
            disk.overlay_path,
            str(disk.size_bytes),
        )

    def connect(self, disk):
        endpoint = self.server.start([disk])
        channels = [disk.base_channel, ports.DISKS_CHANNEL]
        if not disk.read_only:
            channels.append(disk.mirror_channel)
        link = self.transfer.connect(endpoint, channels)
        self.addCleanup(link.close)
        return link

    def begin(self, disk, link, rate=0, offset=0):
        copy = self.transfer.start_copy(
            disk,
            link.socket(disk.base_channel),
            link.export(disk.base_channel),
            rate_bytes_per_s=rate,
            offset=offset,
        )
        self.addCleanup(copy.close)
        return copy

    def copy_all(self, ours, theirs):
        """Copy a base from begin to end; the bytes on the wire."""
        link = self.connect(theirs)
        copy = self.begin(ours, link)
        last = self.finish(copy)
        copy.close()
        self.assertEqual(last.total_bytes, last.done_bytes)
        self.assertEqual(ours.size_bytes, last.offset)
        sent = link.meter(ours.base_channel).sent_bytes
        link.close()
        self.server.stop_exports()
        self.server.close()
        return sent

    def finish(self, copy):
        try:
            wait_for(lambda: copy.progress().finished)
        except exception.SXMError as error:
            error.add_note(self.said())
            raise
        return copy.progress()

    def said(self):
        """What every program of both sides has written, and which run."""
        lines = []
        for side in ('rs', 'rd'):
            for program in process.recorded(self.root / side):
                state = 'runs' if program.alive() else 'has ended'
                lines.append(f'{side}/{program.name} {state}')
                lines.append(program.log_tail())
            for mode in ('connect', 'listen'):
                client = relay_client.RelayClient(self.root / side, mode)
                with contextlib.suppress(OSError):
                    lines.append(f'{side}: {client.ask("stats")}')
        return '\n'.join(lines)

    def assert_same(self, ours, theirs):
        self.assertEqual(
            content_hash(ours.path, ours.format),
            content_hash(theirs.path, theirs.format),
        )

    def daemon(self, name):
        """The recorded program of that name, on either side."""
        for side in ('rd', 'rs'):
            for program in process.recorded(self.root / side):
                if program.name == name:
                    return program
        raise AssertionError(f'{name} does not run')


if sys.platform != 'linux':
    raise RuntimeError('qemu-storage-daemon and TCP_INFO need Linux')
