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
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "workload.h"

/* A sector that a running writer was just changing is read again. */
#define REREADS 5
#define DIGEST_CHUNK 65536u

struct tally {
    uint64_t checked, lost, bad, future, read_errors;
    int64_t first_bad;          /* byte offset, -1: none */
};

static struct {
    pthread_mutex_t lock;
    struct job_order order;
    int number;
    bool running, failed;
    _Atomic uint64_t done_bytes;
    char result[REPLY_MAX / 2];
} job = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void tally_fault(struct tally *tally, enum verdict verdict,
                        uint64_t offset)
{
    if (verdict == SECTOR_LOST)
        tally->lost++;
    else if (verdict == SECTOR_FUTURE)
        tally->future++;
    else
        tally->bad++;
    if (tally->first_bad < 0)
        tally->first_bad = (int64_t)offset;
}

static enum verdict judge_at(struct disk *disk, struct area *area,
                             const uint8_t *sector, uint64_t offset,
                             uint32_t acked_before)
{
    uint64_t inside = offset - area->start;
    struct cell *cell = &area->cells[inside / area->unit];

    return stamp_judge(sector, disk->index, offset / SECTOR,
                       (uint32_t)(inside % area->unit / SECTOR),
                       acked_before, cell->issued);
}

/*
 * A bad sector of a unit that is being written may be half of two writes:
 * ask again. What stays bad is bad.
 */
static enum verdict judge_again(struct disk *disk, struct area *area,
                                uint64_t offset, uint8_t *spare)
{
    struct cell *cell = &area->cells[(offset - area->start) / area->unit];
    enum verdict verdict = SECTOR_BAD;

    for (int i = 0; i < REREADS && verdict == SECTOR_BAD; i++) {
        uint32_t acked = cell->acked;

        if (pread(disk->fd, spare, SECTOR, (off_t)offset) != SECTOR)
            return SECTOR_BAD;
        verdict = judge_at(disk, area, spare, offset, acked);
    }
    return verdict;
}

static void verify_chunk(struct disk *disk, struct area *area,
                         uint64_t first, uint64_t count, uint8_t *buffer,
                         struct tally *tally)
{
    static uint32_t acked[MAX_BLOCK / SECTOR];
    uint64_t start = area->start + first * area->unit;
    size_t size = count * area->unit;
    bool any = false;

    for (uint64_t i = 0; i < count; i++) {
        acked[i] = area->cells[first + i].acked;
        any |= area->cells[first + i].issued != 0;
    }
    if (!any)
        return;
    if (pread(disk->fd, buffer, size, (off_t)start) != (ssize_t)size) {
        tally->read_errors++;
        if (tally->first_bad < 0)
            tally->first_bad = (int64_t)start;
        return;
    }
    for (size_t at = 0; at < size; at += SECTOR) {
        uint64_t unit = at / area->unit;
        enum verdict verdict;

        if (area->cells[first + unit].issued == 0)
            continue;
        verdict = judge_at(disk, area, buffer + at, start + at, acked[unit]);
        if (verdict == SECTOR_BAD
            && area->cells[first + unit].issued != acked[unit])
            verdict = judge_again(disk, area, start + at,
                                  buffer + MAX_BLOCK);
        tally->checked++;
        if (verdict != SECTOR_GOOD)
            tally_fault(tally, verdict, start + at);
    }
}

static void verify_disk(struct disk *disk, uint8_t *buffer,
                        struct tally *tally)
{
    for (int i = 0; i < disk->area_count; i++) {
        struct area *area = &disk->areas[i];
        uint64_t step = MAX_BLOCK / area->unit;

        for (uint64_t at = 0; at < area->units; at += step) {
            uint64_t left = area->units - at;
            uint64_t count = left < step ? left : step;

            verify_chunk(disk, area, at, count, buffer, tally);
            job.done_bytes += count * area->unit;
        }
    }
}

/* Result: "vda=checked:lost:bad:future:read_errors:first_bad ..." */
static bool run_verify(struct disk *only)
{
    size_t used = 0;
    uint8_t *buffer;

    if (posix_memalign((void **)&buffer, 4096, MAX_BLOCK + SECTOR)) {
        snprintf(job.result, sizeof(job.result), "no memory to read into");
        return false;
    }
    for (int i = 0; i < MAX_DISKS; i++) {
        struct tally tally = {.first_bad = -1};

        if ((only && only != &disks[i]) || disks[i].area_count == 0)
            continue;
        verify_disk(&disks[i], buffer, &tally);
        used += (size_t)snprintf(
            job.result + used, sizeof(job.result) - used,
            "%s%s=%llu:%llu:%llu:%llu:%llu:%lld", used ? " " : "",
            disks[i].name, (unsigned long long)tally.checked,
            (unsigned long long)tally.lost, (unsigned long long)tally.bad,
            (unsigned long long)tally.future,
            (unsigned long long)tally.read_errors,
            (long long)tally.first_bad);
        console("verified %s", job.result);
    }
    free(buffer);
    return true;
}

/*
 * Zeros are a write like any other: they must be found again. What a
 * discard leaves behind is not defined, so those units are forgotten.
 */
static bool run_clear(const struct job_order *order)
{
    uint64_t range[2] = {order->start, order->span};
    bool zero = order->kind == JOB_ZERO;
    struct area *area = order->area;
    struct cell *cell = NULL;
    uint64_t count = 0;
    uint32_t mark;
    int failed;

    mark = (atomic_fetch_add(&order->disk->sequence, 1) + 1) | ZEROED;
    if (area) {
        cell = area->cells + (order->start - area->start) / area->unit;
        count = order->span / area->unit;
    }
    for (uint64_t i = 0; i < count; i++) {
        cell[i].issued = zero ? mark : 0;
        if (!zero)
            cell[i].acked = 0;
    }
    failed = ioctl(order->disk->fd, zero ? BLKZEROOUT : BLKDISCARD, range);
    if (failed) {
        snprintf(job.result, sizeof(job.result), "%s of %s: %s",
                 zero ? "BLKZEROOUT" : "BLKDISCARD", order->disk->name,
                 strerror(errno));
        order->disk->errors++;
        return false;
    }
    for (uint64_t i = 0; zero && i < count; i++)
        cell[i].acked = mark;
    snprintf(job.result, sizeof(job.result), "bytes=%llu",
             (unsigned long long)order->span);
    return true;
}

/* The whole config drive, from the device and not from the page cache. */
static bool run_digest(void)
{
    struct sha256 hash;
    uint64_t size = 0;
    uint8_t *buffer;
    char hex[65];
    int fd;

    if (!config_drive) {
        snprintf(job.result, sizeof(job.result), "there is no config drive");
        return false;
    }
    fd = open(config_drive, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size) < 0
        || posix_memalign((void **)&buffer, 4096, DIGEST_CHUNK)) {
        snprintf(job.result, sizeof(job.result), "open %s: %s",
                 config_drive, strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    sha256_begin(&hash);
    while (hash.length < size) {
        ssize_t got = pread(fd, buffer, DIGEST_CHUNK, (off_t)hash.length);

        if (got <= 0)
            break;
        sha256_add(&hash, buffer, (size_t)got);
        job.done_bytes = hash.length;
    }
    free(buffer);
    close(fd);
    if (hash.length < size) {
        snprintf(job.result, sizeof(job.result), "read of %s at %llu failed",
                 config_drive, (unsigned long long)hash.length);
        return false;
    }
    sha256_end(&hash, hex);
    snprintf(job.result, sizeof(job.result), "sha256=%s bytes=%llu", hex,
             (unsigned long long)size);
    return true;
}

static void *run(void *unused)
{
    bool good = false;

    (void)unused;
    switch (job.order.kind) {
    case JOB_VERIFY:
        good = run_verify(job.order.disk);
        break;
    case JOB_ZERO:
    case JOB_DISCARD:
        good = run_clear(&job.order);
        break;
    case JOB_DIGEST:
        good = run_digest();
        break;
    }
    pthread_mutex_lock(&job.lock);
    job.failed = !good;
    job.running = false;
    pthread_mutex_unlock(&job.lock);
    return NULL;
}

bool job_running(void)
{
    bool running;

    pthread_mutex_lock(&job.lock);
    running = job.running;
    pthread_mutex_unlock(&job.lock);
    return running;
}

bool job_is_clearing(void)
{
    return job_running()
        && (job.order.kind == JOB_ZERO || job.order.kind == JOB_DISCARD);
}

/* The job's number, or -1 and `why`: one job runs at a time. */
int job_start(const struct job_order *order, char *why, size_t room)
{
    pthread_t handle;

    if (job_running()) {
        snprintf(why, room, "job %d is running", job.number);
        return -1;
    }
    job.order = *order;
    job.done_bytes = 0;
    job.result[0] = 0;
    job.failed = false;
    job.running = true;
    job.number++;
    if (pthread_create(&handle, NULL, run, NULL)) {
        job.running = false;
        snprintf(why, room, "cannot start a thread");
        return -1;
    }
    pthread_detach(handle);
    return job.number;
}

bool job_report(int number, char *text, size_t room)
{
    if (number != job.number) {
        snprintf(text, room, "job %d is not known", number);
        return false;
    }
    if (job_running()) {
        snprintf(text, room, "state=running done_bytes=%llu",
                 (unsigned long long)job.done_bytes);
        return true;
    }
    snprintf(text, room, "%s%s", job.failed ? "" : "state=done ",
             job.result);
    return !job.failed;
}
