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

"""Stand-ins for the programs of the NBD transfer, as shell scripts."""

import pathlib
import shutil
import tempfile
import unittest

from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.transfer import process

DAEMON = """\
#!/bin/sh
# Stand-in for qemu-storage-daemon: says that it serves, and waits.
while [ $# -gt 0 ]; do
    echo "$1" >> "$0.seen"
    [ "$1" = --pidfile ] && pidfile=$2
    shift
done
trap 'exit ${CODE:-0}' TERM
echo $$ > "$pidfile"
while :; do sleep 0.05; done
"""


class StubCase(unittest.TestCase):
    """A runtime directory, a disk, and scripts in place of programs."""

    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(tempfile.mkdtemp(prefix='sxm'))
        self.addCleanup(shutil.rmtree, self.root, ignore_errors=True)
        self.runtime = self.root / 'run'
        self.addCleanup(process.clean_directory, str(self.runtime))
        self.disk = engine_disk.Disk('vda', '/disk', 'qcow2', 3 << 20)
        self.daemon = self.script('daemon', DAEMON)

    def script(self, name, text):
        path = self.root / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def names(self):
        """Recorded programs."""
        return [program.name for program in process.recorded(self.runtime)]

    def seen(self):
        """Arguments of all daemons, one a line."""
        return pathlib.Path(f'{self.daemon}.seen').read_text().splitlines()
