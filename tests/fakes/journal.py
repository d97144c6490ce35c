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

"""A journal that forgets everything with the process that kept it."""

from __future__ import annotations

from collections.abc import Iterator

from sxm_openstack.engine import journal


class FakeJournal(journal.Journal):
    """The records of one host in memory."""

    def __init__(self, name: str) -> None:
        super().__init__(f'/nowhere/{name}')
        self._records: dict[str, journal.Record] = {}

    def read(self, server: str) -> journal.Record | None:
        return self._records.get(server)

    def write(self, record: journal.Record) -> None:
        self._path(record.server)
        self._records[record.server] = record

    def forget(self, server: str) -> None:
        self._records.pop(server, None)

    def servers(self) -> Iterator[str]:
        yield from sorted(self._records)
