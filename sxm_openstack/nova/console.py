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

"""The parts of :mod:`.upkeep` for a program on a compute host."""

from collections.abc import Sequence
import dataclasses

from nova import config as nova_config
from nova import objects
from nova import rpc
from nova.conductor import rpcapi as conductor_rpcapi
import nova.conf
from nova.objects import base as objects_base
from oslo_config import cfg
from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.engine import checks
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.hypervisor import connection as hypervisor_connection
from sxm_openstack.hypervisor import domain as hypervisor_domain
from sxm_openstack.hypervisor import platform
from sxm_openstack.hypervisor import survey
from sxm_openstack.mirror import facts as mirror_facts
from sxm_openstack.mirror import traces as mirror_traces
from sxm_openstack.nova import checks as sxm_checks
from sxm_openstack.nova import clearing
from sxm_openstack.nova import cloud as nova_cloud
from sxm_openstack.nova import options
from sxm_openstack.nova import settler as sxm_settler
from sxm_openstack.nova import upkeep as sxm_upkeep

CONF = nova.conf.CONF


def configure(config_files: Sequence[str], debug: bool) -> None:
    """Read nova.conf as nova-compute does.

    :param config_files: paths; by default those that Nova itself reads.
    :raises PreCheckFailed: it cannot be read.
    """
    arguments = [f'--config-file={path}' for path in config_files]
    options.register()
    try:
        nova_config.parse_args(
            ['sxm-manage', *arguments],
            configure_db=False,
            init_rpc=False,
            prog='sxm-manage',
        )
    except cfg.Error as error:
        raise exception.PreCheckFailed(
            f'The configuration cannot be read: {error}',
            remedy='Name the nova.conf of nova-compute with --config-file.',
        ) from error
    # What Nova's options say of files is for nova-compute: this is a person.
    CONF.set_override('log_file', None)
    CONF.set_override('log_dir', None)
    CONF.set_override('use_stderr', True)
    CONF.set_override('debug', debug)
    logging.setup(CONF, 'sxm-manage')


def prepare_rpc() -> None:
    """Make Nova's objects and calls usable, as nova-compute does."""
    rpc.add_extra_exmods('sxm_openstack.exception')
    rpc.init(CONF)
    objects.register_all()
    objects_base.NovaObject.indirection_api = conductor_rpcapi.ConductorAPI()


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """What this host has for :class:`.upkeep.Upkeep`."""

    connection: hypervisor_connection.Connection

    @classmethod
    def here(cls) -> 'Host':
        """The host whose nova.conf was read."""
        uri = CONF.libvirt.connection_uri or 'qemu:///system'
        return cls(hypervisor_connection.Connection(uri))

    def domain(self, server: str) -> hypervisor_domain.LibvirtDomain:
        return hypervisor_domain.LibvirtDomain(
            self.connection.get, server, host=CONF.host
        )

    def facts(self) -> mirror_facts.Facts:
        """This host as it is now."""
        return sxm_checks.facts(
            self.connection.get, engine_journal.Journal(CONF.sxm.state_dir)
        )

    def doctor(
        self, here: mirror_facts.Facts, there: mirror_facts.Facts | None
    ) -> tuple[checks.Check, ...]:
        """Everything about this host, and about it and another one."""
        left = self.upkeep().leftovers()
        found = [_of_leftovers(len(left))]
        if there is None:
            return (*checks.at(here.host, here.checks), *found)
        found.append(self._cpu(there))
        return (*sxm_checks.of_pair(here, there), *found)

    def _cpu(self, there: mirror_facts.Facts) -> checks.Check:
        text = f'the CPU of {there.host}'
        if platform.compare_cpu(self.connection.get, there.cpu, CONF.host):
            return checks.passed('cpu', f'This host has all of {text}.')
        return checks.warned(
            'cpu',
            f'This host lacks something of {text}.',
            'Servers with [libvirt] cpu_mode host-model or host-passthrough '
            'cannot come from there; set a common cpu_models.',
        )

    def upkeep(
        self, *, assume_ended: bool = False, timeout_s: float = 3600.0
    ) -> sxm_upkeep.Upkeep:
        """See :class:`.upkeep.Upkeep` for the parameters."""
        journal = engine_journal.Journal(CONF.sxm.state_dir)
        cloud = nova_cloud.NovaCloud(prepare_rpc)

        def end_transfer(runtime: str) -> None:
            options.transfer().cleanup(runtime)

        return sxm_upkeep.Upkeep(
            journal,
            sxm_settler.Settler(
                journal,
                self.domain,
                end_transfer,
                cloud.peer_state,
                CONF.host,
            ),
            mirror_traces.Places(
                state=CONF.sxm.state_dir,
                runtime=CONF.sxm.runtime_dir,
                instances=CONF.instances_path,
                disks=lambda: survey.overlaid(self.connection.get, CONF.host),
            ),
            clearing.Clearer(self.domain, options.runtime, end_transfer),
            cloud,
            self.domain,
            CONF.host,
            assume_ended=assume_ended,
            timeout_s=timeout_s,
        )


def _of_leftovers(count: int) -> checks.Check:
    if not count:
        return checks.passed('leftovers', 'Nothing is left of any move.')
    return checks.warned(
        'leftovers',
        f'Something is left of moves of {count} servers, or they go on.',
        'Run "sxm-manage leftovers", then "sxm-manage cleanup".',
    )
