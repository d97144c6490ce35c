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

"""A fake domain that also knows what a whole host does to it."""

from __future__ import annotations

from collections.abc import Mapping

from sxm_openstack import exception
from sxm_openstack.engine import ports

from tests.fakes import domain as fake_domain
from tests.fakes import link
from tests.fakes import storage

_ON = (ports.DomainState.RUNNING, ports.DomainState.PAUSED)


class FakeGuest(fake_domain.FakeDomain, storage.GuestFiles):
    """A fake domain that can be off, come in, and meet a locked file.

    :ivar locked: files that another process has open: nothing can be
        committed into them.
    """

    def __init__(
        self,
        disks: Mapping[str, str],
        files: fake_domain.FakeFiles,
        state: ports.DomainState = ports.DomainState.RUNNING,
    ) -> None:
        here = set(files)
        super().__init__(disks, files)
        if state is not ports.DomainState.RUNNING:
            for path in set(files) - here:
                del files[path]
        self.domain_state = state
        self.locked: set[str] = set()

    def open_files(self) -> set[str]:
        if self.domain_state not in _ON:
            return set()
        return {
            path
            for top in self._tops.values()
            if top in self.files
            for path in self.files.chain(top)
        }

    def power_off(
        self, state: ports.DomainState = ports.DomainState.SHUTOFF
    ) -> None:
        """The guest ends; its block jobs end with it."""
        self._mirrors.clear()
        self._commits.clear()
        self.domain_state = state

    def arrive(self, tops: Mapping[str, str]) -> None:
        """Come in from another host, with these files on top."""
        self._tops.update(tops)
        self.domain_state = ports.DomainState.RUNNING

    def snapshot(self, overlays: Mapping[str, str]) -> None:
        self._check_on('put overlays')
        super().snapshot(overlays)

    def start_mirror(
        self,
        target: str,
        socket: str,
        export: str,
        rate_bytes_per_s: int = 0,
    ) -> None:
        self._check_on('start a mirror')
        name, of_link, _ = export.partition(link.EXPORT)
        if not of_link:
            raise exception.MirrorFailed(f'There is no export {export}.')
        super().start_mirror(target, socket, name, rate_bytes_per_s)

    def hand_over(self, overlays: Mapping[str, str]) -> None:
        self._check_on('hand over')
        super().hand_over(overlays)

    def commit(self, target: str, base: str, timeout_s: float) -> None:
        self._check_on('commit')
        if base in self.locked and self.source_path(target) != base:
            raise exception.MirrorFailed(
                f'Failed to get "write" lock on {base}.'
            )
        super().commit(target, base, timeout_s)

    def _check_on(self, doing: str) -> None:
        if self.domain_state not in _ON:
            raise exception.MirrorFailed(
                f'Cannot {doing}: the domain is {self.domain_state}.'
            )
