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

"""Fold overlays back into the file below them while the guest runs."""

import time
from typing import Any

import libvirt
from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.hypervisor import blockjob
from sxm_openstack.hypervisor import xml

LOG = logging.getLogger(__name__)

_ABORT_TIMEOUT_S = 10.0


def run(
    domain: Any, target: str, base: str, timeout_s: float, host: str
) -> None:
    """Commit all that lies above ``base`` into it and pivot to it.

    The base is always named: below it there may be a file that belongs to
    others (Nova's image cache).  A commit that an earlier attempt left
    running is taken over.

    Sources: virDomainBlockCommit, virDomainBlockJobAbort with PIVOT.

    :raises MirrorFailed: base is not in the chain, the job failed, or the
        time is over; the guest goes on writing to its overlay.
    :raises libvirt.libvirtError: libvirt refused.
    """
    deadline = time.monotonic() + timeout_s
    current = _disk(domain, target)
    if current.mirror is None and current.source == base:
        settle_persistent(domain, target, base, current.format)
        return
    with blockjob.JobWatch(domain, target) as watch:
        if current.mirror is None:
            _start(domain, current, base, host)
        else:
            _take_over(current, base, host)
        try:
            _pivot_when_ready(domain, target, base, watch, deadline, host)
        except exception.MirrorFailed:
            dismiss(domain, target)
            watch.wait_until(lambda: is_idle(domain, target), _ABORT_TIMEOUT_S)
            raise
    settle_persistent(domain, target, base, _disk(domain, target).format)


def dismiss(domain: Any, target: str) -> None:
    """Tell a block job to end without pivot; no job is fine too.

    Does not wait: a job whose peer is silent would hold the domain's lock.
    """
    try:
        domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (
            libvirt.VIR_ERR_INVALID_ARG,  # no job
            libvirt.VIR_ERR_OPERATION_INVALID,  # is being ended already
        ):
            raise
        LOG.debug('no block job of %s to dismiss: %s', target, error)


def is_idle(domain: Any, target: str) -> bool:
    """Whether the disk has no block job of any kind."""
    return _disk(domain, target).mirror is None and not domain.blockJobInfo(
        target, 0
    )


def _disk(domain: Any, target: str) -> xml.DiskElement:
    return xml.disk(domain.XMLDesc(0), target)


def _start(
    domain: Any, current: xml.DiskElement, base: str, host: str
) -> None:
    if base not in current.backing:
        chain = ' <- '.join((*reversed(current.backing), current.source or ''))
        raise exception.MirrorFailed(
            f'Cannot commit into {base}: it is not in the chain {chain}.',
            host=host,
            disk=current.target,
        )
    domain.blockCommit(
        current.target,
        base,
        None,
        0,
        libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE,
    )


def _take_over(current: xml.DiskElement, base: str, host: str) -> None:
    mirror = current.mirror
    if (
        mirror is not None
        and mirror.job == xml.JOB_COMMIT
        and mirror.source == base
    ):
        LOG.info('taking over the running commit of %s', current.target)
        return
    raise exception.MirrorFailed(
        f'Cannot commit into {base}: another block job '
        f'({mirror.job if mirror else "unknown"}) runs on the disk.',
        host=host,
        disk=current.target,
        remedy='End that job first.',
    )


def _pivot_when_ready(
    domain: Any,
    target: str,
    base: str,
    watch: blockjob.JobWatch,
    deadline: float,
    host: str,
) -> None:
    """Pivot as soon as the job is ready; a job may fall back from ready."""
    while True:
        left_s = deadline - time.monotonic()
        settled = watch.wait_until(
            lambda: _is_settled(domain, target), max(left_s, 0.0)
        )
        current = _disk(domain, target)
        if current.mirror is None:
            break
        if not settled:
            raise exception.MirrorFailed(
                f'The commit into {base} was not ready in time; the disk '
                'still runs on its overlay.',
                host=host,
                disk=target,
            )
        if current.mirror.ready == 'yes' and _pivoted(domain, target):
            current = _disk(domain, target)
            break
    if current.source != base:
        ended = watch.end or 'lost'
        raise exception.MirrorFailed(
            f'The commit into {base} was {ended}: the disk runs on '
            f'{current.source}.',
            host=host,
            disk=target,
        )


def _is_settled(domain: Any, target: str) -> bool:
    """Whether there is something to do: the job is ready, or gone."""
    mirror = _disk(domain, target).mirror
    return mirror is None or mirror.ready == 'yes'


def _pivoted(domain: Any, target: str) -> bool:
    """Ask for the pivot; false if the job was not quite ready after all.

    QEMU lets a job fall back while it writes the last blocks; libvirt says
    *not ready for pivot yet*.
    """
    try:
        domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    except libvirt.libvirtError as error:
        not_ready = libvirt.VIR_ERR_BLOCK_COPY_ACTIVE
        if error.get_error_code() == not_ready or 'not ready' in str(error):
            LOG.debug('commit of %s is not ready yet: %s', target, error)
            time.sleep(blockjob.POLL_S / 4)
            return False
        raise
    return True


def settle_persistent(
    domain: Any, target: str, base: str, driver_format: str
) -> None:
    """See that the next start of a persistent domain uses the base too.

    libvirt follows a commit in the persistent XML only if that named the
    same chain, which it does not after some migrations.
    """
    if not domain.isPersistent():
        return
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
    text = domain.XMLDesc(flags)
    if xml.disk(text, target).source == base:
        return
    LOG.info('persistent XML of %s did not follow to %s', target, base)
    domain.connect().defineXML(
        xml.with_sources(text, {target: base}, driver_format)
    )
