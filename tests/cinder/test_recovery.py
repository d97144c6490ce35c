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

from cinder.db import api as db
from cinder.tests.unit import fake_constants
from cinder.volume import rpcapi

from sxm_openstack.cinder import recovery

from tests.cinder import images

MIB = 1 << 20


class RecoveryTest(images.ImagesCase):
    def setUp(self):
        super().setUp()
        self.deleted = []
        for name, new in (
            (
                'delete_volume',
                lambda api, ctxt, one: self.deleted.append(one.id),
            ),
            ('update_migrated_volume', self.update_migrated_volume),
        ):
            patcher = mock.patch.object(rpcapi.VolumeAPI, name, new)
            patcher.start()
            self.addCleanup(patcher.stop)
        self.recovery = recovery.Recovery(self.volume)

    def update_migrated_volume(self, ctxt, volume, new, status):
        self.volume.update_migrated_volume(ctxt, volume, new, status)

    def cut_short(self, **values):
        """A volume as the end of cinder-volume in a copy leaves it."""
        return self.make_image(
            'raw',
            'write -P 5 100M 10M',
            migration_status='migrating',
            previous_status='available',
            **values,
        )

    def target(self, source, **values):
        return self.make_image(
            'raw',
            migration_status=f'target:{source.id}',
            use_quota=False,
            **values,
        )

    def settle(self):
        self.recovery.settle(self.recovery.find())

    def test_what_a_request_begins_meanwhile_is_not_cut_short(self):
        self.recovery.look()
        source = self.cut_short(status='retyping')
        target = self.target(source, status='creating')
        with mock.patch.object(self.recovery, 'settle') as settle:
            self.recovery.start()
        self.assertFalse(settle.called)
        self.assertNotIn(target.id, self.deleted)

    def test_copy_is_completed(self):
        source = self.cut_short(status='maintenance')
        target = self.target(source, host='other@backend#pool')
        self.settle()
        source.refresh()
        self.assertEqual('available', source.status)
        self.assertEqual('success', source.migration_status)
        self.assertEqual('other@backend#pool', source.host)
        self.assertEqual(
            images.content(*self.files[source.id]),
            images.content(*self.files[target.id]),
        )
        # The old storage is now the other row's.
        self.assertEqual([target.id], self.deleted)

    def test_retyped_volume_counts_as_one_of_the_new_type(self):
        one, other = self.make_type('one'), self.make_type('other')
        source = self.cut_short(status='retyping', volume_type_id=one)
        self.target(source, volume_type_id=other)
        for type_id, sign in ((one, -1), (other, 1)):
            # As the API did, and nobody committed.
            self.reserve(source, type_id, sign)
        self.settle()
        source.refresh()
        self.assertEqual(other, source.volume_type_id)
        self.assertEqual(
            [0, 1],
            self.in_use(source.project_id, 'volumes_one', 'volumes_other'),
        )

    def test_without_a_copy_it_is_undone(self):
        source = self.cut_short(status='maintenance')
        self.settle()
        source.refresh()
        self.assertEqual('available', source.status)
        self.assertEqual('error', source.migration_status)

    def test_copy_that_is_not_created_is_deleted(self):
        source = self.cut_short(status='retyping')
        target = self.target(source, status='creating')
        self.settle()
        source.refresh()
        self.assertEqual('available', source.status)
        self.assertEqual('error', source.migration_status)
        self.assertEqual([target.id], self.deleted)

    def test_failure_of_one_is_undone_and_stops_no_other(self):
        bad, good = self.cut_short(), self.cut_short()
        bad_target, good_target = self.target(bad), self.target(good)
        del self.files[bad.id]
        self.settle()
        bad.refresh()
        good.refresh()
        self.assertEqual(
            ['error', 'success'], [bad.migration_status, good.migration_status]
        )
        self.assertEqual({bad_target.id, good_target.id}, set(self.deleted))

    def test_volume_in_use_is_left_to_nova(self):
        source = self.cut_short()
        db.volume_attach(
            self.admin,
            {
                'volume_id': source.id,
                'instance_uuid': fake_constants.INSTANCE_ID,
                'attach_status': 'attached',
            },
        )
        self.assertEqual([], self.recovery.find())

    def test_other_volumes_are_left_alone(self):
        self.make_image('raw')
        self.make_image(
            'raw', migration_status='migrating', host='other@backend#pool'
        )
        self.assertEqual([], self.recovery.find())
