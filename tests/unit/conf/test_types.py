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

import ddt

from sxm_openstack.conf import types


@ddt.ddt
class TestPortRange(unittest.TestCase):
    @ddt.data(
        ('49300:49399', range(49300, 49400)),
        ('1024:1024', range(1024, 1025)),
        (' 60000:65535 ', range(60000, 65536)),
    )
    @ddt.unpack
    def test_ports(self, text, expected):
        self.assertEqual(expected, types.ports(text))

    @ddt.data(
        '',
        ':',
        '49300',
        '49300:',
        ':49300',
        'a:b',
        '2000:1999',
        '80:90',
        '65000:65536',
        '-5:2000',
        '2000-2010',
        '1:2:3',
        '3000:x',
    )
    def test_bad_ports(self, text):
        with self.assertRaises(ValueError) as caught:
            types.ports(text)
        self.assertIn(repr(text), str(caught.exception))

    def test_value_is_normalized(self):
        self.assertEqual('2000:2010', types.PortRange()(' 02000:2010'))

    def test_equal_types(self):
        # oslo.config registers an option again only if it is the same.
        self.assertEqual(types.PortRange(), types.PortRange())
        self.assertNotEqual(types.PortRange(), object())
