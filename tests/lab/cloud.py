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

"""Brings OpenStack up on hosts that run already.

The order is said here, and what it depends on where that is not plain;
with what each service is started is in :mod:`tests.lab.roster`.
"""

from __future__ import annotations

import pathlib
import shutil
import typing

from tests.lab import configuration
from tests.lab import database
from tests.lab import host as host_mod
from tests.lab import openstack
from tests.lab import paths
from tests.lab import progress as progress_mod
from tests.lab import roster
from tests.lab import services

_CTL = paths.plan_of(paths.CTL).address

# Glance, nova-api and placement ignore what uwsgi passes on and read their
# usual places.
_CTL_SETUP = f"""
mkdir -p /var/lib/glance/images /var/lib/glance/staging \\
  /var/lib/glance/tasks /var/lib/neutron /var/lib/cinder /var/lib/lab \\
  /var/lock/lab /etc/neutron /etc/placement /etc/glance /etc/nova
ln -sf /etc/lab/mount.nfs /usr/sbin/mount.nfs
ln -sf /etc/lab/placement.conf /etc/placement/placement.conf
ln -sf /etc/lab/glance.conf /etc/glance/glance-api.conf
ln -sf /etc/lab/nova.conf /etc/nova/nova.conf
ln -sf {paths.VENV}/etc/nova/api-paste.ini /etc/nova/
ln -sf {paths.VENV}/etc/glance/glance-api-paste.ini /etc/glance/
"""


class Cloud:
    """The steps of bringing OpenStack up.

    :param ctl: the control host.
    :param computes: the compute hosts, with libvirt running or about to.
    :param etc: /etc/lab of all hosts, as the machine sees it.
    """

    def __init__(
        self,
        ctl: host_mod.Host,
        computes: typing.Sequence[host_mod.Host],
        etc: pathlib.Path,
        choices: configuration.Choices,
        progress: progress_mod.Progress,
    ) -> None:
        self._ctl = ctl
        self._computes = computes
        self._etc = etc
        self._choices = choices
        self._progress = progress

    def start_databases(self) -> None:
        """Message broker, databases (from the seed or not) and Keystone."""
        configuration.write(self._etc, configuration.files(self._choices))
        self._ctl.shell(_CTL_SETUP)
        # The broker is the slowest to get ready and the last to be needed.
        services.start(self._ctl, roster.RABBITMQ)
        with self._progress.during("MariaDB"):
            database.start(self._ctl)
        seed = database.seed_path()
        if database.load_seed(self._ctl, self._etc):
            self._progress.step(f"databases loaded from {seed}")
            self._start_apis("keystone")
            return
        with self._progress.during("schemas (only the first time)"):
            database.make_schemas(self._ctl, self._progress)
        self._start_apis("keystone")
        fill = ["python", "-m", "tests.lab.inside.catalog"]
        self._ctl.run(fill, timeout=300)
        database.save_seed(self._ctl, self._etc)
        self._progress.step(f"users and catalog made, seed kept in {seed}")

    def start_services(self) -> None:
        """Everything else, until each API answers."""
        self._wait_for_rabbitmq()
        for name in roster.WORKERS:
            services.start(self._ctl, roster.worker_service(name))
        # nova-compute ends for good if placement does not answer.
        self._start_apis("placement")
        for host in self._computes:
            service = roster.compute_service(host.plan, self._choices)
            services.start(host, service)
        self._start_apis("neutron", "nova-api", "glance", "cinder-api")

    def _wait_for_rabbitmq(self) -> None:
        services.wait_ready(
            self._ctl,
            roster.RABBITMQ.name,
            lambda: f"{_CTL}:5672" in self._ctl.run(["ss", "-ltn"]).stdout,
            timeout_s=120,
        )
        self._progress.step("  rabbitmq listens")

    def _start_apis(self, *names: str) -> None:
        for name in names:
            services.start(self._ctl, roster.api_service(name))
        for name in names:
            self._wait_for_api(name)

    def _wait_for_api(self, name: str) -> None:
        ask = ["curl", "-s", "-m", "5", "-o", "/dev/null"]
        ask.append(roster.url_of(name))
        services.wait_ready(
            self._ctl,
            name,
            lambda: not self._ctl.run(ask, check=False).returncode,
            timeout_s=180,
        )
        self._progress.step(f"  {name} answers")

    def map_hosts(self) -> None:
        """Wait for every compute node's record and map it to its cell."""
        with self._progress.during("compute nodes"):
            for host in self._computes:
                self._wait_for_row(
                    host,
                    "nova-compute",
                    f"nova_{host.plan.cell}.compute_nodes where "
                    f"host='{host.name}'",
                )
            discover = ["nova-manage", "--config-file", "/etc/lab/nova.conf"]
            discover += ["cell_v2", "discover_hosts"]
            self._ctl.run(discover, timeout=120)

    def wait_for_reports(self) -> None:
        """Until each nova-compute and volume backend has reported itself.

        Before that the schedulers take them for down.
        """
        for host in self._computes:
            self._wait_for_row(
                host,
                "nova-compute",
                f"nova_{host.plan.cell}.services where host='{host.name}' "
                "and report_count > 0 and deleted = 0",
            )
        for backend in ("nfsa", "nfsb"):
            self._wait_for_row(
                self._ctl,
                "cinder-volume",
                f"cinder.services where host='ctl@{backend}' "
                "and report_count > 0 and deleted = 0",
            )

    def _wait_for_row(
        self, host: host_mod.Host, service: str, where: str
    ) -> None:
        sql = f"select count(*) from {where}"
        services.wait_ready(
            host,
            service,
            lambda: int(database.query(self._ctl, sql)) > 0,
            timeout_s=180,
        )

    def make_resources(self, image: pathlib.Path) -> None:
        """Flavors, network, volume types and the guest's image.

        :param image: the guest's disk, raw or qcow2.
        """
        with open(image, "rb") as file:
            kind = "qcow2" if file.read(4) == b"QFI\xfb" else "raw"
        shutil.copyfile(image, self._etc / "guest.img")
        make = ["python", "-m", "tests.lab.inside.resources"]
        make += ["/etc/lab/guest.img", kind]
        self._ctl.run(make, environ=openstack.ADMIN, timeout=300)
        self._progress.step("flavors, network, volume types, image")
