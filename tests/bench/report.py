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

"""The table on the terminal."""

from __future__ import annotations

import collections.abc

from tests.bench import figures

_HEAD = (
    'workload',
    'engine',
    'result',
    'total',
    'limit',
    '',
    'sent',
    'pause',
    'gap',
    '',
    'before',
    'moving',
    'worst',
    'start',
    'lost',
)
_UNITS = (
    '',
    '',
    '',
    's',
    's',
    'ratio',
    'MB',
    'ms',
    'ms',
    'ratio',
    'MB/s',
    'MB/s',
    'ms',
    'ms',
    '',
)


def table(runs: collections.abc.Sequence[figures.Run]) -> str:
    """All runs, one a line, columns aligned."""
    rows = [_HEAD, _UNITS, *(_row(run) for run in runs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    return '\n'.join(
        '  '.join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _row(run: figures.Run) -> tuple[str, ...]:
    return (
        run.workload,
        run.engine,
        'converged' if run.converged else 'GAVE UP',
        f'{run.total_s:.1f}',
        f'{run.limit_s:.1f}' if run.limit_s else '-',
        _ratio(run.total_ratio),
        f'{run.bytes_sent / 1e6:.0f}',
        f'{run.handover_pause_ms:.0f}' if run.handover_pause_ms else '-',
        _number(run.switchover_gap_ms),
        _ratio(run.gap_ratio),
        f'{run.guest_rate_before / 1e6:.1f}',
        f'{run.guest_rate_while_moving / 1e6:.1f}',
        f'{run.worst_write_latency_ms:.0f}',
        f'{run.start_stall_ms:.0f}',
        '?' if run.lost_writes is None else str(run.lost_writes),
    )


def _number(value: float | None) -> str:
    return '-' if value is None else f'{value:.0f}'


def _ratio(value: float | None) -> str:
    return '-' if value is None else f'{value:.2f}'


def verdicts(checks: collections.abc.Sequence[figures.Check]) -> str:
    """The targets, one a line, with what was reached."""
    return '\n'.join(
        f'{"PASS" if check.passed else "FAIL"}  {check.workload:11} '
        f'{check.name:32} {check.value:9.2f}  (target {check.target:g})'
        for check in checks
    )


EXPLANATION = """\
total: from the order until the guest runs on the destination
limit: (frozen disks + mirrored writes + memory) / link
pause: at the hand-over; gap: the guest's longest silence at the switch, and
  its ratio to the memory-only migration of the same guest
before, moving: what the guest wrote, before and while it was moved
worst: longest that a write waited while moving, the switch left out
start: the guest's longest silence when the mirrors started
lost: sectors that are not what was acknowledged (0: all is there)"""
