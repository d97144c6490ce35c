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

"""The destination's side of a move, called over oslo.messaging.

Version history of the interface, namespace ``sxm``:

* 1.0: ``sxm_prepare``, ``sxm_reconnect``, ``sxm_hand_over``,
  ``sxm_digests``, ``sxm_written``, ``sxm_state``, ``sxm_discard``.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
import dataclasses
from typing import Any
from typing import Protocol

import oslo_messaging as messaging

from sxm_openstack import exception
from sxm_openstack.engine import content
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import ports

NAMESPACE = 'sxm'
VERSION = '1.0'

_HEARTBEATS_S = 60
"""Without a sign of life of the called host for so long, it is dead."""

_NO_SUCH_INTERFACE = frozenset(
    {'UnsupportedVersion', 'NoSuchMethod', 'RPCDispatcherError'}
)


class Sides(Protocol):
    """The moves to this host, by UUID of the server."""

    def side(
        self, server: str, peer: str, names: Collection[str]
    ) -> ports.Destination:
        """The one that is under way; refuses when none is.

        :param names: of the peer, as its certificate may have them.
        """

    def state(self, server: str, peer: str) -> ports.DomainState:
        """What this host says of the domain, whatever is under way."""

    def discard(self, server: str) -> None:
        """Leave nothing of a move.  Idempotent."""


Check = Callable[
    [Any, str, Sequence[engine_disk.Disk] | None], Collection[str]
]
"""Given the instance, the name of the caller's host and the disks that it
asks to move (``None`` when it only asks): gives all names of that host, or
raises :class:`.PreCheckFailed` if it has no right to that."""


class DestinationEndpoint:
    """Serves the calls on the destination host.

    :param sides: the moves to this host.
    :param check: looks at the instance that a caller names.
    """

    target = messaging.Target(namespace=NAMESPACE, version=VERSION)

    def __init__(self, sides: Sides, check: Check) -> None:
        self._sides = sides
        self._check = check

    def sxm_prepare(
        self, context: Any, instance: Any, peer: str, disks: list[Any]
    ) -> dict[str, Any]:
        loaded = _load(disks)
        side = self._side(instance, peer, loaded)
        return dataclasses.asdict(side.prepare(loaded))

    def sxm_reconnect(
        self, context: Any, instance: Any, peer: str, disks: list[Any]
    ) -> dict[str, Any]:
        loaded = _load(disks)
        side = self._side(instance, peer, loaded)
        return dataclasses.asdict(side.reconnect(loaded))

    def sxm_hand_over(
        self, context: Any, instance: Any, peer: str, disks: list[Any]
    ) -> None:
        loaded = _load(disks)
        self._side(instance, peer, loaded).hand_over(loaded)

    def sxm_digests(
        self,
        context: Any,
        instance: Any,
        peer: str,
        disk: dict[str, Any],
        chunk_bytes: int,
        chunks: list[int] | None = None,
        view: str = content.View.BASE,
    ) -> list[str]:
        loaded = _load([disk])
        side = self._side(instance, peer, loaded)
        return list(
            side.digests(loaded[0], chunk_bytes, chunks, content.View(view))
        )

    def sxm_written(
        self,
        context: Any,
        instance: Any,
        peer: str,
        disk: dict[str, Any],
        chunk_bytes: int,
    ) -> list[int]:
        loaded = _load([disk])
        side = self._side(instance, peer, loaded)
        return list(side.written(loaded[0], chunk_bytes))

    def sxm_state(self, context: Any, instance: Any, peer: str) -> str:
        self._check(instance, peer, None)
        return str(self._sides.state(instance.uuid, peer))

    def sxm_discard(self, context: Any, instance: Any, peer: str) -> None:
        self._check(instance, peer, None)
        self._sides.discard(instance.uuid)

    def _side(
        self, instance: Any, peer: str, disks: Sequence[engine_disk.Disk]
    ) -> ports.Destination:
        names = self._check(instance, peer, disks)
        return self._sides.side(instance.uuid, peer, names)


class DestinationAPI:
    """Calls the other host for one server: a :class:`.ports.Destination`.

    :param client: RPC client for topic ``compute``, namespace ``sxm``.
    :param context: request context of the migration.
    :param instance: the server, in the form that the client serializes.
    :param host: name of the destination.
    :param peer: name of this host.
    :param timeout_s: bound of a call that may read whole disks.
    """

    def __init__(
        self,
        client: Any,
        context: Any,
        instance: Any,
        host: str,
        peer: str,
        timeout_s: int,
    ) -> None:
        self._client = client.prepare(
            server=host,
            version=VERSION,
            timeout=timeout_s,
            call_monitor_timeout=_HEARTBEATS_S,
        )
        self._context = context
        self._instance = instance
        self._host = host
        self._peer = peer

    def prepare(self, disks: Sequence[engine_disk.Disk]) -> ports.Endpoint:
        return ports.Endpoint(**self._call('sxm_prepare', disks=_dump(disks)))

    def reconnect(self, disks: Sequence[engine_disk.Disk]) -> ports.Endpoint:
        return ports.Endpoint(
            **self._call('sxm_reconnect', disks=_dump(disks))
        )

    def hand_over(self, disks: Sequence[engine_disk.Disk]) -> None:
        self._call('sxm_hand_over', disks=_dump(disks))

    def digests(
        self,
        disk: engine_disk.Disk,
        chunk_bytes: int,
        chunks: Sequence[int] | None = None,
        view: content.View = content.View.BASE,
    ) -> Sequence[str]:
        digests: list[str] = self._call(
            'sxm_digests',
            disk=disk.to_dict(),
            chunk_bytes=chunk_bytes,
            chunks=None if chunks is None else list(chunks),
            view=str(view),
        )
        return digests

    def written(
        self, disk: engine_disk.Disk, chunk_bytes: int
    ) -> Sequence[int]:
        written: list[int] = self._call(
            'sxm_written', disk=disk.to_dict(), chunk_bytes=chunk_bytes
        )
        return written

    def state(self) -> ports.DomainState:
        return ports.DomainState(self._call('sxm_state'))

    def discard(self) -> None:
        self._call('sxm_discard')

    def _call(self, method: str, **arguments: Any) -> Any:
        """One call.

        :raises PeerUnreachable: no answer, or the other side does not have
            this interface.
        :raises SXMError: what the other side raised, as it was raised there.
        """
        try:
            return self._client.call(
                self._context,
                method,
                instance=self._instance,
                peer=self._peer,
                **arguments,
            )
        except messaging.MessagingTimeout as error:
            raise exception.PeerUnreachable(
                f'{self._host} did not answer {method} in time.',
                host=self._host,
                remedy='Check nova-compute there and the message bus.',
            ) from error
        except exception.SXMError as error:
            raise self._plain(error) from error
        except messaging.RemoteError as error:
            raise self._translate(error, method) from error
        except messaging.MessagingException as error:
            raise self._unreachable(method, _first_line(error)) from error
        except Exception as error:
            # Built-in errors come back as what they are.
            raise exception.MoveFailed(
                f'{type(error).__name__} in {method}: {_first_line(error)}',
                host=self._host,
            ) from error

    def _plain(self, error: exception.SXMError) -> exception.SXMError:
        """The error as it was raised: the transport made a subclass of it
        whose text has the traceback."""
        kind = next(
            kind
            for kind in type(error).__mro__
            if kind.__module__ == exception.__name__
        )
        plain: exception.SXMError = kind(error.message, **error.kwargs)
        return plain.locate(host=self._host)

    def _translate(
        self, error: messaging.RemoteError, method: str
    ) -> exception.SXMError:
        """An error of a class that this transport may not make."""
        text = str(error.value)
        if error.exc_type in _NO_SUCH_INTERFACE:
            return self._unreachable(method, text)
        kind = getattr(exception, str(error.exc_type), exception.MoveFailed)
        if kind is exception.MoveFailed:
            text = f'{error.exc_type} in {method}: {text}'
        moved: exception.SXMError = kind(text, host=self._host)
        return moved

    def _unreachable(
        self, method: str, reason: str
    ) -> exception.PeerUnreachable:
        return exception.PeerUnreachable(
            f'{self._host} cannot be asked for {method}: {reason}',
            host=self._host,
            remedy='Check that compute_driver is sxm.SXMLibvirtDriver there, '
            'and its log.',
        )


def _first_line(error: Exception) -> str:
    """The text of an error, without the traceback that came with it."""
    text = next((arg for arg in error.args if isinstance(arg, str)), '')
    return (text or str(error)).partition('\n')[0]


def _dump(disks: Sequence[engine_disk.Disk]) -> list[dict[str, Any]]:
    return [disk.to_dict() for disk in disks]


def _load(disks: Sequence[Any]) -> list[engine_disk.Disk]:
    return [engine_disk.Disk.from_dict(disk) for disk in disks]
