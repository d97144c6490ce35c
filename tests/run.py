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

"""Run a suite that needs lab hosts: ``python3 -m tests.run SUITE``.

Brings up what the suite needs, runs its tests where they belong, writes
``build/results/SUITE.json`` and takes the lab down again.  With
``SXM_KEEP_LAB=1`` in the environment the lab stays, and the next run is
quicker.  The exit code is 0 only if something ran and all of it passed.
"""

from __future__ import annotations

import argparse
import os
import sys

from tests.runner import outcome
from tests.runner import suite as suite_mod


def main(argv: list[str] | None = None) -> int:
    """Run one suite; the exit code."""
    parser = argparse.ArgumentParser(
        prog='python3 -m tests.run', description='Run a suite.'
    )
    parser.add_argument('suite', choices=tuple(suite_mod.SUITES))
    parser.add_argument(
        '-k',
        action='append',
        default=[],
        dest='patterns',
        metavar='PATTERN',
        help='only tests whose name contains it; may be repeated',
    )
    arguments = parser.parse_args(argv)
    reporter = suite_mod.Reporter(sys.stdout)
    found = suite_mod.run(
        suite_mod.SUITES[arguments.suite],
        arguments.patterns,
        os.environ.get('SXM_KEEP_LAB') == '1',
        reporter,
    )
    found.write(suite_mod.results_file(arguments.suite))
    for test in found.tests:
        if test.verdict is not outcome.Verdict.PASSED:
            reporter.say(f'{test.verdict.upper()}: {test.name}')
    counts = found.to_dict()
    reporter.say(
        f'{arguments.suite}: {counts["passed"]} passed, '
        f'{counts["failed"]} failed, {counts["seconds"]:.0f} s'
    )
    return 0 if found.ok else 1


if __name__ == '__main__':
    sys.exit(main())
