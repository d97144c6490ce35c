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

"""The copy itself: requests in flight from one server to the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import select
import time
from typing import Any

import nbd

from sxm_openstack.transfer.copier import pace
from sxm_openstack.transfer.copier import plan
from sxm_openstack.transfer.copier import server

REQUESTS_AT_MOST = 64
SPARSE_BYTES = 64 << 10  # zeros shorter than this are sent as data
FLUSH_S = 2.0
FLUSH_SHARE = 10  # at most a tenth of the time goes into flushes
WAIT_S = 0.05


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be done; see the docstring of the package."""

    source: dict[str, str]
    destination: dict[str, str]
    extent: str = 'all'
    zeros: str = 'skip'
    connections: int = 1
    offset: int = 0
    rate_bytes_per_s: int = 0

    @property
    def top_only(self) -> bool:
        return self.extent == 'top'


@dataclasses.dataclass
class Counts:
    """See the docstring of the package."""

    total_bytes: int = 0
    done_bytes: int = 0
    sent_bytes: int = 0
    offset: int = 0
    finished: bool = False


class Request:
    """One extent on its way."""

    def __init__(self, extent: plan.Extent, begun_at: float) -> None:
        self.extent = extent
        self.begun_at = begun_at
        self.memory = bytearray()
        self.left = 0
        # A long zero is little to send but work for the server.
        self.cost_bytes = min(extent.length, pace.REQUEST_MAX_BYTES)


class Pipeline:
    """Copies one image.

    Everything happens in :meth:`step`: callbacks of libnbd only note what
    has ended, since they must not use their handle.

    :raises CopyError: the servers are not there or do not fit.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._map = server.SourceMap(job.source, depth=job.top_only)
        self._source = server.Server('source', job.source)
        self._sinks = [
            server.Server('destination', job.destination)
            for _ in range(job.connections)
        ]
        self.size = self._source.size
        self._check()
        self._write_zeros = job.zeros == 'write' or (
            job.zeros == 'look' and not self._sink_is_blank()
        )
        now = time.monotonic()
        self.counts = Counts(offset=job.offset)
        self._bucket = pace.TokenBucket(job.rate_bytes_per_s, now)
        self._flight = pace.Flight(now)
        self._plan = self._extents()
        self._next: plan.Extent | None = None
        self._planned = False
        self._position = job.offset
        self._requests: dict[int, Request] = {}
        self._in_flight_bytes = 0
        self._ended: deque[Callable[[], None]] = deque()
        self._memory: list[bytearray] = []
        self._turn = 0
        self._flushing = 0
        self._flush_at = now + FLUSH_S
        self._flushed_at = now

    def scan(self) -> Iterator[None]:
        """Count what there is to send; yields after each window."""
        total = done = 0
        for start, length in plan.windows(0, self.size):
            for extent in self._window(start, length):
                if extent.kind is not plan.Kind.DATA:
                    continue
                total += extent.length
                before = min(extent.end, self._job.offset) - extent.offset
                done += max(before, 0)
            yield
        self.counts.total_bytes, self.counts.done_bytes = total, done

    def set_rate(self, rate_bytes_per_s: int) -> None:
        self._bucket.set_rate(rate_bytes_per_s, time.monotonic())

    def step(self, commands: int) -> bool:
        """Go on for up to 50 ms; whether there are commands to read.

        :param commands: file descriptor on which they come.
        :raises CopyError: the copy failed.
        """
        now = time.monotonic()
        wait_s = self._issue(now)
        self._maybe_flush(now)
        if not self.counts.finished:
            return self._poll(commands, min(wait_s, WAIT_S))
        return False

    # Planning.

    def _check(self) -> None:
        sink = self._sinks[0]
        if sink.size < self.size:
            raise server.CopyError(
                f'the destination has {sink.size} bytes, less than the '
                f'{self.size} bytes of the source'
            )
        if sink.handle.is_read_only():
            raise server.CopyError('the destination is read-only')

    def _sink_is_blank(self) -> bool:
        """Whether the server of the destination knows that it is zero."""
        found = server.SourceMap(self._job.destination, depth=False)
        return all(
            flags & plan.STATE_ZERO
            for start, length in plan.windows(0, self.size)
            for _, flags in found.read(start, length)[0]
        )

    def _window(self, start: int, length: int) -> Iterator[plan.Extent]:
        try:
            yield from plan.extents(
                self._map,
                start,
                length,
                top_only=self._job.top_only,
                write_zeros=self._write_zeros,
            )
        except ValueError as error:
            raise server.CopyError(str(error)) from error

    def _extents(self) -> Iterator[plan.Extent]:
        for start, length in plan.windows(self._job.offset, self.size):
            yield from self._window(start, length)

    def _take(self, request_bytes: int) -> plan.Extent | None:
        """Next extent to send, in the size of a request."""
        extent = self._next or next(self._plan, None)
        if extent is None:
            self._planned = True
            self._position = self.size
            return None
        extent, self._next = plan.cut(extent, request_bytes)
        self._position = extent.end
        return extent

    # Requests.

    def _issue(self, now: float) -> float:
        """Begin what may be in flight; seconds until more may."""
        rate = self._bucket.rate
        limit = self._flight.limit_bytes(now, rate)
        size = self._flight.request_bytes(now, rate)
        size = min(size, self._sinks[0].max_block, self._source.max_block)
        while not self._planned and len(self._requests) < REQUESTS_AT_MOST:
            wait_s = self._bucket.wait_s(now)
            if wait_s or self._in_flight_bytes >= limit:
                return wait_s or WAIT_S
            extent = self._take(size)
            if extent is not None:
                self._begin(extent, now)
        return WAIT_S

    def _begin(self, extent: plan.Extent, now: float) -> None:
        request = Request(extent, now)
        self._requests[extent.offset] = request
        self._in_flight_bytes += request.cost_bytes
        if extent.kind is plan.Kind.ZERO:
            self._zero(request, extent)
            return
        self._bucket.take(extent.length)
        request.memory = self._buffer()
        self._source.read(
            self._slice(request, extent),
            extent.offset,
            self._then(self._on_read, request, extent),
        )

    def _buffer(self) -> bytearray:
        if self._memory:
            return self._memory.pop()
        return bytearray(pace.REQUEST_MAX_BYTES)

    def _slice(self, request: Request, extent: plan.Extent) -> nbd.Buffer:
        start = extent.offset - request.extent.offset
        view = memoryview(request.memory)[start : start + extent.length]
        return nbd.Buffer.from_buffer(view)

    def _then(
        self,
        call: Callable[[Request, plan.Extent, int], None],
        request: Request,
        extent: plan.Extent,
    ) -> Callable[[int], None]:
        """Completion that only notes what is to be done about it."""

        def note(code: int) -> None:
            self._ended.append(lambda: call(request, extent, code))

        return note

    def _on_read(
        self, request: Request, extent: plan.Extent, code: int
    ) -> None:
        if code:
            raise self._source.failed('reading', extent, code)
        request.left = 1
        for part in self._parts(request):
            if part.kind is plan.Kind.DATA:
                self._write(request, part)
                continue
            self._bucket.give_back(part.length)
            if self._write_zeros:
                self._zero(request, part)
        self._part_done(request)

    def _parts(self, request: Request) -> Iterator[plan.Extent]:
        """What was read, cut where it turns to or from zeros."""
        whole = request.extent
        view = memoryview(request.memory)[: whole.length]
        buffer = nbd.Buffer.from_buffer(view)

        def pieces() -> Iterator[plan.Extent]:
            for start in range(0, whole.length, SPARSE_BYTES):
                length = min(SPARSE_BYTES, whole.length - start)
                zero = buffer.is_zero(start, length)
                kind = plan.Kind.ZERO if zero else plan.Kind.DATA
                yield plan.Extent(whole.offset + start, length, kind)

        return plan.merge(pieces())

    def _write(self, request: Request, part: plan.Extent) -> None:
        request.left += 1
        self.counts.sent_bytes += part.length
        self._sink().write(
            self._slice(request, part),
            part.offset,
            self._then(self._on_written, request, part),
        )

    def _zero(self, request: Request, part: plan.Extent) -> None:
        request.left += 1
        self._sink().zero(
            part.length,
            part.offset,
            self._then(self._on_zeroed, request, part),
        )

    def _sink(self) -> server.Server:
        self._turn = (self._turn + 1) % len(self._sinks)
        return self._sinks[self._turn]

    def _on_written(
        self, request: Request, part: plan.Extent, code: int
    ) -> None:
        if code:
            raise self._sinks[0].failed('writing', part, code)
        self._part_done(request)

    def _on_zeroed(
        self, request: Request, part: plan.Extent, code: int
    ) -> None:
        if code:
            raise self._sinks[0].failed('zeroing', part, code)
        self._part_done(request)

    def _part_done(self, request: Request) -> None:
        request.left -= 1
        if request.left:
            return
        extent = request.extent
        del self._requests[extent.offset]
        self._in_flight_bytes -= request.cost_bytes
        if extent.kind is plan.Kind.DATA:
            now = time.monotonic()
            self.counts.done_bytes += extent.length
            self._flight.acked(now, extent.length, now - request.begun_at)
            self._memory.append(request.memory)

    # Flushing.

    def _low_water(self) -> int:
        """Everything below it is acknowledged, if not yet flushed."""
        return next(iter(self._requests), self._position)

    def _maybe_flush(self, now: float) -> None:
        """Flush now and then, without waiting for what is in flight."""
        mark = self._low_water()
        at_end = self._planned and not self._requests
        if self._flushing or not (at_end or now >= self._flush_at):
            return
        self._flushing = len(self._sinks)
        self._flushed_at = now
        for sink in self._sinks:
            sink.flush(self._on_flushed(mark, at_end))

    def _on_flushed(self, mark: int, at_end: bool) -> Callable[[int], None]:
        def flushed(code: int) -> None:
            if code:
                extent = plan.Extent(0, mark, plan.Kind.DATA)
                raise self._sinks[0].failed('flushing', extent, code)
            self._flushing -= 1
            if self._flushing:
                return
            now = time.monotonic()
            took_s = now - self._flushed_at
            self._flush_at = now + max(FLUSH_S, took_s * FLUSH_SHARE)
            self.counts.offset = mark
            self.counts.finished = at_end

        def note(code: int) -> None:
            self._ended.append(lambda: flushed(code))

        return note

    # Waiting.

    def _poll(self, commands: int, wait_s: float) -> bool:
        servers = [self._source, *self._sinks]
        poll = select.poll()
        poll.register(commands, select.POLLIN)
        by_descriptor: dict[int, server.Server] = {}
        for one in servers:
            reads, writes = one.interest()
            mask = select.POLLIN * reads | select.POLLOUT * writes
            descriptor = one.handle.aio_get_fd()
            by_descriptor[descriptor] = one
            poll.register(descriptor, mask)
        found = poll.poll(0 if self._ended else wait_s * 1000)
        events: dict[int, Any] = dict(found)
        for descriptor, one in by_descriptor.items():
            mask = events.get(descriptor, 0)
            if mask:
                closed = bool(mask & ~(select.POLLIN | select.POLLOUT))
                one.notify(
                    bool(mask & select.POLLIN) or closed,
                    bool(mask & select.POLLOUT) or closed,
                )
        while self._ended:
            self._ended.popleft()()
        return bool(events.get(commands))
