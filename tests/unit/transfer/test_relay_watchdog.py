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

import os
import signal
import socket
import threading
import time
import unittest

from sxm_openstack.transfer.relay import watch

from tests.unit.transfer import relays

TIMEOUT_S = 1.0
SLACK_S = 2.0  # for a busy machine; what is promised is half a second
MIB = 1 << 20


class WatchTest(unittest.TestCase):
    """The judgement, with times and counters given."""

    def setUp(self):
        super().setUp()
        self.watch = watch.Watch(100.0)

    def stalled(self, now, acked=0, waiting=0, ack_age=0.0):
        info = watch.TCPInfo(0.01, 0.01, acked, ack_age)
        return self.watch.stalled_s(now, info, waiting)

    def test_idle_from_the_start(self):
        self.assertEqual((0.0, False), self.stalled(1000.0))

    def test_idle_after_an_answer(self):
        self.watch.sent(101.0)
        self.watch.received(102.0)
        self.assertEqual((0.0, False), self.stalled(1000.0, acked=10))

    def test_no_answer(self):
        self.watch.sent(101.0)
        self.assertEqual((0.0, False), self.stalled(102.0, acked=10))
        self.assertEqual((4.0, False), self.stalled(106.0, acked=10))

    def test_time_starts_with_the_request(self):
        self.watch.sent(500.0)
        self.assertEqual((1.0, True), self.stalled(501.0, waiting=10))

    def test_acknowledged_bytes_are_progress(self):
        self.watch.sent(101.0)
        for second in range(102, 200):
            stalled_s, _ = self.stalled(second, acked=second, waiting=10)
            self.assertEqual(0.0, stalled_s)
        self.assertEqual((3.0, True), self.stalled(202.0, 199, waiting=10))

    def test_bytes_in_are_progress(self):
        self.watch.sent(101.0)
        self.watch.received(110.0)
        self.assertEqual((2.0, True), self.stalled(112.0, waiting=10))

    def test_more_requests_do_not_reset_the_time(self):
        self.watch.sent(101.0)
        self.watch.sent(105.0)
        self.assertEqual((5.0, True), self.stalled(106.0, waiting=20))

    def test_link_that_went_silent_under_a_used_connection(self):
        # One of two requests was answered, then the link died: nothing is
        # left to be acknowledged, and the last byte came in.
        self.watch.sent(101.0)
        self.watch.received(102.0)
        self.assertEqual(
            (6.0, True), self.stalled(108.0, acked=10, ack_age=6.0)
        )

    def test_link_that_went_silent_under_an_idle_connection(self):
        self.watch.sent(101.0)
        self.watch.received(102.0)
        self.assertEqual(
            (0.0, False), self.stalled(208.0, acked=10, ack_age=60.0)
        )

    def test_restart_forgets(self):
        self.watch.sent(101.0)
        self.watch.restart(150.0)
        self.assertEqual((1.0, True), self.stalled(151.0, waiting=10))


class TCPInfoTest(unittest.TestCase):
    def test_against_a_real_connection(self):
        with socket.create_server(('127.0.0.1', 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
            with client, server:
                before = watch.tcp_info(client)
                client.sendall(bytes(1000))
                relays.receive(server, 1000)
                after = relays.wait_for(
                    lambda: (
                        (found := watch.tcp_info(client)).acked_bytes
                        > before.acked_bytes
                        and found
                    )
                )
        self.assertEqual(1000, after.acked_bytes - before.acked_bytes)
        self.assertGreater(after.rtt_s, 0)
        self.assertLessEqual(after.min_rtt_s, 1.0)
        self.assertLess(after.ack_age_s, 5.0)


class WatchdogTest(relays.RelayCase):
    """The relay, against peers that stall in one way or another."""

    def failure(self):
        return self.ask('stats')['failure']

    def assert_trips(self, begun_at, timeout_s=TIMEOUT_S):
        reason = relays.wait_for(self.failure)
        took_s = time.monotonic() - begun_at
        self.assertGreater(took_s, timeout_s)
        self.assertLess(took_s, timeout_s + SLACK_S)
        return reason

    def test_peer_that_never_answers(self):
        self.pair('vda.base', 'vda.mirror', watchdog_timeout_s=TIMEOUT_S)
        other, other_server = self.joined('vda.base')
        other_server.sendall(b'NBDMAGIC')
        relays.receive(other, 8)
        client, server = self.joined('vda.mirror')
        client.sendall(b'request')
        begun_at = time.monotonic()
        relays.receive(server, 7)
        reason = self.assert_trips(begun_at)
        self.assertIn('vda.mirror', reason)
        self.assertIn('no answer', reason)
        self.assertIn(f'127.0.0.1 port {self.port}', reason)
        # Everybody is told, and nobody comes in any more.
        self.assertEqual(b'', client.recv(1))
        self.assertEqual(b'', other.recv(1))
        left = sorted(path.name for path in self.source.glob('*.sock'))
        self.assertEqual([], left)
        self.assertEqual(reason, self.failure())

    def test_answer_may_take_longer_where_it_was_said_so(self):
        self.pair(
            'vda.base',
            watchdog_timeout_s=TIMEOUT_S,
            answer_timeout_s={'vda.base': 60.0},
        )
        client, server = self.joined('vda.base')
        client.sendall(b'flush')
        relays.receive(server, 5)
        time.sleep(3 * TIMEOUT_S)
        self.assertIsNone(self.failure())
        server.sendall(b'done')
        self.assertEqual(b'done', relays.receive(client, 4))

    def test_idle_never_trips(self):
        self.pair('vda.mirror', watchdog_timeout_s=0.3)
        client, server = self.joined('vda.mirror')
        server.sendall(b'NBDMAGIC')
        relays.receive(client, 8)
        client.sendall(b'request')
        relays.receive(server, 7)
        server.sendall(b'answer')
        relays.receive(client, 6)
        time.sleep(2.0)
        self.assertIsNone(self.failure())
        client.sendall(b'again')
        self.assertEqual(b'again', relays.receive(server, 5))

    def test_client_that_does_not_read_is_not_the_links_fault(self):
        self.pair('vda.base', watchdog_timeout_s=TIMEOUT_S)
        client, server = self.joined('vda.base')
        client.sendall(b'read')
        relays.receive(server, 4)
        self.background(server.sendall, bytes(32 * MIB))
        time.sleep(3 * TIMEOUT_S)
        self.assertIsNone(self.failure())
        self.assertEqual(bytes(32 * MIB), relays.receive(client, 32 * MIB))

    def test_slow_reader_does_not_trip(self):
        self.pair('vda.base', watchdog_timeout_s=TIMEOUT_S)
        client, server = self.joined('vda.base')
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stop = threading.Event()

        def push():
            while not stop.is_set():
                try:
                    client.send(bytes(65536))
                except TimeoutError:
                    continue

        client.settimeout(0.1)
        self.background(push)
        self.addCleanup(stop.set)
        deadline = time.monotonic() + 4 * TIMEOUT_S
        while time.monotonic() < deadline:
            relays.receive(server, 512 << 10)
            self.assertIsNone(self.failure())
            time.sleep(0.1)

    def test_peer_that_stands_still_under_load(self):
        self.pair('vda.base', watchdog_timeout_s=TIMEOUT_S)
        client, _ = self.joined('vda.base')
        os.kill(self.far_relay.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, self.far_relay.pid, signal.SIGCONT)
        client.settimeout(0.2)
        moved_at = time.monotonic()
        with self.assertRaises((TimeoutError, ConnectionError)):
            while True:
                client.send(bytes(65536))
                moved_at = time.monotonic()
        reason = relays.wait_for(self.failure)
        self.assertLess(time.monotonic() - moved_at, TIMEOUT_S + SLACK_S)
        self.assertIn('bytes wait to be acknowledged', reason)

    def test_destination_that_does_not_take_connections(self):
        with socket.socket() as deaf:
            deaf.bind(('127.0.0.1', 0))
            deaf.listen(0)
            self.port = deaf.getsockname()[1]
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                self.addCleanup(filler.close)
                filler.setblocking(False)
                filler.connect_ex(('127.0.0.1', self.port))
            self.connect('vda.base', watchdog_timeout_s=TIMEOUT_S)
            client = self.dial('vda.base')
            reason = self.assert_trips(time.monotonic())
        self.assertIn('no connection could be opened', reason)
        self.assertEqual(b'', client.recv(1))

    def test_time_can_be_changed(self):
        self.pair('vda.base', watchdog_timeout_s=600)
        client, server = self.joined('vda.base')
        client.sendall(b'request')
        relays.receive(server, 7)
        self.ask('set', watchdog_timeout_s=0.2)
        self.assertIn('no answer', relays.wait_for(self.failure))

    def test_relay_that_stood_still_itself_does_not_trip(self):
        self.pair('vda.base', watchdog_timeout_s=TIMEOUT_S)
        client, server = self.joined('vda.base')
        client.sendall(b'request')
        relays.receive(server, 7)
        os.kill(self.near_relay.pid, signal.SIGSTOP)
        time.sleep(2 * TIMEOUT_S)
        os.kill(self.near_relay.pid, signal.SIGCONT)
        server.sendall(b'answer')
        self.assertEqual(b'answer', relays.receive(client, 6))
        self.assertIsNone(self.failure())
