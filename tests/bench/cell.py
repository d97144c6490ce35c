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

"""Runs one engine under one workload and measures."""

from __future__ import annotations

import collections.abc
import itertools
import statistics
import time
import typing

from tests.bench import figures
from tests.bench import workloads
from tests.functional import engines
from tests.functional import guests
from tests.functional import world as world_mod
from tests.lab.guest import protocol

_WARM_S = 4.0
_ABORT_FOR_S = 60.0
_AFTER_S = 1.5
_BIN_S = 0.5
_GAP_BEFORE_S, _GAP_AFTER_S = 8.0, 1.0
_STRADDLE_S = 0.5
"""A write that was in flight at the switch is answered within this."""
_START_S = 8.0


class Bench:
    """One link and one size of guest; see :meth:`run`.

    :param link: rate as the lab takes it, and the same in bytes a second.
    """

    def __init__(
        self,
        world: world_mod.World,
        scale: workloads.Scale,
        link: str,
        link_bytes_per_s: float,
        guest_share: float,
    ) -> None:
        self._world = world
        self._scale = scale
        self._link = link
        self._link_bytes_per_s = link_bytes_per_s
        self._guest_share = guest_share

    # -- the guest ----------------------------------------------------------

    def _boot(
        self, workload: workloads.Workload, directory: str = guests.INSTANCES
    ) -> world_mod.Guest:
        """A guest with data on its disks, writing."""
        self._world.lab.link('off')
        plan = self._scale.plan(directory)
        world_mod.Guest(self._world, plan, world_mod.HOSTS[0]).destroy()
        guest = self._world.boot(plan)
        for disk in ('vda', 'vdb'):
            guest.fill(
                disk,
                self._scale.data_bytes(disk),
                workload.unit_bytes(disk),
            )
        for writer in workload.writers:
            guest.control.write(
                writer.disk,
                writer.pattern,
                writer.block_bytes,
                writer.rate_bytes_per_s,
                writer.threads,
                start=0,
                span=self._scale.data_bytes(writer.disk),
                unit_bytes=workload.unit_bytes(writer.disk),
            )
        self._world.lab.link(self._link)
        time.sleep(_WARM_S)
        return guest

    def memory_only_gaps_ms(
        self, workload: workloads.Workload, times: int
    ) -> list[float]:
        """Switch-over gaps of the same guest with its disks on both hosts."""
        guest = self._boot(workload, f'{guests.SHARED}/instances')
        try:
            gaps = []
            for _ in range(times):
                move = guest.start_move(
                    engine=engines.MEMORY_ONLY, timeout_s=90.0
                )
                result = move.wait(120.0)
                if not result['ok']:
                    raise AssertionError(result['error']['text'])
                time.sleep(_AFTER_S)
                gaps.append(_gap(guest, move)[0] * 1000)
                time.sleep(1.0)
            return gaps
        finally:
            guest.destroy()

    # -- one cell -----------------------------------------------------------

    def run(self, engine: str, workload: workloads.Workload) -> figures.Run:
        """Boot, write, move, verify, remove."""
        guest = self._boot(workload)
        try:
            return self._measure(guest, engine, workload)
        finally:
            guest.destroy()

    def _order(self, engine: str) -> dict[str, typing.Any]:
        order: dict[str, typing.Any] = {
            'engine': engine,
            'timeout_s': self._scale.give_up_s,
            'limits': {'guest_share': self._guest_share},
        }
        if engine == engines.DIRECT:
            # libvirt's limit counts for each disk by itself.
            share = (1.0 - self._guest_share) * self._link_bytes_per_s / 2
            order['bandwidth_mib_per_s'] = max(1, int(share) >> 20)
        return order

    def _measure(
        self,
        guest: world_mod.Guest,
        engine: str,
        workload: workloads.Workload,
    ) -> figures.Run:
        run = figures.Run(engine, workload.name)
        world, ip = self._world, guest.plan.ip
        before = world.collector.window(ip, time.monotonic() - _WARM_S + 1.0)
        run.guest_rate_before = before.rate_bytes_per_s
        sent = world.lab.link_bytes(guest.host)
        move = guest.start_move(**self._order(engine))
        try:
            result = move.wait(self._scale.give_up_s + _ABORT_FOR_S)
            stands = True
        except world_mod.MoveTimeout:
            result, stands = self._put_down(guest, move), False
        run.bytes_sent = world.lab.link_bytes(move.source) - sent
        time.sleep(_AFTER_S)
        run.converged = result['ok']
        if not result['ok']:
            run.error = result['error']['text']
        self._take_times(run, move)
        self._take_guest(run, guest, move)
        run.handover_pause_ms = 1000 * result.get('pause_s', 0.0)
        self._take_bytes(run, result)
        run.link = _link_series(move.samples(), move.at('begin'))
        if stands:
            self._verify(run, guest)
        return run

    @staticmethod
    def _put_down(
        guest: world_mod.Guest, move: world_mod.Move
    ) -> dict[str, typing.Any]:
        """End a move that an abort does not end, and its guest with it."""
        guest.world.hosts[move.source].run(
            ['virsh', 'destroy', guest.plan.uuid], timeout=60
        )
        result = move.wait(_ABORT_FOR_S)
        result['error']['text'] = (
            f'It did not end within {_ABORT_FOR_S:.0f} s of the abort, so '
            'the guest was destroyed'
        )
        return result

    def _take_times(self, run: figures.Run, move: world_mod.Move) -> None:
        begin_s = move.at('begin')
        run.phases = [
            (event.at_s - begin_s, event.target, event.phase)
            for event in move.events()
        ]
        at = {phase: at_s for at_s, _target, phase in reversed(run.phases)}
        run.total_s = at.get('switched', at['end'])
        run.storage_s = at.get('memory', run.total_s)
        if 'flattened' in at:
            run.total_s = at['arrived']
            run.flatten_s = at['flattened'] - at['arrived']

    def _take_guest(
        self, run: figures.Run, guest: world_mod.Guest, move: world_mod.Move
    ) -> None:
        """What the guest saw of it."""
        window, ip = self._world.collector.window, guest.plan.ip
        begin_s, end_s = move.at('begin'), move.at('end')
        switch_s = end_s
        parts = [(begin_s, end_s)]
        if run.converged:
            gap_s, switch_s = _gap(guest, move)
            run.switchover_gap_ms = gap_s * 1000
            parts = [
                (begin_s, switch_s - 0.05),
                (switch_s + gap_s + _STRADDLE_S, end_s + 1.0),
            ]
        moving = window(ip, begin_s, switch_s)
        run.guest_rate_while_moving = moving.rate_bytes_per_s
        found = [window(ip, *part) for part in parts if part[0] < part[1]]
        run.worst_write_latency_ms = 1000 * max(
            max(one.worst_write_latency_s, one.longest_ack_stall_s)
            for one in found
        )
        starts = [begin_s] + [
            event.at_s for event in move.events() if event.phase == 'preparing'
        ]
        run.start_stall_ms = 1000 * max(
            window(
                ip, at_s, min(at_s + _START_S, switch_s, _pause_of(move))
            ).longest_tick_gap_s
            for at_s in starts
        )
        run.series = series(
            self._world.collector.ticks(ip, begin_s - 2.0, end_s + 1.0),
            begin_s,
        )

    def _take_bytes(
        self, run: figures.Run, result: dict[str, typing.Any]
    ) -> None:
        """What crossed the link, and the time that needs at least."""
        stats = result.get('migration', {})
        run.memory_bytes = stats.get('memory_processed_bytes', 0)
        data = sum(self._scale.data_bytes(disk) for disk in ('vda', 'vdb'))
        run.allocated_bytes = result.get('allocated_bytes', data)
        if run.engine == engines.SNAPSHOT and run.converged:
            for channel, meter in result['meters'].items():
                if channel.endswith('.base'):
                    run.bases_bytes += meter['sent_bytes']
                else:
                    run.mirrored_bytes += meter['sent_bytes']
        else:
            run.bases_bytes = data
            run.mirrored_bytes = (
                int(run.guest_rate_while_moving * run.storage_s)
                if run.engine != engines.STOCK
                else 0
            )
        if run.converged:
            run.limit_s = figures.limit_s(run, self._link_bytes_per_s)

    def _verify(self, run: figures.Run, guest: world_mod.Guest) -> None:
        self._world.lab.link('off')
        guest.control.stop(timeout_s=120.0)
        found = guest.control.verify(300.0)
        if not found.read_errors:
            run.lost_writes = found.lost + found.bad + found.future


def median_ms(gaps: collections.abc.Sequence[float]) -> float:
    return statistics.median(gaps)


def _pause_of(move: world_mod.Move) -> float:
    try:
        return move.at('pause')
    except KeyError:
        return float('inf')


def _gap(guest: world_mod.Guest, move: world_mod.Move) -> tuple[float, float]:
    """Length and begin of the longest silence around the switch."""
    switched_s = move.at('switched')
    begin_s = switched_s - _GAP_BEFORE_S
    for phase in ('resume', 'memory'):
        try:
            begin_s = max(begin_s, move.at(phase))
        except KeyError:
            continue
    found = guest.world.collector.window(
        guest.plan.ip, min(begin_s, switched_s), switched_s + _GAP_AFTER_S
    )
    return found.longest_tick_gap_s, found.gap_at


def series(
    ticks: collections.abc.Sequence[protocol.Tick], begin_s: float
) -> dict[str, list[float]]:
    """Rate and worst latency in bins of half a second."""
    rates: dict[int, float] = {}
    latencies: dict[int, float] = {}
    for last, tick in itertools.pairwise(ticks):
        index = int((tick.arrived_s - begin_s) // _BIN_S)
        grown = tick.acked_bytes - last.acked_bytes
        rates[index] = rates.get(index, 0.0) + max(grown, 0) / _BIN_S
        worst = max(
            tick.worst_latency_s,
            tick.oldest_in_flight_s,
            tick.arrived_s - last.arrived_s,
        )
        latencies[index] = max(latencies.get(index, 0.0), worst)
    if not rates:
        return {'at_s': [], 'rate': [], 'latency_ms': []}
    indices = range(min(rates), max(rates) + 1)
    return {
        'at_s': [round(index * _BIN_S, 1) for index in indices],
        'rate': [round(rates.get(index, 0.0)) for index in indices],
        'latency_ms': [
            round(1000 * latencies.get(index, 0.0), 1) for index in indices
        ],
    }


def _link_series(
    samples: collections.abc.Sequence[dict[str, typing.Any]], begin_s: float
) -> dict[str, list[float]]:
    """What the copy and the mirrors put on the link, bytes a second."""
    names = ('at_s', 'copy', 'mirror', 'rate', 'capacity', 'rtt_ms')
    found: dict[str, list[float]] = {name: [] for name in names}
    counted = [
        (sample['at_s'], *_sent(sample['meters']), sample)
        for sample in samples
        if sample.get('meters')
    ]
    for last, now in itertools.pairwise(counted):
        elapsed_s = now[0] - last[0]
        found['at_s'].append(round(now[0] - begin_s, 2))
        found['copy'].append(round((now[1] - last[1]) / elapsed_s))
        found['mirror'].append(round((now[2] - last[2]) / elapsed_s))
        found['rate'].append(now[3]['rate_bytes_per_s'])
        found['capacity'].append(round(now[3]['capacity_bytes_per_s']))
        found['rtt_ms'].append(
            round(
                1000
                * max(
                    meter['rtt_s'] or 0.0
                    for meter in now[3]['meters'].values()
                ),
                2,
            )
        )
    return found


def _sent(meters: dict[str, dict[str, typing.Any]]) -> tuple[int, int]:
    """Bytes of all copies and of all mirrors so far."""
    copied = mirrored = 0
    for channel, meter in meters.items():
        if channel.endswith('.base'):
            copied += meter['sent_bytes']
        else:
            mirrored += meter['sent_bytes']
    return copied, mirrored
