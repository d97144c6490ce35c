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

"""The guest's own C code, compiled for this machine.

Not the whole program: that would write to the machine's disks. The parts
that judge sectors and that answer requests are run by themselves.
"""

import ctypes
import hashlib
import pathlib
import socket
import subprocess
import tempfile
import unittest

from tests.lab.guest import build

SECTOR = 512
GOOD, LOST, FUTURE, BAD = range(4)
ZEROED = 0x80000000

# Counts, so that a request that was done twice is seen.
VERBS = r"""
#include <stdio.h>
#include <string.h>
#include "workload.h"
bool verb_act(const struct request *request, char *text, size_t room)
{
    static int done;
    snprintf(text, room, "done=%d first=%s", ++done,
             request->count ? request->values[0] : "-");
    return strcmp(request->verb, "refuse") != 0;
}
int main(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    socklen_t size = sizeof(any);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    any.sin_addr.s_addr = 0x0100007f;
    if (bind(fd, (struct sockaddr *)&any, sizeof(any)))
        return 1;
    getsockname(fd, (struct sockaddr *)&any, &size);
    printf("%d\n", (any.sin_port & 255) << 8 | any.sin_port >> 8);
    fflush(stdout);
    control_loop(fd);
}
"""


class CompiledCase(unittest.TestCase):
    def setUp(self):
        build.ensure_compiler()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def compile(self, output, *sources):
        target = self.folder / output
        subprocess.run(
            ['gcc', '-std=gnu11', '-Wall', '-Werror', '-fPIC', '-pthread',
             *(['-shared'] if output.endswith('.so') else []),
             '-I', str(build.SOURCES), *map(str, sources),
             '-o', str(target)],
            check=True,
        )  # fmt: skip
        return target


class TestStamp(CompiledCase):
    """Each way in which a sector can be wrong is found."""

    UNIT = 4096
    DISK = 2
    FIRST = 1000 * 8  # sector number of the unit

    def setUp(self):
        super().setUp()
        self.library = ctypes.CDLL(
            str(self.compile('stamp.so', build.SOURCES / 'stamp.c'))
        )
        self.library.stamp_number.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64, ctypes.c_uint32
        ]  # fmt: skip
        self.library.stamp_judge.argtypes = [
            ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint64,
            ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32,
        ]  # fmt: skip
        self.generation(77)
        self.library.stamp_init()

    def generation(self, value):
        ctypes.c_uint64.in_dll(self.library, 'generation').value = value

    def block(self, sequence, first=FIRST, disk=DISK, size=UNIT):
        buffer = ctypes.create_string_buffer(size)
        self.library.stamp_prepare(buffer, size, self.UNIT, disk)
        self.library.stamp_number(buffer, size, first, sequence)
        return buffer.raw

    def judge(self, block, index, acked, issued):
        return self.library.stamp_judge(
            block[index * SECTOR:(index + 1) * SECTOR],
            self.DISK, self.FIRST + index, index, acked, issued,
        )  # fmt: skip

    def test_what_was_written_is_good(self):
        block = self.block(5)
        for index in range(self.UNIT // SECTOR):
            self.assertEqual(GOOD, self.judge(block, index, 5, 5))

    def test_a_large_write_over_small_units(self):
        block = self.block(5, first=self.FIRST - 8, size=4 * self.UNIT)
        self.assertEqual(GOOD, self.judge(block[self.UNIT :], 3, 5, 5))

    def test_between_acknowledged_and_issued_is_good(self):
        for sequence in (5, 6, 7):
            block = self.block(sequence)
            self.assertEqual(GOOD, self.judge(block, 0, 5, 7))

    def test_older_than_acknowledged_is_lost(self):
        self.assertEqual(LOST, self.judge(self.block(4), 0, 5, 5))

    def test_newer_than_issued_is_from_the_future(self):
        self.assertEqual(FUTURE, self.judge(self.block(6), 0, 5, 5))

    def test_every_single_bit_counts(self):
        block = self.block(5)
        for place in range(SECTOR):
            broken = bytearray(block)
            broken[place] ^= 1 << place % 8
            self.assertNotEqual(
                GOOD, self.judge(bytes(broken), 0, 5, 5), place
            )

    def test_zeros_are_bad(self):
        self.assertEqual(BAD, self.judge(bytes(self.UNIT), 0, 5, 5))

    def test_another_place_is_bad(self):
        block = self.block(5)
        self.assertEqual(BAD, self.judge(block[SECTOR:], 0, 5, 5))
        moved = self.block(5, first=self.FIRST + 8)
        self.assertEqual(BAD, self.judge(moved, 0, 5, 5))

    def test_another_disk_is_bad(self):
        self.assertEqual(BAD, self.judge(self.block(5, disk=1), 0, 5, 5))

    def test_an_earlier_boot_is_bad(self):
        block = self.block(5)
        self.generation(78)
        self.assertEqual(BAD, self.judge(block, 0, 5, 5))

    def test_what_was_never_acknowledged_may_be_anything_but_newer(self):
        self.assertEqual(GOOD, self.judge(b'x' * self.UNIT, 0, 0, 5))
        self.assertEqual(GOOD, self.judge(bytes(self.UNIT), 0, 0, 5))
        self.assertEqual(FUTURE, self.judge(self.block(6), 0, 0, 5))

    def test_zeros_that_were_written(self):
        zeros = bytes(self.UNIT)
        mark = ZEROED | 9
        self.assertEqual(GOOD, self.judge(zeros, 0, mark, mark))
        self.assertEqual(LOST, self.judge(self.block(8), 0, mark, mark))
        self.assertEqual(BAD, self.judge(b'x' * SECTOR, 0, mark, mark))
        # Being zeroed, or being written after that: both may be found.
        self.assertEqual(GOOD, self.judge(self.block(8), 0, 8, mark))
        self.assertEqual(GOOD, self.judge(zeros, 0, 8, mark))
        self.assertEqual(GOOD, self.judge(self.block(10), 0, mark, 10))
        # Written and acknowledged after it: zeros are bad again.
        self.assertEqual(BAD, self.judge(zeros, 0, 10, 10))


class TestDigest(CompiledCase):
    def test_as_hashlib_does_it(self):
        library = ctypes.CDLL(
            str(self.compile('sha256.so', build.SOURCES / 'sha256.c'))
        )
        library.sha256_add.argtypes = [
            ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t
        ]  # fmt: skip
        for size in (0, 1, 55, 56, 63, 64, 65, 1000, 70000):
            data = bytes(i * 7 % 251 for i in range(size))
            state = ctypes.create_string_buffer(256)
            text = ctypes.create_string_buffer(65)
            library.sha256_begin(state)
            library.sha256_add(state, data[:100], len(data[:100]))
            library.sha256_add(state, data[100:], len(data[100:]))
            library.sha256_end(state, text)
            self.assertEqual(
                hashlib.sha256(data).hexdigest(), text.value.decode()
            )


class TestRequests(CompiledCase):
    def setUp(self):
        super().setUp()
        verbs = self.folder / 'verbs.c'
        verbs.write_text(VERBS)
        program = self.compile('guest', build.SOURCES / 'control.c', verbs)
        self.process = subprocess.Popen([program], stdout=subprocess.PIPE)
        self.addCleanup(self.process.stdout.close)
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.socket.connect(('127.0.0.1', int(self.process.stdout.readline())))
        self.socket.settimeout(10)

    def ask(self, text):
        self.socket.send(text.encode())
        return self.socket.recv(65536).decode()

    def test_answered(self):
        self.assertEqual(
            'SXM1 ab 1 ok done=1 first=x', self.ask('SXM1 ab 1 go k=x j=y')
        )

    def test_refused(self):
        self.assertEqual(
            'SXM1 ab 1 error done=1 first=-', self.ask('SXM1 ab 1 refuse')
        )

    def test_repeated_is_answered_alike_and_done_once(self):
        first = self.ask('SXM1 ab 1 go')
        for _ in range(3):
            self.assertEqual(first, self.ask('SXM1 ab 1 go'))
        self.assertIn('done=2', self.ask('SXM1 ab 2 go'))

    def test_clients_do_not_share_numbers(self):
        self.ask('SXM1 ab 1 go')
        self.assertIn('done=2', self.ask('SXM1 cd 1 go'))

    def test_remembers_the_last_64(self):
        for number in range(64):
            self.ask(f'SXM1 ab {number} go')
        self.assertIn('done=1 ', self.ask('SXM1 ab 0 go'))

    def test_rubbish_is_ignored(self):
        for text in (
            'x', 'SXM1', 'SXM1 ab', 'SXM2 ab 1 go', 'SXM1 ab 1 go word',
            'SXM1 ' + 'a' * 100 + ' 1 go', '=' * 4000,
        ):  # fmt: skip
            self.socket.send(text.encode())
        self.assertIn('done=1', self.ask('SXM1 ab 1 go'))
