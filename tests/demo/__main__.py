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

"""Runs the demonstration: ``python3 -m tests.demo``.

Brings up a whole OpenStack on this machine, boots a server that writes to
all its disks, and moves it with the command that an operator types.  What
is shown is measured from outside the guest.  The exit code is 0 only if all
held.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time

from tests.demo import picture
from tests.demo import story as story_mod
from tests.e2e import cloud as cloud_mod
from tests.lab import lab as lab_mod
from tests.lab import paths
from tests.lab import progress as progress_mod

_SOURCE, _DESTINATION = cloud_mod.CELL_HOSTS
_SAMPLE_S = 0.25
#: disk, pattern, block, bytes a second, span in MiB.
_WRITERS = (
    ('vda', 'uniform', 4096, 1 << 20, 64),
    ('vdb', 'sequential', 65536, 3 << 20, 256),
    ('vdc', 'hot', 4096, 1 << 19, 32),
)
_FIRST_MIB = 96
_AFTERWARDS_S = 5.0


class Demo:
    """The demonstration in a lab that is up."""

    def __init__(
        self,
        cloud: cloud_mod.Cloud,
        progress: progress_mod.Progress,
        link: str,
    ) -> None:
        self._cloud = cloud
        self._progress = progress
        self._story = story_mod.Story(_SOURCE, _DESTINATION, link)

    def run(self) -> story_mod.Story:
        """Boot, write, move, verify; what was measured."""
        with self._progress.during('a server boots'):
            server = self._cloud.boot('demo', _SOURCE)
        try:
            drive = server.guest.config_drive_digest()
            self._write(server)
            self._move(server)
            time.sleep(_AFTERWARDS_S)
            self._verify(server, drive)
        finally:
            self._cloud.lab.link('off')
            with self._progress.during('the server is deleted'):
                server.delete()
        return self._story

    def _write(self, server: cloud_mod.Server) -> None:
        for disk, pattern, block, rate, span in _WRITERS:
            server.guest.write(disk, pattern, block, rate, span=span << 20)
        with self._progress.during('it writes to its disks'):
            self._cloud.wait(
                'enough written',
                lambda: (
                    server.guest.report().by_disk['vdb'].acked_bytes
                    > _FIRST_MIB << 20
                ),
                300,
            )

    def _move(self, server: cloud_mod.Server) -> None:
        story, lab = self._story, self._cloud.lab
        lab.link(story.link)
        command = (
            'server', 'migrate', '--live-migration', '--block-migration',
            '--host', _DESTINATION, '--wait', server.uuid,
        )  # fmt: skip
        self._progress.step('$ openstack ' + ' '.join(command))
        before = lab.link_bytes(_SOURCE)
        began_s, clock_s = time.time(), time.monotonic()
        with self._progress.during('the server moves'):
            lab.openstack(*command)
            migration = server.wait_end()
        story.status = migration['status']
        story.total_s = time.monotonic() - clock_s
        story.bytes_sent = lab.link_bytes(_SOURCE) - before
        log = self._cloud.compute(_SOURCE).log
        report = story_mod.read_report(log, migration['uuid'])
        story.marks = story_mod.read_marks(log, migration['uuid'], began_s)
        story.disks = report.get('disks', {})
        story.pause_ms = report.get('pause_s', 0.0) * 1000
        story.gap_ms = self._gap_ms(server, clock_s)
        story.series = self._series(server, clock_s)

    def _gap_ms(self, server: cloud_mod.Server, clock_s: float) -> float:
        """Longest silence of the guest between hand-over and arrival."""
        resumed = self._story.at('resume')
        arrived = self._story.at('arrived')
        if resumed is None or arrived is None:
            return 0.0
        stats = self._cloud.collector.window(
            server.address, clock_s + resumed + 0.2, clock_s + arrived + 1.0
        )
        return stats.longest_tick_gap_s * 1000

    def _series(
        self, server: cloud_mod.Server, clock_s: float
    ) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {
            'at_s': [],
            'rate': [],
            'latency_ms': [],
        }
        at_s = 0.0
        while at_s < self._story.total_s:
            stats = self._cloud.collector.window(
                server.address, clock_s + at_s, clock_s + at_s + _SAMPLE_S
            )
            worst_s = max(
                stats.worst_write_latency_s, stats.longest_ack_stall_s
            )
            found['at_s'].append(round(at_s, 2))
            found['rate'].append(stats.rate_bytes_per_s)
            found['latency_ms'].append(worst_s * 1000)
            at_s += _SAMPLE_S
        return found

    def _verify(self, server: cloud_mod.Server, drive: str) -> None:
        story = self._story
        with self._progress.during('it reads what it wrote'):
            server.guest.stop(timeout_s=120)
            found = server.guest.verify(timeout_s=900)
        story.checked_sectors = found.checked
        story.lost_writes = (
            found.lost + found.bad + found.future + found.read_errors
        )
        story.config_drive_same = (
            server.guest.config_drive_digest() == drive
            and server.host == _DESTINATION
        )
        story.left_on_source = sorted(server.files(_SOURCE))


def main(argv: list[str] | None = None) -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(
        prog='python3 -m tests.demo',
        description='A server moves live with its disks, before your eyes.',
    )
    parser.add_argument(
        '--link',
        default='20mbps',
        help='rate of the network between the hosts, in bytes (20mbps)',
    )
    parser.add_argument(
        '--keep', action='store_true', help='leave the lab running'
    )
    arguments = parser.parse_args(argv)
    progress = progress_mod.Progress()
    lab = lab_mod.Lab(progress=progress)
    try:
        lab.up()
        with contextlib.closing(cloud_mod.Cloud(lab)) as cloud:
            story = Demo(cloud, progress, arguments.link).run()
    finally:
        if not arguments.keep:
            lab.down()
    return _show(story)


def _show(story: story_mod.Story) -> int:
    build = paths.REPO / 'build'
    build.mkdir(exist_ok=True)
    report, image = build / 'demo.json', build / 'demo.svg'
    report.write_text(json.dumps(story.to_dict(), indent=1) + '\n')
    title = (
        f'One server, {len(story.disks)} disks, {story.source} to '
        f'{story.destination}: {story.lost_writes} writes lost'
    )
    image.write_text(picture.svg(story, title))
    print()
    for line in story_mod.lines(story):
        print(line)
    print(f'\nReport:  {report}\nPicture: {image}')
    return 0 if story.ok else 1


if __name__ == '__main__':
    try:
        sys.exit(main())
    except (paths.LabError, AssertionError) as error:
        sys.exit(f'the demonstration failed: {error}')
