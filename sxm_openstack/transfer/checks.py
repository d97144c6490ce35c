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

"""Checks of what the NBD transfer needs on a host.  They change nothing."""

from collections.abc import Iterator
import os
import shutil
import socket
import subprocess

from sxm_openstack import exception
from sxm_openstack.engine import checks
from sxm_openstack.transfer import greeting

_PROGRAMS = 'qemu-img', 'qemu-storage-daemon'
_TIMEOUT_S = 20.0
_CONNECT_TIMEOUT_S = 5.0
_RUNTIME_PATH_BYTES = 80
_UUID_BYTES = 36


def programs() -> Iterator[checks.Check]:
    """QEMU's tools are there."""
    for name in _PROGRAMS:
        path = shutil.which(name)
        if path is None:
            yield checks.failed(
                'programs',
                f'There is no {name} in PATH.',
                'Install the package of your distribution that has it '
                '(qemu-utils, qemu-system-common).',
            )
        else:
            yield checks.passed('programs', f'{name} is {path}.')


def helper(python: str) -> checks.Check:
    """The interpreter of the copier knows libnbd."""
    name = 'helper-python'
    try:
        done = subprocess.run(
            [python, '-I', '-c', 'import nbd; print(nbd.__version__)'],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return checks.failed(
            name,
            f'{python} does not run: {error}.',
            'Set [sxm] helper_python to the Python of the distribution.',
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ['no reason'])[-1]
        return checks.failed(
            name,
            f'{python} cannot import nbd: {reason}.',
            'Install python3-libnbd, or set [sxm] helper_python to an '
            'interpreter that has it.',
        )
    return checks.passed(name, f'{python} has libnbd {done.stdout.strip()}.')


def runtime(directory: str) -> checks.Check:
    """Sockets can be made below the directory."""
    name = 'runtime-dir'
    if len(os.fsencode(directory)) + 1 + _UUID_BYTES > _RUNTIME_PATH_BYTES:
        return checks.failed(
            name,
            f'The path {directory} is too long for sockets.',
            'Set [sxm] runtime_dir to a path of at most '
            f'{_RUNTIME_PATH_BYTES - 1 - _UUID_BYTES} bytes.',
        )
    return writable(name, directory, 'Check [sxm] runtime_dir.')


def certificates(directory: str | None) -> checks.Check:
    """There is what TLS between the hosts needs, for either side."""
    name = 'tls'
    if directory is None:
        return checks.warned(
            name,
            'Disks go over the network without encryption.',
            'Set [sxm] tls = required on all hosts.',
        )
    try:
        for server_side in (True, False):
            greeting.check_files(directory, server_side)
    except exception.PreCheckFailed as error:
        return checks.of_error(name, error)
    return checks.passed(name, f'{directory} has certificates and keys.')


def writable(name: str, directory: str, remedy: str) -> checks.Check:
    """The directory is there or can be made, and can be written to."""
    existing = directory
    while not os.path.lexists(existing) and os.path.dirname(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        return checks.failed(name, f'{existing} is no directory.', remedy)
    if not os.access(existing, os.W_OK | os.X_OK):
        return checks.failed(name, f'{existing} is not writable.', remedy)
    return checks.passed(name, f'{directory} can be written to.')


def listening(address: str, port_range: range) -> checks.Check:
    """The host has the address, and a port of the range is free on it."""
    name = 'migration-address'
    reason = 'no port'
    for port in port_range:
        try:
            family = socket.getaddrinfo(address, port)[0][0]
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address, port))
        except OSError as error:
            reason = str(error)
            continue
        return checks.passed(name, f'Port {port} of {address} is free.')
    return checks.failed(
        name,
        f'No port {port_range[0]} to {port_range[-1]} can be had on '
        f'{address}: {reason}.',
        'Set [sxm] my_migration_address to an address of this host, or '
        'widen [sxm] port_range.',
    )


def reachable(address: str, port: int) -> checks.Check:
    """The other host answers at its address, be it by a refusal.

    Nothing listens there between moves.  A firewall that refuses in place
    of dropping is not noticed.
    """
    name = 'reachable'
    try:
        socket.create_connection((address, port), _CONNECT_TIMEOUT_S).close()
    except ConnectionRefusedError:
        pass
    except OSError as error:
        return checks.failed(
            name,
            f'{address} does not answer at port {port}: {error}.',
            'Check the migration network, [sxm] my_migration_address there, '
            'and the firewalls for [sxm] port_range.',
        )
    return checks.passed(name, f'{address} answers at port {port}.')
