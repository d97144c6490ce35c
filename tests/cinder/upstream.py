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

"""Cinder's own tests, as they are, with our manager.

``python -m tests.cinder.upstream NAME...`` runs them as unittest does.
Those that assert how Cinder copies, by dd, are left out: that is what is
different.
"""

import sys
import unittest

from cinder.tests.unit import conf_fixture

from tests.cinder import base

DIFFERENT = ('test_copy_volume_data_mgr',)


def use_our_manager():
    set_defaults = conf_fixture.set_defaults

    def with_manager(conf):
        set_defaults(conf)
        conf.set_default('volume_manager', base.OURS)

    conf_fixture.set_defaults = with_manager


class Loader(unittest.TestLoader):
    def getTestCaseNames(self, case):
        return [
            name
            for name in super().getTestCaseNames(case)
            if not name.startswith(DIFFERENT)
        ]


if __name__ == '__main__':
    use_our_manager()
    unittest.main(
        module=None,
        argv=['upstream', '-q', *sys.argv[1:]],
        testLoader=Loader(),
    )
