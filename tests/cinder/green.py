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

"""A copy under Cinder's green threads: ``python -m tests.cinder.green``.

Prints how often another thread ran meanwhile; with a call that blocks the
process it could not.
"""

import os

os.environ['OS_CINDER_DISABLE_EVENTLET_PATCHING'] = 'false'

from cinder import monkey_patch

monkey_patch.patch()

import subprocess  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402

from sxm_openstack.transfer import base  # noqa: E402
from sxm_openstack.transfer import volume  # noqa: E402

MIB = 1 << 20
SIZE = 64 * MIB


def main(directory):
    paths = [f'{directory}/{name}' for name in ('from', 'to')]
    for path in paths:
        subprocess.run(['truncate', '-s', str(SIZE), path], check=True)
    with open(paths[0], 'r+b') as file:
        file.write(os.urandom(32 * MIB))
    turns = []
    over = threading.Event()

    def other():
        while not over.is_set():
            turns.append(time.monotonic())
            time.sleep(0.01)

    thread = threading.Thread(target=other)
    thread.start()
    volumes = [
        volume.at_path(path, 'raw', SIZE, thin_device=True) for path in paths
    ]
    volume.VolumeCopy(f'{directory}/run', *volumes, base.Settings()).run(
        volume.Orders(rate_bytes_per_s=lambda: 16 * MIB),
        lambda progress: None,
    )
    over.set()
    thread.join()
    subprocess.run(['cmp', *paths], check=True)
    print(len(turns))


if __name__ == '__main__':
    with tempfile.TemporaryDirectory(dir='/var/tmp') as scratch:
        main(scratch)
