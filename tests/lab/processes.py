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

"""Finding and ending what belongs to a lab, also after a crash."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import typing

#: In the environment of every process outside the namespaces that belongs
#: to a lab; the value is the state directory.
MARK = "SXM_LAB_MARK"


def marked_pids(state: pathlib.Path) -> list[int]:
    """Every process that carries this lab's mark, but for the caller."""
    return [
        int(entry)
        for entry in os.listdir("/proc")
        if entry.isdigit()
        and int(entry) != os.getpid()
        and mark_of(int(entry)) == str(state)
    ]


def mark_of(pid: int) -> str | None:
    """The state directory that a process is marked with, if it is."""
    try:
        environ = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    prefix = f"{MARK}=".encode()
    for item in environ.split(b"\0"):
        if item.startswith(prefix):
            return item[len(prefix) :].decode(errors="replace")
    return None


def members(state: pathlib.Path) -> list[int]:
    """Every process that sees a root file system of this lab.

    Found by the overlay's upper directory in the process's own mount
    table: namespace numbers are reused, that path is not.
    """
    upper = f"upperdir={state}/hosts/"
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            mounts = pathlib.Path(f"/proc/{entry}/mountinfo").read_text()
        except OSError:
            # It ended meanwhile, or is a zombie.
            continue
        if upper in mounts:
            found.append(int(entry))
    return found


def kill(pids: typing.Iterable[int]) -> None:
    """SIGKILL to each; those that are gone already do not matter."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def wipe(state: pathlib.Path, keep_logs: bool) -> None:
    """Remove what a lab left on disk.

    :param keep_logs: leave ``log/`` for whoever asks why it failed.
    """
    for entry in state.iterdir() if state.is_dir() else ():
        if keep_logs and entry.name == "log":
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
