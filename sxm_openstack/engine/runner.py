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

"""Runs the steps of a plan in order and undoes them in reverse."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import logging

from sxm_openstack import exception
from sxm_openstack.engine import clock as engine_clock
from sxm_openstack.engine import control as engine_control
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import step as engine_step

LOG = logging.getLogger(__name__)

_UNDO_FOR_S = 30.0
_UNDO_AGAIN_AFTER_S = 1.0


Recover = Callable[[Exception], bool]
"""Given why a step failed: puts it right, or says that it cannot."""


class Runner:
    """Executes steps with the journal written around each.

    :param steps: the plan, in order.
    :param journal: where intents and results are kept.
    :param record: the server's record; its steps are those begun.
    :param control: abort requests, looked at between steps.
    :param host: name of this host, for errors.
    :param clock: for the pauses between attempts to undo.
    :param recover: asked when a step fails that can be resumed.
    """

    def __init__(
        self,
        steps: Sequence[engine_step.Step],
        journal: engine_journal.Journal,
        record: engine_journal.Record,
        control: engine_control.Control,
        host: str,
        clock: engine_clock.Clock | None = None,
        recover: Recover | None = None,
    ) -> None:
        self._steps = list(steps)
        self._journal = journal
        self._record = record
        self._control = control
        self._host = host
        self._clock = clock or engine_clock.SystemClock()
        self._recover = recover
        self._begun: list[engine_step.Step] = []
        self._left: list[str] = []

    @property
    def record(self) -> engine_journal.Record:
        return self._record

    @property
    def left(self) -> tuple[str, ...]:
        """Steps that could not be undone, newest first."""
        return tuple(self._left)

    def run(self) -> None:
        """Execute every step.

        On any failure all that was begun is undone, and then the failure is
        raised with the step, host and disk that it happened in.

        :raises PreCheckFailed: the journal still knows an earlier move of
            the server, or cannot be written; nothing was done.
        :raises SXMError: the located failure; everything was undone and the
            journal has forgotten the move.
        :raises NeedsOperator: undoing failed too; the message and the
            journal say what is left.
        """
        if self._steps:
            self._begin_record()
        for step in self._steps:
            try:
                self._control.check()
                self._begin(step)
                self._execute(step)
                self._mark(step, 'done')
                self._control.check()
            except Exception as error:
                failure = self._locate(error, step)
                LOG.warning('Step %s failed: %s', step, failure)
                self._undo_after(failure)
                if failure is error:
                    raise
                raise failure from error

    def revert(self) -> None:
        """Undo every step that was begun, newest first, past failures.

        What fails is tried again for half a minute: a daemon that restarts
        must not leave a guest on its overlays.  May be called again after
        it raised.

        :raises NeedsOperator: some could not be undone, named in the text;
            the journal keeps these.
        """
        if self._record.committed:
            raise exception.NeedsOperator(
                'The guest was handed to its destination: there is no way '
                'back.',
                host=self._host,
            )
        deadline_s = self._clock.now() + _UNDO_FOR_S
        failures = self._undo()
        while _may_pass(failures) and self._clock.now() < deadline_s:
            self._clock.sleep(_UNDO_AGAIN_AFTER_S)
            failures = self._undo()
        self._left = [str(step) for step in reversed(self._begun)]
        if not failures:
            self._forget()
            return
        reasons = '; '.join(str(error) for error in failures)
        raise exception.NeedsOperator(
            f'Not undone: {", ".join(self._left)}. {reasons}',
            host=self._host,
            remedy='Look at the journal of the server and undo these by '
            'hand, in this order.',
        ) from ExceptionGroup('undo', failures)

    def commit(self) -> None:
        """Pass the point of no return: from here on nothing is undone."""
        self._begun.clear()
        self._record = dataclasses.replace(self._record, committed=True)
        if self._steps:
            self._journal.write(self._record)

    def _begin_record(self) -> None:
        try:
            self._journal.begin(self._record)
        except exception.SXMError as error:
            error.locate(host=self._host)
            raise
        except OSError as error:
            self._forget()
            raise exception.PreCheckFailed(
                f'The journal cannot be written: {error}',
                host=self._host,
                remedy='Check [sxm] state_dir and the space there.',
            ) from error

    def _begin(self, step: engine_step.Step) -> None:
        self._begun.append(step)
        self._mark(step, 'intent')
        LOG.info('Step %s begins', step)

    def _execute(self, step: engine_step.Step) -> None:
        while True:
            try:
                step.execute()
                return
            except Exception as error:
                if self._recover is None or not step.resumable:
                    raise
                if not self._recover(error):
                    raise
                LOG.info('Step %s goes on', step)

    def _mark(self, step: engine_step.Step, mark: str | None) -> None:
        steps = dict(self._record.steps)
        if mark is None:
            steps.pop(str(step), None)
        else:
            steps[str(step)] = mark
        self._record = dataclasses.replace(
            self._record, steps=tuple(steps.items())
        )
        self._journal.write(self._record)

    def _undo(self) -> list[Exception]:
        """One pass over all that is left; the failures."""
        failures: list[Exception] = []
        for step in reversed(tuple(self._begun)):
            LOG.info('Undoing step %s', step)
            try:
                step.revert()
            except Exception as error:
                LOG.exception('Undoing step %s failed', step)
                failures.append(error)
                continue
            self._begun.remove(step)
            try:
                self._mark(step, None)
            except Exception:
                # The record says too much, which does no harm: undoing
                # twice is safe.  Stopping here would.
                LOG.exception('Step %s stays in the journal', step)
        return failures

    def _forget(self) -> None:
        try:
            self._journal.forget(self._record.server)
        except Exception:
            # It must not hide why the move failed.
            LOG.exception('The journal keeps %s', self._record.server)

    def _locate(
        self, error: Exception, step: engine_step.Step
    ) -> exception.SXMError:
        if isinstance(error, exception.SXMError):
            return error.locate(
                host=self._host, disk=step.target or None, step=step.name
            )
        return exception.MoveFailed(
            f'{type(error).__name__}: {error}',
            host=self._host,
            disk=step.target or None,
            step=step.name,
        )

    def _undo_after(self, failure: exception.SXMError) -> None:
        try:
            self.revert()
        except exception.NeedsOperator as left:
            raise exception.NeedsOperator(
                f'{failure} | {left.message}',
                host=failure.host,
                disk=failure.disk,
                step=failure.step,
                remedy=left.remedy,
            ) from ExceptionGroup('move and undo', [failure, left])


def _may_pass(failures: Sequence[Exception]) -> bool:
    """Whether another attempt may help."""
    return any(
        not isinstance(error, exception.NeedsOperator) for error in failures
    )
