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

"""Check which module may import what: the layers of the project.

::

    engine <- hypervisor, transfer, storage, mapping <- mirror <- rpc
           <- nova, cinder, osc, cmd

Imports go to the left only; packages of one layer do not import each other,
except for what :data:`LAYERS` names.  The same table says which packages of
others a part may import: a new dependency is a line here, and so is visible
in review.

::

    python -m tools.check_layers [DIRECTORY]

prints one line for each import that breaks a rule; the exit code is 1 if
there is one, and 2 if there was nothing to check.  Imports anywhere in a
file count, also those in functions and for type checking only.
"""

import ast
from collections.abc import Iterator
import dataclasses
import pathlib
import sys

PACKAGE = 'sxm_openstack'


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """What one part of the package may import, besides itself.

    :param parts: parts of this package.
    :param others: top-level packages of others; the standard library is
        always allowed.
    """

    parts: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()


def _layer(parts: str = '', others: str = '') -> Layer:
    return Layer(frozenset(parts.split()), frozenset(others.split()))


_ADAPTERS = 'engine hypervisor transfer storage mapping mirror'

LAYERS = {
    '': _layer(),
    'exception': _layer(),
    'version': _layer(),
    'conf': _layer('', 'oslo_config'),
    # Runs as root: the less it is made of, the better.
    'privileged': _layer('conf exception', 'oslo_config oslo_privsep'),
    'engine': _layer('exception', 'oslo_utils'),
    'hypervisor': _layer(
        'engine exception', 'libvirt lxml oslo_log oslo_utils'
    ),
    # The relay runs as a program of its own, by an interpreter that has
    # nothing of this package: there its directory is the package `relay`.
    'transfer': _layer(
        'engine exception', 'nbd oslo_log oslo_utils relay stevedore'
    ),
    'storage': _layer('engine exception', 'oslo_log oslo_utils stevedore'),
    'mapping': _layer('engine exception', 'oslo_log oslo_utils stevedore'),
    'mirror': _layer(
        'engine exception hypervisor transfer storage mapping',
        'oslo_log oslo_utils stevedore',
    ),
    'rpc': _layer(
        f'{_ADAPTERS} exception', 'oslo_log oslo_messaging oslo_utils'
    ),
    'nova': _layer(
        f'{_ADAPTERS} rpc conf exception privileged version',
        'nova libvirt lxml os_vif oslo_config oslo_log oslo_messaging '
        'oslo_utils',
    ),
    'cinder': _layer(
        f'{_ADAPTERS} rpc conf exception version',
        'cinder oslo_config oslo_log oslo_messaging oslo_utils',
    ),
    'osc': _layer(
        'engine exception version', 'cliff openstack osc_lib oslo_utils'
    ),
    # The commands start something of the layers below and decide nothing;
    # Nova and Cinder are reached through their own packages only.
    'cmd': _layer(
        f'{_ADAPTERS} rpc conf exception version nova cinder',
        'oslo_config oslo_log oslo_utils',
    ),
}
"""The rules; the key is a module or package right below the package."""

# A greenlet library that patches the standard library: nowhere, whatever
# the table says.
FORBIDDEN = frozenset({'eventlet', 'greenlet'})

_DYNAMIC = frozenset({'__import__', 'import_module', 'import_module_ns'})


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """An import that breaks a rule."""

    path: pathlib.Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f'{self.path}:{self.line}: {self.reason}'


def _from_targets(node: ast.ImportFrom, module: str) -> Iterator[str]:
    """Dotted names that ``from ... import ...`` may load.

    :param module: dotted name of the package that the file is in.
    """
    base = node.module or ''
    if node.level:
        kept = module.split('.')[: len(module.split('.')) - node.level + 1]
        base = '.'.join([*kept, base] if base else kept)
    if base == PACKAGE:
        # ``from package import part`` loads the part.
        yield from (f'{base}.{alias.name}' for alias in node.names)
    else:
        yield base


def imported(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports.

    ``importlib.import_module`` counts where the name is a literal.

    :param module: dotted name of the package that the file is in.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            for target in _from_targets(node, module):
                yield node.lineno, target
        elif isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, 'attr', getattr(node.func, 'id', None))
            name = node.args[0]
            if (
                called in _DYNAMIC
                and isinstance(name, ast.Constant)
                and isinstance(name.value, str)
            ):
                yield node.lineno, name.value


def _objection(part: str, target: str) -> str | None:
    """Why ``part`` must not import ``target``, or ``None``."""
    top, _, below = target.partition('.')
    if top in FORBIDDEN:
        return f'{top} is not imported anywhere in this project'
    layer = LAYERS[part]
    if top == PACKAGE:
        other = below.partition('.')[0]
        if other in ('', part) or other in layer.parts:
            return None
        return f'{part or PACKAGE} must not import {target}'
    if top in sys.stdlib_module_names or top in layer.others:
        return None
    return f'{part or PACKAGE} must not import {top}'


def check_file(root: pathlib.Path, path: pathlib.Path) -> Iterator[Finding]:
    """Findings in one file.

    :param root: directory of the package.
    """
    names = path.relative_to(root).with_suffix('').parts
    part = '' if names == ('__init__',) else names[0]
    if part not in LAYERS:
        yield Finding(path, 1, f'{part} is not in the table of layers')
        return
    tree = ast.parse(path.read_text(), filename=str(path))
    module = '.'.join([PACKAGE, *names[:-1]])
    for line, target in imported(tree, module):
        reason = _objection(part, target)
        if reason:
            yield Finding(path, line, reason)


def check(root: pathlib.Path) -> list[Finding]:
    """Findings in every file of a package."""
    return [
        finding
        for path in sorted(root.rglob('*.py'))
        for finding in check_file(root, path)
    ]


def main(arguments: list[str]) -> int:
    """Check a package, by default the project's; return the exit code."""
    root = pathlib.Path(*arguments or [PACKAGE])
    if not (root / '__init__.py').exists():
        print(f'{root} is no package: run this at the top of the project')
        return 2
    findings = check(root)
    for finding in findings:
        print(finding)
    return int(bool(findings))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
