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

import dataclasses
import os
import socket
import threading
import time
import unittest
from unittest import mock

from tests.lab import collector as collector_mod
from tests.lab.guest import answers
from tests.lab.guest import protocol
from tests.lab.guest import sockets
from tests.unit.lab.test_collector_protocol import TICK


class FakeGuest:
    """A guest on the loopback, which can lose, repeat and refuse.

    Like the real one it does a request once and repeats the reply.

    :ivar lose: so many datagrams that arrive are dropped.
    :ivar lose_replies: so many replies are not sent.
    :ivar done: what it did, as (verb, arguments).
    """

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(('127.0.0.1', 0))
        self.port = self.socket.getsockname()[1]
        self.lose = self.lose_replies = 0
        self.times_each = 1
        self.done = []
        self.subscribed = {}
        self.answers = {}
        self.jobs = ['ok state=running done_bytes=5']
        self._kept = {}
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self):
        self.socket.sendto(b'end', ('127.0.0.1', self.port))
        self._thread.join()
        self.socket.close()

    def tick(self, **fields):
        datagram = protocol.write_tick(dataclasses.replace(TICK, **fields))
        for address in self.subscribed:
            self.socket.sendto(datagram, address)

    def _serve(self):
        while True:
            datagram, address = self.socket.recvfrom(65536)
            if datagram == b'end':
                return
            _, client, number, verb, *words = datagram.decode().split(' ')
            if verb == 'subscribe':
                self.subscribed[address] = words
                continue
            if self.lose:
                self.lose -= 1
                continue
            key = client, number
            if key not in self._kept:
                self.done.append((verb, dict(w.split('=') for w in words)))
                self._kept[key] = self._act(verb)
            reply = f'SXM1 {client} {number} {self._kept[key]}'.encode()
            if self.lose_replies:
                self.lose_replies -= 1
                continue
            for _ in range(self.times_each):
                self.socket.sendto(reply, address)

    def _act(self, verb):
        if verb == 'job':
            return self.jobs.pop(0)
        return self.answers.get(verb, 'error unknown verb')


class CollectorCase(unittest.TestCase):
    def setUp(self):
        self.fake = FakeGuest()
        self.addCleanup(self.fake.close)
        self.collector = collector_mod.Collector(None, address='127.0.0.1')
        self.addCleanup(self.collector.close)
        self.guest = self.collector.guest('127.0.0.1', self.fake.port)

    def eventually(self, check, timeout_s=10.0):
        deadline = time.monotonic() + timeout_s
        while not check():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.005)


class TestRequests(CollectorCase):
    WRITER = 'ok writer=3 start=0 span=8192 unit=4096'

    def test_write(self):
        self.fake.answers['write'] = self.WRITER
        writer = self.guest.write(
            'vdb', 'hot', block_bytes=4096, rate_bytes_per_s=7, threads=2
        )
        self.assertEqual(answers.Writer(3, 'vdb', 0, 8192, 4096), writer)
        ((verb, arguments),) = self.fake.done
        self.assertEqual('write', verb)
        self.assertEqual(
            {
                'disk': 'vdb',
                'pattern': 'hot',
                'block': '4096',
                'rate': '7',
                'threads': '2',
                'sync': '0',
            },
            arguments,
        )

    def test_a_lost_request_is_sent_again(self):
        self.fake.answers['write'] = self.WRITER
        self.fake.lose = 2
        self.guest.write()
        self.assertEqual(1, len(self.fake.done))

    def test_after_a_lost_reply_it_is_still_done_once(self):
        self.fake.answers['write'] = self.WRITER
        self.fake.lose_replies = 3
        self.guest.write()
        self.assertEqual(1, len(self.fake.done))

    def test_replies_that_come_twice_do_not_mix_up(self):
        self.fake.times_each = 3
        self.fake.answers['write'] = self.WRITER
        self.fake.answers['report'] = 'ok boot_id=9 threads=1 vda=1:2:3:4:5'
        for _ in range(5):
            self.assertEqual(3, self.guest.write().number)
            self.assertEqual(
                answers.Report(
                    9, 1, {'vda': answers.DiskReport(1, 2, 3, 4, 5)}
                ),
                self.guest.report(),
            )

    def test_refused(self):
        self.fake.answers['write'] = 'error no such disk'
        with self.assertRaisesRegex(
            answers.GuestRefused, '127.0.0.1.*write.*no such disk'
        ):
            self.guest.write('vdz')

    def test_no_answer(self):
        self.fake.lose = 1000
        with self.assertRaisesRegex(answers.GuestTimeout, 'ping'):
            self.guest.ping(0.3)

    def test_nobody_listens(self):
        unused = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        unused.bind(('127.0.0.1', 0))
        port = unused.getsockname()[1]
        unused.close()
        guest = self.collector.guest('127.0.0.1', port)
        with self.assertRaises(answers.GuestTimeout):
            guest.ping(0.3)

    def test_ping(self):
        self.fake.answers['ping'] = (
            'ok boot_id=5 uptime_ms=4500 config_drive=- vda=1024:512 vdb=64:0'
        )
        self.assertEqual(
            answers.GuestInfo(
                5, 4.5, '', {'vda': 1024, 'vdb': 64}, {'vda': 512, 'vdb': 0}
            ),
            self.guest.wait_ready(),
        )

    def test_stop_waits_for_the_last_write(self):
        self.fake.answers['stop'] = 'ok threads=1'
        with self.assertRaisesRegex(answers.GuestTimeout, '1 writes are not'):
            self.guest.stop(timeout_s=0.2)
        self.fake.answers['stop'] = 'ok threads=0'
        self.guest.stop()


class TestVerify(CollectorCase):
    def verify(self, result):
        self.fake.answers['verify'] = 'ok job=4'
        self.fake.jobs.append(result)
        return self.guest.verify(10.0)

    def test_polls_until_done(self):
        result = self.verify('ok state=done vda=8:0:0:0:0:-1')
        self.assertTrue(result.ok)
        self.assertEqual(8, result.checked)
        self.assertIsNone(result.first_bad_offset)
        self.assertEqual(
            [('verify', {}), ('job', {'job': '4'}), ('job', {'job': '4'})],
            self.fake.done,
        )

    def test_sums_over_disks(self):
        result = self.verify(
            'ok state=done vda=8:0:0:0:0:-1 vdb=4:1:2:3:5:512'
        )
        self.assertFalse(result.ok)
        self.assertEqual(
            (12, 1, 2, 3, 5, 512),
            (
                result.checked,
                result.lost,
                result.bad,
                result.future,
                result.read_errors,
                result.first_bad_offset,
            ),
        )
        self.assertEqual(
            answers.DiskVerdict(8, 0, 0, 0, 0, None), result.by_disk['vda']
        )

    def test_any_fault_is_not_ok(self):
        for fault in ('1:0:0:0', '0:1:0:0', '0:0:1:0', '0:0:0:1'):
            result = self.verify(f'ok state=done vda=8:{fault}:0')
            self.assertFalse(result.ok, fault)

    def test_nothing_checked_is_not_ok(self):
        self.assertFalse(self.verify('ok state=done').ok)
        self.assertFalse(self.verify('ok state=done vda=0:0:0:0:0:-1').ok)

    def test_failed(self):
        with self.assertRaisesRegex(answers.GuestRefused, 'verify.*no mem'):
            self.verify('error no memory')

    def test_too_slow(self):
        self.fake.answers['verify'] = 'ok job=4'
        self.fake.jobs = ['ok state=running done_bytes=77'] * 50
        with self.assertRaisesRegex(answers.GuestTimeout, '77 bytes'):
            self.guest.verify(0.2)


class TestSaveAndLoad(CollectorCase):
    SAVED = answers.SavedArea(
        'vdb', 99, 512, 4096, 512, 3, ((2, ('1.1', '3.2')),)
    )

    def test_save(self):
        pages = [
            'ok areas=1 generation=99 start=512 span=4096 unit=512'
            ' sequence=3 first=2 cells=1.1,3.2',
            'ok areas=1 generation=99 start=512 span=4096 unit=512'
            ' sequence=3 first=8 cells=',
        ]
        self.fake.answers['report'] = 'ok boot_id=1 threads=0 vdb=1:1:1:0:3'
        self.fake._act = lambda verb: (
            pages.pop(0) if verb == 'save' else self.fake.answers[verb]
        )
        self.assertEqual([self.SAVED], self.guest.save())
        self.assertEqual(
            {'disk': 'vdb', 'area': '0', 'first': '4'}, self.fake.done[-1][1]
        )

    def test_load(self):
        self.fake.answers['load'] = 'ok next=4'
        self.guest.load([self.SAVED])
        ((verb, arguments),) = self.fake.done
        self.assertEqual('load', verb)
        self.assertEqual('1.1,3.2', arguments['cells'])
        self.assertEqual('2', arguments['first'])
        self.assertEqual('99', arguments['generation'])


class TestTicks(CollectorCase):
    def setUp(self):
        super().setUp()
        self.eventually(lambda: self.fake.subscribed)
        self.began = time.monotonic()

    def ticks(self, *args):
        return self.collector.ticks('127.0.0.1', *args, port=self.fake.port)

    def test_arrival_is_by_this_machines_clock(self):
        self.fake.tick(number=1)
        self.eventually(self.ticks)
        (found,) = self.ticks()
        self.assertLessEqual(self.began - 0.001, found.arrived_s)
        self.assertLessEqual(found.arrived_s, time.monotonic() + 0.001)
        self.assertEqual(
            dataclasses.replace(TICK, number=1, arrived_s=found.arrived_s),
            found,
        )

    def test_a_late_receiver_does_not_move_the_arrival(self):
        # With the lock held the receiver cannot take what has arrived.
        with self.collector._lock:
            self.fake.tick(number=1)
            before = time.monotonic()
            self.fake.tick(number=2)
            after = time.monotonic()
            time.sleep(0.3)
        self.eventually(lambda: len(self.ticks()) == 2)
        arrived_s = self.ticks()[1].arrived_s
        self.assertLess(before - 0.001, arrived_s)
        self.assertLess(arrived_s, after + 0.001)

    def test_what_was_overtaken_is_dropped(self):
        for number in (5, 4, 5, 6):
            self.fake.tick(number=number)
        self.eventually(lambda: len(self.ticks()) == 2)
        self.assertEqual([5, 6], [each.number for each in self.ticks()])

    def test_after_a_reboot_numbers_start_again(self):
        self.fake.tick(number=5, boot_id=1)
        self.fake.tick(number=0, boot_id=2)
        self.eventually(lambda: len(self.ticks()) == 2)

    def test_rubbish_does_not_end_the_receiver(self):
        (address,) = self.fake.subscribed
        for datagram in (b'', b'rubbish', protocol.write_tick(TICK)[:20]):
            self.fake.socket.sendto(datagram, address)
        self.fake.tick(number=1)
        self.eventually(self.ticks)

    def test_window(self):
        self.fake.tick(number=1, acked_bytes=1000)
        self.eventually(lambda: len(self.ticks()) == 1)
        time.sleep(0.05)
        self.fake.tick(number=2, acked_bytes=3000)
        self.eventually(lambda: len(self.ticks()) == 2)
        found = self.collector.window(
            '127.0.0.1', self.began, port=self.fake.port
        )
        self.assertEqual(2000, found.written_bytes)
        self.assertGreaterEqual(found.longest_tick_gap_s, 0.049)

    def test_a_window_that_begins_later(self):
        for number in range(5):
            self.fake.tick(number=number)
        self.eventually(lambda: len(self.ticks()) == 5)
        third = self.ticks()[2].arrived_s
        self.assertEqual(3, len(self.ticks(third)))
        self.assertEqual(3, len(self.ticks(0.0, third)))

    def test_memory_is_bounded(self):
        limit = 50
        with mock.patch.object(collector_mod, 'MAX_TICKS', limit):
            log = collector_mod._Guest()
        for number in range(limit + 10):
            log.add(
                protocol.write_tick(dataclasses.replace(TICK, number=number)),
                float(number),
            )
        self.assertEqual(limit, len(log.raw))
        self.assertEqual(10.0, log.arrived[0])

    def test_two_collectors(self):
        with collector_mod.Collector(None, address='127.0.0.1') as other:
            other.guest('127.0.0.1', self.fake.port)
            self.eventually(lambda: len(self.fake.subscribed) == 2)
            self.fake.tick(number=1)
            self.eventually(self.ticks)
            self.eventually(
                lambda: other.ticks('127.0.0.1', port=self.fake.port)
            )

    def test_closing_ends_the_subscription(self):
        self.collector.close()
        self.eventually(
            lambda: 'lease_s=0' in next(iter(self.fake.subscribed.values()))
        )

    def test_asking_alone_does_not_subscribe(self):
        with collector_mod.Collector(None, address='127.0.0.1') as other:
            self.fake.answers['report'] = 'ok boot_id=9 threads=1'
            other.guest('127.0.0.1', self.fake.port, ticks=False).report()
            self.assertEqual(1, len(self.fake.subscribed))


class TestSockets(unittest.TestCase):
    def test_no_such_process(self):
        with self.assertRaises(FileNotFoundError):
            sockets.socket_in(2**30, ('127.0.0.1', 0))

    def test_the_caller_stays_in_its_namespace(self):
        here = os.readlink('/proc/thread-self/ns/net')
        with sockets.socket_in(None, ('127.0.0.1', 0)) as sock:
            self.assertNotEqual(0, sock.getsockname()[1])
        self.assertEqual(here, os.readlink('/proc/thread-self/ns/net'))
