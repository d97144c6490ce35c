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
"""What is disturbed, when, and which ends of the move are right then.

A row is a fault, a column a phase of the move; a cell is what is done there.
Nothing here touches a host.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum

WATCHDOG_S = 5.0
STALL_S = WATCHDOG_S + 2.5
"""How long a write may wait when the other side is gone: the watchdog's
time, and what it takes to act on a machine that is busy with the test."""


class Phase(enum.StrEnum):
    """How far the move is when it is disturbed."""

    ORDERED = 'P0'
    PREPARED = 'P1'
    COPYING = 'P2'
    MIRRORED = 'P3'
    MEMORY = 'P4'
    SWITCHED = 'P5'
    CLEANING = 'P6'


PHASES: dict[Phase, str] = {
    Phase.ORDERED: 'ordered; nothing was asked of the destination yet',
    Phase.PREPARED: 'the destination is ready, the source is untouched',
    Phase.COPYING: 'a disk is mirrored and its frozen base is being copied',
    Phase.MIRRORED: 'all disks are mirrored and copied',
    Phase.MEMORY: 'handed over; the memory is on its way',
    Phase.SWITCHED: 'the guest runs there and the source does not know yet',
    Phase.CLEANING: 'past the point of no return; the disks are not flat yet',
}


class End(enum.StrEnum):
    """Where the guest is when all is over."""

    ARRIVED = 'arrived'
    """On the destination."""
    STAYED = 'stayed'
    """On the source, as if there had been no move."""
    OFF = 'off'
    """Off, on one host, from whose disks it can be started."""
    LOST = 'lost'
    """Nowhere."""
    TWICE = 'twice'
    """On both: the worst that can happen."""


class Fault(enum.StrEnum):
    """The rows."""

    SERVICE = 'service'
    DAEMON = 'daemon'
    PROCESS = 'process'
    GUEST = 'guest'
    LINK = 'link'
    SPACE = 'space'
    SLOW = 'slow'
    CREATE = 'create'
    TARGET = 'target'
    TLS = 'tls'
    CANCEL = 'cancel'
    MIRROR = 'mirror'
    LOAD = 'load'
    REQUEST = 'request'
    QUEUE = 'queue'
    NETWORK = 'network'
    MAP = 'map'
    CONTENT = 'content'
    DATABASE = 'database'


ROWS: dict[Fault, str] = {
    Fault.SERVICE: 'the service that moves is killed and started again',
    Fault.DAEMON: 'libvirtd is killed, on either side',
    Fault.PROCESS: 'a QEMU, an NBD server, the copier or a relay is killed',
    Fault.GUEST: 'the guest is paused, reset or ended',
    Fault.LINK: 'the link is cut, resets, flaps or is slow',
    Fault.SPACE: 'a file system is full',
    Fault.SLOW: "the destination's writes take ten seconds",
    Fault.CREATE: 'the destination makes its files late, or not at all',
    Fault.TARGET: 'the file on the destination does not fit',
    Fault.TLS: 'certificates, clocks, tokens',
    Fault.CANCEL: 'the operator ends the move, once or twice',
    Fault.MIRROR: 'a mirror fails after it was in step',
    Fault.LOAD: 'heavy writes, flushes, discards, the same block',
    Fault.REQUEST: 'another request for the server in flight',
    Fault.QUEUE: 'more moves at once than allowed',
    Fault.NETWORK: 'MAC, MTU, segments, port bindings',
    Fault.MAP: 'wrong or partial maps',
    Fault.CONTENT: 'content of the two sides is compared',
    Fault.DATABASE: 'the other side cannot be asked (message queue)',
}


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One disturbance at one moment.

    :param act: name of a function of :mod:`.injections`.
    :param ends: which are right.
    :param errors: classes of errors of which one must say why the move did
        not succeed; empty if nobody is left to say it, or it succeeds.
    :param stall_s: bound for a write to wait; 0 is none, because the guest
        itself is stopped or ended.
    :param settings: fields of the move's settings.
    :param variant: tells cells of one fault and phase apart.
    :param quick: part of the representative selection.
    """

    fault: Fault
    phase: Phase
    act: str
    ends: frozenset[End]
    errors: frozenset[str] = frozenset()
    stall_s: float = STALL_S
    settings: tuple[tuple[str, float | str], ...] = ()
    variant: str = ''
    quick: bool = False

    @property
    def name(self) -> str:
        words = [self.fault, self.phase, self.variant]
        return '.'.join(word for word in words if word)


_STAY = frozenset({End.STAYED})
_ARRIVE = frozenset({End.ARRIVED})
_EITHER = _STAY | _ARRIVE
_OFF = frozenset({End.OFF})


def _errors(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ANY = _errors('MoveFailed MirrorFailed CopyFailed LinkStalled')
_PEER = _errors('PeerUnreachable MoveFailed')
_ABORTED = _errors('Aborted')
_LINK = _errors('LinkStalled')
_PATIENT = (('link_timeout_s', 60.0),)
_PROVEN = (('verify', 'full'),)

F, P, C = Fault, Phase, Cell  # for the table's sake

CELLS: tuple[Cell, ...] = (
    # The service.  Where it was killed it says nothing; its next start
    # settles what the journal knows.
    C(F.SERVICE, P.ORDERED, 'kill_service', _STAY),
    C(F.SERVICE, P.PREPARED, 'kill_service', _STAY),
    C(F.SERVICE, P.COPYING, 'kill_service', _STAY, quick=True),
    C(F.SERVICE, P.MIRRORED, 'kill_service', _STAY),
    C(F.SERVICE, P.MEMORY, 'kill_service', _EITHER, stall_s=15.0),
    C(F.SERVICE, P.SWITCHED, 'kill_service', _ARRIVE, quick=True),
    C(F.SERVICE, P.CLEANING, 'kill_service', _ARRIVE),
    C(
        F.SERVICE,
        P.COPYING,
        'kill_service_there',
        _EITHER,
        _ANY | _PEER,
        variant='there',
    ),
    # libvirtd, back after two seconds.
    C(F.DAEMON, P.PREPARED, 'kill_libvirtd', _EITHER, _ANY | _PEER),
    C(F.DAEMON, P.COPYING, 'kill_libvirtd', _EITHER, _ANY | _PEER),
    C(F.DAEMON, P.MIRRORED, 'kill_libvirtd', _EITHER, _ANY | _PEER),
    C(
        F.DAEMON,
        P.MEMORY,
        'kill_libvirtd',
        _EITHER,
        _ANY | _PEER,
        stall_s=20.0,
        quick=True,
    ),
    C(F.DAEMON, P.CLEANING, 'kill_libvirtd', _ARRIVE),
    C(
        F.DAEMON,
        P.ORDERED,
        'kill_libvirtd_there',
        _EITHER,
        _ANY | _PEER,
        variant='there',
    ),
    C(
        F.DAEMON,
        P.MEMORY,
        'kill_libvirtd_there',
        _EITHER,
        _ANY | _PEER,
        stall_s=20.0,
        variant='there',
    ),
    C(
        F.DAEMON,
        P.SWITCHED,
        'kill_libvirtd_there',
        _ARRIVE,
        variant='there',
    ),
    C(
        F.DAEMON,
        P.CLEANING,
        'kill_libvirtd_there',
        _ARRIVE,
        _errors('NeedsOperator') | _PEER,
        variant='there',
    ),
    # What a move is made of.
    C(F.PROCESS, P.PREPARED, 'kill_relay_there', _STAY, _ANY),
    C(F.PROCESS, P.COPYING, 'kill_copier', _STAY, _ANY, quick=True),
    C(
        F.PROCESS,
        P.COPYING,
        'kill_base_server',
        _STAY,
        _ANY,
        variant='base',
    ),
    C(
        F.PROCESS,
        P.COPYING,
        'kill_qemu_here',
        _OFF,
        _ANY | _errors('NeedsOperator'),
        stall_s=0.0,
        variant='qemu',
    ),
    C(F.PROCESS, P.MIRRORED, 'kill_relay', _STAY, _ANY),
    C(
        F.PROCESS,
        P.MEMORY,
        'kill_qemu_here',
        _OFF,
        _ANY | _errors('NeedsOperator'),
        stall_s=0.0,
        variant='qemu',
    ),
    C(F.PROCESS, P.MEMORY, 'kill_qemu_there', _STAY, _ANY, variant='there'),
    C(
        F.PROCESS,
        P.CLEANING,
        'kill_qemu_there',
        _OFF,
        _ANY | _errors('NeedsOperator'),
        stall_s=0.0,
        variant='there',
        quick=True,
    ),
    # The guest itself.
    C(F.GUEST, P.ORDERED, 'pause_guest', _ARRIVE, stall_s=0.0),
    C(F.GUEST, P.PREPARED, 'reset_guest', _ARRIVE, stall_s=0.0, quick=True),
    C(F.GUEST, P.COPYING, 'pause_guest', _ARRIVE, stall_s=0.0),
    C(F.GUEST, P.MIRRORED, 'reset_guest', _ARRIVE, stall_s=0.0),
    C(F.GUEST, P.MEMORY, 'pause_guest', _ARRIVE, stall_s=0.0),
    # The link.
    C(F.LINK, P.ORDERED, 'cut_link', _STAY, _ANY | _PEER),
    C(F.LINK, P.PREPARED, 'cut_link', _STAY, _ANY | _PEER),
    C(F.LINK, P.COPYING, 'cut_link', _STAY, _LINK),
    C(
        F.LINK,
        P.COPYING,
        'cut_link_for_10_s',
        _ARRIVE,
        settings=_PATIENT,
        variant='10s',
        quick=True,
    ),
    C(F.LINK, P.COPYING, 'slow_link', _ARRIVE, variant='1mbit'),
    C(
        F.LINK,
        P.COPYING,
        'flap_link',
        _ARRIVE,
        settings=_PATIENT,
        variant='flaps',
    ),
    C(
        F.LINK,
        P.COPYING,
        'reset_link_for_10_s',
        _EITHER,
        _ANY,
        settings=_PATIENT,
        variant='reset',
    ),
    C(F.LINK, P.MIRRORED, 'cut_link', _STAY, _LINK, quick=True),
    C(
        F.LINK,
        P.MIRRORED,
        'cut_link_for_10_s',
        _ARRIVE,
        settings=_PATIENT,
        variant='10s',
    ),
    C(F.LINK, P.MEMORY, 'cut_link_for_10_s', _EITHER, _ANY),
    C(F.LINK, P.SWITCHED, 'cut_link', _ARRIVE),
    C(F.LINK, P.CLEANING, 'cut_link', _ARRIVE),
    # Space.
    C(F.SPACE, P.ORDERED, 'no_space_at_all', _STAY, _ANY, quick=True),
    C(F.SPACE, P.COPYING, 'no_space_for_base', _STAY, _ANY),
    C(F.SPACE, P.MIRRORED, 'no_space_for_writes', _STAY, _ANY),
    # Slow writes on the destination.
    C(
        F.SLOW,
        P.COPYING,
        'freeze_servers_for_10_s',
        _EITHER,
        _ANY,
        settings=_PATIENT,
    ),
    C(F.SLOW, P.MIRRORED, 'freeze_servers_for_10_s', _STAY, _ANY, quick=True),
    # Making files.
    C(
        F.CREATE,
        P.ORDERED,
        'prepare_fails',
        _STAY,
        _ANY | _errors('NeedsOperator'),
        quick=True,
    ),
    C(F.CREATE, P.ORDERED, 'prepare_is_late', _ARRIVE, variant='late'),
    # Files that do not fit.
    C(F.TARGET, P.ORDERED, 'target_smaller', _STAY, _ANY, quick=True),
    C(F.TARGET, P.ORDERED, 'target_larger', _EITHER, _ANY, variant='larger'),
    C(
        F.TARGET,
        P.ORDERED,
        'target_other_format',
        _STAY,
        _ANY,
        variant='format',
    ),
    # The operator.
    C(F.CANCEL, P.ORDERED, 'cancel', _STAY, _ABORTED),
    C(F.CANCEL, P.PREPARED, 'cancel', _STAY, _ABORTED),
    C(F.CANCEL, P.COPYING, 'cancel_twice', _STAY, _ABORTED, quick=True),
    C(F.CANCEL, P.MIRRORED, 'cancel', _STAY, _ABORTED),
    C(F.CANCEL, P.MEMORY, 'cancel_twice', _EITHER, _ABORTED),
    C(F.CANCEL, P.SWITCHED, 'cancel', _ARRIVE, quick=True),
    C(F.CANCEL, P.CLEANING, 'cancel', _ARRIVE),
    # A mirror that was in step.
    C(F.MIRROR, P.COPYING, 'kill_mirror_server', _STAY, _ANY),
    C(F.MIRROR, P.MIRRORED, 'kill_mirror_server', _STAY, _ANY, quick=True),
    C(F.MIRROR, P.MIRRORED, 'end_mirror', _STAY, _ANY, variant='ended'),
    # Load: nothing is broken.
    C(F.LOAD, P.COPYING, 'write_hard', _ARRIVE),
    C(F.LOAD, P.MIRRORED, 'discard', _ARRIVE),
    C(F.LOAD, P.MEMORY, 'write_one_place', _ARRIVE, quick=True),
    # Requests.
    C(F.REQUEST, P.COPYING, 'ask_libvirt', _ARRIVE, quick=True),
    # Content.
    C(
        F.CONTENT,
        P.COPYING,
        'change_target',
        _STAY,
        _errors('VerifyFailed'),
        settings=_PROVEN,
        quick=True,
    ),
    C(F.CONTENT, P.MEMORY, 'compare_sides', _ARRIVE),
    # The other side cannot be asked.
    C(F.DATABASE, P.ORDERED, 'peer_down', _STAY, _PEER),
    C(
        F.DATABASE,
        P.MIRRORED,
        'peer_down',
        _STAY,
        _PEER | _errors('NeedsOperator'),
    ),
    C(
        F.DATABASE,
        P.CLEANING,
        'peer_down',
        _ARRIVE,
        _PEER | _errors('NeedsOperator'),
        quick=True,
    ),
)

ELSEWHERE: dict[Fault, str] = {
    Fault.TLS: 'needs the certificates of the deployment and tokens of '
    'Keystone; the channel itself is tested below tests/unit/transfer and '
    'tests/functional/transfer',
    Fault.REQUEST: 'the requests are those of Nova: '
    'tests/e2e/operations/test_requests.py and tests/unit/nova/test_guards.py'
    '; on hosts alone libvirt can be asked',
    Fault.QUEUE: 'the limit and the queue are those of Nova '
    '(max_concurrent_live_migrations)',
    Fault.NETWORK: 'ports and their bindings are those of Neutron; the two '
    'hosts share one bridge here',
    Fault.MAP: 'no network or volume is mapped in a move between two hosts',
    Fault.DATABASE: 'the databases are those of Nova; on hosts alone the '
    'message queue is the connection between the two services',
}
"""Why a row has no cells here, or not all; and where it is tested."""


GAPS: dict[Fault, str] = {
    Fault.DAEMON: 'on this side the same as in the phase before',
    Fault.PROCESS: 'no process of the move runs before P1, and none is '
    'needed from P5 on but the guest',
    Fault.GUEST: 'from P5 on the guest is an ordinary one on its new host',
    Fault.SPACE: 'the destination writes no more than what is mirrored '
    'from P4 on, and folding needs no new space',
    Fault.SLOW: 'the NBD servers run from P1 to the hand-over',
    Fault.CREATE: 'files are made once, before P1',
    Fault.TARGET: 'the files are looked at once, before P1',
    Fault.MIRROR: 'the mirrors run from P2 to the hand-over',
    Fault.LOAD: 'the guest writes in every cell; heavy load matters while '
    'data goes over the link',
    Fault.CONTENT: 'compared where both sides are frozen; the guest '
    'verifies what it has written at the end of every cell',
}
"""Why a phase is of no interest to a fault."""


def cells_of(fault: Fault, phase: Phase) -> list[Cell]:
    """The cells of one row and column; one for each variant."""
    return [one for one in CELLS if (one.fault, one.phase) == (fault, phase)]


def gap(fault: Fault, phase: Phase) -> str:
    """Why there is no cell; empty if there is one."""
    if cells_of(fault, phase):
        return ''
    return ELSEWHERE.get(fault) or GAPS.get(fault, '')


UNTESTED: dict[Fault, str] = {
    Fault.LINK: 'delay (150 ms) and loss, for which the machine of the lab '
    'need not have a module',
    Fault.SPACE: "the source's file system full, and thin pools",
    Fault.SLOW: 'writes of the destination that fail with EIO',
    Fault.GUEST: 'a shutdown from inside; the end of its QEMU is in row '
    'process',
    Fault.TARGET: 'sectors of 4096 bytes, file systems without O_DIRECT',
    Fault.CREATE: 'files that cannot be deleted at the end',
}
"""What a row promises and no cell shows."""


def select(
    words: collections.abc.Sequence[str] = (), quick: bool = False
) -> list[Cell]:
    """The cells that were asked for, in the order of the table.

    :param words: each a fault, a phase or a cell's name, with or without its
        variant; a cell is chosen if it is of one of the named faults (or
        none is named) and of one of the named phases (or none is named), or
        if it is named itself.  All, if empty.
    :param quick: only the representative selection.
    :raises ValueError: a word is none of these.
    """
    faults = {word for word in words if word in set(Fault)}
    phases = {word for word in words if word in set(Phase)}
    names = set(words) - faults - phases
    known = {one.name for one in CELLS}
    known |= {f'{one.fault}.{one.phase}' for one in CELLS}
    unknown = sorted(names - known)
    if unknown:
        raise ValueError(
            f'no fault, phase or cell is called {", ".join(unknown)}; '
            '--list shows them'
        )

    def is_chosen(one: Cell) -> bool:
        if names & {one.name, f'{one.fault}.{one.phase}'}:
            return True
        if not faults and not phases:
            return not names
        return (not faults or one.fault in faults) and (
            not phases or one.phase in phases
        )

    return [
        one for one in CELLS if is_chosen(one) and (one.quick or not quick)
    ]
