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
import grp
import json
import os
import socket
import stat
import threading
import unittest

from sxm_openstack import exception
from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import ports
from sxm_openstack.transfer import base
from sxm_openstack.transfer import copier_client
from sxm_openstack.transfer import export
from sxm_openstack.transfer import nbd
from sxm_openstack.transfer import relay_client
from sxm_openstack.transfer import server

from tests.lab import pki
from tests.unit.transfer import relays
from tests.unit.transfer import stubs

COUNTS = '"sent_bytes": 0, "offset": 7, "total_bytes": 9, "done_bytes": 8'


class ImageTest(unittest.TestCase):
    """Block nodes and arguments of the daemon."""

    def setUp(self):
        super().setUp()
        self.disk = engine_disk.Disk('vda', '/a,b/disk', 'qcow2', 1 << 30)

    def arguments(self, image, option):
        found = export.command('qsd', stubs.pathlib.Path('/run'), image)
        return [
            json.loads(found[index + 1])
            for index, argument in enumerate(found)
            if argument == option
        ]

    def test_handed_over_is_the_overlay_on_the_ordinary_file(self):
        image = export.handed_over_image(self.disk, 'vda.digest')
        nodes = self.arguments(image, '--blockdev')
        self.assertEqual(4, len({node['node-name'] for node in nodes}))
        _, base, overlay, top = nodes
        self.assertEqual('/a,b/disk.sxm-overlay', overlay['filename'])
        self.assertEqual(base['node-name'], top['backing'])
        self.assertEqual({True}, {node['read-only'] for node in nodes})
        (exported,) = self.arguments(image, '--export')
        self.assertEqual(top['node-name'], exported['node-name'])
        self.assertFalse(exported['writable'])

    def test_base_keeps_its_own_backing_chain(self):
        image = export.base_image(
            self.disk, 'vda.base', export='secret', writable=True
        )
        file, top = self.arguments(image, '--blockdev')
        self.assertEqual('/a,b/disk', file['filename'])
        self.assertEqual('native', file['aio'])
        self.assertTrue(file['cache']['direct'])
        self.assertEqual('unmap', top['discard'])
        self.assertNotIn('backing', top)
        (exported,) = self.arguments(image, '--export')
        self.assertTrue(exported['writable'])
        self.assertEqual('secret', exported['name'])
        self.assertEqual(top['node-name'], exported['node-name'])

    def test_source_cannot_be_written(self):
        image = export.base_image(self.disk, 'vda.source', writable=False)
        for node in self.arguments(image, '--blockdev'):
            self.assertTrue(node['read-only'])
        (exported,) = self.arguments(image, '--export')
        self.assertFalse(exported['writable'])
        self.assertTrue(exported['allocation-depth'])

    def test_overlay_never_reads_the_unfinished_base(self):
        image = export.overlay_image(self.disk, 'vda.mirror', 'secret')
        below, file, top = self.arguments(image, '--blockdev')
        self.assertEqual('null-co', below['driver'])
        self.assertEqual(1 << 30, below['size'])
        self.assertTrue(below['read-zeroes'])
        self.assertEqual(self.disk.overlay_path, file['filename'])
        self.assertEqual(below['node-name'], top['backing'])

    def test_filesystem_without_direct_access(self):
        image = export.base_image(
            self.disk, 'vda.base', writable=True, direct=False
        )
        file, top = self.arguments(image, '--blockdev')
        self.assertEqual('threads', file['aio'])
        self.assertFalse(file['cache']['direct'] or top['cache']['direct'])


class ServerTest(stubs.StubCase):
    def setUp(self):
        super().setUp()
        self.server = self.make()

    def make(self):
        return server.NBDServer(
            str(self.runtime),
            '127.0.0.1',
            range(1),
            storage_daemon=self.daemon,
        )

    def test_start(self):
        cdrom = engine_disk.Disk('hda', '/iso', 'raw', 1 << 20, read_only=True)
        endpoint = self.server.start([self.disk, cdrom])
        self.assertEqual(
            ['hda.base', 'relay-listen', 'vda.base', 'vda.mirror'],
            self.names(),
        )
        self.assertEqual('127.0.0.1', endpoint.address)
        self.assertEqual(64, len(endpoint.token))
        self.assertNotIn(endpoint.token, repr(endpoint))
        socket.create_connection((endpoint.address, endpoint.port)).close()
        self.assertEqual(0o700, stat.S_IMODE(self.runtime.stat().st_mode))

    def test_every_start_has_another_token(self):
        first = self.server.start([self.disk])
        second = self.server.start([self.disk])
        self.assertNotEqual(first.token, second.token)
        self.assertEqual(3, len(self.names()))

    def test_only_the_relay_stays_after_the_hand_over(self):
        self.server.start([self.disk])
        self.server.stop_exports()
        self.assertEqual(['relay-listen'], self.names())
        left = [path.suffix for path in self.runtime.iterdir()]
        self.assertEqual(['.ctl', '.log', '.pid'], sorted(left))
        self.server.stop_exports()

    def test_exports_can_be_stopped_by_a_later_process(self):
        self.server.start([self.disk])
        self.make().stop_exports()
        self.assertEqual(['relay-listen'], self.names())

    def test_daemon_that_had_died(self):
        self.server.start([self.disk])
        for program in stubs.process.recorded(self.runtime):
            if program.name == 'vda.base':
                os.kill(program.pid, 9)
                program.wait(10)
        with self.assertRaises(exception.MoveFailed) as caught:
            self.server.stop_exports()
        self.assertIn('vda.base had died', str(caught.exception))
        self.assertEqual(['relay-listen'], self.names())

    def test_daemon_that_does_not_end_well(self):
        self.daemon = self.script(
            'daemon', stubs.DAEMON.replace('CODE:-0', 'CODE:-3')
        )
        self.server.start([self.disk])
        with self.assertRaises(exception.MoveFailed) as caught:
            self.server.stop_exports()
        self.assertIn('vda.base ended with 3', str(caught.exception))
        self.assertIn('vda.mirror ended with 3', str(caught.exception))

    def test_daemon_that_does_not_start(self):
        self.script('daemon', '#!/bin/sh\necho no such node >&2\nexit 1\n')
        with self.assertRaises(exception.MoveFailed) as caught:
            self.server.start([self.disk])
        self.assertIn('no such node', str(caught.exception))
        self.assertFalse(self.runtime.exists())

    def test_second_try_without_direct_access(self):
        refuse = (
            'case "$*" in *\'"direct": true\'*)\n'
            '    echo "filesystem does not support O_DIRECT" >&2; exit 1;;\n'
            'esac\n'
        )
        first, rest = stubs.DAEMON.split('\n', 1)
        self.script('daemon', f'{first}\n{refuse}{rest}')
        self.server.start([self.disk])
        self.assertEqual(3, len(self.names()))
        self.assertNotIn('"direct": true', '\n'.join(self.seen()))

    def test_close_twice(self):
        self.server.start([self.disk])
        for _ in range(2):
            self.server.close()
        self.assertFalse(self.runtime.exists())

    def test_what_an_earlier_process_left_is_ended(self):
        self.server.start([self.disk])
        programs = list(stubs.process.recorded(self.runtime))
        driver = nbd.NBDDriver(base.Settings())
        for _ in range(2):
            driver.cleanup(str(self.runtime))
        self.assertFalse(self.runtime.exists())
        self.assertEqual(
            [False] * 3, [program.alive() for program in programs]
        )


class ConnectTest(stubs.StubCase):
    def setUp(self):
        super().setUp()
        self.far = server.NBDServer(
            str(self.root / 'far'),
            '127.0.0.1',
            range(1),
            storage_daemon=self.daemon,
        )
        self.addCleanup(self.far.close)
        self.endpoint = self.far.start([self.disk])
        self.transfer = nbd.NBDTransfer(
            str(self.runtime), storage_daemon=self.daemon
        )
        self.channels = [
            self.disk.base_channel,
            self.disk.mirror_channel,
            ports.DISKS_CHANNEL,
        ]

    def connect(self):
        link = self.transfer.connect(self.endpoint, self.channels)
        self.addCleanup(link.close)
        return link

    def test_link(self):
        link = self.connect()
        path = link.socket('vda.mirror')
        self.assertTrue(stat.S_ISSOCK(os.stat(path).st_mode))
        self.assertIsNone(link.failure())
        self.assertEqual(
            ports.ChannelMeter(0, 0, None, None, 0), link.meter('vda.mirror')
        )
        link.close_channel('vda.mirror')
        self.assertFalse(os.path.exists(path))

    def test_export_names_are_those_of_the_servers(self):
        link = self.connect()
        told = {link.export('vda.base'), link.export('vda.mirror')}
        served = {
            json.loads(line)['name']
            for line in self.seen()
            if '"allocation-depth"' in line
        }
        self.assertEqual(served, told)
        for name in told:
            self.assertRegex(name, r'^vda\.(base|mirror)\.[0-9a-f]{32}$')
            self.assertNotIn(name.rpartition('.')[2], self.endpoint.token)

    def test_close_twice_leaves_nothing(self):
        link = self.connect()
        for _ in range(2):
            link.close()
        self.assertFalse(self.runtime.exists())

    def test_connect_again_replaces_the_relay(self):
        self.connect()
        link = self.connect()
        self.assertEqual(['relay-connect'], self.names())
        self.assertIsNone(link.failure())

    def test_relay_that_was_killed(self):
        link = self.connect()
        (relay,) = stubs.process.recorded(self.runtime)
        os.kill(relay.pid, 9)
        relay.wait(10)
        self.assertIn('is gone', link.failure())
        with self.assertRaises(exception.LinkStalled):
            link.meter('vda.base')
        link.close_channel('vda.base')
        link.close()
        self.assertFalse(self.runtime.exists())

    def test_failure_is_told(self):
        link = self.connect()
        link.set_watchdog(0.2)
        # A daemon that never speaks: the stand-in does not even listen.
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(str(self.root / 'far' / 'vda.mirror.nbd'))
        listener.listen()
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.connect(link.socket('vda.mirror'))
        self.assertIn('vda.mirror', relays.wait_for(link.failure))

    def test_unreachable_destination(self):
        self.far.close()
        with self.assertRaises(exception.PeerUnreachable) as caught:
            self.connect()
        self.assertIn(str(self.endpoint.port), str(caught.exception))
        self.assertFalse(self.runtime.exists())


class TLSTest(stubs.StubCase):
    """The first words of the two sides, before anything is begun."""

    def setUp(self):
        super().setUp()
        self.authority = pki.Authority(self.root / 'ca')
        self.here = self.issue('here')
        self.there = self.issue('there', '127.0.0.1')

    def issue(self, *names):
        directory = self.root / f'pki-{names[0]}'
        return str(self.authority.issue(directory, names))

    def endpoint(self, certificates, peer=('here',)):
        far = server.NBDServer(
            str(self.root / 'far'),
            '127.0.0.1',
            range(1),
            storage_daemon=self.daemon,
            pki=certificates,
            peer=lambda: peer,
        )
        self.addCleanup(far.close)
        return far.start([self.disk])

    def connect(self, endpoint, certificates, peer=('there',)):
        transfer = nbd.NBDTransfer(
            str(self.runtime), pki=certificates, peer=peer
        )
        link = transfer.connect(endpoint, ['vda.mirror'])
        self.addCleanup(link.close)
        return link

    def assert_refused(self, reason, *arguments, **named):
        with self.assertRaisesRegex(exception.SXMError, reason) as caught:
            self.connect(*arguments, **named)
        self.assertIn('certificates of both hosts', caught.exception.remedy)
        self.assertFalse(self.runtime.exists())

    def test_both_trust_each_other(self):
        with self.assertNoLogs('sxm_openstack', 'WARNING'):
            link = self.connect(self.endpoint(self.there), self.here)
        self.assertIsNone(link.failure())

    def test_address_is_a_name_of_the_destination(self):
        link = self.connect(self.endpoint(self.there), self.here, ['x'])
        self.assertIsNone(link.failure())

    def test_destination_is_another_host(self):
        third = self.issue('third')
        self.assert_refused(
            'is for third, not for there', self.endpoint(third), self.here
        )

    def test_source_is_another_host(self):
        endpoint = self.endpoint(self.there, ['third', 'third.example.org'])
        self.assert_refused('TLS|let this host in', endpoint, self.here)

    def test_source_alone_has_tls(self):
        self.assert_refused(
            'TLS|let this host in', self.endpoint(None), self.here
        )

    def test_destination_alone_has_tls(self):
        self.assert_refused(
            'let this host in', self.endpoint(self.there), None
        )

    def test_wrong_token(self):
        endpoint = dataclasses.replace(
            self.endpoint(self.there), token='b' * 64
        )
        self.assert_refused('without an answer', endpoint, self.here)

    def test_missing_certificates(self):
        endpoint = self.endpoint(self.there)
        with self.assertRaisesRegex(
            exception.PreCheckFailed, '/no/such/client-cert.pem: No such file'
        ):
            self.connect(endpoint, '/no/such')

    def test_without_tls_it_is_logged(self):
        with self.assertLogs('sxm_openstack', 'WARNING') as caught:
            self.connect(self.endpoint(None), None)
        self.assertEqual(2, len(caught.output))
        for line in caught.output:
            self.assertIn('without encryption', line)

    def test_settings_reach_both_sides(self):
        driver = nbd.NBDDriver(base.Settings(pki=self.here))
        source = driver.source('/run/x', ['there'])
        far = driver.server('/run/x', '192.0.2.1', range(1), lambda: ['here'])
        self.assertEqual((self.here, self.here), (source._pki, far._pki))
        self.assertEqual(['there'], source._peer)
        self.assertEqual(['here'], far._peer())


class HelpedTest(stubs.StubCase):
    """A service that is not root, with somebody who does what it may not."""

    def share_directory(self, path):
        os.makedirs(path, exist_ok=True)
        self.shared.append(path)

    def admit(self, path):
        self.assertTrue(stat.S_ISSOCK(os.stat(path).st_mode))
        self.admitted.append(path)

    def setUp(self):
        super().setUp()
        self.shared, self.admitted = [], []
        driver = nbd.NBDDriver(base.Settings(privileges=self))
        self.far = driver.server(
            str(self.runtime), '127.0.0.1', range(1), tuple
        )
        self.far._storage_daemon = self.daemon
        self.addCleanup(self.far.close)

    def test_directory_is_made_by_the_helper(self):
        self.far.start([self.disk])
        self.assertEqual([str(self.runtime)], self.shared)

    def test_socket_of_qemu_is_opened_when_it_appears(self):
        self.far.start([self.disk])
        self.far.stop_exports()
        self.assertEqual([], self.admitted)
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(self.far.disks_socket)
        relays.wait_for(lambda: self.admitted)
        self.assertEqual([self.far.disks_socket], self.admitted)

    def test_nobody_waits_after_the_end(self):
        self.far.start([self.disk])
        self.far.stop_exports()
        self.far.close()

        def waiting():
            return [
                each.name
                for each in threading.enumerate()
                if each.name == 'sxm-admit'
            ]

        relays.wait_for(lambda: not waiting())
        self.assertEqual([], self.admitted)


class SecretTest(stubs.StubCase):
    """Who reads logs, files or the list of processes learns nothing that
    opens a door."""

    def setUp(self):
        super().setUp()
        authority = pki.Authority(self.root / 'ca')
        here, there = (
            str(authority.issue(self.root / f'pki-{name}', [name]))
            for name in ('here', 'there')
        )
        self.far = server.NBDServer(
            str(self.root / 'far'),
            '127.0.0.1',
            range(1),
            storage_daemon=self.daemon,
            pki=there,
            peer=lambda: ['here'],
        )
        self.addCleanup(self.far.close)
        self.transfer = nbd.NBDTransfer(
            str(self.runtime), pki=here, peer=['there']
        )

    def begin(self):
        endpoint = self.far.start([self.disk])
        channels = [self.disk.base_channel, self.disk.mirror_channel]
        link = self.transfer.connect(endpoint, channels)
        self.addCleanup(link.close)
        with socket.socket(socket.AF_UNIX) as client:
            # No server: the relays have something to say.
            client.connect(link.socket('vda.mirror'))
            client.sendall(b'hello')
            client.recv(1)
        link.meter('vda.mirror')
        return endpoint

    def places(self):
        """Name and content of all that others may read."""
        for directory in (self.root / 'far', self.runtime):
            for program in stubs.process.recorded(directory):
                for name in ('cmdline', 'environ'):
                    path = stubs.pathlib.Path(f'/proc/{program.pid}/{name}')
                    yield str(path), path.read_bytes()
            for path in directory.iterdir():
                if path.is_file():
                    yield str(path), path.read_bytes()

    def test_token_is_nowhere(self):
        with self.assertLogs(level='DEBUG') as caught:
            endpoint = self.begin()
            relay = relay_client.RelayClient(self.runtime, 'connect')
            answers = [relay.ask('stats'), repr(relay), repr(endpoint)]
        found = dict(self.places())
        self.assertGreater(len(found), 12)
        token = endpoint.token.encode()
        for name, data in found.items():
            self.assertNotIn(token, data, name)
        self.assertNotIn(endpoint.token, '\n'.join(caught.output))
        self.assertNotIn(endpoint.token, str(answers))

    def test_token_is_in_no_error(self):
        endpoint = self.begin()
        relay = relay_client.RelayClient(self.runtime, 'connect')
        for request in ({'op': 'token'}, {'op': 'export'}, {'op': 'close'}):
            with self.assertRaises(ValueError) as caught:
                relay.ask(request['op'], channel='no such')
            self.assertNotIn(endpoint.token, str(caught.exception))
        self.far.close()
        with self.assertRaises(exception.PeerUnreachable) as caught:
            self.transfer.connect(endpoint, ['vda.mirror'])
        self.assertNotIn(endpoint.token, str(caught.exception))

    def test_sockets_and_files_are_for_this_user(self):
        self.addCleanup(os.umask, os.umask(0))
        self.begin()
        checked = 0
        for directory in (self.root / 'far', self.runtime):
            self.assertEqual(0o700, stat.S_IMODE(directory.stat().st_mode))
            for path in directory.glob('*.[cns]*'):
                mode = stat.S_IMODE(path.stat().st_mode)
                self.assertEqual(0, mode & 0o077, path)
                checked += 1
        self.assertGreater(checked, 3)


class CopyTest(stubs.StubCase):
    """The service's side of the copier, against scripts in its place."""

    def start(self, script, **options):
        helper = self.script('python', f'#!/bin/sh\n{script}')
        transfer = nbd.NBDTransfer(
            str(self.runtime),
            storage_daemon=self.daemon,
            helper_python=helper,
        )
        copy = transfer.start_copy(
            self.disk, '/link', 'far', rate_bytes_per_s=5, **options
        )
        self.addCleanup(copy.close)
        return copy

    def failure(self, copy):
        def look():
            try:
                copy.progress()
            except exception.CopyFailed as error:
                return error
            return None

        return relays.wait_for(look)

    def test_job(self):
        self.disk = dataclasses.replace(
            self.disk, backing=engine_disk.Backing.SHARED
        )
        seen = self.root / 'job'
        self.start(f'read -r job; echo "$job" > {seen}; cat', offset=65536)
        text = relays.wait_for(lambda: seen.exists() and seen.read_text())
        self.assertEqual(
            {
                'source': {
                    'socket': str(self.runtime / 'vda.source.nbd'),
                    'export': 'vda',
                },
                'destination': {'socket': '/link', 'export': 'far'},
                'extent': 'top',
                'zeros': 'write',
                'connections': 1,
                'offset': 65536,
                'rate_bytes_per_s': 5,
            },
            json.loads(text),
        )

    def test_what_goes(self):
        expected = {
            engine_disk.Backing.NONE: ('all', 'skip'),
            engine_disk.Backing.SHARED: ('top', 'write'),
            engine_disk.Backing.DIFFERENT: ('all', 'write'),
        }
        for backing, words in expected.items():
            disk = dataclasses.replace(self.disk, backing=backing)
            found = copier_client._what_goes(disk)
            self.assertEqual(words, (found['extent'], found['zeros']))
        self.assertEqual(set(engine_disk.Backing), set(expected))

    def test_progress_to_the_end(self):
        copy = self.start(
            f"echo '{{{COUNTS}, \"finished\": false}}'; read -r job; "
            f"read -r go; echo '{{{COUNTS}, \"finished\": true}}'; cat"
        )
        relays.wait_for(lambda: copy.progress().total_bytes)
        self.assertEqual(ports.CopyProgress(9, 8, 7, False), copy.progress())
        copy.set_rate(6)
        relays.wait_for(lambda: copy.progress().finished)
        copy.close()
        self.assertTrue(copy.progress().finished)
        copy.set_rate(7)

    def test_error_of_the_copier(self):
        copy = self.start('echo \'{"error": "No space left"}\'; exit 1')
        error = self.failure(copy)
        self.assertEqual('vda', error.disk)
        self.assertIn('/disk was not copied: No space left', str(error))

    def test_copier_that_dies_without_a_word(self):
        copy = self.start('echo "no module nbd" >&2; exit 1')
        self.assertIn('no module nbd', str(self.failure(copy)))
        copy.set_rate(9)

    def test_close_ends_both_programs(self):
        copy = self.start('exec cat > /dev/null')
        self.assertEqual(['vda.copier', 'vda.source'], self.names())
        for _ in range(2):
            copy.close()
        self.assertEqual([], self.names())
        self.assertIn('ended before', str(self.failure(copy)))

    def test_close_ends_a_copier_that_ignores_it(self):
        copy = self.start("trap '' TERM; while :; do sleep 0.1; done")
        copy.close()
        self.assertEqual([], self.names())

    def test_source_that_cannot_be_served(self):
        self.script('daemon', '#!/bin/sh\necho is locked >&2; exit 1\n')
        with self.assertRaises(exception.MoveFailed) as caught:
            self.start('exec cat')
        self.assertIn('is locked', str(caught.exception))
        self.assertEqual([], self.names())

    def test_missing_helper_lets_go_of_the_base(self):
        transfer = nbd.NBDTransfer(
            str(self.runtime),
            storage_daemon=self.daemon,
            helper_python='/no/such/python',
        )
        with self.assertRaises(exception.MoveFailed):
            transfer.start_copy(self.disk, '/link', 'far', rate_bytes_per_s=0)
        self.assertEqual([], self.names())


class DigestTest(stubs.StubCase):
    def digests(self, script):
        transfer = nbd.NBDTransfer(
            str(self.runtime),
            storage_daemon=self.daemon,
            helper_python=self.script('python', f'#!/bin/sh\n{script}'),
        )
        return transfer.digests(self.disk, 1 << 20, self.chunks, self.view)

    chunks = None
    view = content.View.BASE

    def test_only_those_that_are_wanted(self):
        self.chunks = (0, 2)
        job = self.root / 'job'
        found = self.digests(
            f'cat > {job}; for i in 1 2; do echo "{{\\"digest\\": '
            '\\"$i\\"}"; done'
        )
        self.assertEqual(['1', '2'], found)
        self.assertEqual([0, 2], json.loads(job.read_text())['chunks'])

    def test_in_order(self):
        found = self.digests(
            'cat > /dev/null; for i in 1 2 3; do echo "{\\"digest\\": '
            '\\"$i\\"}"; done'
        )
        self.assertEqual(['1', '2', '3'], found)
        self.assertEqual([], self.names())

    def test_too_few(self):
        with self.assertRaises(exception.VerifyFailed) as caught:
            self.digests(
                'cat > /dev/null; echo \'{"digest": "1"}\'; '
                'echo \'{"error": "bad sector"}\''
            )
        self.assertIn('bad sector', str(caught.exception))
        self.assertEqual([], self.names())


class DriverTest(unittest.TestCase):
    def test_settings_reach_both_sides(self):
        driver = nbd.NBDDriver(
            base.Settings('/py', watchdog_timeout_s=7.0, copy_connections=3)
        )
        source = driver.source('/run/x', ['there'])
        self.assertEqual(7.0, source._watchdog_timeout_s)
        self.assertEqual('/py', source._helper_python)
        self.assertEqual(3, source._connections)
        far = driver.server('/run/x', '192.0.2.1', range(10, 20), tuple)
        self.assertEqual('/py', far._helper_python)
        self.assertEqual('/run/x/disks.sock', far.disks_socket)

    def test_group_of_qemu(self):
        name = grp.getgrgid(os.getgid()).gr_name
        driver = nbd.NBDDriver(base.Settings(qemu_group=name))
        self.assertEqual(os.getgid(), driver.source('/run/x', ())._group_id)

    def test_group_that_does_not_exist(self):
        driver = nbd.NBDDriver(base.Settings(qemu_group='no such group'))
        with self.assertRaises(exception.PreCheckFailed):
            driver.source('/run/x', ())
