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

"""What is read out of the machine's own configuration."""

import pathlib
import tempfile
import unittest
from unittest import mock

from tests.lab import machine
from tests.lab import paths
from tests.lab import progress
from tests.lab import rootfs

DEB822 = """\
Types: deb
# a comment
URIs: http://one.example/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb-src
URIs: http://sources.example/debian
Suites: bookworm
Components: main
"""


class SourcesTests(unittest.TestCase):
    def test_deb822(self):
        self.assertEqual(
            [
                machine.Source(
                    "http://one.example/debian",
                    ("bookworm", "bookworm-updates"),
                    ("main",),
                )
            ],
            machine.parse_sources(DEB822),
        )

    def test_one_line_with_options(self):
        text = (
            "# deb http://no.example/debian trixie main\n"
            "deb [arch=amd64 signed-by=/k] http://two.example/d trixie "
            "main contrib\n"
            "deb-src http://src.example/d trixie main\n"
        )
        self.assertEqual(
            [
                machine.Source(
                    "http://two.example/d", ("trixie",), ("main", "contrib")
                )
            ],
            machine.parse_sources(text),
        )


class RecipeTests(unittest.TestCase):
    def test_a_package_more_is_another_tree(self):
        before = rootfs.recipe_hash()
        self.assertEqual(before, rootfs.recipe_hash())
        more = [*rootfs.packages(), "one-more"]
        with mock.patch.object(rootfs, "packages", return_value=more):
            self.assertNotEqual(before, rootfs.recipe_hash())

    def test_another_lock_is_another_tree(self):
        before = rootfs.recipe_hash()
        with mock.patch.object(
            rootfs, "constraints_text", return_value="nova==1\n"
        ):
            self.assertNotEqual(before, rootfs.recipe_hash())

    def test_the_packages_hold_what_moves_disks(self):
        self.assertLessEqual(
            {"qemu-system-x86", "libnbd-bin", "python3-libnbd"},
            set(rootfs.packages()),
        )


class RunLoggedTests(unittest.TestCase):
    def test_a_failure_names_the_log_and_shows_its_end(self):
        with tempfile.TemporaryDirectory() as name:
            log = pathlib.Path(name) / "log"
            with self.assertRaisesRegex(paths.LabError, "no room") as caught:
                machine.run_logged(
                    ["sh", "-c", "echo no room >&2; exit 3"],
                    log,
                    {"PATH": machine.PATH},
                )
            self.assertIn(str(log), str(caught.exception))
            self.assertIn("ended with 3", str(caught.exception))

    def test_only_root_may_go_on(self):
        with mock.patch("os.geteuid", return_value=1000):
            with self.assertRaisesRegex(paths.LabError, "root"):
                machine.install_host_tools(progress.Progress(quiet=True))
