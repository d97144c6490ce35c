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

"""Stand-ins that several tests of this package use."""

import threading
from unittest import mock

import libvirt

from sxm_openstack.engine import control
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import journal
from sxm_openstack.engine import ports

SERVER = '3f1b6b0e-0000-4000-8000-000000000001'


class FakeClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self):
        self.at_s = 0.0

    def now(self):
        return self.at_s

    def sleep(self, seconds):
        self.at_s += seconds


def libvirt_error(code, domain=libvirt.VIR_FROM_QEMU, text='it says no'):
    error = libvirt.libvirtError(text)
    error.err = (code, domain, text, 2, '', '', '', -1, -1)
    return error


class FakeJob:
    """A ``virDomain`` with a migration that ends after some aborts.

    :param aborts: how many it takes; ``None`` for one that never ends.
    """

    def __init__(self, aborts=0, absent=False):
        self.left = aborts
        self.absent = absent
        self.asked = 0

    def lookup(self):
        if self.absent:
            raise libvirt_error(libvirt.VIR_ERR_NO_DOMAIN)
        return self

    def jobStats(self):
        running = self.left is None or self.left > 0
        return {
            'type': libvirt.VIR_DOMAIN_JOB_UNBOUNDED
            if running
            else libvirt.VIR_DOMAIN_JOB_NONE
        }

    def abortJob(self):
        self.asked += 1
        if self.left is not None:
            self.left -= 1


class FakeDomain(FakeJob):
    """The server's domain, as far as these tests need it."""

    def __init__(self, state=ports.DomainState.RUNNING, **job):
        super().__init__(**job)
        self.now = state
        self.waited = []
        self.defined = {}
        self.last_pause_s = 0.05
        self.busy = threading.Event()
        self.busy.set()

    def state(self):
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    def wait_no_job(self, target, timeout_s):
        self.waited.append(target)

    def define_source(self, target, path, image_format):
        self.defined[target] = path


def disk(target='vda', **values):
    values.setdefault('path', f'/nowhere/{target}')
    values.setdefault('format', 'qcow2')
    values.setdefault('size_bytes', 1 << 30)
    return engine_disk.Disk(target, **values)


def record(role=journal.Role.SOURCE, disks=(), **values):
    return journal.Record(
        SERVER,
        role,
        'there',
        disks=tuple(disks),
        runtime='/nowhere/run',
        **values,
    )


def source_move(remote_state=ports.DomainState.ABSENT, disks=()):
    """A :class:`.SourceMove` that only notes what it is asked for."""
    move = mock.Mock()
    move.move.control = control.Control()
    move.move.peer = 'there'
    move.move.destination.state.return_value = remote_state
    move.move.progress.disks.return_value = []
    move.move.progress.totals.return_value = (100, 40)
    move.remaining.return_value = list(disks)
    move.source_paths.return_value = {
        one.target: one.handover_path for one in disks
    }
    return move
