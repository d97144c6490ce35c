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

"""Starts a program of this directory: ``python3 -I program.py NAME ...``.

The programs run under interpreters that have nothing of this package
installed: the relay because it outlives the service that started it, the
copier and the digest because libnbd's bindings come with the distribution's
own Python.  They use the standard library (and ``nbd``), run with
Python >= 3.9, and import each other by their full names.
What they need to know comes on standard input; the arguments only tell in a
list of processes whose they are.
"""

import importlib
import pathlib
import sys
import types

PROGRAMS = {
    'relay': 'relay.cli',
    'copier': 'copier.cli',
    'digest': 'digest',
}


def command(python: str, name: str) -> list[str]:
    """Argument list that starts a program under an interpreter."""
    return [python, '-I', __file__, name]


def isolate() -> None:
    """Make the full names importable, but run no code of the packages.

    This directory itself must not be in the path: its ``nbd`` is not the
    library.
    """
    here = pathlib.Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if path != str(here)]
    for name, path in (
        ('sxm_openstack', here.parent),
        ('sxm_openstack.transfer', here),
    ):
        package = types.ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in PROGRAMS:
        print(f'usage: program.py {"|".join(PROGRAMS)} ...', file=sys.stderr)
        return 2
    isolate()
    name = f'sxm_openstack.transfer.{PROGRAMS[arguments[0]]}'
    return int(importlib.import_module(name).main(arguments[1:]))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
