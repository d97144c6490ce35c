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

"""libvirt's objects as :class:`.LibvirtDomain` uses them, under control.

Not a simulation: a test says what the XML shows, which calls fail, and
which events come, twice or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import libvirt

UUID = '5f0c1a52-6b1d-4f3c-9b52-6a4f5f3a9c11'

READY = libvirt.VIR_DOMAIN_BLOCK_JOB_READY
COMPLETED = libvirt.VIR_DOMAIN_BLOCK_JOB_COMPLETED
FAILED = libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED
CANCELED = libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED


def error(
    code: int, message: str = 'it says so', domain: int = 10
) -> libvirt.libvirtError:
    """A libvirtError with a code, as a failed call raises it."""
    result = libvirt.libvirtError(message)
    result.err = (code, domain, message, 2, '', None, None, -1, -1)
    return result


class FakeConnection:
    """A connection: hands out one domain, and delivers events."""

    def __init__(self) -> None:
        self.domain: FakeVirDomain | None = None
        self.callbacks: dict[int, Callable[..., None]] = {}
        self.registered = 0
        self.dead = False
        self.defined: list[str] = []

    def _alive(self) -> None:
        if self.dead:
            raise error(
                libvirt.VIR_ERR_INTERNAL_ERROR,
                'client socket is closed',
                libvirt.VIR_FROM_RPC,
            )

    def lookupByUUIDString(self, uuid: str) -> FakeVirDomain:
        self._alive()
        if self.domain is None:
            raise error(libvirt.VIR_ERR_NO_DOMAIN)
        assert uuid == UUID
        return self.domain

    def domainEventRegisterAny(
        self, domain: Any, event: int, callback: Any, opaque: Any
    ) -> int:
        self._alive()
        assert event == libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2
        if self.callbacks:
            raise error(
                libvirt.VIR_ERR_INVALID_ARG, 'event callback already tracked'
            )
        self.registered += 1
        self.callbacks[self.registered] = callback
        return self.registered

    def domainEventDeregisterAny(self, number: int) -> None:
        del self.callbacks[number]
        self._alive()

    def defineXML(self, text: str) -> None:
        self.defined.append(text)

    def emit(self, target: str, *statuses: int, uuid: str = UUID) -> None:
        """Deliver block job events, as the event loop's thread does."""
        subject = FakeVirDomain(self, uuid)
        for callback in tuple(self.callbacks.values()):
            for status in statuses:
                callback(self, subject, target, 2, status, None)


class FakeVirDomain:
    """A domain with one disk, ``vda``.

    :ivar mirror: ``(job, ready, path)`` of the XML's ``<mirror>``.
    :ivar calls: names and arguments of the calls that change something.
    :ivar fail: name of a call to the errors that it raises, one at a time.
    :ivar on: name of a call to what else happens in it.
    """

    def __init__(self, connection: FakeConnection, uuid: str = UUID) -> None:
        self._connection = connection
        self._uuid = uuid
        self.source = '/i/disk.overlay'
        self.backing: tuple[str, ...] = ('/i/disk', '/i/_base/image')
        self.mirror: tuple[str, str, str] | None = None
        self.persistent_source: str | None = None
        self.libvirt_state = (libvirt.VIR_DOMAIN_RUNNING, 1)
        self.calls: list[tuple[Any, ...]] = []
        self.fail: dict[str, list[libvirt.libvirtError]] = {}
        self.on: dict[str, Callable[[], None]] = {}

    def _call(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))
        if self.fail.get(name):
            raise self.fail[name].pop(0)
        if name in self.on:
            self.on[name]()

    def names(self) -> list[str]:
        """Names of the calls so far."""
        return [call[0] for call in self.calls]

    def connect(self) -> FakeConnection:
        return self._connection

    def UUIDString(self) -> str:
        return self._uuid

    def isPersistent(self) -> bool:
        return self.persistent_source is not None

    def state(self) -> tuple[int, int]:
        return self.libvirt_state

    def jobStats(self, flags: int = 0) -> dict[str, int]:
        self._call('jobStats', flags)
        return {}

    def XMLDesc(self, flags: int = 0) -> str:
        source = self.source
        if flags & libvirt.VIR_DOMAIN_XML_INACTIVE:
            source = self.persistent_source or ''
        backing = ''
        for path in reversed(self.backing):
            backing = (
                f"<backingStore type='file'><source file='{path}'/>{backing}"
                '</backingStore>'
            )
        mirror = ''
        if self.mirror:
            job, ready, path = self.mirror
            mirror = (
                f"<mirror job='{job}' ready='{ready}'>"
                f"<source file='{path}'/></mirror>"
            )
        return (
            "<domain><devices><disk type='file' device='disk'>"
            "<driver name='qemu' type='qcow2'/>"
            f"<source file='{source}'/>{backing}{mirror}"
            "<target dev='vda'/></disk></devices></domain>"
        )

    def blockJobInfo(self, target: str, flags: int) -> dict[str, int]:
        return {'type': 2} if self.mirror else {}

    def blockCopy(
        self, target: str, text: str, parameters: Any, flags: int
    ) -> None:
        self._call('blockCopy', target, flags)
        self.copy_parameters = parameters

    def blockCommit(
        self, target: str, base: str, top: str | None, rate: int, flags: int
    ) -> None:
        self._call('blockCommit', target, base, top, flags)

    def blockJobAbort(self, target: str, flags: int) -> None:
        self._call('blockJobAbort', target, flags)

    def snapshotCreateXML(self, text: str, flags: int) -> None:
        self._call('snapshotCreateXML', flags)

    def suspend(self) -> None:
        self._call('suspend')

    def resume(self) -> None:
        self._call('resume')

    def abortJob(self) -> None:
        self._call('abortJob')

    def migrateToURI3(self, uri: str, parameters: Any, flags: int) -> None:
        self._call('migrateToURI3', uri, parameters, flags)

    def migrateSetMaxSpeed(self, mib_per_s: int, flags: int) -> None:
        self._call('migrateSetMaxSpeed', mib_per_s)
