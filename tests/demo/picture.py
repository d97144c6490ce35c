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

"""The move as a picture: what became of the disks, and what the guest saw.

Plain SVG, made without any library: on top a lane for each disk, below the
guest's write rate and the longest wait of a write, over the same time.
"""

from __future__ import annotations

import collections.abc
import math
from xml.sax import saxutils

from tests.demo import story as story_mod

_LEFT, _RIGHT, _WIDTH = 70, 20, 900
_LANE, _RATE, _LATENCY = 22, 150, 110
_COLOURS = {
    'preparing': '#c7c7c7',
    'mirroring': '#ffbb78',
    'copying': '#1f77b4',
    'mirrored': '#98df8a',
    'handed-over': '#2ca02c',
}
_NAMES = {
    'preparing': 'prepared',
    'mirroring': 'mirror started',
    'copying': 'mirrored, copied',
    'mirrored': 'on both sides',
    'handed-over': 'memory goes',
}
_MS = (1.0, 10_000.0)


def svg(story: story_mod.Story, title: str) -> str:
    """The whole document."""
    end_s = max([story.total_s, *story.series.get('at_s', [])]) or 1.0

    def x(at_s: float) -> float:
        return _LEFT + max(0.0, min(at_s / end_s, 1.0)) * _WIDTH

    disks = sorted(story.disks, key=lambda disk: _begin(story, disk))
    rate_y = 66 + len(disks) * _LANE + 24
    latency_y = rate_y + _RATE + 34
    height = latency_y + _LATENCY + 40
    rates = [rate / 1e6 for rate in story.series.get('rate', [])]
    top = max([*rates, 1.0]) * 1.1
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" '
        f'width="{_LEFT + _WIDTH + _RIGHT}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(_LEFT, 20, title, size=15),
        _legend(),
        *(
            _lane(story, disk, 62 + row * _LANE, x, end_s)
            for row, disk in enumerate(disks)
        ),
        _frame(rate_y, _RATE, 'guest writes', f'{top:.0f} MB/s', '0'),
        _curve(story, [rate / top for rate in rates], x, rate_y, _RATE),
        _frame(latency_y, _LATENCY, 'longest wait of a write', '10 s', '1 ms'),
        _curve(
            story,
            [_log(ms) for ms in story.series.get('latency_ms', [])],
            x,
            latency_y,
            _LATENCY,
            '#d95f02',
        ),
        *_moments(story, x, latency_y + _LATENCY),
        *(
            _text(
                x(tick), latency_y + _LATENCY + 14, f'{tick:.0f} s', 'middle'
            )
            for tick in _ticks(end_s)
        ),
        '</svg>',
    ]
    return '\n'.join(parts) + '\n'


def _begin(story: story_mod.Story, disk: str) -> float:
    return min(
        (mark.at_s for mark in story.marks if mark.disk == disk), default=0.0
    )


def _lane(
    story: story_mod.Story,
    disk: str,
    y: float,
    x: collections.abc.Callable[[float], float],
    end_s: float,
) -> str:
    marks = [mark for mark in story.marks if mark.disk == disk]
    arrived = story.at('arrived') or end_s
    parts = [_text(_LEFT - 6, y + 13, disk, 'end')]
    for number, mark in enumerate(marks):
        until = marks[number + 1].at_s if number + 1 < len(marks) else arrived
        wide = max(x(until) - x(mark.at_s), 0.8)
        parts.append(
            f'<rect x="{x(mark.at_s):.1f}" y="{y}" width="{wide:.1f}" '
            f'height="{_LANE - 6}" fill="{_COLOURS.get(mark.phase, "#999")}"/>'
        )
    return '\n'.join(parts)


def _moments(
    story: story_mod.Story,
    x: collections.abc.Callable[[float], float],
    bottom: float,
) -> collections.abc.Iterator[str]:
    """The two moments in which the guest stands."""
    for phase, text, colour in (
        ('pause', f'pause {story.pause_ms:.0f} ms', '#d62728'),
        ('arrived', f'switched {story.gap_ms:.0f} ms', '#2ca02c'),
    ):
        at_s = story.at(phase)
        if at_s is None:
            continue
        yield (
            f'<line x1="{x(at_s):.1f}" x2="{x(at_s):.1f}" y1="58" '
            f'y2="{bottom}" stroke="{colour}" stroke-dasharray="4 3"/>'
        )
        yield _text(x(at_s) - 3, 55, text, 'end', colour=colour)


def _legend() -> str:
    parts, at = [], float(_LEFT)
    for phase, name in _NAMES.items():
        parts.append(
            f'<rect x="{at}" y="29" width="12" height="10" '
            f'fill="{_COLOURS[phase]}"/>' + _text(at + 16, 38, name)
        )
        at += 36 + 6.2 * len(name)
    return '\n'.join(parts)


def _frame(y: float, height: float, name: str, top: str, bottom: str) -> str:
    return (
        f'<rect x="{_LEFT}" y="{y}" width="{_WIDTH}" height="{height}" '
        'fill="none" stroke="#999"/>'
        + _text(_LEFT, y - 5, name)
        + _text(_LEFT - 4, y + 9, top, 'end')
        + _text(_LEFT - 4, y + height, bottom, 'end')
    )


def _curve(
    story: story_mod.Story,
    parts: collections.abc.Sequence[float],
    x: collections.abc.Callable[[float], float],
    y: float,
    height: float,
    colour: str = '#1f77b4',
) -> str:
    points = ' '.join(
        f'{x(at_s):.1f},{y + height * (1 - max(0.0, min(part, 1.0))):.1f}'
        for at_s, part in zip(story.series.get('at_s', []), parts, strict=True)
    )
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" '
        'stroke-width="1.3"/>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    anchor: str = 'start',
    size: int = 11,
    colour: str = 'black',
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" '
        f'text-anchor="{anchor}">{saxutils.escape(text)}</text>'
    )


def _log(value_ms: float) -> float:
    low, high = (math.log10(end) for end in _MS)
    value = math.log10(max(value_ms, _MS[0]))
    return min((value - low) / (high - low), 1.0)


def _ticks(end_s: float) -> list[float]:
    step = next(
        step
        for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1e9)
        if end_s / step <= 12
    )
    return [tick * step for tick in range(int(end_s // step) + 1)]
