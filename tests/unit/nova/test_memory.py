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

import unittest

from sxm_openstack.nova import memory

from tests.unit.nova import fakes


class TestStop(unittest.TestCase):
    def stop(self, job, timeout_s=60.0):
        return memory.stop(job.lookup, timeout_s, fakes.FakeClock())

    def test_without_a_job(self):
        job = fakes.FakeJob()
        self.assertTrue(self.stop(job))
        self.assertEqual(0, job.asked)

    def test_one_request_may_not_be_enough(self):
        job = fakes.FakeJob(aborts=3)
        self.assertTrue(self.stop(job))
        self.assertEqual(3, job.asked)

    def test_a_job_that_does_not_end(self):
        self.assertFalse(self.stop(fakes.FakeJob(aborts=None)))

    def test_a_domain_that_has_gone(self):
        self.assertTrue(self.stop(fakes.FakeJob(absent=True)))

    def test_a_daemon_that_does_not_answer_is_no_answer(self):
        def lookup():
            raise fakes.libvirt_error(38)

        self.assertFalse(memory.stop(lookup, 10.0, fakes.FakeClock()))
