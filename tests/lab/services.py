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

"""Services of a lab host: started detached, known by name.

A service's command is kept on disk with the lab's state, so that
``restart`` can run the same again.  Its output is appended to
``/var/log/lab/NAME.log``.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
import typing

from tests.lab import host as host_mod
from tests.lab import paths

#: How long a service may take to end by itself before it is killed; Nova's
#: drain for minutes.
STOP_GRACE_S = 3.0

RUNNING = "running"
STOPPED = "stopped"


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """What to run.

    :ivar argv: the command; it must stay in the foreground.
    :ivar environ: added to the host's own environment.
    """

    name: str
    argv: tuple[str, ...]
    environ: dict[str, str] = dataclasses.field(default_factory=dict)


def start(host: host_mod.Host, service: Service) -> None:
    """Start a service and return at once.

    The session leader is the service itself: its PID is also its process
    group, by which ``stop`` reaches the workers.
    """
    file = _record(host, service.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(dataclasses.asdict(service)))
    pid_file = _pid_file(host, service.name)
    pid_file.unlink(missing_ok=True)
    host.run(
        [
            "setsid",
            "--fork",
            "sh",
            "-c",
            'exec >> "/var/log/lab/$0.log" 2>&1 < /dev/null; '
            'echo $$ > "/run/lab/$0.pid"; exec "$@"',
            service.name,
            *service.argv,
        ],
        environ=service.environ,
    )
    deadline = time.monotonic() + 10.0
    while not (pid_file.exists() and pid_file.read_text().strip()):
        if time.monotonic() > deadline:
            raise paths.LabError(
                f"service {service.name} on {host.name} did not start; "
                + _log(host, service.name)
            )
        time.sleep(0.01)


def names(host: host_mod.Host) -> list[str]:
    """The services that were ever started on the host."""
    return sorted(
        file.stem for file in _record(host, "x").parent.glob("*.json")
    )


def pid_of(host: host_mod.Host, name: str) -> int | None:
    """The service's PID inside the host, None if it does not run."""
    try:
        pid = int(_pid_file(host, name).read_text())
    except (OSError, ValueError):
        return None
    status = host.root / "proc" / str(pid) / "status"
    try:
        # A zombie that is not reaped yet is not running.
        return None if "State:\tZ" in status.read_text() else pid
    except OSError:
        return None


def states(host: host_mod.Host) -> dict[str, dict[str, typing.Any]]:
    """``{name: {"state": ..., "pid": ...}}`` of every service."""
    found = {}
    for name in names(host):
        pid = pid_of(host, name)
        found[name] = {
            "state": STOPPED if pid is None else RUNNING,
            "pid": pid,
        }
    return found


def stop(host: host_mod.Host, name: str) -> None:
    """End a service and its workers: TERM, a short wait, then KILL.

    When it returns, the addresses that the service listened on are free.
    """
    _known(host, name)
    pid = pid_of(host, name)
    if pid is None:
        return
    host.run(["kill", "-TERM", str(pid)], check=False)
    if not _group_ends(host, pid, STOP_GRACE_S):
        host.run(["kill", "-KILL", "--", f"-{pid}"], check=False)
        if not _group_ends(host, pid, 20.0):
            raise paths.LabError(
                f"service {name} on {host.name} (process group {pid} there) "
                "survives SIGKILL: it hangs in the kernel; take the lab down"
            )


def restart(host: host_mod.Host, name: str) -> None:
    """Stop a service and start its recorded command again."""
    service = _known(host, name)
    stop(host, name)
    start(host, service)


def _known(host: host_mod.Host, name: str) -> Service:
    try:
        record = json.loads(_record(host, name).read_text())
    except FileNotFoundError:
        raise paths.LabError(
            f"host {host.name} has no service {name!r}: it has "
            + (", ".join(names(host)) or "none")
        ) from None
    return Service(record["name"], tuple(record["argv"]), record["environ"])


def _group_ends(host: host_mod.Host, group: int, timeout_s: float) -> bool:
    """Wait until a process group is empty; zombies do not count."""
    ask = ["pgrep", "--pgroup", str(group), "--runstates", "RSDTI"]
    deadline = time.monotonic() + timeout_s
    while host.run(ask, check=False).returncode == 0:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _pid_file(host: host_mod.Host, name: str) -> pathlib.Path:
    return host.root / "run/lab" / f"{name}.pid"


def _record(host: host_mod.Host, name: str) -> pathlib.Path:
    return host.state / "hosts" / host.name / "services" / f"{name}.json"


def wait_until(
    what: str,
    test: typing.Callable[[], bool],
    timeout_s: float,
    every_s: float = 0.2,
    hint: str = "",
) -> None:
    """Call ``test`` until it is true.

    :raises LabError: it was not within ``timeout_s``; ``hint`` says where
        to look.
    """
    deadline = time.monotonic() + timeout_s
    while not test():
        if time.monotonic() > deadline:
            raise paths.LabError(
                f"{what} did not happen within {timeout_s:.0f} s"
                + (f": {hint}" if hint else "")
            )
        time.sleep(every_s)


def wait_ready(
    host: host_mod.Host,
    name: str,
    test: typing.Callable[[], bool],
    timeout_s: float,
    every_s: float = 0.3,
) -> None:
    """Wait until a service is of use: ``test`` is true.

    :raises LabError: the service ended, or the time is over; with the end
        of its log.
    """
    deadline = time.monotonic() + timeout_s
    while not test():
        if pid_of(host, name) is None:
            raise paths.LabError(
                f"service {name} on {host.name} has ended; {_log(host, name)}"
            )
        if time.monotonic() > deadline:
            raise paths.LabError(
                f"service {name} on {host.name} is not ready after "
                f"{timeout_s:.0f} s; {_log(host, name)}"
            )
        time.sleep(every_s)


def _log(host: host_mod.Host, name: str) -> str:
    file = host.log_dir / f"{name}.log"
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError as error:
        return f"it has no log ({error})"
    said = [line[:300] for line in lines if line.strip()][-5:]
    return f"the end of {file}:\n  " + "\n  ".join(said)
