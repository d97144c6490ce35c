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

"""A picture of all runs: the guest's writes over time, phases marked.

Plain SVG, made without any library: a column for each engine, a row for
each workload, in each cell the rate above and the latency below.
"""

from __future__ import annotations

import collections.abc
import math
from xml.sax import saxutils

from tests.bench import figures

_WIDTH, _HEIGHT = 330, 190
_LEFT, _TOP, _GAP = 60, 70, 26
_RATE_H, _LATENCY_H = 80, 56
_PHASES = {
    'copying': '#e3eefb',
    'pause': '#d62728',
    'migrate': '#e8f5e4',
    'memory': '#cfe9c8',
    'switched': '#2ca02c',
    'flattened': '#7f7f7f',
}
_LINK = {'copy': '#8c8c8c', 'mirror': '#9467bd'}
"""On the link: the copy of the frozen disks, the mirrored writes."""
_LATENCY_MS = (1.0, 10_000.0)


def svg(runs: collections.abc.Sequence[figures.Run], title: str) -> str:
    """The whole picture as a document."""
    engines = list(dict.fromkeys(run.engine for run in runs))
    workloads = list(dict.fromkeys(run.workload for run in runs))
    width = _LEFT + len(engines) * (_WIDTH + _GAP) + 10
    height = _TOP + len(workloads) * (_HEIGHT + _GAP) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(_LEFT, 22, title, size=16),
        _legend(40),
    ]
    for column, engine in enumerate(engines):
        x = _LEFT + column * (_WIDTH + _GAP)
        parts.append(_text(x, _TOP - 8, engine, size=13, bold=True))
    for run in runs:
        x = _LEFT + engines.index(run.engine) * (_WIDTH + _GAP)
        y = _TOP + workloads.index(run.workload) * (_HEIGHT + _GAP)
        parts.append(_cell(run, _scale_of(run, runs), x, y))
    parts.append('</svg>')
    return '\n'.join(parts)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 11,
    bold: bool = False,
    anchor: str = 'start',
) -> str:
    weight = ' font-weight="bold"' if bold else ''
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}"{weight} '
        f'text-anchor="{anchor}">{saxutils.escape(text)}</text>'
    )


def _legend(y: float) -> str:
    names = {
        'copying': 'disks are copied',
        'pause': 'hand-over',
        'migrate': 'small overlay',
        'memory': 'memory',
        'switched': 'switched',
        'flattened': 'flat',
    }
    parts: list[str] = []
    x = float(_LEFT)
    for phase, name in names.items():
        parts.append(
            f'<rect x="{x}" y="{y - 9}" width="12" height="10" '
            f'fill="{_PHASES[phase]}"/>' + _text(x + 16, y, name)
        )
        x += 34 + 6.5 * len(name)
    for name, colour in (
        ('the guest writes', '#1f77b4'),
        ('copy on the link', _LINK['copy']),
        ('mirror on the link', _LINK['mirror']),
        ('longest wait', '#d95f02'),
    ):
        parts.append(
            f'<line x1="{x}" x2="{x + 12}" y1="{y - 4}" y2="{y - 4}" '
            f'stroke="{colour}" stroke-width="2"/>' + _text(x + 16, y, name)
        )
        x += 34 + 6.5 * len(name)
    return '\n'.join(parts)


def _scale_of(
    run: figures.Run, runs: collections.abc.Sequence[figures.Run]
) -> tuple[float, float]:
    """Seconds and MB/s at the ends of the axes, the same along a row."""
    row = [other for other in runs if other.workload == run.workload]
    seconds = max(other.total_s for other in row) + 2
    rates = [
        rate / 1e6 for other in row for rate in other.series.get('rate', [])
    ]
    return seconds, max([*rates, 1.0]) * 1.1


def _cell(
    run: figures.Run, ends: tuple[float, float], x: float, y: float
) -> str:
    seconds, top_rate = ends

    def at_x(at_s: float) -> float:
        return x + max(0.0, min(at_s / seconds, 1.0)) * _WIDTH

    latency_y = y + _RATE_H + 22
    parts = [_bands(run, at_x, y, latency_y + _LATENCY_H - y)]
    parts += [
        _line(
            run.link.get('at_s', []),
            [rate / 1e6 / top_rate for rate in run.link.get(name, [])],
            at_x,
            y,
            _RATE_H,
            colour,
        )
        for name, colour in _LINK.items()
        if run.link
    ]
    parts += [
        _frame(x, y, _RATE_H, f'{top_rate:.0f} MB/s', '0'),
        _frame(x, latency_y, _LATENCY_H, '10 s', '1 ms'),
        _line(
            run.series.get('at_s', []),
            [rate / 1e6 / top_rate for rate in run.series.get('rate', [])],
            at_x,
            y,
            _RATE_H,
            '#1f77b4',
        ),
        _line(
            run.series.get('at_s', []),
            [_log(ms) for ms in run.series.get('latency_ms', [])],
            at_x,
            latency_y,
            _LATENCY_H,
            '#d95f02',
        ),
        _text(x + 4, y + 13, run.workload, bold=True),
        _text(
            x + _WIDTH - 4,
            y + 13,
            f'{run.total_s:.0f} s' if run.converged else 'gave up',
            anchor='end',
        ),
        _text(x, latency_y + _LATENCY_H + 12, '0 s'),
        _text(
            x + _WIDTH,
            latency_y + _LATENCY_H + 12,
            f'{seconds:.0f} s',
            anchor='end',
        ),
        _text(x + 4, latency_y - 4, 'longest wait of a write or a tick'),
    ]
    return '\n'.join(parts)


def _frame(x: float, y: float, height: float, top: str, bottom: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{_WIDTH}" height="{height}" '
        'fill="none" stroke="#999"/>'
        + _text(x - 3, y + 9, top, size=9, anchor='end')
        + _text(x - 3, y + height, bottom, size=9, anchor='end')
    )


def _bands(
    run: figures.Run,
    at_x: collections.abc.Callable[[float], float],
    y: float,
    height: float,
) -> str:
    """A band from each phase of the move to the next one shown."""
    first = {phase: at_s for at_s, _, phase in reversed(run.phases)}
    shown = sorted(
        (first[phase], phase) for phase in _PHASES if phase in first
    )
    parts = []
    for index, (at_s, phase) in enumerate(shown):
        if phase in ('switched', 'flattened'):
            parts.append(
                f'<line x1="{at_x(at_s):.1f}" x2="{at_x(at_s):.1f}" '
                f'y1="{y}" y2="{y + height}" stroke="{_PHASES[phase]}" '
                'stroke-width="1.5"/>'
            )
            continue
        end_s = shown[index + 1][0] if index + 1 < len(shown) else run.total_s
        wide = max(at_x(end_s) - at_x(at_s), 1.5)
        parts.append(
            f'<rect x="{at_x(at_s):.1f}" y="{y}" width="{wide:.1f}" '
            f'height="{height}" fill="{_PHASES[phase]}"/>'
        )
    return '\n'.join(parts)


def _log(value_ms: float) -> float:
    low, high = (math.log10(end) for end in _LATENCY_MS)
    value = math.log10(max(value_ms, _LATENCY_MS[0]))
    return min((value - low) / (high - low), 1.0)


def _line(
    at_s: collections.abc.Sequence[float],
    parts: collections.abc.Sequence[float],
    at_x: collections.abc.Callable[[float], float],
    y: float,
    height: float,
    colour: str,
) -> str:
    points = ' '.join(
        f'{at_x(at):.1f},{y + height * (1 - max(0.0, min(part, 1.0))):.1f}'
        for at, part in zip(at_s, parts, strict=True)
        if at >= 0
    )
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" '
        'stroke-width="1.3"/>'
    )
