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

"""Every error that this project raises, split by what the caller may do.

::

    SXMError
    |-- PreCheckFailed      nothing was created or changed: fix and ask again
    |   `-- UnsupportedServer   this server cannot be moved this way
    |-- Retryable           a step failed in a way that may pass: try again
    |   `-- PeerUnreachable     the other host or its relay does not answer
    |-- Aborted             the operator asked for it; everything was undone
    |-- MoveFailed          undone: the guest runs on the source, all is there
    |   |-- MirrorFailed        a block job ended without READY
    |   |-- CopyFailed          the base could not be copied
    |   |-- VerifyFailed        the two sides differ
    |   `-- LinkStalled         no progress on the link for the watchdog's time
    `-- NeedsOperator       the move or its undoing stopped half way
"""


class SXMError(Exception):
    """Base of all errors of this project.

    :param message: what happened, in a sentence.
    :param host: name of the host it happened on, if known.
    :param disk: target name of the disk (``vda``), if known.
    :param step: name of the step of the move, if known.
    :param remedy: what to do next, in a sentence.
    """

    def __init__(
        self,
        message: str,
        *,
        host: str | None = None,
        disk: str | None = None,
        step: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.message = message
        self.host = host
        self.disk = disk
        self.step = step
        self.remedy = remedy
        super().__init__(message)

    @property
    def kwargs(self) -> dict[str, str | None]:
        """What oslo.messaging passes on, so that the caller knows it too."""
        return {
            'host': self.host,
            'disk': self.disk,
            'step': self.step,
            'remedy': self.remedy,
        }

    def locate(
        self,
        *,
        host: str | None = None,
        disk: str | None = None,
        step: str | None = None,
    ) -> 'SXMError':
        """Add where it happened, keeping what a lower layer already said."""
        self.host = self.host or host
        self.disk = self.disk or disk
        self.step = self.step or step
        return self

    def __str__(self) -> str:
        where = ', '.join(
            f'{name} {value}'
            for name, value in (
                ('step', self.step),
                ('host', self.host),
                ('disk', self.disk),
            )
            if value
        )
        text = f'{self.message} ({where})' if where else self.message
        return f'{text} Next: {self.remedy}' if self.remedy else text


class PreCheckFailed(SXMError):
    """Nothing was created or changed; the message names what to fix."""


class UnsupportedServer(PreCheckFailed):
    """The server has something that cannot be moved this way."""


class Retryable(SXMError):
    """The same call may succeed later."""


class PeerUnreachable(Retryable):
    """The other host, or the relay on it, does not answer."""


class Aborted(SXMError):
    """The operator ended the move; everything was undone."""


class MoveFailed(SXMError):
    """The move failed and was undone: the guest runs on the source."""


class MirrorFailed(MoveFailed):
    """A block job ended without becoming READY, or was lost."""


class CopyFailed(MoveFailed):
    """The frozen base of a disk could not be copied."""


class VerifyFailed(MoveFailed):
    """The two sides of a disk differ."""


class LinkStalled(MoveFailed):
    """Nothing moved on the link for longer than the watchdog allows."""


class NeedsOperator(SXMError):
    """The move, or its undoing, stopped half way; the message says where."""
