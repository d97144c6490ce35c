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

"""Bring a disk back into its one ordinary file, whatever was on top.

The same act ends a move on either side: on the source it undoes the
overlays, on the destination it flattens them once the guest has arrived.

An overlay is deleted only when its content is known to be in the ordinary
file, or when it never had any.
"""

from collections.abc import Callable
from collections.abc import Iterable
import logging

from sxm_openstack import exception
from sxm_openstack.engine import disk as engine_disk
from sxm_openstack.engine import ports
from sxm_openstack.storage import drivers

LOG = logging.getLogger(__name__)

_ON = (ports.DomainState.RUNNING, ports.DomainState.PAUSED)
_OFF = (ports.DomainState.SHUTOFF, ports.DomainState.ABSENT)
_FOLD_BYTES_PER_S = 8 << 20


def settle(
    domain: ports.Domain,
    disk: engine_disk.Disk,
    timeout_s: float,
    files: ports.Overlays | None = None,
) -> None:
    """Fold all overlays of a disk into its file and delete them.

    Idempotent.  With the guest running it is an active commit that the
    guest does not notice; with the guest off it is ``qemu-img commit``.

    :param files: storage of the disk, by default the driver of its format.
    :raises MirrorFailed: the commit did not end in time, or the guest is
        about to come in or to go; nothing is lost and nothing was deleted.
    :raises NeedsOperator: an overlay holds data of which nobody knows
        whether the disk has them.
    """
    files = files or drivers.load(disk.format)
    fold(domain, disk, timeout_s, files)
    remove_overlays(disk, files)


def fold(
    domain: ports.Domain,
    disk: engine_disk.Disk,
    timeout_s: float,
    files: ports.Overlays,
) -> None:
    """The first half of :func:`settle`: only the deleting is left to do.

    Whoever knows that it succeeded must not call it again: then an overlay
    that holds data is one that nobody has accounted for.
    """
    state = domain.state()
    if state in _ON:
        _fold_live(domain, disk, timeout_s, files)
    elif state in _OFF:
        _fold_offline(domain, disk, state, files)
    else:
        raise exception.MirrorFailed(
            f'The guest is {state}: the overlays of {disk.target} are in '
            'use and cannot be folded now.',
            disk=disk.target,
        )


def settle_all(
    domain: ports.Domain,
    disks: Iterable[engine_disk.Disk],
    timeout_s: float,
    storage: Callable[[str], ports.Overlays] = drivers.load,
) -> None:
    """Settle every disk, going on past one that fails.

    :param storage: storage of a disk, by its format.
    :raises NeedsOperator: some disks could not be settled; their overlays
        are kept.
    """
    failures: list[Exception] = []
    for disk in disks:
        try:
            files = storage(disk.format)
            if not disk.read_only and not is_settled(disk, files):
                settle(domain, disk, timeout_s, files)
        except Exception as error:
            LOG.exception('Disk %s keeps its overlays', disk.target)
            if isinstance(error, exception.SXMError):
                error.locate(disk=disk.target)
            failures.append(error)
    if failures:
        raise exception.NeedsOperator(
            '; '.join(str(error) for error in failures),
            remedy='No overlay that holds data was deleted; it is tried '
            'again when nova-compute starts.',
        ) from ExceptionGroup('settle', failures)


def remove_overlays(
    disk: engine_disk.Disk, files: ports.Overlays | None = None
) -> None:
    """Delete the overlays' files; nothing may run on them any more."""
    files = files or drivers.load(disk.format)
    for path in overlay_paths(disk):
        files.remove(path)


def is_settled(
    disk: engine_disk.Disk, files: ports.Overlays | None = None
) -> bool:
    """Whether no overlay of the disk is left on this host."""
    files = files or drivers.load(disk.format)
    return not any(files.exists(path) for path in overlay_paths(disk))


def overlay_paths(disk: engine_disk.Disk) -> tuple[str, str]:
    """Overlays of the disk from the top down, made or not."""
    return disk.handover_path, disk.overlay_path


def fold_time_s(disk: engine_disk.Disk, files: ports.Overlays) -> float:
    """Time to allow for folding what the overlays hold by now, seconds."""
    held = sum(files.occupied_bytes(path) for path in overlay_paths(disk))
    return held / _FOLD_BYTES_PER_S


def _fold_live(
    domain: ports.Domain,
    disk: engine_disk.Disk,
    timeout_s: float,
    files: ports.Overlays,
) -> None:
    was_on_base = domain.source_path(disk.target) == disk.path
    try:
        domain.commit(disk.target, disk.path, timeout_s)
    except exception.SXMError as error:
        # A failed call is no verdict: ask what is true.
        if domain.source_path(disk.target) != disk.path:
            raise
        LOG.warning('%s was folded all the same: %s', disk.target, error)
    if not was_on_base:
        return
    for path in _with_data(disk, files):
        # Folded by someone who died before deleting it, most likely.  Or
        # the guest was started on the ordinary file without asking: then
        # this is the only copy of its newest writes.
        LOG.error(
            '%s runs on its ordinary file, and %s holds data: kept as %s',
            disk.target,
            path,
            files.set_aside(path),
        )


def _fold_offline(
    domain: ports.Domain,
    disk: engine_disk.Disk,
    state: ports.DomainState,
    files: ports.Overlays,
) -> None:
    """An overlay that was made and never used folds to nothing.

    Folding an overlay that was folded before would bring old content back
    if the guest has run on its ordinary file since.
    """
    holding = _with_data(disk, files)
    if holding and state is ports.DomainState.SHUTOFF:
        top = domain.source_path(disk.target)
        if top not in overlay_paths(disk):
            raise exception.NeedsOperator(
                f'The guest is off and {disk.target} is {top}, but '
                f'{", ".join(holding)} holds data.',
                disk=disk.target,
                remedy='Compare the two before the server is started: fold '
                'the overlay with "qemu-img commit" if it is the newer one, '
                'move it away otherwise.',
            )
    for path in overlay_paths(disk):
        if files.exists(path):
            LOG.info('Folding %s with the guest off', path)
            files.fold(path)
    if state is ports.DomainState.SHUTOFF:
        # A snapshot is in its definition, too.
        domain.define_source(disk.target, disk.path, disk.format)


def _with_data(disk: engine_disk.Disk, files: ports.Overlays) -> list[str]:
    return [
        path
        for path in overlay_paths(disk)
        if files.exists(path) and files.holds_data(path)
    ]
