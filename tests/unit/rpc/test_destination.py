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

"""The destination's side over oslo.messaging, with its in-memory driver."""

import subprocess
import sys
import threading
import types
import unittest

import ddt
from oslo_config import cfg
import oslo_messaging as messaging
from oslo_messaging import conffixture
from oslo_messaging._drivers import common

from sxm_openstack import exception
from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import ports
from sxm_openstack.rpc import destination

DISKS = (
    engine_disk.Disk(
        'vda', '/i/disk', 'qcow2', 1 << 30, 7, engine_disk.Backing.SHARED
    ),
    engine_disk.Disk('hda', '/i/config', 'raw', 1 << 20, read_only=True),
)
INSTANCE = {'uuid': 'c0ffee00-0000-4000-8000-000000000003'}


class Side:
    """A :class:`.ports.Destination` that remembers what it was asked."""

    def __init__(self):
        self.calls = []
        self.error = None

    def _called(self, *call):
        self.calls.append(call)
        if self.error is not None:
            raise self.error

    def prepare(self, disks):
        self._called('prepare', tuple(disks))
        return ports.Endpoint('192.0.2.2', 49301, 'secret')

    def reconnect(self, disks):
        self._called('reconnect', tuple(disks))
        return ports.Endpoint('192.0.2.2', 49302, 'another')

    def hand_over(self, disks):
        self._called('hand_over', tuple(disks))

    def digests(self, disk, chunk_bytes, chunks, view):
        self._called('digests', disk, chunk_bytes, chunks, view)
        return ('a', 'b')

    def written(self, disk, chunk_bytes):
        self._called('written', disk, chunk_bytes)
        return (3, 5)


class Sides:
    """All moves to the host, of which there is one."""

    def __init__(self):
        self.side_ = Side()
        self.calls = []

    def side(self, server, peer, names):
        self.calls.append(('side', server, peer, *names))
        return self.side_

    def state(self, server, peer):
        self.calls.append(('state', server, peer))
        return ports.DomainState.INCOMING

    def discard(self, server):
        self.calls.append(('discard', server))
        if self.side_.error is not None:
            raise self.side_.error


class Instances(messaging.NoOpSerializer):
    """Gives the endpoint objects with attributes, as Nova's does."""

    def deserialize_entity(self, context, entity):
        if isinstance(entity, dict) and set(entity) == {'uuid'}:
            return types.SimpleNamespace(**entity)
        return entity


class RPCTestCase(unittest.TestCase):
    modules = (exception.__name__,)

    def setUp(self):
        super().setUp()
        self.sides = Sides()
        self.side = self.sides.side_
        self.checked = []
        self.refusal = None
        conf = cfg.ConfigOpts()
        fixture = conffixture.ConfFixture(conf)
        fixture.setUp()
        self.addCleanup(fixture.cleanUp)
        conf([])
        # The address keeps tests in one process apart.
        self.transport = messaging.get_rpc_transport(
            conf,
            f'fake://{self.id()}/',
            allowed_remote_exmods=list(self.modules),
        )
        self.addCleanup(self.transport.cleanup)
        self.serve(
            'beta', destination.DestinationEndpoint(self.sides, self._check)
        )

    def serve(self, host, *endpoints):
        server = messaging.get_rpc_server(
            self.transport,
            messaging.Target(topic='compute', server=host),
            endpoints,
            executor='threading',
            serializer=Instances(),
        )
        server.start()
        self.addCleanup(server.wait)
        self.addCleanup(server.stop)

    def _check(self, instance, peer, disks):
        self.checked.append((instance.uuid, peer, disks))
        if self.refusal is not None:
            raise self.refusal
        return [peer, f'{peer}.example.org']

    def api(self, host='beta', timeout_s=20):
        client = messaging.get_rpc_client(
            self.transport,
            messaging.Target(
                topic='compute',
                namespace=destination.NAMESPACE,
                version=destination.VERSION,
            ),
        )
        return destination.DestinationAPI(
            client, {}, INSTANCE, host, 'alpha', timeout_s
        )


class TestCalls(RPCTestCase):
    def test_prepare(self):
        endpoint = self.api().prepare(DISKS)
        self.assertEqual(
            ports.Endpoint('192.0.2.2', 49301, 'secret'), endpoint
        )
        self.assertEqual([('prepare', DISKS)], self.side.calls)
        self.assertEqual(
            [
                (
                    'side',
                    INSTANCE['uuid'],
                    'alpha',
                    'alpha',
                    'alpha.example.org',
                )
            ],
            self.sides.calls,
        )

    def test_reconnect(self):
        endpoint = self.api().reconnect(DISKS)
        self.assertEqual(
            ports.Endpoint('192.0.2.2', 49302, 'another'), endpoint
        )
        self.assertEqual([('reconnect', DISKS)], self.side.calls)
        self.assertEqual(
            [(INSTANCE['uuid'], 'alpha', list(DISKS))], self.checked
        )

    def test_hand_over(self):
        self.api().hand_over(DISKS[:1])
        self.api().hand_over(())
        self.assertEqual(
            [('hand_over', DISKS[:1]), ('hand_over', ())], self.side.calls
        )

    def test_digests(self):
        self.assertEqual(
            ['a', 'b'], list(self.api().digests(DISKS[1], 1 << 20))
        )
        self.assertEqual(
            [('digests', DISKS[1], 1 << 20, None, content.View.BASE)],
            self.side.calls,
        )

    def test_digests_of_some_chunks(self):
        view = content.View.HANDED_OVER
        self.api().digests(DISKS[1], 65536, range(2), view)
        self.assertEqual(
            [('digests', DISKS[1], 65536, [0, 1], view)], self.side.calls
        )
        self.assertIs(view, self.side.calls[0][-1])

    def test_written(self):
        self.assertEqual([3, 5], list(self.api().written(DISKS[1], 65536)))
        self.assertEqual([('written', DISKS[1], 65536)], self.side.calls)

    def test_state(self):
        self.assertIs(ports.DomainState.INCOMING, self.api().state())

    def test_discard(self):
        self.assertIsNone(self.api().discard())
        self.assertEqual([('discard', INSTANCE['uuid'])], self.sides.calls)

    def test_who_may_ask(self):
        """Only what moves the server needs that it is being moved."""
        api = self.api()
        api.prepare(DISKS)
        api.hand_over(())
        api.digests(DISKS[0], 1)
        api.state()
        api.discard()
        uuid = INSTANCE['uuid']
        self.assertEqual(
            [
                (uuid, 'alpha', list(DISKS)),
                (uuid, 'alpha', []),
                (uuid, 'alpha', [DISKS[0]]),
                (uuid, 'alpha', None),
                (uuid, 'alpha', None),
            ],
            self.checked,
        )

    def test_refused(self):
        self.refusal = exception.PreCheckFailed('No such move.', host='beta')
        for call in (
            lambda: self.api().prepare(DISKS),
            lambda: self.api().hand_over(DISKS),
            lambda: self.api().digests(DISKS[0], 1),
            lambda: self.api().written(DISKS[0], 1),
            lambda: self.api().state(),
            lambda: self.api().discard(),
        ):
            with self.assertRaises(exception.PreCheckFailed) as caught:
                call()
            self.assertIs(exception.PreCheckFailed, type(caught.exception))
        self.assertEqual([], self.sides.calls)
        self.assertEqual([], self.side.calls)


@ddt.ddt
class TestErrors(RPCTestCase):
    @ddt.data(
        exception.MoveFailed,
        exception.NeedsOperator,
        exception.Retryable,
        exception.PreCheckFailed,
        exception.VerifyFailed,
    )
    def test_come_back_as_they_were(self, kind):
        self.side.error = kind(
            'No space.', disk='vda', step='prepare', remedy='Make room.'
        )
        with self.assertRaises(kind) as caught:
            self.api().prepare(DISKS)
        error = caught.exception
        self.assertIs(kind, type(error))
        self.assertEqual(
            'No space. (step prepare, host beta, disk vda) Next: Make room.',
            str(error),
        )

    def test_can_be_located_further(self):
        self.side.error = exception.MoveFailed('No space.')
        with self.assertRaises(exception.MoveFailed) as caught:
            self.api().hand_over(DISKS)
        caught.exception.locate(host='alpha', step='hand-over')
        self.assertEqual(
            'No space. (step hand-over, host beta)', str(caught.exception)
        )

    @ddt.data(OSError(28, 'No space left'), KeyError('vda'))
    def test_of_any_kind_name_the_host(self, error):
        self.side.error = error
        with self.assertRaises(exception.SXMError) as caught:
            self.api().prepare(DISKS)
        text = str(caught.exception)
        self.assertEqual('beta', caught.exception.host)
        self.assertIn(type(error).__name__, text)
        self.assertIn(str(error.args[-1]), text)
        self.assertNotIn('Traceback', text)

    def test_nobody_there(self):
        with self.assertRaises(exception.PeerUnreachable) as caught:
            self.api('gamma', timeout_s=1).state()
        self.assertEqual('gamma', caught.exception.host)

    def test_too_slow(self):
        let_go = threading.Event()
        self.addCleanup(let_go.set)
        self.sides.discard = lambda server: let_go.wait(30)
        with self.assertRaises(exception.PeerUnreachable) as caught:
            self.api(timeout_s=1).discard()
        self.assertIn('sxm_discard', str(caught.exception))

    def test_a_host_without_this_project(self):
        class Stock:
            target = messaging.Target(version='6.0')

            def ping(self, context):
                return 'pong'

        self.serve('stock', Stock())
        with self.assertRaises(exception.PeerUnreachable) as caught:
            self.api('stock').prepare(DISKS)
        self.assertIn('SXMLibvirtDriver', str(caught.exception))
        self.assertEqual('stock', caught.exception.host)


class Remote:
    """A client whose server raises, with the error sent as RabbitMQ does."""

    def __init__(self, error, modules):
        self._error, self._modules = error, modules

    def prepare(self, **options):
        return self

    def call(self, context, method, **arguments):
        try:
            raise self._error
        except type(self._error):
            sent = common.serialize_remote_exception(sys.exc_info())
        raise common.deserialize_remote_exception(sent, self._modules)


@ddt.ddt
class TestErrorsOnTheWire(unittest.TestCase):
    """What the transport makes of them: another class, a text that is a
    traceback, or an error of its own if it may not make ours."""

    def _raised(self, error, modules=(exception.__name__,)):
        api = destination.DestinationAPI(
            Remote(error, modules), {}, INSTANCE, 'beta', 'alpha', 20
        )
        try:
            api.prepare(DISKS)
        except exception.SXMError as raised:
            self.assertNotIn('Traceback', str(raised))
            self.assertEqual('beta', raised.host)
            return raised
        return self.fail('nothing was raised')

    @ddt.data(
        exception.MoveFailed, exception.NeedsOperator, exception.Retryable
    )
    def test_ours(self, kind):
        raised = self._raised(kind('No space.', disk='vda', remedy='Do.'))
        self.assertIs(kind, type(raised))
        self.assertEqual(
            'No space. (host beta, disk vda) Next: Do.', str(raised)
        )
        raised.locate(step='prepare-destination')
        self.assertIn('step prepare-destination', str(raised))

    @ddt.data(
        exception.MoveFailed, exception.NeedsOperator, exception.Retryable
    )
    def test_ours_where_the_transport_does_not_know_them(self, kind):
        raised = self._raised(kind('It runs here.'), ())
        self.assertIsInstance(raised, kind)
        self.assertIn('It runs here.', str(raised))

    @ddt.data(OSError(28, 'No space left'), KeyError('vda'))
    def test_built_in(self, error):
        text = str(self._raised(error))
        self.assertIn(type(error).__name__, text)
        self.assertIn(str(error.args[-1]), text)

    def test_of_a_library(self):
        raised = self._raised(subprocess.TimeoutExpired('qemu-img', 5))
        self.assertIn('TimeoutExpired', str(raised))


class TestVersion(unittest.TestCase):
    def test_every_method_is_in_the_history(self):
        methods = {
            name
            for name in vars(destination.DestinationEndpoint)
            if name.startswith('sxm_')
        }
        for name in methods:
            self.assertIn(f'``{name}``', destination.__doc__)
        self.assertEqual(7, len(methods))
