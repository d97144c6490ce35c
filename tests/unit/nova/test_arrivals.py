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

import tempfile
import unittest
from unittest import mock

from sxm_openstack import exception
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.nova import arrivals

from tests.unit.nova import fakes

SERVER = fakes.SERVER
DESTINATION = engine_journal.Role.DESTINATION


class TestArrivals(unittest.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.journal = engine_journal.Journal(directory.name)
        self.settler = mock.Mock()
        self.make = mock.Mock(side_effect=lambda *names: mock.Mock())
        self.arrivals = arrivals.Arrivals(
            self.make, self.journal, self.settler, 'here'
        )

    def test_only_what_nova_has_prepared_for(self):
        with self.assertRaises(exception.PreCheckFailed):
            self.arrivals.side(SERVER, 'there')
        self.arrivals.expect(SERVER, 'there')
        with self.assertRaises(exception.PreCheckFailed):
            self.arrivals.side(SERVER, 'elsewhere')
        side = self.arrivals.side(SERVER, 'there')
        self.assertIs(side, self.arrivals.side(SERVER, 'there'))

    def test_one_that_once_went_from_here(self):
        """The journal goes on to say what is not known to have gone."""
        for committed in (False, True):
            self.journal.write(
                fakes.record(engine_journal.Role.SOURCE, committed=committed)
            )
            self.arrivals.expect(SERVER, 'there')
            left = self.journal.read(SERVER)
            self.assertEqual(committed, left is None)

    def test_the_state_may_always_be_asked(self):
        self.make.side_effect = None
        self.make.return_value.state.return_value = 'absent'
        self.assertEqual('absent', self.arrivals.state(SERVER, 'there'))

    def test_arrived(self):
        self.arrivals.expect(SERVER, 'there')
        side = self.arrivals.side(SERVER, 'there')
        self.journal.write(fakes.record(DESTINATION))
        worker = self.arrivals.arrived(SERVER)
        self.assertIs(self.settler.begin.return_value, worker)
        side.nbd.close.assert_called_once_with()
        self.assertTrue(self.journal.read(SERVER).committed)

    def test_arrived_with_exports_that_do_not_end(self):
        self.arrivals.expect(SERVER, 'there')
        side = self.arrivals.side(SERVER, 'there')
        side.nbd.close.side_effect = exception.NeedsOperator('hangs')
        self.journal.write(fakes.record(DESTINATION))
        self.assertIsNotNone(self.arrivals.arrived(SERVER))

    def test_a_server_that_came_without_us(self):
        self.arrivals.expect(SERVER, 'there')
        self.assertIsNone(self.arrivals.arrived(SERVER))
        self.settler.begin.assert_not_called()

    def test_discarded(self):
        self.arrivals.expect(SERVER, 'there')
        side = self.arrivals.side(SERVER, 'there')
        self.arrivals.discard(SERVER)
        self.arrivals.discard(SERVER)
        side.discard.assert_called_once_with()
        with self.assertRaises(exception.PreCheckFailed):
            self.arrivals.side(SERVER, 'there')

    def test_a_side_that_refuses_to_be_discarded_is_kept(self):
        self.arrivals.expect(SERVER, 'there')
        side = self.arrivals.side(SERVER, 'there')
        side.discard.side_effect = exception.NeedsOperator('it runs here')
        with self.assertRaises(exception.NeedsOperator):
            self.arrivals.discard(SERVER)
        self.assertIs(side, self.arrivals.side(SERVER, 'there'))

    def test_restored_after_a_restart(self):
        record = fakes.record(DESTINATION, disks=[fakes.disk()])
        self.arrivals.restore(record)
        side = self.arrivals.side(SERVER, 'there')
        side.adopt.assert_called_once_with(record)
