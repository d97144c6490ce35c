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

from unittest import mock

from cinder import exception
from cinder import objects
from cinder.volume import driver
from cinder.volume import rpcapi

from tests.cinder import base

OTHER = {'host': 'other@backend#pool', 'cluster_name': None}


class RetypeTest(base.ManagerCase):
    def setUp(self):
        super().setUp()
        self.use_driver(retype=driver.BaseVD.retype)

    def use_driver(self, **methods):
        """Give the driver other methods; by default it cannot retype."""
        kind = type(self.volume.driver)
        self.volume.driver.__class__ = type(kind.__name__, (kind,), methods)

    def retype(self, volume, new_type_id, host, policy='on-demand'):
        volume.previous_status = volume.status
        volume.status = 'retyping'
        volume.save()
        with mock.patch.object(
            self.volume, 'migrate_volume', autospec=True
        ) as migrate:
            self.volume.retype(self.admin, volume, new_type_id, host, policy)
        volume.refresh()
        return migrate

    def here(self):
        return {'host': f'{self.volume.host}#pool', 'cluster_name': None}

    def test_equal_type_on_another_backend_moves_data(self):
        one, other = self.make_type('one', a='1'), self.make_type('b', a='1')
        volume = self.make_volume(volume_type_id=one)
        old_host = volume.host
        migrate = self.retype(volume, other, OTHER)
        self.assertEqual(1, migrate.call_count)
        # Where it is is written down when it is there.
        self.assertEqual(old_host, volume.host)

    def test_type_for_the_scheduler_alone_moves_no_data(self):
        one = self.make_type('one')
        other = self.make_type('other', volume_backend_name='pool')
        volume = self.make_volume(volume_type_id=one)
        migrate = self.retype(volume, other, self.here())
        self.assertFalse(migrate.called)
        self.assertEqual(other, volume.volume_type_id)
        self.assertEqual('available', volume.status)
        self.assertEqual(volume.id, volume.name_id)


StockRetypeTest = base.fails_on_stock(RetypeTest)


class RefusedRetypeTest(RetypeTest):
    """Refusals leave the volume as it was."""

    test_equal_type_on_another_backend_moves_data = None
    test_type_for_the_scheduler_alone_moves_no_data = None

    def check_refused(self, volume, policy, error):
        other = self.make_type('other', a='1')
        self.assertRaises(error, self.retype, volume, other, OTHER, policy)
        volume.refresh()
        self.assertEqual('available', volume.status)
        self.assertNotEqual(other, volume.volume_type_id)

    def test_move_that_is_not_allowed(self):
        volume = self.make_volume(volume_type_id=self.make_type('one', a='1'))
        self.check_refused(volume, 'never', exception.VolumeMigrationFailed)

    def test_move_with_snapshots(self):
        volume = self.make_volume(volume_type_id=self.make_type('one', a='1'))
        objects.Snapshot(
            self.admin, volume_id=volume.id, volume_size=1, status='available'
        ).create()
        self.check_refused(volume, 'on-demand', exception.InvalidVolume)

    def test_driver_that_can_retype_is_asked(self):
        volume = self.make_volume(volume_type_id=self.make_type('one'))
        other = self.make_type('other', volume_backend_name='pool')

        def retype(*arguments):
            return True, {'provider_location': 'by the driver'}

        self.use_driver(retype=retype)
        migrate = self.retype(volume, other, self.here())
        self.assertFalse(migrate.called)
        self.assertEqual('by the driver', volume.provider_location)

    def test_other_differences_move_data(self):
        volume = self.make_volume(volume_type_id=self.make_type('one'))
        other = self.make_type('other', replicas='2')
        migrate = self.retype(volume, other, self.here())
        self.assertEqual(1, migrate.call_count)


class CapacityTest(base.ManagerCase):
    """What is left of a migration no longer counts as allocated."""

    def delete(self, migration_status):
        volume = self.make_volume(
            size=3, use_quota=False, migration_status=migration_status
        )
        self.volume.delete_volume(self.admin, volume)
        self.assertEqual(97, self.allocated_gb())

    def test_source_of_a_migration(self):
        self.delete('deleting')

    def test_destination_of_a_failed_migration(self):
        self.delete('target:c0ffee00-0000-4000-8000-000000000000')


StockCapacityTest = base.fails_on_stock(CapacityTest)


class OtherCapacityTest(base.ManagerCase):
    def test_volume_of_a_user_counts_once(self):
        volume = self.make_volume(size=3)
        self.volume.delete_volume(self.admin, volume)
        self.assertEqual(97, self.allocated_gb())

    def test_volume_that_cannot_be_deleted_still_counts(self):
        volume = self.make_volume(
            size=3, use_quota=False, migration_status='deleting'
        )
        with mock.patch.object(
            self.volume.driver, 'delete_volume', side_effect=OSError
        ):
            self.assertRaises(
                OSError, self.volume.delete_volume, self.admin, volume
            )
        self.assertEqual(100, self.allocated_gb())


class LateFailureTest(base.ManagerCase):
    """Nova fails after Cinder has committed the quotas of a retype."""

    def test_quotas_are_those_of_the_old_type(self):
        one, other = self.make_type('one'), self.make_type('other')
        volume = self.make_volume(
            volume_type_id=one, status='retyping', previous_status='in-use'
        )
        new = self.make_volume(
            volume_type_id=other,
            migration_status=f'target:{volume.id}',
            use_quota=False,
        )
        names = ['volumes_one', 'gigabytes_one']
        names += ['volumes_other', 'gigabytes_other', 'volumes']
        for type_id, sign in ((one, -1), (other, 1)):
            base.quota.QUOTAS.commit(
                self.admin,
                self.reserve(volume, type_id, sign),
                project_id=volume.project_id,
            )
        self.assertEqual(
            [0, 0, 1, 1, 0], self.in_use(volume.project_id, *names)
        )
        with mock.patch.object(rpcapi.VolumeAPI, 'delete_volume'):
            self.volume.migrate_volume_completion(
                self.admin, volume, new, error=True
            )
        self.assertEqual(
            [1, 1, 0, 0, 0], self.in_use(volume.project_id, *names)
        )
        self.assertEqual('in-use', volume.status)


StockLateFailureTest = base.fails_on_stock(LateFailureTest)
