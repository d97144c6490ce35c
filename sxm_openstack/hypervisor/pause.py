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

"""Letting a guest that was stopped for a moment go on."""

from collections.abc import Callable
import time
from typing import Any

import libvirt
from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.hypervisor import errors

LOG = logging.getLogger(__name__)

_RESUME_TIMEOUT_S = 10.0
_AGAIN_AFTER_S = 0.05


def resume(lookup: Callable[[], Any], uuid: str, host: str) -> None:
    """Let the guest go on, trying again while that may help.

    :param lookup: gives the ``virDomain`` as of now.
    :param uuid: of the domain, for messages; ``host`` as well.
    :raises NeedsOperator: it stays stopped.
    """
    deadline = time.monotonic() + _RESUME_TIMEOUT_S
    while True:
        try:
            lookup().resume()
            return
        except libvirt.libvirtError as error:
            if time.monotonic() < deadline and not errors.is_absent(error):
                LOG.warning(
                    'cannot resume domain %s, trying again: %s', uuid, error
                )
                time.sleep(_AGAIN_AFTER_S)
                continue
            raise exception.NeedsOperator(
                f'The guest {uuid} was paused for the hand-over and cannot '
                f'be resumed: libvirt says: {error}',
                host=host,
                remedy=f'Run "virsh resume {uuid}" on this host.',
            ) from error
