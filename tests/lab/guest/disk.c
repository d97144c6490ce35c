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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "workload.h"

/* build.py gives the boot file system this FAT16 label. */
#define BOOT_LABEL "SXMBOOT"
#define FAT_LABEL_AT 43
#define FAT_SECTORS_AT 32

struct disk disks[MAX_DISKS] = {[0 ... MAX_DISKS - 1] = {.fd = -1}};
const char *config_drive;

/*
 * The bytes at the start of the disk that the guest boots from. They are
 * never written: a server must be able to boot again after a move.
 */
static uint64_t boot_bytes(int fd)
{
    uint8_t *sector;
    uint64_t bytes = 0;

    if (posix_memalign((void **)&sector, 4096, 4096))
        return 0;
    if (pread(fd, sector, 4096, 0) == 4096
        && memcmp(sector + FAT_LABEL_AT, BOOT_LABEL,
                  strlen(BOOT_LABEL)) == 0) {
        uint32_t sectors;

        memcpy(&sectors, sector + FAT_SECTORS_AT, sizeof(sectors));
        bytes = (uint64_t)sectors * SECTOR;
    }
    free(sector);
    return bytes;
}

bool disk_is_present(uint32_t index)
{
    char path[32];

    snprintf(path, sizeof(path), "/sys/block/vd%c", 'a' + (int)index);
    return access(path, F_OK) == 0;
}

/* Open a disk by name ("vda") or return it opened; NULL and `why` if not. */
struct disk *disk_open(const char *name, char *why, size_t room)
{
    char path[16];
    struct disk *disk;

    if (strlen(name) != 3 || memcmp(name, "vd", 2) != 0 || name[2] < 'a'
        || name[2] >= 'a' + MAX_DISKS) {
        snprintf(why, room, "disk %s: only vda to vd%c are known", name,
                 'a' + MAX_DISKS - 1);
        return NULL;
    }
    snprintf(path, sizeof(path), "/dev/%s", name);
    if (config_drive && strcmp(path, config_drive) == 0) {
        snprintf(why, room, "disk %s is the config drive", name);
        return NULL;
    }
    disk = &disks[name[2] - 'a'];
    if (disk->fd < 0) {
        int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);

        if (fd < 0) {
            snprintf(why, room, "open %s: %s", path, strerror(errno));
            return NULL;
        }
        strcpy(disk->name, name);
        disk->index = (uint32_t)(name[2] - 'a');
        disk->reserved = boot_bytes(fd);
        disk->fd = fd;
    }
    if (ioctl(disk->fd, BLKGETSIZE64, &disk->size) < 0) {
        snprintf(why, room, "size of %s: %s", path, strerror(errno));
        return NULL;
    }
    return disk;
}

static struct area *area_add(struct disk *disk, uint64_t start,
                             uint64_t span, uint32_t unit, char *why,
                             size_t room)
{
    int count = disk->area_count;
    struct area *area = &disk->areas[count];
    uint64_t bytes = span / unit * sizeof(struct cell);
    struct sysinfo memory;

    if (count == MAX_AREAS) {
        snprintf(why, room, "%s has %d areas already: reset first",
                 disk->name, count);
        return NULL;
    }
    sysinfo(&memory);
    if (bytes > memory.freeram * (uint64_t)memory.mem_unit / 2) {
        snprintf(why, room, "the table of %s would take %llu KiB of %llu KiB"
                 " free memory: take a larger unit or a smaller span",
                 disk->name, (unsigned long long)bytes >> 10,
                 (unsigned long long)memory.freeram * memory.mem_unit >> 10);
        return NULL;
    }
    area->cells = calloc(span / unit, sizeof(struct cell));
    if (!area->cells) {
        snprintf(why, room, "no memory for the table of %s", disk->name);
        return NULL;
    }
    area->start = start;
    area->span = span;
    area->unit = unit;
    area->units = span / unit;
    disk->area_count = count + 1;   /* last: ticks and jobs read it */
    return area;
}

/*
 * The area that holds the range, made if no area touches it. One unit has
 * one history, so a range that only partly lies in an area, or whose
 * blocks do not fall on the area's units, is refused.
 */
struct area *area_at(struct disk *disk, uint64_t start, uint64_t span,
                     uint32_t unit, uint32_t block, char *why, size_t room)
{
    if (unit == 0 || unit % SECTOR || unit > MAX_BLOCK || block % unit
        || start % SECTOR || span == 0 || span % block) {
        snprintf(why, room, "unit %u, block %u, start %llu, span %llu: units"
                 " are multiples of %u up to %u, blocks of the unit, the"
                 " span of the block", unit, block,
                 (unsigned long long)start, (unsigned long long)span,
                 SECTOR, MAX_BLOCK);
        return NULL;
    }
    if (start < disk->reserved || start > disk->size
        || span > disk->size - start) {
        snprintf(why, room, "range %llu+%llu of %s is outside %llu..%llu",
                 (unsigned long long)start, (unsigned long long)span,
                 disk->name, (unsigned long long)disk->reserved,
                 (unsigned long long)disk->size);
        return NULL;
    }
    for (int i = 0; i < disk->area_count; i++) {
        struct area *area = &disk->areas[i];
        uint64_t end = area->start + area->span;

        if (start + span <= area->start || start >= end)
            continue;
        if (start >= area->start && start + span <= end
            && (start - area->start) % area->unit == 0
            && block % area->unit == 0)
            return area;
        snprintf(why, room, "range %llu+%llu with blocks of %u overlaps"
                 " range %llu+%llu of %s with units of %u: reset first",
                 (unsigned long long)start, (unsigned long long)span, block,
                 (unsigned long long)area->start,
                 (unsigned long long)area->span, disk->name, area->unit);
        return NULL;
    }
    return area_add(disk, start, span, unit, why, room);
}

/* Forget all that was written. No writer and no job may run. */
void disks_forget(void)
{
    for (int i = 0; i < MAX_DISKS; i++) {
        struct disk *disk = &disks[i];
        int count = disk->area_count;

        disk->area_count = 0;
        for (int k = 0; k < count; k++)
            free(disk->areas[k].cells);
        if (disk->fd >= 0)
            close(disk->fd);
        disk->fd = -1;
    }
}
