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

"""Moves that are ended or hurried; the guest never notices."""

from __future__ import annotations

import time

from tests.e2e import stops


class TestStops(stops.StopCase):
    """Asked for by an operator."""

    def test_abort_while_disks_are_copied(self) -> None:
        number = self.begin('20mbps', 'sxm_disk_vdb')
        self.request(number, 'DELETE')
        self.assert_stayed('cancelled')
        self.assert_named('sxm_disk_vdb', 'aborted')

    def test_abort_while_memory_goes(self) -> None:
        number = self.begin('40mbps', 'sxm_hand_over')
        self.link('2mbps')
        self.server.wait_stage('sxm_memory')
        time.sleep(3)
        self.request(number, 'DELETE')
        self.assert_stayed('cancelled')
        self.assert_named('sxm_memory', 'aborted')

    def test_force_complete_while_disks_are_copied(self) -> None:
        number = self.begin('40mbps', 'sxm_disk_vd')
        self.request(number, 'POST', '/action')
        self.assertEqual('completed', self.server.wait_end()['status'])
        self.assertEqual('ACTIVE', self.server.show()['status'])
        self.assert_at(self.server, self.there)
        self.assert_verified(self.server)
