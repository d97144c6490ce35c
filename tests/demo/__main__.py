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

"""``make demo``: a server moves live with its disks, before your eyes.

Brings up a real OpenStack in namespaces of this machine, boots a server that
writes to all its disks, moves it with the command that operators use, and
tells what happened.  Writes ``build/demo.json`` and ``build/demo.svg``.  The
exit code is 0 only if the disks went the way they should and nothing is
missing.  With ``SXM_KEEP_LAB=1`` the lab stays.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time

from tests.bench import cell
from tests.bench import figures
from tests.bench import picture
from tests.demo import story
from tests.e2e import cloud as cloud_mod
from tests.lab import lab as lab_mod
from tests.lab import paths
from tests.lab import progress as progress_mod

LINK = '20mbps'
SOURCE, DESTINATION = 'compute1', 'compute2'
WRITTEN = {'vda': 64 << 20, 'vdb': 128 << 20, 'vdc': 32 << 20}
RATES = {'vda': 3_000_000, 'vdb': 2_000_000, 'vdc': 500_000}
_SWITCH_WITHIN_S = 10.0
_AFTER_S = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Moved:
    """What was seen of the move; times by this machine's clocks.

    :param begin_s: when the command was given, CLOCK_MONOTONIC.
    :param offset_s: of the wall clock to CLOCK_MONOTONIC.
    """

    begin_s: float
    end_s: float
    offset_s: float
    status: str
    bytes_sent: int
    rate_before: float
    report: story.Report


def main() -> int:
    """Show it; the exit code."""
    say = progress_mod.Progress(stream=sys.stdout)
    lab = lab_mod.Lab(progress=say)
    try:
        lab.up()
        cloud = cloud_mod.Cloud(lab)
        try:
            return _show(cloud, say)
        finally:
            cloud.close()
    finally:
        if os.environ.get('SXM_KEEP_LAB') != '1':
            lab.down()


def _show(cloud: cloud_mod.Cloud, say: progress_mod.Progress) -> int:
    server = _boot(cloud, say)
    try:
        moved = _move(cloud, server, say)
        say.step('The guest stops writing and reads back all that it wrote')
        cloud.lab.link('off')
        server.guest.stop(timeout_s=120)
        verified = server.guest.verify(timeout_s=600)
        lost = verified.lost + verified.bad + verified.future
        result = _result(cloud, server, moved)
        result['lost_writes'] = lost
        result['verified_sectors'] = verified.checked
        problems = _problems(server, moved, result, verified.ok)
    finally:
        server.delete()
    result['ok'] = not problems
    _write(result)
    _tell(moved, result, problems)
    return 0 if result['ok'] else 1


def _boot(
    cloud: cloud_mod.Cloud, say: progress_mod.Progress
) -> cloud_mod.Server:
    with say.during('A server with root, ephemeral and swap disk boots'):
        server = cloud.boot('demo', SOURCE)
    for disk, size in WRITTEN.items():
        server.guest.write(
            disk, 'sequential', 1 << 20, 0, span=size, unit_bytes=65536
        )
    with say.during('It fills its disks'):
        cloud.wait(
            'data on the disks',
            lambda: (
                sum(
                    tick.acked_bytes
                    for tick in cloud.collector.ticks(
                        server.address, time.monotonic() - 1.0
                    )[-1:]
                )
                > sum(WRITTEN.values())
            ),
        )
        server.guest.stop(timeout_s=120)
    for disk, rate in RATES.items():
        server.guest.write(
            disk, 'uniform', 65536, rate, span=WRITTEN[disk],
            unit_bytes=65536,
        )  # fmt: skip
    cloud.lab.link(LINK)
    say.step(
        f'It writes {sum(RATES.values()) / 1e6:.1f} MB/s; the link between '
        f'the hosts carries {LINK}'
    )
    time.sleep(4.0)
    return server


def _move(
    cloud: cloud_mod.Cloud,
    server: cloud_mod.Server,
    say: progress_mod.Progress,
) -> Moved:
    offset_s = time.time() - time.monotonic()
    before = cloud.collector.window(server.address, time.monotonic() - 3.0)
    sent = cloud.lab.link_bytes(SOURCE)
    command = (
        'server', 'migrate', '--live-migration', '--block-migration',
        '--host', DESTINATION, server.uuid,
    )  # fmt: skip
    begin_s = time.monotonic()
    with say.during('openstack ' + ' '.join(command)):
        cloud.lab.openstack(*command)
    with say.during('The server moves'):
        migration = server.wait_end(600)
    end_s = time.monotonic()
    time.sleep(_AFTER_S)
    return Moved(
        begin_s,
        end_s,
        offset_s,
        migration['status'],
        cloud.lab.link_bytes(SOURCE) - sent,
        before.rate_bytes_per_s,
        story.read_report(cloud.compute(SOURCE).log, migration['uuid']),
    )


def _result(
    cloud: cloud_mod.Cloud, server: cloud_mod.Server, moved: Moved
) -> dict[str, object]:
    window = cloud.collector.window
    arrived_s = moved.report.at('arrived') - moved.offset_s
    resumed_s = moved.report.at('resume') - moved.offset_s
    switch = window(
        server.address,
        max(resumed_s, arrived_s - _SWITCH_WITHIN_S),
        min(arrived_s + 1.0, time.monotonic()),
    )
    moving = window(server.address, moved.begin_s, switch.gap_at)
    return {
        'ok': False,
        'lost_writes': None,
        'handover_pause_ms': round(1000 * moved.report.pause_s, 1),
        'switchover_gap_ms': round(1000 * switch.longest_tick_gap_s, 1),
        'switchover_at_s': round(switch.gap_at - moved.begin_s, 2),
        'total_s': round(moved.end_s - moved.begin_s, 2),
        'bytes_sent': moved.bytes_sent,
        'guest_rate_before': round(moved.rate_before),
        'guest_rate_while_moving': round(moving.rate_bytes_per_s),
        'worst_write_latency_ms': round(
            1000 * moving.worst_write_latency_s, 1
        ),
        'disks': moved.report.disks,
        'phases': [
            (
                round(one.at_s - moved.offset_s - moved.begin_s, 3),
                one.disk,
                one.name,
            )
            for one in moved.report.phases
        ],
        'series': cell.series(
            cloud.collector.ticks(
                server.address, moved.begin_s - 2.0, moved.end_s + 1.0
            ),
            moved.begin_s,
        ),
    }


def _problems(
    server: cloud_mod.Server,
    moved: Moved,
    result: dict[str, object],
    verified: bool,
) -> list[str]:
    """Everything that did not hold."""
    found = []
    if moved.status != 'completed':
        found.append(f'Nova says that the migration is {moved.status}')
    if server.host != DESTINATION:
        found.append(f'the server is on {server.host}, not on {DESTINATION}')
    found += [
        f'{disk} went through {moved.report.of_disk(disk)}'
        for disk in WRITTEN
        if not moved.report.went_by_snapshot(disk)
    ]
    if not verified:
        found.append(f'{result["lost_writes"]} sectors are not what they were')
    left = sorted(
        name for name in server.files(DESTINATION) if '.sxm-' in name
    )
    if left:
        found.append(f'overlays are left on the destination: {left}')
    if server.files(SOURCE):
        found.append('disks are left on the source')
    return found


def _write(result: dict[str, object]) -> None:
    build = paths.REPO / 'build'
    build.mkdir(exist_ok=True)
    (build / 'demo.json').write_text(json.dumps(result, indent=1) + '\n')
    shown = figures.Run('snapshot', 'demo')
    shown.converged = bool(result['ok'])
    shown.total_s = float(str(result['total_s']))
    shown.phases = _for_picture(result)
    shown.series = result['series']  # type: ignore[assignment]
    (build / 'demo.svg').write_text(
        picture.svg([shown], f'A server moves live with its disks, {LINK}')
    )


def _for_picture(result: dict[str, object]) -> list[tuple[float, str, str]]:
    """The phases under the names that pictures of benchmarks use."""
    names = {'copying': 'copying', 'pause': 'pause', 'resume': 'memory'}
    phases = [
        (at_s, disk, names[name])
        for at_s, disk, name in result['phases']  # type: ignore[attr-defined]
        if name in names
    ]
    switched_s = float(str(result['switchover_at_s']))
    return [*phases, (switched_s, '', 'switched')]


def _tell(
    moved: Moved, result: dict[str, object], problems: list[str]
) -> None:
    print('\nThe move, in seconds since the command was given:\n')
    print(
        '\n'.join(story.timeline(moved.report, moved.begin_s + moved.offset_s))
    )
    print(f'  {result["switchover_at_s"]:7}s  guest  switches over\n')
    for disk, bytes_of in moved.report.disks.items():
        print(
            f'  {disk}: {bytes_of["copied_bytes"] / 1e6:.1f} MB copied while '
            f'frozen, {bytes_of["mirrored_bytes"] / 1e6:.1f} MB of new '
            'writes mirrored'
        )
    print(
        f"""
  total                {result['total_s']} s
  sent over the link   {moved.bytes_sent / 1e6:.1f} MB
  hand-over pause      {result['handover_pause_ms']} ms
  switch-over gap      {result['switchover_gap_ms']} ms, as the guest felt it
  guest's writes       {moved.rate_before / 1e6:.1f} MB/s before, \
{float(str(result['guest_rate_while_moving'])) / 1e6:.1f} MB/s while moving
  sectors verified     {result['verified_sectors']}
  lost writes          {result['lost_writes']}

  report   build/demo.json
  picture  build/demo.svg
"""
    )
    for problem in problems:
        print(f'FAILED: {problem}')
    print('FAILED' if problems else 'All of it held.')


if __name__ == '__main__':
    sys.exit(main())
