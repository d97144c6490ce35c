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
"""The ways to disturb a move, by the names that the matrix uses.

Each gets the :class:`.trial.Trial` and returns when it has done it; the move
is released after that, unless it has released it itself.  What has to be put
right later goes to ``trial.after``.
"""

from __future__ import annotations

import json
import time
import typing

from tests.faults import bed as bed_mod
from tests.faults import trial as trial_mod
from tests.functional import world as world_mod
from tests.lab import host as host_mod

Trial = trial_mod.Trial
Act = typing.Callable[[Trial], None]

_AWAY_S = 2.0
_PEER_AWAY_S = 8.0
_LONG_S = 10.0
_SPARE_KIB = 512
_CHANGED_BYTES = 4096


# ------------------------------------------------------ services and daemons


def kill_service(trial: Trial) -> None:
    """The service of the source dies, and starts anew after a while."""
    _kill_agent(trial, trial.source)
    trial.silenced = True
    time.sleep(_AWAY_S)
    trial.world.restart_agent(trial.source)


def kill_service_there(trial: Trial) -> None:
    """That of the destination; it starts again at once."""
    _kill_agent(trial, trial.peer)
    trial.world.restart_agent(trial.peer)


def peer_down(trial: Trial) -> None:
    """The destination's service does not answer for a while."""
    _kill_agent(trial, trial.peer)
    trial.release()
    time.sleep(_PEER_AWAY_S)
    trial.world.restart_agent(trial.peer)


def _kill_agent(trial: Trial, name: str) -> None:
    host = trial.bed.host(name)
    pid = trial_mod.running(host, world_mod.SERVICE)
    host.run(['kill', '-KILL', str(pid)])


def kill_libvirtd(trial: Trial) -> None:
    _kill_libvirtd(trial, trial.source)


def kill_libvirtd_there(trial: Trial) -> None:
    _kill_libvirtd(trial, trial.peer)


def _kill_libvirtd(trial: Trial, name: str) -> None:
    host = trial.bed.host(name)
    pid = trial_mod.running(host, bed_mod.LIBVIRTD)
    host.run(['kill', '-KILL', str(pid)])
    time.sleep(_AWAY_S)
    trial.bed.restart_libvirtd(name)


# ---------------------------------------------------- processes of the move


def kill_copier(trial: Trial) -> None:
    trial.kill(trial.here, 'program.py copier')


def kill_relay(trial: Trial) -> None:
    trial.kill(trial.here, 'program.py relay connect')


def kill_relay_there(trial: Trial) -> None:
    trial.kill(trial.there, 'program.py relay listen')


def kill_base_server(trial: Trial) -> None:
    trial.kill(trial.there, trial.bed.plan.uuid, 'storage-daemon', 'vda.base')


def kill_mirror_server(trial: Trial) -> None:
    trial.kill(
        trial.there, trial.bed.plan.uuid, 'storage-daemon', 'vdb.mirror'
    )


def end_mirror(trial: Trial) -> None:
    """Someone else ends the job: that is no success of ours."""
    trial.here.run(
        ['virsh', 'blockjob', trial.bed.plan.uuid, 'vda', '--abort'],
        timeout=30,
    )


def kill_qemu_here(trial: Trial) -> None:
    """The guest dies; all that it had acknowledged is remembered."""
    trial.remember()
    _kill_qemu(trial, trial.here)


def kill_qemu_there(trial: Trial) -> None:
    if trial.guest.state(trial.peer) == 'running':
        trial.remember()
    _kill_qemu(trial, trial.there)


def _kill_qemu(trial: Trial, host: host_mod.Host) -> None:
    trial.kill(host, trial.bed.plan.uuid, 'qemu-system-x86_64')


# --------------------------------------------------------------- the guest


def pause_guest(trial: Trial) -> None:
    """Paused by its owner: it arrives so."""
    trial.here.run(['virsh', 'suspend', trial.bed.plan.uuid], timeout=30)


def reset_guest(trial: Trial) -> None:
    """The reset button: it boots while it is moved."""
    trial.remember()
    trial.here.run(['virsh', 'reset', trial.bed.plan.uuid], timeout=30)


# ---------------------------------------------------------------- the link


def cut_link(trial: Trial) -> None:
    """For good: it is back when the move has ended."""
    trial.world.lab.link('cut')


def cut_link_for_10_s(trial: Trial) -> None:
    trial.world.lab.link('cut')
    time.sleep(_LONG_S)
    trial.world.lab.link('off')


def flap_link(trial: Trial) -> None:
    for _ in range(2):
        trial.world.lab.link('cut')
        time.sleep(7.0)
        trial.world.lab.link('6mbps')
        time.sleep(4.0)
    trial.world.lab.link('off')


def slow_link(trial: Trial) -> None:
    trial.world.lab.link('1mbit')
    time.sleep(_LONG_S)
    trial.world.lab.link('off')


def reset_link_for_10_s(trial: Trial) -> None:
    """A firewall resets every connection of the move, and refuses new
    ones."""
    refuse = (
        'INPUT -i mig0 -p tcp -m multiport '
        '--ports 49300:49399 -j REJECT --reject-with tcp-reset'
    )
    hosts = trial.here, trial.there
    for host in hosts:
        host.shell(f'iptables -A {refuse}')
        trial.after.append(
            lambda host=host: host.shell(f'iptables -D {refuse} || :')
        )
    time.sleep(_LONG_S)
    for host in hosts:
        host.shell(f'iptables -D {refuse}')


# ------------------------------------------------- the destination's storage


def small_disk(trial: Trial) -> None:
    """Before the move: a file system of its own for the instance there."""
    path = trial.bed.plan.path
    trial.there.shell(
        f'mkdir -p {path}; mount -t tmpfs -o size=256m none {path}'
    )

    def unmount() -> None:
        left = trial.bed.overlays(trial.peer)
        if left:
            trial.trouble.append(f'left on the full disk: {left}')
        trial.there.shell(f'umount -l {path}; rmdir {path} 2>/dev/null || :')

    trial.after.append(unmount)


def _fill_disk(trial: Trial, spare_kib: int) -> None:
    path = trial.bed.plan.path
    used = int(trial.there.shell(f'df -k --output=used {path} | tail -1'))
    trial.there.shell(f'mount -o remount,size={used + spare_kib}k {path}')


def no_space_at_all(trial: Trial) -> None:
    _fill_disk(trial, 4)


def no_space_for_base(trial: Trial) -> None:
    _fill_disk(trial, _SPARE_KIB)


def no_space_for_writes(trial: Trial) -> None:
    """The guest writes on until what is mirrored does not fit."""
    _fill_disk(trial, _SPARE_KIB)
    time.sleep(4.0)


def freeze_servers_for_10_s(trial: Trial) -> None:
    """Writes on the destination take so long."""
    pids = world_mod.pids_matching(
        trial.there, trial.bed.plan.uuid, 'storage-daemon'
    )
    if not pids:
        raise trial_mod.Missed('no NBD server runs')
    words = [str(pid) for pid in pids]
    trial.there.run(['kill', '-STOP', *words])
    trial.after.append(
        lambda: trial.there.run(['kill', '-CONT', *words], check=False)
    )
    time.sleep(_LONG_S)
    # One that was given up meanwhile has been killed.
    trial.there.run(['kill', '-CONT', *words], check=False)


def prepare_fails(trial: Trial) -> None:
    """The directory there cannot be written to."""
    path = trial.bed.plan.path
    trial.there.shell(f'mkdir -p {path}; mount -t tmpfs -o ro none {path}')
    trial.after.append(lambda: trial.there.shell(f'umount -l {path}'))


def prepare_is_late(trial: Trial) -> None:
    time.sleep(_LONG_S)


def target_smaller(trial: Trial) -> None:
    _replace_target(trial, 'raw', 16)


def target_larger(trial: Trial) -> None:
    """Whatever comes of it, the guest is not used any more."""
    trial.is_spoilt = True
    _replace_target(trial, 'raw', 64)


def target_other_format(trial: Trial) -> None:
    _replace_target(trial, 'qcow2', 32)


def _replace_target(trial: Trial, image_format: str, size_mib: int) -> None:
    path = trial.bed.plan.file('vdb')
    trial.there.shell(
        f'rm -f {path}; '
        f'qemu-img create -q -f {image_format} {path} {size_mib}M'
    )


def change_target(trial: Trial) -> None:
    """A fault of the disk there: what was copied is not what is read."""
    path = trial.bed.plan.file('vda')
    end = int(trial.there.run(['stat', '-c', '%s', path]).stdout)
    where = (end // 2) & ~(_CHANGED_BYTES - 1)
    trial.there.shell(
        f'dd if=/dev/urandom of={path} bs={_CHANGED_BYTES} count=4 '
        f'seek={where // _CHANGED_BYTES} conv=notrunc,fsync status=none'
    )


# ------------------------------------------------------ operator and others


def cancel(trial: Trial) -> None:
    assert trial.move is not None
    trial.call_aside(trial.move.abort)
    time.sleep(0.5)


def cancel_twice(trial: Trial) -> None:
    cancel(trial)
    cancel(trial)


def ask_libvirt(trial: Trial) -> None:
    """What would pull the disks from under the move is refused."""
    uuid = trial.bed.plan.uuid
    for words in (
        ('detach-disk', uuid, 'vdb', '--live'),
        ('blockcommit', uuid, 'vda', '--active', '--pivot'),
        ('blockcopy', uuid, 'vda', '/tmp/copy', '--transient-job'),
        ('save', uuid, '/tmp/saved'),
    ):
        answer = trial.here.run(['virsh', *words], check=False, timeout=60)
        if not answer.returncode:
            trial.trouble.append(f'libvirt did not refuse {words[0]}')


# -------------------------------------------------------- load and content


def write_hard(trial: Trial) -> None:
    """As fast as it goes, with a flush after every fourth write."""
    trial.guest.control.write(
        'vda',
        'uniform',
        4096,
        threads=4,
        sync_every=4,
        start=24 << 20,
        span=8 << 20,
    )
    time.sleep(4.0)


def write_one_place(trial: Trial) -> None:
    trial.guest.control.write(
        'vda', 'hot', 4096, threads=4, start=32 << 20, span=1 << 20
    )
    time.sleep(1.0)


def discard(trial: Trial) -> None:
    """Half of what was written once, in pieces."""
    for start in range(0, bed_mod.FILLED_BYTES // 2, 1 << 20):
        trial.guest.control.discard('vda', start, 1 << 20)


def compare_sides(trial: Trial) -> None:
    """Both sides are frozen at the same point, and equal."""
    for target, top in trial.guest.tops().items():
        here, there = (
            _digest(host, top) for host in (trial.here, trial.there)
        )
        if here != there:
            trial.trouble.append(f'{target} differs at the hand-over point')


def _digest(host: host_mod.Host, top: str) -> str:
    """SHA-256 of what is below the overlay on top."""
    shown = host.run(['qemu-img', 'info', '-U', '--output=json', top]).stdout
    path = json.loads(shown)['full-backing-filename']
    return host.shell(
        f'qemu-img convert -U -O raw {path} /tmp/digest.raw; '
        'sha256sum < /tmp/digest.raw; rm /tmp/digest.raw',
        timeout=120,
    )


ACTS: dict[str, Act] = {
    act.__name__: act
    for act in (
        ask_libvirt,
        cancel,
        cancel_twice,
        change_target,
        compare_sides,
        cut_link,
        cut_link_for_10_s,
        discard,
        end_mirror,
        flap_link,
        freeze_servers_for_10_s,
        kill_base_server,
        kill_copier,
        kill_libvirtd,
        kill_libvirtd_there,
        kill_mirror_server,
        kill_qemu_here,
        kill_qemu_there,
        kill_relay,
        kill_relay_there,
        kill_service,
        kill_service_there,
        no_space_at_all,
        no_space_for_base,
        no_space_for_writes,
        pause_guest,
        peer_down,
        prepare_fails,
        prepare_is_late,
        reset_guest,
        reset_link_for_10_s,
        slow_link,
        target_larger,
        target_other_format,
        target_smaller,
        write_hard,
        write_one_place,
    )
}

BEFORE: dict[str, Act] = {
    'no_space_at_all': small_disk,
    'no_space_for_base': small_disk,
    'no_space_for_writes': small_disk,
}
"""What an act needs before the move is ordered."""
