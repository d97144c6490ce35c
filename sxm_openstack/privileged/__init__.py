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

"""What has to be done as root where nova-compute is not.

A context of oslo.privsep with the four capabilities that the verbs need,
and no more; they are in modules beside this one.  A verb takes no path that
it does not check itself against the options, which its daemon reads from the
configuration files and from nowhere else.

The daemon is started when it is first needed, as Nova starts its own: by the
root helper, or by ``[sxm_privileged] helper_command``.
"""

from oslo_privsep import capabilities
from oslo_privsep import priv_context

default = priv_context.PrivContext(
    __name__,
    cfg_section='sxm_privileged',
    pypath=f'{__name__}.default',
    capabilities=[
        capabilities.CAP_CHOWN,
        capabilities.CAP_DAC_OVERRIDE,
        capabilities.CAP_FOWNER,
        capabilities.CAP_FSETID,
    ],
)
