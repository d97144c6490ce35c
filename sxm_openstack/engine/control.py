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

"""What an operator may do to a running move: abort it, or hurry it."""

import threading

from sxm_openstack import exception


class Control:
    """Requests that reach a move from other threads.  Thread-safe."""

    def __init__(self) -> None:
        self._abort = threading.Event()
        self._hurry = threading.Event()
        self._reason = ''

    def abort(self, reason: str) -> None:
        """Ask for an abort; the first reason is kept."""
        if not self._abort.is_set():
            self._reason = reason
        self._abort.set()

    def hurry(self) -> None:
        """Ask that the copy stops yielding to the guest's writes."""
        self._hurry.set()

    @property
    def aborted(self) -> bool:
        return self._abort.is_set()

    @property
    def hurried(self) -> bool:
        return self._hurry.is_set()

    def check(self) -> None:
        """Raise :class:`.Aborted` when an abort was asked for."""
        if self._abort.is_set():
            raise exception.Aborted(self._reason)
