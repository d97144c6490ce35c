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

"""The root file system that every lab host is an overlay of.

Debian trixie by debootstrap, libvirt, QEMU, MariaDB and RabbitMQ from its
packages, OpenStack from PyPI into /opt/os as ``constraints.txt`` pins it.
It is built once a recipe and then only read.
"""

from __future__ import annotations

import collections.abc
import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil

from tests.lab import machine
from tests.lab import paths
from tests.lab import progress as progress_mod

SUITE = "trixie"

#: Raise it when a change below should make machines build anew although
#: neither packages nor steps differ.
RECIPE = "1"


_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

# The chroot must not start daemons, and needs neither documentation nor
# the safety of fsync: a half-built tree is thrown away.
_FILES = {
    "etc/apt/apt.conf.d/99lab": (
        'APT::Install-Recommends "false";\n'
        'Acquire::Languages "none";\n'
        'Acquire::Retries "3";\n'
        'Dpkg::Options {"--force-unsafe-io";};\n'
    ),
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
    "etc/dpkg/dpkg.cfg.d/99lab": (
        "path-exclude /usr/share/doc/*\n"
        "path-exclude /usr/share/man/*\n"
        "path-exclude /usr/share/locale/*\n"
    ),
}

# Services call sudo for their rootwrap; in the lab everything is root.
_SUDO = """#!/bin/sh
while :; do case "$1" in -n|-E|-H|-S) shift;; *) break;; esac; done
exec "$@"
"""

_INSTALL_PYTHON = f"""
python3 -m venv /tmp/uv
/tmp/uv/bin/pip install -q uv
cp /tmp/uv/bin/uv /usr/local/bin/uv
uv venv -q --system-site-packages --python /usr/bin/python3 {paths.VENV}
VIRTUAL_ENV={paths.VENV} uv pip install -q -r /root/constraints.txt
rm -rf /tmp/uv /root/.cache
"""

# Without bytecode in the lower layer, every process of every host would
# compile 385 MB of sources into its own overlay.
_COMPILE = f"""
cd {paths.VENV}/lib/python3*/site-packages
{paths.VENV}/bin/python -m compileall -q -j2 -x /tests/ . >/dev/null || :
"""


def recipe_hash() -> str:
    """Twelve hex digits that change with anything the tree is made of."""
    digest = hashlib.sha256()
    for part in (
        SUITE,
        RECIPE,
        *packages(),
        *_FILES.values(),
        _SUDO,
        _INSTALL_PYTHON,
        _COMPILE,
        constraints_text(),
    ):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:12]


def packages() -> list[str]:
    """The Debian packages of the tree, from ``packages.txt``."""
    text = (pathlib.Path(__file__).parent / "packages.txt").read_text()
    return [
        word
        for line in text.splitlines()
        if not line.startswith("#")
        for word in line.split()
    ]


def constraints_text() -> str:
    """The committed lock of everything from PyPI."""
    return (pathlib.Path(__file__).parent / "constraints.txt").read_text()


def path() -> pathlib.Path:
    """Where the built tree is, or will be."""
    return paths.cache_dir() / f"rootfs-{recipe_hash()}"


def ensure(progress: progress_mod.Progress) -> pathlib.Path:
    """Build the tree unless it is there; one builder at a time.

    :returns: the finished tree's path.
    :raises LabError: a build step failed; the text names its log.
    """
    target = path()
    machine.install_host_tools(progress)
    if target.is_dir():
        return target
    paths.cache_dir().mkdir(parents=True, exist_ok=True)
    with _builder_lock(progress):
        if not target.is_dir():
            _build(target, progress)
    return target


@contextlib.contextmanager
def _builder_lock(
    progress: progress_mod.Progress,
) -> collections.abc.Iterator[None]:
    with open(paths.cache_dir() / "rootfs.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.during("waiting for another builder's rootfs"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(target: pathlib.Path, progress: progress_mod.Progress) -> None:
    tree = target.with_name(target.name + ".building")
    log = target.with_name(target.name + ".log")
    # A crashed build leaves a tree but no mounts: those were made in a
    # mount namespace that died with it.
    if tree.exists():
        shutil.rmtree(tree)
    log.unlink(missing_ok=True)
    with progress.during(f"rootfs: debootstrap {SUITE}"):
        _isolated(
            [
                "debootstrap",
                "--variant=minbase",
                "--include=ca-certificates",
                SUITE,
                str(tree),
                machine.mirror(),
            ],
            log,
        )
    with progress.during(
        f"rootfs: apt install {len(packages())} packages and what they need"
    ):
        for name, text in _FILES.items():
            _write(tree / name, text, 0o755 if "sbin" in name else 0o644)
        shutil.copyfile("/etc/resolv.conf", tree / "etc/resolv.conf")
        if os.path.exists(_CA_BUNDLE):
            # A proxy of the machine may sign with a key of its own.
            shutil.copyfile(_CA_BUNDLE, tree / _CA_BUNDLE.lstrip("/"))
        _chroot(tree, "apt-get update -q", log)
        _chroot(tree, "apt-get install -y -q " + " ".join(packages()), log)
        if os.path.exists(_CA_BUNDLE):
            shutil.copyfile(_CA_BUNDLE, tree / _CA_BUNDLE.lstrip("/"))
        _chroot(tree, "apt-get clean", log)
    with progress.during(f"rootfs: OpenStack into {paths.VENV}"):
        _write(tree / "root/constraints.txt", constraints_text())
        _chroot(tree, _INSTALL_PYTHON, log)
        _write(tree / "usr/bin/sudo", _SUDO, 0o755)
    with progress.during("rootfs: bytecode"):
        _chroot(tree, _COMPILE, log)
    tree.rename(target)
    progress.step(f"rootfs ready: {target}")


def _write(file: pathlib.Path, text: str, mode: int = 0o644) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def _chroot(tree: pathlib.Path, script: str, log: pathlib.Path) -> None:
    _isolated(
        [
            "sh",
            "-ec",
            f'mount -t proc proc "{tree}/proc"; '
            'mount --rbind /dev "$0/dev"; exec chroot "$0" sh -ec "$1"',
            str(tree),
            script,
        ],
        log,
    )


# A builder that is killed takes its command along: nobody writes into the
# tree any more when the next one begins.  What the command mounted and
# started ends with its namespaces.
_ISOLATION = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--"),
)


def _isolated(argv: list[str], log: pathlib.Path) -> None:
    """Run argv so that neither its mounts nor its children outlive it."""
    machine.run_logged([*_ISOLATION, *argv], log, _build_environ())


def _build_environ() -> dict[str, str]:
    environ = {
        "PATH": machine.PATH,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "SSL_CERT_FILE": _CA_BUNDLE,
        "PIP_CERT": _CA_BUNDLE,
    }
    for name, value in os.environ.items():
        if name.lower().endswith("_proxy") or name in (
            "PIP_INDEX_URL",
            "UV_DEFAULT_INDEX",
            "UV_INDEX_URL",
        ):
            environ[name] = value
    index = machine.pip_index()
    if index:
        environ.setdefault("PIP_INDEX_URL", index)
    if "PIP_INDEX_URL" in environ:
        environ.setdefault("UV_DEFAULT_INDEX", environ["PIP_INDEX_URL"])
    return environ
