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
import threading
import types
import unittest
from unittest import mock

import ddt
from nova import exception as nova_exception
from nova import objects
import nova.conf
from nova.virt.libvirt import driver as libvirt_driver

from sxm_openstack import exception
from sxm_openstack.engine import checks
from sxm_openstack.nova import checks as sxm_checks
from sxm_openstack.nova import driver as sxm_driver
from sxm_openstack.nova import events
from sxm_openstack.nova import options
from sxm_openstack.nova import peer
from sxm_openstack.nova import receiving
from sxm_openstack.nova import session as sxm_session

from tests.unit.mirror import test_pair
from tests.unit.nova import fakes

CONF = nova.conf.CONF
_MIGRATION = '3f1b6b0e-0000-4000-8000-00000000000f'
NovaDriver = libvirt_driver.LibvirtDriver


class DriverTestCase(unittest.TestCase):
    """A driver that was not started: no hypervisor, no database."""

    def setUp(self):
        super().setUp()
        options.register()
        self.addCleanup(CONF.clear_override, 'fallback', 'sxm')
        self.driver = sxm_driver.SXMLibvirtDriver.__new__(
            sxm_driver.SXMLibvirtDriver
        )
        self.driver._moves = mock.Mock()
        self.driver._moves.session.return_value = None
        self.driver._moves.take_cut_short.return_value = None
        self.driver._moves.gone.return_value = {}
        self.driver._moves.facts.return_value = test_pair.THERE
        self.driver._reporters = {}
        self.driver._manager = mock.Mock()
        self.driver.active_migrations = {}
        self.instance = mock.Mock(
            uuid=fakes.SERVER, host='here', task_state='migrating'
        )
        self.data = objects.LibvirtLiveMigrateData(block_migration=True)
        self.data.migration = objects.Migration(uuid=_MIGRATION)
        self.patch(objects.Migration, 'save')
        self.stages = mock.Mock()
        self.patch(events, 'Stages').return_value = self.stages
        self.make = self.patch(sxm_driver.sxm_plan, 'make')
        self.make.return_value.drivers = {}

    def patch(self, where, name, **values):
        patcher = mock.patch.object(where, name, **values)
        self.addCleanup(patcher.stop)
        return patcher.start()


class TestPreCheck(DriverTestCase):
    def setUp(self):
        super().setUp()
        self.novas = self.patch(
            NovaDriver, 'check_can_live_migrate_source', autospec=True
        )
        self.novas.side_effect = lambda *arguments: self.data
        peer.mark(self.data)
        self.made = self.driver._moves.check
        self.made.side_effect = lambda server, disks, there, trouble: (
            checks.require(trouble)
        )

    def check(self):
        return self.driver.check_can_live_migrate_source(
            'context', self.instance, self.data, {}
        )

    def assert_refused(self, text):
        with self.assertRaisesRegex(
            nova_exception.MigrationPreCheckError, text
        ):
            self.check()

    def test_a_server_that_can_go(self):
        self.assertIs(self.data, self.check())
        self.make.assert_called_once()

    def test_one_report_of_everything(self):
        sxm_checks.attach(self.data, test_pair.THERE)
        self.make.return_value.disks = (fakes.disk(),)
        self.check()
        self.made.assert_called_once_with(
            fakes.SERVER, (fakes.disk(),), test_pair.THERE, ()
        )

    def test_what_the_report_says_is_what_the_api_shows(self):
        self.made.side_effect = exception.PreCheckFailed('space: 3 MiB')
        self.assert_refused('space: 3 MiB')

    def test_a_server_that_goes_by_nova_is_not_looked_at(self):
        CONF.set_override('fallback', ['nova'], 'sxm')
        self.make.side_effect = exception.UnsupportedServer('vda: LUKS')
        self.check()
        self.made.assert_not_called()

    def test_without_block_migration_nova_decides_alone(self):
        self.data.block_migration = False
        self.make.side_effect = exception.UnsupportedServer('rbd')
        self.check()
        self.make.assert_not_called()

    def test_disks_of_the_move_before_are_settled_first(self):
        """Trap 3."""
        self.driver._moves.settle.side_effect = exception.PreCheckFailed(
            'still being folded'
        )
        self.assert_refused('still being folded')
        self.novas.assert_not_called()

    def test_a_server_that_cannot_go(self):
        self.make.side_effect = exception.UnsupportedServer('vda: LUKS')
        self.assert_refused('vda: LUKS')

    def test_a_server_that_may_go_by_nova(self):
        CONF.set_override('fallback', ['nova'], 'sxm')
        self.make.side_effect = exception.UnsupportedServer('vda: LUKS')
        with self.assertLogs(sxm_driver.LOG.logger, 'WARNING') as log:
            self.check()
        self.assertIn('vda: LUKS', log.output[0])

    def test_what_has_to_be_changed_first_is_no_reason_for_another_way(self):
        CONF.set_override('fallback', ['nova'], 'sxm')
        self.make.side_effect = exception.PreCheckFailed('no space')
        self.assert_refused('no space')

    def test_a_destination_without_us(self):
        self.data.old_vol_attachment_ids = {}
        self.assert_refused('does not run sxm.SXMLibvirtDriver')
        CONF.set_override('fallback', ['nova'], 'sxm')
        self.check()


class TestMarks(DriverTestCase):
    def test_the_pre_check_on_the_destination(self):
        self.patch(
            NovaDriver, 'check_can_live_migrate_destination', autospec=True
        ).return_value = self.data
        data = self.driver.check_can_live_migrate_destination(
            'context', self.instance, {}, {}
        )
        peer.require_mark(data)
        self.driver._moves.facts.assert_called_once_with(fakes.SERVER)
        self.assertEqual(test_pair.THERE, sxm_checks.take(data))

    def check_there(self):
        self.patch(
            NovaDriver, 'check_can_live_migrate_destination', autospec=True
        ).return_value = self.data
        return self.driver.check_can_live_migrate_destination(
            'context', self.instance, {}, {}
        )

    def test_without_block_migration_nothing_is_looked_at(self):
        self.data.block_migration = False
        self.assertIsNone(sxm_checks.take(self.check_there()))
        self.driver._moves.facts.assert_not_called()

    def test_a_destination_that_cannot_look_at_itself(self):
        self.driver._moves.facts.side_effect = exception.Retryable('libvirtd')
        with self.assertRaisesRegex(
            nova_exception.MigrationPreCheckError, 'libvirtd'
        ):
            self.check_there()

    def test_the_preparation_of_the_destination(self):
        self.patch(
            NovaDriver, 'pre_live_migration', autospec=True
        ).return_value = self.data
        self.data.old_vol_attachment_ids = {}
        data = self.driver.pre_live_migration(
            'context', self.instance, {}, {}, None, self.data
        )
        peer.require_mark(data)
        self.driver._moves.arrivals.expect.assert_called_once_with(
            fakes.SERVER, 'here'
        )


class TestSource(DriverTestCase):
    def setUp(self):
        super().setUp()
        peer.mark(self.data)
        self.patch(sxm_driver.peer, 'connect')
        self.patch(objects.BlockDeviceMappingList, 'get_by_instance_uuid')
        self.patch(
            sxm_driver.virt_driver, 'get_block_device_info'
        ).return_value = {}
        self.novas = self.patch(NovaDriver, 'live_migration', autospec=True)
        self.novas.side_effect = self.migrate_memory
        self.nova = mock.Mock()
        self.domain = fakes.FakeDomain()
        self.move = fakes.source_move()
        self.session = sxm_session.Session(
            self.move, self.domain, clock=fakes.FakeClock()
        )
        self.driver._moves.begin.return_value = self.session
        self.memory = lambda post, recover: post(*self.what(True))

    def what(self, *more):
        return ('context', self.instance, 'there', *more, self.data)

    def migrate_memory(self, _, context, instance, dest, post, recover, *__):
        self.memory(post, recover)

    def migrate(self):
        self.driver.live_migration(
            'context',
            self.instance,
            'there',
            self.nova.post,
            self.nova.recover,
            True,
            self.data,
        )

    def assert_failed(self, status='failed'):
        """Trap 4: Nova undoes its part, and sees no exception."""
        self.nova.recover.assert_called_once_with(
            *self.what(), migration_status=status
        )
        self.nova.post.assert_not_called()
        self.driver._moves.end.assert_called_once_with(fakes.SERVER)
        self.assertEqual({}, self.driver._reporters)

    def test_it_goes(self):
        self.migrate()
        self.move.run.assert_called_once_with()
        self.move.complete.assert_called_once_with(keep_record=True)
        self.nova.post.assert_called_once_with(*self.what(True))
        self.nova.recover.assert_not_called()
        self.driver._moves.end.assert_called_once_with(fakes.SERVER)
        self.stages.begin.assert_any_call(events.MEMORY)

    def test_without_block_migration_it_is_novas_own(self):
        self.data.block_migration = False
        self.migrate()
        self.driver._moves.begin.assert_not_called()
        self.assertEqual(
            (self.nova.post, self.nova.recover), self.novas.call_args[0][4:6]
        )

    def test_by_novas_own_way_where_that_is_allowed(self):
        CONF.set_override('fallback', ['nova'], 'sxm')
        self.make.side_effect = exception.UnsupportedServer('LUKS')
        self.migrate()
        self.driver._moves.begin.assert_not_called()
        self.nova.post.assert_called_once()

    def test_it_does_not_begin(self):
        for error in (exception.UnsupportedServer('LUKS'), OSError('broken')):
            self.nova.reset_mock()
            self.make.side_effect = error
            self.migrate()
            self.nova.recover.assert_called_once_with(*self.what())
            self.novas.assert_not_called()
            self.stages.end.assert_called_with(error)

    def test_the_storage_stage_fails(self):
        error = exception.CopyFailed('no space', disk='vda')
        self.move.run.side_effect = error
        self.migrate()
        self.assert_failed()
        self.novas.assert_not_called()
        self.stages.end.assert_any_call(error)

    def abort(self):
        """As an operator does, whose request has a thread of its own."""
        thread = threading.Thread(
            target=self.driver.live_migration_abort, args=(self.instance,)
        )
        thread.start()
        thread.join()

    def test_the_storage_stage_is_aborted(self):
        self.driver._moves.session.return_value = self.session

        def run():
            self.abort()
            self.session._control.check()

        self.move.run.side_effect = run
        self.migrate()
        self.assert_failed('cancelled')

    def test_the_abort_comes_with_the_last_step(self):
        """The storage stage is done then: it has to be undone."""
        self.driver._moves.session.return_value = self.session
        self.move.run.side_effect = self.abort
        self.migrate()
        self.assert_failed('cancelled')
        self.move.rollback.assert_called_once_with()

    def test_the_memory_stage_fails(self):
        self.memory = lambda post, recover: recover(*self.what())
        self.migrate()
        self.assert_failed()
        self.move.rollback.assert_called_once_with()

    def test_nova_raises_what_it_has_recovered_from(self):
        """Its monitor collects the result of the thread in the end."""

        def memory(post, recover):
            recover(*self.what())
            raise fakes.libvirt_error(9, text='migration failed')

        self.memory = memory
        self.migrate()
        self.assert_failed()
        self.move.rollback.assert_called_once_with()

    def test_nova_is_cut_short(self):
        self.driver._moves.session.return_value = self.session

        def memory(post, recover):
            # As its monitor does before it raises.
            self.driver.live_migration_abort(self.instance)
            raise fakes.libvirt_error(38, text='daemon gone')

        self.memory = memory
        self.migrate()
        self.assert_failed()

    def test_nova_is_cut_short_after_the_guest_has_gone(self):
        def memory(post, recover):
            self.domain.now = 'absent'
            self.move.move.destination.state.return_value = 'running'
            raise fakes.libvirt_error(38, text='daemon gone')

        self.memory = memory
        self.migrate()
        self.nova.post.assert_called_once()
        self.nova.recover.assert_not_called()
        self.move.rollback.assert_not_called()

    def test_failures_of_novas_own_end_are_novas(self):
        self.nova.post.side_effect = RuntimeError('no database')
        with self.assertRaisesRegex(RuntimeError, 'no database'):
            self.migrate()
        self.move.rollback.assert_not_called()
        self.nova.recover.assert_not_called()


@ddt.ddt
class TestRequests(DriverTestCase):
    def setUp(self):
        super().setUp()
        self.session = mock.Mock(stage=sxm_session.Stage.STORAGE, forced=False)

    def begin(self):
        self.driver._moves.session.return_value = self.session

    def test_abort(self):
        self.begin()
        self.driver.live_migration_abort(self.instance)
        self.session.abort.assert_called_once()

    def test_abort_after_a_restart_when_it_has_gone(self):
        """There is no way back any more."""
        self.driver._moves.gone.return_value = {fakes.SERVER: 'there'}
        novas = self.patch(NovaDriver, 'live_migration_abort')
        self.driver.live_migration_abort(self.instance)
        self.driver._moves.take_cut_short.assert_not_called()
        novas.assert_not_called()

    @ddt.data((True, 1), (False, 0))
    @ddt.unpack
    def test_what_has_gone_is_ended_at_the_start(self, ended, times):
        self.patch(NovaDriver, 'init_host')
        self.driver._moves.gone.return_value = {fakes.SERVER: 'there'}
        finish = self.patch(sxm_driver.finishing, 'finish', return_value=ended)
        self.driver.init_host('here')
        finish.assert_called_once_with(
            self.driver._manager, fakes.SERVER, 'there'
        )
        self.assertEqual(times, self.driver._moves.forget.call_count)

    def test_abort_of_novas_own(self):
        novas = self.patch(NovaDriver, 'live_migration_abort', autospec=True)
        self.driver.live_migration_abort(self.instance)
        novas.assert_called_once_with(self.driver, self.instance)

    def test_abort_after_a_restart_empties_the_destination(self):
        self.driver._moves.take_cut_short.return_value = 'there'
        roll_back = self.patch(peer, 'roll_back')
        self.driver.live_migration_abort(self.instance)
        roll_back.assert_called_once_with(
            self.driver._manager, self.instance, 'there'
        )

    def test_force_complete_in_the_storage_stage(self):
        self.begin()
        self.driver.live_migration_force_complete(self.instance)
        self.session.force_complete.assert_called_once_with()

    def test_force_complete_in_the_memory_stage(self):
        self.begin()
        self.session.stage = sxm_session.Stage.MEMORY
        tasks = self.driver.active_migrations[fakes.SERVER] = []
        self.driver.live_migration_force_complete(self.instance)
        self.assertEqual(['force-complete'], tasks)

    def test_what_was_asked_before_the_memory_stage_is_done_in_it(self):
        self.begin()
        self.session.forced = True
        self.driver._reporters[fakes.SERVER] = mock.Mock()
        tasks = self.driver.active_migrations[fakes.SERVER] = []
        novas = self.patch(NovaDriver, '_live_migration_monitor')
        self.driver._live_migration_monitor(
            'context', self.instance, mock.Mock(), 'there', *range(6)
        )
        self.assertEqual(['force-complete'], tasks)
        novas.assert_called_once()


class TestDeleted(DriverTestCase):
    def test_the_destination_is_emptied_all_the_same(self):
        novas = self.patch(NovaDriver, 'rollback_live_migration_at_source')
        novas.side_effect = nova_exception.InstanceNotFound(instance_id='i')
        self.driver.rollback_live_migration_at_source(
            'context', self.instance, self.data
        )
        novas.assert_called_once()


class TestDestination(DriverTestCase):
    def setUp(self):
        super().setUp()
        self.arrivals = self.driver._moves.arrivals
        self.patch(objects.Migration, 'get_by_instance_and_status')
        self.novas = self.patch(
            NovaDriver, 'post_live_migration_at_destination', autospec=True
        )

    def arrive(self):
        self.driver.post_live_migration_at_destination(
            'context', self.instance, {}, True, {}
        )

    def test_arrived(self):
        worker = self.arrivals.arrived.return_value
        worker.is_alive.return_value = False
        self.arrive()
        worker.join.assert_called_once_with(CONF.sxm.flatten_timeout)
        self.stages.begin.assert_called_once_with(events.FLATTEN)
        self.stages.end.assert_called_once_with()

    def test_nova_does_not_wait_for_ever(self):
        worker = self.arrivals.arrived.return_value
        worker.is_alive.return_value = True
        end_with = self.patch(receiving, '_end_with')
        self.arrive()
        self.stages.end.assert_not_called()
        end_with.assert_called_once_with(worker, self.stages)

    def test_nova_is_not_told_of_overlays_that_are_left(self):
        self.arrivals.arrived.side_effect = exception.NeedsOperator('full')
        self.arrive()

    def test_what_fails_in_nova_leaves_no_overlays(self):
        self.novas.side_effect = RuntimeError('vif')
        self.arrivals.arrived.return_value = None
        with self.assertRaises(RuntimeError):
            self.arrive()
        self.arrivals.arrived.assert_called_once_with(fakes.SERVER)

    def test_rolled_back(self):
        novas = self.patch(
            NovaDriver, 'rollback_live_migration_at_destination'
        )
        order = mock.Mock()
        order.attach_mock(self.arrivals.discard, 'discard')
        order.attach_mock(novas, 'nova')
        self.driver.rollback_live_migration_at_destination(
            'context', self.instance, {}, {}, destroy_disks=True
        )
        self.assertEqual(
            ['discard', 'nova'], [call[0] for call in order.mock_calls]
        )

    def test_a_running_guest_is_never_destroyed(self):
        """Trap 9."""
        novas = self.patch(
            NovaDriver, 'rollback_live_migration_at_destination'
        )
        self.arrivals.discard.side_effect = exception.NeedsOperator('on')
        with self.assertRaises(exception.NeedsOperator):
            self.driver.rollback_live_migration_at_destination(
                'context', self.instance, {}, {}
            )
        novas.assert_not_called()


class TestStart(unittest.TestCase):
    def setUp(self):
        super().setUp()
        with contextlib.ExitStack() as stack:
            stack.enter_context(
                mock.patch.object(NovaDriver, '__init__', self.init)
            )
            self.virtapi = types.SimpleNamespace(
                _compute=types.SimpleNamespace(additional_endpoints=[])
            )
            self.driver = sxm_driver.SXMLibvirtDriver(self.virtapi)

    @staticmethod
    def init(driver, virtapi, read_only):
        driver._host = mock.Mock()

    def test_the_endpoint_is_served(self):
        (endpoint,) = self.virtapi._compute.additional_endpoints
        self.assertEqual('sxm', endpoint.target.namespace)

    def test_recovered_before_nova_looks_at_its_servers(self):
        order = mock.Mock()
        with (
            mock.patch.object(NovaDriver, 'init_host', order.nova),
            mock.patch.object(self.driver._moves, 'recover', order.recover),
        ):
            self.driver.init_host('here')
        self.assertEqual(
            ['nova', 'recover'], [call[0] for call in order.mock_calls]
        )

    def test_a_driver_without_a_manager(self):
        """nova-manage and the like."""
        with mock.patch.object(NovaDriver, '__init__', self.init):
            sxm_driver.SXMLibvirtDriver(object())
