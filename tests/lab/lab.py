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

"""The lab as an object: what the command line and the tests use.

::

    lab = Lab()
    lab.up(hosts_only=True)
    one, two = lab.host("compute1"), lab.host("compute2")
    lab.link("20mbps")
    one.run(["virsh", "list"])
    lab.down()
"""

from __future__ import annotations

import collections.abc
import contextlib
import fcntl
import functools
import hashlib
import json
import pathlib
import time
import typing

from tests.lab import cloud as cloud_mod
from tests.lab import configuration
from tests.lab import host as host_mod
from tests.lab import hypervisor
from tests.lab import network
from tests.lab import openstack
from tests.lab import parallel
from tests.lab import paths
from tests.lab import pki
from tests.lab import processes
from tests.lab import progress as progress_mod
from tests.lab import project
from tests.lab import rootfs
from tests.lab import services


class Lab:
    """One lab; several may run at once with different state directories.

    :param state: state directory; ``SXM_LAB_STATE`` or its default if
        None.
    :param progress: where it says what it does; quiet if None.
    """

    def __init__(
        self,
        state: pathlib.Path | None = None,
        progress: progress_mod.Progress | None = None,
    ) -> None:
        self.state = (state or paths.state_dir()).resolve()
        self._progress = progress or progress_mod.Progress(quiet=True)

    # -- up and down ------------------------------------------------------

    def up(
        self,
        hosts_only: bool = False,
        computes: int | None = None,
        stock: collections.abc.Iterable[str] = (),
        nova_conf: str = "",
        fresh: bool = False,
    ) -> None:
        """Bring the lab up; blocks until it can be used.

        A lab that runs already and was asked for in the same way is kept;
        any other, also what a crash left, is taken down first.

        :param hosts_only: libvirt on two hosts and no OpenStack.
        :param computes: how many compute hosts; only with ``hosts_only``
            another number than all of them.
        :param stock: compute hosts that run Nova's own driver and binary.
        :param nova_conf: text appended to every compute's nova.conf.
        :param fresh: do not keep a running lab.
        :raises LabError: with the log to look into; what runs by then is
            left for looking at, ``down`` removes it.
        """
        count = computes or (2 if hosts_only else len(paths.COMPUTES))
        if not hosts_only and count != len(paths.COMPUTES):
            raise paths.LabError(
                "the number of compute hosts can be chosen "
                "for a lab without OpenStack only: add "
                "--hosts"
            )
        plans = paths.COMPUTES[:count]
        choices = configuration.Choices(frozenset(stock), nova_conf)
        lower = rootfs.ensure(self._progress)
        wanted = {
            "mode": "hosts" if hosts_only else "openstack",
            "computes": [plan.name for plan in plans],
            "rootfs": str(lower),
            "stock": sorted(choices.stock),
            "nova_conf": hashlib.sha256(nova_conf.encode()).hexdigest(),
        }
        with self._lock():
            if not fresh and self._runs_as(wanted):
                self._progress.step(
                    "the lab is up already; `up --fresh` starts anew, "
                    "`restart HOST SERVICE` loads changed code"
                )
                return
            self._down(keep_logs=False)
            self._save(dict(wanted, ready=False))
            ctl, *hosts = self._start_hosts(plans, lower)
            # The computes get ready while the databases are filled.
            libvirt = functools.partial(self._start_computes, ctl, hosts)
            if hosts_only:
                libvirt()
            else:
                cloud = cloud_mod.Cloud(
                    ctl,
                    hosts,
                    self.state / "shared/etc",
                    choices,
                    self._progress,
                )
                image, *_ = parallel.run(
                    [
                        lambda: project.guest_image(lower, self._progress),
                        libvirt,
                        cloud.start_databases,
                    ]
                )
                self._start_openstack(cloud, image)
            self._save(dict(self._read(), ready=True))
            self._progress.step("the lab is up")

    def _start_hosts(
        self,
        plans: collections.abc.Sequence[paths.HostPlan],
        lower: pathlib.Path,
    ) -> list[host_mod.Host]:
        """All namespaces and their links; not libvirt."""
        etc = self.state / "shared/etc"
        host_mod.prepare(self.state, paths.CTL)
        configuration.write(
            etc,
            {
                "hosts": paths.etc_hosts(),
                "tapwatch.sh": configuration.render("tapwatch.sh"),
                "mount.nfs": configuration.render("mount.nfs"),
            },
        )
        hosts = [
            host_mod.start(self.state, plan, lower)
            for plan in (paths.plan_of(paths.CTL), *plans)
        ]
        ctl, *computes = hosts
        network.make_bridges(ctl)
        for compute in computes:
            network.connect(ctl, compute)
        self._progress.step("hosts: " + " ".join(host.name for host in hosts))
        return hosts

    def _start_computes(
        self, ctl: host_mod.Host, computes: list[host_mod.Host]
    ) -> None:
        authority = pki.Authority(self.state / "ca")
        parallel.run(
            [
                functools.partial(hypervisor.start, compute, authority)
                for compute in computes
            ]
        )
        self._progress.step("libvirt answers on every compute host")
        project.install(ctl, self._progress)

    def _start_openstack(
        self, cloud: cloud_mod.Cloud, image: pathlib.Path
    ) -> None:
        cloud.start_services()
        parallel.run([cloud.map_hosts, lambda: cloud.make_resources(image)])
        cloud.wait_for_reports()

    def down(self, keep_logs: bool = True) -> None:
        """Take the lab down, and prove that nothing is left of it.

        Safe to call when no lab runs and after a crash.

        :param keep_logs: leave the services' logs in ``STATE/log``.
        :raises LabError: a process, mount or link is left; names it.
        """
        with self._lock():
            self._down(keep_logs)
        self._progress.step("the lab is down; nothing of it is left")

    def _down(self, keep_logs: bool) -> None:
        deadline = time.monotonic() + 30
        while True:
            # PID 1 of a host takes its processes, mounts and links along.
            # Again and again, as one may have forked when it was listed.
            processes.kill(
                {
                    *processes.marked_pids(self.state),
                    *processes.members(self.state),
                }
            )
            left = self._leftovers()
            if not left:
                break
            if time.monotonic() > deadline:
                raise paths.LabError(
                    "the lab is not down after 30 s, these are left: "
                    + "; ".join(left)
                    + ". A process that SIGKILL does not "
                    "end hangs in the kernel: see its /proc/PID/stack"
                )
            time.sleep(0.1)
        processes.wipe(self.state, keep_logs)

    def _leftovers(self) -> list[str]:
        found = [
            f"process {pid}"
            for pid in sorted(
                {
                    *processes.marked_pids(self.state),
                    *processes.members(self.state),
                }
            )
        ]
        mounts = pathlib.Path("/proc/self/mountinfo").read_text()
        found += [
            f"mount {line.split()[4]}"
            for line in mounts.splitlines()
            if line.split()[4].startswith(f"{self.state}/")
        ]
        found += [
            f"link {link.name}"
            for link in pathlib.Path("/sys/class/net").iterdir()
            if link.name.startswith(("v-compute", "m-compute"))
            or link.name
            in (paths.BRIDGE, paths.MIGRATION_BRIDGE, paths.MIGRATION_LINK)
        ]
        return found

    # -- what runs --------------------------------------------------------

    def host(self, name: str) -> host_mod.Host:
        """A running host.

        :raises LabError: no such host, or it does not run.
        """
        found = host_mod.find(self.state, paths.plan_of(name))
        if found is None:
            raise paths.LabError(
                f"lab host {name} does not run (state in {self.state}): "
                "start the lab with `python3 -m tests.lab up`"
            )
        return found

    def hosts(self) -> list[host_mod.Host]:
        """Every running host; empty if the lab is down."""
        found = (host_mod.find(self.state, plan) for plan in paths.HOSTS)
        return [host for host in found if host is not None]

    def status(self) -> dict[str, typing.Any]:
        """What runs, as plain data for JSON.

        ``ready``: ``up`` came to its end, and all that it started runs.

        ``{"state_dir", "mode": "hosts" | "openstack" | None, "ready",
        "missing": [name], "hosts": {name: {"pid", "address",
        "migration_address", "cell",
        "services": {name: {"state", "pid"}}}},
        "links": {"everywhere": rate, "between": {"A B": rate}}}``
        """
        shape = self._shape()
        record = self._read()
        hosts = self.hosts()
        names = {host.name for host in hosts}
        expected = [paths.CTL, *record.get("computes", ())] if names else []
        return {
            "state_dir": str(self.state),
            "mode": record.get("mode") if hosts else None,
            "ready": self._is_whole(record),
            "missing": [name for name in expected if name not in names],
            "hosts": {
                host.name: {
                    "pid": host.pid,
                    "address": host.address,
                    "migration_address": host.migration_address,
                    "cell": host.plan.cell,
                    "services": services.states(host),
                }
                for host in hosts
            },
            "links": {
                "everywhere": str(shape.everywhere),
                "between": {
                    " ".join(pair): str(rate) for pair, rate in shape.between
                },
            },
        }

    def openstack(self, *args: str) -> typing.Any:
        """Run ``openstack ARGS`` as administrator; parsed JSON or None.

        :raises CommandFailed: with what the command said.
        """
        return openstack.client(self.host(paths.CTL), args)

    # -- the migration network --------------------------------------------

    def link(self, rate: str, between: tuple[str, str] | None = None) -> None:
        """Shape the migration network.

        :param rate: see :func:`tests.lab.network.parse_rate`.
        :param between: two hosts; all if None.
        """
        shape = self._shape().changed(network.parse_rate(rate), between)
        for name in between or ():
            self.host(name)
        for host in self.hosts():
            host.shell(network.tc_script(shape, host.plan))
        self._save(
            dict(
                self._read(),
                shape=[
                    str(shape.everywhere),
                    [[*pair, str(each)] for pair, each in shape.between],
                ],
            )
        )

    def link_bytes(self, name: str) -> int:
        """Bytes that a host has sent over the migration network so far."""
        return network.tx_bytes(self.host(name))

    def _shape(self) -> network.Shape:
        everywhere, between = self._read().get("shape", ("off", ()))
        shape = network.Shape(network.parse_rate(everywhere))
        for first, second, rate in between:
            shape = shape.changed(network.parse_rate(rate), (first, second))
        return shape

    # -- state on disk ----------------------------------------------------

    def _runs_as(self, wanted: dict[str, typing.Any]) -> bool:
        record = self._read()
        same = all(record.get(key) == each for key, each in wanted.items())
        return same and self._is_whole(record)

    def _is_whole(self, record: dict[str, typing.Any]) -> bool:
        """Whether ``up`` came to its end and all that it started runs."""
        if not record.get("ready"):
            return False
        hosts = {host.name: host for host in self.hosts()}
        return all(
            name in hosts
            and all(
                each["state"] == services.RUNNING
                for each in services.states(hosts[name]).values()
            )
            for name in (paths.CTL, *record["computes"])
        )

    @contextlib.contextmanager
    def _lock(self) -> collections.abc.Iterator[None]:
        """One ``up`` or ``down`` of this lab at a time."""
        self.state.parent.mkdir(parents=True, exist_ok=True)
        with open(
            self.state.with_name(self.state.name + ".lock"), "w"
        ) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with self._progress.during(
                    "waiting for another up or down of this lab"
                ):
                    fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> dict[str, typing.Any]:
        try:
            record = json.loads((self.state / "lab.json").read_text())
        except (OSError, ValueError):
            # Absent, or cut short by a crash: there is nothing to keep.
            return {}
        return record if isinstance(record, dict) else {}

    def _save(self, record: dict[str, typing.Any]) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        unfinished = self.state / "lab.json.tmp"
        unfinished.write_text(json.dumps(record, indent=1))
        unfinished.rename(self.state / "lab.json")
