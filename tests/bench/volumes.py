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

"""Copies of volumes, ours and Cinder's: ``python -m tests.bench.volumes``.

Both copy the same sources, in turn, between files of this machine: Cinder's
copy is its own function, ours has the comparison by digests in it.  Run it
with the environment of the tests (``.tox/py3/bin/python``).  Writes
``build/bench-volumes.json``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import tempfile
import time

from cinder import objects
from cinder import utils as cinder_utils
from cinder.volume import volume_utils
from oslo_config import cfg

from sxm_openstack.transfer import base
from sxm_openstack.transfer import volume

GIB = 1 << 30
MIB = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    name: str
    size_bytes: int
    data_bytes: int


SET = (
    Case('empty', 20 * GIB, 0),
    Case('full', 8 * GIB, 6 * GIB),
    Case('sparse', GIB, 64 * MIB),
)


def make(path: pathlib.Path, case: Case) -> None:
    """Data in pieces of 64 MiB, evenly over the volume."""
    block = os.urandom(64 * MIB)
    pieces = case.data_bytes // len(block)
    with path.open('wb') as file:
        file.truncate(case.size_bytes)
        for number in range(pieces):
            step = case.size_bytes // pieces
            file.seek(number * step // 4096 * 4096)
            file.write(block)
        os.fsync(file.fileno())


def forget_cache(path: pathlib.Path) -> None:
    """As after a while: nothing of the file is in memory."""
    with path.open('rb') as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def stock(case: Case, source: pathlib.Path, target: pathlib.Path) -> None:
    volume_utils.copy_volume(
        str(source),
        str(target),
        case.size_bytes // MIB,
        '1M',
        execute=cinder_utils.execute,
        sparse=False,
    )


def ours(case: Case, source: pathlib.Path, target: pathlib.Path) -> None:
    sides = [
        volume.at_path(str(path), 'raw', case.size_bytes, thin_device=True)
        for path in (source, target)
    ]
    volume.VolumeCopy(
        str(source.parent / 'run'), *sides, base.Settings(copy_connections=2)
    ).run(volume.Orders(verify=VERIFY), lambda progress: None)


VERIFY = True


def measure(case: Case, directory: pathlib.Path) -> dict[str, float]:
    source = directory / 'source'
    make(source, case)
    found: dict[str, float] = {}
    for name, copy in (('stock', stock), ('ours', ours)):
        target = directory / f'target-{name}'
        target.touch()
        os.truncate(target, case.size_bytes)
        forget_cache(source)
        began_s = time.monotonic()
        copy(case, source, target)
        subprocess.run(['sync', str(target)], check=True)
        found[f'{name}_s'] = round(time.monotonic() - began_s, 2)
        found[f'{name}_allocated_mib'] = target.stat().st_blocks * 512 // MIB
        target.unlink()
    source.unlink()
    found['ratio'] = round(found['stock_s'] / found['ours_s'], 2)
    return found


def main() -> None:
    global VERIFY
    parser = argparse.ArgumentParser()
    parser.add_argument('--scale', type=int, default=1, help='divide sizes')
    parser.add_argument('--no-verify', action='store_true')
    arguments = parser.parse_args()
    VERIFY = not arguments.no_verify
    objects.register_all()
    cfg.CONF([], project='cinder')
    cinder_utils.get_root_helper = lambda: 'env'
    results = {}
    with tempfile.TemporaryDirectory(dir='/var/tmp') as scratch:
        for case in SET:
            part = dataclasses.replace(
                case,
                size_bytes=case.size_bytes // arguments.scale,
                data_bytes=case.data_bytes // arguments.scale,
            )
            results[case.name] = measure(part, pathlib.Path(scratch))
            print(case.name, results[case.name], flush=True)
    sums = [
        sum(one[name] for one in results.values())
        for name in ('stock_s', 'ours_s')
    ]
    results['set'] = {'ratio': round(sums[0] / sums[1], 2)}
    print('set', results['set'])
    report = pathlib.Path('build/bench-volumes.json')
    report.parent.mkdir(exist_ok=True)
    report.write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
    main()
