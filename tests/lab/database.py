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

"""MariaDB of the lab, its schemas, and the seed that saves making them.

The first ``up`` runs every project's migrations and fills Keystone; what
comes out (some 60 kB) is kept in the cache and loaded the next times.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import pathlib
import tarfile

from tests.lab import configuration
from tests.lab import host as host_mod
from tests.lab import parallel
from tests.lab import paths
from tests.lab import progress as progress_mod
from tests.lab import rootfs
from tests.lab import services

_CTL = paths.plan_of(paths.CTL).address

_SERVER = services.Service(
    "mariadb",
    (
        "mariadbd",
        "--no-defaults",
        "--user=root",
        "--datadir=/var/lib/mysql",
        "--socket=/run/mysqld/mysqld.sock",
        "--bind-address=127.0.0.1",
        "--innodb-flush-log-at-trx-commit=0",
        "--skip-log-bin",
        "--innodb-doublewrite=0",
        "--innodb-buffer-pool-size=192M",
        "--innodb-log-file-size=16M",
        "--performance-schema=0",
        "--max-connections=400",
        "--character-set-server=utf8mb3",
        "--skip-name-resolve",
    ),
)

_KEYSTONE_SYNC = f"""
manage() {{ keystone-manage --config-file /etc/lab/keystone.conf "$@"; }}
manage db_sync
mkdir -p /etc/lab/keystone/fernet /etc/lab/keystone/credential
manage fernet_setup --keystone-user root --keystone-group root
manage credential_setup --keystone-user root --keystone-group root
url=http://{_CTL}:5000/v3
manage bootstrap --bootstrap-password admin --bootstrap-public-url $url \\
  --bootstrap-internal-url $url --bootstrap-admin-url $url \\
  --bootstrap-region-id RegionOne
"""


def start(ctl: host_mod.Host) -> None:
    """Start MariaDB in ctl with the lab's databases, empty."""
    # In memory, because each of the 500 tables is a file that is synced
    # when it is made: loading the seed took 16 s instead of 2 s on a disk
    # that others wrote to as well.
    ctl.shell(
        "mkdir -p /run/mysqld; mount -t tmpfs tmpfs /var/lib/mysql; "
        "mariadb-install-db --user=root --datadir=/var/lib/mysql "
        "--skip-test-db --innodb-log-file-size=16M "
        "--auth-root-authentication-method=normal",
        timeout=60,
    )
    services.start(ctl, _SERVER)
    services.wait_ready(
        ctl,
        _SERVER.name,
        lambda: (
            not ctl.run(["mariadb", "-e", "select 1"], check=False).returncode
        ),
        timeout_s=60,
    )
    statements = [
        f"create database {name} character set utf8mb3"
        for name in configuration.DATABASES
    ]
    statements += [
        "create or replace user root@'127.0.0.1'",
        "grant all on *.* to root@'127.0.0.1'",
    ]
    query(ctl, ";".join(statements))


def query(ctl: host_mod.Host, sql: str) -> str:
    """Run SQL; the rows, tab-separated, without a heading."""
    return ctl.run(["mariadb", "-Ne", sql]).stdout


def schema_scripts() -> dict[str, str]:
    """What makes each project's tables: name -> shell script."""
    scripts = {
        "keystone": _KEYSTONE_SYNC,
        "nova-api": _nova_api_script(),
        "glance": "glance-manage --config-file /etc/lab/glance.conf db_sync",
        "placement": "placement-manage db sync",
        "neutron": "neutron-db-manage --config-file /etc/lab/neutron.conf "
        "upgrade heads",
        "cinder": "cinder-manage --config-file /etc/lab/cinder.conf db sync",
    }
    for name in ("nova", *(f"nova-{cell}" for cell in paths.CELLS)):
        scripts[f"{name} cell"] = (
            f"nova-manage --config-file /etc/lab/{name}.conf "
            "db sync --local_cell"
        )
    return scripts


def make_schemas(ctl: host_mod.Host, progress: progress_mod.Progress) -> None:
    """Run every project's migrations, side by side.

    :raises CommandFailed: the first that failed.
    """

    def sync(name: str, script: str) -> None:
        log = f"/var/log/lab/sync-{name.replace(' ', '-')}.log"
        ctl.shell(f"exec > {log} 2>&1\n{script}", timeout=600)
        progress.step(f"  schema of {name}")

    parallel.run(
        [
            functools.partial(sync, name, script)
            for name, script in schema_scripts().items()
        ]
    )


def _nova_api_script() -> str:
    manage = "nova-manage --config-file /etc/lab/nova.conf"
    lines = [
        f"{manage} api_db sync",
        f"{manage} cell_v2 map_cell0 --database_connection "
        f"'{configuration.database_url('nova_cell0')}'",
    ]
    for cell in paths.CELLS:
        lines.append(
            f"{manage} cell_v2 create_cell --name {cell} "
            f"--transport-url {configuration.transport_url(cell)} "
            "--database_connection "
            f"'{configuration.database_url(f'nova_{cell}')}'"
        )
    return "\n".join(lines)


def seed_hash() -> str:
    """Changes with whatever the databases' first content depends on."""
    digest = hashlib.sha256()
    catalog = pathlib.Path(__file__).parent / "inside/catalog.py"
    for part in (
        rootfs.constraints_text(),
        catalog.read_text(),
        configuration.render("keystone.conf"),
        configuration.database_url("x"),
        configuration.transport_url("x"),
        *configuration.DATABASES,
        *schema_scripts().values(),
    ):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:12]


def seed_path() -> pathlib.Path:
    """The seed that fits this checkout; it may not exist yet."""
    return paths.cache_dir() / f"seed-{seed_hash()}.tar.gz"


def load_seed(ctl: host_mod.Host, etc: pathlib.Path) -> bool:
    """Load databases and Keystone's keys; False if there is no seed."""
    if not seed_path().is_file():
        return False
    with tarfile.open(seed_path()) as archive:
        content = {
            member.name: _read(archive, member)
            for member in archive
            if member.isfile()
        }
    ctl.run(["mariadb"], input=content.pop("seed.sql").decode(), timeout=120)
    for name, key in content.items():
        file = etc / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(key)
        file.chmod(0o600)
    return True


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file else b""


def save_seed(ctl: host_mod.Host, etc: pathlib.Path) -> None:
    """Keep the databases' present content and the keys for next time."""
    dump = ctl.run(
        ["mariadb-dump", "--databases", *configuration.DATABASES], timeout=120
    ).stdout.encode()
    unfinished = seed_path().with_suffix(f".{os.getpid()}")
    with tarfile.open(unfinished, "w:gz") as archive:
        entry = tarfile.TarInfo("seed.sql")
        entry.size = len(dump)
        archive.addfile(entry, io.BytesIO(dump))
        archive.add(etc / "keystone", "keystone")
    unfinished.rename(seed_path())
