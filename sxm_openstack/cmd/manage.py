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

"""``sxm-manage``: what moves have left on this host, and how to end it.

Exit codes:

* 0: done, and nothing is left, or no check failed
* 1: something is left, was not done, or a check failed: the output says what
* 2: the command line is wrong
* 3: it could not be found out: libvirt or the configuration is not there
"""

import argparse
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import json
import sys
import time
from typing import Any
from typing import TextIO

from sxm_openstack import exception

OK, LEFT, WRONG_USAGE, CANNOT_TELL = 0, 1, 2, 3

_FORMATS = 'text', 'json'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parsed = parser().parse_args(arguments)
    # Here, not above: wrong usage is told without Nova, and quickly.
    from sxm_openstack.nova import launcher

    try:
        console = launcher.console()
        console.configure(parsed.config_file, parsed.debug)
        host = console.Host.here()
        with host.connection:
            return int(parsed.run(parsed, host, sys.stdout))
    except exception.SXMError as error:
        print(f'sxm-manage: {error}', file=sys.stderr)
        return CANNOT_TELL


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog='sxm-manage',
        description='Finds and ends what moves have left on this host.',
        epilog='Exit codes: 0 nothing is left; 1 something is, or a check '
        'failed; 2 wrong usage; 3 it could not be found out.',
    )
    top.add_argument(
        '--config-file',
        action='append',
        default=[],
        metavar='PATH',
        help="nova-compute's, by default where Nova looks for it",
    )
    top.add_argument(
        '--debug', action='store_true', help='log in detail to stderr'
    )
    commands = top.add_subparsers(required=True, metavar='COMMAND')
    _leftovers_parser(commands)
    for name, text in (
        ('cleanup', 'end everything that is left, one way or the other'),
        ('resume', 'finish moves whose guest has changed hosts'),
        ('rollback', 'undo moves whose guest has not'),
    ):
        _acting_parser(commands, name, text)
    _doctor_parser(commands)
    return top


def _leftovers_parser(commands: Any) -> None:
    leftovers = _command(
        commands, 'leftovers', 'list what is left; change nothing'
    )
    leftovers.add_argument('server', nargs='*', help='UUID; by default all')
    _assume_ended(leftovers)
    leftovers.set_defaults(run=_leftovers)


def _acting_parser(commands: Any, name: str, text: str) -> None:
    command = _command(commands, name, text)
    command.add_argument('server', nargs='*', help='UUID; by default all')
    command.add_argument(
        '--dry-run', action='store_true', help='only say what would be done'
    )
    command.add_argument(
        '--timeout',
        type=float,
        default=3600.0,
        metavar='SECONDS',
        help="for folding one server's disks (default: %(default)g)",
    )
    _assume_ended(command)
    command.set_defaults(run=_act, name=name)


def _doctor_parser(commands: Any) -> None:
    doctor = _command(
        commands, 'doctor', 'check this host, or it and another one'
    )
    doctor.add_argument(
        '--with',
        dest='other',
        type=argparse.FileType(),
        metavar='FILE',
        help='what "doctor --format json" said on the other host; - reads '
        'it from standard input',
    )
    doctor.set_defaults(run=_doctor)


def _assume_ended(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        '--assume-ended',
        action='store_true',
        help='you vouch that Nova is not migrating these servers; needed '
        'only where Nova cannot be asked',
    )


def _command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f'{text[0].upper()}{text[1:]}.'
    )
    command.add_argument('--format', choices=_FORMATS, default='text')
    return command


def _leftovers(parsed: argparse.Namespace, host: Any, out: TextIO) -> int:
    upkeep = host.upkeep(assume_ended=parsed.assume_ended)
    cases = upkeep.leftovers(parsed.server)
    if parsed.format == 'json':
        _write_json(out, servers=[case.to_dict() for case in cases])
    else:
        _write_cases(out, [case.to_dict() for case in cases])
    return LEFT if cases else OK


def _act(parsed: argparse.Namespace, host: Any, out: TextIO) -> int:
    from sxm_openstack.nova import upkeep as sxm_upkeep

    actions = {
        'cleanup': sxm_upkeep.EITHER,
        'resume': sxm_upkeep.FORWARD,
        'rollback': sxm_upkeep.BACK,
    }[parsed.name]
    upkeep = host.upkeep(
        assume_ended=parsed.assume_ended, timeout_s=parsed.timeout
    )
    results = [
        result.to_dict()
        for result in upkeep.run(
            actions, parsed.server, dry_run=parsed.dry_run
        )
    ]
    left = [case.to_dict() for case in upkeep.leftovers(parsed.server)]
    if parsed.format == 'json':
        _write_json(out, results=results, servers=left)
    else:
        _write_results(out, results, parsed.dry_run)
        if left and not parsed.dry_run:
            out.write('Still left:\n')
            _write_cases(out, left)
    return LEFT if left else OK


def _doctor(parsed: argparse.Namespace, host: Any, out: TextIO) -> int:
    from sxm_openstack.engine import checks

    there = _facts_from(parsed.other) if parsed.other else None
    # What is piped was said a moment ago; what lies in a file tells nothing
    # of a clock.
    read_at_s, is_fresh = time.time(), parsed.other is sys.stdin
    here = dataclasses.replace(host.facts(), time_s=read_at_s)
    found = [
        check
        for check in host.doctor(here, there)
        if is_fresh or check.name != 'clock'
    ]
    if parsed.format == 'json':
        _write_json(
            out,
            facts=dataclasses.replace(here, time_s=time.time()).to_dict(),
            checks=[check.to_dict() for check in found],
        )
    else:
        for check in found:
            out.write(f'{check.verdict:8} {check}\n')
    return LEFT if checks.failures(found) else OK


def _facts_from(stream: TextIO) -> Any:
    from sxm_openstack.mirror import facts

    try:
        return facts.Facts.from_dict(json.load(stream)['facts'])
    except (ValueError, KeyError, TypeError) as error:
        raise exception.PreCheckFailed(
            f'{stream.name} is not what "doctor --format json" says: {error}',
            remedy='Run it on the other host, with the same version.',
        ) from error


def _write_json(out: TextIO, **values: Any) -> None:
    json.dump(values, out, indent=2)
    out.write('\n')


def _write_cases(out: TextIO, cases: Iterable[dict[str, Any]]) -> None:
    for case in cases:
        out.write(f'{case["server"]}  {case["standing"]}: {case["reason"]}\n')
        for trace in case['traces']:
            detail = f'  ({trace["detail"]})' if trace['detail'] else ''
            out.write(f'    {trace["kind"]:8} {trace["name"]}{detail}\n')


def _write_results(
    out: TextIO, results: Iterable[dict[str, Any]], dry_run: bool
) -> None:
    for result in results:
        done = result['error'] or ('would be done' if dry_run else 'done')
        out.write(
            f'{result["server"]}  {result["standing"]}, '
            f'{result["action"]}: {done}\n'
        )


if __name__ == '__main__':
    sys.exit(main())
