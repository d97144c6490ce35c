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

"""Requests for a server, or for its move, in the middle of it."""

from __future__ import annotations

from tests.e2e import stops


class TestRequests(stops.StopCase):
    """Asked for by an operator or by the owner of the server."""

    def test_force_complete_while_memory_goes(self) -> None:
        number = self.begin('40mbps', 'sxm_hand_over')
        self.link('2mbps')
        self.server.wait_stage('sxm_memory')
        self.request(number, 'POST', '/action')
        self.link('off')
        self.assertEqual('completed', self.server.wait_end()['status'])
        self.assertEqual('ACTIVE', self.server.show()['status'])
        self.assert_at(self.server, self.there)
        self.assert_verified(self.server)

    def test_delete_while_disks_are_copied(self) -> None:
        other = self.cloud.boot('deleted', self.source)
        self.addCleanup(other.delete)
        other.guest.write('vdb', 'sequential', 65536, span=64 << 20)
        self.cloud.wait(
            'something written',
            lambda: other.guest.report().by_disk['vdb'].acked_bytes > 48 << 20,
            240,
        )
        self.link('5mbps')
        other.migrate(self.there)
        other.wait_stage('sxm_disk_vdb')
        other.delete()
        for host in (self.source, self.there):
            self.cloud.wait(
                f'end of what {host} had of it',
                lambda host=host: (
                    not other.files(host) and not other.domain_xml(host)
                ),
                240,
            )
            self.assert_no_traces(other, host)
