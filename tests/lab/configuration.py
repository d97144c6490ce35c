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

"""Renders every service's configuration into /etc/lab of all hosts.

The templates are in ``config/``; ``$name`` in them is filled in here.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import pathlib
import string
import typing
import uuid

from tests.lab import paths

_TEMPLATES = pathlib.Path(__file__).parent / "config"

STOCK_DRIVER = "libvirt.LibvirtDriver"
SXM_DRIVER = "sxm.SXMLibvirtDriver"

#: The databases, in the order in which the seed has them.
DATABASES = (
    "keystone",
    "glance",
    "placement",
    "neutron",
    "cinder",
    "nova_api",
    "nova_cell0",
    *(f"nova_{cell}" for cell in paths.CELLS),
)

#: The vhosts of the message broker; cell0's also carries what is no cell's.
VHOSTS = ("/", "cell0", *paths.CELLS)

_CTL = paths.plan_of(paths.CTL).address

_LABTAP_DIST = "mech/labtap-1.0.dist-info"

# Requests of a service for a user, and requests that need a service role.
_SEND_TOKEN = "send_service_user_token = true\n"
_NEED_ROLE = (
    "service_token_roles = service\nservice_token_roles_required = true\n"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Choices:
    """What a user may choose about the cloud.

    :ivar stock: compute hosts that run Nova's own driver and binary.
    :ivar nova_conf: text appended to every compute's nova.conf.
    """

    stock: frozenset[str] = frozenset()
    nova_conf: str = ""

    def __post_init__(self) -> None:
        computes = {plan.name for plan in paths.COMPUTES}
        unknown = self.stock - computes
        if unknown:
            raise paths.LabError(
                f"{', '.join(sorted(unknown))}: no such compute host; "
                f"choose from {', '.join(sorted(computes))}"
            )


def launcher_exists() -> bool:
    """Whether this checkout has the project's compute launcher."""
    return (paths.REPO / "sxm_openstack/cmd/nova_compute.py").is_file()


def runs_stock(name: str, choices: Choices) -> bool:
    """Whether a compute host runs Nova's own driver and binary."""
    return name in choices.stock or not launcher_exists()


def render(template: str, **values: str) -> str:
    """Fill in one template.

    :raises KeyError: the template asks for a value that is not given.
    """
    text = (_TEMPLATES / template).read_text()
    return string.Template(text).substitute(
        ctl=_CTL, venv=paths.VENV, bridge=paths.BRIDGE, **values
    )


def database_url(name: str) -> str:
    """How services reach a database; MariaDB listens in ctl only."""
    return f"mysql+pymysql://root@127.0.0.1/{name}?charset=utf8"


def transport_url(vhost: str) -> str:
    """How services reach a cell's message queue."""
    return f"rabbit://lab:lab@{_CTL}:5672/{vhost}"


def nova(cell: str, address: str) -> str:
    """What every Nova service of a cell has in common."""
    return "\n".join(
        [
            render(
                "nova.conf", address=address, transport=transport_url(cell)
            ),
            _authtoken("keystone_authtoken", _NEED_ROLE),
            _authtoken("service_user", _SEND_TOKEN),
            _authtoken("placement"),
            _authtoken("neutron"),
            _authtoken("cinder", "os_region_name = RegionOne\n"),
        ]
    )


def nova_compute(plan: paths.HostPlan, choices: Choices) -> str:
    """The nova.conf of one compute host."""
    driver = STOCK_DRIVER if runs_stock(plan.name, choices) else SXM_DRIVER
    return "\n".join(
        [
            nova(plan.cell, plan.address),
            render(
                "nova-compute.conf",
                name=plan.name,
                compute_driver=driver,
                migration_address=plan.migration_address,
            ),
            choices.nova_conf,
        ]
    )


def files(choices: Choices) -> dict[str, str]:
    """Every file of /etc/lab: name -> content."""
    found = {
        "keystone.conf": render("keystone.conf") + _common("keystone"),
        "placement.conf": render(
            "placement.conf", database=database_url("placement")
        )
        + _authtoken("keystone_authtoken"),
        "glance.conf": render("glance.conf")
        + _authtoken("keystone_authtoken")
        + _common("glance"),
        "neutron.conf": render(
            "neutron.conf", transport=transport_url("cell0")
        )
        + _authtoken("keystone_authtoken")
        + _authtoken("nova")
        + _authtoken("placement")
        + _common("neutron"),
        "nova.conf": nova("cell0", _CTL)
        + _database("api_database", "nova_api")
        + _database("database", "nova_cell0"),
        "cinder.conf": render("cinder.conf", transport=transport_url("cell0"))
        + _authtoken("keystone_authtoken", _NEED_ROLE)
        + _authtoken("service_user", _SEND_TOKEN)
        + _authtoken("nova", "interface = public\n")
        + _common("cinder"),
        "cinder-rootwrap.conf": render("cinder-rootwrap.conf"),
        "shares-a": "ctl:/srv/nfs-a\n",
        "shares-b": "ctl:/srv/nfs-b\n",
        "openrc": render("openrc"),
        "rabbitmq.conf": render("rabbitmq.conf"),
        "rabbit.json": rabbit_definitions(),
        "mount.nfs": render("mount.nfs"),
        "tapwatch.sh": render("tapwatch.sh"),
        # What makes Neutron find the labtap driver; no pip needed.
        f"{_LABTAP_DIST}/METADATA": render("labtap-metadata"),
        f"{_LABTAP_DIST}/entry_points.txt": render("labtap-entry-points"),
    }
    for cell in paths.CELLS:
        found[f"nova-{cell}.conf"] = nova(cell, _CTL) + _database(
            "database", f"nova_{cell}"
        )
    for plan in paths.COMPUTES:
        found[f"nova-{plan.name}.conf"] = nova_compute(plan, choices)
    return found


def libvirt_files(plan: paths.HostPlan) -> dict[str, str]:
    """The libvirt configuration of one compute host."""
    return {
        "qemu.conf": render(
            "qemu.conf", migration_address=plan.migration_address
        ),
        "libvirtd.conf": render("libvirtd.conf", host_uuid=str(uuid.uuid4())),
    }


def write(etc: pathlib.Path, content: typing.Mapping[str, str]) -> None:
    """Write files below a directory; scripts become executable."""
    for name, text in content.items():
        file = etc / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        if text.startswith("#!"):
            file.chmod(0o755)


def rabbit_definitions() -> str:
    """RabbitMQ's users and vhosts, so that no rabbitmqctl call is needed."""
    salt = b"\1\2\3\4"
    digest = base64.b64encode(salt + hashlib.sha256(salt + b"lab").digest())
    return json.dumps(
        {
            "users": [
                {
                    "name": "lab",
                    "password_hash": digest.decode(),
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": ["administrator"],
                }
            ],
            "vhosts": [{"name": name} for name in VHOSTS],
            "permissions": [
                {
                    "user": "lab",
                    "vhost": name,
                    "configure": ".*",
                    "write": ".*",
                    "read": ".*",
                }
                for name in VHOSTS
            ],
        }
    )


def _authtoken(section: str, extra: str = "") -> str:
    return render("authtoken.conf", section=section) + extra + "\n"


def _common(database: str) -> str:
    return render("common.conf", database=database_url(database))


def _database(section: str, name: str) -> str:
    return f"[{section}]\nconnection = {database_url(name)}\n\n"
