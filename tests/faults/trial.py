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
"""One cell: disturb a move, let it end, clean up, and look what is left."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import typing

from tests.faults import bed as bed_mod
from tests.faults import checks
from tests.faults import matrix
from tests.faults import phases
from tests.functional import world as world_mod
from tests.lab import host as host_mod
from tests.lab import services
from tests.lab.guest import answers

_END_S = 150.0
_BOOT_S = 120.0
_VERIFY_S = 120.0


Begin = typing.Callable[[world_mod.Guest, matrix.Cell], world_mod.Move]


class Missed(AssertionError):
    """There was nothing to disturb any more."""


class Trial:
    """The move of one cell, for what disturbs it.

    :ivar source: name of the host where the guest is at first.
    :ivar peer: the other one.
    :ivar after: what puts right what was disturbed; called when the move
        has ended, before the clean-up, newest first.
    :ivar silenced: the service was killed and knows nothing of the move.
    :ivar is_spoilt: the guest cannot be used for another cell.
    :ivar trouble: what was found wrong while it was disturbed.
    """

    def __init__(self, bed: bed_mod.Bed, cell: matrix.Cell) -> None:
        self.bed = bed
        self.cell = cell
        self.world = bed.world
        self.guest = bed.guest()
        self.source = self.guest.host
        self.peer = self.world.other(self.source)
        self.after: list[bed_mod.Undo] = []
        self.trouble: list[str] = []
        self.silenced = False
        self.is_spoilt = False
        self._saved: list[answers.SavedArea] | None = None
        self._released = False
        self._struck_s = 0.0
        self._result: dict[str, typing.Any] = {}
        self.move: world_mod.Move | None = None

    # -- for those who disturb ----------------------------------------------

    @property
    def here(self) -> host_mod.Host:
        return self.bed.host(self.source)

    @property
    def there(self) -> host_mod.Host:
        return self.bed.host(self.peer)

    def kill(self, host: host_mod.Host, *words: str) -> None:
        """SIGKILL processes by words of their command lines.

        :raises Missed: there is none.
        """
        if not world_mod.kill_matching(host, *words):
            raise Missed(f'nothing runs with {" ".join(words)!r}')

    def remember(self) -> None:
        """Stop the guest's writers, and keep what it knows: it is going to
        lose its memory."""
        self.guest.control.stop()
        self._saved = self.guest.control.save()

    def release(self) -> None:
        """Let the move go on, if it waits; idempotent."""
        if self._released or self.silenced or self.move is None:
            return
        self._released = True
        self.move.release()

    def call_aside(self, call: typing.Callable[[], object]) -> None:
        """Do what may block on a thread; nobody waits for it."""

        def quietly() -> None:
            with contextlib.suppress(*bed_mod.TROUBLE):
                call()

        threading.Thread(target=quietly, daemon=True).start()

    # -- the cell -------------------------------------------------------------

    def run(
        self,
        act: Act,
        before: Act | None = None,
        begin: Begin = phases.begin,
    ) -> checks.Observation:
        """Do all of it.  What goes wrong is in the observation.

        :param before: called before the move is ordered.
        :param begin: starts the move and waits for the moment.
        """
        began_s = time.monotonic()
        try:
            if before is not None:
                before(self)
            self.move = begin(self.guest, self.cell)
            self.disturb(act)
        except bed_mod.TROUBLE as error:
            self.trouble.append(f'{type(error).__name__}: {error}')
        seen = self.conclude()
        seen.seconds = time.monotonic() - began_s
        return seen

    def disturb(self, act: Act) -> None:
        """Disturb the move, now."""
        self._struck_s = time.monotonic()
        act(self)
        if self._quickens:
            self.world.lab.link('off')
        self.release()

    @property
    def _quickens(self) -> bool:
        """Whether the link, slowed to catch the phase, is of no use now."""
        return self.cell.fault is not matrix.Fault.LINK

    def conclude(self) -> checks.Observation:
        """Wait for the end, clean up and look."""
        self.release()
        self._await_end()
        self._put_right()
        self._clean_up()
        seen = checks.Observation(
            self._locate(),
            silenced=self.silenced,
            trouble=self.trouble,
        )
        if self._result and not self._result['ok']:
            seen.error = self._result['error']['class']
            seen.text = self._result['error']['text']
        seen.leftovers = self._leftovers()
        self._look_at_guest(seen)
        self._tidy(seen.end)
        if self.is_spoilt:
            self.bed.drop()
        return seen

    def _await_end(self) -> None:
        if self.silenced or self.move is None:
            return
        try:
            self._result = self.move.wait(_END_S)
        except bed_mod.TROUBLE as error:
            self.trouble.append(f'the move did not end: {error}')
            self.is_spoilt = True

    def _put_right(self) -> None:
        for undo in reversed(self.after):
            try:
                undo()
            except bed_mod.TROUBLE as error:
                self.trouble.append(f'not put right: {error}')
        self.bed.heal()

    def _clean_up(self) -> None:
        """``sxm-manage cleanup`` on both hosts: first where the guest is."""
        first = [self.source, self.peer]
        with contextlib.suppress(*bed_mod.TROUBLE):
            if self.guest.state(self.peer) in ('running', 'paused'):
                first.reverse()
                if not self.silenced:
                    self._tidy(matrix.End.ARRIVED)
        for name in first:
            try:
                done = self.world.agent(name).call(
                    'clean_up', server=self.bed.plan.uuid
                )
            except bed_mod.TROUBLE as error:
                self.trouble.append(f'not cleaned up on {name}: {error}')
                continue
            self.trouble += [
                f'not cleaned up on {name}: {one["error"]}'
                for one in done
                if one['error']
            ]

    def _locate(self) -> matrix.End:
        states = {}
        for name in world_mod.HOSTS:
            try:
                states[name] = self.guest.state(name)
            except bed_mod.TROUBLE as error:
                self.trouble.append(f'{name} cannot be asked: {error}')
        end = checks.end_of(states, self.source, self.peer)
        off = [name for name in states if states[name] == 'shutoff']
        if end is matrix.End.OFF:
            self.guest.host = off[0]
        elif end in (matrix.End.STAYED, matrix.End.ARRIVED):
            self.guest.host = (
                self.peer if end is matrix.End.ARRIVED else self.source
            )
        return end

    # -- the guest ------------------------------------------------------------

    def _look_at_guest(self, seen: checks.Observation) -> None:
        window = self.world.collector.window(
            self.bed.plan.ip, self._struck_s or time.monotonic()
        )
        seen.stall_ms = round(1000 * window.longest_ack_stall_s)
        seen.io_errors = window.errors
        if seen.end in (matrix.End.LOST, matrix.End.TWICE):
            return
        try:
            self._verify(seen)
        except bed_mod.TROUBLE as error:
            seen.trouble.append(f'verification: {error}')

    def _verify(self, seen: checks.Observation) -> None:
        control, host = self.guest.control, self.bed.host(self.guest.host)
        if seen.end is matrix.End.OFF:
            self._start(host)
        elif self.guest.state(self.guest.host) == 'paused':
            host.run(['virsh', 'resume', self.bed.plan.uuid], timeout=60)
        control.wait_ready(_BOOT_S)
        if self._saved is not None:
            control.load(self._saved)
        if self.guest.tops() != self.bed.files():
            seen.trouble.append(f'disks are on {self.guest.tops()}')
        control.stop()
        found = control.verify(_VERIFY_S)
        seen.verified = found.checked > 0
        seen.lost_writes = found.lost + found.bad + found.future
        seen.io_errors += found.read_errors

    def _start(self, host: host_mod.Host) -> None:
        """As Nova does: with a definition that it makes anew, so that the
        disks are the ordinary files whatever libvirt remembers."""
        uuid = self.bed.plan.uuid
        dumped = host.run(['virsh', 'dumpxml', '--inactive', uuid]).stdout
        text = re.sub(r'\.sxm-(overlay|handover)', '', dumped)
        host.run(['virsh', 'define', '/dev/stdin'], input=text, timeout=60)
        host.run(['virsh', 'start', uuid], timeout=60)

    # -- what is left ---------------------------------------------------------

    def _leftovers(self) -> list[str]:
        left = []
        for name in world_mod.HOSTS:
            left += [f'{path} on {name}' for path in self.bed.overlays(name)]
            with contextlib.suppress(*bed_mod.TROUBLE):
                agent, uuid = self.world.agent(name), self.bed.plan.uuid
                left += checks.leftovers(
                    name, agent.call('leftovers', server=uuid)
                )
                left += checks.traces(name, agent.call('traces', server=uuid))
        return sorted(set(left))

    def _tidy(self, end: matrix.End) -> None:
        """What Nova itself does when the guest has arrived: the instance
        directory goes from the source.  On a destination that the guest has
        not reached only the ordinary files do, which Nova has made."""
        if end is matrix.End.ARRIVED:
            name, what = self.source, '*'
        elif end is matrix.End.STAYED:
            name, what = (
                self.peer,
                ' '.join(disk.name for disk in self.bed.plan.disks),
            )
        else:
            return
        if self.guest.state(name) == 'absent':
            self.bed.host(name).shell(
                f'cd {self.bed.plan.path} 2>/dev/null && rm -rf -- {what} || :'
            )


Act = typing.Callable[[Trial], None]


def running(host: host_mod.Host, service: str) -> int:
    """PID in the host of a service.

    :raises Missed: it does not run.
    """
    pid = services.pid_of(host, service)
    if pid is None:
        raise Missed(f'{service} does not run on {host.name}')
    return pid
