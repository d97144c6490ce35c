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

"""The two ends of a move, wrapped around those that Nova gives a driver.

Nova has one end for success and one for failure, and both are final: after
the first it deletes the source's disks, after the second the destination's.
So each is called only when it is certain where the guest runs.
"""

from collections.abc import Callable
from typing import Any

from oslo_log import log as logging

from sxm_openstack import exception
from sxm_openstack.nova import events
from sxm_openstack.nova import session as sxm_session

LOG = logging.getLogger(__name__)

End = Callable[..., Any]


class Ends:
    """Given to Nova in place of its own two.

    :param post_method: Nova's end for success.
    :param recover_method: Nova's end for failure.
    :ivar reached: one of the two was called.
    :ivar nova_failed: and it raised: Nova has to know.
    """

    def __init__(
        self,
        session: sxm_session.Session,
        stages: events.Stages,
        post_method: End,
        recover_method: End,
    ) -> None:
        self._session = session
        self._stages = stages
        self._post = post_method
        self._recover = recover_method
        self.reached = False
        self.nova_failed = False

    def completed(self, *arguments: Any, **named: Any) -> None:
        """The guest runs on the destination."""
        try:
            self._session.complete()
        except Exception:
            # There is no way back: Nova must learn of it all the same.
            LOG.exception('The source could not let go of everything')
        self._stages.end()
        self._call(self._post, *arguments, **named)

    def failed(
        self,
        context: Any,
        instance: Any,
        dest: str,
        migrate_data: Any,
        migration_status: str = 'failed',
    ) -> None:
        """The memory phase, or the stage before it, failed.

        Undone only when the guest really runs here: a failed call of
        libvirt's is no verdict.
        """
        error: Exception = exception.MoveFailed(
            'The migration of the memory failed: '
            f'{self._session.memory_error or "libvirt gave no reason"}'
        )
        if self._session.aborted:
            error = exception.Aborted('The migration was aborted.')
            migration_status = 'cancelled'
        arrived = False
        try:
            self._session.stop_memory()
            arrived = self._session.guest_is_at() == 'destination'
            if not arrived:
                self._session.rollback()
        except Exception as trouble:
            LOG.exception('Not everything was undone', instance=instance)
            error = trouble
        if arrived:
            LOG.warning('It has arrived after all', instance=instance)
            self.completed(context, instance, dest, True, migrate_data)
            return
        self._stages.end(error)
        self._call(
            self._recover,
            context,
            instance,
            dest,
            migrate_data,
            migration_status=migration_status,
        )

    def _call(self, end: End, *arguments: Any, **named: Any) -> None:
        self.reached = True
        try:
            end(*arguments, **named)
        except Exception:
            self.nova_failed = True
            raise
