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

"""Jobs side by side."""

from __future__ import annotations

import concurrent.futures
import typing


def run(
    jobs: typing.Sequence[typing.Callable[[], typing.Any]],
) -> list[typing.Any]:
    """Run jobs side by side; the first error is raised when all ended.

    :returns: what each job returned, in their order.
    """
    with concurrent.futures.ThreadPoolExecutor(max(len(jobs), 1)) as pool:
        return [
            future.result() for future in [pool.submit(job) for job in jobs]
        ]
