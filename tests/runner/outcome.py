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

"""What came of the tests of a suite."""

from __future__ import annotations

import collections
import dataclasses
import enum
import json
import pathlib
import typing


class Verdict(enum.StrEnum):
    """How a test ended; there is no skip: a missing tool is a failure."""

    PASSED = 'passed'
    FAILED = 'failed'
    ERROR = 'error'


@dataclasses.dataclass(frozen=True, slots=True)
class TestOutcome:
    """One test.

    :param name: module, class and method, as ``-k`` matches it.
    :param detail: traceback or reason, empty for one that passed.
    """

    name: str
    verdict: Verdict
    seconds: float
    detail: str = ''


@dataclasses.dataclass(slots=True)
class Outcome:
    """All tests of one suite."""

    tests: list[TestOutcome] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    def add(self, test: TestOutcome) -> None:
        self.tests.append(test)

    def count(self, verdict: Verdict) -> int:
        counts = collections.Counter(test.verdict for test in self.tests)
        return counts[verdict]

    @property
    def ok(self) -> bool:
        """Something ran and all of it passed."""
        return bool(self.tests) and all(
            test.verdict is Verdict.PASSED for test in self.tests
        )

    def to_dict(self) -> dict[str, typing.Any]:
        """``failed`` counts errors as well; ``errors`` says how many."""
        errors = self.count(Verdict.ERROR)
        return {
            'passed': self.count(Verdict.PASSED),
            'failed': self.count(Verdict.FAILED) + errors,
            'errors': errors,
            'seconds': round(self.seconds, 1),
            'tests': [dataclasses.asdict(test) for test in self.tests],
        }

    def write(self, path: pathlib.Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_dict(), indent=1) + '\n')
