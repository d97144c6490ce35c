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

"""What both sides of a move in the lab are made of."""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing

from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.mirror import drivers as mirror_drivers
from sxm_openstack.storage import drivers as storage_drivers
from sxm_openstack.transfer import base as transfer_base
from sxm_openstack.transfer import drivers as transfer_drivers

from tests.functional import guests

STATE_DIR = guests.STATE_DIR
RUNTIME_DIR = guests.RUNTIME_DIR
PKI = '/etc/pki/qemu'
PORTS = range(49300, 49400)


def runtime(server: str) -> str:
    """Directory of the sockets and processes of one server's move."""
    return os.path.join(RUNTIME_DIR, server)


def transfer(
    settings: typing.Mapping[str, typing.Any] | None = None,
) -> transfer_base.TransferDriver:
    """The transfer driver, as nova-compute loads it.

    :param settings: fields of :class:`.transfer.base.Settings`.
    """
    return transfer_drivers.load(
        'nbd', transfer_base.Settings(**{'pki': PKI, **(settings or {})})
    )


def warm_up() -> None:
    """Let stevedore read all entry points: a second, which a nova-compute
    has behind it long before its first move."""
    transfer()
    for image_format in ('qcow2', 'raw'):
        storage_drivers.load(image_format)
    for name in ('snapshot', 'direct'):
        mirror_drivers.load(name)


def migration_address() -> str:
    """This host's address on the migration network."""
    shown = subprocess.run(
        ['ip', '-4', '-o', 'address', 'show', 'dev', 'mig0'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return shown.split()[3].partition('/')[0]


def leftovers(
    server: str, journal: engine_journal.Journal
) -> dict[str, list[str]]:
    """What a move has left on this host, by kind.

    :returns: ``processes`` whose command line or open files are of the
        move, ``runtime`` files, ``journal`` records.
    """
    directory = pathlib.Path(runtime(server))
    return {
        'processes': _processes(str(directory)),
        'runtime': [str(path) for path in directory.rglob('*')],
        'journal': [name for name in journal.servers() if name == server],
    }


def _processes(mark: str) -> list[str]:
    found = []
    for entry in pathlib.Path('/proc').iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / 'cmdline').read_bytes()
        except OSError:
            continue
        text = command.replace(b'\0', b' ').decode(errors='replace')
        if mark in text and 'qemu-system' not in text:
            found.append(f'{entry.name}: {text}')
    return found
