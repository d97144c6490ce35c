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

"""Hands to write and read image files in tests, with qemu-io."""

import subprocess

from sxm_openstack.storage import image

BLOCK_BYTES = 65536
SIZE_BYTES = 16 << 20


def qemu_io(path: str, image_format: str, *commands: str) -> str:
    arguments = ['qemu-io', '-f', image_format]
    for command in commands:
        arguments += ['-c', command]
    done = subprocess.run(
        [*arguments, path], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AssertionError(f'{commands}: {done.stdout}{done.stderr}')
    return done.stdout


def write(path: str, image_format: str, block: int, value: int) -> None:
    """Fill a block."""
    offset = block * BLOCK_BYTES
    qemu_io(path, image_format, f'write -q -P {value} {offset} {BLOCK_BYTES}')


def holds(path: str, image_format: str, block: int, value: int) -> bool:
    """Whether a reader of the image finds a block filled with a value."""
    offset = block * BLOCK_BYTES
    said = qemu_io(
        path, image_format, f'read -P {value} {offset} {BLOCK_BYTES}'
    )
    return 'verification failed' not in said


def make(path: str, image_format: str) -> str:
    image.create(path, image_format, SIZE_BYTES)
    return path
