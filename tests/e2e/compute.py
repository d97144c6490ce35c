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

"""One host's nova-compute: its end, its start, its options and its log."""

from __future__ import annotations

import collections.abc
import configparser
import contextlib
import io
import time

from tests.e2e import rest
from tests.lab import host as host_mod
from tests.lab import services

NAME = 'nova-compute'
_UP_WITHIN_S = 240.0

Options = dict[str, dict[str, str]]


class Compute:
    """nova-compute on one lab host."""

    def __init__(self, host: host_mod.Host, api: rest.Api) -> None:
        self.host = host
        self._api = api

    @property
    def log(self) -> str:
        """All that it has written since the lab is up."""
        path = self.host.log_dir / f'{NAME}.log'
        return path.read_text(errors='replace')

    def kill(self) -> None:
        """SIGKILL, to this process alone."""
        pid = services.pid_of(self.host, NAME)
        if pid is None:
            raise AssertionError(f'no nova-compute on {self.host.name}')
        self.host.run(['kill', '-KILL', str(pid)])
        deadline = time.monotonic() + 30
        while services.pid_of(self.host, NAME) is not None:
            if time.monotonic() > deadline:
                raise AssertionError('nova-compute survives SIGKILL')
            time.sleep(0.05)

    def start(self) -> None:
        """Start it as it was started before, and wait until it serves."""
        since = len(self.log)
        services.restart(self.host, NAME)
        self._wait_up(since)

    def restart(self) -> None:
        self.start()

    @contextlib.contextmanager
    def running_with(self, options: Options) -> collections.abc.Iterator[None]:
        """Restarted with other options, and back again afterwards.

        :param options: by section.
        """
        file = self.host.root / f'etc/lab/nova-{self.host.name}.conf'
        before = file.read_text()
        file.write_text(before + _as_ini(options))
        try:
            self.restart()
            yield
        finally:
            file.write_text(before)
            self.restart()

    @contextlib.contextmanager
    def running_stock(self) -> collections.abc.Iterator[None]:
        """Nova's own nova-compute with Nova's own driver meanwhile."""
        ours = services.Service(
            NAME,
            (
                '/opt/os/bin/python',
                '-m',
                'sxm_openstack.cmd.nova_compute',
                '--config-file',
                f'/etc/lab/nova-{self.host.name}.conf',
            ),
        )
        stock = services.Service(NAME, ('nova-compute', *ours.argv[3:]))
        driver = {'compute_driver': 'libvirt.LibvirtDriver'}
        file = self.host.root / f'etc/lab/nova-{self.host.name}.conf'
        before = file.read_text()
        file.write_text(before + _as_ini({'DEFAULT': driver}))
        try:
            self._exchange(stock)
            yield
        finally:
            file.write_text(before)
            self._exchange(ours)

    def _exchange(self, service: services.Service) -> None:
        since = len(self.log)
        services.stop(self.host, NAME)
        services.start(self.host, service)
        self._wait_up(since)

    def _wait_up(self, since: int) -> None:
        """Until it takes calls, and the schedulers know that it is up."""
        self._wait(
            lambda: 'Creating 2nd RPC server for service' in self.log[since:]
        )
        self.wait_known()

    def wait_known(self) -> None:
        """Until Nova takes it for up."""
        self._wait(self._is_known)

    def _is_known(self) -> bool:
        found = self._api.get(
            'compute',
            f'/os-services?binary={NAME}&host={self.host.name}',
        )['services']
        return bool(found and found[0]['state'] == 'up')

    def _wait(self, test: collections.abc.Callable[[], bool]) -> None:
        deadline = time.monotonic() + _UP_WITHIN_S
        while not test():
            if time.monotonic() > deadline:
                raise AssertionError(
                    f'nova-compute on {self.host.name} is not up after '
                    f'{_UP_WITHIN_S:.0f} s; see {self.host.log_dir}'
                )
            time.sleep(0.3)


def _as_ini(options: Options) -> str:
    """Text to append to a file; the last value of an option counts."""
    parser = configparser.RawConfigParser(default_section='none')
    parser.read_dict(options)
    text = io.StringIO()
    parser.write(text)
    return '\n' + text.getvalue()
