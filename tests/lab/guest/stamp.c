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

#include <string.h>

#include "workload.h"

#define STAMP_MAGIC 0x314e454d53584d53ull
#define STAMP_SIZE sizeof(struct stamp)

/* The start of each sector; the rest of it is the fixed pattern. */
struct stamp {
    uint64_t magic, generation, sector;
    uint32_t disk, sequence;
    uint64_t seal;              /* ties the fields above to each other */
};

uint64_t generation, boot_id;

/*
 * The bytes after the stamp depend only on the sector's place in its unit,
 * so a writer fills its buffer once and a reader can compare every byte.
 */
static uint8_t filler[MAX_BLOCK];

static uint64_t seal_of(uint64_t sector, uint32_t sequence)
{
    return (generation ^ sector * 0x9e3779b97f4a7c15ull)
        + sequence * 0xc2b2ae3d27d4eb4full;
}

void stamp_init(void)
{
    uint64_t state = 88172645463325252ull;

    for (size_t at = 0; at < sizeof(filler); at += sizeof(state)) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        memcpy(filler + at, &state, sizeof(state));
    }
}

/* Fill a buffer with all that does not change from write to write. */
void stamp_prepare(uint8_t *buffer, size_t size, uint32_t unit,
                   uint32_t disk)
{
    for (size_t at = 0; at < size; at += SECTOR) {
        struct stamp *stamp = (struct stamp *)(buffer + at);

        memcpy(buffer + at, filler + at % unit, SECTOR);
        stamp->magic = STAMP_MAGIC;
        stamp->generation = generation;
        stamp->disk = disk;
    }
}

void stamp_number(uint8_t *buffer, size_t size, uint64_t first_sector,
                  uint32_t sequence)
{
    for (size_t at = 0; at < size; at += SECTOR) {
        struct stamp *stamp = (struct stamp *)(buffer + at);

        stamp->sector = first_sector + at / SECTOR;
        stamp->sequence = sequence;
        stamp->seal = seal_of(stamp->sector, sequence);
    }
}

static bool is_zero(const uint8_t *sector)
{
    return sector[0] == 0 && memcmp(sector, sector + 1, SECTOR - 1) == 0;
}

static bool is_ours(const uint8_t *sector, uint32_t disk, uint64_t number,
                    uint32_t index_in_unit)
{
    const struct stamp *stamp = (const struct stamp *)sector;

    return stamp->magic == STAMP_MAGIC && stamp->generation == generation
        && stamp->disk == disk && stamp->sector == number
        && stamp->seal == seal_of(number, stamp->sequence)
        && memcmp(sector + STAMP_SIZE,
                  filler + (size_t)index_in_unit * SECTOR + STAMP_SIZE,
                  SECTOR - STAMP_SIZE) == 0;
}

/*
 * Judge a sector that was read after `acked_before` and before
 * `issued_after` were taken from its cell, so that a writer may run.
 */
enum verdict stamp_judge(const uint8_t *sector, uint32_t disk,
                         uint64_t number, uint32_t index_in_unit,
                         uint32_t acked_before, uint32_t issued_after)
{
    if (is_ours(sector, disk, number, index_in_unit)) {
        uint32_t found = ((const struct stamp *)sector)->sequence;

        if (found < SEQUENCE(acked_before))
            return SECTOR_LOST;
        if (found > SEQUENCE(issued_after))
            return SECTOR_FUTURE;
        return SECTOR_GOOD;
    }
    if (acked_before == 0)      /* never acknowledged: anything may be here */
        return SECTOR_GOOD;
    if (is_zero(sector) && ((acked_before | issued_after) & ZEROED))
        return SECTOR_GOOD;
    return SECTOR_BAD;
}
