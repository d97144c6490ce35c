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

"""Command line of the relay."""

from __future__ import annotations

import json
import os
import signal
import sys

from sxm_openstack.transfer.relay import connect
from sxm_openstack.transfer.relay import listen
from sxm_openstack.transfer.relay import tls


def main(arguments: list[str]) -> int:
    modes = {
        'connect': connect.ConnectRelay,
        'listen': listen.ListenRelay,
    }
    if len(arguments) != 2 or arguments[0] not in modes:
        print('usage: relay connect|listen DIRECTORY', file=sys.stderr)
        return 2
    mode, directory = arguments
    os.umask(0o077)
    try:
        relay = modes[mode](directory, json.load(sys.stdin))
    except (ValueError, KeyError, OSError) as error:
        reason = tls.why(error) if isinstance(error, OSError) else repr(error)
        print(json.dumps({'error': reason}), flush=True)
        return 1

    def stop(number: int, frame: object) -> None:
        relay.running = False

    signal.signal(signal.SIGTERM, stop)
    print(json.dumps({'port': relay.port}), flush=True)
    relay.run()
    return 0
