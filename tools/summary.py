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

"""Add up what the suites counted; the last line is the sum.

::

    python3 -m tools.summary build/results unit contract functional e2e

Each suite leaves ``DIRECTORY/SUITE.json`` with at least
``{"passed": n, "failed": n}``.  A suite that left no file or counted no test
did not run, which counts as one failure.  The exit code is 1 when anything
failed.  Standard library only: the system's own interpreter runs it.
"""

import json
import pathlib
import sys


class NoCounts(Exception):
    """A suite left nothing that can be counted."""


def read_counts(path: pathlib.Path) -> tuple[int, int]:
    """Passed and failed tests of one suite.

    :raises NoCounts: the file is missing, or holds no such counts.
    """
    try:
        data = json.loads(path.read_text())
        passed, failed = data['passed'], data['failed']
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise NoCounts(f'left no counts in {path}: {exc!r}') from exc
    for number in (passed, failed):
        if type(number) is not int or number < 0:
            raise NoCounts(f'{path} holds {number!r}, which is no count')
    if passed + failed == 0:
        raise NoCounts(f'{path} says that no test ran')
    return passed, failed


def main(arguments: list[str]) -> int:
    """Print a line for each suite and the sum; return the exit code."""
    if len(arguments) < 2:
        print('usage: python3 -m tools.summary DIRECTORY SUITE...')
        return 2
    directory, *suites = arguments
    all_passed = all_failed = 0
    for suite in suites:
        try:
            passed, failed = read_counts(
                pathlib.Path(directory, f'{suite}.json')
            )
        except NoCounts as exc:
            print(f'{suite}: did not run: {exc}')
            all_failed += 1
            continue
        print(f'{suite}: {passed} passed, {failed} failed')
        all_passed += passed
        all_failed += failed
    print(f'{all_passed} passed, {all_failed} failed')
    return int(bool(all_failed))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
