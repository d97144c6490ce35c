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

"""Listen to the lab's guests from outside, by this machine's clock.

A collector is a UDP socket in ctl's network namespace (the process itself
stays where it is) and a thread that stamps each tick with CLOCK_MONOTONIC
at its arrival in the kernel. Several collectors can listen to one guest:
each subscribes for itself.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import itertools
import secrets
import socket
import threading
import time
import types
import typing

from tests.lab.guest import answers
from tests.lab.guest import control
from tests.lab.guest import protocol
from tests.lab.guest import sockets
from tests.lab.guest import window

#: Ticks that are kept for each guest: 20 minutes at one every 10 ms.
MAX_TICKS = 120_000

_RENEW_S = 1.0
_LEASE_S = 60
_RETRY_S = (0.1, 0.2, 0.4, 0.8)

Address = tuple[str, int]


class _Guest:
    """What a collector keeps of one guest: raw ticks, in arrival order."""

    def __init__(self) -> None:
        self.arrived: collections.deque[float] = collections.deque(
            maxlen=MAX_TICKS
        )
        self.raw: collections.deque[bytes] = collections.deque(
            maxlen=MAX_TICKS
        )
        self.last = (0, -1)  # boot id and number
        self.subscribed = False

    def add(self, datagram: bytes, arrived_s: float) -> None:
        boot_id, number = protocol.tick_identity(datagram)
        if boot_id == self.last[0] and number <= self.last[1]:
            return  # overtaken or doubled on the way
        self.last = boot_id, number
        self.arrived.append(arrived_s)
        self.raw.append(datagram)

    def between(self, t0: float, t1: float) -> list[protocol.Tick]:
        """The ticks of a window and one more on either side."""
        times = list(self.arrived)
        first = max(bisect.bisect_left(times, t0) - 1, 0)
        last = bisect.bisect_right(times, t1) + 1
        return [
            protocol.read_tick(raw, arrived)
            for arrived, raw in zip(
                times[first:last],
                itertools.islice(self.raw, first, last),
                strict=True,
            )
        ]


class Collector:
    """Ticks of any number of guests, and requests to them.

    Thread-safe. Memory is bounded by :data:`MAX_TICKS` a guest (about
    200 bytes each). Use it as a context manager, or call :meth:`close`.

    :param netns_pid: a process in the network namespace that can reach
        the guests, normally ctl's PID 1; None is the caller's own.
    :param port: to receive on; 0 takes any free one.
    :param address: to receive on, for example 10.77.0.1.
    :param interval_s: how often guests are to send a tick.
    :raises OSError: the socket cannot be made there.
    """

    def __init__(
        self,
        netns_pid: int | None,
        port: int = 0,
        address: str = "0.0.0.0",
        interval_s: float = 0.01,
    ) -> None:
        self._socket = sockets.socket_in(netns_pid, (address, port))
        self._interval_ms = max(round(interval_s * 1000), 1)
        self._client = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._replied = threading.Condition(self._lock)
        self._replies: dict[str, protocol.Reply | None] = {}
        self._guests: dict[Address, _Guest] = {}
        self._closing = threading.Event()
        self._receiver = threading.Thread(target=self._receive, daemon=True)
        self._renewer = threading.Thread(target=self._renew, daemon=True)
        self._receiver.start()
        self._renewer.start()

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The UDP port that it receives on."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Stop to listen; ticks that were received stay readable."""
        self._closing.set()
        self._renewer.join()
        for address in self._subscribed():
            self._subscribe(address, lease_s=0)
        # Wakes the receiver, which close() alone would not.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._receiver.join()
        self._socket.close()

    def guest(
        self, ip: str, port: int = protocol.GUEST_PORT, ticks: bool = True
    ) -> control.GuestControl:
        """Begin to listen to a guest; it need not run yet.

        :param ticks: False only asks and does not subscribe.
        """
        with self._lock:
            guest = self._guests.setdefault((ip, port), _Guest())
            guest.subscribed = guest.subscribed or ticks
        if ticks:
            self._subscribe((ip, port))
        return control.GuestControl(ip, _Channel(self, (ip, port)))

    def ticks(
        self,
        ip: str,
        t0: float = 0.0,
        t1: float | None = None,
        port: int = protocol.GUEST_PORT,
    ) -> list[protocol.Tick]:
        """The ticks that arrived from ``t0`` to ``t1``, oldest first.

        :param t1: by CLOCK_MONOTONIC; None is now.
        :raises KeyError: :meth:`guest` was not called for it.
        """
        end = time.monotonic() if t1 is None else t1
        return [
            tick
            for tick in self._between((ip, port), t0, end)
            if t0 <= tick.arrived_s <= end
        ]

    def window(
        self,
        ip: str,
        t0: float,
        t1: float | None = None,
        port: int = protocol.GUEST_PORT,
    ) -> window.WindowStats:
        """What happened from ``t0`` to ``t1`` (None: to now).

        :raises KeyError: :meth:`guest` was not called for it.
        """
        end = time.monotonic()
        if t1 is not None:
            end = min(t1, end)
        return window.stats(self._between((ip, port), t0, end), t0, end)

    def wait_ticks(
        self, ip: str, timeout_s: float = 10.0, port: int = protocol.GUEST_PORT
    ) -> None:
        """Wait until the guest's next tick.

        :raises GuestTimeout: none came.
        """
        began = time.monotonic()
        while not self.ticks(ip, began, port=port):
            if time.monotonic() - began > timeout_s:
                raise answers.GuestTimeout(
                    f"no tick from guest {ip} in {timeout_s:.0f} s"
                )
            time.sleep(self._interval_ms / 1000)

    def ask(
        self,
        address: Address,
        verb: str,
        arguments: dict[str, str],
        timeout_s: float,
    ) -> dict[str, str]:
        """Send a request until it is answered: ``control.Transport.ask``."""
        number = str(next(self._numbers))
        datagram = protocol.request(self._client, int(number), verb, arguments)
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._replies[number] = None
        try:
            reply = self._await(address, datagram, number, deadline)
        finally:
            with self._lock:
                del self._replies[number]
        if reply is None:
            raise answers.GuestTimeout(
                f"guest {address[0]} did not answer {verb!r} within "
                f"{timeout_s:.1f} s: is it running, and is it on the "
                "guests' network? Its serial console says how far it got"
            )
        if reply.error:
            raise answers.GuestRefused(address[0], verb, reply.error)
        return reply.values

    def _await(
        self, address: Address, datagram: bytes, number: str, deadline: float
    ) -> protocol.Reply | None:
        pauses = itertools.chain(_RETRY_S, itertools.repeat(_RETRY_S[-1]))
        while not self._closing.is_set():
            self._send(datagram, address)
            left = deadline - time.monotonic()
            with self._replied:
                self._replied.wait_for(
                    lambda: self._replies[number] is not None,
                    max(min(next(pauses), left), 0),
                )
                if self._replies[number] is not None or left <= 0:
                    return self._replies[number]
        return None

    def _send(self, datagram: bytes, address: Address) -> None:
        # "No route" and the like pass: the guest may be on its way.
        with contextlib.suppress(OSError):
            self._socket.sendto(datagram, address)

    def _subscribe(self, address: Address, lease_s: int = _LEASE_S) -> None:
        self._send(
            protocol.request(
                self._client,
                next(self._numbers),
                "subscribe",
                {
                    "interval_ms": str(self._interval_ms),
                    "lease_s": str(lease_s),
                },
            ),
            address,
        )

    def _subscribed(self) -> list[Address]:
        with self._lock:
            return [
                address
                for address, guest in self._guests.items()
                if guest.subscribed
            ]

    def _renew(self) -> None:
        while not self._closing.wait(_RENEW_S):
            for address in self._subscribed():
                self._subscribe(address)

    def _receive(self) -> None:
        while not self._closing.is_set():
            try:
                datagram, ancillary, _, address = self._socket.recvmsg(
                    65536, sockets.ANCILLARY_BYTES
                )
            except ConnectionError:
                continue  # an ICMP answer to an earlier request
            except OSError:
                if self._closing.is_set():
                    return
                raise
            with contextlib.suppress(protocol.ProtocolError):
                self._take(datagram, sockets.arrival_s(ancillary), address)

    def _take(
        self, datagram: bytes, arrived_s: float, address: Address
    ) -> None:
        if not datagram:
            return
        if protocol.is_tick(datagram):
            with self._lock:
                guest = self._guests.get(address)
                if guest is not None:
                    guest.add(datagram, arrived_s)
            return
        reply = protocol.read_reply(datagram)
        with self._replied:
            if reply.client == self._client and reply.number in self._replies:
                self._replies[reply.number] = reply
                self._replied.notify_all()

    def _between(
        self, address: Address, t0: float, t1: float
    ) -> list[protocol.Tick]:
        with self._lock:
            return self._guests[address].between(t0, t1)


class _Channel:
    """A collector's way to one guest: the transport of its control."""

    def __init__(self, collector: Collector, address: Address) -> None:
        self._collector = collector
        self._address = address

    def ask(
        self, verb: str, arguments: dict[str, str], timeout_s: float
    ) -> dict[str, str]:
        return self._collector.ask(self._address, verb, arguments, timeout_s)
