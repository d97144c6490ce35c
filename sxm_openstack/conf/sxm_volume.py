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

"""Group ``[sxm_volume]``, read from cinder.conf of cinder-volume."""

from oslo_config import cfg

GROUP = cfg.OptGroup(
    'sxm_volume',
    title='Storage XenMotion of volumes',
    help="""
How volumes that no server uses are copied from one backend to another.

These options belong into cinder.conf of every host that runs cinder-volume
with ``volume_manager = sxm_openstack.cinder.manager.SXMVolumeManager``. The
values of the host that has the source of a copy count.
""",
)

_OPTIONS: list[cfg.Opt] = [
    cfg.IntOpt(
        'max_copies',
        default=2,
        min=1,
        help="""
Volumes that one backend copies at the same time.

Further ones wait for their turn. Each copy keeps about one processor busy.

Related options:

* ``max_rate_mib_per_s``
""",
    ),
    cfg.IntOpt(
        'max_rate_mib_per_s',
        default=0,
        min=0,
        mutable=True,
        help="""
Upper limit of each copy, in MiB per second; 0 is no limit.

Holes and zeros do not count. A new value takes effect at once, also for
copies that are under way.

Related options:

* ``max_copies``: the limit counts for each of them
""",
    ),
    cfg.BoolOpt(
        'verify',
        default=True,
        mutable=True,
        help="""
Whether source and copy are read once more and compared, by digests, before
the volume is switched to the copy.

Where they differ, the migration fails and the volume stays where it was.
Without it, a copy takes about half the time.
""",
    ),
    cfg.IntOpt(
        'copy_connections',
        default=2,
        min=1,
        max=16,
        help="""
Connections to the server of the destination that one copy uses.
""",
    ),
    cfg.StrOpt(
        'state_dir',
        default='$state_path/sxm',
        help="""
Directory of what is known of copies under way: how far each is, and the unix
sockets of its programs.

It is made when it is missing. It should outlive a restart of the host:
copies that were cut short go on from there. Keep the path short: that of a
socket must not exceed 107 bytes, and about 70 are added to this one.
""",
    ),
    cfg.StrOpt(
        'helper_python',
        default='/usr/bin/python3',
        help="""
Python interpreter that runs the copier.

It must be able to import ``nbd``, the bindings of libnbd, which
distributions package for their own interpreter only (``python3-libnbd`` on
Debian and Ubuntu).
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Add the group to ``conf``.  Idempotent."""
    conf.register_group(GROUP)
    conf.register_opts(_OPTIONS, group=GROUP)


def list_opts() -> tuple[cfg.OptGroup, list[cfg.Opt]]:
    """The group and its options, for the sample and the manual."""
    return GROUP, list(_OPTIONS)
