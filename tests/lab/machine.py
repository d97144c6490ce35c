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

"""What the lab takes from the machine: tools, mirror, package index."""

from __future__ import annotations

import configparser
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import urllib.request

from tests.lab import paths
from tests.lab import progress as progress_mod

#: Packages that the machine itself must have to build and run a lab.
HOST_TOOLS = {
    "debootstrap": "debootstrap",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
}

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def install_host_tools(progress: progress_mod.Progress) -> None:
    """apt-install on this machine the tools that it lacks.

    :raises LabError: apt failed, or this is not run as root.
    """
    if os.geteuid() != 0:
        raise paths.LabError(
            "the lab needs root (namespaces, mounts, "
            "debootstrap): run it as root"
        )
    missing = sorted(
        {
            package
            for tool, package in HOST_TOOLS.items()
            if not shutil.which(tool, path=PATH)
        }
    )
    if not missing:
        return
    # The keyring of a machine that was not updated may lack the key of
    # the suite that the lab takes.
    missing.append("debian-archive-keyring")
    log = paths.cache_dir() / "host-tools.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with progress.during("apt on this machine: " + " ".join(missing)):
        environ = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        run_logged(["apt-get", "update", "-q"], log, environ)
        run_logged(
            [
                "apt-get",
                "install",
                "-y",
                "-q",
                "--no-install-recommends",
                *missing,
            ],
            log,
            environ,
        )


def run_logged(
    argv: list[str], log: pathlib.Path, environ: dict[str, str]
) -> None:
    """Run a command with its output appended to a log.

    :raises LabError: it failed; with the end of the log.
    """
    with open(log, "ab") as out:
        out.write(f"\n$ {' '.join(argv)}\n".encode())
        out.flush()
        result = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environ,
            check=False,
        )
    if result.returncode:
        tail = log.read_text(errors="replace").splitlines()[-8:]
        raise paths.LabError(
            f"{argv[0]} ended with {result.returncode}; see {log}. Its last "
            "lines:\n  " + "\n  ".join(tail)
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """One archive of apt's sources."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]


def mirror() -> str:
    """The Debian mirror that this machine's own apt is configured with.

    :raises LabError: apt's sources name no Debian archive.
    """
    root = pathlib.Path("/etc/apt")
    files = [root / "sources.list", *sorted(root.glob("sources.list.d/*"))]
    codename = _codename()
    candidates = [
        source.uri
        for file in files
        if file.is_file()
        for source in parse_sources(file.read_text())
        if codename in source.suites and "main" in source.components
    ]
    for uri in dict.fromkeys(candidates):
        if _is_debian(uri, codename):
            return uri
    raise paths.LabError(
        f"none of {root}'s sources is Debian's own archive with the suite "
        f"{codename!r} ({', '.join(candidates) or 'no candidate'}), so the "
        "lab does not know which mirror to use: add one to apt's sources"
    )


def _is_debian(uri: str, codename: str) -> bool:
    """Whether an archive is Debian's, not somebody's with such a suite."""
    try:
        with urllib.request.urlopen(
            f"{uri.rstrip('/')}/dists/{codename}/Release", timeout=30
        ) as release:
            head = release.read(2000).decode(errors="replace")
    except OSError:
        return False
    return re.search(r"^Origin: Debian$", head, re.M) is not None


def _codename() -> str:
    text = pathlib.Path("/etc/os-release").read_text()
    found = re.search(r'^VERSION_CODENAME="?([\w-]+)', text, re.M)
    return found.group(1) if found else "stable"


def parse_sources(text: str) -> list[Source]:
    """Read apt sources of either format (deb822 or one line each)."""
    found = []
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)", line)
        if match:
            uri, suite, components = match.groups()
            found.append(Source(uri, (suite,), tuple(components.split())))
    for stanza in re.split(r"\n\s*\n", text):
        fields = {
            name: value.split()
            for name, value in re.findall(
                r"^(\w[\w-]*):[ \t]*(.*)$", stanza, re.M
            )
        }
        if "deb" in fields.get("Types", []):
            found += [
                Source(
                    uri,
                    tuple(fields.get("Suites", [])),
                    tuple(fields.get("Components", [])),
                )
                for uri in fields.get("URIs", [])
            ]
    return found


def pip_index() -> str | None:
    """The package index that the machine's pip is configured to use."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(
        [
            "/etc/pip.conf",
            os.path.expanduser("~/.pip/pip.conf"),
            os.path.expanduser("~/.config/pip/pip.conf"),
        ]
    )
    return parser.get("global", "index-url", fallback=None)
