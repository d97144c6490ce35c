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

import socket
import ssl
import unittest

from sxm_openstack import exception
from sxm_openstack.transfer.relay import loop
from sxm_openstack.transfer.relay import tls

from tests.lab import pki
from tests.unit.transfer import relays
from tests.unit.transfer import test_relay
from tests.unit.transfer import test_relay_watchdog

MIB = 1 << 20


class TLSCase(relays.RelayCase):
    """The relays of host ``here`` and host ``there``."""

    def setUp(self):
        super().setUp()
        self.authority = pki.Authority(self.source.parent / 'ca')
        self.here = self.issue('here', 'here.example.org')
        self.there = self.issue('there', '127.0.0.1')

    def issue(self, *names, authority=None, **options):
        directory = self.source.parent / f'pki-{"-".join(names)}'
        authority = authority or self.authority
        return str(authority.issue(directory, names, **options))

    def listen(self, *channels, **config):
        tls_config = {'directory': self.there, 'names': ['here']}
        return super().listen(*channels, **{'tls': tls_config, **config})

    def connect(self, *channels, **config):
        tls_config = {'directory': self.here, 'names': ['there']}
        return super().connect(*channels, **{'tls': tls_config, **config})


class DataTest(TLSCase, test_relay.DataTest):
    """What goes in comes out, as it does without TLS."""


class WatchdogTest(TLSCase, test_relay_watchdog.WatchdogTest):
    """A dead link is noticed as well."""


class OnTheWireTest(TLSCase):
    def test_nothing_is_readable(self):
        """A tap between the two relays."""
        self.listen('vda.base')
        seen, tap = bytearray(), socket.create_server(('127.0.0.1', 0))
        self.addCleanup(tap.close)
        to, self.port = self.port, tap.getsockname()[1]

        def forward():
            near, _ = tap.accept()
            far = socket.create_connection(('127.0.0.1', to))
            self.background(_pump, far, near, seen)
            _pump(near, far, seen)

        self.background(forward)
        self.connect('vda.base')
        client, server = self.joined('vda.base')
        client.sendall(b'a secret of the guest' * 1000)
        relays.receive(server, 21000)
        server.sendall(b'an answer' * 1000)
        relays.receive(client, 9000)
        client.close()
        server.close()
        self.assertGreater(len(seen), 30000)
        for text in (b'secret', b'answer', b'SXM1', relays.TOKEN.encode()):
            self.assertNotIn(text, bytes(seen))


class TrustTest(TLSCase):
    """Who is let in, and whom the source talks to."""

    def assert_served(self):
        self.connect('vda.base')
        client, server = self.joined('vda.base')
        client.sendall(b'hello')
        self.assertEqual(b'hello', relays.receive(server, 5))

    def assert_source_refuses(self, reason):
        self.connect('vda.base')
        client = self.dial('vda.base')
        self.assertEqual(b'', client.recv(1))
        stats = self.stats('vda.base')
        self.assertEqual(1, stats['connect_errors'])
        self.assertIn(reason, stats['last_error'])

    def assert_destination_refuses(self, reason):
        server = self.serve('vda.base')
        self.connect('vda.base')
        client = self.dial('vda.base')
        self.assertEqual(b'', client.recv(1))
        stats = relays.wait_for(
            lambda: (found := self.ask('stats', 'listen'))['refused'] and found
        )
        self.assertIn(reason, stats['refusal'])
        server.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            server.accept()

    def others(self, *names):
        """As an authority that nobody here trusts issued it."""
        other = pki.Authority(self.source.parent / 'other-ca', 'other')
        directory = self.issue(*names, authority=other)
        return directory, other

    def test_peers(self):
        self.listen('vda.base')
        self.assert_served()

    def test_peer_by_its_address(self):
        self.listen('vda.base')
        self.connect(
            'vda.base',
            tls={'directory': self.here, 'names': ['x', '127.0.0.1']},
        )
        client, server = self.joined('vda.base')
        client.sendall(b'hello')
        self.assertEqual(b'hello', relays.receive(server, 5))

    def test_common_name_without_alternatives(self):
        self.here = self.issue('here')
        self.there = self.issue('there')
        self.listen('vda.base')
        self.assert_served()

    def test_server_of_another_authority(self):
        self.there, _ = self.others('there', '127.0.0.1')
        self.listen('vda.base')
        self.assert_source_refuses('certificate is not valid')

    def test_server_with_the_name_of_another_host(self):
        self.there = self.issue('third', '192.0.2.3')
        self.listen('vda.base')
        self.assert_source_refuses('for 192.0.2.3, third, not for there')

    def test_server_that_has_only_a_client_certificate(self):
        self.issue('there', '127.0.0.1')
        for kind in ('cert', 'key'):
            with open(f'{self.there}/client-{kind}.pem', 'rb') as file:
                content = file.read()
            with open(f'{self.there}/server-{kind}.pem', 'wb') as file:
                file.write(content)
        self.listen('vda.base')
        self.assert_source_refuses('certificate is not valid')

    def test_server_without_tls(self):
        self.listen('vda.base', tls=None)
        self.assert_source_refuses('TLS failed')

    def test_client_of_another_authority(self):
        self.listen('vda.base')
        # It trusts ours: only the destination can refuse.
        self.here, _ = self.others('here', 'here.example.org')
        with (
            open(self.authority.certificate) as good,
            open(f'{self.here}/ca-cert.pem', 'w') as bad,
        ):
            bad.write(good.read())
        self.assert_destination_refuses('certificate is not valid')

    def test_client_with_the_name_of_another_host(self):
        self.listen('vda.base')
        self.here = self.issue('third', '192.0.2.3')
        self.assert_destination_refuses('not for here')

    def test_client_without_tls(self):
        self.listen('vda.base')
        server = self.serve('vda.base')
        knock = f'SXM1 {relays.TOKEN} vda.base\n'.encode()
        self.assertNotEqual(loop.GREETED[:1], self.knock(knock))
        server.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            server.accept()
        self.assertEqual(1, self.ask('stats', 'listen')['refused'])

    def test_client_without_certificate(self):
        self.listen('vda.base')
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(f'{self.here}/ca-cert.pem')
        with (
            socket.create_connection(('127.0.0.1', self.port)) as plain,
            context.wrap_socket(plain, server_hostname='there') as sock,
            self.assertRaises(OSError),
        ):
            # The client's part of a handshake ends before the server's.
            sock.sendall(f'SXM1 {relays.TOKEN} -\n'.encode())
            if not sock.recv(100):
                raise ConnectionResetError
        stats = self.ask('stats', 'listen')
        self.assertEqual(1, stats['refused'])
        self.assertIn('did not return a certificate', stats['refusal'])

    def test_older_protocol(self):
        self.listen('vda.base')
        context = tls.context(self.here, server_side=False)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(('127.0.0.1', self.port)) as plain:
            with self.assertRaisesRegex(ssl.SSLError, 'PROTOCOL_VERSION'):
                context.wrap_socket(plain)

    def test_certificate_alone_is_not_enough(self):
        self.listen('vda.base')
        context = tls.context(self.here, server_side=False)
        with (
            socket.create_connection(('127.0.0.1', self.port)) as plain,
            context.wrap_socket(plain) as sock,
        ):
            sock.sendall(b'SXM1 %s vda.base\n' % (b'b' * 64))
            self.assertEqual(b'', sock.recv(1))
        self.assertIn('token', self.ask('stats', 'listen')['refusal'])

    def test_handshake_that_never_ends(self):
        """It does not keep others out, and the source notices it."""
        silent = socket.create_server(('127.0.0.1', 0))
        self.addCleanup(silent.close)
        self.port = silent.getsockname()[1]
        self.connect('vda.base', watchdog_timeout_s=0.3)
        client = self.dial('vda.base')
        self.assertEqual(b'', client.recv(1))
        self.assertIn('vda.base', self.ask('stats')['failure'])


class FilesTest(TLSCase):
    """What is wrong with a directory is told by name."""

    def refusal(self, directory, server_side=True):
        with self.assertRaises(OSError) as caught:
            tls.context(directory, server_side)
        return tls.why(caught.exception)

    def test_missing(self):
        self.assertEqual(
            '/no/such/server-cert.pem: No such file or directory',
            self.refusal('/no/such'),
        )

    def test_key_of_another_certificate(self):
        with open(f'{self.there}/server-key.pem') as file:
            key = file.read()
        with open(f'{self.here}/client-key.pem', 'w') as file:
            file.write(key)
        self.assertIn('are no pair', self.refusal(self.here, False))

    def test_authority_that_is_none(self):
        with open(f'{self.here}/ca-cert.pem', 'w') as file:
            file.write('nothing')
        self.assertIn('ca-cert.pem makes no sense', self.refusal(self.here))

    def test_relay_says_it(self):
        with self.assertRaises(exception.MoveFailed) as caught:
            self.listen(tls={'directory': '/no/such', 'names': []})
        self.assertIn('/no/such/server-cert.pem', str(caught.exception))


class NamesTest(unittest.TestCase):
    def test_alternatives_hide_the_common_name(self):
        self.assertEqual(
            {'b.example.org', '2001:db8::1'},
            tls.names_of(
                {
                    'subject': ((('commonName', 'a'),),),
                    'subjectAltName': (
                        ('DNS', 'B.example.org'),
                        ('IP Address', '2001:DB8:0:0:0:0:0:1'),
                        ('URI', 'a'),
                    ),
                }
            ),
        )

    def test_wildcard_is_the_name_of_no_host(self):
        certificate = {'subjectAltName': (('DNS', '*.example.org'),)}
        self.assertEqual({'*.example.org'}, tls.names_of(certificate))


def _pump(source, sink, seen):
    while True:
        try:
            data = source.recv(65536)
        except OSError:
            data = b''
        if not data:
            sink.close()
            return
        seen += data
        sink.sendall(data)
