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

"""The cloud's services: what each is started with."""

from __future__ import annotations

from tests.lab import configuration
from tests.lab import paths
from tests.lab import services

_CTL = paths.plan_of(paths.CTL).address

RABBITMQ = services.Service(
    "rabbitmq",
    ("sh", "/usr/lib/rabbitmq/bin/rabbitmq-server"),
    {
        "RABBITMQ_NODENAME": "lab@localhost",
        "RABBITMQ_CONFIG_FILE": "/etc/lab/rabbitmq.conf",
        "RABBITMQ_ENABLED_PLUGINS_FILE": "/dev/null",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": "/var/lib/lab/mnesia",
        "RABBITMQ_LOG_BASE": "/var/log/lab",
    },
)

#: API services: name -> (port, path that answers, WSGI module, config).
APIS = {
    "keystone": (5000, "/v3", "keystone.wsgi.api", "keystone.conf"),
    "placement": (8778, "/", "placement.wsgi.api", "placement.conf"),
    "glance": (9292, "/", "glance.wsgi.api", "glance.conf"),
    "neutron": (9696, "/", "neutron.wsgi.api", "neutron.conf"),
    "nova-api": (8774, "/", "nova.wsgi.osapi_compute", "nova.conf"),
    "cinder-api": (8776, "/", "cinder.wsgi.api", "cinder.conf"),
}

WORKERS = {
    "nova-scheduler": ("nova-scheduler", "nova.conf"),
    "nova-super-conductor": ("nova-conductor", "nova.conf"),
    "cinder-scheduler": ("cinder-scheduler", "cinder.conf"),
    "cinder-volume": ("cinder-volume", "cinder.conf"),
    **{
        f"nova-conductor-{cell}": ("nova-conductor", f"nova-{cell}.conf")
        for cell in paths.CELLS
    },
}


def api_service(name: str) -> services.Service:
    """An API under uwsgi.

    ``Connection: close`` because the second request of a keystoneauth
    session would otherwise meet a connection that uwsgi has reset.
    """
    port, _path, module, config = APIS[name]
    return services.Service(
        name,
        (
            "uwsgi",
            "--plugin",
            "python3",
            "--virtualenv",
            paths.VENV,
            "--master",
            "--processes",
            "1",
            "--threads",
            "6",
            "--enable-threads",
            "--lazy-apps",
            "--need-app",
            "--die-on-term",
            "--disable-logging",
            "--buffer-size",
            "65535",
            "--post-buffering",
            "65536",
            "--add-header",
            "Connection: close",
            "--http-socket",
            f"{_CTL}:{port}",
            "--module",
            f"{module}:application",
            "--pyargv",
            f"--config-file /etc/lab/{config}",
        ),
    )


def url_of(name: str) -> str:
    """An address of an API that answers when it is ready."""
    port, path, _module, _config = APIS[name]
    return f"http://{_CTL}:{port}{path}"


def worker_service(name: str) -> services.Service:
    """One of ctl's services without an API."""
    binary, config = WORKERS[name]
    return services.Service(
        name, (binary, "--config-file", f"/etc/lab/{config}")
    )


def compute_service(
    plan: paths.HostPlan, choices: configuration.Choices
) -> services.Service:
    """nova-compute, by the project's launcher or Nova's own."""
    command: tuple[str, ...] = (
        f"{paths.VENV}/bin/python",
        "-m",
        "sxm_openstack.cmd.nova_compute",
    )
    if configuration.runs_stock(plan.name, choices):
        command = ("nova-compute",)
    return services.Service(
        "nova-compute",
        (*command, "--config-file", f"/etc/lab/nova-{plan.name}.conf"),
    )
