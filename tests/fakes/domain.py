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

"""A guest in memory that keeps the contract of :class:`.ports.Domain`.

A disk is a chain of layers, a layer maps block numbers to values, and what
no layer has reads as 0.  That is just enough to prove that no write is lost.
Nothing sleeps: a wait that would not end is over at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses

from sxm_openstack import exception
from sxm_openstack.engine import ports

HOST = 'fake-source'


@dataclasses.dataclass
class FakeFile:
    """One layer.

    :param blocks: what is written in this very file.
    :param backing: path of the file below.
    """

    blocks: dict[int, int] = dataclasses.field(default_factory=dict)
    backing: str | None = None


class FakeFiles(dict[str, FakeFile]):
    """The files of one host; keeps the contract of ``ports.Overlays``."""

    def create_overlay(
        self, path: str, backing_path: str, backing_format: str, size: int
    ) -> None:
        self[path] = FakeFile(backing=backing_path)

    def remove(self, path: str) -> None:
        self.pop(path, None)

    def chain(self, path: str) -> list[str]:
        """Paths from ``path`` down."""
        paths: list[str] = []
        below: str | None = path
        while below is not None:
            paths.append(below)
            below = self[below].backing
        return paths

    def read(self, path: str, block: int) -> int:
        """What a reader of ``path`` sees in a block."""
        for layer in self.chain(path):
            if block in self[layer].blocks:
                return self[layer].blocks[block]
        return 0


class FakeExport:
    """The destination's end of a mirror.

    :ivar blocks: what arrived.
    :ivar alive: a dead one fails the mirror at its next write.
    :ivar stalled: a stalled one holds writes back until it dies.
    """

    def __init__(self) -> None:
        self.blocks: dict[int, int] = {}
        self.alive = True
        self.stalled = False

    def close(self) -> None:
        """Die; whoever waits for it fails."""
        self.alive = False
        self.stalled = False


@dataclasses.dataclass
class Faults:
    """What goes wrong; sets hold targets.

    :param refuse_mirror: ``start_mirror`` raises.
    :param stall_mirror: the mirror is never ready.
    :param lose_job: the job vanishes after its start, without an event.
    :param end_without_ready: the job ends before it was ready.
    :param fail_mirror: the job fails after its start.
    :param fail_pivot: a commit copies everything and cannot pivot.
    :param stall_commit: a commit is never ready.
    :param stuck_job: a block job cannot be dismissed.
    :param refuse_snapshot: ``snapshot`` raises and changes nothing.
    :param fail_resume: the guest stays paused for good.
    :param unreachable: the hypervisor cannot be asked.
    """

    refuse_mirror: set[str] = dataclasses.field(default_factory=set)
    stall_mirror: set[str] = dataclasses.field(default_factory=set)
    lose_job: set[str] = dataclasses.field(default_factory=set)
    end_without_ready: set[str] = dataclasses.field(default_factory=set)
    fail_mirror: set[str] = dataclasses.field(default_factory=set)
    fail_pivot: set[str] = dataclasses.field(default_factory=set)
    stall_commit: set[str] = dataclasses.field(default_factory=set)
    stuck_job: set[str] = dataclasses.field(default_factory=set)
    refuse_snapshot: bool = False
    fail_resume: bool = False
    unreachable: bool = False


@dataclasses.dataclass
class _Mirror:
    export: FakeExport
    state: ports.MirrorState = ports.MirrorState.RUNNING
    copied: bool = False
    pending: list[tuple[int, int]] = dataclasses.field(default_factory=list)


class FakeDomain:
    """A guest whose every failure can be ordered through :attr:`faults`.

    :param disks: target to path of the disk's ordinary file.
    :param files: the host's files; missing bases are made.
    :ivar exports: by export name; a mirror to any other name is refused,
        unless ``auto_export`` is set.
    :ivar calls: names of the calls that changed something, in order.
    :ivar slow_polls: how often a mirror is seen RUNNING before it is READY.
    """

    def __init__(
        self, disks: Mapping[str, str], files: FakeFiles | None = None
    ) -> None:
        self.files = FakeFiles() if files is None else files
        self.faults = Faults()
        self.exports: dict[str, FakeExport] = {}
        self.auto_export = False
        self.calls: list[str] = []
        self.slow_polls = 0
        self.last_pause_s = 0.0
        self.domain_state = ports.DomainState.RUNNING
        self._tops = dict(disks)
        self._mirrors: dict[str, _Mirror] = {}
        self._commits: dict[str, str] = {}
        self._writes: dict[str, int] = dict.fromkeys(disks, 0)
        for path in disks.values():
            self.files.setdefault(path, FakeFile())

    # The guest and the world around it.

    def guest_write(self, target: str, block: int, value: int) -> bool:
        """Write as the guest.

        :returns: whether the write was acknowledged; one that was not is
            acknowledged when the mirror fails.
        """
        if self.domain_state is not ports.DomainState.RUNNING:
            return False
        mirror = self._live_mirror(target)
        if mirror is not None and mirror.export.stalled:
            mirror.pending.append((block, value))
            return False
        self._store(target, block, value)
        if mirror is not None:
            mirror.export.blocks[block] = value
        return True

    def guest_read(self, target: str, block: int) -> int:
        """Read as the guest."""
        return self.files.read(self._tops[target], block)

    def settle(self) -> None:
        """Let mirrors notice dead exports, as their next write would."""
        for target in self._tops:
            self._live_mirror(target)

    def begin_commit(self, target: str, base: str) -> None:
        """Leave a commit running, as a caller that died half way does."""
        self._commits[target] = base

    def destroy(self) -> None:
        """The domain is gone from this host."""
        self.domain_state = ports.DomainState.ABSENT

    def _store(self, target: str, block: int, value: int) -> None:
        self.files[self._tops[target]].blocks[block] = value
        self._writes[target] += 1

    def _live_mirror(self, target: str) -> _Mirror | None:
        """The mirror that a write must go through, if it still works."""
        mirror = self._mirrors.get(target)
        if mirror is None or mirror.state not in (
            ports.MirrorState.RUNNING,
            ports.MirrorState.READY,
        ):
            return None
        if mirror.export.alive:
            return mirror
        mirror.state = ports.MirrorState.FAILED
        for block, value in mirror.pending:
            self._store(target, block, value)
        mirror.pending.clear()
        return None

    # The contract.

    def state(self) -> ports.DomainState:
        if self.faults.unreachable:
            raise exception.Retryable(
                'Cannot read the state: the hypervisor does not answer.',
                host=HOST,
            )
        return self.domain_state

    def source_path(self, target: str) -> str:
        self._check(target)
        return self._tops[target]

    def write_stats(self, target: str) -> ports.WriteStats:
        self._check(target)
        count = self._writes[target]
        return ports.WriteStats(count, count * 65536, count * 0.001)

    def snapshot(self, overlays: Mapping[str, str]) -> None:
        for target, path in overlays.items():
            self._check(target)
            refusal = self._why_no_overlay(target, path)
            if refusal:
                raise exception.MoveFailed(
                    f'Cannot put overlays on {", ".join(sorted(overlays))}: '
                    f'{refusal}.',
                    host=HOST,
                )
        self.calls.append('snapshot')
        for target, path in overlays.items():
            self.files[path].backing = self._tops[target]
            self._tops[target] = path

    def _why_no_overlay(self, target: str, path: str) -> str | None:
        if self.faults.refuse_snapshot:
            return 'it was refused'
        if path not in self.files:
            return f'there is no file {path}'
        if self.files[path].blocks:
            return f'{path} is not empty'
        if self._has_job(target):
            return f'the disk {target} has an active block job'
        return None

    def start_mirror(
        self,
        target: str,
        socket: str,
        export: str,
        rate_bytes_per_s: int = 0,
    ) -> None:
        self._check(target)
        if self.auto_export:
            self.exports.setdefault(export, FakeExport())
        peer = self.exports.get(export)
        if (
            target in self.faults.refuse_mirror
            or peer is None
            or not peer.alive
            or self._has_job(target)
        ):
            raise self._failed(target, 'Cannot start the mirror.')
        self.calls.append(f'start_mirror {target}')
        mirror = self._mirrors[target] = _Mirror(peer)
        if target in self.faults.fail_mirror:
            mirror.state = ports.MirrorState.FAILED
        elif (
            target in self.faults.lose_job
            or target in self.faults.end_without_ready
        ):
            mirror.state = ports.MirrorState.NONE

    def mirror_state(self, target: str) -> ports.MirrorState:
        self._check(target)
        mirror = self._mirrors.get(target)
        if mirror is None:
            return ports.MirrorState.NONE
        if mirror.state is ports.MirrorState.RUNNING:
            self._advance(target, mirror)
        return mirror.state

    def _advance(self, target: str, mirror: _Mirror) -> None:
        if not mirror.copied:
            mirror.copied = True
            mirror.export.blocks.update(self.files[self._tops[target]].blocks)
        if target in self.faults.stall_mirror or mirror.export.stalled:
            return
        if self.slow_polls:
            self.slow_polls -= 1
            return
        mirror.state = ports.MirrorState.READY

    def wait_mirror_ready(self, target: str, timeout_s: float) -> None:
        self._check(target)
        mirror = self._mirrors.get(target)
        state = ports.MirrorState.NONE if mirror is None else mirror.state
        if timeout_s > 0:
            for _poll in range(self.slow_polls + 1):
                state = self.mirror_state(target)
        if state is not ports.MirrorState.READY:
            raise self._failed(
                target, f'The mirror did not become ready: it is {state}.'
            )

    def end_mirror(self, target: str) -> None:
        self._check(target)
        mirror = self._mirrors.get(target)
        if (
            mirror is None
            or self._live_mirror(target) is None
            or mirror.state is not ports.MirrorState.READY
        ):
            raise self._failed(target, 'The mirror cannot be ended as a copy.')
        self.calls.append(f'end_mirror {target}')
        del self._mirrors[target]

    def hand_over(self, overlays: Mapping[str, str]) -> None:
        for target in overlays:
            if self.mirror_state(target) is not ports.MirrorState.READY:
                raise self._failed(target, 'The mirror is not ready.')
        with self.paused():
            for target in overlays:
                self.end_mirror(target)
            self.snapshot(overlays)

    def wait_no_job(self, target: str, timeout_s: float) -> None:
        self._check(target)
        if target in self.faults.stuck_job:
            raise self._failed(target, 'The block job is still there.')
        self._live_mirror(target)
        self._mirrors.pop(target, None)
        self._commits.pop(target, None)

    def commit(self, target: str, base: str, timeout_s: float) -> None:
        self._check(target)
        running = self._commits.get(target)
        if self._tops[target] == base and not self._has_job(target):
            return
        if running not in (None, base) or target in self._live_copies():
            raise self._failed(target, 'Another block job runs on the disk.')
        chain = self.files.chain(self._tops[target])
        if base not in chain[1:]:
            raise self._failed(target, f'{base} is not in the chain.')
        if target in self.faults.stall_commit or timeout_s <= 0:
            self._commits.pop(target, None)
            raise self._failed(target, 'The commit was not ready in time.')
        for layer in reversed(chain[: chain.index(base)]):
            self.files[base].blocks.update(self.files[layer].blocks)
        self._commits.pop(target, None)
        if target in self.faults.fail_pivot:
            raise self._failed(target, 'The commit could not pivot.')
        self.calls.append(f'commit {target}')
        self._tops[target] = base

    def define_source(self, target: str, path: str, image_format: str) -> None:
        self._check(target)
        if self.domain_state is ports.DomainState.SHUTOFF:
            self.calls.append(f'define_source {target}')
            self._tops[target] = path

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self.last_pause_s = 0.0
        if self.state() is ports.DomainState.PAUSED:
            yield
            return
        self.calls.append('pause')
        self.domain_state = ports.DomainState.PAUSED
        try:
            yield
        finally:
            if self.faults.fail_resume:
                raise exception.NeedsOperator(
                    'The guest was paused for the hand-over and cannot be '
                    'resumed.',
                    host=HOST,
                )
            self.calls.append('resume')
            self.domain_state = ports.DomainState.RUNNING
            self.last_pause_s = 0.05

    def close(self) -> None:
        """Nothing to let go of."""

    def _has_job(self, target: str) -> bool:
        return target in self._live_copies() or target in self._commits

    def _live_copies(self) -> set[str]:
        return {
            target
            for target in self._mirrors
            if self._live_mirror(target) is not None
        }

    def _check(self, target: str) -> None:
        if self.faults.unreachable:
            raise exception.Retryable(
                'The hypervisor does not answer.', host=HOST, disk=target
            )
        if target not in self._tops:
            raise exception.MoveFailed(
                f'The domain has no disk {target}.', host=HOST, disk=target
            )

    @staticmethod
    def _failed(target: str, message: str) -> exception.MirrorFailed:
        return exception.MirrorFailed(message, host=HOST, disk=target)
