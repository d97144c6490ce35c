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

"""Starts programs that need Nova, with what it takes to import it."""

import importlib
from typing import Any

from sxm_openstack import exception


def run_compute() -> None:
    """Run nova-compute; arguments and exit code are Nova's own."""
    # Before any other module of Nova: this one settles how Nova runs its
    # threads, and refuses to be late.
    from nova.cmd import compute

    # isort: split
    from nova import rpc

    from sxm_openstack.nova import loader

    loader.install()
    # Before the transport is made, which keeps the list as it is then.
    rpc.add_extra_exmods('sxm_openstack.exception')
    compute.main()


def console() -> Any:
    """Module :mod:`.console`, in a process that has nothing of Nova yet.

    :raises PreCheckFailed: the configuration cannot be read.
    """
    # Before any other module of Nova: it refuses to be imported in part.
    from nova import monkey_patch

    # isort: split
    from oslo_config import cfg

    try:
        # Looks into the files of the command line itself.
        monkey_patch.patch(backend='threading')
    except cfg.Error as error:
        raise exception.PreCheckFailed(
            f'The configuration cannot be read: {error}',
            remedy='Name the nova.conf of nova-compute with --config-file.',
        ) from error
    return importlib.import_module('sxm_openstack.nova.console')
