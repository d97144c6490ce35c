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
import socket
import subprocess
import sys
import time

from sxm_openstack import exception
from sxm_openstack.transfer import process
from sxm_openstack.transfer import program

from tests.unit.transfer import relays

MIB = 1 << 20


class DataTest(relays.RelayCase):
    """What goes in comes out."""

    def test_both_ways_at_once(self):
        self.pair('vda.base')
        client, server = self.joined('vda.base')
        up = relays.random_bytes(8 * MIB, 1)
        down = relays.random_bytes(8 * MIB, 2)
        self.background(client.sendall, up)
        self.background(server.sendall, down)
        got = []
        reader = self.background(
            lambda: got.append(relays.receive(server, len(up)))
        )
        self.assertEqual(down, relays.receive(client, len(down)))
        reader.join()
        self.assertEqual([up], got)

    def test_client_that_shuts_down_still_gets_the_answer(self):
        self.pair('vda.base')
        client, server = self.joined('vda.base')
        client.sendall(b'last request')
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(b'last request', relays.receive(server, 12))
        self.assertEqual(b'', server.recv(1))
        server.sendall(b'last answer')
        server.close()
        self.assertEqual(b'last answer', relays.receive(client, 11))
        self.assertEqual(b'', client.recv(1))

    def test_end_of_the_server_ends_the_client_at_once(self):
        self.pair('vda.base')
        client, server = self.joined('vda.base')
        client.sendall(b'request')
        relays.receive(server, 7)
        server.close()
        begun_at = time.monotonic()
        self.assertEqual(b'', client.recv(1))
        self.assertLess(time.monotonic() - begun_at, 2.0)
        relays.wait_for(lambda: not self.stats('vda.base')['connections'])
        self.assertIn('server', self.stats('vda.base')['last_error'])

    def test_writer_waits_for_a_reader_that_does_not_read(self):
        self.pair('vda.base', watchdog_timeout_s=60)
        client, server = self.joined('vda.base')
        client.settimeout(1.0)
        part, sent = bytes(MIB), 0
        with self.assertRaises(TimeoutError):
            while sent < 256 * MIB:
                sent += client.send(part)
        # The rest is in the buffers of four sockets and two relays.
        self.assertLess(sent, 64 * MIB)
        for relay in (self.near_relay, self.far_relay):
            self.assertLess(_resident_bytes(relay.pid), 64 * MIB)
        self.assertEqual(bytes(sent), relays.receive(server, sent))

    def test_channels_are_counted_apart(self):
        self.pair('vda.base', 'vda.mirror')
        client, server = self.joined('vda.base')
        client.sendall(b'12345')
        relays.receive(server, 5)
        server.sendall(b'123')
        relays.receive(client, 3)
        counted = self.stats('vda.base', 'listen')
        self.assertEqual(5, counted['sent_bytes'])
        self.assertEqual(3, counted['received_bytes'])
        counted = relays.wait_for(
            lambda: (found := self.stats('vda.base'))['rtt_s'] and found
        )
        self.assertEqual(3, counted['received_bytes'])
        self.assertEqual(1, counted['connections'])
        self.assertGreater(counted['sent_bytes'], 5 + len(relays.TOKEN))
        self.assertGreater(counted['min_rtt_s'], 0)
        self.assertLess(counted['min_rtt_s'], 1)
        self.assertEqual(0, self.stats('vda.mirror')['sent_bytes'])
        self.assertIsNone(self.stats('vda.mirror')['rtt_s'])


class DoorTest(relays.RelayCase):
    """Who comes in at the destination."""

    def setUp(self):
        super().setUp()
        self.listen('vda.base')
        self.server = self.serve('vda.base')
        self.server.settimeout(0.3)

    def assert_refused(self, preamble):
        self.assertEqual(b'', self.knock(preamble))
        with self.assertRaises(TimeoutError):
            self.server.accept()
        self.assertEqual(1, self.ask('stats', 'listen')['refused'])

    def test_wrong_token(self):
        self.assert_refused(b'SXM1 %s vda.base\n' % (b'b' * 64))

    def test_token_that_is_too_short(self):
        self.assert_refused(b'SXM1 a vda.base\n')

    def test_unknown_channel(self):
        self.assert_refused(b'SXM1 %s ../vda.base\n' % relays.TOKEN.encode())

    def test_other_protocol(self):
        self.assert_refused(b'GET / HTTP/1.1\r\n')

    def test_line_without_end(self):
        self.assert_refused(b'x' * 600)

    def test_preamble_in_pieces_with_data_behind_it(self):
        line = f'SXM1 {relays.TOKEN} vda.base\nhello'.encode()
        with socket.create_connection(('127.0.0.1', self.port)) as sock:
            for start in range(0, len(line), 20):
                sock.sendall(line[start : start + 20])
                time.sleep(0.01)
            server, _ = self.server.accept()
            with server:
                self.assertEqual(b'hello', relays.receive(server, 5))

    def test_closed_channel_is_unknown(self):
        self.ask('close', 'listen', channel='vda.base')
        self.assert_refused(b'SXM1 %s vda.base\n' % relays.TOKEN.encode())


class ServerTest(relays.RelayCase):
    """Servers that are not there, or not yet."""

    def test_late_server_is_waited_for(self):
        self.listen('disks', late_channels=['disks'])
        self.connect('disks')
        client = self.dial('disks')
        client.sendall(b'hello')
        time.sleep(0.5)
        listener = self.serve('disks')
        server, _ = listener.accept()
        with server:
            self.assertEqual(b'hello', relays.receive(server, 5))

    def test_missing_server_closes_the_client_at_once(self):
        self.pair('vda.base')
        begun_at = time.monotonic()
        self.assertEqual(b'', self.dial('vda.base').recv(1))
        self.assertLess(time.monotonic() - begun_at, 2.0)
        self.assertEqual(1, self.stats('vda.base', 'listen')['connect_errors'])
        self.assertIsNone(self.ask('stats')['failure'])

    def test_destination_that_refuses_is_no_failure_of_the_link(self):
        relay = self.listen('vda.base')
        relay.stop()
        self.connect('vda.base')
        self.assertEqual(b'', self.dial('vda.base').recv(1))
        counted = self.stats('vda.base')
        self.assertEqual(1, counted['connect_errors'])
        self.assertIn('refused', counted['last_error'])
        self.assertIsNone(self.ask('stats')['failure'])


class ControlTest(relays.RelayCase):
    def test_close_cuts_one_channel_only(self):
        self.pair('vda.base', 'vda.mirror')
        base, _ = self.joined('vda.base')
        mirror, server = self.joined('vda.mirror')
        self.ask('close', channel='vda.base')
        self.assertEqual(b'', base.recv(1))
        self.assertFalse((self.source / 'vda.base.sock').exists())
        mirror.sendall(b'on')
        self.assertEqual(b'on', relays.receive(server, 2))

    def test_shutdown_leaves_no_socket(self):
        self.pair('vda.base')
        client, _ = self.joined('vda.base')
        self.ask('shutdown')
        self.assertEqual(b'', client.recv(1))
        self.assertTrue(self.near_relay.wait(relays.DEADLINE_S))
        self.assertEqual(0, self.near_relay.popen.returncode)
        left = sorted(path.name for path in self.source.iterdir())
        self.assertEqual(['relay-connect.log', 'relay-connect.pid'], left)

    def test_sigterm_is_a_shutdown(self):
        self.pair('vda.base')
        self.far_relay.stop()
        self.assertEqual(0, self.far_relay.popen.returncode)
        self.assertFalse((self.destination / 'relay-listen.ctl').exists())

    def test_bad_requests_are_answered(self):
        self.pair('vda.base')
        answers = self.raw_control(
            b'nonsense\n{"op": "fly"}\n{}\n[1]\n'
            b'{"op": "close", "channel": "vdx"}\n{"op": "stats"}\n'
        )
        for answer in answers[:-1]:
            self.assertIn('error', answer)
        self.assertTrue(answers[-1]['ok'])

    def test_sockets_are_private_unless_told_otherwise(self):
        self.listen('vda.base')
        self.connect('vda.base', socket_mode=0o660, socket_gid=os.getgid())
        modes = [
            (self.source / name).stat().st_mode & 0o777
            for name in ('vda.base.sock', 'relay-connect.ctl')
        ]
        self.assertEqual([0o660, 0o600], modes)

    def test_pacing_is_obeyed(self):
        self.pair('vda.base')
        client, server = self.joined('vda.base')
        self.ask('set', pacing={'vda.base': 2 * MIB})
        begun_at = time.monotonic()
        self.background(client.sendall, bytes(3 * MIB))
        relays.receive(server, 3 * MIB)
        self.assertGreater(time.monotonic() - begun_at, 0.7)

    def test_unused_relay_ends_by_itself(self):
        self.listen('vda.base')
        relay = self.connect('vda.base', idle_exit_s=0.5)
        self.assertTrue(relay.wait(relays.DEADLINE_S))
        self.assertEqual(0, relay.popen.returncode)

    def test_relay_outlives_its_starter(self):
        code = (
            'import pathlib, sys\n'
            'from sxm_openstack.transfer import relay_client\n'
            'relay_client.start_relay("listen", pathlib.Path(sys.argv[1]), '
            '{"token": "t", "address": "127.0.0.1", "ports": [0, 0], '
            '"channels": {}})\n'
        )
        subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', code, self.destination],
            check=True,
            cwd=program.pathlib.Path(program.__file__).parents[2],
        )
        self.assertEqual({}, self.ask('stats', 'listen')['channels'])
        process.clean_directory(str(self.destination))
        self.assertFalse(self.destination.exists())


class StartTest(relays.RelayCase):
    def test_no_free_port(self):
        with socket.socket() as taken:
            taken.bind(('127.0.0.1', 0))
            taken.listen()
            port = taken.getsockname()[1]
            with self.assertRaises(exception.MoveFailed) as caught:
                self.listen('vda.base', ports=[port, port])
        self.assertIn(f'from {port} to {port}', str(caught.exception))
        self.assertEqual([], list(self.destination.glob('*.pid')))

    def test_second_port_when_the_first_is_taken(self):
        with socket.socket() as taken:
            taken.bind(('127.0.0.1', 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.listen('vda.base', ports=[port, port + 20])
        self.assertIn(self.port, range(port + 1, port + 21))

    def test_address_of_another_host(self):
        with self.assertRaises(exception.MoveFailed) as caught:
            self.listen('vda.base', address='192.0.2.1')
        self.assertIn('192.0.2.1', str(caught.exception))

    def test_channel_that_would_leave_the_directory(self):
        with self.assertRaises(exception.MoveFailed):
            self.listen('../vda')

    def test_token_is_not_on_the_command_line(self):
        relay = self.listen('vda.base')
        for name in ('cmdline', 'environ'):
            with open(f'/proc/{relay.pid}/{name}') as file:
                self.assertNotIn(relays.TOKEN, file.read())

    def test_dead_sockets_are_replaced(self):
        relay = self.listen('vda.base')
        self.connect('vda.base')
        process.os.kill(relay.pid, 9)
        relay.wait(relays.DEADLINE_S)
        self.listen('vda.base')
        self.assertIn('vda.base', self.ask('stats', 'listen')['channels'])

    def test_usage(self):
        done = subprocess.run(
            [sys.executable, '-I', program.__file__, 'relay', 'fly'],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(2, done.returncode)
        self.assertIn('usage', done.stderr)


def _resident_bytes(pid):
    with open(f'/proc/{pid}/statm') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGESIZE')
