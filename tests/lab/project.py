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

"""Brings this project into the lab: its entry points and its guest image."""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil

from tests.lab import host as host_mod
from tests.lab import paths
from tests.lab import progress as progress_mod
from tests.lab.guest import build

#: What the metadata of the installed project is made of.
_METADATA_SOURCES = (
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
    "requirements.txt",
)

# The checkout is read-only in the hosts and a build writes beside the
# sources; there is no git in a host, so pbr is told the version.
_INSTALL = f"""
rm -rf /tmp/sxm-build && mkdir /tmp/sxm-build
cd /opt/sxm
tar -cf - --exclude=./.git --exclude=./.tox --exclude=./build \\
  --exclude=./.venv --exclude='*.egg-info' --exclude=__pycache__ . \\
  | tar -xf - -C /tmp/sxm-build
find /opt/sxm-site -mindepth 1 -delete
PBR_VERSION=0.0.1 VIRTUAL_ENV={paths.VENV} uv pip install -q --offline \\
  --no-deps --no-build-isolation --target /opt/sxm-site /tmp/sxm-build
rm -rf /tmp/sxm-build
cd /opt/sxm-site
find . -mindepth 1 -maxdepth 1 ! -name '*.dist-info' ! -name bin \\
  -exec rm -rf {{}} +
"""


def install(ctl: host_mod.Host, progress: progress_mod.Progress) -> None:
    """Make the project's entry points known to Python in every host.

    What an installation adds to the code is kept in the cache: building a
    wheel takes 3 s, copying its metadata nothing.  The code itself is
    always the checkout's, which is on PYTHONPATH.

    :raises CommandFailed: the build's own words.
    """
    if not (paths.REPO / "pyproject.toml").is_file():
        progress.step("no pyproject.toml in the checkout: no entry points")
        return
    site = ctl.state / "shared/site"
    cached = paths.cache_dir() / f"site-{_metadata_hash()}"
    if cached.is_dir():
        shutil.copytree(cached, site, dirs_exist_ok=True)
    else:
        ctl.shell(_INSTALL, timeout=300)
        unfinished = cached.with_name(f"{cached.name}.{os.getpid()}")
        shutil.copytree(site, unfinished)
        try:
            unfinished.rename(cached)
        except OSError:
            # Another lab was quicker; its result is the same.
            shutil.rmtree(unfinished)
    progress.step("the project's entry points are installed")


def _metadata_hash() -> str:
    digest = hashlib.sha256(_INSTALL.encode())
    for name in _METADATA_SOURCES:
        file = paths.REPO / name
        digest.update(name.encode() + b"\0")
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()[:12]


def guest_image(
    rootfs: pathlib.Path, progress: progress_mod.Progress
) -> pathlib.Path:
    """The guest's disk image; built the first time, then cached."""
    with progress.during("guest image"):
        return pathlib.Path(build.build(paths.cache_dir(), rootfs).disk)
