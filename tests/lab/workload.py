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

"""The lab's ``guest`` verb: what guests write, and whether it is there."""

from __future__ import annotations

import argparse
import collections.abc
import contextlib
import dataclasses
import ipaddress
import json
import re
import time

from tests.lab import collector as collector_mod
from tests.lab import host as host_mod
from tests.lab import openstack
from tests.lab import paths
from tests.lab import progress as progress_mod
from tests.lab.guest import answers
from tests.lab.guest import control
from tests.lab.guest import window

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?(?:/s)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str) -> int:
    """Bytes of ``512``, ``64k``, ``10M``, ``1.5GiB`` or ``20MB/s``.

    ``k``, ``M``, ``G`` and ``KiB``... are powers of 1024, as block sizes
    are; ``kB``, ``MB``... are powers of 1000, as link rates are.

    :raises ValueError: it is none of these, or not whole bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is no size: give for example 512, 64k, "
            "10M, 1.5GiB or 20MB"
        )
    number, prefix, unit = match.groups()
    step = 1000 if prefix and (unit or "").lower() == "b" else 1024
    size = float(number) * step ** _POWERS[prefix.lower()]
    if size != int(size):
        raise ValueError(f"{text!r} is no whole number of bytes")
    return int(size)


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_parser(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """Add ``guest NAME write|stop|report|verify|...`` to the lab's verbs."""
    parser = verbs.add_parser(
        "guest", help="have a guest write to its disks, and verify them"
    )
    parser.add_argument(
        "name", help="server (or libvirt domain) name, or the guest's address"
    )
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )

    def add(
        action: str, text: str, disk: str | None = None, as_json: bool = False
    ) -> argparse.ArgumentParser:
        one = actions.add_parser(action, help=text, description=text)
        one.set_defaults(func=_run)
        if disk is not None:
            one.add_argument(
                "--disk",
                default=disk or None,
                help=f"disk in the guest ({disk or 'all'})",
            )
        if as_json:
            one.add_argument("--json", action="store_true")
        return one

    _add_write(add("write", "start to write", disk="vda"))
    add("stop", "stop all writers")
    add("report", "what was written so far", as_json=True)
    verify = add(
        "verify",
        "read all that was written and compare; exit "
        "code 1 if a write is missing",
        disk="",
        as_json=True,
    )
    verify.add_argument(
        "--timeout", type=float, default=600.0, metavar="SECONDS"
    )
    watch = add("watch", "print rate, latency and gaps until interrupted")
    watch.add_argument("--every", type=float, default=1.0, metavar="SECONDS")
    watch.add_argument(
        "--seconds", type=float, default=float("inf"), help="end after so long"
    )
    wait = add("wait", "wait until the guest has booted")
    wait.add_argument(
        "--timeout", type=float, default=120.0, metavar="SECONDS"
    )
    add("digest", "print the SHA-256 of the config drive")
    for action, text in (
        ("zero", "write zeros to a range"),
        ("discard", "discard a range"),
    ):
        clear = add(action, text, disk="vda")
        clear.add_argument("--start", type=_size, required=True)
        clear.add_argument("--span", type=_size, required=True)


def _add_write(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pattern", choices=control.PATTERNS, default="uniform"
    )
    parser.add_argument(
        "--block",
        type=_size,
        default=4096,
        metavar="SIZE",
        help="512 to 1M (4k)",
    )
    parser.add_argument(
        "--rate",
        type=_size,
        default=0,
        metavar="SIZE",
        help="bytes a second, for example 10M; 0, the "
        "default, is as fast as it goes",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--sync",
        type=int,
        default=0,
        metavar="N",
        help="fdatasync after every N writes (never)",
    )
    parser.add_argument(
        "--start",
        type=_size,
        metavar="SIZE",
        help="first byte (after the boot file system)",
    )
    parser.add_argument(
        "--span",
        type=_size,
        metavar="SIZE",
        help="how much of the disk to write to (the rest)",
    )
    parser.add_argument(
        "--unit",
        type=_size,
        metavar="SIZE",
        help="what writes are remembered by (the block)",
    )


def address_of(
    name: str, hosts: collections.abc.Sequence[host_mod.Host]
) -> str:
    """The address of a guest on the lab's network.

    :param name: an address, a libvirt domain that was started with
        ``sxm.ip=``, or a server that OpenStack knows.
    :raises LabError: nobody knows it, or it has no address.
    """
    try:
        return str(ipaddress.IPv4Address(name))
    except ipaddress.AddressValueError:
        pass
    for host in hosts:
        if not host.plan.is_compute:
            continue
        dumped = host.run(["virsh", "-q", "dumpxml", name], check=False)
        match = re.search(r"sxm\.ip=([0-9.]+)", dumped.stdout)
        if match:
            return match.group(1)
    shown = hosts[0].run(
        ["openstack", "server", "show", name, "-f", "json", "-c", "addresses"],
        check=False,
        environ=openstack.ADMIN,
    )
    if shown.returncode:
        raise paths.LabError(
            f"no libvirt domain of the lab and no server is called {name!r} "
            f"({shown.stderr.strip().splitlines()[-1:]}): give a server's "
            "name or a guest's address"
        )
    addresses = re.findall(r"\d+\.\d+\.\d+\.\d+", shown.stdout)
    if not addresses:
        raise paths.LabError(f"server {name!r} has no address yet")
    return str(addresses[0])


def _run(args: argparse.Namespace) -> int:
    hosts = [
        host
        for host in (
            host_mod.find(paths.state_dir(), plan) for plan in paths.HOSTS
        )
        if host is not None
    ]
    if not hosts or hosts[0].name != paths.CTL:
        raise paths.LabError(
            "no lab runs: start it with `python3 -m tests.lab up`"
        )
    ip = address_of(args.name, hosts)
    with collector_mod.Collector(
        hosts[0].pid, address=hosts[0].address
    ) as collector:
        guest = collector.guest(ip, ticks=args.action == "watch")
        if args.action == "watch":
            return _watch(collector, ip, args.every, args.seconds)
        action = {
            "write": _write,
            "stop": _stop,
            "report": _report,
            "verify": _verify,
            "wait": _wait,
            "digest": _digest,
            "zero": _clear,
            "discard": _clear,
        }[args.action]
        return action(guest, args)


def _write(guest: control.GuestControl, args: argparse.Namespace) -> int:
    writer = guest.write(
        args.disk,
        pattern=args.pattern,
        block_bytes=args.block,
        rate_bytes_per_s=args.rate,
        threads=args.threads,
        sync_every=args.sync,
        start=args.start,
        span=args.span,
        unit_bytes=args.unit,
    )
    print(
        f"writer {writer.number} writes to {writer.disk}, bytes "
        f"{writer.start} to {writer.start + writer.span}"
    )
    return 0


def _stop(guest: control.GuestControl, args: argparse.Namespace) -> int:
    guest.stop()
    return _report(guest, argparse.Namespace(json=False))


def _report(guest: control.GuestControl, args: argparse.Namespace) -> int:
    report = guest.report()
    if args.json:
        print(json.dumps(dataclasses.asdict(report), indent=2))
        return 0
    print(f"{report.threads} writer threads run")
    for name, disk in report.by_disk.items():
        print(
            f"{name}: {disk.acked_writes} writes acknowledged, "
            f"{disk.acked_bytes / 2**20:.1f} MiB, {disk.errors} failed"
        )
    return 0


def _verify(guest: control.GuestControl, args: argparse.Namespace) -> int:
    progress = progress_mod.Progress()
    with progress.during(f"{args.name} reads what it wrote"):
        result = guest.verify(args.timeout, args.disk)
    if args.json:
        print(
            json.dumps(
                dict(dataclasses.asdict(result), ok=result.ok), indent=2
            )
        )
    else:
        for name, disk in result.by_disk.items():
            print(
                f"{name}: {disk.checked} sectors checked, {disk.lost} "
                f"lost, {disk.bad} bad, {disk.future} from the future, "
                f"{disk.read_errors} read errors"
                + (
                    ""
                    if disk.first_bad_offset is None
                    else f"; first at byte {disk.first_bad_offset}"
                )
            )
        if result.checked == 0:
            print("nothing was written yet, so nothing is proven")
        print("OK" if result.ok else "FAILED")
    return 0 if result.ok else 1


def _wait(guest: control.GuestControl, args: argparse.Namespace) -> int:
    info = guest.wait_ready(args.timeout)
    print(
        f"up for {info.uptime_s:.1f} s, disks "
        + ", ".join(
            f"{name} {size / 2**20:.0f} MiB"
            for name, size in info.disk_bytes.items()
        )
    )
    return 0


def _digest(guest: control.GuestControl, args: argparse.Namespace) -> int:
    print(guest.config_drive_digest())
    return 0


def _clear(guest: control.GuestControl, args: argparse.Namespace) -> int:
    act = guest.zero if args.action == "zero" else guest.discard
    act(args.disk, args.start, args.span)
    return 0


def _watch(
    collector: collector_mod.Collector, ip: str, every_s: float, seconds: float
) -> int:
    # Until the first tick is here, silence says nothing of the guest.
    with contextlib.suppress(answers.GuestTimeout):
        collector.wait_ticks(ip, timeout_s=2.0)
    began = last = time.monotonic()
    while last - began < seconds:
        time.sleep(every_s)
        now = time.monotonic()
        print(
            describe(collector.window(ip, last, now), now - began), flush=True
        )
        last = now
    return 0


def describe(stats: window.WindowStats, at_s: float) -> str:
    """One line on what a guest did."""
    if stats.ticks == 0:
        return f"{at_s:7.1f}s  silent for {stats.longest_tick_gap_s:.1f} s"
    return (
        f"{at_s:7.1f}s  {stats.rate_bytes_per_s / 1e6:8.2f} MB/s  "
        f"latency {stats.worst_write_latency_s * 1e3:7.1f} ms  "
        f"gap {stats.longest_tick_gap_s * 1e3:6.1f} ms  "
        f"stall {stats.longest_ack_stall_s * 1e3:6.1f} ms  "
        f"errors {stats.errors}  lost ticks {stats.lost_ticks}"
    )
