/*
 * Licensed under the Apache License, Version 2.0 (the "License"); you may
 * not use this file except in compliance with the License. You may obtain
 * a copy of the License at
 *
 *      http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
 * WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
 * License for the specific language governing permissions and limitations
 * under the License.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "workload.h"

#define SECOND_NS 1000000000ull
/* A writer this little ahead of its rate does not sleep: sleeping costs. */
#define AHEAD_NS 1000000ull
#define AFTER_ERROR_NS 50000000ull
#define ERRORS_PRINTED 20
/* The hot set: 90 % of the writes go to the first 5 % of the range. */
#define HOT_WRITES 90
#define HOT_FRACTION 20

struct thread {
    struct writer *writer;
    uint32_t number;
    _Atomic uint64_t began;     /* of the write in flight, 0: none */
};

struct writer {
    struct disk *disk;
    struct area *area;
    struct write_order order;
    _Atomic bool stop;
    _Atomic int live;           /* threads; 0: the slot is free */
    struct thread threads[MAX_THREADS];
};

static struct writer writers[MAX_WRITERS];

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 8;
}

/*
 * The block to write. A thread takes every `threads`th block, so that two
 * never write one unit at once: which of them came last would be unknown.
 */
static uint64_t pick(const struct write_order *order, uint64_t blocks,
                     uint32_t number, uint64_t *counter, uint64_t *random)
{
    uint64_t mine = blocks / order->threads;
    uint64_t hot = mine / HOT_FRACTION ? mine / HOT_FRACTION : 1;
    uint64_t at = 0;

    switch (order->pattern) {
    case SEQUENTIAL:
        at = (*counter)++ % mine;
        break;
    case UNIFORM:
        at = random_next(random) % mine;
        break;
    case HOT_SET:
        at = random_next(random) % 100 < HOT_WRITES ? hot : mine;
        at = random_next(random) % at;
        break;
    }
    return at * order->threads + number;
}

static void sleep_ns(uint64_t duration)
{
    struct timespec time = {
        .tv_sec = (time_t)(duration / SECOND_NS),
        .tv_nsec = (long)(duration % SECOND_NS),
    };

    nanosleep(&time, NULL);
}

/* Hold the rate; after a stall make up for one second of it at most. */
static void pace(uint64_t *next, uint64_t period)
{
    uint64_t now = now_ns();

    if (*next > now + AHEAD_NS)
        sleep_ns(*next - now);
    else if (now > *next + SECOND_NS)
        *next = now;
    *next += period;
}

static void raise_worst(_Atomic uint64_t *worst, uint64_t took)
{
    uint64_t seen = atomic_load_explicit(worst, memory_order_relaxed);

    while (took > seen && !atomic_compare_exchange_weak(worst, &seen, took))
        ;
}

/* One write: enter it as issued, do it, enter it as acknowledged. */
static void write_block(struct thread *thread, uint8_t *buffer,
                        uint64_t block, uint64_t *done)
{
    struct writer *writer = thread->writer;
    struct disk *disk = writer->disk;
    struct area *area = writer->area;
    const struct write_order *order = &writer->order;
    uint64_t offset = order->start + block * order->block;
    struct cell *cells = area->cells + (offset - area->start) / area->unit;
    uint32_t count = order->block / area->unit;
    uint32_t sequence = atomic_fetch_add(&disk->sequence, 1) + 1;
    uint64_t began = now_ns();
    bool acked;

    stamp_number(buffer, order->block, offset / SECTOR, sequence);
    for (uint32_t i = 0; i < count; i++)
        atomic_store_explicit(&cells[i].issued, sequence,
                              memory_order_release);
    disk->issued_bytes += order->block;
    atomic_store_explicit(&thread->began, began, memory_order_release);
    errno = 0;
    acked = pwrite(disk->fd, buffer, order->block, (off_t)offset)
        == (ssize_t)order->block;
    if (acked && order->sync_every && ++*done % order->sync_every == 0)
        acked = fdatasync(disk->fd) == 0;
    atomic_store_explicit(&thread->began, 0, memory_order_release);
    raise_worst(&disk->worst_ns, now_ns() - began);
    if (acked) {
        for (uint32_t i = 0; i < count; i++)
            atomic_store_explicit(&cells[i].acked, sequence,
                                  memory_order_release);
        disk->acked_bytes += order->block;
        disk->acked_writes++;
        return;
    }
    if (++disk->errors <= ERRORS_PRINTED)
        console("write of %u at %llu of %s failed: %s", order->block,
                (unsigned long long)offset, disk->name, strerror(errno));
    sleep_ns(AFTER_ERROR_NS);
}

static void *write_on(void *argument)
{
    struct thread *thread = argument;
    struct writer *writer = thread->writer;
    const struct write_order *order = &writer->order;
    uint64_t blocks = order->span / order->block;
    uint64_t counter = 0, done = 0, next = now_ns();
    uint64_t random = 88172645463325252ull * (thread->number + 3)
        ^ generation;
    uint64_t period = order->rate == 0 ? 0
        : (uint64_t)order->block * order->threads * SECOND_NS / order->rate;
    uint8_t *buffer;

    if (posix_memalign((void **)&buffer, 4096, order->block)) {
        writer->disk->errors++;
        console("no memory for a writer of %s", writer->disk->name);
        writer->live--;
        return NULL;
    }
    stamp_prepare(buffer, order->block, writer->area->unit,
                  writer->disk->index);
    while (!writer->stop && writer->disk->sequence < ZEROED - MAX_THREADS) {
        if (period)
            pace(&next, period);
        write_block(thread, buffer,
                    pick(order, blocks, thread->number, &counter, &random),
                    &done);
    }
    if (!writer->stop)
        console("writer of %s ended: out of sequences, reboot the guest",
                writer->disk->name);
    free(buffer);
    writer->live--;             /* last: the slot may be taken again */
    return NULL;
}

static int free_slot(void)
{
    for (int slot = 0; slot < MAX_WRITERS; slot++)
        if (writers[slot].live == 0)
            return slot;
    return -1;
}

/* The writer's number, or -1 and `why`. */
int writer_start(struct disk *disk, struct area *area,
                 const struct write_order *order, char *why, size_t room)
{
    int slot = free_slot();
    struct writer *writer = &writers[slot < 0 ? 0 : slot];

    if (slot < 0) {
        snprintf(why, room, "%d writers run already", MAX_WRITERS);
        return -1;
    }
    if (order->threads == 0 || order->threads > MAX_THREADS
        || order->span / order->block < order->threads) {
        snprintf(why, room, "%u threads: 1 to %d, at most one a block",
                 order->threads, MAX_THREADS);
        return -1;
    }
    writer->disk = disk;
    writer->area = area;
    writer->order = *order;
    writer->stop = false;
    writer->live = (int)order->threads;
    for (uint32_t i = 0; i < order->threads; i++) {
        struct thread *thread = &writer->threads[i];
        pthread_t handle;

        thread->writer = writer;
        thread->number = i;
        thread->began = 0;
        if (pthread_create(&handle, NULL, write_on, thread)) {
            writer->stop = true;
            writer->live -= (int)(order->threads - i);
            snprintf(why, room, "cannot start a thread");
            return -1;
        }
        pthread_detach(handle);
    }
    return slot;
}

void writer_stop(int slot)
{
    for (int i = 0; i < MAX_WRITERS; i++)
        if (slot < 0 || slot == i)
            writers[i].stop = true;
}

int writer_threads(int slot)
{
    int live = 0;

    for (int i = 0; i < MAX_WRITERS; i++)
        if (slot < 0 || slot == i)
            live += writers[i].live;
    return live;
}

bool writer_overlaps(const struct disk *disk, uint64_t start, uint64_t span)
{
    for (int i = 0; i < MAX_WRITERS; i++) {
        const struct writer *writer = &writers[i];
        uint64_t from = writer->order.start;

        if (writer->live > 0 && writer->disk == disk && start < from
            + writer->order.span && from < start + span)
            return true;
    }
    return false;
}

/* The age of the oldest write of the disk that is not answered yet. */
uint64_t writer_oldest_ns(const struct disk *disk, uint64_t now)
{
    uint64_t oldest = 0;

    for (int i = 0; i < MAX_WRITERS; i++) {
        struct writer *writer = &writers[i];

        if (writer->live == 0 || writer->disk != disk)
            continue;
        for (uint32_t k = 0; k < writer->order.threads; k++) {
            uint64_t began = atomic_load_explicit(
                &writer->threads[k].began, memory_order_acquire);

            if (began && began < now && now - began > oldest)
                oldest = now - began;
        }
    }
    return oldest;
}
