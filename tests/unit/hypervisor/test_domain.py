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

"""What :class:`.LibvirtDomain` makes of errors, events and their absence.

What it does with a libvirt that behaves is in ``tests/contract``.
"""

from __future__ import annotations

import unittest
from unittest import mock

import libvirt

from sxm_openstack import exception
from sxm_openstack.engine import ports
from sxm_openstack.hypervisor import blockjob
from sxm_openstack.hypervisor import domain as hypervisor_domain
from sxm_openstack.hypervisor import greeting
from sxm_openstack.hypervisor import pause

from tests.fakes import libvirt as fake_libvirt

BASE = '/i/disk'
OVERLAY = '/i/disk.overlay'
NBD = '/run/nbd'


class Case(unittest.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.connection = fake_libvirt.FakeConnection()
        self.virt = fake_libvirt.FakeVirDomain(self.connection)
        self.connection.domain = self.virt
        self.domain = hypervisor_domain.LibvirtDomain(
            lambda: self.connection, fake_libvirt.UUID, host='source'
        )
        self.addCleanup(self.domain.close)
        patcher = mock.patch.object(greeting, 'await_greeting')
        self.greeting = patcher.start()
        self.addCleanup(patcher.stop)

    def start(self) -> None:
        """Start a mirror that is shown as running."""
        self.virt.mirror = ('copy', '', NBD)
        self.domain.start_mirror('vda', NBD, 'vda')

    def vanish(self, *statuses: int) -> None:
        """End the job in the XML, with these events."""
        self.virt.mirror = None
        self.connection.emit('vda', *statuses)

    def assert_mirror(self, state: ports.MirrorState) -> None:
        self.assertIs(state, self.domain.mirror_state('vda'))

    def assert_fails(self, words: str) -> exception.MirrorFailed:
        with self.assertRaisesRegex(exception.MirrorFailed, words) as caught:
            self.domain.wait_mirror_ready('vda', 5)
        self.assertEqual('vda', caught.exception.disk)
        self.assertEqual('source', caught.exception.host)
        return caught.exception


class TestMirror(Case):
    def test_no_limit(self) -> None:
        self.start()
        self.assertEqual({}, self.virt.copy_parameters)

    def test_limit(self) -> None:
        self.domain.start_mirror('vda', NBD, 'vda', 1_000_000)
        self.assertEqual({'bandwidth': 1_000_000}, self.virt.copy_parameters)

    def test_failed_event(self) -> None:
        self.start()
        self.vanish(fake_libvirt.FAILED)
        self.assert_mirror(ports.MirrorState.FAILED)
        self.assert_fails('failed')

    def test_repeated_events(self) -> None:
        self.start()
        self.vanish(
            fake_libvirt.READY,
            fake_libvirt.READY,
            fake_libvirt.FAILED,
            fake_libvirt.FAILED,
            fake_libvirt.CANCELED,
        )
        self.assert_mirror(ports.MirrorState.FAILED)

    def test_dropped_end_event(self) -> None:
        self.start()
        self.vanish()
        self.assert_mirror(ports.MirrorState.NONE)
        self.assert_fails('lost')

    def test_dropped_ready_event(self) -> None:
        self.start()
        self.virt.mirror = ('copy', 'yes', NBD)
        self.domain.wait_mirror_ready('vda', 5)

    def test_ready_event_alone_is_not_ready(self) -> None:
        self.start()
        self.connection.emit('vda', fake_libvirt.READY)
        self.assert_mirror(ports.MirrorState.RUNNING)
        with self.assertRaisesRegex(exception.MirrorFailed, 'not ready'):
            self.domain.wait_mirror_ready('vda', 0)

    def test_completed_without_ready_is_not_success(self) -> None:
        self.start()
        self.vanish(fake_libvirt.COMPLETED)
        self.assert_mirror(ports.MirrorState.NONE)
        self.assert_fails('lost')

    def test_failure_after_ready(self) -> None:
        self.start()
        self.virt.mirror = ('copy', 'yes', NBD)
        self.domain.wait_mirror_ready('vda', 5)
        self.vanish(fake_libvirt.FAILED)
        self.assert_mirror(ports.MirrorState.FAILED)

    def test_job_that_is_being_ended_is_not_ready(self) -> None:
        self.start()
        self.virt.mirror = ('copy', 'abort', NBD)
        self.assert_mirror(ports.MirrorState.RUNNING)

    def test_commit_is_no_mirror(self) -> None:
        self.virt.mirror = ('active-commit', 'yes', BASE)
        self.assert_mirror(ports.MirrorState.NONE)

    def test_events_of_others_are_ignored(self) -> None:
        self.start()
        self.connection.emit('vdb', fake_libvirt.FAILED)
        self.connection.emit('vda', fake_libvirt.FAILED, uuid='other')
        self.vanish()
        self.assert_mirror(ports.MirrorState.NONE)

    def test_new_mirror_forgets_the_failure_of_the_old(self) -> None:
        self.start()
        self.vanish(fake_libvirt.FAILED)
        self.start()
        self.vanish()
        self.assert_mirror(ports.MirrorState.NONE)

    def test_an_event_wakes_the_waiter(self) -> None:
        self.start()

        def ready(_event: object, _timeout_s: float) -> bool:
            self.virt.mirror = ('copy', 'yes', NBD)
            return True

        with mock.patch('threading.Event.wait', autospec=True) as wait:
            wait.side_effect = ready
            self.domain.wait_mirror_ready('vda', 5)
        self.assertEqual(1, wait.call_count)
        self.assertLessEqual(wait.call_args.args[1], blockjob.POLL_S)

    def test_silent_server_is_kept_from_qemu(self) -> None:
        self.greeting.side_effect = TimeoutError('timed out')
        self.assertRaisesRegex(
            exception.MirrorFailed,
            'timed out',
            self.domain.start_mirror,
            'vda',
            NBD,
            'vda',
        )
        self.assertEqual([], self.virt.calls)
        self.assertEqual({}, self.connection.callbacks)

    def test_refused_start(self) -> None:
        self.virt.fail['blockCopy'] = [
            fake_libvirt.error(libvirt.VIR_ERR_OPERATION_FAILED, 'no peer')
        ]
        self.assertRaisesRegex(
            exception.MirrorFailed,
            'no peer.*host source, disk vda',
            self.domain.start_mirror,
            'vda',
            NBD,
            'vda',
        )
        self.assertEqual({}, self.connection.callbacks)

    def test_end_of_mirror_that_just_died(self) -> None:
        self.start()
        self.virt.mirror = ('copy', 'yes', NBD)
        self.virt.fail['blockJobAbort'] = [
            fake_libvirt.error(libvirt.VIR_ERR_INVALID_ARG, 'no active job')
        ]
        self.assertRaises(
            exception.MirrorFailed, self.domain.end_mirror, 'vda'
        )

    def test_hand_over_resumes_when_a_mirror_just_died(self) -> None:
        self.start()
        self.virt.mirror = ('copy', 'yes', NBD)
        self.virt.fail['blockJobAbort'] = [
            fake_libvirt.error(libvirt.VIR_ERR_INVALID_ARG, 'no active job')
        ]
        self.assertRaises(
            exception.MirrorFailed, self.domain.hand_over, {'vda': '/i/o2'}
        )
        self.assertEqual(
            ['blockCopy', 'suspend', 'blockJobAbort', 'resume'],
            self.virt.names(),
        )

    def test_hand_over_ends_mirrors_before_the_overlays(self) -> None:
        self.start()
        self.virt.mirror = ('copy', 'yes', NBD)
        self.domain.hand_over({'vda': '/i/o2'})
        self.assertEqual(
            ['suspend', 'blockJobAbort', 'snapshotCreateXML', 'resume'],
            self.virt.names()[1:],
        )
        self.assertIn(('blockJobAbort', 'vda', 0), self.virt.calls)
        self.assertEqual({}, self.connection.callbacks)

    def test_wait_no_job_dismisses_what_does_not_end(self) -> None:
        self.start()

        def end() -> None:
            self.virt.mirror = None

        self.virt.on['blockJobAbort'] = end
        with mock.patch.object(hypervisor_domain, '_GRACE_S', 0.0):
            self.domain.wait_no_job('vda', 5)
        self.assertEqual(
            (
                'blockJobAbort',
                'vda',
                libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC,
            ),
            self.virt.calls[-1],
        )
        self.assertEqual({}, self.connection.callbacks)

    def test_wait_no_job_leaves_a_job_that_ends_alone(self) -> None:
        self.domain.wait_no_job('vda', 5)
        self.assertEqual([], self.virt.calls)

    def test_wait_no_job_gives_up(self) -> None:
        self.start()
        self.assertRaisesRegex(
            exception.MirrorFailed,
            'still there',
            self.domain.wait_no_job,
            'vda',
            0,
        )


class TestListening(Case):
    def test_one_registration_for_all(self) -> None:
        with (
            blockjob.JobWatch(self.virt, 'vda') as first,
            blockjob.JobWatch(self.virt, 'vda') as second,
            blockjob.JobWatch(self.virt, 'vdb') as other,
        ):
            self.connection.emit('vda', fake_libvirt.FAILED)
            self.assertIs(blockjob.JobEnd.FAILED, first.end)
            self.assertIs(blockjob.JobEnd.FAILED, second.end)
            self.assertIsNone(other.end)
        self.assertEqual(1, self.connection.registered)
        self.assertEqual({}, self.connection.callbacks)

    def test_registered_anew_after_the_last_one_left(self) -> None:
        for _time in range(2):
            with blockjob.JobWatch(self.virt, 'vda') as watch:
                self.connection.emit('vda', fake_libvirt.COMPLETED)
                self.assertIs(blockjob.JobEnd.COMPLETED, watch.end)
        self.assertEqual(2, self.connection.registered)

    def test_close_after_the_connection_died(self) -> None:
        watch = blockjob.JobWatch(self.virt, 'vda')
        self.connection.dead = True
        watch.close()
        watch.close()
        self.assertEqual({}, self.connection.callbacks)

    def test_watch_survives_a_new_connection(self) -> None:
        self.start()
        old, self.connection = self.connection, fake_libvirt.FakeConnection()
        self.connection.domain = self.virt
        old.dead = True
        self.virt.mirror = ('copy', 'yes', NBD)
        self.domain.wait_mirror_ready('vda', 5)


class TestCommit(Case):
    def setUp(self) -> None:
        super().setUp()
        self.ready()

    def ready(self) -> None:
        def started() -> None:
            self.virt.mirror = ('active-commit', 'yes', BASE)

        def pivoted() -> None:
            self.virt.mirror = None
            self.virt.source = BASE
            self.virt.backing = ('/i/_base/image',)

        self.virt.on['blockCommit'] = started
        self.virt.on['blockJobAbort'] = pivoted

    def commit(self, timeout_s: float = 5) -> None:
        self.domain.commit('vda', BASE, timeout_s)

    def assert_fails(self, words: str, timeout_s: float = 5) -> None:
        with self.assertRaisesRegex(exception.MirrorFailed, words):
            self.commit(timeout_s)
        self.assertEqual(OVERLAY, self.virt.source)
        self.assertEqual({}, self.connection.callbacks)

    def test_names_the_base_and_pivots(self) -> None:
        self.commit()
        self.assertEqual(
            [
                (
                    'blockCommit',
                    'vda',
                    BASE,
                    None,
                    libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE,
                ),
                (
                    'blockJobAbort',
                    'vda',
                    libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT,
                ),
            ],
            self.virt.calls,
        )

    def test_pivot_not_ready_yet(self) -> None:
        self.virt.fail['blockJobAbort'] = [
            fake_libvirt.error(
                libvirt.VIR_ERR_BLOCK_COPY_ACTIVE, 'not ready for pivot yet'
            )
        ]
        self.commit()
        self.assertEqual(2, self.virt.names().count('blockJobAbort'))

    def test_pivot_fails(self) -> None:
        self.virt.fail['blockJobAbort'] = [
            fake_libvirt.error(
                libvirt.VIR_ERR_OPERATION_FAILED, 'failed while pivoting'
            )
        ]
        self.assert_fails('failed while pivoting')

    def test_job_lost(self) -> None:
        self.virt.on = {}
        self.assert_fails(f'lost.*{OVERLAY}')

    def test_job_failed(self) -> None:
        self.virt.on = {
            'blockCommit': lambda: self.connection.emit(
                'vda', fake_libvirt.FAILED
            )
        }
        self.assert_fails('failed')

    def test_never_ready(self) -> None:
        def started() -> None:
            self.virt.mirror = ('active-commit', '', BASE)

        def aborted() -> None:
            self.virt.mirror = None

        self.virt.on['blockCommit'] = started
        self.virt.on['blockJobAbort'] = aborted
        self.assert_fails('not ready in time', timeout_s=0)
        self.assertEqual(
            libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC, self.virt.calls[-1][-1]
        )

    def test_takes_over(self) -> None:
        self.virt.mirror = ('active-commit', 'yes', BASE)
        self.commit()
        self.assertEqual(['blockJobAbort'], self.virt.names())

    def test_other_job(self) -> None:
        self.virt.mirror = ('active-commit', 'yes', '/i/_base/image')
        self.assert_fails('another block job')
        self.assertEqual([], self.virt.calls)

    def test_persistent_xml_is_mended_once(self) -> None:
        self.virt.persistent_source = OVERLAY
        self.commit()
        (text,) = self.connection.defined
        self.assertIn(f'file="{BASE}"', text)
        self.assertNotIn(OVERLAY, text)
        self.virt.persistent_source = BASE
        self.commit()
        self.assertEqual(1, len(self.connection.defined))


class TestPaused(Case):
    def test_order(self) -> None:
        with self.domain.paused():
            self.assertEqual(['suspend'], self.virt.names())
        self.assertEqual(['suspend', 'resume'], self.virt.names())

    def test_found_paused(self) -> None:
        self.virt.libvirt_state = (libvirt.VIR_DOMAIN_PAUSED, 1)
        with self.domain.paused():
            pass
        self.assertEqual([], self.virt.calls)

    def test_resume_is_tried_again(self) -> None:
        self.virt.fail['resume'] = [
            fake_libvirt.error(libvirt.VIR_ERR_OPERATION_TIMEOUT)
        ]
        with (
            mock.patch('time.sleep') as sleep,
            self.assertLogs(level='WARNING'),
            self.domain.paused(),
        ):
            pass
        self.assertEqual(2, self.virt.names().count('resume'))
        self.assertEqual(1, sleep.call_count)

    def test_resume_fails_for_good(self) -> None:
        self.virt.fail['resume'] = [
            fake_libvirt.error(libvirt.VIR_ERR_OPERATION_FAILED, 'no space')
        ]
        with (
            mock.patch.object(pause, '_RESUME_TIMEOUT_S', 0.0),
            self.assertRaisesRegex(
                exception.NeedsOperator, 'no space.*virsh resume'
            ) as caught,
            self.domain.paused(),
        ):
            raise ZeroDivisionError
        # What happened inside is not lost.
        causes = []
        error: BaseException | None = caught.exception
        while error is not None:
            causes.append(type(error))
            error = error.__context__
        self.assertIn(ZeroDivisionError, causes)

    def test_suspend_fails(self) -> None:
        self.virt.fail['suspend'] = [
            fake_libvirt.error(libvirt.VIR_ERR_OPERATION_FAILED)
        ]
        with self.assertRaises(exception.MoveFailed), self.domain.paused():
            self.fail('the body ran')


class TestState(Case):
    def assert_state(
        self, expected: ports.DomainState, state: int, reason: int = 0
    ) -> None:
        self.virt.libvirt_state = (state, reason)
        self.assertIs(expected, self.domain.state())

    def test_table(self) -> None:
        state = ports.DomainState
        self.assert_state(state.RUNNING, libvirt.VIR_DOMAIN_RUNNING)
        self.assert_state(state.RUNNING, libvirt.VIR_DOMAIN_BLOCKED)
        self.assert_state(state.RUNNING, libvirt.VIR_DOMAIN_SHUTDOWN)
        self.assert_state(state.PAUSED, libvirt.VIR_DOMAIN_PAUSED)
        self.assert_state(state.PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED)
        self.assert_state(state.SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF)
        self.assert_state(state.SHUTOFF, libvirt.VIR_DOMAIN_CRASHED)

    def test_paused_for_migration(self) -> None:
        paused = libvirt.VIR_DOMAIN_PAUSED
        for reason in (
            libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
            libvirt.VIR_DOMAIN_PAUSED_STARTING_UP,
        ):
            # The source at the switch-over.
            self.assert_state(ports.DomainState.PAUSED, paused, reason)
            for code in (
                libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
                libvirt.VIR_ERR_OPERATION_INVALID,
            ):
                self.virt.fail['jobStats'] = [fake_libvirt.error(code)]
                self.assert_state(ports.DomainState.INCOMING, paused, reason)

    def test_absent(self) -> None:
        self.connection.domain = None
        self.assertIs(ports.DomainState.ABSENT, self.domain.state())

    def test_unreachable_is_no_answer(self) -> None:
        self.connection.dead = True
        self.assertRaisesRegex(
            exception.Retryable, 'libvirtd', self.domain.state
        )

    def test_error_of_a_file_does_not_blame_the_daemon(self) -> None:
        self.virt.fail['snapshotCreateXML'] = [
            fake_libvirt.error(libvirt.VIR_ERR_SYSTEM_ERROR, 'no such file')
        ]
        with self.assertRaisesRegex(
            exception.MoveFailed, 'no such file'
        ) as caught:
            self.domain.snapshot({'vda': '/i/o'})
        self.assertIsNone(caught.exception.remedy)

    def test_call_on_absent_domain(self) -> None:
        self.connection.domain = None
        self.assertRaisesRegex(
            exception.MoveFailed,
            'no such domain',
            self.domain.snapshot,
            {'vda': '/i/o'},
        )
