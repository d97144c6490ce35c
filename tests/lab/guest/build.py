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

"""Build the lab guest: Debian's cloud kernel, busybox and the workload.

The same kernel and initial RAM disk come as a disk image that a BIOS
boots (for Glance) and as two files (for libvirt's direct kernel boot).
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess

from tests.lab import paths

SOURCES = pathlib.Path(__file__).parent

#: What the guest's kernel is started with. Under TCG all that it leaves
#: out counts: with these it executes a third less until it is up, and a
#: ``reliable`` TSC is cheap to read, which every write does twice.
CMDLINE = (
    "console=ttyS0 quiet loglevel=2 panic=1 net.ifnames=0 mitigations=off "
    "tsc=reliable no_timer_check nokaslr init_on_alloc=0 nowatchdog "
    "cryptomgr.notests rcupdate.rcu_expedited=1 transparent_hugepage=never "
    "audit=0 apparmor=0 ipv6.disable=1 random.trust_cpu=1 "
    "raid=noautodetect 8250.nr_uarts=1"
)

#: Size of the bootable image; the workload never writes below it.
DISK_BYTES = 40 << 20

_CFLAGS = (
    "-std=gnu11",
    "-O2",
    "-static",
    "-pthread",
    "-Wall",
    "-Wextra",
    "-Werror",
)

# The rootfs is only read: what apt and syslinux write goes to a tmpfs, and
# that and every mount end with the private mount namespace.
_IN_OVERLAY = r"""
set -eu
rootfs=$1 work=$2 cmdline=$3
mount --make-rprivate /
mount -t tmpfs tmpfs "$work/top"
mkdir "$work/top/upper" "$work/top/work" "$work/top/root"
mount -t overlay overlay "$work/top/root" \
  -o "lowerdir=$rootfs,upperdir=$work/top/upper,workdir=$work/top/work"
cd "$work/top/root"
mount -t proc proc proc
mount --rbind /dev dev
mkdir -p build
mount --bind "$work/build" build
cp -L /etc/resolv.conf etc/resolv.conf
exec chroot . sh /build/assemble.sh /build "$cmdline"
"""


class GuestBuildError(paths.LabError):
    """A step of the build failed; the text has the end of its output."""


@dataclasses.dataclass(frozen=True, slots=True)
class GuestImage:
    """The built guest.

    :ivar disk: raw image, :data:`DISK_BYTES` long, boots by BIOS.
    :ivar kernel: for direct boot, together with ``initrd``.
    :ivar cmdline: kernel parameters for direct boot; add ``sxm.ip=``.
    """

    disk: pathlib.Path
    kernel: pathlib.Path
    initrd: pathlib.Path
    cmdline: str = CMDLINE


def build(cache_dir: pathlib.Path, rootfs: pathlib.Path) -> GuestImage:
    """Return the guest image, built if its inputs changed.

    The kernel's version is no input: it is what the archive had when the
    image was built. One builder runs at a time.

    :param cache_dir: images stay in ``guest-HASH`` in it.
    :param rootfs: a lab rootfs (Debian with busybox-static, syslinux,
        mtools, dosfstools, xz-utils); it is only read.
    :raises GuestBuildError: the compiler, apt or syslinux failed.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    target = cache_dir / f"guest-{_input_hash(rootfs)}"
    with _lock(cache_dir / "guest.lock"):
        if not target.is_dir():
            _build(target, rootfs)
    return GuestImage(
        target / "disk.img", target / "vmlinuz", target / "initrd"
    )


def ensure_compiler() -> None:
    """Install gcc with apt if this machine has none.

    :raises GuestBuildError: apt failed.
    """
    if shutil.which("gcc") and pathlib.Path("/usr/include/stdio.h").exists():
        return
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-q"], environ)
    _run(
        ["apt-get", "install", "-y", "-q", "--no-install-recommends",
         "gcc", "libc6-dev"],
        environ,
    )  # fmt: skip


def compile_workload(output: pathlib.Path) -> None:
    """Compile the workload program, static, with the machine's gcc.

    :raises GuestBuildError: it does not compile.
    """
    ensure_compiler()
    sources = sorted(str(path) for path in SOURCES.glob("*.c"))
    _run(["gcc", *_CFLAGS, *sources, "-o", str(output)])


def _input_hash(rootfs: pathlib.Path) -> str:
    digest = hashlib.sha256(" ".join((CMDLINE, *_CFLAGS)).encode())
    inputs = [
        *SOURCES.glob("*.[ch]"),
        SOURCES / "init",
        SOURCES / "assemble.sh",
        pathlib.Path(__file__),
        rootfs / "usr/bin/busybox",
    ]
    for path in sorted(inputs):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _build(target: pathlib.Path, rootfs: pathlib.Path) -> None:
    work = target.with_suffix(".building")
    shutil.rmtree(work, ignore_errors=True)
    (work / "build").mkdir(parents=True)
    (work / "top").mkdir()
    try:
        for name in ("init", "assemble.sh"):
            shutil.copy(SOURCES / name, work / "build" / name)
        compile_workload(work / "build" / "workload")
        _run(
            [
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--",
                "sh",
                "-c",
                _IN_OVERLAY,
                "sh",
                str(rootfs),
                str(work),
                CMDLINE,
            ]
        )
        result = work / "result"
        result.mkdir()
        for name in ("disk.img", "vmlinuz", "initrd"):
            (work / "build" / name).rename(result / name)
        result.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run(
    argv: collections.abc.Sequence[str],
    environ: collections.abc.Mapping[str, str] | None = None,
) -> None:
    result = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        env=environ,
    )
    if result.returncode:
        said = (result.stdout + result.stderr).strip()
        raise GuestBuildError(
            f"{argv[0]} ended with {result.returncode} while the lab's guest "
            f"was built: {said[-2000:]}"
        )


@contextlib.contextmanager
def _lock(path: pathlib.Path) -> collections.abc.Iterator[None]:
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
