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

"""The version of this package, as its installation recorded it."""

from importlib import metadata

PACKAGE = 'sxm-openstack'


def version_string() -> str:
    """Version of the installed package, for example ``1.2.0``.

    :raises importlib.metadata.PackageNotFoundError: the package was imported
        from a directory that was never installed.
    """
    return metadata.version(PACKAGE)
