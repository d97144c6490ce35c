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

import random

from sxm_openstack.engine import disk as engine_disk

from tests.functional.transfer import stack

MIB = stack.MIB


class MirrorTest(stack.StackCase):
    """New writes reach the overlay while the base is still being copied."""

    def url(self, link, disk):
        name = link.export(disk.mirror_channel)
        return f'nbd+unix:///{name}?socket={link.socket(disk.mirror_channel)}'

    def pieces(self, size_bytes):
        """Writes of 512 bytes to 8 KiB, at any sector."""
        dice = random.Random(7)
        for _ in range(200):
            length = 512 * dice.choice((1, 1, 2, 8, 16))
            sector = dice.randrange((size_bytes - length) // 512)
            yield f'write -P {dice.randrange(1, 255)} {sector * 512} {length}'

    def merge(self, image_format):
        """Mirror, copy, fold; the content expected and the content found."""
        ours, theirs = self.disks(image_format, 64 * MIB)
        stack.create(ours.path, image_format, ours.size_bytes)
        stack.qemu_io(
            ours.path, image_format, 'write -P 170 0 30M', 'write -P 85 50M 8M'
        )
        self.blank(theirs)
        link = self.connect(theirs)
        writes = [
            *self.pieces(ours.size_bytes),
            'discard 2M 1M',
            'write -z 5M 512',
            'write -z -u 6M 1M',
        ]
        half = len(writes) // 2
        stack.qemu_io(self.url(link, theirs), 'raw', *writes[:half])
        copy = self.begin(ours, link, rate=MIB)
        stack.wait_for(lambda: copy.progress().done_bytes)
        stack.qemu_io(self.url(link, theirs), 'raw', *writes[half:])
        self.assertFalse(copy.progress().finished)
        copy.set_rate(0)
        self.finish(copy)
        copy.close()
        link.close()
        self.server.stop_exports()
        # The overlay now has its real base below it.
        stack.run('qemu-img', 'check', '-q', theirs.overlay_path)
        stack.run('qemu-img', 'commit', '-q', theirs.overlay_path)
        stack.qemu_io(ours.path, image_format, *writes)
        return (
            stack.content_hash(ours.path, image_format),
            stack.content_hash(theirs.path, image_format),
        )

    def test_over_a_qcow2_base(self):
        expected, found = self.merge('qcow2')
        self.assertEqual(expected, found)

    def test_over_a_raw_base(self):
        expected, found = self.merge('raw')
        self.assertEqual(expected, found)

    def test_default_clusters_would_corrupt(self):
        """The check itself: it must see what it is there for."""
        self.overlay = self.wrong_overlay
        expected, found = self.merge('qcow2')
        self.assertNotEqual(expected, found)

    def wrong_overlay(self, disk: engine_disk.Disk) -> None:
        stack.run(
            'qemu-img', 'create', '-q', '-u', '-f', 'qcow2', '-b', disk.path,
            '-F', disk.format, disk.overlay_path, str(disk.size_bytes),
        )  # fmt: skip
