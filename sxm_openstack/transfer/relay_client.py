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

"""Starting and asking a relay, from the service that needs it."""

from collections.abc import Sequence
import json
import logging
import pathlib
import socket
import sys
from typing import Any

from sxm_openstack import exception
from sxm_openstack.engine import ports
from sxm_openstack.transfer import process
from sxm_openstack.transfer import program

LOG = logging.getLogger(__name__)

_ANSWER_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 5.0


def start_relay(
    mode: str, directory: pathlib.Path, config: dict[str, Any]
) -> tuple[process.Program, int]:
    """Start a relay and wait until it serves.

    :param mode: ``connect`` or ``listen``.
    :param config: see :mod:`sxm_openstack.transfer.relay`.
    :returns: the relay and its TCP port.
    :raises MoveFailed: it cannot serve; the text has its reason.
    """
    relay, stdin, stdout = process.start_with_pipes(
        directory,
        f'relay-{mode}',
        [*program.command(sys.executable, 'relay'), mode, str(directory)],
    )
    try:
        with stdout:
            with stdin:
                json.dump(config, stdin)
            answer = json.loads(stdout.readline() or '{}')
    except (OSError, ValueError):
        answer = {}
    if 'port' not in answer:
        relay.stop(_STOP_TIMEOUT_S)
        reason = answer.get('error') or relay.log_tail()
        relay.forget()
        raise exception.MoveFailed(
            f'The relay ({mode}) in {directory} did not start: {reason}',
            remedy='Check the options of the migration network and ports, '
            'and the runtime directory.',
        )
    return relay, int(answer['port'])


class RelayClient:
    """Control connection to a relay; any process may have started it.

    Keeps no connection open between two questions, so that it may be used
    from any thread and after a fork.
    """

    def __init__(self, directory: pathlib.Path, mode: str) -> None:
        self.path = str(directory / f'relay-{mode}.ctl')

    def ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """One question; blocks for at most 5 s.

        :raises OSError: the relay is not there or does not answer.
        :raises ValueError: it refused the question.
        """
        request = json.dumps({'op': operation, **arguments})
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_ANSWER_TIMEOUT_S)
            sock.connect(self.path)
            sock.sendall(request.encode() + b'\n')
            with sock.makefile('rb') as file:
                line = file.readline()
        if not line:
            raise ConnectionError('the relay closed the connection')
        answer: dict[str, Any] = json.loads(line)
        if 'error' in answer:
            raise ValueError(answer['error'])
        return answer

    def export(self, channel: str) -> str:
        """NBD export name of a channel; see :meth:`ask`."""
        return str(self.ask('export', channel=channel)['export'])


class RelayLink:
    """The source's relay; implements :class:`.ports.Link`.

    :param directory: where the relay runs; it need not have been started by
        this process.
    """

    def __init__(
        self, directory: pathlib.Path, channels: Sequence[str]
    ) -> None:
        self._directory = directory
        self._channels = channels
        self._client = RelayClient(directory, 'connect')

    def socket(self, channel: str) -> str:
        return str(self._directory / f'{channel}.sock')

    def export(self, channel: str) -> str:
        """:raises LinkStalled: the relay itself is gone."""
        try:
            return self._client.export(channel)
        except OSError as error:
            raise self._gone(error) from error

    def meter(self, channel: str) -> ports.ChannelMeter:
        """:raises LinkStalled: the relay itself is gone."""
        try:
            stats = self._client.ask('stats')['channels'][channel]
        except OSError as error:
            raise self._gone(error) from error
        return ports.ChannelMeter(
            sent_bytes=stats['sent_bytes'],
            received_bytes=stats['received_bytes'],
            rtt_s=stats['rtt_s'],
            min_rtt_s=stats['min_rtt_s'],
            connections=stats['connections'],
        )

    def _gone(self, error: OSError) -> exception.LinkStalled:
        return exception.LinkStalled(
            f'The relay in {self._directory} is gone: {error}',
            remedy='Look for its end in the log of the kernel and start '
            'the move again.',
        )

    def failure(self) -> str | None:
        try:
            failure: str | None = self._client.ask('stats')['failure']
        except OSError as error:
            return f'the relay in {self._directory} is gone: {error}'
        return failure

    def set_watchdog(self, timeout_s: float) -> None:
        """Another time for the watchdog, from now on.

        :raises OSError: the relay is gone.
        """
        self._client.ask('set', watchdog_timeout_s=timeout_s)

    def close_channel(self, channel: str) -> None:
        try:
            self._client.ask('close', channel=channel)
        except OSError:
            # Without its relay the channel is closed.
            return

    def close(self) -> None:
        try:
            process.end_recorded(self._directory, 'relay-connect')
            left = [self.socket(channel) for channel in self._channels]
            for path in (*left, self._client.path):
                pathlib.Path(path).unlink(missing_ok=True)
            process.remove_directory(self._directory)
        except (exception.SXMError, OSError) as error:
            LOG.error('Relay in %s is not clean: %s', self._directory, error)
