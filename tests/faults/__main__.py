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
"""``make faults``: a move is disturbed in every phase, in every way.

Brings up two lab hosts and one guest that writes, and runs the cells of the
matrix on them, one after another.  Prints a line for each and the table at
the end, and writes ``build/faults.json`` after each cell, so that what was
seen is there even if the rest is cut short.  The exit code is 0 only if
something ran and all of it was as it should be.
"""

from __future__ import annotations

import argparse
import collections.abc
import json
import os
import pathlib
import sys
import time
import typing

from tests.faults import bed as bed_mod
from tests.faults import checks
from tests.faults import injections
from tests.faults import manual
from tests.faults import matrix
from tests.faults import report
from tests.faults import rounds
from tests.faults import trial as trial_mod
from tests.functional import world as world_mod
from tests.lab import lab as lab_mod
from tests.lab import paths
from tests.lab import progress as progress_mod

JSON = paths.REPO / 'build' / 'faults.json'
PAGE = paths.REPO / 'doc' / 'source' / 'reference' / 'faults.rst'


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python3 -m tests.faults', description=__doc__
    )
    parser.add_argument(
        'words',
        nargs='*',
        metavar='FAULT|PHASE|CELL',
        help='only these, for example: link P2 daemon.P4.there',
    )
    parser.add_argument(
        '--quick',
        action='store_true',
        help='the third that touches every row and column',
    )
    parser.add_argument(
        '--list', action='store_true', help='say what there is, and run none'
    )
    parser.add_argument(
        '--moves',
        type=int,
        metavar='N',
        help='instead: until so many moves, disturbed at random, arrived',
    )
    parser.add_argument('--seed', type=int, default=1, metavar='N')
    parser.add_argument(
        '--for',
        type=float,
        default=0.0,
        dest='minutes',
        metavar='MINUTES',
        help='begin no cell after that time; what is left out did not run',
    )
    parser.add_argument(
        '--merge',
        action='store_true',
        help='keep what the file has of cells that do not run now',
    )
    parser.add_argument(
        '--missing',
        action='store_true',
        help='as --merge, and run only what the file has not as ok',
    )
    parser.add_argument('--json', type=pathlib.Path, default=JSON)
    parser.add_argument(
        '--page',
        action='store_true',
        help='only write the page of the manual anew, from the file',
    )
    return parser


def _list(cells: collections.abc.Sequence[matrix.Cell]) -> None:
    for cell in cells:
        print(
            f'{cell.name:22} {"quick" if cell.quick else "":6} '
            f'{cell.act:26} ends: {", ".join(sorted(cell.ends))}'
        )
    print(f'{len(cells)} cells')


class Session:
    """One run, and the file that it writes."""

    def __init__(self, path: pathlib.Path, keep: bool) -> None:
        self.path = path
        self.data: dict[str, typing.Any] = {'cells': []}
        if keep and path.exists():
            self.data = json.loads(path.read_text())
        self.ran = 0
        self.failed = 0

    def due(
        self, cells: collections.abc.Sequence[matrix.Cell], missing: bool
    ) -> list[matrix.Cell]:
        """Those to run: all, or only those that the file has not as ok."""
        fine = {report.key(one) for one in self.data['cells'] if one['ok']}
        return [
            cell
            for cell in cells
            if not (
                missing
                and (str(cell.fault), str(cell.phase), cell.variant) in fine
            )
        ]

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.data['not_run'] = report.not_run(self.data['cells'])
        self.path.write_text(json.dumps(self.data, indent=1) + '\n')

    def add(self, result: report.Result) -> None:
        self.ran += 1
        self.failed += not result.ok
        self.data['cells'] = report.merged(
            self.data['cells'], result.to_dict()
        )
        self.save()
        print(report.line(result), flush=True)


def _run_cell(bed: bed_mod.Bed, cell: matrix.Cell) -> report.Result:
    try:
        trial = trial_mod.Trial(bed, cell)
        seen = trial.run(
            injections.ACTS[cell.act], injections.BEFORE.get(cell.act)
        )
    except bed_mod.TROUBLE as error:
        seen = checks.Observation(
            matrix.End.LOST, trouble=[f'{type(error).__name__}: {error}']
        )
    result = report.Result.of(cell, seen)
    if not result.ok:
        bed.drop()
    return result


def _run_cells(
    bed: bed_mod.Bed,
    cells: collections.abc.Sequence[matrix.Cell],
    session: Session,
    until_s: float,
) -> None:
    for cell in cells:
        if time.monotonic() > until_s:
            print(f'{cell.name} and those after it did not run: no time left')
            return
        session.add(_run_cell(bed, cell))


def _run_moves(
    bed: bed_mod.Bed, session: Session, wanted: int, seed: int, until_s: float
) -> None:
    tally = rounds.Tally(seed, wanted)
    for one in rounds.plan(seed):
        if tally.is_enough or time.monotonic() > until_s:
            break
        seen, missed = rounds.run_one(bed, one)
        tally.count(one, seen, missed)
        print(
            f'{tally.ordered:3} {one.act or "undisturbed":26} '
            f'{one.delay_s:5.1f} s{" (over)" if missed else "":7} '
            f'{seen.end:8} {seen.error or "-":14} lost {seen.lost_writes}  '
            f'left {len(seen.leftovers)}  {seen.seconds:5.1f} s',
            flush=True,
        )
        session.data['moves'] = told = tally.to_dict()
        session.save()
    session.ran += tally.ordered
    told = tally.to_dict()
    session.failed += not told['ok']
    print(
        f'{tally.arrived} of {wanted} moves arrived, seed {seed}: '
        + (told['why'] or 'all as it should be')
    )


def _run(arguments: argparse.Namespace, session: Session) -> None:
    cells = session.due(
        matrix.select(arguments.words, arguments.quick), arguments.missing
    )
    until_s = time.monotonic() + 60.0 * (arguments.minutes or 1e6)
    lab = lab_mod.Lab(progress=progress_mod.Progress())
    try:
        lab.up(hosts_only=True)
        world = world_mod.World.open()
        bed = bed_mod.Bed(world)
        try:
            if arguments.moves:
                _run_moves(
                    bed, session, arguments.moves, arguments.seed, until_s
                )
            else:
                _run_cells(bed, cells, session, until_s)
        finally:
            bed.drop()
            world.close()
    finally:
        if os.environ.get('SXM_KEEP_LAB') != '1':
            lab.down()


def main(argv: list[str] | None = None) -> int:
    """Run what was asked for; the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        cells = matrix.select(arguments.words, arguments.quick)
    except ValueError as error:
        parser.error(str(error))
    if arguments.list:
        _list(cells)
        return 0
    if arguments.page:
        manual.write(arguments.json, PAGE)
        return 0
    began_s = time.monotonic()
    keep = arguments.merge or arguments.missing or bool(arguments.moves)
    session = Session(arguments.json, keep)
    _run(arguments, session)
    print(report.table(session.data['cells']))
    print(
        f'{session.ran} ran, {session.failed} not as they should be, '
        f'{(time.monotonic() - began_s) / 60:.0f} min; figures in '
        f'{session.path}'
    )
    return 0 if session.ran and not session.failed else 1


if __name__ == '__main__':
    sys.exit(main())
