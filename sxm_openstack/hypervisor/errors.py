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

"""The one place where libvirt's errors become this project's."""

from collections.abc import Iterator
import contextlib

import libvirt

from sxm_openstack import exception

_UNREACHABLE = frozenset(
    {
        libvirt.VIR_ERR_NO_CONNECT,
        libvirt.VIR_ERR_INVALID_CONN,
        libvirt.VIR_ERR_RPC,
    }
)
_UNREACHABLE_IN_RPC = frozenset(
    {libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_SYSTEM_ERROR}
)


def is_absent(error: libvirt.libvirtError) -> bool:
    """Whether libvirt says that there is no such domain."""
    return bool(error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)


def is_lost_connection(error: libvirt.libvirtError) -> bool:
    """Whether the daemon could not be asked; says nothing of the domain.

    A socket that is closed under a call or cannot be opened is reported as
    an internal or system error of the RPC code.
    """
    code = error.get_error_code()
    return code in _UNREACHABLE or (
        code in _UNREACHABLE_IN_RPC
        and error.get_error_domain() == libvirt.VIR_FROM_RPC
    )


@contextlib.contextmanager
def translated(
    doing: str,
    failure: type[exception.SXMError],
    *,
    host: str,
    disk: str | None = None,
) -> Iterator[None]:
    """Wrap what libvirt raises inside, once, with host, disk and cause.

    :param doing: what was being done, ``start the mirror``.
    :param failure: class to raise when libvirt refused, could not be asked,
        or knows no such domain.
    """
    try:
        yield
    except libvirt.libvirtError as error:
        if is_absent(error):
            raise failure(
                f'Cannot {doing}: libvirt knows no such domain on this host.',
                host=host,
                disk=disk,
                remedy='Ask both hosts where the server runs.',
            ) from error
        remedy = None
        if is_lost_connection(error):
            remedy = 'See that libvirtd runs on this host, then ask again.'
        raise failure(
            f'Cannot {doing}: libvirt says: {error}',
            host=host,
            disk=disk,
            remedy=remedy,
        ) from error
