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

"""The lab's two networks, and the shaping of the migration network.

Management and guests share ``br-lab`` (10.77.0.0/24); migrations have
``mig0`` (10.78.0.0/24).  Both are bridged in ctl's namespace, and no
interface leads out of the namespaces.

Shaping acts on what a host *sends* over ``mig0``; the same on the other
host makes both directions.
"""

from __future__ import annotations

import dataclasses
import re

from tests.lab import host as host_mod
from tests.lab import paths

OFF = "off"
CUT = "cut"

#: What a shaped link lets through at once before the rate bites.
BURST_BYTES = 512 * 1024
#: How long a byte may wait in the queue before packets are dropped.
LATENCY_S = 0.1

_UNITS_BYTES_PER_S = {
    # As tc reads them: "bps" is bytes, "bit" is bits a second.
    "bps": 1,
    "kbps": 10**3,
    "mbps": 10**6,
    "gbps": 10**9,
    "bit": 1 / 8,
    "kbit": 10**3 / 8,
    "mbit": 10**6 / 8,
    "gbit": 10**9 / 8,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """What a link lets through.

    :ivar bytes_per_s: the limit; 0 is a cut link, None an unlimited one.
    """

    bytes_per_s: int | None

    @property
    def is_cut(self) -> bool:
        return self.bytes_per_s == 0

    def __str__(self) -> str:
        if self.bytes_per_s is None:
            return OFF
        if self.is_cut:
            return CUT
        return f"{self.bytes_per_s}bps"


def parse_rate(text: str) -> Rate:
    """Read ``20mbps`` (megabytes), ``160mbit`` (megabits), ``off``, ``cut``.

    :raises LabError: it is none of these, or not above zero.
    """
    word = text.strip().lower()
    if word == OFF:
        return Rate(None)
    if word == CUT:
        return Rate(0)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", word)
    factor = _UNITS_BYTES_PER_S.get(match.group(2)) if match else None
    if match is None or factor is None:
        raise paths.LabError(
            f"{text!r} is no rate: give a number with "
            f"{', '.join(_UNITS_BYTES_PER_S)} (as tc does, 20mbps is 20 "
            "megabytes a second, 20mbit is 20 megabits), or off, or cut"
        )
    bytes_per_s = int(float(match.group(1)) * factor)
    if bytes_per_s <= 0:
        raise paths.LabError(
            f"{text!r} is no rate above zero: to stop all "
            "traffic use cut, to lift the limit use off"
        )
    return Rate(bytes_per_s)


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """How the whole migration network is shaped.

    :ivar everywhere: the rate of every host's link.
    :ivar between: rates of single pairs (names sorted), which come first.
    """

    everywhere: Rate = Rate(None)
    between: tuple[tuple[tuple[str, str], Rate], ...] = ()

    def changed(
        self, rate: Rate, pair: tuple[str, str] | None = None
    ) -> Shape:
        """The shape after one more ``link`` command.

        A rate for everything forgets the pairs'; ``off`` for a pair takes
        the pair's own rate away.
        """
        if pair is None:
            return Shape(rate)
        first, second = sorted(pair)
        if first == second:
            raise paths.LabError(
                f"a link is between two hosts, not between {first} and itself"
            )
        pairs = dict(self.between)
        pairs.pop((first, second), None)
        if rate.bytes_per_s is not None:
            pairs[first, second] = rate
        return Shape(self.everywhere, tuple(sorted(pairs.items())))

    def peers(self, name: str) -> list[tuple[str, Rate]]:
        """The pair rates that concern what one host sends."""
        found = []
        for (first, second), rate in self.between:
            if name in (first, second):
                found.append((second if name == first else first, rate))
        return found


def tc_script(shape: Shape, plan: paths.HostPlan) -> str:
    """The shell script that shapes what one host sends."""
    device = device_of(plan)
    lines = [f"tc qdisc del dev {device} root 2>/dev/null || :"]
    peers = shape.peers(plan.name)
    if not peers:
        if shape.everywhere.bytes_per_s is not None:
            lines.append(
                f"tc qdisc add dev {device} root " + _qdisc(shape.everywhere)
            )
        return "\n".join(lines)
    # A class for each peer; what matches none takes class 1:1.
    lines.append(f"tc qdisc add dev {device} root handle 1: htb default 1")
    classes = [("", shape.everywhere)]
    classes += [
        (paths.plan_of(peer).migration_address, rate) for peer, rate in peers
    ]
    for number, (address, rate) in enumerate(classes, start=1):
        limit = rate.bytes_per_s or 10**10
        lines.append(
            f"tc class add dev {device} parent 1: classid 1:{number} htb "
            f"rate {limit}bps burst {BURST_BYTES} cburst {BURST_BYTES}"
        )
        lines.append(
            f"tc qdisc add dev {device} parent 1:{number} "
            + (
                "blackhole"
                if rate.is_cut
                else f"bfifo limit {_queue_bytes(limit)}"
            )
        )
        if address:
            lines.append(
                f"tc filter add dev {device} parent 1: protocol ip u32 "
                f"match ip dst {address}/32 flowid 1:{number}"
            )
    return "\n".join(lines)


def _qdisc(rate: Rate) -> str:
    # blackhole tells the sender that the packet left, as a cut cable does.
    if rate.is_cut:
        return "blackhole"
    return (
        f"tbf rate {rate.bytes_per_s}bps burst {BURST_BYTES} "
        f"latency {LATENCY_S * 1000:.0f}ms"
    )


def _queue_bytes(rate_bytes_per_s: int) -> int:
    # The upper bound keeps an unlimited class from queueing a gigabyte.
    return min(int(rate_bytes_per_s * LATENCY_S) + BURST_BYTES, 64 * 2**20)


def device_of(plan: paths.HostPlan) -> str:
    """The interface over which a host sends migration traffic."""
    return paths.MIGRATION_LINK if plan.is_compute else paths.MIGRATION_BRIDGE


def make_bridges(ctl: host_mod.Host) -> None:
    """Both networks' bridges, in ctl."""
    lines = ["ip link set lo up"]
    for bridge, address in (
        (paths.BRIDGE, ctl.address),
        (paths.MIGRATION_BRIDGE, ctl.migration_address),
    ):
        lines += [
            f"ip link add {bridge} type bridge",
            f"ip addr add {address}/24 dev {bridge}",
            f"ip link set {bridge} up",
        ]
    ctl.shell("\n".join(lines))


def connect(ctl: host_mod.Host, compute: host_mod.Host) -> None:
    """Join a compute host to both bridges of ctl.

    Each veth pair is made with its ends already in the two namespaces, so
    that none is ever left in the machine's own.
    """
    for port, peer, bridge in (
        (f"v-{compute.name}", "eth0", paths.BRIDGE),
        (f"m-{compute.name}", paths.MIGRATION_LINK, paths.MIGRATION_BRIDGE),
    ):
        host_mod.run_outside(
            [
                "ip",
                "link",
                "add",
                port,
                "netns",
                str(ctl.pid),
                "type",
                "veth",
                "peer",
                "name",
                peer,
                "netns",
                str(compute.pid),
            ]
        )
        ctl.run(["ip", "link", "set", port, "master", bridge, "up"])
    compute.shell(f"""
ip link set lo up
ip link add {paths.BRIDGE} type bridge
ip link set eth0 master {paths.BRIDGE} up
# Said, not left to the kernel: a bridge takes the lowest address of its
# ports, and a guest's tap has the same one on both hosts while it moves.
ip link set {paths.BRIDGE} address "$(cat /sys/class/net/eth0/address)"
ip addr add {compute.address}/24 dev {paths.BRIDGE}
ip link set {paths.BRIDGE} up
ip addr add {compute.migration_address}/24 dev {paths.MIGRATION_LINK}
ip link set {paths.MIGRATION_LINK} up
""")


def tx_bytes(host: host_mod.Host) -> int:
    """Bytes that the host has sent over the migration network so far.

    Counted after the shaping: what a cut link swallows is not in it.
    """
    device = device_of(host.plan)
    table = (host_mod.proc_dir(host) / "net/dev").read_text()
    for line in table.splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == device:
            return int(counters.split()[8])
    raise paths.LabError(f"host {host.name} has no interface {device}")
