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

"""Removes what is left of moves, as far as nothing can be lost by it."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import pathlib
from typing import Protocol

from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import ports
from sxm_openstack.hypervisor import xml
from sxm_openstack.mirror import settle
from sxm_openstack.mirror import traces as mirror_traces
from sxm_openstack.storage import drivers

LOG = logging.getLogger(__name__)

Kind = mirror_traces.Kind
_MARK = '.sxm-'
_ANY_FORMAT = 'qcow2'
"""Overlays are of this format, whatever lies below them."""


class Domain(ports.Domain, Protocol):
    """The domain on this host, with its disks."""

    def disks(self) -> Sequence[xml.DiskElement]: ...


class Clearer:
    """Removes files, sockets and processes of one host.

    :param runtime: directory of a server's sockets and processes.
    :param end_transfer: ends whatever belongs to such a directory.
    :param files: storage of a disk, by its format.
    """

    def __init__(
        self,
        domain: Callable[[str], Domain],
        runtime: Callable[[str], str],
        end_transfer: Callable[[str], None],
        files: Callable[[str], ports.Overlays] = drivers.load,
    ) -> None:
        self._domain = domain
        self._runtime = runtime
        self._end_transfer = end_transfer
        self._files = files

    def drop(self, record: engine_journal.Record) -> None:
        """The guest has gone: its overlays are of no use here.

        The ordinary files are Nova's to delete.
        """
        self._end_transfer(record.runtime)
        for disk in record.disks:
            settle.remove_overlays(disk, self._files(disk.format))

    def clear(
        self,
        server: str,
        traces: Iterable[mirror_traces.Trace],
        timeout_s: float,
    ) -> None:
        """Remove traces that no record tells of.

        :raises NeedsOperator: a file holds data of which nobody knows
            whether the disk has them; everything else was done.
        """
        found = list(traces)
        if any(each.kind in (Kind.RUNTIME, Kind.PROCESS) for each in found):
            self._end_transfer(self._runtime(server))
        for each in found:
            if each.kind is Kind.JOURNAL:
                # A lock goes with whoever holds it: that is the caller.
                pathlib.Path(each.name).unlink(missing_ok=True)
        paths = [each.name for each in found if each.kind is Kind.FILE]
        kept = self._clear_files(server, paths, timeout_s)
        if kept:
            raise exception.NeedsOperator(
                f'Kept: {", ".join(kept)}, which may hold what a guest '
                'wrote last.',
                remedy='Compare each with the disk below it: fold it with '
                '"qemu-img commit" if it is the newer one, and move it away '
                'otherwise.',
            )

    def _clear_files(
        self, server: str, paths: Sequence[str], timeout_s: float
    ) -> list[str]:
        """Fold or remove overlays; those that are kept."""
        domain = self._domain(server)
        targets: dict[str, str] = {}
        if paths and domain.state() is not ports.DomainState.ABSENT:
            targets = {
                _ordinary(disk.source): disk.target
                for disk in domain.disks()
                if disk.source
            }
        for path in sorted({_ordinary(path) for path in paths}):
            if path in targets:
                disk = engine_disk.Disk(targets[path], path, _ANY_FORMAT, 0)
                settle.settle(
                    domain, disk, timeout_s, self._files(_ANY_FORMAT)
                )
        return [path for path in paths if not self._removed(path)]

    def _removed(self, path: str) -> bool:
        """Remove a file that holds nothing; whether there is none now."""
        files = self._files(_ANY_FORMAT)
        if not files.exists(path):
            return True
        is_overlay = path.endswith(('.sxm-overlay', '.sxm-handover'))
        is_unfinished = path.endswith('.sxm-new')
        if is_unfinished or (is_overlay and not files.holds_data(path)):
            LOG.info('Removing %s', path)
            files.remove(path)
            return True
        return False


def _ordinary(path: str) -> str:
    """The disk's ordinary file that an overlay belongs to."""
    head, _, name = path.rpartition('/')
    return f'{head}/{name.partition(_MARK)[0]}'
