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

"""The suites: what each needs, and where its tests run."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import selectors
import subprocess
import sys
import time
import typing

from tests.lab import lab as lab_mod
from tests.lab import paths
from tests.lab import progress as progress_mod
from tests.runner import outcome

SILENCE_AT_MOST_S = 900.0
"""A test that takes longer hangs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Test modules that run at one place.

    :param pattern: of files, relative to the checkout.
    :param host: lab host to run in; empty is this machine.
    """

    pattern: str
    host: str = ''

    def modules(self) -> list[str]:
        found = sorted(paths.REPO.glob(self.pattern))
        return [
            '.'.join(path.relative_to(paths.REPO).with_suffix('').parts)
            for path in found
        ]


@dataclasses.dataclass(frozen=True, slots=True)
class Suite:
    """A suite of ``make test``.

    :param hosts_only: a lab without OpenStack is enough.
    """

    name: str
    groups: tuple[Group, ...]
    hosts_only: bool = True


SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            'contract', (Group('tests/contract/test_real_*.py', 'compute1'),)
        ),
        Suite(
            'functional',
            (
                Group('tests/functional/transfer/test_*.py', 'compute1'),
                Group('tests/functional/test_move.py'),
                Group('tests/functional/test_manage.py'),
            ),
        ),
        Suite('failures', (Group('tests/functional/test_move_*.py'),)),
        Suite('e2e', (Group('tests/e2e/test_*.py'),), hosts_only=False),
        Suite(
            'operations',
            (Group('tests/e2e/operations/test_*.py'),),
            hosts_only=False,
        ),
    )
}


class Reporter:
    """Prints each test when it ended."""

    def __init__(self, stream: typing.TextIO) -> None:
        self._stream = stream

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def ended(self, test: outcome.TestOutcome) -> None:
        self.say(f'{test.verdict.upper():7} {test.seconds:7.1f}s  {test.name}')
        if test.detail:
            self.say(test.detail.rstrip())


def run(
    suite: Suite, patterns: list[str], keep_lab: bool, reporter: Reporter
) -> outcome.Outcome:
    """Bring up what the suite needs, run it, and take the lab down.

    :param patterns: of test names; all if empty.
    :param keep_lab: leave the lab running.
    """
    found = outcome.Outcome()
    began_s = time.monotonic()
    lab = lab_mod.Lab(progress=progress_mod.Progress())
    try:
        try:
            lab.up(hosts_only=suite.hosts_only)
        except paths.LabError as error:
            found.add(_broken(f'{suite.name}: the lab', str(error)))
        else:
            for group in suite.groups:
                _run_group(lab, group, patterns, found, reporter)
    finally:
        if not keep_lab:
            lab.down()
    if not found.tests:
        found.add(_broken(suite.name, 'no test ran'))
    found.seconds = time.monotonic() - began_s
    return found


def _broken(name: str, detail: str) -> outcome.TestOutcome:
    return outcome.TestOutcome(name, outcome.Verdict.ERROR, 0.0, detail)


def _run_group(
    lab: lab_mod.Lab,
    group: Group,
    patterns: list[str],
    found: outcome.Outcome,
    reporter: Reporter,
) -> None:
    modules = group.modules()
    if not modules:
        found.add(_broken(group.pattern, 'there is no such test'))
        return
    options = [word for one in patterns for word in ('-k', one)]
    command = ['-m', 'tests.runner.inside', *options, *modules]
    if group.host:
        process = lab.host(group.host).popen(
            [f'{paths.VENV}/bin/python', *command],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd='/',
        )
    else:
        process = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd=paths.REPO,
        )
    with process:
        try:
            _follow(process, group, found, reporter)
        finally:
            process.kill()


def _follow(
    process: subprocess.Popen[bytes],
    group: Group,
    found: outcome.Outcome,
    reporter: Reporter,
) -> None:
    """Read what the tests' process tells, and see that it goes on."""
    assert process.stdout is not None
    running = group.pattern
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(SILENCE_AT_MOST_S):
            line = process.stdout.readline()
            if not line:
                break
            told = json.loads(line)
            if 'begin' in told:
                running = told['begin']
                continue
            told['verdict'] = outcome.Verdict(told['verdict'])
            test = outcome.TestOutcome(**told)
            found.add(test)
            reporter.ended(test)
            running = ''
        else:
            found.add(_broken(running or group.pattern, 'it hangs'))
            reporter.ended(found.tests[-1])
            return
    if process.wait():
        found.add(
            _broken(
                running or group.pattern,
                f'its process ended with {process.returncode}',
            )
        )
        reporter.ended(found.tests[-1])


def results_file(suite: str) -> pathlib.Path:
    """Where the counts of a suite go."""
    return paths.REPO / 'build' / 'results' / f'{suite}.json'
