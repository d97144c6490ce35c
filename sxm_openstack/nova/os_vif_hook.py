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

"""For deployments in which the stock ``nova-compute`` binary must stay.

``nova-compute`` loads every entry point of ``os_vif`` before it creates its
service, so importing this module is early enough.  ``sxm-nova-compute`` is
the cleaner way: use it wherever the binary can be chosen.
"""

from os_vif import plugin
from os_vif.objects import host_info
from os_vif.objects import instance_info as vif_instance
from os_vif.objects import vif as vif_objects

from sxm_openstack.nova import loader

loader.install()


class SXMHook(plugin.PluginBase):
    """Plugs nothing: it is here to be loaded."""

    def describe(self) -> host_info.HostPluginInfo:
        return host_info.HostPluginInfo(plugin_name='sxm', vif_info=[])

    def plug(
        self,
        vif: vif_objects.VIFBase,
        instance_info: vif_instance.InstanceInfo,
    ) -> None:
        """Never called: no VIF names this plugin."""

    def unplug(
        self,
        vif: vif_objects.VIFBase,
        instance_info: vif_instance.InstanceInfo,
    ) -> None:
        """Never called: no VIF names this plugin."""
