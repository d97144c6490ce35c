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

"""``make bench``: this and stock migration, workload by workload.

Brings up two lab hosts, shapes the link between them, and moves the same
guest with the same disks by every engine under every workload.  Writes
``build/bench.json`` and ``build/bench.svg`` after each run, so that what was
measured is there even if the rest is cut short, and prints a table and
which targets were reached.
"""

from __future__ import annotations

import argparse
import collections.abc
import dataclasses
import json
import os
import pathlib
import sys
import time

from tests.bench import cell
from tests.bench import figures
from tests.bench import picture
from tests.bench import report
from tests.bench import workloads
from tests.functional import world as world_mod
from tests.lab import lab as lab_mod
from tests.lab import network
from tests.lab import paths
from tests.lab import progress as progress_mod

_QUICK_WORKLOADS = ('idle', 'uniform-40')


@dataclasses.dataclass(slots=True)
class Session:
    """All that one call of the benchmark measures."""

    link: str
    link_bytes_per_s: float
    guest_share: float
    json_path: pathlib.Path
    runs: list[figures.Run] = dataclasses.field(default_factory=list)
    gaps_ms: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    def checks(self) -> list[figures.Check]:
        return figures.checks(
            self.runs, self.link_bytes_per_s, self.guest_share
        )

    def save(self) -> None:
        """Write the figures and the picture as they are now."""
        self.json_path.parent.mkdir(parents=True, exist_ok=True)
        data = {
            'link_bytes_per_s': self.link_bytes_per_s,
            'guest_share': self.guest_share,
            'memory_only_gaps_ms': self.gaps_ms,
            'runs': [run.to_dict() for run in self.runs],
            'checks': [dataclasses.asdict(one) for one in self.checks()],
        }
        self.json_path.write_text(json.dumps(data, indent=1) + '\n')
        self.json_path.with_suffix('.svg').write_text(
            picture.svg(
                self.runs,
                'Live migration with disks, link '
                f'{self.link_bytes_per_s / 1e6:.0f} MB/s',
            )
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python3 -m tests.bench', description=__doc__
    )
    parser.add_argument(
        '--quick',
        action='store_true',
        help='smaller disks and two workloads: a few minutes',
    )
    parser.add_argument(
        '--engines',
        type=_choice(workloads.ENGINES),
        metavar='NAME,...',
        default=list(workloads.ENGINES),
        help=', '.join(workloads.ENGINES),
    )
    parser.add_argument(
        '--workloads',
        type=_choice(tuple(workloads.WORKLOADS)),
        metavar='NAME,...',
        help=', '.join(workloads.WORKLOADS),
    )
    parser.add_argument('--link', default='20mbps', metavar='RATE')
    parser.add_argument('--guest-share', type=float, default=0.5)
    parser.add_argument(
        '--gaps',
        type=int,
        default=3,
        metavar='N',
        help='memory-only migrations of each workload; 0 for none',
    )
    parser.add_argument(
        '--json',
        type=pathlib.Path,
        metavar='PATH',
        default=paths.REPO / 'build' / 'bench.json',
    )
    return parser


def _choice(
    known: collections.abc.Sequence[str],
) -> collections.abc.Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(',')
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f'{name!r} is none of {", ".join(known)}'
                )
        return names

    return parse


def _measure(
    world: world_mod.World,
    arguments: argparse.Namespace,
    session: Session,
    progress: progress_mod.Progress,
) -> None:
    scale = workloads.QUICK if arguments.quick else workloads.FULL
    bench = cell.Bench(
        world,
        scale,
        session.link,
        session.link_bytes_per_s,
        session.guest_share,
    )
    names = arguments.workloads or (
        _QUICK_WORKLOADS if arguments.quick else list(workloads.WORKLOADS)
    )
    for name in names:
        workload = workloads.WORKLOADS[name]
        gap_ms = None
        if arguments.gaps:
            gaps = bench.memory_only_gaps_ms(workload, arguments.gaps)
            session.gaps_ms[name] = gaps
            gap_ms = cell.median_ms(gaps)
            progress.step(
                f'{name}: memory only, gaps '
                + ', '.join(f'{gap:.0f}' for gap in gaps)
                + ' ms'
            )
        for engine in arguments.engines:
            with progress.during(f'{name} ({workload.about}), {engine}'):
                run = bench.run(engine, workload)
            run.memory_only_gap_ms = gap_ms
            session.runs.append(run)
            session.save()
            if run.error:
                progress.step(f'{name}, {engine}: {run.error}')


def main(argv: list[str] | None = None) -> int:
    """Measure; 0 only if ``snapshot`` reached every target."""
    arguments = _parser().parse_args(argv)
    progress = progress_mod.Progress()
    rate = network.parse_rate(arguments.link).bytes_per_s
    if not rate:
        print('--link needs a rate above zero', file=sys.stderr)
        return 2
    session = Session(
        arguments.link, float(rate), arguments.guest_share, arguments.json
    )
    began_s = time.monotonic()
    lab = lab_mod.Lab(progress=progress)
    try:
        lab.up(hosts_only=True)
        world = world_mod.World.open()
        try:
            _measure(world, arguments, session, progress)
        finally:
            world.close()
    finally:
        if os.environ.get('SXM_KEEP_LAB') != '1':
            lab.down()
    return _conclude(session, began_s)


def _conclude(session: Session, began_s: float) -> int:
    checks = session.checks()
    print(report.table(session.runs))
    print(report.EXPLANATION)
    print(report.verdicts(checks))
    reached = sum(check.passed for check in checks)
    print(
        f'{reached} of {len(checks)} targets reached in '
        f'{(time.monotonic() - began_s) / 60:.0f} min; figures in '
        f'{session.json_path}, picture in '
        f'{session.json_path.with_suffix(".svg")}'
    )
    return 0 if checks and reached == len(checks) else 1


if __name__ == '__main__':
    sys.exit(main())
