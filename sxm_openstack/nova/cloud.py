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

"""What Nova knows of a server, asked from outside of nova-compute."""

from collections.abc import Callable
import threading
from typing import Any
from typing import TypeVar

from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects
import nova.conf
from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.engine import journal as engine_journal
from sxm_openstack.engine import ports
from sxm_openstack.nova import peer

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

_ANSWER_WITHIN_S = 30.0

Answer = TypeVar('Answer')


class NovaCloud:
    """Asks Nova's conductor, and the other host of a move, over RPC.

    :param prepare: makes Nova's RPC usable; called once, when needed.
    :param answer_within_s: a message bus that is away is waited for no
        longer.
    """

    def __init__(
        self,
        prepare: Callable[[], None],
        answer_within_s: float = _ANSWER_WITHIN_S,
    ) -> None:
        self._prepare = prepare
        self._answer_within_s = answer_within_s
        self._prepared = False

    def is_moving(self, server: str) -> bool:
        """See :meth:`.upkeep.Cloud.is_moving`."""

        def ask() -> bool:
            instance = self._instance(server)
            return instance is not None and instance.task_state == 'migrating'

        return self._ask(ask, f'Nova cannot be asked about server {server}')

    def host_of(self, server: str) -> str:
        """See :meth:`.upkeep.Cloud.host_of`."""

        def ask() -> str:
            instance = self._instance(server)
            return '' if instance is None else str(instance.host or '')

        return self._ask(ask, f'Nova cannot be asked about server {server}')

    def peer_state(self, record: engine_journal.Record) -> ports.DomainState:
        """What the other host says of the domain of a server that is here.

        :raises SXMError: it cannot be asked.
        """

        def ask() -> ports.DomainState:
            instance = self._instance(record.server)
            if instance is None:
                # It was deleted meanwhile: it runs nowhere.
                return ports.DomainState.ABSENT
            context = nova_context.get_admin_context()
            return peer.connect(context, instance, record.peer).state()

        return self._ask(
            ask, f'{record.peer} cannot be asked about server {record.server}'
        )

    @staticmethod
    def _instance(server: str) -> Any:
        context = nova_context.get_admin_context()
        try:
            return objects.Instance.get_by_uuid(context, server)
        except nova_exception.InstanceNotFound:
            return None

    def _ask(self, question: Callable[[], Answer], failure: str) -> Answer:
        """The answer, within a bounded time.

        :raises Retryable: there was none.
        """
        if not self._prepared:
            self._prepare()
            self._prepared = True
        answers: list[Answer] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                answers.append(question())
            except Exception as error:
                LOG.debug('%s', failure, exc_info=True)
                errors.append(error)

        # Not a pool: the end of this process must not wait for it.
        thread = threading.Thread(target=run, name='sxm-ask', daemon=True)
        thread.start()
        thread.join(self._answer_within_s)
        if answers:
            return answers[0]
        cause = errors[0] if errors else None
        if isinstance(cause, exception.SXMError):
            raise cause
        text = f'{type(cause).__name__}: {cause}' if cause else 'no answer'
        raise exception.Retryable(
            f'{failure}: {text.splitlines()[0]}',
            host=CONF.host,
            remedy='Check the message bus and nova-conductor; with '
            '"--assume-ended" you vouch that the server is not being '
            'migrated.',
        ) from cause
