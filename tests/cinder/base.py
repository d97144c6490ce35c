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

"""Cinder's own test harness, with a manager of choice."""

from unittest import mock

from cinder import context
from cinder import quota
from cinder.db import api as db
from cinder.tests.unit import conf_fixture
from cinder.tests.unit import utils
from cinder.tests.unit import volume as unit_volume
from cinder.volume import volume_types

STOCK = 'cinder.volume.manager.VolumeManager'
OURS = 'sxm_openstack.cinder.manager.SXMVolumeManager'


class ManagerCase(unit_volume.BaseVolumeTestCase):
    """``self.volume`` is the manager, with a driver that logs."""

    manager = OURS

    def setUp(self):
        set_defaults = conf_fixture.set_defaults

        def with_manager(conf):
            set_defaults(conf)
            conf.set_default('volume_manager', self.manager)

        with mock.patch.object(conf_fixture, 'set_defaults', with_manager):
            super().setUp()
        self.assertEqual(
            self.manager.split('.')[-1], type(self.volume).__name__
        )
        self.admin = context.get_admin_context()
        self.volume.stats = {'pools': {'pool': {'allocated_capacity_gb': 100}}}

    def make_type(self, name, **specs):
        return volume_types.create(self.admin, name, extra_specs=specs)['id']

    def make_volume(self, **values):
        values = {
            'host': f'{self.volume.host}#pool',
            'size': 1,
            'status': 'available',
            **values,
        }
        return utils.create_volume(self.admin, **values)

    def allocated_gb(self):
        return self.volume.stats['pools']['pool']['allocated_capacity_gb']

    def in_use(self, project_id, *names):
        """What the quotas say is used of each resource."""
        found = db.quota_usage_get_all_by_project(self.admin, project_id)
        return [found.get(name, {'in_use': 0})['in_use'] for name in names]

    def reserve(self, volume, type_id, sign):
        """Reservations as Cinder's API makes them for a retype."""
        deltas = {'volumes': sign, 'gigabytes': sign * volume.size}
        quota.QUOTAS.add_volume_type_opts(self.admin, deltas, type_id)
        for total in ('volumes', 'gigabytes'):
            del deltas[total]
        return quota.QUOTAS.reserve(
            self.admin, project_id=volume.project_id, **deltas
        )


def fails_on_stock(case):
    """The same tests against Cinder's own manager, where each must fail.

    So a guard whose reason has gone in Cinder shows.
    """

    class Stock(case):
        manager = STOCK

    Stock.__name__ = Stock.__qualname__ = f'Stock{case.__name__}'
    Stock.__module__ = case.__module__

    def reversed_test(name):
        def test(self):
            try:
                getattr(case, name)(self)
            except AssertionError:
                return
            self.fail(f'{name} passes with Cinder alone')

        return test

    for name in [name for name in dir(case) if name.startswith('test_')]:
        setattr(Stock, name, reversed_test(name))
    return Stock
