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

"""``sxm-manage`` after the services on both hosts were killed in a move."""

from __future__ import annotations

import json
import typing

from tests.functional import base
from tests.functional import guests
from tests.functional import world as world_mod

PLAN = guests.Plan(
    6,
    (
        guests.Disk('vda', 'disk', size_mib=96, backed=True),
        guests.Disk('vdb', 'disk.eph0', 'raw', 48),
    ),
)
CONF = '/etc/sxm-functional.conf'
DONE, LEFT = 0, 1


class ManageTest(base.MoveCase):
    """A guest that writes, and nobody left who knows of its move."""

    plan = PLAN

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        for name, host in cls.world.hosts.items():
            host.run(
                ['tee', CONF],
                input=f"""
[DEFAULT]
host = {name}
my_ip = {host.address}
instances_path = {guests.INSTANCES}
[libvirt]
connection_uri = qemu:///system
[sxm]
my_migration_address = {host.migration_address}
state_dir = {guests.STATE_DIR}
runtime_dir = {guests.RUNTIME_DIR}
""",
            )

    def manage(
        self, name: str, *arguments: str, code: int
    ) -> dict[str, typing.Any]:
        """What one command says on a host; it ends with that code."""
        done = self.host(name).run(
            [
                world_mod.PYTHON,
                '-m',
                'sxm_openstack.cmd.manage',
                '--config-file',
                CONF,
                *arguments,
                '--format',
                'json',
            ],
            check=False,
            timeout=180,
        )
        self.assertEqual(code, done.returncode, (arguments, done))
        said: dict[str, typing.Any] = json.loads(done.stdout)
        return said

    def left(self, name: str, *arguments: str) -> tuple[str, set[str]]:
        """How the only server on a host stands, and what kinds it left."""
        said = self.manage(name, 'leftovers', *arguments, code=LEFT)
        (server,) = said['servers']
        self.assertEqual(self.plan.uuid, server['server'])
        kinds = {trace['kind'] for trace in server['traces']}
        return server['standing'], kinds

    def assert_nothing_left(self, name: str) -> None:
        said = self.manage(name, 'leftovers', code=DONE)
        self.assertEqual([], said['servers'])
        self.assertEqual(
            [], self.manage(name, 'cleanup', code=DONE)['results']
        )

    def kill_agents(self, *names: str) -> None:
        for name in names:
            killed = world_mod.kill_matching(
                self.host(name), 'tests.functional.agent'
            )
            self.assertEqual(1, killed)
            # Makes its first move anew, and knows of no other.
            self.addCleanup(self._revive, name)

    def _revive(self, name: str) -> None:
        self.world.restart_agent(name)
        self.guest.last_move = None

    def test_1_rollback(self) -> None:
        """The guest writes on, and is on its ordinary files again."""
        self.guest.fill('vda', 16 << 20, 65536)
        self.write()
        self.world.lab.link('10mbps')
        move = self.guest.start_move()
        move.wait_copied(0.3)
        source, there = move.source, move.destination
        self.kill_agents(source, there)
        self.world.lab.link('off')

        standing, kinds = self.left(source)
        self.assertEqual('cut short', standing)
        self.assertEqual(
            {'journal', 'file', 'runtime', 'process', 'disk'}, kinds
        )
        standing, kinds = self.left(there, '--assume-ended')
        self.assertEqual('cut short', standing)
        self.assertEqual({'journal', 'file', 'runtime', 'process'}, kinds)

        (said,) = self.manage(source, 'cleanup', '--dry-run', code=LEFT)[
            'results'
        ]
        self.assertEqual('undo', said['action'])
        self.assertEqual('cut short', self.left(source)[0])
        (said,) = self.manage(source, 'resume', code=LEFT)['results']
        self.assertIn('"rollback" undoes it', said['error'])

        self.manage(source, 'rollback', code=DONE)
        self.manage(there, 'cleanup', '--assume-ended', code=DONE)
        for name in (source, there):
            self.assert_nothing_left(name)
            self._revive(name)
            self.assert_nothing_runs(name)
        self.assertEqual(self.ordinary_files(), self.guest.tops())
        self.assertEqual(
            sorted(disk.name for disk in self.plan.disks), self.files(source)
        )
        self.assert_chains(source)
        self.assert_definition(source)
        self.verify()
        # What Nova made there, and would remove itself.
        self.host(there).shell(f'rm -rf {self.plan.path}')

    def test_2_resume(self) -> None:
        """The guest has come, and nobody folded its overlays."""
        self.write()
        call = 'destination.hand_over'
        move = self.guest.start_move(
            faults=[{'call': call, 'when': 'after', 'action': 'hold'}]
        )
        move.wait_held(call)
        source, there = move.source, move.destination
        self.kill_agents(there)
        move.release()
        self.assertFalse(move.wait()['ok'])
        self.guest.host = there

        standing, kinds = self.left(there)
        self.assertEqual('arrived', standing)
        self.assertLessEqual({'journal', 'file', 'disk'}, kinds)
        (said,) = self.manage(there, 'rollback', code=LEFT)['results']
        self.assertIn('no way back', said['error'])
        self.assertEqual('arrived', self.left(there)[0])

        self.manage(there, 'resume', code=DONE)
        self.assert_nothing_left(there)
        self._revive(there)
        self.assert_nothing_runs(there)
        self.assertEqual(self.ordinary_files(), self.guest.tops())
        self.assert_chains(there)
        self.assert_definition(there)
        self.verify()

        # The record says that the guest has gone.  Before its old disks are
        # dropped Nova has to say so too, and there is none here.
        self.assertEqual('moved away', self.left(source)[0])
        (said,) = self.manage(source, 'cleanup', code=LEFT)['results']
        self.assertIn('Nova cannot be asked', said['error'])
        self.world.agent(source).call('forget', server=self.plan.uuid)
        self.host(source).shell(f'rm -rf {self.plan.path}')
        self.assert_nothing_left(source)

    def test_3_doctor(self) -> None:
        """Both ways, each host with what the other says of itself."""
        said = {name: self.doctor(name) for name in self.world.hosts}
        for name in self.world.hosts:
            there = said[self.world.other(name)]
            path = '/tmp/sxm-doctor.json'  # noqa: S108
            self.host(name).run(['tee', path], input=json.dumps(there))
            found = {
                check['name']: check['verdict']
                for check in self.doctor(name, '--with', path)['checks']
            }
            self.assertEqual({'ok'}, set(found.values()), found)
            for check in ('reachable', 'cpu', 'versions', 'qemu'):
                self.assertIn(check, found)

    def doctor(self, name: str, *arguments: str) -> dict[str, typing.Any]:
        return self.manage(name, 'doctor', *arguments, code=DONE)
