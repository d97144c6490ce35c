#!/bin/bash
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
#
# Check the style of every shell script of the project.

set -euo pipefail

cd "$(dirname "$0")/.."

# By the first line, as not all of them end in .sh.  devstack/ holds pieces
# without a first line, which DevStack sources.
mapfile -t scripts < <(
    {
        grep -rlIE '^#!/bin/(ba)?sh' . \
            --exclude-dir={.git,.tox,build,.stestr,node_modules} |
            while read -r file; do
                head -n 1 "$file" | grep -q '^#!/bin/bash' && echo "$file"
            done
        find devstack -type f ! -name '*.txt' ! -name '*.rst'
    } | sort -u
)
if [[ ${#scripts[@]} -eq 0 ]]; then
    echo "bashate.sh: found no script at all, which cannot be" >&2
    exit 1
fi
# E005: what is sourced has no first line. E006: long lines. E042, `local` that
# hides the failure of a command, is an error here.
bashate --ignore E005,E006 --error E042 "${scripts[@]}"
