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

"""One move away from a host: storage stage, memory phase, the end."""

from __future__ import annotations

import collections.abc
import dataclasses
import logging
import pathlib
import threading
import time
import typing

import libvirt

from sxm_openstack import exception
from sxm_openstack.engine import clock
from sxm_openstack.engine import control
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import governor as engine_governor
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import ports
from sxm_openstack.engine import progress
from sxm_openstack.hypervisor import domain as hypervisor_domain
from sxm_openstack.hypervisor import migration
from sxm_openstack.hypervisor import xml
from sxm_openstack.mirror import drivers as mirror_drivers
from sxm_openstack.mirror import move as mirror_move
from sxm_openstack.mirror import settle
from sxm_openstack.mirror import source
from sxm_openstack.nova import memory
from sxm_openstack.storage import drivers as storage_drivers

from tests.functional import engines
from tests.functional import faults as faults_mod
from tests.functional import inventory
from tests.functional import parts
from tests.functional import wire

LOG = logging.getLogger(__name__)

_PLAIN = {
    engines.ONE_FLAG: migration.Storage.SYNCHRONOUS,
    engines.STOCK: migration.Storage.COPY_DIRTY,
    engines.MEMORY_ONLY: migration.Storage.NONE,
}
_SAMPLE_S = 0.2
_TICK_S = 0.05
_LOCATE_FOR_S = 60.0
_LOCATE_EVERY_S = 1.0
_LIFTED_MIB_PER_S = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """What to move, where and how.

    :param peer: name of the destination.
    :param peer_address: its address on the management network.
    :param peer_migration_address: and on the migration network.
    :param engine: one of :data:`.engines.ALL`.
    :param drivers: mirror driver by target, in place of the engine's.
    :param limits: fields of :class:`.governor.Limits`.
    :param settings: more fields of :class:`.mirror.move.Settings`.
    :param transfer: fields of :class:`.transfer.base.Settings`.
    :param bandwidth_mib_per_s: of each disk's copy in the memory phase.
    :param timeout_s: the move is aborted after that time; 0 is never.
    :param faults: fields of :class:`.faults.Fault`.
    :param keep_source: leave the files on the source after success.
    """

    server: str
    peer: str
    peer_address: str
    peer_migration_address: str
    engine: str = engines.SNAPSHOT
    drivers: dict[str, str] = dataclasses.field(default_factory=dict)
    limits: dict[str, typing.Any] = dataclasses.field(default_factory=dict)
    settings: dict[str, typing.Any] = dataclasses.field(default_factory=dict)
    transfer: dict[str, typing.Any] = dataclasses.field(default_factory=dict)
    bandwidth_mib_per_s: int = 0
    timeout_s: float = 0.0
    faults: list[dict[str, typing.Any]] = dataclasses.field(
        default_factory=list
    )
    keep_source: bool = False


class Departure:
    """Runs on a thread of its own; ask :meth:`status`.

    :param host: name of this host.
    :param connect: gives a connection to this host's libvirt.
    :param destination: the other host's agent.
    """

    def __init__(
        self,
        host: str,
        order: Order,
        connect: collections.abc.Callable[[], typing.Any],
        destination: typing.Any,
        journal: engine_journal.Journal,
    ) -> None:
        self._host = host
        self._order = order
        self._journal = journal
        self._faults = [faults_mod.Fault(**each) for each in order.faults]
        self._destination = faults_mod.Faulty(
            destination, 'destination', self._faults
        )
        self._domain = hypervisor_domain.LibvirtDomain(
            lambda: faults_mod.FaultyConnection(connect(), self._faults),
            order.server,
            host=host,
        )
        self._control = control.Control()
        self._events: list[tuple[float, str, str]] = []
        self._samples: list[dict[str, typing.Any]] = []
        self._result: dict[str, typing.Any] = {}
        self._over = threading.Event()
        self._migration: migration.Migration | None = None
        self._move: mirror_move.Move | None = None
        self._thread = threading.Thread(
            target=self._run, name=f'move-{order.server}', daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    # -- asked from outside ----------------------------------------------

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def status(self) -> dict[str, typing.Any]:
        """``{"over", "events": [[at_s, target, phase], ...], "result",
        "held": [call, ...], "disks"}``; times are CLOCK_MONOTONIC's."""
        over = self._over.is_set()
        move = self._move
        return {
            'over': over,
            'events': list(self._events),
            'result': self._result if over else {},
            'held': [
                fault.call
                for fault in self._faults
                if fault.reached.is_set() and not fault.released.is_set()
            ],
            'disks': (
                [dataclasses.asdict(each) for each in move.progress.disks()]
                if move
                else []
            ),
        }

    def samples(self) -> list[dict[str, typing.Any]]:
        return list(self._samples)

    def abort(self) -> None:
        self._control.abort('The test aborted the move.')
        if self._migration is not None:
            self._migration.abort(120.0)

    def hurry(self) -> None:
        self._control.hurry()

    def release(self) -> None:
        for fault in self._faults:
            fault.released.set()

    # -- the move ---------------------------------------------------------

    def _event(self, phase: str, target: str = '') -> None:
        self._events.append((time.monotonic(), target, phase))

    def _run(self) -> None:
        self._event('begin')
        timer = None
        if self._order.timeout_s:
            timer = threading.Timer(self._order.timeout_s, self.abort)
            timer.start()
        sampler = threading.Thread(target=self._sample, daemon=True)
        sampler.start()
        try:
            self._result = {'ok': True, **self._act()}
        except Exception as error:
            LOG.exception('the move failed')
            self._result = {'ok': False, 'error': wire.error_to_dict(error)}
        finally:
            if timer is not None:
                timer.cancel()
            self._event('end')
            self._over.set()
            sampler.join()

    def _act(self) -> dict[str, typing.Any]:
        if self._order.engine in _PLAIN:
            return self._plain()
        return self._by_move()

    def _plain(self) -> dict[str, typing.Any]:
        """libvirt alone; the destination's files are there already."""
        storage = _PLAIN[self._order.engine]
        targets = tuple(
            disk.target for disk in self._domain.disks() if not disk.read_only
        )
        stats = self._migrate(
            migration.Request(
                uri=f'qemu+tcp://{self._order.peer_address}/system',
                migrate_uri=f'tcp://{self._order.peer_migration_address}',
                storage=storage,
                disks=targets,
                flags=(
                    libvirt.VIR_MIGRATE_UNSAFE
                    if storage is migration.Storage.NONE
                    else 0
                ),
            )
        )
        return {'migration': stats}

    def _by_move(self) -> dict[str, typing.Any]:
        disks = inventory.read(self._domain)
        drivers = {
            disk.target: mirror_drivers.load(
                self._order.drivers.get(disk.target, self._order.engine)
            )
            for disk in disks
            if not disk.read_only
        }
        runtime = parts.runtime(self._order.server)
        self._move = self._make_move(disks, runtime)
        leaving = source.SourceMove(
            self._move, drivers, self._journal, runtime
        )
        leaving.run()
        stats = self._memory_phase(leaving, drivers)
        meters = self._meters()
        leaving.complete(keep_record=True)
        self._destination.arrived()
        self._event('flattened')
        if not self._order.keep_source:
            for disk in disks:
                settle.remove_overlays(disk)
                pathlib.Path(disk.path).unlink(missing_ok=True)
        self._journal.forget(self._order.server)
        return {
            'migration': stats,
            'pause_s': self._domain.last_pause_s,
            'meters': meters,
            'allocated_bytes': sum(disk.allocated_bytes for disk in disks),
            'disks': [
                dataclasses.asdict(each)
                for each in self._move.progress.disks()
            ],
        }

    def _memory_phase(
        self, leaving: source.SourceMove, drivers: dict[str, typing.Any]
    ) -> dict[str, typing.Any]:
        """Undone when it failed and the guest really is here."""
        try:
            return self._migrate(self._request(leaving, drivers))
        except exception.SXMError:
            if self._guest_is_at_destination():
                LOG.warning('it has arrived after all', exc_info=True)
                return {}
            leaving.rollback()
            self._control.check()
            raise

    def _guest_is_at_destination(self) -> bool:
        """Ask both hosts: a failed call of libvirt's is no verdict.

        As nova-compute does: once no memory is on its way any more, and
        again for a while when a host does not answer.
        """
        now = clock.SystemClock()
        memory.stop(self._domain.lookup, _LOCATE_FOR_S, now)
        deadline_s = now.now() + _LOCATE_FOR_S
        while True:
            try:
                return self._locate()
            except exception.Retryable:
                if now.now() > deadline_s:
                    raise
                LOG.warning('where is the guest?', exc_info=True)
            now.sleep(_LOCATE_EVERY_S)

    def _locate(self) -> bool:
        holding = (ports.DomainState.RUNNING, ports.DomainState.PAUSED)
        here, there = self._domain.state(), self._destination.state()
        if (here in holding) == (there in holding):
            raise exception.NeedsOperator(
                f'The guest is {here} here and {there} there.'
            )
        return there in holding

    def _make_move(
        self,
        disks: collections.abc.Sequence[engine_disk.Disk],
        runtime: str,
    ) -> mirror_move.Move:
        def faulty(port: typing.Any, name: str) -> typing.Any:
            return faults_mod.Faulty(port, name, self._faults)

        now = clock.SystemClock()
        return mirror_move.Move(
            server=self._order.server,
            host=self._host,
            peer=self._order.peer,
            disks=tuple(disks),
            domain=faulty(self._domain, 'domain'),
            destination=typing.cast('ports.Destination', self._destination),
            transfer=faulty(
                parts.transfer(self._order.transfer).source(
                    runtime, [self._order.peer]
                ),
                'transfer',
            ),
            overlays=lambda name: faulty(
                storage_drivers.load(name), 'overlays'
            ),
            control=self._control,
            clock=now,
            progress=progress.Progress(
                disks,
                now,
                lambda change: self._events.append(
                    (change.at_s, change.target, change.phase)
                ),
            ),
            settings=mirror_move.Settings(
                limits=engine_governor.Limits(**self._order.limits),
                **self._order.settings,
            ),
        )

    def _request(
        self, leaving: source.SourceMove, drivers: dict[str, typing.Any]
    ) -> migration.Request:
        """The memory phase, as Nova's guest asks for it."""
        remaining = leaving.remaining()
        handed_over = {
            disk.target: disk.handover_path
            for disk in remaining
            if drivers[disk.target].hands_over
        }
        text = self._domain.lookup().XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE)
        return migration.Request(
            uri=f'qemu+tcp://{self._order.peer_address}/system',
            migrate_uri=f'tcp://{self._order.peer_migration_address}',
            destination_xml=xml.with_sources(text, handed_over),
            persistent_xml=text,
            disks=tuple(disk.target for disk in remaining),
            disks_socket=leaving.disks_socket if remaining else None,
            bandwidth_mib_per_s=self._order.bandwidth_mib_per_s,
        )

    def _migrate(self, request: migration.Request) -> dict[str, typing.Any]:
        """The memory phase; raises when libvirt's call failed."""
        moving = migration.Migration(
            self._domain.lookup, request, host=self._host
        )
        self._migration = moving
        self._control.check()
        self._event('migrate')
        moving.start()
        last = migration.Progress()
        while not moving.wait(_TICK_S):
            try:
                now = moving.progress()
            except exception.Retryable:
                continue
            if now.memory_processed_bytes and not last.memory_processed_bytes:
                self._event('memory')
                if request.bandwidth_mib_per_s:
                    self._lift(moving)
            if now.memory_processed_bytes or now.disk_processed_bytes:
                last = now
        self._event('switched')
        stats = dataclasses.asdict(last)
        try:
            stats['downtime_s'] = moving.completed().downtime_s
        except exception.Retryable as error:
            LOG.debug('no statistics of the finished job: %s', error)
        return stats

    def _lift(self, moving: migration.Migration) -> None:
        """The limit was for the disks; the memory may take all."""
        try:
            moving.set_bandwidth(_LIFTED_MIB_PER_S)
        except exception.Retryable as error:
            LOG.warning('the limit stays for the memory: %s', error)

    # -- samples for pictures ---------------------------------------------

    def _sample(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            sample: dict[str, typing.Any] = {'at_s': time.monotonic()}
            if self._move is not None:
                sample['disks'] = [
                    dataclasses.asdict(each)
                    for each in self._move.progress.disks()
                ]
                sample['meters'] = self._meters()
                governor = self._move.governor
                sample['rate_bytes_per_s'] = governor.rate_bytes_per_s
                sample['capacity_bytes_per_s'] = governor.capacity_bytes_per_s
            self._samples.append(sample)

    def _meters(self) -> dict[str, dict[str, typing.Any]]:
        move = self._move
        if move is None or move.link is None:
            return {}
        channels = [ports.DISKS_CHANNEL]
        for disk in move.disks:
            channels += [disk.base_channel, disk.mirror_channel]
        found = {}
        for channel in channels:
            try:
                found[channel] = dataclasses.asdict(move.link.meter(channel))
            except (exception.SXMError, KeyError, AttributeError):
                # Not every disk has both, and a link may just close.
                continue
        return found
