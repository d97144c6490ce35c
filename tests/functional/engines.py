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

"""The ways to move a guest that tests and benchmarks compare."""

SNAPSHOT = 'snapshot'
"""Freeze, mirror new writes, copy the rest."""
DIRECT = 'direct'
"""libvirt's synchronous mirror, its background copy limited."""
ONE_FLAG = 'one-flag'
"""libvirt alone, with ``VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES``."""
STOCK = 'stock'
"""libvirt alone, as Nova asks for it: copy, and copy what changed."""
MEMORY_ONLY = 'memory-only'
"""libvirt alone, the disks where both hosts see them."""

ALL = (SNAPSHOT, DIRECT, ONE_FLAG, STOCK, MEMORY_ONLY)
