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

"""Two volumes in real files, attached without a connector."""

import hashlib
import os
import subprocess
import tempfile
from unittest import mock

from cinder import utils as cinder_utils
from cinder.volume import rpcapi
from cinder.volume import volume_utils

from sxm_openstack.cinder import copies

from tests.cinder import base

GIB = 1 << 30


def qemu(program, *arguments):
    done = subprocess.run(
        [program, *arguments], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise AssertionError(f'{program} {arguments}: {done.stderr}')


def content(path, image_format):
    """SHA-256 of what a guest sees."""
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(path)) as raw:
        qemu(
            'qemu-img',
            'convert',
            '-f',
            image_format,
            '-O',
            'raw',
            path,
            raw.name,
        )
        return hashlib.file_digest(raw, 'sha256').hexdigest()


class ImagesCase(base.ManagerCase):
    """``self.files`` has path and format of each volume, by id."""

    def setUp(self):
        super().setUp()
        self.root = self.useTemporary()
        if self.manager == base.OURS:
            self.flags(state_dir=f'{self.root}/state', group='sxm_volume')
            self.volume._copies = copies.Copies(
                self.volume.host, self.volume._report
            )
        self.files = {}
        self.attached = []
        self.capabilities = {}
        for target, name, new in (
            (self.volume, '_attach_volume', self.attach),
            (self.volume, '_detach_volume', self.detach),
            (rpcapi.VolumeAPI, 'get_capabilities', self.get_capabilities),
            (volume_utils, 'brick_get_connector_properties', mock.Mock()),
            # What Cinder starts as root may run as anybody here.
            (cinder_utils, 'get_root_helper', lambda: 'env'),
        ):
            patcher = mock.patch.object(target, name, new)
            patcher.start()
            self.addCleanup(patcher.stop)

    def useTemporary(self):
        directory = tempfile.TemporaryDirectory(dir='/var/tmp')
        self.addCleanup(directory.cleanup)
        return directory.name

    def attach(self, ctxt, volume, properties, **named):
        path, image_format = self.files[volume.id]
        self.attached.append(volume.id)
        return {
            'conn': {'data': {'format': image_format}},
            'device': {'path': path},
        }

    def detach(self, ctxt, attach_info, volume, properties, **named):
        self.attached.remove(volume.id)

    def get_capabilities(self, *arguments):
        return self.capabilities

    def make_image(self, image_format, *commands, **values):
        """A volume of 1 GiB, and what qemu-io wrote into it."""
        volume = self.make_volume(**values)
        path = f'{self.root}/{volume.id}'
        qemu('qemu-img', 'create', '-f', image_format, path, str(GIB))
        if image_format == 'raw':
            os.truncate(path, 0)
            os.truncate(path, GIB)
        for command in commands:
            qemu('qemu-io', '-f', image_format, '-c', command, path)
        self.files[volume.id] = (path, image_format)
        return volume

    def content(self, volume):
        return content(*self.files[volume.id])

    def allocated(self, volume):
        return os.stat(self.files[volume.id][0]).st_blocks * 512
