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

"""Calls a verb as a user that may do nothing, through a daemon as root.

``python -m tests.unit.privileged.as_nobody CONFIG UID VERB PATH``, as root.
The daemon is forked and keeps the capabilities of its context; then
this process becomes the other user, as nova-compute is one from the start.
"""

import json
import os
import sys

from oslo_config import cfg
from oslo_privsep import priv_context

from sxm_openstack import exception
from sxm_openstack import privileged
from sxm_openstack.privileged import sockets


def main(config: str, uid: str, verb: str, *paths: str) -> None:
    cfg.CONF(['--config-file', config], project='nova')
    privileged.default.start(priv_context.Method.FORK)
    os.setgroups([])
    os.setresgid(int(uid), int(uid), int(uid))
    os.setresuid(int(uid), int(uid), int(uid))
    answers = []
    for path in paths:
        try:
            getattr(sockets, verb)(path, os.geteuid())
        except exception.SXMError as error:
            answers.append(str(error))
        else:
            answers.append('')
    print(json.dumps({'uid': os.geteuid(), 'answers': answers}))


if __name__ == '__main__':
    main(*sys.argv[1:])
