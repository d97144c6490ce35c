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

"""Storage drivers by name, from the entry points ``sxm.storage``."""

from typing import Any

from stevedore import driver as stevedore_driver
from stevedore import exception as stevedore_exception
from stevedore import extension as stevedore_extension

from sxm_openstack import exception
from sxm_openstack.storage import base

NAMESPACE = 'sxm.storage'


def names() -> list[str]:
    """Formats for which there is a driver."""
    return sorted(stevedore_extension.ExtensionManager(NAMESPACE).names())


def load(image_format: str) -> base.StorageDriver:
    """Driver for a format of a disk's file.

    :raises UnsupportedServer: there is none.
    """
    try:
        manager: Any = stevedore_driver.DriverManager(
            NAMESPACE, image_format, invoke_on_load=True
        )
    except stevedore_exception.NoMatches as error:
        raise exception.UnsupportedServer(
            f'No storage driver moves disks of format {image_format}.',
            remedy=f'Install one in the entry points {NAMESPACE}.',
        ) from error
    loaded: base.StorageDriver = manager.driver
    return loaded
