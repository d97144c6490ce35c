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

"""A lab host: namespaces over an overlay of the rootfs.

A host lives in net, mount, PID, UTS and IPC namespaces of its own.  Its
PID 1 is a shell that made the host's root file system and then reaps;
when that process or its parent ``unshare`` dies, the kernel ends all that
runs in the host, its mounts and its links with it.  That is why nothing
has to be remembered to clean up after a crash.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import time
import typing

from tests.lab import paths
from tests.lab import processes

_OUTER_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: What a host's processes find in their environment.
ENVIRON = {
    "PATH": f"{paths.VENV}/bin:/opt/sxm-site/bin:{_OUTER_PATH}",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "PYTHONWARNINGS": "ignore",
    # The checkout comes first, so that a restarted service runs what is in
    # the work tree; sxm-site gives the entry points.
    "PYTHONPATH": "/opt/sxm:/opt/sxm-site:/etc/lab/mech",
    "OS_PLACEMENT_CONFIG_DIR": "/etc/lab",
}

# PID 1 of a host.  It reports its PID as the outside sees it, which
# /proc/self still shows because that is the machine's procfs, and then
# reaps: libvirt daemonises QEMU.
_INIT = r"""
set -eu
name=$1 state=$2 lower=$3 repo=$4
read -r pid rest < /proc/self/stat
dir=$state/hosts/$name root=$state/hosts/$name/root
mount --make-rprivate /
mount -t overlay overlay \
  -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mkdir -p "$root/dev/shm"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
cd "$root"
mkdir -p var/lib/nova/instances var/log/lab srv/nfs-a srv/nfs-b etc/lab \
  run/lock run/lab opt/sxm opt/sxm-site old
mount --bind "$dir/instances" var/lib/nova/instances
mount --bind "$state/log/$name" var/log/lab
mount --bind "$state/shared/nfs-a" srv/nfs-a
mount --bind "$state/shared/nfs-b" srv/nfs-b
mount --bind "$state/shared/etc" etc/lab
mount --bind "$state/shared/site" opt/sxm-site
mount --bind "$repo" opt/sxm
mount -o remount,bind,ro opt/sxm
hostname "$name"
cp etc/lab/hosts etc/hosts
echo "$name" > etc/hostname
tr -d - < /proc/sys/kernel/random/uuid > etc/machine-id
for knob in proc/sys/net/ipv6/conf/*/disable_ipv6; do
  [ ! -e "$knob" ] || echo 1 > "$knob"
done
pivot_root . old
umount -l /old
cd /
echo "$pid" > /run/lab/init.tmp && mv /run/lab/init.tmp /run/lab/init.pid
echo "$pid" > /etc/lab/pid-$name.tmp
mv /etc/lab/pid-$name.tmp "/etc/lab/pid-$name"
trap : TERM INT HUP
while :; do sleep 3600 & wait $! || :; done
"""


class CommandFailed(paths.LabError):
    """A command in a host ended with another status than 0."""


class CommandTimedOut(CommandFailed):
    """A command in a host was killed because it took too long."""


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """One host of a running lab.

    :ivar plan: name and addresses.
    :ivar state: the lab's state directory.
    :ivar pid: the host's PID 1, as the machine sees it.
    """

    plan: paths.HostPlan
    state: pathlib.Path
    pid: int

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def address(self) -> str:
        """Management address."""
        return self.plan.address

    @property
    def migration_address(self) -> str:
        """Address on the migration network."""
        return self.plan.migration_address

    @property
    def root(self) -> pathlib.Path:
        """The host's root directory, readable from outside.

        Absolute symbolic links below it lead to the machine's own files.
        """
        return pathlib.Path(f"/proc/{self.pid}/root")

    @property
    def log_dir(self) -> pathlib.Path:
        """The services' logs, on the machine."""
        return self.state / "log" / self.name

    @property
    def alive(self) -> bool:
        """Whether the host's PID 1 runs and is this lab's."""
        return processes.mark_of(self.pid) == str(self.state)

    def argv(
        self,
        argv: typing.Sequence[str],
        *,
        environ: typing.Mapping[str, str] | None = None,
        die_with_caller: bool = True,
    ) -> list[str]:
        """The command that runs ``argv`` inside, for subprocess.

        :param environ: added to the host's own environment.
        :param die_with_caller: kill the command when nsenter is killed.
        """
        merged = {**ENVIRON, **(environ or {})}
        tie = ["setpriv", "--pdeathsig", "KILL", "--"]
        return [
            "nsenter",
            "-t",
            str(self.pid),
            "-m",
            "-u",
            "-i",
            "-n",
            "-p",
            "--",
            *(tie if die_with_caller else []),
            "env",
            "-i",
            *(f"{key}={value}" for key, value in merged.items()),
            *argv,
        ]

    def run(
        self,
        argv: typing.Sequence[str],
        check: bool = True,
        timeout: float | None = None,
        input: str | None = None,
        environ: typing.Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host and wait for it.

        :param argv: the command, no shell.
        :param check: raise when it ends with another status than 0.
        :param timeout: seconds; the command is killed after them.
        :returns: with ``stdout`` and ``stderr`` as text.
        :raises CommandFailed: with the end of its error output.
        :raises CommandTimedOut: after ``timeout``.
        """
        try:
            result = subprocess.run(
                self.argv(argv, environ=environ),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                env=self._outer_environ(),
                input=input,
                check=False,
                stdin=subprocess.DEVNULL if input is None else None,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandTimedOut(
                f"on {self.name}, {' '.join(argv)!r} took longer than "
                f"{timeout:.0f} s and was killed"
            ) from error
        if check and result.returncode:
            said = result.stderr.strip() or result.stdout.strip()
            raise CommandFailed(
                f"on {self.name}, {' '.join(argv)!r} ended with "
                f"{result.returncode}: {said[-2000:]}"
            )
        return result

    def shell(self, script: str, **options: typing.Any) -> str:
        """Run a shell script with ``sh -e``; its standard output."""
        return self.run(["sh", "-ec", script], **options).stdout

    def popen(
        self,
        argv: typing.Sequence[str],
        *,
        environ: typing.Mapping[str, str] | None = None,
        **options: typing.Any,
    ) -> subprocess.Popen[typing.Any]:
        """Start a command in the host; killing it kills the command.

        :param options: go to :class:`subprocess.Popen`.
        """
        return subprocess.Popen(
            self.argv(argv, environ=environ),
            env=self._outer_environ(),
            **options,
        )

    def execute(
        self,
        argv: typing.Sequence[str],
        *,
        environ: typing.Mapping[str, str] | None = None,
    ) -> int:
        """Run in the foreground on the caller's terminal; its exit code."""
        status = subprocess.run(
            self.argv(argv, environ=environ),
            env=self._outer_environ(),
            check=False,
        ).returncode
        return status if status >= 0 else 128 - status

    def _outer_environ(self) -> dict[str, str]:
        return {**os.environ, processes.MARK: str(self.state)}


def prepare(state: pathlib.Path, name: str) -> None:
    """Make the directories that a host's mounts need."""
    for part in ("upper", "work", "root", "instances"):
        (state / "hosts" / name / part).mkdir(parents=True, exist_ok=True)
    (state / "log" / name).mkdir(parents=True, exist_ok=True)
    for part in ("etc", "nfs-a", "nfs-b", "site"):
        (state / "shared" / part).mkdir(parents=True, exist_ok=True)
    (state / "shared/etc/hosts").write_text(paths.etc_hosts())


def start(
    state: pathlib.Path,
    plan: paths.HostPlan,
    lower: pathlib.Path,
    timeout_s: float = 20.0,
) -> Host:
    """Start the host's namespaces and wait until its root is made.

    :param lower: the rootfs.
    :raises LabError: PID 1 ended or did not get ready in time.
    """
    prepare(state, plan.name)
    ready = _pid_file(state, plan.name)
    ready.unlink(missing_ok=True)
    log = state / "log" / plan.name / "init.log"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--uts",
                "--ipc",
                "--fork",
                "--kill-child",
                "--",
                "bash",
                "-c",
                _INIT,
                "init",
                plan.name,
                str(state),
                str(lower),
                str(paths.REPO),
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd="/",
            env={"PATH": _OUTER_PATH, processes.MARK: str(state)},
        )
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        found = find(state, plan)
        if found is not None:
            return found
        time.sleep(0.02)
    raise paths.LabError(
        f"host {plan.name} did not come up in {timeout_s:.0f} s: "
        f"{log.read_text(errors='replace').strip() or 'no message'} ({log})"
    )


def find(state: pathlib.Path, plan: paths.HostPlan) -> Host | None:
    """The host if it runs, otherwise None."""
    try:
        pid = int(_pid_file(state, plan.name).read_text())
    except (OSError, ValueError):
        return None
    host = Host(plan, state, pid)
    return host if host.alive else None


def _pid_file(state: pathlib.Path, name: str) -> pathlib.Path:
    return state / "shared" / "etc" / f"pid-{name}"


def proc_dir(host: Host) -> pathlib.Path:
    """The machine's /proc entry of the host's PID 1."""
    return pathlib.Path(f"/proc/{host.pid}")


def run_outside(argv: typing.Sequence[str]) -> None:
    """Run a command on the machine itself.

    :raises CommandFailed: it ended with another status than 0.
    """
    result = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if result.returncode:
        raise CommandFailed(
            f"{' '.join(argv)!r} ended with "
            f"{result.returncode}: {result.stderr.strip()}"
        )
