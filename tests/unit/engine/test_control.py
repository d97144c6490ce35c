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

"""Requests to a running move."""

import threading
import unittest

from sxm_openstack import exception
from sxm_openstack.engine import control


class TestControl(unittest.TestCase):
    def test_nothing_asked(self):
        made = control.Control()
        made.check()
        self.assertFalse(made.aborted)
        self.assertFalse(made.hurried)

    def test_abort_keeps_the_first_reason(self):
        made = control.Control()
        made.abort('first')
        made.abort('second')
        self.assertTrue(made.aborted)
        self.assertRaisesRegex(exception.Aborted, '^first$', made.check)
        self.assertRaises(exception.Aborted, made.check)

    def test_from_another_thread(self):
        made = control.Control()
        thread = threading.Thread(target=made.hurry)
        thread.start()
        thread.join()
        self.assertTrue(made.hurried)
        made.check()
