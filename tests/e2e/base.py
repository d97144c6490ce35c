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

"""What the end to end tests have in common."""

from __future__ import annotations

import typing
import unittest

from tests.e2e import cloud as cloud_mod
from tests.lab import lab as lab_mod

OVERLAYS = ('sxm-overlay', 'sxm-handover')


class CloudTestCase(unittest.TestCase):
    """A running lab; the link is not limited when a test begins."""

    cloud: typing.ClassVar[cloud_mod.Cloud]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.cloud = cloud_mod.Cloud(lab_mod.Lab())
        cls.addClassCleanup(cls.cloud.close)

    def setUp(self) -> None:
        super().setUp()
        self.link('off')
        self.addCleanup(self.link, 'off')

    def link(self, rate: str) -> None:
        self.cloud.lab.link(rate)

    def rest(self, server: cloud_mod.Server) -> None:
        """Whatever a test before has left: nothing is under way now."""
        if server.migration():
            server.wait_end()
        if server.show()['status'] == 'PAUSED':
            server.act('unpause')
        server.guest.stop(timeout_s=120)
        server.guest.reset()

    def assert_verified(self, server: cloud_mod.Server) -> None:
        """Every acknowledged write is there, and nothing else."""
        server.guest.stop(timeout_s=120)
        found = server.guest.verify(timeout_s=600)
        self.assertTrue(found.ok, found)

    def assert_at(self, server: cloud_mod.Server, host: str) -> None:
        """It runs there on its ordinary files, and nothing is elsewhere."""
        shown = server.show()
        self.assertEqual(
            (host, None),
            (
                shown['OS-EXT-SRV-ATTR:host'],
                shown['OS-EXT-STS:task_state'],
            ),
        )
        self.assertIn(shown['status'], ('ACTIVE', 'PAUSED'))
        self.assert_flat(server, host)
        other = cloud_mod.other_host(host)
        # Nova empties a host after it has said that the migration is over.
        self.cloud.wait(
            f'end of clearing {other}', lambda: not server.files(other), 120
        )
        self.assertEqual('', server.domain_xml(other))
        self.assert_no_traces(server, other)

    def assert_flat(self, server: cloud_mod.Server, host: str) -> None:
        """Each disk is its one ordinary file, live and for the next start."""
        self.cloud.wait(
            f'flat disks on {host}',
            lambda: (
                not any(name.endswith(OVERLAYS) for name in server.files(host))
            ),
            120,
        )
        known = server.ordinary()
        for flags in ((), ('--inactive',)):
            tops = server.tops(host, *flags)
            self.assertTrue(tops)
            self.assertEqual(
                {target: known[target] for target in tops if target in known},
                {
                    target: path
                    for target, path in tops.items()
                    if target in known
                },
            )
        self.assert_no_traces(server, host)

    def assert_no_traces(self, server: cloud_mod.Server, host: str) -> None:
        """No record, socket or process of a move is left on a host."""
        root = self.cloud.lab.host(host).root
        places = (f'var/lib/sxm/{server.uuid}.json', f'run/sxm/{server.uuid}')
        self.cloud.wait(
            f'end of the traces on {host}',
            lambda: not any((root / place).exists() for place in places),
            60,
        )
