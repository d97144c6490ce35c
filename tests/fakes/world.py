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

"""Two hosts and a server that moves from one to the other, in memory.

The guest writes at every call that the move makes, and the world knows each
write that was acknowledged: what is left to say is where all of them must be
readable, and that nothing else is left anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import random
from typing import Any
import unittest

from sxm_openstack.engine import control
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import ports
from sxm_openstack.engine import progress
from sxm_openstack.mirror import base
from sxm_openstack.mirror import destination
from sxm_openstack.mirror import direct
from sxm_openstack.mirror import move as mirror_move
from sxm_openstack.mirror import snapshot
from sxm_openstack.mirror import source

from tests.fakes import clock as fake_clock
from tests.fakes import domain as fake_domain
from tests.fakes import guest as fake_guest
from tests.fakes import journal as fake_journal
from tests.fakes import storage as fake_storage
from tests.fakes import transfer as fake_transfer
from tests.fakes import traps

SERVER = '6f70656e-7374-4163-8b00-73786d000001'
SOURCE, DESTINATION = 'alpha', 'beta'
BLOCK_BYTES = 65536
BLOCKS = 24


def disk(
    target: str, blocks: int, *, read_only: bool = False, **named: Any
) -> engine_disk.Disk:
    """A disk with so many allocated blocks."""
    return engine_disk.Disk(
        target=target,
        path=f'/instances/{SERVER}/{target}',
        format='raw' if target == 'vdb' else 'qcow2',
        size_bytes=BLOCKS * BLOCK_BYTES,
        allocated_bytes=blocks * BLOCK_BYTES,
        read_only=read_only,
        **named,
    )


DISKS = (disk('vda', 9), disk('vdb', 5), disk('hda', 2, read_only=True))


class World:
    """One server, two hosts.

    :param disks: in no order.
    :param drivers: mirror driver by target, if not ``snapshot``.
    :param writes: the guest writes so many blocks at each call.
    """

    def __init__(
        self,
        disks: Sequence[engine_disk.Disk] = DISKS,
        *,
        settings: mirror_move.Settings | None = None,
        drivers: Mapping[str, base.MirrorDriver] | None = None,
        writes: int = 1,
        seed: int = 1,
    ) -> None:
        self.random = random.Random(seed)
        self.disks = tuple(disks)
        self.writes = writes
        self.wires = traps.Wires()
        self.wires.before_call = lambda call: self.write_some()
        self.clock = fake_clock.FakeClock()
        self.written: dict[str, dict[int, int]] = {}
        self._make_source()
        self._make_destination()
        self.control = control.Control()
        self.phases: list[progress.PhaseChange] = []
        self.progress = progress.Progress(
            self.disks, self.clock, self.phases.append
        )
        self.drivers = {
            each.target: (drivers or {}).get(
                each.target, snapshot.SnapshotMirror()
            )
            for each in self.disks
            if not each.read_only
        }
        self.move = self._make_move(settings or mirror_move.Settings())
        self.source = source.SourceMove(
            self.move,
            self.drivers,
            self.wires.port('journal', self.journal),
            '/run/sxm/source',
        )

    # -- its parts ---------------------------------------------------------

    def _make_source(self) -> None:
        self.files = fake_domain.FakeFiles()
        for each in self.disks:
            file = self.files[each.path] = fake_domain.FakeFile()
            for block in range(each.allocated_bytes // BLOCK_BYTES):
                file.blocks[block] = self.random.randrange(1, 1 << 30)
            self.written[each.target] = dict(file.blocks)
        self.guest = fake_guest.FakeGuest(
            {each.target: each.path for each in self.disks}, self.files
        )
        self.storage = fake_storage.FakeStorage(self.files, self.guest)
        self.journal = fake_journal.FakeJournal(SOURCE)

    def _make_destination(self) -> None:
        self.there = fake_domain.FakeFiles()
        self.arriving = fake_guest.FakeGuest(
            {each.target: each.path for each in self.disks},
            self.there,
            ports.DomainState.ABSENT,
        )
        self.storage_there = fake_storage.FakeStorage(
            self.there, self.arriving
        )
        self.nbd = fake_transfer.FakeServer(self.there)
        self.journal_there = fake_journal.FakeJournal(DESTINATION)
        self.destination = self.new_destination()

    def new_destination(self) -> destination.DestinationMove:
        """The destination's side, as a process that just started has it."""
        storage = self.wires.port('storage-there', self.storage_there)
        return destination.DestinationMove(
            server=SERVER,
            peer=SOURCE,
            nbd=self.wires.port('nbd', self.nbd),
            storage=lambda image_format: storage,
            domain=self.wires.port('domain-there', self.arriving),
            journal=self.wires.port('journal-there', self.journal_there),
            runtime='/run/sxm/destination',
            clock=self.clock,
        )

    def _make_move(self, settings: mirror_move.Settings) -> mirror_move.Move:
        self.transfer = fake_transfer.FakeTransfer(self.guest, self.nbd)
        storage = self.wires.port('overlays', self.storage)
        return mirror_move.Move(
            server=SERVER,
            host=SOURCE,
            peer=DESTINATION,
            disks=self.disks,
            domain=self.wires.port('domain', self.guest),
            destination=self.wires.port('destination', self.destination),
            transfer=self.wires.port('transfer', self.transfer),
            overlays=lambda image_format: storage,
            control=self.control,
            clock=self.clock,
            progress=self.progress,
            settings=settings,
        )

    @property
    def link(self) -> Any:
        """The link of this move, as the source's relay sees it."""
        return self.transfer.links[-1]

    # -- the guest ---------------------------------------------------------

    def write_some(self) -> None:
        """The guest writes, wherever it runs, if it runs."""
        writable = [each for each in self.disks if not each.read_only]
        for _ in range(self.writes if writable else 0):
            self.write(
                self.random.choice(writable).target,
                self.random.randrange(BLOCKS),
            )

    def write(self, target: str, block: int) -> bool:
        """One write; whether it was acknowledged."""
        guest = self.guest
        if self.arriving.domain_state is ports.DomainState.RUNNING:
            guest = self.arriving
        value = self.random.randrange(1, 1 << 30)
        acknowledged = guest.guest_write(target, block, value)
        if acknowledged:
            self.written[target][block] = value
        return acknowledged

    def migrate(self, test: unittest.TestCase) -> None:
        """The memory phase: libvirt mirrors what is left and switches."""
        test.assertEqual(set(), self.nbd.serving)
        paths = self.source.source_paths()
        self.write_some()
        for target, path in paths.items():
            if self.drivers[target].hands_over:
                self.there[path].blocks.update(self.files[path].blocks)
            else:
                self.there[path].blocks.update(self.written[target])
        tops = {each.target: each.path for each in self.disks} | paths
        for target, path in paths.items():
            # Between the copy above and the switch: mirrored by libvirt.
            block, value = 0, self.random.randrange(1, 1 << 30)
            test.assertTrue(self.guest.guest_write(target, block, value))
            self.there[path].blocks[block] = value
            self.written[target][block] = value
        self.guest.power_off(ports.DomainState.ABSENT)
        self.arriving.arrive(tops)

    # -- what must be true -------------------------------------------------

    def assert_on_source(self, test: unittest.TestCase) -> None:
        """Undone: all is in the ordinary files here, nothing is there."""
        self._assert_reads(test, self.files, 'read from the source')
        test.assertEqual({each.path for each in self.disks}, set(self.files))
        for each in self.disks:
            test.assertEqual(each.path, self.guest.source_path(each.target))
        self.assert_empty_destination(test)
        self._assert_let_go(test)

    def assert_empty_destination(self, test: unittest.TestCase) -> None:
        test.assertEqual({}, dict(self.there))
        test.assertEqual([], list(self.journal_there.servers()))
        test.assertFalse(self.nbd.listening)
        test.assertEqual(set(), self.nbd.serving)

    def assert_handed_over(self, test: unittest.TestCase) -> None:
        """Both sides are frozen at the same point, below new overlays."""
        for each in self.disks:
            path = each.path
            if not each.read_only:
                if not self.drivers[each.target].hands_over:
                    continue
                test.assertEqual(
                    each.handover_path, self.guest.source_path(each.target)
                )
                path = each.overlay_path
            for block in range(BLOCKS):
                test.assertEqual(
                    self.files.read(path, block),
                    self.there.read(path, block),
                    f'block {block} of {each.target}',
                )
        test.assertEqual(set(), self.nbd.serving)
        self._assert_guest_reads(test, self.guest)

    def assert_on_destination(self, test: unittest.TestCase) -> None:
        """Arrived: all is in the ordinary files there."""
        self._assert_reads(test, self.there, 'read from the destination')
        test.assertEqual({each.path for each in self.disks}, set(self.there))
        self._assert_guest_reads(test, self.arriving)
        test.assertEqual([], list(self.journal_there.servers()))
        test.assertFalse(self.nbd.listening)
        self._assert_let_go(test)

    def assert_nothing_lost(self, test: unittest.TestCase) -> None:
        """Whatever failed: the guest on the source reads all it wrote."""
        self._assert_guest_reads(test, self.guest)
        test.assertEqual([], self.storage.violations)

    def assert_nothing_lost_offline(self, test: unittest.TestCase) -> None:
        """The guest is off, and all that it wrote is in ordinary files."""
        self._assert_reads(test, self.files, 'read with the guest off')
        test.assertEqual({each.path for each in self.disks}, set(self.files))
        self.assert_empty_destination(test)
        self._assert_let_go(test)

    def _assert_let_go(self, test: unittest.TestCase) -> None:
        test.assertEqual([], list(self.journal.servers()))
        test.assertTrue(all(link.closed for link in self.transfer.links))
        test.assertTrue(all(copy.closed for copy in self.transfer.copies))
        test.assertEqual(set(), self.guest.locked)
        test.assertEqual([], self.storage.violations)
        test.assertEqual([], self.storage_there.violations)

    def _assert_reads(
        self, test: unittest.TestCase, files: Any, what: str
    ) -> None:
        for each in self.disks:
            blocks = files[each.path].blocks
            for block, value in self.written[each.target].items():
                test.assertEqual(
                    value,
                    blocks.get(block, 0),
                    f'block {block} of {each.target}, {what}',
                )

    def _assert_guest_reads(
        self, test: unittest.TestCase, guest: fake_guest.FakeGuest
    ) -> None:
        for target, blocks in self.written.items():
            for block, value in blocks.items():
                test.assertEqual(
                    value,
                    guest.guest_read(target, block),
                    f'block {block} of {target}',
                )


DIRECT = direct.DirectMirror()
