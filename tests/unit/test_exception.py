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

"""The tree of errors, and what an error says."""

import inspect
import json
import re
import unittest

import ddt

from sxm_openstack import exception

CLASSES = [
    each
    for _, each in inspect.getmembers(exception, inspect.isclass)
    if issubclass(each, exception.SXMError)
]


class TestTree(unittest.TestCase):
    def test_the_picture_shows_every_class_under_its_base(self):
        shown = {}
        path = []
        for line in exception.__doc__.splitlines():
            found = re.match(r'    ([| ]*)(?:[|`]-- )?([A-Z]\w+)', line)
            if not found:
                continue
            name = found[2]
            depth = (line.index(name) - 4) // 4
            path[depth:] = [name]
            shown[name] = path[depth - 1] if depth else 'Exception'
        self.assertEqual(
            {each.__name__: each.__base__.__name__ for each in CLASSES},
            shown,
        )


@ddt.ddt
class TestError(unittest.TestCase):
    def test_says_where_and_what_next(self):
        error = exception.MirrorFailed(
            'The mirror failed.',
            host='alpha',
            disk='vda',
            step='mirror-disk',
            remedy='Look at the log.',
        )
        self.assertEqual(
            'The mirror failed. (step mirror-disk, host alpha, disk vda) '
            'Next: Look at the log.',
            str(error),
        )

    def test_says_only_what_is_known(self):
        self.assertEqual('It.', str(exception.SXMError('It.')))
        self.assertEqual(
            'It. (disk vda)', str(exception.SXMError('It.', disk='vda'))
        )

    def test_locate_keeps_what_is_known(self):
        error = exception.CopyFailed('It.', host='beta')
        self.assertIs(
            error, error.locate(host='alpha', disk='vda', step='copy-base')
        )
        self.assertEqual(
            'It. (step copy-base, host beta, disk vda)', str(error)
        )

    @ddt.data(*CLASSES)
    def test_made_again_on_another_host(self, kind):
        """As oslo.messaging does: class, arguments, ``kwargs``, by JSON."""
        error = kind('It.', host='h', disk='d', step='s', remedy='r')
        args, kwargs = json.loads(json.dumps([error.args, error.kwargs]))
        again = kind(*args, **kwargs)
        self.assertEqual(str(error), str(again))
        self.assertEqual(error.kwargs, again.kwargs)
