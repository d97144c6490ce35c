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

"""Runs unittest modules and tells of each test on standard output.

``python -m tests.runner.inside [-k PATTERN]... MODULE...`` runs wherever
the tests have to run: on the machine or in a lab host.  It writes one JSON
line when a test begins (``{"begin": NAME}``) and one when it ended
(:class:`.outcome.TestOutcome`); what the tests print goes to standard error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
import typing
import unittest

from tests.runner import outcome

Error = tuple[type[BaseException] | None, BaseException | None, typing.Any]


class JSONResult(unittest.TestResult):
    """Tells of each test as soon as it is known.

    :param stream: takes the JSON lines.
    """

    def __init__(self, stream: typing.TextIO) -> None:
        super().__init__()
        self._out = stream
        self._started_s = time.monotonic()
        self._bad: list[tuple[outcome.Verdict, str]] = []

    def _tell(self, data: dict[str, typing.Any]) -> None:
        print(json.dumps(data), file=self._out, flush=True)

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._started_s = time.monotonic()
        self._bad = []
        self._tell({'begin': test.id()})

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        verdict = outcome.Verdict.PASSED
        if self._bad:
            verdict = self._bad[0][0]
        self._end(test.id(), verdict)

    def _end(self, name: str, verdict: outcome.Verdict) -> None:
        self._tell(
            dataclasses.asdict(
                outcome.TestOutcome(
                    name,
                    verdict,
                    round(time.monotonic() - self._started_s, 3),
                    '\n'.join(text for _verdict, text in self._bad),
                )
            )
        )
        self._bad = []

    def _add(
        self, test: unittest.TestCase, verdict: outcome.Verdict, text: str
    ) -> None:
        self._bad.append((verdict, text))
        if not isinstance(test, unittest.TestCase):
            # What failed is a module's or a class's setUp or tearDown.
            self._end(test.id(), verdict)

    def _text(self, error: Error, test: unittest.TestCase) -> str:
        to_string = getattr(self, '_exc_info_to_string')  # noqa: B009
        return str(to_string(error, test))

    def addError(self, test: unittest.TestCase, err: Error) -> None:
        self._add(test, outcome.Verdict.ERROR, self._text(err, test))

    def addFailure(self, test: unittest.TestCase, err: Error) -> None:
        self._add(test, outcome.Verdict.FAILED, self._text(err, test))

    def addSubTest(
        self,
        test: unittest.TestCase,
        subtest: unittest.TestCase,
        err: Error | None,
    ) -> None:
        if err is not None:
            failed = err[0] is not None and issubclass(
                err[0], test.failureException
            )
            self._add(
                test,
                outcome.Verdict.FAILED if failed else outcome.Verdict.ERROR,
                f'{subtest.id()}:\n{self._text(err, test)}',
            )

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._add(
            test,
            outcome.Verdict.FAILED,
            f'skipped, which counts as failed: {reason}',
        )

    def addExpectedFailure(self, test: unittest.TestCase, err: Error) -> None:
        self._add(
            test,
            outcome.Verdict.FAILED,
            'an expected failure counts as failed:\n' + self._text(err, test),
        )

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._add(test, outcome.Verdict.FAILED, 'unexpected success')


def load(modules: list[str], patterns: list[str]) -> unittest.TestSuite:
    """The tests of some modules; one that cannot be imported is an error."""
    loader = unittest.TestLoader()
    if patterns:
        loader.testNamePatterns = [
            pattern if '*' in pattern else f'*{pattern}*'
            for pattern in patterns
        ]
    return loader.loadTestsFromNames(modules)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('-k', action='append', default=[], dest='patterns')
    parser.add_argument('modules', nargs='+', metavar='MODULE')
    arguments = parser.parse_args()
    with os.fdopen(os.dup(1), 'w') as stream:
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        result = JSONResult(stream)
        load(arguments.modules, arguments.patterns).run(result)
    return 0


if __name__ == '__main__':
    sys.exit(main())
