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

"""Lines that say what the lab is doing and since when.

They go to standard error, so that the output of ``exec`` or ``openstack``
can be piped.
"""

from __future__ import annotations

import collections.abc
import contextlib
import sys
import threading
import time
import typing


class Progress:
    """A clock with a line printer; safe to call from several threads.

    :param quiet: print nothing (the tests' choice).
    :param stream: where lines go; standard error when None.
    """

    def __init__(
        self, quiet: bool = False, stream: typing.TextIO | None = None
    ) -> None:
        self._quiet = quiet
        self._stream = stream
        self._started = time.monotonic()
        self._lock = threading.Lock()

    @property
    def elapsed_s(self) -> float:
        """Seconds since this object was made."""
        return time.monotonic() - self._started

    def step(self, message: str) -> None:
        """Print one line with the seconds since the start."""
        if self._quiet:
            return
        stream = self._stream or sys.stderr
        with self._lock:
            print(
                f"{self.elapsed_s:7.1f}s  {message}", file=stream, flush=True
            )

    @contextlib.contextmanager
    def during(
        self, what: str, every_s: float = 10.0
    ) -> collections.abc.Iterator[None]:
        """Say that ``what`` begins, goes on (now and then) and is done."""
        self.step(f"{what} ...")
        began = time.monotonic()
        done = threading.Event()

        def beat() -> None:
            while not done.wait(every_s):
                self.step(
                    f"{what}: still at it ({time.monotonic() - began:.0f} s)"
                )

        ticker = threading.Thread(target=beat, daemon=True)
        ticker.start()
        try:
            yield
        except BaseException:
            done.set()
            self.step(f"{what}: FAILED after {time.monotonic() - began:.1f} s")
            raise
        done.set()
        self.step(f"{what}: done in {time.monotonic() - began:.1f} s")
