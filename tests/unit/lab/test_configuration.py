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

"""The rendered configuration, read back as the services would."""

import configparser
import json
import pathlib
import tempfile
import unittest
from unittest import mock

from tests.lab import configuration
from tests.lab import paths
from tests.lab import roster


def parse(text):
    # Sections come more than once; oslo.config merges them as well.
    parser = configparser.ConfigParser(
        strict=False, interpolation=None, default_section="no default"
    )
    parser.read_string(text)
    return parser


def with_launcher(exists):
    return mock.patch.object(
        configuration, "launcher_exists", return_value=exists
    )


class FilesTests(unittest.TestCase):
    def files(self, **choices):
        with with_launcher(True):
            return configuration.files(configuration.Choices(**choices))

    def test_no_placeholder_is_left(self):
        for name, text in self.files().items():
            if name.endswith((".conf", "openrc")):
                self.assertNotIn("$", text, name)

    def test_every_service_has_its_file(self):
        files = self.files()
        wanted = {config for *_, config in roster.APIS.values()}
        wanted |= {config for _, config in roster.WORKERS.values()}
        wanted |= {f"nova-{plan.name}.conf" for plan in paths.COMPUTES}
        self.assertEqual(set(), wanted - set(files))

    def test_a_compute_migrates_over_the_migration_network(self):
        for plan in paths.COMPUTES:
            conf = parse(self.files()[f"nova-{plan.name}.conf"])
            self.assertEqual(plan.name, conf["DEFAULT"]["host"])
            self.assertEqual(plan.address, conf["DEFAULT"]["my_ip"])
            self.assertEqual(
                plan.migration_address,
                conf["libvirt"]["live_migration_inbound_addr"],
            )
            self.assertEqual(
                plan.migration_address, conf["sxm"]["my_migration_address"]
            )

    def test_each_cell_has_its_own_queue_and_database(self):
        files = self.files()
        for plan in paths.COMPUTES:
            conf = parse(files[f"nova-{plan.name}.conf"])
            self.assertTrue(
                conf["DEFAULT"]["transport_url"].endswith(f"/{plan.cell}")
            )
            # A compute host must not know any database.
            self.assertNotIn("database", conf)
        for cell in paths.CELLS:
            conf = parse(files[f"nova-{cell}.conf"])
            self.assertIn(f"/nova_{cell}?", conf["database"]["connection"])

    def test_drivers_are_chosen_by_host(self):
        files = self.files(stock=frozenset({"compute2"}))
        drivers = {
            plan.name: parse(files[f"nova-{plan.name}.conf"])["DEFAULT"][
                "compute_driver"
            ]
            for plan in paths.COMPUTES
        }
        self.assertEqual(
            {
                "compute1": configuration.SXM_DRIVER,
                "compute2": configuration.STOCK_DRIVER,
                "compute3": configuration.SXM_DRIVER,
            },
            drivers,
        )

    def test_added_text_wins_on_every_compute(self):
        files = self.files(nova_conf="[libvirt]\nimages_type = raw\n")
        for plan in paths.COMPUTES:
            conf = parse(files[f"nova-{plan.name}.conf"])
            self.assertEqual("raw", conf["libvirt"]["images_type"])

    def test_the_broker_has_a_vhost_for_each_cell(self):
        vhosts = {
            each["name"]
            for each in json.loads(self.files()["rabbit.json"])["vhosts"]
        }
        self.assertEqual({"/", "cell0", *paths.CELLS}, vhosts)

    def test_hosts_are_different_hosts_to_libvirt(self):
        one, two = (
            configuration.libvirt_files(plan) for plan in paths.COMPUTES[:2]
        )
        self.assertNotEqual(one["libvirtd.conf"], two["libvirtd.conf"])
        self.assertIn('migration_host = "10.78.0.12"', two["qemu.conf"])


class ChoicesTests(unittest.TestCase):
    def test_an_unknown_compute_is_refused(self):
        with self.assertRaisesRegex(paths.LabError, "ctl: no such compute"):
            configuration.Choices(frozenset({"ctl"}))

    def test_the_command_follows_the_driver(self):
        plan = paths.plan_of("compute1")
        with with_launcher(True):
            ours = roster.compute_service(plan, configuration.Choices())
            stock = roster.compute_service(
                plan, configuration.Choices(frozenset({"compute1"}))
            )
        self.assertIn("sxm_openstack.cmd.nova_compute", ours.argv)
        self.assertEqual("nova-compute", stock.argv[0])

    def test_without_a_launcher_all_is_stock(self):
        with with_launcher(False):
            self.assertTrue(
                configuration.runs_stock("compute1", configuration.Choices())
            )


class WriteTests(unittest.TestCase):
    def test_scripts_become_executable_and_folders_are_made(self):
        with tempfile.TemporaryDirectory() as name:
            etc = pathlib.Path(name)
            configuration.write(etc, {"a/b.conf": "x\n", "s": "#!/bin/sh\n"})
            self.assertEqual("x\n", (etc / "a/b.conf").read_text())
            self.assertEqual(0o755, (etc / "s").stat().st_mode & 0o777)
