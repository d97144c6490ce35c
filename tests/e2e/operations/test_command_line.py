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

"""The faces that operators know, through the command line."""

from __future__ import annotations

import json

from tests.e2e import base
from tests.e2e import cloud as cloud_mod


class TestCommandLine(base.CloudTestCase):
    """What is shown of a move, while it goes and afterwards."""

    server: cloud_mod.Server

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = cls.cloud.boot('shown', 'compute1')
        cls.addClassCleanup(cls.server.delete)

    def test_command_line(self) -> None:
        """What operators see, while it goes and afterwards."""
        server, source = self.server, self.server.host
        there = cloud_mod.other_host(source)
        cli = self.cloud.lab.openstack
        server.guest.write('vda', 'uniform', 4096, 2 << 20, span=48 << 20)
        server.guest.write('vdb', 'sequential', 65536, span=64 << 20)
        self.cloud.wait(
            'something written',
            lambda: (
                server.guest.report().by_disk['vdb'].acked_bytes > 48 << 20
            ),
            240,
        )
        # Slow enough for two commands to look at it.
        self.link('1mbps')
        cli(
            'server', 'migrate', '--live-migration', '--block-migration',
            '--host', there, server.uuid,
        )  # fmt: skip
        server.wait_stage('sxm_disk_vd')
        (listed,) = [
            one
            for one in cli(
                'server', 'migration', 'list', '--server', server.uuid
            )
            if one['Status'] == 'running'
        ]
        # By UUID: by number, this client asks for the server of that name.
        shown = cli('server', 'migration', 'show', server.uuid, listed['UUID'])
        self.assertEqual('running', shown['Status'])
        self.assertGreater(shown['Disk Total Bytes'], 0)
        self.link('off')
        self.assertEqual('completed', server.wait_end()['status'])
        newest = cli('server', 'event', 'list', server.uuid)[0]
        events = cli(
            'server', 'event', 'show', server.uuid, newest['Request ID']
        )
        text = json.dumps(events)
        for name in ('sxm_prepare', 'sxm_disk_vda', 'sxm_hand_over'):
            self.assertIn(name, text)
        self.assert_verified(server)
        self.assert_at(server, there)
