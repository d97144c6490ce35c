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

import unittest

from tests.lab.guest import protocol

TICK = protocol.Tick(
    arrived_s=12.5,
    boot_id=2**63 + 1,
    number=77,
    guest_s=3.25,
    acked_bytes=10**12,
    acked_writes=5,
    issued_bytes=10**12 + 4096,
    errors=2,
    threads=4,
    worst_latency_s=0.25,
    worst_recent_s=0.5,
    oldest_in_flight_s=0.125,
    disks=(
        protocol.DiskTick('vda', 1, 4096, 0.25, 0.125),
        protocol.DiskTick('vdc', 1, 8192, 0.0, 0.0),
    ),
)


class TestTick(unittest.TestCase):
    def test_both_ways(self):
        datagram = protocol.write_tick(TICK)
        self.assertTrue(protocol.is_tick(datagram))
        self.assertEqual((2**63 + 1, 77), protocol.tick_identity(datagram))
        self.assertEqual(TICK, protocol.read_tick(datagram, 12.5))

    def test_cut_off(self):
        datagram = protocol.write_tick(TICK)
        for size in (4, 40, len(datagram) - 1):
            with self.assertRaises(protocol.ProtocolError):
                protocol.read_tick(datagram[:size], 0.0)

    def test_another_version(self):
        datagram = bytearray(protocol.write_tick(TICK))
        datagram[4] += 1
        with self.assertRaisesRegex(protocol.ProtocolError, 'version 2'):
            protocol.read_tick(bytes(datagram), 0.0)


class TestText(unittest.TestCase):
    def test_request(self):
        self.assertEqual(
            b'SXM1 c0 7 write disk=vda rate=0',
            protocol.request('c0', 7, 'write', {'disk': 'vda', 'rate': '0'}),
        )

    def test_an_argument_is_one_word(self):
        for value in ('', 'a b', 'a\n'):
            with self.assertRaises(protocol.ProtocolError):
                protocol.request('c0', 7, 'write', {'disk': value})

    def test_answer(self):
        reply = protocol.read_reply(b'SXM1 c0 7 ok writer=3 cells=')
        self.assertEqual(
            protocol.Reply('c0', '7', {'writer': '3', 'cells': ''}), reply
        )

    def test_answer_without_values(self):
        reply = protocol.read_reply(b'SXM1 c0 7 ok ')
        self.assertEqual(protocol.Reply('c0', '7', {}), reply)

    def test_refusal(self):
        reply = protocol.read_reply(b'SXM1 c0 7 error no such disk')
        self.assertEqual('no such disk', reply.error)

    def test_a_refusal_always_has_a_text(self):
        self.assertTrue(protocol.read_reply(b'SXM1 c0 7 error ').error)

    def test_no_reply(self):
        for datagram in (b'', b'SXM1 c0', b'SXM2 c0 7 ok', b'SXM1 c0 7 so'):
            with self.assertRaises(protocol.ProtocolError):
                protocol.read_reply(datagram)
