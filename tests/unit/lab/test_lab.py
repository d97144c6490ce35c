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

"""The lab's object and command line where no lab runs."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import tempfile
import unittest
from unittest import mock

from tests.lab import __main__ as command
from tests.lab import lab as lab_mod
from tests.lab import paths
from tests.lab import processes
from tests.lab import progress


class NoLabTests(unittest.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.state = pathlib.Path(folder.name).resolve() / "state"
        self.lab = lab_mod.Lab(self.state)

    def test_status_says_that_nothing_runs(self):
        status = self.lab.status()
        self.assertFalse(status["ready"])
        self.assertEqual({}, status["hosts"])
        self.assertEqual("off", status["links"]["everywhere"])

    def test_a_host_that_does_not_run_names_the_next_step(self):
        with self.assertRaisesRegex(paths.LabError, "tests.lab up"):
            self.lab.host("compute1")

    def test_a_broken_record_counts_as_none(self):
        self.state.mkdir()
        (self.state / "lab.json").write_text('{"mode": "op')
        self.assertIsNone(self.lab.status()["mode"])

    def test_a_pid_of_somebody_else_is_no_host(self):
        file = self.state / "shared/etc/pid-compute1"
        file.parent.mkdir(parents=True)
        file.write_text(f"{os.getpid()}\n")
        self.assertEqual([], self.lab.hosts())

    def test_down_ends_what_a_crash_left(self):
        left = subprocess.Popen(
            ["sleep", "300"], env={processes.MARK: str(self.state)}
        )
        self.addCleanup(left.wait)
        self.addCleanup(left.kill)
        other = subprocess.Popen(
            ["sleep", "300"], env={processes.MARK: f"{self.state}2"}
        )
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        (self.state / "hosts/compute1/upper").mkdir(parents=True)
        (self.state / "log").mkdir()
        self.lab.down()
        self.assertEqual(-9, left.wait(timeout=10))
        self.assertIsNone(other.poll())
        self.assertEqual(["log"], os.listdir(self.state))

    def test_down_does_not_call_it_done_while_something_is_left(self):
        with (
            mock.patch.object(
                processes, "members", return_value=[os.getpid()]
            ),
            mock.patch.object(processes, "kill"),
            mock.patch("time.monotonic", side_effect=[0.0, 100.0]),
        ):
            with self.assertRaisesRegex(
                paths.LabError, f"process {os.getpid()}"
            ):
                self.lab.down()

    def test_fewer_computes_need_a_lab_of_hosts(self):
        with self.assertRaisesRegex(paths.LabError, "--hosts"):
            self.lab.up(computes=2)


class CommandLineTests(unittest.TestCase):
    def run_verb(self, *argv):
        out, err = io.StringIO(), io.StringIO()
        with tempfile.TemporaryDirectory() as name:
            with (
                mock.patch.dict(os.environ, {"SXM_LAB_STATE": name}),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
            ):
                return command.main(argv), out.getvalue(), err.getvalue()

    def test_status_json_of_no_lab(self):
        code, out, _ = self.run_verb("status", "--json")
        self.assertEqual(1, code)
        self.assertFalse(json.loads(out)["ready"])

    def test_an_error_is_one_line_and_a_code(self):
        code, out, err = self.run_verb("exec", "compute1", "--", "true")
        self.assertEqual((1, ""), (code, out))
        self.assertRegex(err, "^error: lab host compute1 does not run")

    def test_a_command_is_needed(self):
        with mock.patch.object(lab_mod.Lab, "host"):
            code, _, err = self.run_verb("exec", "compute1", "--")
        self.assertEqual(1, code)
        self.assertIn("after --", err)

    def test_a_commands_own_options_and_code_pass_through(self):
        with mock.patch.object(lab_mod.Lab, "host") as host:
            host.return_value.execute.return_value = 7
            code, _, _ = self.run_verb("exec", "ctl", "--", "ls", "-l", "--")
        self.assertEqual(7, code)
        host.return_value.execute.assert_called_once_with(["ls", "-l", "--"])

    def test_stock_hosts_come_with_commas_or_again(self):
        with mock.patch.object(lab_mod.Lab, "up") as up:
            self.run_verb(
                "up", "--stock", "compute1,compute2", "--stock", "compute3"
            )
        self.assertEqual(
            ["compute1", "compute2", "compute3"], up.call_args.kwargs["stock"]
        )


class ProgressTests(unittest.TestCase):
    def test_what_fails_is_said(self):
        stream = io.StringIO()
        with self.assertRaises(ValueError):
            with progress.Progress(stream=stream).during("work"):
                raise ValueError
        self.assertRegex(
            stream.getvalue(), r"(?s)^ +\d+\.\ds  work \.\.\..*FAILED after"
        )

    def test_quiet_prints_nothing(self):
        stream = io.StringIO()
        with progress.Progress(quiet=True, stream=stream).during("work"):
            pass
        self.assertEqual("", stream.getvalue())
