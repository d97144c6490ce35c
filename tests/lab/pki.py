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

"""Certificates for tests and for the lab, made by openssl(1).

The standard library cannot make any, and the lab runs under an interpreter
that has nothing else.
"""

from __future__ import annotations

import collections.abc
import ipaddress
import pathlib
import subprocess

_DAYS = "30"


class Authority:
    """A certificate authority of its own.

    :param directory: where it keeps its certificate and key; made anew.
    """

    def __init__(self, directory: pathlib.Path, name: str = "lab") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.certificate = directory / "ca-cert.pem"
        self._key = directory / "ca-key.pem"
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-nodes", "-days", _DAYS),
            *("-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-subj", f"/CN={name} authority"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", self._key, "-out", self.certificate),
        )

    def issue(
        self,
        directory: pathlib.Path,
        names: collections.abc.Sequence[str],
        sides: collections.abc.Sequence[str] = ("server", "client"),
    ) -> pathlib.Path:
        """Fill a directory as ``/etc/pki/qemu`` is filled on a host.

        :param names: DNS names and addresses; the first is the common name.
            Without a second one that is all there is.
        """
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "ca-cert.pem").write_bytes(self.certificate.read_bytes())
        for side in sides:
            self._issue(directory, side, names)
        return directory

    def _issue(
        self,
        directory: pathlib.Path,
        side: str,
        names: collections.abc.Sequence[str],
    ) -> None:
        key = directory / f"{side}-key.pem"
        request = directory / f"{side}-request.pem"
        extensions = directory / f"{side}-extensions"
        _openssl(
            *("req", "-new", "-newkey", "ec", "-nodes"),
            *("-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-subj", f"/CN={names[0]}", "-keyout", key, "-out", request),
        )
        lines = [f"extendedKeyUsage={side}Auth"]
        if len(names) > 1:
            alternatives = ",".join(map(_alternative, names))
            lines.append(f"subjectAltName={alternatives}")
        extensions.write_text("\n".join(lines) + "\n")
        _openssl(
            *("x509", "-req", "-in", request, "-days", _DAYS),
            *("-CA", self.certificate, "-CAkey", self._key),
            *("-set_serial", str(abs(hash((str(directory), side))))),
            *("-extfile", extensions),
            *("-out", directory / f"{side}-cert.pem"),
        )
        request.unlink()
        extensions.unlink()


def _alternative(name: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


def _openssl(*arguments: str | pathlib.Path) -> None:
    """:raises RuntimeError: it failed; with what it said."""
    done = subprocess.run(
        ["openssl", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr.strip()}")
