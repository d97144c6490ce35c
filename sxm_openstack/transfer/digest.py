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

"""Digests of the chunks of an NBD export.

A program of its own (``python3 -I program.py digest``, see
:mod:`sxm_openstack.transfer.program`) on libnbd.  Its input is one JSON
object::

    {"socket": "/run/sxm/1/vda.base.nbd", "export": "vda",
     "size_bytes": 1073741824, "chunk_bytes": 1048576, "chunks": null}

and its output one a line, ``{"digest": "..."}`` for every chunk in order (the
last may be shorter) or ``{"error": ...}``.  ``chunks`` may be a sorted list of
those that are wanted.  A digest is BLAKE2b of 128 bits.
What the server says is zero is not read; it has the digest of zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
import json
import sys
from typing import Any

import nbd

from sxm_openstack.transfer import chunks
from sxm_openstack.transfer.copier import plan
from sxm_openstack.transfer.copier import server

READ_BYTES = 1 << 20


def digests(job: dict[str, Any]) -> Iterator[str]:
    """Digests of all chunks, in order.

    :raises CopyError: the server cannot be read.
    """
    where = {'socket': job['socket'], 'export': job['export']}
    source = server.SourceMap(where, depth=False)
    reader = server.Server('source', where)
    size = int(job['size_bytes'])
    if source.size < size:
        raise server.CopyError(
            f'{job["export"]} has {source.size} bytes, less than {size}'
        )
    chunk = int(job['chunk_bytes'])
    digester = chunks.Digester(chunk)
    for begin, end in chunks.runs(job.get('chunks'), chunk, size):
        for start, length in plan.windows(begin, end):
            for offset, count, data in chunks.pieces(source, start, length):
                if not data:
                    yield from digester.add_zeros(count)
                    continue
                for position in range(offset, offset + count, READ_BYTES):
                    part = min(READ_BYTES, offset + count - position)
                    read = reader.handle.pread(part, position)
                    yield from digester.add(memoryview(read))
        yield from digester.end()


def main(arguments: list[str]) -> int:
    if len(arguments) > 1:
        print('usage: digest [SOURCE]', file=sys.stderr)
        return 2
    try:
        for digest in digests(json.load(sys.stdin)):
            print(json.dumps({'digest': digest}))
    except (server.CopyError, nbd.Error, KeyError, ValueError) as error:
        print(json.dumps({'error': str(error)}))
        return 1
    return 0
