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

"""Requests to one guest, and what it answers."""

from __future__ import annotations

import collections.abc
import time
import typing

from tests.lab.guest import answers

PATTERNS = ("sequential", "uniform", "hot")

#: Disk cells that one request loads; the guest's requests end at 4096 bytes.
_CELLS_PER_REQUEST = 180
_POLL_S = 0.1


class Transport(typing.Protocol):
    """Carries one request to a guest, again until it is answered."""

    def ask(
        self, verb: str, arguments: dict[str, str], timeout_s: float
    ) -> dict[str, str]:
        """Return the reply's values.

        :raises GuestRefused: the guest cannot do it.
        :raises GuestTimeout: no answer within ``timeout_s``.
        """
        ...


class GuestControl:
    """One guest's workload; every call blocks until the guest answered.

    Thread-safe as far as its transport is. Requests are repeated until they
    are answered and the guest does each once, so that lost packets and a
    paused guest only cost time.

    :param name: what errors call the guest.
    :param transport: how requests get there.
    """

    def __init__(self, name: str, transport: Transport) -> None:
        self.name = name
        self._transport = transport

    def ping(self, timeout_s: float = 5.0) -> answers.GuestInfo:
        """Ask for the guest's disks and uptime.

        :raises GuestTimeout: it does not answer.
        """
        values = self._ask("ping", timeout_s)
        disks = _disk_values(values)
        return answers.GuestInfo(
            boot_id=int(values["boot_id"]),
            uptime_s=int(values["uptime_ms"]) / 1000,
            config_drive=values["config_drive"].replace("-", ""),
            disk_bytes={name: fields[0] for name, fields in disks.items()},
            reserved_bytes={name: fields[1] for name, fields in disks.items()},
        )

    def wait_ready(self, timeout_s: float = 180.0) -> answers.GuestInfo:
        """Wait until the guest has booted and its workload answers.

        :raises GuestTimeout: it does not, in time.
        """
        return self.ping(timeout_s)

    def write(
        self,
        disk: str = "vda",
        pattern: str = "uniform",
        block_bytes: int = 4096,
        rate_bytes_per_s: int = 0,
        threads: int = 1,
        sync_every: int = 0,
        start: int | None = None,
        span: int | None = None,
        unit_bytes: int | None = None,
    ) -> answers.Writer:
        """Start a writer.

        :param disk: as the guest calls it, without ``/dev/``.
        :param pattern: ``sequential``, ``uniform`` or ``hot`` (90 % of the
            writes go to the first 5 % of the range).
        :param block_bytes: 512 to 1 MiB, a multiple of 512.
        :param rate_bytes_per_s: 0 writes as fast as it goes.
        :param threads: writes in flight, 1 to 8.
        :param sync_every: fdatasync after so many writes; 0 never.
        :param start: first byte; None takes the first after the boot file
            system.
        :param span: length in bytes; None takes the rest of the disk.
        :param unit_bytes: what the guest remembers writes by; None takes
            ``block_bytes``. Writers with different blocks can follow each
            other on one range if its unit divides them all.
        :raises GuestError: bad values, no such disk, or the range overlaps
            a running writer's or one with other units.
        """
        values = self._ask(
            "write",
            10.0,
            _words(
                {
                    "disk": disk,
                    "pattern": pattern,
                    "block": block_bytes,
                    "rate": rate_bytes_per_s,
                    "threads": threads,
                    "sync": sync_every,
                    "start": start,
                    "span": span,
                    "unit": unit_bytes,
                }
            ),
        )
        return answers.Writer(
            int(values["writer"]),
            disk,
            int(values["start"]),
            int(values["span"]),
            int(values["unit"]),
        )

    def stop(
        self, writer: answers.Writer | None = None, timeout_s: float = 30.0
    ) -> None:
        """Stop one writer or all, and wait for their last write.

        :raises GuestTimeout: a write is still in flight; the writers end
            when it is answered.
        """
        which = _words({"writer": writer.number if writer else None})
        deadline = time.monotonic() + timeout_s
        while True:
            left = int(self._ask("stop", timeout_s, which)["threads"])
            if left == 0:
                return
            if time.monotonic() > deadline:
                raise answers.GuestTimeout(
                    f"guest {self.name}: {left} writes are not answered "
                    f"{timeout_s:.0f} s after the stop; is a disk's mirror "
                    "stuck?"
                )
            time.sleep(_POLL_S)

    def report(self, timeout_s: float = 5.0) -> answers.Report:
        """What was written so far."""
        values = self._ask("report", timeout_s)
        return answers.Report(
            int(values["boot_id"]),
            int(values["threads"]),
            {
                name: answers.DiskReport(*fields)
                for name, fields in _disk_values(values).items()
            },
        )

    def verify(
        self, timeout_s: float = 300.0, disk: str | None = None
    ) -> answers.VerifyResult:
        """Read all that was written and compare; writers may run meanwhile.

        A disk whose table is empty adds nothing to ``checked``.

        :raises GuestError: the guest could not start to read.
        :raises GuestTimeout: not done in time; it goes on in the guest.
        """
        values = self._job("verify", timeout_s, _words({"disk": disk}))
        by_disk = {
            name: _verdict(fields)
            for name, fields in _disk_values(values).items()
        }
        found = list(by_disk.values())
        return answers.VerifyResult(
            checked=sum(one.checked for one in found),
            lost=sum(one.lost for one in found),
            bad=sum(one.bad for one in found),
            future=sum(one.future for one in found),
            read_errors=sum(one.read_errors for one in found),
            first_bad_offset=next(
                (
                    one.first_bad_offset
                    for one in found
                    if one.first_bad_offset is not None
                ),
                None,
            ),
            by_disk=by_disk,
        )

    def zero(
        self, disk: str, start: int, span: int, timeout_s: float = 60.0
    ) -> None:
        """BLKZEROOUT a range; a later verification expects zeros there.

        :raises GuestError: a writer runs there, or the range is not on the
            units of what was written before.
        """
        self._job(
            "zero",
            timeout_s,
            _words({"disk": disk, "start": start, "span": span}),
        )

    def discard(
        self, disk: str, start: int, span: int, timeout_s: float = 60.0
    ) -> None:
        """BLKDISCARD a range; what was written there is forgotten.

        :raises GuestError: as :meth:`zero`, or the disk cannot discard.
        """
        self._job(
            "discard",
            timeout_s,
            _words({"disk": disk, "start": start, "span": span}),
        )

    def config_drive_digest(self, timeout_s: float = 180.0) -> str:
        """SHA-256 of the whole config drive, read from the device.

        :raises GuestError: there is none, or it cannot be read.
        """
        return self._job("digest", timeout_s, {})["sha256"]

    def reset(self) -> None:
        """Forget all that was written; the counters go on.

        :raises GuestError: a writer or a verification runs.
        """
        self._ask("reset", 10.0)

    def save(self, timeout_s: float = 120.0) -> list[answers.SavedArea]:
        """Fetch what the guest knows, to :meth:`load` after a reboot.

        :raises GuestError: a writer runs.
        """
        deadline = time.monotonic() + timeout_s
        saved = []
        for disk in self.report().by_disk:
            area, areas = 0, 1
            while area < areas:
                one, areas = self._save_area(disk, area, deadline)
                saved.append(one)
                area += 1
        return saved

    def load(
        self,
        saved: collections.abc.Iterable[answers.SavedArea],
        timeout_s: float = 120.0,
    ) -> None:
        """Give a guest that booted again what it knew before.

        :raises GuestError: it has written since it booted.
        """
        deadline = time.monotonic() + timeout_s
        for area in saved:
            for first, cells in area.runs:
                for at in range(0, len(cells), _CELLS_PER_REQUEST):
                    part = cells[at : at + _CELLS_PER_REQUEST]
                    self._ask(
                        "load",
                        _left(deadline),
                        _words(
                            {
                                "disk": area.disk,
                                "start": area.start,
                                "span": area.span,
                                "unit": area.unit,
                                "generation": area.generation,
                                "sequence": area.sequence,
                                "first": first + at,
                                "cells": ",".join(part),
                            }
                        ),
                    )

    def _save_area(
        self, disk: str, area: int, deadline: float
    ) -> tuple[answers.SavedArea, int]:
        runs: list[tuple[int, tuple[str, ...]]] = []
        first = 0
        while True:
            values = self._ask(
                "save",
                _left(deadline),
                _words({"disk": disk, "area": area, "first": first}),
            )
            if not values["cells"]:
                saved = answers.SavedArea(
                    disk,
                    int(values["generation"]),
                    int(values["start"]),
                    int(values["span"]),
                    int(values["unit"]),
                    int(values["sequence"]),
                    tuple(runs),
                )
                return saved, int(values["areas"])
            cells = tuple(values["cells"].split(","))
            runs.append((int(values["first"]), cells))
            first = int(values["first"]) + len(cells)

    def _ask(
        self,
        verb: str,
        timeout_s: float,
        arguments: dict[str, str] | None = None,
    ) -> dict[str, str]:
        return self._transport.ask(verb, arguments or {}, timeout_s)

    def _job(
        self, verb: str, timeout_s: float, arguments: dict[str, str]
    ) -> dict[str, str]:
        deadline = time.monotonic() + timeout_s
        number = self._ask(verb, timeout_s, arguments)["job"]
        while True:
            try:
                values = self._ask("job", _left(deadline), {"job": number})
            except answers.GuestRefused as error:
                raise answers.GuestRefused(
                    self.name, verb, error.reason
                ) from None
            if values["state"] == "done":
                return values
            if time.monotonic() > deadline:
                raise answers.GuestTimeout(
                    f"guest {self.name}: {verb} is not done after "
                    f"{timeout_s:.0f} s ({values['done_bytes']} bytes read)"
                )
            time.sleep(_POLL_S)


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 1.0)


def _words(arguments: dict[str, str | int | None]) -> dict[str, str]:
    return {
        key: str(value)
        for key, value in arguments.items()
        if value is not None
    }


def _disk_values(values: dict[str, str]) -> dict[str, tuple[int, ...]]:
    """The ``vda=1:2:3`` among a reply's values."""
    return {
        key: tuple(int(part) for part in value.split(":"))
        for key, value in values.items()
        if len(key) == 3 and key.startswith("vd")
    }


def _verdict(fields: tuple[int, ...]) -> answers.DiskVerdict:
    checked, lost, bad, future, read_errors, first = fields
    return answers.DiskVerdict(
        checked, lost, bad, future, read_errors, None if first < 0 else first
    )
