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

"""Transfer drivers by name, from the entry points ``sxm.transfer``."""

from typing import Any

from stevedore import driver as stevedore_driver
from stevedore import exception as stevedore_exception

from sxm_openstack import exception
from sxm_openstack.transfer import base

NAMESPACE = 'sxm.transfer'


def load(name: str, settings: base.Settings) -> base.TransferDriver:
    """Driver of that name.

    :raises PreCheckFailed: there is none.
    """
    try:
        manager: stevedore_driver.DriverManager[Any] = (
            stevedore_driver.DriverManager(
                NAMESPACE, name, invoke_on_load=True, invoke_args=(settings,)
            )
        )
    except stevedore_exception.NoMatches as error:
        raise exception.PreCheckFailed(
            f'There is no transfer driver {name}.',
            remedy=f'Set [sxm] transfer_driver to one of the entry points '
            f'{NAMESPACE}.',
        ) from error
    loaded = manager.driver
    if not isinstance(loaded, base.TransferDriver):
        raise exception.PreCheckFailed(
            f'Transfer driver {name} is a {type(loaded).__name__}, which is '
            'none.',
            remedy='Ask whoever made it for a version that fits this one.',
        )
    return loaded
