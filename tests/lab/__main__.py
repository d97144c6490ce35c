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

"""Command line of the lab: ``python3 -m tests.lab VERB``."""

from __future__ import annotations

import argparse
import collections.abc
import json
import pathlib
import subprocess
import sys
import typing

from tests.lab import lab as lab_mod
from tests.lab import openstack
from tests.lab import paths
from tests.lab import progress as progress_mod
from tests.lab import project
from tests.lab import services
from tests.lab import workload


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.lab",
        description="A real OpenStack in namespaces of this machine.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    up = verbs.add_parser("up", help="bring the lab up")
    up.add_argument(
        "--hosts",
        action="store_true",
        help="hosts with libvirt only, no OpenStack",
    )
    up.add_argument(
        "--count",
        type=int,
        metavar="N",
        choices=range(1, len(paths.COMPUTES) + 1),
        help="with --hosts: how many compute hosts (2)",
    )
    up.add_argument(
        "--stock",
        action="append",
        default=[],
        metavar="HOST[,HOST]",
        help="these run Nova's own driver and binary",
    )
    up.add_argument(
        "--nova-conf",
        type=pathlib.Path,
        metavar="FILE",
        help="appended to every compute's nova.conf",
    )
    up.add_argument(
        "--fresh",
        action="store_true",
        help="do not keep a lab that runs already",
    )
    up.set_defaults(func=_up)

    down = verbs.add_parser("down", help="take the lab down")
    down.add_argument(
        "--no-logs", action="store_true", help="remove the logs too"
    )
    down.set_defaults(func=_down)

    status = verbs.add_parser("status", help="say what runs")
    status.add_argument("--json", action="store_true")
    status.set_defaults(func=_status)

    execute = verbs.add_parser("exec", help="run a command in a host")
    execute.add_argument("host")
    execute.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- CMD..."
    )
    execute.set_defaults(func=_exec)

    client = verbs.add_parser(
        "openstack", help="the openstack command as administrator"
    )
    client.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- ARGS..."
    )
    client.set_defaults(func=_openstack)

    link = verbs.add_parser("link", help="shape the migration network")
    link.add_argument(
        "rate",
        help="20mbps (megabytes a second, as tc has "
        "it), 160mbit, off (no limit), cut (drop everything)",
    )
    link.add_argument(
        "--between",
        nargs=2,
        metavar=("A", "B"),
        help="only between these two hosts",
    )
    link.set_defaults(func=_link)

    restart = verbs.add_parser("restart", help="restart a host's service")
    restart.add_argument("host")
    restart.add_argument("service")
    restart.set_defaults(func=_restart)

    install = verbs.add_parser(
        "install", help="renew the project's entry points in the hosts"
    )
    install.set_defaults(func=_install)

    logs = verbs.add_parser("logs", help="print a service's log")
    logs.add_argument("host")
    logs.add_argument("service")
    logs.add_argument("-f", "--follow", action="store_true")
    logs.set_defaults(func=_logs)

    workload.add_parser(verbs)
    return parser


def _lab() -> lab_mod.Lab:
    return lab_mod.Lab(progress=progress_mod.Progress())


def _up(args: argparse.Namespace) -> int:
    text = args.nova_conf.read_text() if args.nova_conf else ""
    stock = [name for item in args.stock for name in item.split(",") if name]
    _lab().up(
        hosts_only=args.hosts,
        computes=args.count,
        stock=stock,
        nova_conf=text,
        fresh=args.fresh,
    )
    return 0


def _down(args: argparse.Namespace) -> int:
    _lab().down(keep_logs=not args.no_logs)
    return 0


def _status(args: argparse.Namespace) -> int:
    status = _lab().status()
    if args.json:
        print(json.dumps(status, indent=2))
    else:
        print(_describe(status))
    return 0 if status["ready"] else 1


def _describe(status: dict[str, typing.Any]) -> str:
    hosts = status["hosts"]
    if not hosts:
        return f"no lab runs ({status['state_dir']})"
    lines = [
        f"{status['mode']} lab, "
        f"{'ready' if status['ready'] else 'NOT READY'}, "
        f"state in {status['state_dir']}"
    ]
    for name, host in hosts.items():
        lines.append(
            f"{name:9} pid {host['pid']:<8} {host['address']:11} "
            f"{host['migration_address']:11} {host['cell']}"
        )
        for service, each in host["services"].items():
            lines.append(f"  {each['state']:8} {service}")
    lines += [f"{name:9} DOES NOT RUN" for name in status["missing"]]
    lines.append(f"links: {json.dumps(status['links'])}")
    return "\n".join(lines)


def _exec(args: argparse.Namespace) -> int:
    return _lab().host(args.host).execute(_command(args))


def _openstack(args: argparse.Namespace) -> int:
    command = ["openstack", *_command(args)]
    return _lab().host(paths.CTL).execute(command, environ=openstack.ADMIN)


def _command(args: argparse.Namespace) -> list[str]:
    words = list(args.command)
    if words[:1] == ["--"]:
        del words[0]
    if not words:
        raise paths.LabError(
            f"{args.verb} needs something to run: put it after --"
        )
    return words


def _link(args: argparse.Namespace) -> int:
    _lab().link(args.rate, tuple(args.between) if args.between else None)
    return 0


def _restart(args: argparse.Namespace) -> int:
    progress = progress_mod.Progress()
    services.restart(_lab().host(args.host), args.service)
    progress.step(f"{args.service} on {args.host} is started again")
    return 0


def _install(args: argparse.Namespace) -> int:
    project.install(_lab().host(paths.CTL), progress_mod.Progress())
    return 0


def _logs(args: argparse.Namespace) -> int:
    file = paths.state_dir() / "log" / args.host / f"{args.service}.log"
    if not file.is_file():
        raise paths.LabError(
            f"there is no {file}: it has "
            + ", ".join(
                sorted(each.stem for each in file.parent.glob("*.log"))
            )
        )
    return subprocess.run(
        ["tail", "-n", "+1", *(["-f"] if args.follow else []), str(file)],
        check=False,
    ).returncode


def main(argv: collections.abc.Sequence[str] | None = None) -> int:
    """Run one verb; the exit code.

    ``exec`` and ``openstack`` pass their command's exit code on, ``status``
    has 1 unless the lab is ready, errors have 1.
    """
    args = _parser().parse_args(argv)
    try:
        return int(args.func(args))
    except paths.LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
