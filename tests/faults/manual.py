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
"""The matrix as a page of the manual, from ``build/faults.json``."""

from __future__ import annotations

import collections.abc
import json
import pathlib
import re
import textwrap
import typing

from tests.faults import matrix

_BRIEF = 240

Cells = collections.abc.Sequence[dict[str, typing.Any]]

_HEAD = """\
.. Written by "python3 -m tests.faults --page"; do not edit.

============
Fault matrix
============

A guest that writes is moved between two hosts with real QEMU and libvirt, and
the move is disturbed on purpose: every row is a fault, every column how far
the move is by then. A cell is right if the move has gone on or is undone, as
the cell allows; if one host and no other has the guest; if the guest has read
back all that was acknowledged to it; and if ``sxm-manage cleanup`` leaves
nothing of the move.

``make faults`` runs it, ``python3 -m tests.faults --list`` lists the cells.
"""


def page(cells: Cells, moves: dict[str, typing.Any] | None) -> str:
    """The page.

    :param cells: of the file; those that did not run are not among them.
    :param moves: what ``--moves`` has found, if it has run.
    """
    parts = [
        _HEAD,
        _phases(),
        _overview(cells),
        _details(cells),
        _reasons(),
        _moves(moves),
    ]
    return '\n'.join(part for part in parts if part)


def write(source: pathlib.Path, target: pathlib.Path) -> None:
    """Write the page anew from the figures."""
    data = json.loads(source.read_text())
    target.write_text(page(data['cells'], data.get('moves')))


def _phases() -> str:
    rows = [(str(phase), text) for phase, text in matrix.PHASES.items()]
    return _list_table('Phases', ('Phase', 'What it is'), rows, '10 90')


def _overview(cells: Cells) -> str:
    rows = [
        (
            f'{fault}: {about}',
            *(_short(fault, each, cells) for each in matrix.Phase),
        )
        for fault, about in matrix.ROWS.items()
    ]
    return _list_table(
        'Results',
        ('Fault', *matrix.Phase),
        rows,
        '44 8 8 8 8 8 8 8',
    ) + (
        '\n``ok (2)``: so many cells, all as they should be. '
        '``FAILS``: see below.\n'
        '``-``: there is a cell that did not run. '
        'Empty: there is none, for the reason\ngiven below.\n'
    )


def _short(fault: matrix.Fault, phase: matrix.Phase, cells: Cells) -> str:
    wanted = matrix.cells_of(fault, phase)
    ran = [
        one for one in cells if (one['fault'], one['phase']) == (fault, phase)
    ]
    if not wanted:
        return ''
    if any(not one['ok'] for one in ran):
        return '**FAILS**'
    if len(ran) < len(wanted):
        return '\\-'
    return 'ok' if len(ran) == 1 else f'ok ({len(ran)})'


def _details(cells: Cells) -> str:
    rows = [
        (
            '.'.join(
                word
                for word in (one['fault'], one['phase'], one['variant'])
                if word
            ),
            _escaped(one['act'].replace('_', ' ')),
            one['end'],
            one['error'],
            str(one['lost_writes']),
            str(one['guest_io_errors']),
            f'{one["stall_ms"]:.0f}',
            str(len(one['leftovers'])),
            'ok' if one['ok'] else _escaped(_brief(one['why'])),
        )
        for one in cells
    ]
    if not rows:
        return ''
    return _list_table(
        'Cells',
        (
            'Cell',
            'Fault',
            'Guest',
            'Error',
            'Lost writes',
            'I/O errors',
            'Stall, ms',
            'Left',
            'Verdict',
        ),
        rows,
        '14 16 8 12 7 7 8 6 22',
    ) + (
        '\nLost writes are sectors of 512 bytes. The stall is the longest '
        'that a write of\nthe guest has waited; it has no bound where the '
        'guest itself was stopped.\n'
    )


def _reasons() -> str:
    lines = [_title('What is not in the table'), '']
    for fault in matrix.Fault:
        missing = [
            str(phase) for phase in matrix.Phase if matrix.gap(fault, phase)
        ]
        if not missing:
            continue
        lines.append(f'{fault}, {", ".join(missing)}')
        lines += textwrap.wrap(
            _escaped(_reason(fault)) + '.',
            75,
            initial_indent='    ',
            subsequent_indent='    ',
            break_long_words=False,
            break_on_hyphens=False,
        )
    lines += ['', 'Faults that no cell has yet:', '']
    for fault, text in matrix.UNTESTED.items():
        lines += textwrap.wrap(
            f'* {fault}: {_escaped(text)}.', 79, subsequent_indent='  '
        )
    return '\n'.join([*lines, ''])


def _reason(fault: matrix.Fault) -> str:
    return next(
        reason
        for phase in matrix.Phase
        if (reason := matrix.gap(fault, phase))
    )


def _moves(moves: dict[str, typing.Any] | None) -> str:
    if not moves:
        return ''
    return '\n'.join(
        [
            _title('Back and forth'),
            '',
            *textwrap.wrap(
                f'With seed {moves["seed"]}, one guest was ordered to move '
                f'{moves["ordered"]} times and arrived {moves["arrived"]} '
                'times, disturbed at random moments '
                f'{moves["disturbed"]} times. Sectors that are not as they '
                f'were acknowledged: {moves["lost_writes"]}. I/O errors in '
                f'the guest: {moves["guest_io_errors"]}. Left at the end: '
                f'{len(moves["leftovers"])}. '
                + (
                    'All as it should be.'
                    if moves['ok']
                    else f'Not as it should be: {_escaped(moves["why"])}.'
                ),
                79,
            ),
            '',
        ]
    )


def _list_table(
    title: str,
    head: collections.abc.Sequence[str],
    rows: collections.abc.Iterable[collections.abc.Sequence[str]],
    widths: str,
) -> str:
    lines = [
        _title(title),
        '',
        '.. list-table::',
        '   :header-rows: 1',
        f'   :widths: {widths}',
        '',
    ]
    for row in (head, *rows):
        for index, word in enumerate(row):
            mark = '   * -' if index == 0 else '     -'
            lines += _item(mark, word)
    return '\n'.join([*lines, ''])


def _item(mark: str, word: str) -> list[str]:
    """One field, wrapped for the checks of the manual's style."""
    if not word:
        return [mark]
    wrapped = textwrap.wrap(
        word, 72, break_long_words=True, break_on_hyphens=False
    )
    return [
        f'{mark} {wrapped[0]}',
        *(f'       {each}' for each in wrapped[1:]),
    ]


def _title(text: str) -> str:
    return f'{text}\n{"-" * len(text)}'


def _brief(text: str) -> str:
    """Without what is the same in every run; the file has all of it."""
    text = re.sub(r'/[^ ]*/[0-9a-f-]{36}/', '', text)
    text = re.sub(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', 'UUID', text)
    return textwrap.shorten(text, _BRIEF)


def _escaped(text: str) -> str:
    """Plain text: nothing in it is markup."""
    return ''.join(f'\\{each}' if each in '\\*`|_' else each for each in text)
