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

import contextlib
import ctypes
import os
import subprocess
import time

from sxm_openstack import exception

from tests.functional.transfer import stack

MIB = stack.MIB
CLONE_NEWNET = 0x40000000


class Network:
    """Two network namespaces with a link between them."""

    def __init__(self):
        number = os.getpid()
        self.names = (f'sxm{number}s', f'sxm{number}d')
        self.device = 'link0'

    def up(self):
        source, destination = self.names
        for name in self.names:
            stack.run('ip', 'netns', 'add', name)
        stack.run(
            'ip', 'link', 'add', self.device, 'netns', source, 'type', 'veth',
            'peer', 'name', self.device, 'netns', destination,
        )  # fmt: skip
        for index, name in enumerate(self.names):
            self.ip(name, 'addr', 'add', f'10.99.0.{index + 1}/24')
            self.ip(name, 'link', 'set', 'up')

    def down(self):
        for name in self.names:
            stack.run('ip', 'netns', 'delete', name)

    def ip(self, name, what, verb, *arguments):
        stack.run('ip', '-n', name, what, verb, *arguments, 'dev', self.device)

    def shape(self, *discipline):
        """Token bucket in front of the source's end, see tc-tbf(8)."""
        stack.run(
            'tc', '-n', self.names[0], 'qdisc', 'replace', 'dev', self.device,
            'root', 'tbf', *discipline,
        )  # fmt: skip

    def cut(self):
        """Packets vanish in both directions; nobody is told.

        A queue that is shorter than any packet; netem, made for this, is not
        in every kernel.
        """
        for name in self.names:
            stack.run(
                'tc', '-n', name, 'qdisc', 'replace', 'dev', self.device,
                'root', 'tbf', 'rate', '1kbit', 'burst', '10', 'limit', '10',
            )  # fmt: skip

    def mend(self):
        for name in self.names:
            stack.run(
                'tc', '-n', name, 'qdisc', 'delete', 'dev', self.device,
                'root',
            )  # fmt: skip

    @contextlib.contextmanager
    def inside(self, index):
        """What this thread starts runs in a namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        home = os.open('/proc/thread-self/ns/net', os.O_RDONLY)
        away = os.open(f'/run/netns/{self.names[index]}', os.O_RDONLY)
        try:
            if libc.setns(away, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), 'setns')
            yield
            if libc.setns(home, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), 'setns')
        finally:
            os.close(home)
            os.close(away)


class LinkTest(stack.StackCase):
    """Real NBD over a link that is slow, or dies."""

    address = '10.99.0.2'

    def setUp(self):
        self.network = Network()
        self.network.up()
        self.addCleanup(self.network.down)
        super().setUp()
        self.ours, self.theirs = self.disks('raw', 64 * MIB)
        stack.create(self.ours.path, 'raw', self.ours.size_bytes)
        stack.qemu_io(self.ours.path, 'raw', 'write -P 1 0 48M')
        self.blank(self.theirs)
        with self.network.inside(1):
            self.endpoint = self.server.start([self.theirs])
        with self.network.inside(0):
            self.link = self.transfer.connect(
                self.endpoint, ['vda.base', 'vda.mirror', 'disks']
            )
        self.addCleanup(self.link.close)

    def writer(self):
        """A writer like QEMU's mirror job: one request after the other."""
        name = self.link.export('vda.mirror')
        url = f'nbd+unix:///{name}?socket={self.link.socket("vda.mirror")}'
        process = subprocess.Popen(
            ['qemu-io', '-f', 'raw', url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.kill)
        self.write(process)
        return process

    def begin_write(self, process):
        process.stdin.write('write -P 3 0 64k\n')
        process.stdin.flush()

    def end_write(self, process):
        """What qemu-io says of the write, within the test's time."""
        while True:
            line = process.stdout.readline()
            if not line:
                raise AssertionError('qemu-io has ended')
            if 'wrote' in line or 'failed' in line:
                return line

    def write(self, process):
        self.begin_write(process)
        answer = self.end_write(process)
        self.assertIn('wrote', answer)

    def test_dead_link_is_cut_under_a_waiting_writer(self):
        process = self.writer()
        self.network.cut()
        begun_at = time.monotonic()
        self.begin_write(process)
        self.assertIn('failed', self.end_write(process))
        took_s = time.monotonic() - begun_at
        self.assertGreater(took_s, 4.9)
        self.assertLess(took_s, 6.0)
        reason = self.link.failure()
        self.assertIn('vda.mirror', reason)
        self.assertIn('10.99.0.2', reason)

    def test_dead_link_is_cut_under_a_copy(self):
        copy = self.begin(self.ours, self.link, rate=MIB)
        stack.wait_for(lambda: copy.progress().done_bytes)
        self.network.cut()
        begun_at = time.monotonic()
        with self.assertRaises(exception.CopyFailed):
            self.finish(copy)
        self.assertLess(time.monotonic() - begun_at, 7.0)
        self.assertIn('vda.base', self.link.failure())

    def test_short_loss_is_survived(self):
        process = self.writer()
        self.network.cut()
        self.begin_write(process)
        time.sleep(2.0)
        self.network.mend()
        self.assertIn('wrote', self.end_write(process))
        self.assertIsNone(self.link.failure())

    def test_idle_connection_survives_a_loss(self):
        process = self.writer()
        self.link.set_watchdog(2.0)
        # Longer than it counts as in use when the link dies.
        time.sleep(4.0)
        self.network.cut()
        time.sleep(5.0)
        self.network.mend()
        self.assertIsNone(self.link.failure())
        self.write(process)

    def test_slow_link_is_not_a_dead_one(self):
        self.network.shape(
            'rate', '1mbit', 'burst', '16kb', 'latency', '200ms'
        )
        copy = self.begin(self.ours, self.link)
        process = self.writer()
        until = time.monotonic() + 8.0
        while time.monotonic() < until:
            self.write(process)
            self.assertFalse(copy.progress().finished)
            self.assertIsNone(self.link.failure())
        self.assertGreater(copy.progress().done_bytes, 0)

    def test_round_trip_times_are_those_of_the_link(self):
        process = self.writer()
        free = self.meter()
        self.assertLess(free.min_rtt_s, 0.02)
        # A queue of up to 100 ms, which a copy keeps full.
        self.network.shape(
            'rate', '8mbit', 'burst', '16kb', 'latency', '100ms'
        )
        self.begin(self.ours, self.link)
        until = time.monotonic() + 3.0
        while time.monotonic() < until:
            self.write(process)
        queued = self.meter()
        self.assertGreater(queued.rtt_s, 0.02)
        self.assertLess(queued.rtt_s, 0.5)
        self.assertLessEqual(queued.min_rtt_s, free.min_rtt_s)

    def meter(self):
        def look():
            meter = self.link.meter('vda.mirror')
            return meter if meter.min_rtt_s else None

        return stack.wait_for(look)
