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

/* What each request does: fills `text`; false says that it is an error. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workload.h"

/* Cells in one reply or request: at most 18 characters each, and a head. */
#define CELLS_MAX 200u

static const char *text_of(const struct request *request, const char *key,
                           const char *otherwise)
{
    for (int i = 0; i < request->count; i++)
        if (strcmp(request->keys[i], key) == 0)
            return request->values[i];
    return otherwise;
}

static uint64_t number_of(const struct request *request, const char *key,
                          uint64_t otherwise)
{
    const char *text = text_of(request, key, NULL);

    return text ? strtoull(text, NULL, 0) : otherwise;
}

static bool do_ping(const struct request *request, char *text, size_t room)
{
    size_t used;

    (void)request;
    used = (size_t)snprintf(
        text, room, "boot_id=%llu uptime_ms=%llu config_drive=%s",
        (unsigned long long)boot_id,
        (unsigned long long)(now_ns() / 1000000),
        config_drive ? config_drive : "-");
    for (uint32_t i = 0; i < MAX_DISKS; i++) {
        char name[] = {'v', 'd', (char)('a' + i), 0}, why[128];
        struct disk *disk;

        if (!disk_is_present(i))
            continue;
        disk = disk_open(name, why, sizeof(why));
        if (disk)
            used += (size_t)snprintf(text + used, room - used,
                                     " %s=%llu:%llu", name,
                                     (unsigned long long)disk->size,
                                     (unsigned long long)disk->reserved);
    }
    return true;
}

static bool do_subscribe(const struct request *request, char *text,
                         size_t room)
{
    uint64_t interval_ms = number_of(request, "interval_ms", 10);
    uint64_t lease_s = number_of(request, "lease_s", 60);

    if (interval_ms < 1 || interval_ms > 1000 || lease_s > 3600) {
        snprintf(text, room, "interval_ms is 1 to 1000, lease_s to 3600");
        return false;
    }
    tick_subscribe(&request->from, (uint32_t)interval_ms,
                   (uint32_t)lease_s);
    return true;
}

static bool read_pattern(const char *name, enum pattern *pattern)
{
    static const char *const names[] = {
        [SEQUENTIAL] = "sequential", [UNIFORM] = "uniform", [HOT_SET] = "hot",
    };

    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *pattern = (enum pattern)i;
            return true;
        }
    }
    return false;
}

static bool do_write(const struct request *request, char *text, size_t room)
{
    struct disk *disk = disk_open(text_of(request, "disk", ""), text, room);
    struct write_order order = {
        .block = (uint32_t)number_of(request, "block", 4096),
        .rate = number_of(request, "rate", 0),
        .threads = (uint32_t)number_of(request, "threads", 1),
        .sync_every = (uint32_t)number_of(request, "sync", 0),
    };
    struct area *area;
    uint32_t unit = (uint32_t)number_of(request, "unit", order.block);
    int slot;

    if (!disk)
        return false;
    if (order.threads == 0 || order.threads > MAX_THREADS) {
        snprintf(text, room, "threads is 1 to %d", MAX_THREADS);
        return false;
    }
    if (order.block == 0 || order.block > MAX_BLOCK
        || !read_pattern(text_of(request, "pattern", "uniform"),
                         &order.pattern)) {
        snprintf(text, room, "block is 512 to 1048576, pattern is"
                 " sequential, uniform or hot");
        return false;
    }
    order.start = number_of(request, "start", disk->reserved);
    order.span = number_of(
        request, "span", disk->size <= order.start ? 0
        : (disk->size - order.start) / order.block * order.block);
    if (job_is_clearing()) {
        snprintf(text, room, "a zero or discard is running: wait for it");
        return false;
    }
    if (writer_overlaps(disk, order.start, order.span)) {
        snprintf(text, room, "a writer of %s runs in that range: stop it",
                 disk->name);
        return false;
    }
    area = area_at(disk, order.start, order.span, unit, order.block, text,
                   room);
    if (!area)
        return false;
    slot = writer_start(disk, area, &order, text, room);
    if (slot < 0)
        return false;
    snprintf(text, room, "writer=%d start=%llu span=%llu unit=%u", slot,
             (unsigned long long)order.start, (unsigned long long)order.span,
             area->unit);
    console("writer %d on %s: block %u, %llu bytes/s, %u threads", slot,
            disk->name, order.block, (unsigned long long)order.rate,
            order.threads);
    return true;
}

static bool do_stop(const struct request *request, char *text, size_t room)
{
    int slot = (int)number_of(request, "writer", (uint64_t)-1);

    writer_stop(slot);
    snprintf(text, room, "threads=%d", writer_threads(slot));
    return true;
}

static bool do_report(const struct request *request, char *text, size_t room)
{
    size_t used;

    (void)request;
    used = (size_t)snprintf(text, room, "boot_id=%llu threads=%d",
                            (unsigned long long)boot_id,
                            writer_threads(-1));
    for (int i = 0; i < MAX_DISKS; i++) {
        struct disk *disk = &disks[i];

        if (disk->area_count == 0)
            continue;
        used += (size_t)snprintf(
            text + used, room - used, " %s=%llu:%llu:%llu:%llu:%u",
            disk->name, (unsigned long long)disk->issued_bytes,
            (unsigned long long)disk->acked_bytes,
            (unsigned long long)disk->acked_writes,
            (unsigned long long)disk->errors, disk->sequence);
    }
    return true;
}

static bool start_job(const struct job_order *order, char *text, size_t room)
{
    int number = job_start(order, text, room);

    if (number < 0)
        return false;
    snprintf(text, room, "job=%d", number);
    return true;
}

static bool do_verify(const struct request *request, char *text, size_t room)
{
    struct job_order order = {.kind = JOB_VERIFY};
    const char *name = text_of(request, "disk", NULL);

    if (name) {
        order.disk = disk_open(name, text, room);
        if (!order.disk)
            return false;
    }
    return start_job(&order, text, room);
}

static bool do_clear(const struct request *request, char *text, size_t room)
{
    struct job_order order = {
        .kind = strcmp(request->verb, "zero") ? JOB_DISCARD : JOB_ZERO,
        .disk = disk_open(text_of(request, "disk", ""), text, room),
        .start = number_of(request, "start", 0),
        .span = number_of(request, "span", 0),
    };
    uint32_t unit = (uint32_t)number_of(request, "unit", 65536);
    struct disk *disk = order.disk;

    if (!disk)
        return false;
    if (job_running() || writer_overlaps(disk, order.start, order.span)) {
        snprintf(text, room, "a job runs, or a writer of %s in that range",
                 disk->name);
        return false;
    }
    /* The range must fall on the units of the area that it lies in. */
    for (int i = 0; i < disk->area_count; i++)
        if (order.start >= disk->areas[i].start && order.start
            < disk->areas[i].start + disk->areas[i].span)
            unit = disk->areas[i].unit;
    order.area = area_at(disk, order.start, order.span, unit, unit, text,
                         room);
    return order.area && start_job(&order, text, room);
}

static bool do_digest(const struct request *request, char *text, size_t room)
{
    struct job_order order = {.kind = JOB_DIGEST};

    (void)request;
    return start_job(&order, text, room);
}

static bool do_job(const struct request *request, char *text, size_t room)
{
    return job_report((int)number_of(request, "job", 0), text, room);
}

static bool is_busy(char *text, size_t room)
{
    if (!job_running() && writer_threads(-1) == 0)
        return false;
    snprintf(text, room, "a writer or a job is running: stop it first");
    return true;
}

static bool do_reset(const struct request *request, char *text, size_t room)
{
    (void)request;
    if (is_busy(text, room))
        return false;
    disks_forget();
    return true;
}

/* ---- the table of a disk, out and in again: it outlives a reboot ---- */

/*
 * Reply: the cells from the first used one at or after unit `first` on, as
 * cells=ISSUED.ACKED,... in hex; none if no later cell is used.
 */
static bool do_save(const struct request *request, char *text, size_t room)
{
    struct disk *disk = disk_open(text_of(request, "disk", ""), text, room);
    uint64_t number = number_of(request, "area", 0);
    uint64_t first = number_of(request, "first", 0);
    struct area *area;
    size_t used;

    if (!disk || is_busy(text, room))
        return false;
    if (number >= (uint64_t)disk->area_count) {
        snprintf(text, room, "%s has %d areas", disk->name,
                 disk->area_count);
        return false;
    }
    area = &disk->areas[number];
    while (first < area->units && area->cells[first].issued == 0)
        first++;
    used = (size_t)snprintf(
        text, room, "areas=%d generation=%llu start=%llu span=%llu unit=%u"
        " sequence=%u first=%llu cells=", disk->area_count,
        (unsigned long long)generation, (unsigned long long)area->start,
        (unsigned long long)area->span, area->unit, disk->sequence,
        (unsigned long long)first);
    for (uint32_t i = 0; i < CELLS_MAX && first + i < area->units; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%x.%x",
                                 i ? "," : "", area->cells[first + i].issued,
                                 area->cells[first + i].acked);
    return true;
}

/* Whether the guest wrote since it booted, with a generation of its own. */
static bool wrote_as_other(uint64_t loaded)
{
    for (int i = 0; i < MAX_DISKS; i++)
        if (loaded != generation && disks[i].sequence > 0)
            return true;
    return false;
}

static bool do_load(const struct request *request, char *text, size_t room)
{
    struct disk *disk = disk_open(text_of(request, "disk", ""), text, room);
    uint32_t unit = (uint32_t)number_of(request, "unit", 0);
    uint32_t sequence = (uint32_t)number_of(request, "sequence", 0);
    uint64_t first = number_of(request, "first", 0);
    uint64_t loaded = number_of(request, "generation", 0);
    const char *cells = text_of(request, "cells", "");
    struct area *area;

    if (!disk || is_busy(text, room))
        return false;
    if (wrote_as_other(loaded)) {
        snprintf(text, room, "the guest wrote since it booted");
        return false;
    }
    area = area_at(disk, number_of(request, "start", 0),
                   number_of(request, "span", 0), unit, unit, text, room);
    if (!area)
        return false;
    generation = loaded;
    if (disk->sequence < sequence)
        disk->sequence = sequence;
    while (*cells && first < area->units) {
        char *next;

        area->cells[first].issued = (uint32_t)strtoul(cells, &next, 16);
        if (*next++ != '.')
            break;
        area->cells[first++].acked = (uint32_t)strtoul(next, &next, 16);
        cells = *next == ',' ? next + 1 : next;
    }
    snprintf(text, room, "next=%llu", (unsigned long long)first);
    return true;
}

static const struct verb {
    const char *name;
    bool (*act)(const struct request *request, char *text, size_t room);
} verbs[] = {
    {"ping", do_ping}, {"subscribe", do_subscribe}, {"write", do_write},
    {"stop", do_stop}, {"report", do_report}, {"verify", do_verify},
    {"zero", do_clear}, {"discard", do_clear}, {"digest", do_digest},
    {"job", do_job}, {"save", do_save}, {"load", do_load},
    {"reset", do_reset},
};

bool verb_act(const struct request *request, char *text, size_t room)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
        if (strcmp(verbs[i].name, request->verb) == 0)
            return verbs[i].act(request, text, room);
    snprintf(text, room, "unknown verb %.32s", request->verb);
    return false;
}
