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

import pathlib
import tempfile
import unittest
from unittest import mock

import ddt

from sxm_openstack import exception
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import ports
from sxm_openstack.mirror import traces
from sxm_openstack.nova import upkeep as sxm_upkeep

from tests.unit.nova import fakes

SERVER = fakes.SERVER
OTHER = '3f1b6b0e-0000-4000-8000-000000000002'
Action, Standing = sxm_upkeep.Action, sxm_upkeep.Standing
Role = engine_journal.Role
State = ports.DomainState


class FakeCloud:
    """Nova, which may be silent."""

    def __init__(self):
        self.moving = False
        self.host = 'there'
        self.error = None

    def is_moving(self, server):
        if self.error:
            raise self.error
        return self.moving

    def host_of(self, server):
        if self.error:
            raise self.error
        return self.host


class UpkeepTestCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = pathlib.Path(directory.name)
        self.journal = engine_journal.Journal(str(self.root / 'state'))
        self.domain = fakes.FakeDomain(State.ABSENT)
        self.settler = mock.Mock()
        self.settler.settle.side_effect = self.settle
        self.clearer = mock.Mock()
        self.clearer.clear.side_effect = self.clear
        self.cloud = FakeCloud()
        self.upkeep = self.make()

    def make(self, **named):
        return sxm_upkeep.Upkeep(
            self.journal,
            self.settler,
            traces.Places(
                state=str(self.root / 'state'),
                runtime=str(self.root / 'run'),
                instances=str(self.root / 'instances'),
                disks=lambda: (),
            ),
            self.clearer,
            self.cloud,
            lambda server: self.domain,
            'here',
            timeout_s=7.0,
            **named,
        )

    def settle(self, server, action, timeout_s):
        self.journal.forget(server)

    def clear(self, server, found, timeout_s):
        for trace in found:
            pathlib.Path(trace.name).unlink()

    def left(self, role, **values):
        self.journal.write(fakes.record(role, **values))

    def stray(self, server=SERVER):
        path = self.root / 'instances' / server / 'disk.sxm-overlay'
        path.parent.mkdir(parents=True)
        path.touch()
        return path

    def standing(self):
        (case,) = self.upkeep.leftovers()
        self.assertEqual(SERVER, case.server)
        self.assertTrue(case.reason)
        self.assertTrue(case.traces)
        return case.standing

    def run_it(self, actions=sxm_upkeep.EITHER, **named):
        return [
            (result.action, result.error)
            for result in self.upkeep.run(actions, **named)
        ]


@ddt.ddt
class TestStanding(UpkeepTestCase):
    def test_nothing(self):
        self.assertEqual([], self.upkeep.leftovers())

    @ddt.data(State.RUNNING, State.ABSENT, State.SHUTOFF)
    def test_a_source(self, state):
        self.domain.now = state
        self.left(Role.SOURCE)
        self.assertIs(Standing.CUT_SHORT, self.standing())

    def test_a_source_whose_guest_has_gone(self):
        self.left(Role.SOURCE, committed=True)
        self.assertIs(Standing.MOVED_AWAY, self.standing())

    @ddt.data(
        (State.RUNNING, Standing.ARRIVED),
        (State.PAUSED, Standing.ARRIVED),
        (State.SHUTOFF, Standing.ARRIVED),
        (State.INCOMING, Standing.UNDER_WAY),
        (State.ABSENT, Standing.CUT_SHORT),
    )
    @ddt.unpack
    def test_a_destination(self, state, standing):
        self.domain.now = state
        self.left(Role.DESTINATION)
        self.assertIs(standing, self.standing())

    def test_a_destination_that_may_still_be_reached(self):
        self.left(Role.DESTINATION)
        self.cloud.moving = True
        self.assertIs(Standing.UNDER_WAY, self.standing())

    def test_a_destination_and_nobody_to_ask(self):
        self.left(Role.DESTINATION)
        self.cloud.error = exception.Retryable('silence')
        self.assertIs(Standing.UNCLEAR, self.standing())
        self.upkeep = self.make(assume_ended=True)
        self.assertIs(Standing.CUT_SHORT, self.standing())

    def test_a_committed_destination_without_its_guest(self):
        self.left(Role.DESTINATION, committed=True)
        self.assertIs(Standing.ARRIVED, self.standing())

    def test_another_process_is_at_it(self):
        self.left(Role.SOURCE)
        with self.journal.hold(SERVER):
            self.assertIs(Standing.UNDER_WAY, self.standing())

    def test_no_record(self):
        self.stray()
        self.assertIs(Standing.STRAY, self.standing())

    def test_a_damaged_record(self):
        self.left(Role.SOURCE)
        (self.root / 'state' / f'{SERVER}.json').write_text('{"sch')
        self.assertIs(Standing.UNCLEAR, self.standing())

    def test_a_hypervisor_that_is_silent(self):
        self.left(Role.DESTINATION)
        self.domain.now = exception.Retryable('no libvirtd')
        self.assertIs(Standing.UNCLEAR, self.standing())

    def test_only_one_server(self):
        self.left(Role.SOURCE)
        self.stray(OTHER)
        self.assertEqual(2, len(self.upkeep.leftovers()))
        (case,) = self.upkeep.leftovers([OTHER])
        self.assertEqual(OTHER, case.server)

    def test_as_data(self):
        self.left(Role.SOURCE)
        (case,) = self.upkeep.leftovers()
        data = case.to_dict()
        self.assertEqual(
            ('source', 'there', 'cut short'),
            (data['role'], data['peer'], data['standing']),
        )
        self.assertEqual('journal', data['traces'][0]['kind'])


@ddt.ddt
class TestRun(UpkeepTestCase):
    def test_nothing(self):
        self.assertEqual([], self.run_it())

    @ddt.data(
        (Role.SOURCE, State.RUNNING, False, Action.UNDO),
        (Role.DESTINATION, State.ABSENT, False, Action.UNDO),
        (Role.DESTINATION, State.RUNNING, True, Action.FOLD),
    )
    @ddt.unpack
    def test_settled_once(self, role, state, committed, action):
        self.domain.now = state
        self.left(role, committed=committed)
        self.assertEqual([(action, '')], self.run_it())
        self.settler.settle.assert_called_once_with(SERVER, mock.ANY, 7.0)
        self.assertEqual([], self.run_it())

    @ddt.data(
        (sxm_upkeep.FORWARD, Role.SOURCE, False, '"rollback" undoes'),
        (sxm_upkeep.BACK, Role.DESTINATION, True, '"resume" finishes'),
        (sxm_upkeep.BACK, Role.SOURCE, True, '"resume" finishes'),
    )
    @ddt.unpack
    def test_never_the_other_way(self, actions, role, committed, text):
        self.left(role, committed=committed)
        ((action, error),) = self.run_it(actions)
        self.assertIs(Action.NONE, action)
        self.assertIn(text, error)
        self.settler.settle.assert_not_called()
        self.assertIsNotNone(self.journal.read(SERVER))

    def test_what_is_under_way_is_left_alone(self):
        self.left(Role.SOURCE)
        with self.journal.hold(SERVER):
            ((action, error),) = self.run_it()
        self.assertIs(Action.NONE, action)
        self.assertIn('works at it', error)
        self.settler.settle.assert_not_called()

    def test_dry(self):
        self.left(Role.SOURCE)
        self.stray(OTHER)
        self.assertEqual(
            [(Action.UNDO, ''), (Action.CLEAR, '')], self.run_it(dry_run=True)
        )
        self.settler.settle.assert_not_called()
        self.clearer.clear.assert_not_called()

    def test_one_that_fails_does_not_stop_the_others(self):
        self.left(Role.SOURCE)
        self.settler.settle.side_effect = exception.NeedsOperator('full')
        path = self.stray(OTHER)
        self.assertEqual(
            [(Action.UNDO, 'full'), (Action.CLEAR, '')], self.run_it()
        )
        self.assertFalse(path.exists())

    def test_what_the_record_did_not_tell_of_goes_too(self):
        self.left(Role.SOURCE)
        path = self.stray()
        self.assertEqual(
            [(Action.UNDO, ''), (Action.CLEAR, '')], self.run_it()
        )
        self.assertFalse(path.exists())

    def test_a_stray_is_nothing_to_roll_back(self):
        path = self.stray()
        ((action, error),) = self.run_it(sxm_upkeep.BACK)
        self.assertIs(Action.NONE, action)
        self.assertIn('"cleanup" clears', error)
        self.assertTrue(path.exists())

    def test_a_stray_is_held_while_it_is_cleared(self):
        self.stray()
        self.clearer.clear.side_effect = lambda *_: self.assertTrue(
            self.journal.is_held(SERVER)
        )
        self.run_it()
        self.clearer.clear.assert_called_once()


@ddt.ddt
class TestForget(UpkeepTestCase):
    """The guest has gone; its host must be certain before files go."""

    def setUp(self):
        super().setUp()
        self.left(Role.SOURCE, committed=True)

    @ddt.data('there', 'elsewhere', '')
    def test_it_lives_elsewhere_or_not_any_more(self, host):
        self.cloud.host = host
        self.assertEqual([(Action.FORGET, '')], self.run_it())
        self.clearer.drop.assert_called_once()
        self.assertIsNone(self.journal.read(SERVER))

    def assert_kept(self, text):
        ((_, error),) = self.run_it()
        self.assertIn(text, error)
        self.clearer.drop.assert_not_called()
        self.assertIsNotNone(self.journal.read(SERVER))

    def test_nova_has_it_here(self):
        self.cloud.host = 'here'
        self.assert_kept('Nova has it on here')

    @ddt.data(State.RUNNING, State.SHUTOFF, State.PAUSED)
    def test_it_is_here(self, state):
        self.domain.now = state
        self.assert_kept(f'it is {state} here')

    def test_nova_is_silent(self):
        self.cloud.error = exception.Retryable('silence')
        self.assert_kept('silence')
