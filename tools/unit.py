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

"""Run the unit tests and write their counts to build/results/unit.json.

A skipped test counts as failed: what a test needs is installed, not left
out.  With arguments, which go to ``stestr run``, only a part runs and
nothing is written; those of Cinder are meant if one has ``tests.cinder``.

The tests of the Cinder part need processes of their own: Nova's options and
Cinder's do not fit into one configuration.
"""

import io
import json
import pathlib
import subprocess
import sys

import subunit
import testtools

RESULT = pathlib.Path('build/results/unit.json')
CINDER = ('--test-path', './tests/cinder')


def count(stream: bytes) -> tuple[dict[str, int], list[str]]:
    """Counts of a subunit v2 stream, and the names of skipped tests."""
    counts: dict[str, int] = {}
    skipped: list[str] = []

    def note(test: dict[str, object]) -> None:
        status = str(test['status'])
        counts[status] = counts.get(status, 0) + 1
        if status == 'skip':
            skipped.append(str(test['id']))

    result = testtools.StreamToDict(note)
    result.startTestRun()
    subunit.ByteStreamToStreamResult(
        io.BytesIO(stream), non_subunit_name='stestr'
    ).run(result)
    result.stopTestRun()
    passed = counts.pop('success', 0) + counts.pop('xfail', 0)
    return {'passed': passed, 'failed': sum(counts.values())}, skipped


def main(arguments: list[str]) -> int:
    """Run stestr; the exit code tells whether every test ran and passed."""
    stestr = [sys.executable, '-m', 'stestr']
    if arguments:
        cinder = CINDER if 'tests.cinder' in ' '.join(arguments) else ()
        return subprocess.run(
            [*stestr, *cinder, 'run', *arguments], check=False
        ).returncode
    totals = {'passed': 0, 'failed': 0}
    skipped: list[str] = []
    code = 0
    for path in ((), CINDER):
        run = subprocess.run([*stestr, *path, 'run'], check=False)
        last = subprocess.run(
            [*stestr, *path, 'last', '--subunit'],
            check=False,
            stdout=subprocess.PIPE,
        )
        counts, left_out = count(last.stdout)
        for name, number in counts.items():
            totals[name] += number
        skipped += left_out
        code |= run.returncode or int(not counts['passed'])
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(totals) + '\n')
    for name in skipped:
        print(f'skipped, which counts as failed: {name}', file=sys.stderr)
    if not totals['passed']:
        print('no test ran', file=sys.stderr)
    return int(bool(code or totals['failed'] or not totals['passed']))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
