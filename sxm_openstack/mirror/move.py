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

"""Everything that the steps of one move share on the source host."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import logging

from sxm_openstack import exception
from sxm_openstack.engine import clock as engine_clock
from sxm_openstack.engine import content
from sxm_openstack.engine import control as engine_control
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import governor as engine_governor
from sxm_openstack.engine import ports
from sxm_openstack.engine import progress as engine_progress

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What the operator's options say of a move.

    :param limits: of the background copy.
    :param verify: how much of each disk is compared.  Read-only disks always
        are as a whole.
    :param verify_percent: of the chunks of a base, for a sample.
    :param storage_timeout_s: bound of the storage stage; 0 is no bound.
    :param link_timeout_s: how long a lost link is waited for; 0 is not.
    :param job_timeout_s: bound for a block job to start, end or commit.
    """

    limits: engine_governor.Limits = engine_governor.Limits()
    verify: content.Verify = content.Verify.NONE
    verify_percent: int = 5
    storage_timeout_s: float = 0.0
    link_timeout_s: float = 0.0
    job_timeout_s: float = 60.0


@dataclasses.dataclass(slots=True)
class Move:
    """One server's move as its source host sees it.

    :param server: UUID of the server.
    :param host: name of this host.
    :param peer: name of the destination.
    :param disks: all disks that go, in the order in which they go.
    :param overlays: storage of a disk, by its format.
    :param reread: gives the settings as they are by now; an operator may
        change them while the move is under way.
    :param link: set while the move is connected to its destination.
    :param verify_seed: decides which chunks are in a sample.
    :ivar endpoint: where the destination listens, or last did.
    :ivar mirrored: disks whose mirror must be READY.
    :ivar governor: one for all copies: what it learnt of the link counts
        for the next disk too.
    :ivar copied_bytes: that all copies have moved so far.
    :ivar mirrored_before: bytes mirrored over links that were lost, by target.
    """

    server: str
    host: str
    peer: str
    disks: tuple[engine_disk.Disk, ...]
    domain: ports.Domain
    destination: ports.Destination
    transfer: ports.Transfer
    overlays: Callable[[str], ports.Overlays]
    control: engine_control.Control
    clock: engine_clock.Clock
    progress: engine_progress.Progress
    settings: Settings = dataclasses.field(default_factory=Settings)
    reread: Callable[[], Settings] | None = None
    verify_seed: str = ''
    link: ports.Link | None = None
    mirrored: list[engine_disk.Disk] = dataclasses.field(default_factory=list)
    governor: engine_governor.Governor = dataclasses.field(init=False)
    copied_bytes: int = 0
    endpoint: ports.Endpoint | None = None
    mirrored_before: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.governor = engine_governor.Governor(self.settings.limits)

    @property
    def open_link(self) -> ports.Link:
        """The link, which must be open.

        :raises PeerUnreachable: it is not.
        """
        if self.link is None:
            raise exception.PeerUnreachable(
                'There is no link to the destination.', host=self.host
            )
        return self.link

    def connect(self, endpoint: ports.Endpoint) -> None:
        """Open the link to a destination that listens there."""
        channels = [ports.DISKS_CHANNEL]
        for disk in self.disks:
            channels.append(disk.base_channel)
            if not disk.read_only:
                channels.append(disk.mirror_channel)
        self.endpoint = endpoint
        self.link = self.transfer.connect(endpoint, channels)

    def mirrored_bytes(self, disk: engine_disk.Disk) -> int:
        """What the disk's mirrors have put on the link so far."""
        sent = self.open_link.meter(disk.mirror_channel).sent_bytes
        return self.mirrored_before.get(disk.target, 0) + sent

    def check(self) -> None:
        """Raise what ended the move: abort, dead link or lost mirror.

        Also takes in what the operator has changed of the settings.

        :raises Aborted: an operator asked for it.
        :raises LinkStalled: the watchdog closed the link.
        :raises MirrorFailed: a disk is not mirrored any more.
        :raises MoveFailed: the guest ended by itself.
        """
        self.control.check()
        self._take_settings()
        self._check_link()
        for disk in self.mirrored:
            state = self.domain.mirror_state(disk.target)
            if state in (ports.MirrorState.FAILED, ports.MirrorState.NONE):
                # Closing the link ends the mirrors: look again.
                self._check_link()
                self.check_guest()
                raise exception.MirrorFailed(
                    f'The mirror of {disk.target} to {self.peer} ended '
                    f'({state}).',
                    host=self.host,
                    disk=disk.target,
                    remedy='Check space and errors on the destination and '
                    'start again.',
                )

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """What fails inside because the link or the guest ended says so.

        :raises LinkStalled: in place of what else the closed link caused.
        :raises MoveFailed: in place of what the end of the guest caused.
        """
        try:
            yield
        except exception.MoveFailed as error:
            try:
                self._check_link()
                self.check_guest()
            except exception.MoveFailed as cause:
                raise cause from error
            except exception.Retryable:
                # The host cannot be asked: the first error says more.
                raise error from None
            raise

    def _take_settings(self) -> None:
        if self.reread is None:
            return
        now = self.reread()
        if now != self.settings:
            LOG.info('Settings of the move were changed: %s', now)
            self.settings = now
            self.governor.set_limits(now.limits)

    def _check_link(self) -> None:
        failure = self.open_link.failure()
        if failure is not None:
            raise exception.LinkStalled(
                f'The link to {self.peer} was closed: {failure}',
                host=self.host,
                remedy='Check the migration network and start again.',
            )

    def check_guest(self) -> None:
        """Raise when there is no guest any more.

        :raises MoveFailed: it ended by itself.
        """
        state = self.domain.state()
        if state not in (
            ports.DomainState.RUNNING,
            ports.DomainState.PAUSED,
        ):
            raise exception.MoveFailed(
                f'The guest ended during the move: it is {state}.',
                host=self.host,
                remedy='Nothing is lost: start the server.',
            )
