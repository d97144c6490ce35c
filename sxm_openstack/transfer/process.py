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

"""Local programs that outlive the service which starts them.

Each runs in a session of its own and is recorded in its directory, so that
a later process can find it, talk to it and end it:

* ``<name>.pid``: process id and start time, as JSON; the pair is unique
  until the next boot, the id alone is not;
* ``<name>.log``: what it wrote to its standard error.

The command line of each names its directory.  So one whose starter was killed
before it could write the record is found as well.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import errno
import fcntl
import fnmatch
import json
import os
import pathlib
import signal
import struct
import subprocess
import termios
import time
from typing import TextIO

from sxm_openstack import exception
from sxm_openstack.transfer import base

_POLL_S = 0.01
_LOG_TAIL_BYTES = 2000
STOP_TIMEOUT_S = 30.0
_SUFFIXES = ('.sock', '.nbd', '.qsd', '.ctl', '.log', '.pid', '.pid-new')
_DAEMON = 'qemu-storage-daemon'
_PROGRAM = '/sxm_openstack/transfer/program.py'


# Those that this process started: it has to wait for them, and learns how
# they ended.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclasses.dataclass(slots=True)
class Program:
    """A program that was started here or by an earlier process.

    :param started: start time in clock ticks since boot, field 22 of
        proc_pid_stat(5).
    :param popen: only in the process that started it.
    """

    directory: pathlib.Path
    name: str
    pid: int
    started: int
    popen: subprocess.Popen[bytes] | None = None

    def alive(self) -> bool:
        if self.popen is not None:
            return self.popen.poll() is None
        return start_time(self.pid) == self.started

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended within the time; blocks for at most that."""
        deadline = time.monotonic() + timeout_s
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def terminate(self) -> bool:
        """Ask it to end; whether it was alive."""
        alive = self.alive()
        self._signal(signal.SIGTERM)
        return alive

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Ask it to end, then make it.  It has ended on return.

        :param timeout_s: for it to end by itself.
        :raises NeedsOperator: not even SIGKILL ended it, as happens to a
            process that waits for a dead disk.
        """
        self.terminate()
        if not self.wait(timeout_s):
            self._signal(signal.SIGKILL)
            if not self.wait(STOP_TIMEOUT_S):
                raise exception.NeedsOperator(
                    f'Process {self.pid} ({self.name}) does not end: it '
                    'waits for its storage.',
                    remedy=f'Look at /proc/{self.pid}/stack; call again '
                    'when it has gone.',
                )

    def forget(self) -> None:
        """Remove its record; it must have ended."""
        _children.pop(self.pid, None)
        for suffix in ('.pid', '.log'):
            path = self.directory / f'{self.name}{suffix}'
            path.unlink(missing_ok=True)

    def log_tail(self) -> str:
        """The end of what it wrote to its standard error, in one line."""
        path = self.directory / f'{self.name}.log'
        try:
            text = path.read_bytes()[-_LOG_TAIL_BYTES:].decode(
                errors='replace'
            )
        except FileNotFoundError:
            return 'it left no log'
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return '; '.join(lines[-5:]) or 'it wrote nothing'

    def _signal(self, number: signal.Signals) -> None:
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def start_time(pid: int) -> int | None:
    """Start time of a live process; ``None`` for a zombie or none."""
    try:
        stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, field 2, is in parentheses and may contain anything.
    fields = stat.rpartition(')')[2].split()
    if fields[0] in ('Z', 'X'):
        return None
    return int(fields[19])


def start(
    directory: pathlib.Path,
    name: str,
    command: Sequence[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> Program:
    """Start a program and record it.

    What it makes, sockets above all, is for this user alone.

    :param command: argument list; no secret belongs into it.
    :param stdin: as for :class:`subprocess.Popen`.
    :raises MoveFailed: it could not be started.
    """
    log = directory / f'{name}.log'
    try:
        with log.open('wb') as stderr:
            popen = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                close_fds=True,
                umask=0o077,
            )
    except OSError as error:
        raise exception.MoveFailed(
            f'{command[0]} could not be started: {error}',
            remedy=f'Install {command[0]} on this host.',
        ) from error
    # The process exists until it is waited for, and so does its start time.
    started = start_time(popen.pid) or 0
    program = Program(directory, name, popen.pid, started, popen)
    _children[popen.pid] = popen
    record = {'pid': popen.pid, 'started': started}
    unfinished = directory / f'{name}.pid-new'
    unfinished.write_text(json.dumps(record))
    unfinished.rename(directory / f'{name}.pid')
    return program


def start_with_pipes(
    directory: pathlib.Path, name: str, command: Sequence[str]
) -> tuple[Program, TextIO, TextIO]:
    """Start a program to talk to.

    :returns: the program, its standard input and its standard output.
    :raises MoveFailed: it could not be started.
    """
    input_read, input_write = os.pipe()
    output_read, output_write = os.pipe()
    # Not os.fdopen: a service may have replaced it by something that waits
    # where we only look.
    stdin = open(input_write, 'w')  # noqa: SIM115
    stdout = open(output_read)  # noqa: SIM115
    try:
        program = start(
            directory, name, command, stdin=input_read, stdout=output_write
        )
    except exception.MoveFailed:
        stdin.close()
        stdout.close()
        raise
    finally:
        os.close(input_read)
        os.close(output_write)
    return program, stdin, stdout


def read_available(descriptor: int) -> bytes:
    """What a pipe holds right now, perhaps nothing; never blocks.

    Without a non-blocking descriptor, which under a library of green threads
    blocks all the same.
    """
    found = b''
    while count := _pending(descriptor):
        found += os.read(descriptor, count)
    return found


def _pending(descriptor: int) -> int:
    answer = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
    return int(struct.unpack('i', answer)[0])


def recorded(directory: pathlib.Path) -> Iterator[Program]:
    """Programs of which a directory has a record, alive or not."""
    for path in sorted(directory.glob('*.pid')):
        try:
            data = json.loads(path.read_text())
        except ValueError:
            # Cut short, by a full file system: what it tells of is found
            # by its command line.
            path.unlink(missing_ok=True)
            continue
        except FileNotFoundError:
            continue  # forgotten by another thread meanwhile
        pid, started = data['pid'], data['started']
        child = _children.get(pid)
        yield Program(directory, path.stem, pid, started, child)


def strays(root: str) -> Iterator[Program]:
    """Programs of ours whose command line names a directory below the root.

    With or without a record; each has the directory that it names.
    """
    prefix = os.path.join(root, '')
    for entry in pathlib.Path('/proc').iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            command = (entry / 'cmdline').read_bytes().decode(errors='replace')
        except (FileNotFoundError, ProcessLookupError):
            continue
        words = command.split('\0')
        directory = _directory_of(words, prefix)
        started = start_time(int(entry.name))
        if directory is None or started is None:
            continue
        pid = int(entry.name)
        yield Program(
            directory, _name_of(words), pid, started, _children.get(pid)
        )


def _directory_of(words: Sequence[str], prefix: str) -> pathlib.Path | None:
    """Directory right below the prefix that one of our programs names."""
    if _name_of(words):
        for word in words[1:]:
            if word.startswith(prefix):
                name = word[len(prefix) :].partition('/')[0]
                return pathlib.Path(prefix) / name
    return None


def _name_of(words: Sequence[str]) -> str:
    """Which of our programs it is; empty for one that is none."""
    if os.path.basename(words[0]) == _DAEMON:
        return _DAEMON
    for index, word in enumerate(words[:-1]):
        if word.endswith(_PROGRAM):
            return words[index + 1]
    return ''


def prepare_directory(
    path: str, group_id: int | None, privileges: base.Privileges | None = None
) -> pathlib.Path:
    """Make a directory for sockets.

    :param group_id: group of QEMU's processes, which then may use and make
        sockets in it; ``None`` when they run as this user.
    :param privileges: makes it, where this user may not.
    """
    directory = pathlib.Path(path)
    if privileges is not None:
        privileges.share_directory(path)
        return directory
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if group_id is not None:
        os.chown(directory, -1, group_id)
        directory.chmod(0o770)
    return directory


def end_recorded(directory: pathlib.Path, pattern: str) -> None:
    """End the programs whose name matches, and forget them; idempotent.

    :raises NeedsOperator: one does not end.
    """
    for program in recorded(directory):
        if fnmatch.fnmatchcase(program.name, pattern):
            program.stop(timeout_s=5.0)
            program.forget()


def clean_directory(path: str) -> None:
    """End all recorded programs and remove every file; idempotent.

    :raises NeedsOperator: a program does not end.
    """
    directory = pathlib.Path(path)
    if directory.is_dir():
        end_recorded(directory, '*')
    for program in list(strays(str(directory.parent))):
        if program.directory == directory:
            program.stop(timeout_s=5.0)
    if not directory.is_dir():
        return
    for suffix in _SUFFIXES:
        for left in directory.glob(f'*{suffix}'):
            left.unlink(missing_ok=True)
    remove_directory(directory)


def remove_directory(directory: pathlib.Path) -> None:
    """Remove it if nothing is left in it."""
    try:
        directory.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
            raise
