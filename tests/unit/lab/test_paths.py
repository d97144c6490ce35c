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

"""The plan of hosts and addresses."""

import ipaddress
import os
import pathlib
import unittest
from unittest import mock

from tests.lab import paths


class PlanTests(unittest.TestCase):
    def test_management_and_migration_are_two_networks(self):
        guests = ipaddress.ip_network(paths.GUEST_CIDR)
        for plan in paths.HOSTS:
            with self.subTest(plan.name):
                own = ipaddress.ip_address(plan.address)
                other = ipaddress.ip_address(plan.migration_address)
                self.assertIn(own, guests)
                self.assertNotIn(other, guests)
                self.assertEqual(own.packed[-1], other.packed[-1])

    def test_no_host_has_an_address_of_the_guests(self):
        first, last = map(ipaddress.ip_address, paths.GUEST_POOL)
        for plan in paths.HOSTS:
            own = ipaddress.ip_address(plan.address)
            self.assertFalse(first <= own <= last, plan.name)

    def test_two_computes_share_a_cell_and_one_is_in_another(self):
        cells = [plan.cell for plan in paths.COMPUTES]
        self.assertEqual(["cell1", "cell1", "cell2"], cells)
        self.assertFalse(paths.plan_of(paths.CTL).is_compute)

    def test_every_host_is_in_etc_hosts_twice(self):
        lines = paths.etc_hosts().splitlines()
        for plan in paths.HOSTS:
            self.assertIn(f"{plan.address} {plan.name}", lines)
            self.assertIn(f"{plan.migration_address} {plan.name}-mig", lines)

    def test_an_unknown_host_is_refused_with_the_known_ones(self):
        with self.assertRaisesRegex(paths.LabError, "'node9'.*compute1"):
            paths.plan_of("node9")


class DirectoryTests(unittest.TestCase):
    def test_the_environment_moves_both(self):
        moved = {"SXM_LAB_CACHE": "/x/cache", "SXM_LAB_STATE": "/x/state"}
        with mock.patch.dict(os.environ, moved):
            self.assertEqual(pathlib.Path("/x/cache"), paths.cache_dir())
            self.assertEqual(pathlib.Path("/x/state"), paths.state_dir())
