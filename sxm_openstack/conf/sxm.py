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

"""Group ``[sxm]``, read from nova.conf on the compute hosts."""

from oslo_config import cfg
from oslo_config import types

from sxm_openstack.conf import types as sxm_types

GROUP = cfg.OptGroup(
    'sxm',
    title='Storage XenMotion',
    help="""
How a server is moved live together with its local disks.

These options belong into nova.conf of every compute host. A move is steered
by its source host: unless an option says otherwise, the value there counts.
Options marked as mutable take effect on SIGHUP: rates and time-outs also for
the disks of moves that are under way, ``verify``, ``fallback``,
``watchdog_timeout`` and ``overlay_reserve_percent`` for moves that begin after
it.
""",
)

_DRIVERS = [
    cfg.StrOpt(
        'mirror_driver',
        default='snapshot',
        help="""
The way in which the disks of a server are mirrored.

The name is looked up among the entry points ``sxm.mirror``, so that other
packages can add their own. This project has two:

* ``snapshot``: freeze the disk under an overlay, mirror the overlay
  synchronously from then on, and copy the frozen part outside of the guest's
  process. For disks in qcow2 and raw files.
* ``direct``: one synchronously writing mirror of the whole disk, with its
  background copy limited so that the guest keeps its share of the link.

Related options:

* ``fallback``: what may be done for a server that this driver cannot move
* ``transfer_driver``
""",
    ),
    cfg.StrOpt(
        'transfer_driver',
        default='nbd',
        help="""
The way in which the bytes of the disks go to the other host.

The name is looked up among the entry points ``sxm.transfer``. Source and
destination of a move must have the same driver.

Related options:

* ``my_migration_address`` and ``port_range``: where the destination listens
""",
    ),
    cfg.ListOpt(
        'fallback',
        item_type=types.String(choices=['direct', 'nova']),
        default=[],
        mutable=True,
        help="""
What to do with a server that ``mirror_driver`` cannot move, in order of
preference.

By default such a server is refused before anything is changed, and the
message names the reason. With this option the move goes on another way, and
the log says which and why:

* ``direct``: the mirror driver of that name, where it can take the server
* ``nova``: Nova's own block migration, as if this project were not installed

Related options:

* ``mirror_driver``
""",
    ),
]

_PLACES = [
    cfg.HostAddressOpt(
        'my_migration_address',
        help="""
Address at which this host, as a destination, listens for disks.

The source host must be able to reach it at the ports of ``port_range``. Set
it to this host's address on the network meant for migrations.

If unset, the value of ``[libvirt] live_migration_inbound_addr`` is taken, and
if that is unset too, ``[DEFAULT] my_ip``.

Related options:

* ``port_range``
""",
    ),
    cfg.Opt(
        'port_range',
        type=sxm_types.PortRange(),
        default='49300:49399',
        help="""
TCP ports, first and last, of which this host as a destination takes one for
each move that comes in.

Firewalls must let the other compute hosts in. The size of the range limits
how many moves can come in at the same time. Do not let it overlap with
``migration_port_min`` to ``migration_port_max`` of libvirt's qemu.conf
(49152 to 49215 by default).

Possible values:

* ``first:last``, both between 1024 and 65535

Related options:

* ``my_migration_address``
""",
    ),
    cfg.StrOpt(
        'runtime_dir',
        default='/run/sxm',
        help="""
Directory of the unix sockets through which QEMU reaches the relay.

It is made when it is missing and may be empty after a reboot. QEMU's user
must be able to connect to sockets in it. Keep the path short: the path of a
socket must not exceed 107 bytes.
""",
    ),
    cfg.StrOpt(
        'state_dir',
        default='/var/lib/sxm',
        help="""
Directory of the journals of moves.

It is made when it is missing. It must be on a local disk and outlive a
reboot: what is in it tells how a move that was cut short is to be ended.
""",
    ),
    cfg.StrOpt(
        'helper_python',
        default='/usr/bin/python3',
        help="""
Python interpreter that runs the copier of the frozen disks.

It must be able to import ``nbd``, the bindings of libnbd. Distributions
package them for their own interpreter only (``python3-libnbd`` on Debian and
Ubuntu), which need not be the one that runs nova-compute. Nothing else needs
to be installed for it.
""",
    ),
]

_SECURITY = [
    cfg.StrOpt(
        'qemu_group',
        default='',
        help="""
Group of the processes of QEMU, where nova-compute does not run as root.

QEMU connects to sockets that nova-compute makes in ``runtime_dir``, and makes
one there. As another user it can do so only as a member of this group, for
example ``kvm``. Empty where nova-compute and QEMU may use each other's
sockets anyway.

A nova-compute that is not root prepares the sockets through privsep, with the
helper of ``[sxm_privileged]``.

Related options:

* ``runtime_dir``
""",
    ),
    cfg.StrOpt(
        'tls',
        default='required',
        choices=[
            ('required', 'both hosts show a certificate'),
            ('off', 'everything goes over the network in the clear'),
        ],
        help="""
Whether the disks go to the other host through TLS.

With ``required``, every connection between two hosts is TLS 1.3, and each
host sees that the certificate of the other was issued by a known authority
for the name of just that host: its name in Nova, its hypervisor hostname or,
for a destination, the address at which it listens. It is the same on all
hosts: where two hosts differ, the move is refused.

With ``off``, who can listen on the migration network sees the disks, and who
can change packets there can change them. The log has a warning for each move.

The memory of a server goes by libvirt's own connection, without TLS:
``[libvirt] live_migration_with_native_tls`` cannot be combined with this.

Related options:

* ``tls_directory``: where certificates and keys are
""",
    ),
    cfg.StrOpt(
        'tls_directory',
        default='/etc/pki/qemu',
        help="""
Directory of the certificates and keys of this host.

Names are those of QEMU-native TLS, with which Nova can be set up already:
``ca-cert.pem``, ``server-cert.pem``, ``server-key.pem``, ``client-cert.pem``,
``client-key.pem`` and, if revoked certificates are to be refused,
``ca-crl.pem``. The service's user must be able to read them. They are read
when a move begins, so that renewing them needs no restart.

Related options:

* ``tls``
* ``my_migration_address``
""",
    ),
]

_RATES = [
    cfg.FloatOpt(
        'guest_share',
        default=0.5,
        min=0.05,
        max=0.95,
        mutable=True,
        help="""
Part of the link that the guest's own writes may take while its disks are
copied, as a fraction.

While the disks are copied, every write of the guest also goes over the link.
The copy leaves this part of the link to them whenever the guest asks for it,
and takes what the guest does not use. A high value keeps a busy guest fast
and makes its move longer; a low one does the reverse.

Related options:

* ``latency_target_ms``: how the copy notices that it takes too much
* ``max_rate_mib_per_s``
""",
    ),
    cfg.IntOpt(
        'max_rate_mib_per_s',
        default=0,
        min=0,
        mutable=True,
        help="""
Upper limit of the copy of one server's disks, in MiB per second; 0 is no
limit.

The guest's own writes are not limited by it. Without a limit the copy takes
what the link gives, less the guest's share.

Related options:

* ``guest_share``
""",
    ),
    cfg.IntOpt(
        'latency_target_ms',
        default=10,
        min=1,
        max=1000,
        mutable=True,
        help="""
Delay, in milliseconds, that the copy may add to the guest's mirrored writes.

The copy slows down when writes have to queue for longer than this and speeds
up again when they do not. A very low value leaves part of the link unused.

Related options:

* ``guest_share``
""",
    ),
    cfg.IntOpt(
        'copy_connections',
        default=1,
        min=1,
        max=16,
        help="""
Connections that copy one disk.

The connections of a copy and those of the guest's writes share the link
about evenly, so that each further one takes from the guest. More than one
pays off only where a single one cannot fill the link.

Related options:

* ``guest_share``
""",
    ),
]

_TIMEOUTS = [
    cfg.IntOpt(
        'watchdog_timeout',
        default=5,
        min=1,
        mutable=True,
        help="""
Time, in seconds, without any progress on the link after which the link is
closed.

The guest's writes wait for the destination. When the link is dead, this is
how long they wait at most: then the guest goes on at full speed on the
source, and the move waits for the link or is undone.

Related options:

* ``link_timeout``
""",
    ),
    cfg.IntOpt(
        'link_timeout',
        default=300,
        min=0,
        mutable=True,
        help="""
Time, in seconds, for which a move whose link was closed waits for it to work
again; 0 undoes the move at once.

Until the hand-over, a move goes on where it was: what was copied is not sent
again. What the guest writes meanwhile stays on the source and goes over the
link when that is back, together with what was mirrored before.

While the memory moves, a lost link undoes the move in any case.

Related options:

* ``watchdog_timeout``
* ``storage_timeout``: counts on meanwhile
""",
    ),
    cfg.IntOpt(
        'storage_timeout',
        default=0,
        min=0,
        mutable=True,
        help="""
Time, in seconds, that the disks may take until all are mirrored and copied;
0 is no limit.

When it is over, the move is undone and the guest stays on the source.

Related options:

* ``watchdog_timeout``: notices a dead link much earlier
""",
    ),
    cfg.IntOpt(
        'handover_timeout',
        default=30,
        min=1,
        mutable=True,
        help="""
Time, in seconds, that each block job of a move may take to start, to end at
the hand-over, or to fold an overlay back when a move is undone.

The guest is stopped for a part of the hand-over, usually about a tenth of a
second. When a job takes longer than this, the guest goes on on the source and
the move is undone.
""",
    ),
    cfg.IntOpt(
        'flatten_timeout',
        default=60,
        min=0,
        mutable=True,
        help="""
Time, in seconds, for which the end of a move waits until the overlays are
folded into the disks on the destination.

It is not a limit: when it is over, the server counts as moved and folding
goes on in the background. Until it is done, the server refuses to be moved
again and to be snapshotted, with that reason.
""",
    ),
]

_SAFETY = [
    cfg.StrOpt(
        'verify',
        default='none',
        choices=[
            ('none', 'compare nothing'),
            ('sample', 'compare the first and last part, and some others'),
            ('full', 'compare every byte'),
        ],
        mutable=True,
        help="""
How much of each disk is compared on both hosts before the memory moves.

Both sides read their own files and only digests cross the link. Where they
differ the move is undone, and the error names the disk and the first offset.
The copy is acknowledged by the destination byte for byte in any case: this
finds faults of disks, memory and software.

* ``sample`` compares parts of the frozen part of each disk, after it was
  copied: the first, the last and others that are drawn anew for each move
  from a seed, which is logged.
* ``full`` compares all of it, and after the hand-over what was written
  meanwhile, so that every disk is proven equal at the point at which it was
  handed over. It reads each disk once more on both hosts and makes the move
  longer by that. Disks that go by the mirror driver ``direct`` cannot be
  compared so, and are refused.

Read-only disks, the config drive for one, are always compared as a whole.

Related options:

* ``verify_sample_percent``
""",
    ),
    cfg.IntOpt(
        'verify_sample_percent',
        default=5,
        min=1,
        max=100,
        mutable=True,
        help="""
Size of the sample, in percent of each disk.

Related options:

* ``verify``: takes a sample with ``sample`` only
""",
    ),
    cfg.IntOpt(
        'overlay_reserve_percent',
        default=25,
        min=0,
        max=100,
        mutable=True,
        help="""
Free space that a move needs for its overlays, in percent of the size of the
server's disks, where those lie on the source.

While a server is moved, what it writes goes into overlays next to its disks:
one with ``100`` can rewrite all its disks and never runs out of space. A
server for which there is not enough free space is refused; ``0`` leaves out
the check.
""",
    ),
]

_OPTIONS: list[cfg.Opt] = [
    *_DRIVERS,
    *_PLACES,
    *_SECURITY,
    *_RATES,
    *_TIMEOUTS,
    *_SAFETY,
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Add the group to ``conf``.  Idempotent."""
    conf.register_group(GROUP)
    conf.register_opts(_OPTIONS, group=GROUP)


def list_opts() -> tuple[cfg.OptGroup, list[cfg.Opt]]:
    """The group and its options, for the sample and the manual."""
    return GROUP, list(_OPTIONS)
