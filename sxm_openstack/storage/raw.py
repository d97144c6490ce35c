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

"""Raw files: Nova's ``images_type = raw`` or ``flat``."""

from sxm_openstack.storage import base
from sxm_openstack.storage import image


class RawStorage(base.StorageDriver):
    """A sparse file whose bytes are the disk's."""

    format = 'raw'

    def refuse(self, info: image.ImageInfo) -> str | None:
        return None
