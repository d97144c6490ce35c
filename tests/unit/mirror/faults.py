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

"""What the tests of moves that fail have in common."""

import collections
import itertools
import logging
import unittest

from sxm_openstack import exception
from sxm_openstack.mirror import move as mirror_move

from tests.fakes import traps
from tests.fakes import world

CAUSE = 'the trap sprang'
DISKS_OF = {'mirror-disk', 'copy-base', 'verify-base', 'verify-hand-over'}
FULL = mirror_move.Settings(verify='full')


RETURN_PORTS = {'transfer.connect', 'transfer.start_copy'}
"""They leave nothing when they raise."""
POLLED = {
    'copy.progress',
    'copy.set_rate',
    'domain.mirror_state',
    'domain.write_stats',
    'link.failure',
    'link.meter',
}
"""How often they are called depends on what the guest writes, and when."""
MAY_FAIL = {'domain.write_stats'}
HARMLESS = {'journal.write', 'journal.forget', 'link.close_channel'}
"""The undoing succeeds without them."""


def numbered(calls: list[str]) -> list[tuple[str, int]]:
    """Each call with which one of its name it is, from 1."""
    seen = collections.Counter()
    found = []
    for call in calls:
        seen[call] += 1
        found.append((call, seen[call]))
    return found


def error_of(call: str, kinds):
    """A journal knows only the errors of files."""
    kind = next(kinds)
    if call.startswith('journal'):
        return lambda: OSError(28, CAUSE)
    return kind


def errors():
    """Makers of errors of every kind that a port may raise."""
    return itertools.cycle(
        (
            lambda: exception.MoveFailed(CAUSE),
            lambda: OSError(5, CAUSE),
            lambda: exception.Retryable(CAUSE),
            lambda: exception.MirrorFailed(CAUSE),
            lambda: RuntimeError(CAUSE),
        )
    )


class FaultsTestCase(unittest.TestCase):
    def setUp(self):
        super().setUp()
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)

    def make(self, **named) -> world.World:
        return world.World(**({'settings': FULL} | named))

    def assert_sprung(self, trap: traps.Trap) -> None:
        self.assertLessEqual(trap.sprung, 1)
        if trap.call not in POLLED:
            self.assertEqual(1, trap.sprung)

    def run_it(self, made: world.World) -> exception.SXMError | None:
        try:
            made.source.run()
        except exception.SXMError as error:
            return error
        return None

    def calls(self, **named) -> list[str]:
        """What a move calls when nothing fails."""
        made = self.make(**named)
        made.source.run()
        return list(made.wires.calls)

    def assert_located(self, error: exception.SXMError) -> None:
        """It names step, host, disk and cause, in its text too."""
        self.assertIn(error.host, (world.SOURCE, 'fake-source'))
        self.assertTrue(error.step)
        self.assertEqual(error.step in DISKS_OF, error.disk is not None)
        for part in (error.step, error.host, error.disk or '', CAUSE):
            self.assertIn(part, str(error))
