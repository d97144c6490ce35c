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

"""From Cinder's configuration to what the layers below take."""

import hashlib
import os

from oslo_config import cfg

from sxm_openstack.conf import sxm_volume
from sxm_openstack.transfer import base as transfer_base

CONF = cfg.CONF


def register() -> None:
    """Add group ``[sxm_volume]`` to Cinder's options.  Idempotent."""
    sxm_volume.register_opts(CONF)


def state_dir(host: str) -> str:
    """Directory of one backend: backends of a host are processes of their
    own and must not end each other's programs.

    :param host: ``host@backend``; only a digest of it goes into the path,
        which has to be short.
    """
    name = hashlib.blake2b(host.encode(), digest_size=4).hexdigest()
    return os.path.join(CONF.sxm_volume.state_dir, name)


def transfer_settings() -> transfer_base.Settings:
    """What the copier takes."""
    return transfer_base.Settings(
        helper_python=CONF.sxm_volume.helper_python,
        copy_connections=CONF.sxm_volume.copy_connections,
    )


def rate_bytes_per_s() -> int:
    """Limit of a copy as of now; 0 is none."""
    return int(CONF.sxm_volume.max_rate_mib_per_s) << 20
