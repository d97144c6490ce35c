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
# Install what the tests need before tox can do the rest.
#
#   bootstrap.sh tools DIR      tox, uv and bindep into the environment DIR
#   bootstrap.sh packages DIR   packages of bindep.txt that are missing
#
# PYTHON is the interpreter to use, by default the distribution's.

set -euo pipefail

cd "$(dirname "$0")/.."
python=${PYTHON:-/usr/bin/python3}

say() {
    echo "bootstrap: $*" >&2
}

apt_install() {
    if [[ $EUID -ne 0 ]]; then
        say "missing packages; run as root: apt-get install $*"
        exit 1
    fi
    say "apt-get install $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "$@"
}

install_tools() {
    local dir=$1
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        apt_install python3 python3-venv
    fi
    say "tox, uv and bindep into $dir"
    "$python" -m venv --clear "$dir"
    # uv first, which then gets the rest several times faster than pip.
    "$dir/bin/pip" install --quiet --disable-pip-version-check \
        -c constraints.txt uv
    "$dir/bin/uv" pip install --quiet --python "$dir/bin/python" \
        -c constraints.txt -r tools/tool-requirements.txt
}

install_packages() {
    local dir=$1
    local missing
    # bindep's exit code is 1 when something is missing, and then it prints
    # the names.
    missing=$("$dir/bin/bindep" --brief test) && return
    if [[ -z $missing ]]; then
        say "bindep failed and named no package: run $dir/bin/bindep test"
        exit 1
    fi
    # shellcheck disable=SC2086
    apt_install $missing
    "$dir/bin/bindep" --brief test
}

case "${1:-} ${2:-}" in
    "tools "?*) install_tools "$2" ;;
    "packages "?*) install_packages "$2" ;;
    *)
        say "usage: bootstrap.sh tools|packages DIR"
        exit 2
        ;;
esac
