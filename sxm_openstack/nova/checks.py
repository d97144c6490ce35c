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

"""The report of everything that is looked at before a move is begun."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import os
import shutil
import time
from typing import Any

from nova import exception as nova_exception
import nova.conf
from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.engine import checks
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.hypervisor import platform
from sxm_openstack.hypervisor import xml
from sxm_openstack.mirror import facts as mirror_facts
from sxm_openstack.mirror import pair
from sxm_openstack.nova import options
from sxm_openstack.storage import drivers as storage_drivers
from sxm_openstack.transfer import checks as transfer_checks

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

_KEY = 'sxm_facts'

Connect = Callable[[], Any]
Facts = mirror_facts.Facts


def facts(
    connect: Connect, journal: engine_journal.Journal, server: str = ''
) -> Facts:
    """This host as it is now.

    :param connect: gives a connection to libvirt.
    :param server: UUID of the one that is to come here, if any.
    :raises Retryable: libvirt does not answer.
    :raises PreCheckFailed: the configuration names what is not there.
    """
    found = platform.read(connect, CONF.host)
    address, ports = options.migration_address(), options.port_range()
    noticed = (
        *found.checks(),
        *options.transfer().checks(CONF.sxm.runtime_dir, address, ports),
        transfer_checks.writable(
            'state-dir', CONF.sxm.state_dir, 'Check [sxm] state_dir.'
        ),
        transfer_checks.writable(
            'instances-path',
            CONF.instances_path,
            'Check [DEFAULT] instances_path.',
        ),
        *(_traces(journal, server) if server else ()),
    )
    return Facts(
        host=CONF.host,
        # The last thing, as looking at the rest takes its time.
        time_s=time.time(),
        libvirt_version=found.libvirt_version,
        qemu_version=found.qemu_version,
        arch=found.capabilities.arch,
        machines=found.capabilities.machines,
        cpu=found.capabilities.cpu,
        instances_path=CONF.instances_path,
        runtime_dir=CONF.sxm.runtime_dir,
        free_bytes=shutil.disk_usage(_existing(CONF.instances_path)).free,
        formats=tuple(storage_drivers.names()),
        transfer_driver=CONF.sxm.transfer_driver,
        address=address,
        port=ports[0],
        checks=noticed,
    )


def of_pair(here: Facts, there: Facts | None) -> tuple[checks.Check, ...]:
    """Everything about two hosts."""
    if there is None:
        return (
            *checks.at(here.host, here.checks),
            checks.warned(
                'destination',
                'The destination does not report on itself.',
                'Bring both hosts to the same version.',
            ),
        )
    reach = options.transfer().reach(there.address, there.port)
    return (
        *checks.at(here.host, here.checks),
        *checks.at(there.host, there.checks),
        *checks.at(here.host, pair.hosts(here, there)),
        *checks.at(there.host, reach),
    )


def of_server(
    there: Facts | None,
    disks: Iterable[engine_disk.Disk],
    domain_xml: str,
) -> tuple[checks.Check, ...]:
    """What a server needs of its destination."""
    if there is None:
        return ()
    found = pair.server(
        there,
        tuple(disks),
        xml.machine(domain_xml),
        CONF.sxm.overlay_reserve_percent,
    )
    return checks.at(there.host, found)


def log(server: str, found: Iterable[checks.Check]) -> None:
    """A line for each; what is well only in detail."""
    for check in found:
        level = {
            checks.Verdict.OK: logging.DEBUG,
            checks.Verdict.WARNING: logging.WARNING,
            checks.Verdict.FAILED: logging.ERROR,
        }[check.verdict]
        LOG.log(level, 'Server %s, %s: %s', server, check.verdict, check)


def attach(migrate_data: Any, found: Facts) -> None:
    """Put them where the source finds them; see :func:`.peer.mark`."""
    migrate_data.old_vol_attachment_ids[_KEY] = found.to_json()


def take(migrate_data: Any) -> Facts | None:
    """Take them out again; ``None`` if there are none that are known."""
    if 'old_vol_attachment_ids' not in migrate_data:
        return None
    text = migrate_data.old_vol_attachment_ids.pop(_KEY, None)
    if text is None:
        return None
    try:
        return Facts.from_json(text)
    except ValueError as error:
        LOG.warning('What the destination reports is not known: %s', error)
        return None


@contextlib.contextmanager
def as_pre_check() -> Iterator[None]:
    """Our refusals in the form that Nova's API shows."""
    try:
        yield
    except exception.SXMError as error:
        raise nova_exception.MigrationPreCheckError(
            reason=str(error)
        ) from error


def _traces(
    journal: engine_journal.Journal, server: str
) -> Iterator[checks.Check]:
    """What this host still has of a server that is to come to it."""
    name, remedy = 'leftovers', 'Run "sxm-manage cleanup" on that host.'
    try:
        record = journal.read(server)
    except exception.NeedsOperator as error:
        yield checks.of_error(name, error)
        return
    directory = os.path.join(CONF.instances_path, server)
    if record is not None and (
        record.committed or record.role is engine_journal.Role.SOURCE
    ):
        yield checks.failed(
            name,
            f'An earlier move of the server ({record.role}, with '
            f'{record.peer}) is not finished there.',
            remedy,
        )
    elif os.path.exists(directory):
        yield checks.failed(
            name,
            f'{directory} is there already, and Nova would refuse it.',
            f'{remedy} If nothing of the server is left then but the '
            'directory, remove it.',
        )
    else:
        yield checks.passed(name, 'Nothing of the server is there.')


def _existing(path: str) -> str:
    """The directory, or the first above it that is there."""
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path
