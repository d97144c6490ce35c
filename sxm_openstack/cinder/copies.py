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

"""The copies that one backend makes: how many, how far, and what is left."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import json
import os
import pathlib
import threading
import time

from oslo_config import cfg
from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.cinder import options
from sxm_openstack.transfer import process
from sxm_openstack.transfer import volume as transfer_volume

CONF = cfg.CONF
LOG = logging.getLogger(__name__)

_NOTE_S = 2.0
_REPORT_S = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """How far the copy of a volume is.

    :param volume_id: of the volume that is moved, for its owner.
    :param rate_bytes_per_s: mean since the copy began, holes left out.
    :param eta_s: until it is copied; ``None`` when that is unknown.
    """

    volume_id: str
    destination_id: str
    phase: str
    total_bytes: int
    done_bytes: int
    rate_bytes_per_s: int
    eta_s: float | None


class Checkpoint:
    """How far a copy is, on disk: a later process goes on from there.

    It counts only for the same two images: anything else was never written
    below the offset.
    """

    def __init__(self, directory: pathlib.Path, names: list[str]) -> None:
        self._path = directory / f'{names[0]}.json'
        self._names = names

    def read(self) -> int:
        """Offset to go on from; 0 is the begin."""
        try:
            found = json.loads(self._path.read_text())
            if found['names'] == self._names:
                return int(found['offset'])
        except FileNotFoundError:
            return 0
        except (ValueError, KeyError, TypeError) as error:
            LOG.warning('%s is not used: %s', self._path, error)
        return 0

    def write(self, offset: int) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_suffix('.new')
        with fresh.open('w') as file:
            json.dump({'names': self._names, 'offset': offset}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self._path)

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)


class Copies:
    """Makes copies, a few at a time.  Methods may be called by any thread.

    :param host: ``host@backend`` whose copies these are.
    :param listener: is told how far a copy is, every ten seconds and when
        its phase changes.
    """

    def __init__(self, host: str, listener: Callable[[Report], None]) -> None:
        self._directory = pathlib.Path(options.state_dir(host))
        self._turns = threading.BoundedSemaphore(CONF.sxm_volume.max_copies)
        self._listener = listener
        self._lock = threading.Lock()
        self._reports: dict[str, Report] = {}
        self._aborted: set[str] = set()

    def clean(self) -> None:
        """End what programs an earlier process left; checkpoints stay.

        :raises NeedsOperator: one does not end.
        """
        for path in self._directory.glob('*.run'):
            process.clean_directory(str(path))

    def reports(self) -> list[Report]:
        """How far each copy is that is under way or waits for its turn."""
        with self._lock:
            return list(self._reports.values())

    def abort(self, volume_id: str) -> bool:
        """End a copy; whether there was one.  The volume stays as it was."""
        with self._lock:
            if volume_id not in self._reports:
                return False
            self._aborted.add(volume_id)
            return True

    def copy(
        self,
        names: list[str],
        source: transfer_volume.Volume,
        destination: transfer_volume.Volume,
    ) -> None:
        """Copy and compare; blocks, also until it is its turn.

        After a failure nothing is left of it, and the next try begins anew;
        after the end of this process it goes on where it was.

        :param names: id of the source and of the destination volume, then
            whatever else must be the same for a copy to be resumed.
        :raises SXMError: see :meth:`.VolumeCopy.run`.
        :raises Aborted: somebody asked for it.
        """
        watch = _Watch(names[0], names[1], self._tell)
        try:
            watch.phase('waiting')
            with self._turn(names[0]):
                self._copy(names, source, destination, watch)
        finally:
            with self._lock:
                self._reports.pop(names[0], None)
                self._aborted.discard(names[0])

    def _copy(
        self,
        names: list[str],
        source: transfer_volume.Volume,
        destination: transfer_volume.Volume,
        watch: '_Watch',
    ) -> None:
        checkpoint = Checkpoint(self._directory, names)
        offset = checkpoint.read()
        if offset:
            LOG.info('The copy of volume %s goes on at %d', names[0], offset)
        copying = transfer_volume.VolumeCopy(
            str(self._directory / f'{names[0]}.run'),
            source,
            destination,
            options.transfer_settings(),
        )

        def tell(progress: transfer_volume.Progress) -> None:
            self._check(names[0])
            if watch.progress(progress):
                checkpoint.write(progress.offset)

        try:
            copying.run(
                transfer_volume.Orders(
                    rate_bytes_per_s=options.rate_bytes_per_s,
                    offset=offset,
                    verify=CONF.sxm_volume.verify,
                ),
                tell,
            )
        except Exception:
            # What failed is not gone on with: why it did is not known here.
            # (The end of this process is no Exception.)
            checkpoint.forget()
            raise
        checkpoint.forget()

    @contextlib.contextmanager
    def _turn(self, volume_id: str) -> Iterator[None]:
        while not self._turns.acquire(timeout=1.0):
            self._check(volume_id)
        try:
            yield
        finally:
            self._turns.release()

    def _check(self, volume_id: str) -> None:
        with self._lock:
            if volume_id in self._aborted:
                raise exception.Aborted(
                    f'The copy of volume {volume_id} was aborted.'
                )

    def _tell(self, report: Report, important: bool) -> None:
        with self._lock:
            self._reports[report.volume_id] = report
        if important:
            self._listener(report)


class _Watch:
    """Turns looks at a copy into reports, now and then."""

    def __init__(
        self,
        volume_id: str,
        destination_id: str,
        tell: Callable[[Report, bool], None],
    ) -> None:
        self._ids = (volume_id, destination_id)
        self._tell = tell
        self._phase = ''
        self._began_s = time.monotonic()
        self._began_bytes = 0
        self._counts = False
        self._noted_s = 0.0
        self._reported_s = 0.0

    def phase(self, name: str) -> None:
        self._phase = name
        self._tell(Report(*self._ids, name, 0, 0, 0, None), True)

    def progress(self, found: transfer_volume.Progress) -> bool:
        """Whether it is time to note how far it is."""
        now_s = time.monotonic()
        changed = found.phase != self._phase
        if changed or not self._counts:
            # Until the copier has counted what there is, it says 0.
            self._phase = str(found.phase)
            self._counts = found.total_bytes > 0
            self._began_s, self._began_bytes = now_s, found.done_bytes
        elapsed_s = max(now_s - self._began_s, 1e-3)
        rate = (found.done_bytes - self._began_bytes) / elapsed_s
        left = found.total_bytes - found.done_bytes
        report = Report(
            *self._ids,
            str(found.phase),
            found.total_bytes,
            found.done_bytes,
            int(rate),
            left / rate if rate > 0 else None,
        )
        due = changed or now_s - self._reported_s >= _REPORT_S
        if due:
            self._reported_s = now_s
        self._tell(report, due)
        if found.phase is not transfer_volume.Phase.COPYING:
            return changed
        if not found.offset or now_s - self._noted_s < _NOTE_S:
            return False
        self._noted_s = now_s
        return True
