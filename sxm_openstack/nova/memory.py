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

"""Ends a migration of memory that libvirt has under way.

One request is not enough: with two or more disks in the mirror phase,
libvirt 11.3 dismisses one block job and waits for the other for ever; the
next request releases it.
"""

from collections.abc import Callable
from typing import Any

import libvirt
from oslo_log import log as logging

from sxm_openstack.engine import clock as engine_clock
from sxm_openstack.hypervisor import errors

LOG = logging.getLogger(__name__)

_EVERY_S = 1.0


def stop(
    lookup: Callable[[], Any], timeout_s: float, clock: engine_clock.Clock
) -> bool:
    """Abort until the domain has no job, or has gone.

    :param lookup: gives the ``virDomain`` on the source.
    :returns: whether it ended in time.
    """
    deadline = clock.now() + timeout_s
    while abort(lookup):
        if clock.now() > deadline:
            return False
        clock.sleep(_EVERY_S)
    return True


def abort(lookup: Callable[[], Any]) -> bool:
    """Ask once for the end of the job.

    :returns: whether there was a job, or it could not be told.
    """
    try:
        domain = lookup()
        if not has_job(domain):
            return False
        LOG.info('Aborting the migration of the memory')
        domain.abortJob()
    except libvirt.libvirtError as error:
        if errors.is_absent(error):
            return False
        LOG.warning('The migration cannot be aborted yet: %s', error)
    return True


def has_job(domain: Any) -> bool:
    """Whether libvirt migrates, saves or dumps the domain right now.

    :raises libvirt.libvirtError: it cannot be asked, or is absent.
    """
    job_type: int = domain.jobStats().get('type', libvirt.VIR_DOMAIN_JOB_NONE)
    return job_type in (
        libvirt.VIR_DOMAIN_JOB_BOUNDED,
        libvirt.VIR_DOMAIN_JOB_UNBOUNDED,
    )
