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

"""Lets Nova find our compute driver.

Nova loads ``compute_driver`` from below ``nova.virt`` alone.  A finder makes
the name ``nova.virt.sxm`` mean :mod:`sxm_openstack.nova.driver`; no file of
Nova is touched, and nothing is imported before Nova asks for it.
"""

from collections.abc import Sequence
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types

_ALIAS = 'nova.virt.sxm'
_DRIVER = 'sxm_openstack.nova.driver'


class _AliasFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and loads exactly one name."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _ALIAS:
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def create_module(
        self, spec: importlib.machinery.ModuleSpec
    ) -> types.ModuleType:
        return importlib.import_module(_DRIVER)

    def exec_module(self, module: types.ModuleType) -> None:
        """The module was executed under its own name."""


def install() -> None:
    """Make ``compute_driver = sxm.SXMLibvirtDriver`` work.  Idempotent."""
    if not any(isinstance(finder, _AliasFinder) for finder in sys.meta_path):
        sys.meta_path.append(_AliasFinder())
