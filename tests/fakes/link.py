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

"""The link between two hosts in memory."""

from __future__ import annotations

from collections.abc import Sequence

from sxm_openstack.engine import ports

from tests.fakes import domain as fake_domain

BLOCK_BYTES = 65536
RTT_S = 0.001
EXPORT = '.unguessable'


class FakeLink:
    """Keeps the contract of :class:`.ports.Link`.

    :param exports: the destination's ends of the mirrors, by target.
    """

    def __init__(
        self,
        channels: Sequence[str],
        exports: dict[str, fake_domain.FakeExport],
    ) -> None:
        self.open_channels = set(channels)
        self.copied_blocks: dict[str, int] = dict.fromkeys(channels, 0)
        self.closed = False
        self._exports = exports
        self._failure: str | None = None

    def socket(self, channel: str) -> str:
        return f'/run/{channel}.sock'

    def export(self, channel: str) -> str:
        return f'{channel.partition(".")[0]}{EXPORT}'

    def meter(self, channel: str) -> ports.ChannelMeter:
        sent = self.copied_blocks[channel] * BLOCK_BYTES
        target, _, kind = channel.partition('.')
        if kind == 'mirror' and target in self._exports:
            sent = len(self._exports[target].blocks) * BLOCK_BYTES
        return ports.ChannelMeter(
            sent_bytes=sent,
            received_bytes=0,
            rtt_s=RTT_S,
            min_rtt_s=RTT_S,
            connections=int(channel in self.open_channels),
        )

    def failure(self) -> str | None:
        return self._failure

    def close_channel(self, channel: str) -> None:
        self.open_channels.discard(channel)
        target, _, kind = channel.partition('.')
        if kind == 'mirror' and target in self._exports:
            self._exports[target].close()

    def close(self) -> None:
        for channel in tuple(self.open_channels):
            self.close_channel(channel)
        self.closed = True

    def fail(self, reason: str) -> None:
        """Close itself, as the watchdog does."""
        for channel in tuple(self.open_channels):
            self.close_channel(channel)
        self._failure = reason
