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

"""Command line of the copier: jobs and rates in, progress out."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import sys
import time
from typing import Any

from sxm_openstack.transfer.copier import pipeline
from sxm_openstack.transfer.copier import server

PROGRESS_S = 0.1
STDIN, STDOUT = 0, 1


class Commands:
    """JSON objects from standard input, one a line."""

    def __init__(self) -> None:
        self._pending = b''
        self.ended = False

    def read(self) -> list[dict[str, Any]]:
        """Read what is there; blocks when there is nothing."""
        data = os.read(STDIN, 65536)
        self.ended = not data
        *lines, self._pending = (self._pending + data).split(b'\n')
        return [json.loads(line) for line in lines]

    def read_some(self) -> list[dict[str, Any]]:
        """Wait for at least one object, or the end of the input."""
        found = self.read()
        while not found and not self.ended:
            found = self.read()
        return found


class Report:
    """Progress on standard output.

    A line is left out while the reader does not read: it must not hold up
    the copy.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._poll.register(STDOUT, select.POLLOUT)
        self._due_at = 0.0

    def progress(self, counts: pipeline.Counts) -> None:
        now = time.monotonic()
        if now >= self._due_at and self._poll.poll(0):
            self._due_at = now + PROGRESS_S
            self.write(dataclasses.asdict(counts))

    def write(self, answer: dict[str, Any]) -> None:
        os.write(STDOUT, json.dumps(answer).encode() + b'\n')


def copy(commands: Commands, report: Report) -> int:
    job, *early = commands.read_some()
    copying = pipeline.Pipeline(pipeline.Job(**job))

    def obey(found: list[dict[str, Any]]) -> None:
        for command in found:
            copying.set_rate(int(command['rate_bytes_per_s']))

    obey(early)

    ready = select.poll()
    ready.register(STDIN, select.POLLIN)
    for _ in copying.scan():
        if ready.poll(0):
            obey(commands.read())
        if commands.ended:
            return 1
    while not copying.counts.finished:
        if copying.step(STDIN):
            obey(commands.read())
        if commands.ended:
            return 1
        report.progress(copying.counts)
    report.write(dataclasses.asdict(copying.counts))
    return 0


def main(arguments: list[str]) -> int:
    if len(arguments) > 1:
        print('usage: copier [SOURCE]', file=sys.stderr)
        return 2
    report = Report()
    try:
        return copy(Commands(), report)
    except server.CopyError as error:
        report.write({'error': str(error)})
    except (KeyError, TypeError, ValueError) as error:
        report.write({'error': f'the job is wrong: {error!r}'})
    return 1
