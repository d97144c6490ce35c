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

"""Two lab hosts with an agent each, guests on them, and their moves.

Everything here runs outside of the hosts.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import os
import shutil
import signal
import time
import typing

from tests.functional import guests
from tests.functional import wire
from tests.lab import collector as collector_mod
from tests.lab import host as host_mod
from tests.lab import lab as lab_mod
from tests.lab import paths
from tests.lab import rootfs
from tests.lab import services
from tests.lab.guest import build
from tests.lab.guest import control

PYTHON = f'{paths.VENV}/bin/python'
SOCKETS = f'{guests.SHARED}/sxm-agents'
SERVICE = 'sxm-agent'
HOSTS = ('compute1', 'compute2')
_POLL_S = 0.02


class MoveTimeout(AssertionError):
    """A move did not get as far as was waited for."""


class World:
    """A running lab of two hosts; see :meth:`open`.

    :param lab: up already, hosts only or more.
    """

    def __init__(self, lab: lab_mod.Lab) -> None:
        self.lab = lab
        self.hosts = {name: lab.host(name) for name in HOSTS}
        self._agents: dict[str, wire.Client] = {}
        self.collector = collector_mod.Collector(lab.host(paths.CTL).pid)
        self._image: build.GuestImage | None = None

    @classmethod
    def open(cls) -> World:
        """Agents of the checkout as it is now, and an unlimited link."""
        world = cls(lab_mod.Lab())
        world._install_guest()
        for name in HOSTS:
            world.restart_agent(name)
        world.lab.link('off')
        return world

    def close(self) -> None:
        """End the agents and stop to listen; the lab stays."""
        for name in HOSTS:
            self._stop_agent(name)
        self.collector.close()

    def _stop_agent(self, name: str) -> None:
        """End it and forget it: a lab with a service that was stopped
        would not be taken for one that is up."""
        host = self.hosts[name]
        if SERVICE in services.names(host):
            services.stop(host, SERVICE)
            record = host.state / 'hosts' / name / 'services'
            (record / f'{SERVICE}.json').unlink()

    def _shared(self, path: str) -> str:
        """Where the outside sees a path of the shared directory."""
        inside = path.removeprefix(guests.SHARED)
        return f'{self.lab.state}/shared/nfs-a{inside}'

    def _install_guest(self) -> None:
        lower = rootfs.path()
        image = build.build(paths.cache_dir(), lower)
        directory = self._shared(guests.IMAGES)
        os.makedirs(directory, exist_ok=True)
        shutil.copy(image.kernel, f'{directory}/vmlinuz')
        shutil.copy(image.initrd, f'{directory}/initrd')
        self._image = image

    def restart_agent(self, name: str) -> None:
        """Start a host's agent anew; it forgets all moves."""
        host = self.hosts[name]
        self._stop_agent(name)
        services.start(
            host,
            services.Service(
                SERVICE,
                (PYTHON, '-m', 'tests.functional.agent', '--sockets', SOCKETS),
            ),
        )
        client = wire.Client(self._shared(f'{SOCKETS}/{name}.sock'))
        services.wait_until(
            f'the agent on {name}',
            lambda: _answers(client),
            30.0,
            hint=f'{host.log_dir}/{SERVICE}.log',
        )
        self._agents[name] = client

    def agent(self, name: str) -> wire.Client:
        return self._agents[name]

    def other(self, name: str) -> str:
        """The other host."""
        return HOSTS[1 - HOSTS.index(name)]

    def boot(self, plan: guests.Plan, on: str = HOSTS[0]) -> Guest:
        """Make a guest's disks and start it; returns when it answers."""
        assert self._image is not None
        for host in self.hosts.values():
            host.shell(guests.make_bases(plan), timeout=60)
        host = self.hosts[on]
        host.shell(guests.make_disks(plan), timeout=60)
        host.run(
            ['virsh', 'define' if plan.persistent else 'create', '/dev/stdin'],
            input=guests.domain_xml(plan, self._image.cmdline),
            timeout=60,
        )
        if plan.persistent:
            host.run(['virsh', 'start', plan.uuid], timeout=60)
        guest = Guest(self, plan, on)
        guest.control.wait_ready(180.0)
        self.collector.wait_ticks(plan.ip)
        return guest


def _answers(client: wire.Client) -> bool:
    try:
        return bool(client.call('ping', timeout_s=2.0))
    except Exception:  # noqa: BLE001  whatever it is, it is no answer
        return False


class Guest:
    """A guest that runs on one of the hosts.

    :ivar host: name of the host where it runs now.
    :ivar last_move: the last one that was started, if any.
    """

    def __init__(self, world: World, plan: guests.Plan, host: str) -> None:
        self.world = world
        self.plan = plan
        self.host = host
        self.last_move: Move | None = None
        self.control: control.GuestControl = world.collector.guest(plan.ip)

    @property
    def here(self) -> host_mod.Host:
        return self.world.hosts[self.host]

    def fill(
        self, target: str, size_bytes: int, unit_bytes: int, start: int = 0
    ) -> None:
        """Write a range once, in order, as fast as it goes."""
        before = self._acked(target)
        writer = self.control.write(
            target,
            'sequential',
            1 << 20,
            start=start,
            span=size_bytes,
            unit_bytes=unit_bytes,
        )
        deadline = time.monotonic() + 120
        while self._acked(target) - before < size_bytes:
            if time.monotonic() > deadline:
                raise MoveTimeout(f'{target} was not filled in 120 s')
            time.sleep(0.05)
        self.control.stop(writer)

    def _acked(self, target: str) -> int:
        found = self.control.report().by_disk.get(target)
        return found.acked_bytes if found else 0

    def start_move(self, **order: typing.Any) -> Move:
        """Begin a move to the other host; see :class:`.departure.Order`."""
        self._make_destination_files()
        peer = self.world.other(self.host)
        host = self.world.hosts[peer]
        self.world.agent(self.host).call(
            'start',
            server=self.plan.uuid,
            peer=peer,
            peer_address=host.address,
            peer_migration_address=host.migration_address,
            **order,
        )
        self.last_move = Move(self, self.host, peer)
        return self.last_move

    def _make_destination_files(self) -> None:
        """What Nova makes on the destination before a block migration."""
        if self.plan.directory.startswith(guests.SHARED):
            return
        peer = self.world.hosts[self.world.other(self.host)]
        peer.shell(guests.make_disks(self.plan, empty_config=True))

    @property
    def is_as_left(self) -> bool:
        """Whether it runs where its last move ended."""
        if self.last_move is not None and not self.last_move.status()['over']:
            return False
        return self.state(self.host) == 'running'

    def state(self, host: str) -> str:
        """What libvirt on a host says of the domain."""
        answer: str = self.world.agent(host).call(
            'state', server=self.plan.uuid
        )
        return answer

    def tops(self) -> dict[str, str]:
        """File on top of each disk's chain, by target."""
        return {
            each['target']: each['source']
            for each in self.world.agent(self.host).call(
                'disks', server=self.plan.uuid
            )
        }

    def destroy(self) -> None:
        """End it and remove its traces, on whichever host it is."""
        for name, host in self.world.hosts.items():
            host.run(['virsh', 'destroy', self.plan.uuid], check=False)
            host.run(['virsh', 'undefine', self.plan.uuid], check=False)
            self.world.agent(name).call('forget', server=self.plan.uuid)
            host.shell(f'rm -rf {self.plan.path}')


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """A phase began; ``target`` is empty for the move as a whole."""

    at_s: float
    target: str
    phase: str


class Move:
    """A move under way, seen from outside."""

    def __init__(self, guest: Guest, source: str, destination: str) -> None:
        self.guest = guest
        self.source = source
        self.destination = destination

    def _call(self, method: str) -> typing.Any:
        return self.guest.world.agent(self.source).call(
            method, server=self.guest.plan.uuid
        )

    def status(self) -> dict[str, typing.Any]:
        answer: dict[str, typing.Any] = self._call('status')
        return answer

    def samples(self) -> list[dict[str, typing.Any]]:
        answer: list[dict[str, typing.Any]] = self._call('samples')
        return answer

    def events(self) -> list[Event]:
        return [Event(*each) for each in self.status()['events']]

    def at(self, phase: str, target: str | None = None) -> float:
        """When a phase first began.

        :raises KeyError: it did not.
        """
        for event in self.events():
            if event.phase == phase and target in (None, event.target):
                return event.at_s
        raise KeyError(phase)

    def wait_phase(
        self, phase: str, target: str | None = None, timeout_s: float = 60.0
    ) -> None:
        """Wait until a phase has begun.

        :raises MoveTimeout: it did not, or the move ended before.
        """

        def begun(status: dict[str, typing.Any]) -> bool:
            return any(
                name == phase and target in (None, which)
                for _at, which, name in status['events']
            )

        self._wait(begun, f'phase {phase} {target or ""}', timeout_s)

    def wait_copied(self, part: float, timeout_s: float = 120.0) -> None:
        """Wait until that part of all bases is on the destination."""

        def copied(status: dict[str, typing.Any]) -> bool:
            total = sum(each['total_bytes'] for each in status['disks'])
            done = sum(each['done_bytes'] for each in status['disks'])
            return bool(total) and done >= part * total

        self._wait(copied, f'{part:.0%} of the copy', timeout_s)

    def wait_held(self, call: str, timeout_s: float = 60.0) -> None:
        """Wait until a fault holds a call."""
        self._wait(
            lambda status: call in status['held'], f'{call} held', timeout_s
        )

    def wait(self, timeout_s: float = 180.0) -> dict[str, typing.Any]:
        """Wait for the end; the guest's host is right from then on.

        :returns: ``{"ok", "error", ...}``.
        :raises MoveTimeout: it has not ended.
        """
        status = self._wait(
            lambda status: bool(status['over']), 'the end', timeout_s
        )
        result: dict[str, typing.Any] = status['result']
        if result['ok']:
            self.guest.host = self.destination
        return result

    def _wait(
        self,
        condition: collections.abc.Callable[[dict[str, typing.Any]], bool],
        what: str,
        timeout_s: float,
    ) -> dict[str, typing.Any]:
        deadline = time.monotonic() + timeout_s
        while True:
            status = self.status()
            if condition(status):
                return status
            if status['over'] or time.monotonic() > deadline:
                raise MoveTimeout(
                    f'waited for {what}; the move is at '
                    f'{status["events"][-3:]}, {status["result"]}'
                )
            time.sleep(_POLL_S)

    def abort(self) -> None:
        self._call('abort')

    def hurry(self) -> None:
        self._call('hurry')

    def release(self) -> None:
        self._call('release')


def kill_matching(host: host_mod.Host, *words: str) -> int:
    """SIGKILL the processes in a host whose command line has all words.

    :returns: how many there were.
    """
    count = 0
    for pid in pids_matching(host, *words):
        host.run(['kill', f'-{signal.SIGKILL.value}', str(pid)])
        count += 1
    return count


def pids_matching(host: host_mod.Host, *words: str) -> list[int]:
    """PIDs, as the host sees them, of processes with all words in their
    command line."""
    found = []
    for entry in (host.root / 'proc').iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / 'cmdline').read_bytes().replace(b'\0', b' ')
        except OSError:
            continue
        if all(word.encode() in text for word in words):
            found.append(int(entry.name))
    return found
