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

"""Time that passes only when someone sleeps."""

from __future__ import annotations

import time


class FakeClock:
    """Keeps the contract of :class:`.clock.Clock`.

    :ivar slept: every pause that was asked for, seconds.
    """

    def __init__(self, now_s: float = 1000.0) -> None:
        self._now_s = now_s
        self.slept: list[float] = []

    def now(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._now_s += seconds
        time.sleep(0)  # lets other threads go on
