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

from __future__ import annotations

import unittest

import libvirt

from sxm_openstack import exception
from sxm_openstack.hypervisor import survey

from tests.fakes import libvirt as fake
from tests.unit.hypervisor import test_xml


class Domain:
    def __init__(self, uuid, text):
        self.uuid = uuid
        self.text = text

    def UUIDString(self):
        return self.uuid

    def XMLDesc(self, flags):
        if isinstance(self.text, Exception):
            raise self.text
        return self.text


class Connection:
    def __init__(self, *domains):
        self.domains = domains

    def listAllDomains(self):
        return self.domains


def overlaid(*domains):
    return list(survey.overlaid(lambda: Connection(*domains), 'here'))


class TestOverlaid(unittest.TestCase):
    def test_ordinary_disks(self):
        self.assertEqual([], overlaid(Domain('a', test_xml.recorded('nova'))))

    def test_in_every_stage_of_a_move(self):
        for name, suffix, job in (
            ('mirrored', 'sxm-overlay', 'copy'),
            ('handed-over', 'sxm-handover', ''),
        ):
            found = overlaid(Domain('a', test_xml.recorded(name)))
            self.assertTrue(found)
            for each in found:
                self.assertEqual('a', each.server)
                self.assertTrue(each.source.endswith(suffix), each)
            self.assertIn(job, {each.job for each in found})

    def test_one_that_goes_meanwhile(self):
        gone = Domain('a', fake.error(libvirt.VIR_ERR_NO_DOMAIN))
        other = Domain('b', test_xml.recorded('handed-over'))
        self.assertEqual(
            {'b'}, {each.server for each in overlaid(gone, other)}
        )

    def test_silence_says_nothing(self):
        lost = fake.error(
            libvirt.VIR_ERR_INTERNAL_ERROR, 'closed', libvirt.VIR_FROM_RPC
        )
        with self.assertRaises(exception.Retryable):
            overlaid(Domain('a', lost))
