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

/*
 * The lab guest's workload: writes stamped sectors to the guest's disks,
 * remembers in RAM what was issued and what was acknowledged, proves by
 * reading that every acknowledged write is there, and ticks to collectors.
 *
 *   stamp.c    what a sector looks like and how one that was read is judged
 *   disk.c     disks, and per area the table of issued/acknowledged writes
 *   writer.c   the threads that write
 *   job.c      what takes long: verify, zero, discard, digest
 *   tick.c     who gets ticks, and the ticks
 *   verbs.c    what each request does
 *   control.c  requests and replies over UDP
 */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <netinet/in.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTOR 512u
#define MAX_BLOCK (1u << 20)
#define MAX_DISKS 16
#define MAX_AREAS 8
#define MAX_WRITERS 16
#define MAX_THREADS 8
#define CONTROL_PORT 7007

/* The room for one request and for one reply: each is one datagram. */
#define REQUEST_MAX 4096
#define REPLY_MAX 4096

/* ---- stamp.c ------------------------------------------------------- */

/* The top bit of a sequence in the table: "this was written as zeros". */
#define ZEROED 0x80000000u
#define SEQUENCE(value) ((value) & ~ZEROED)

/*
 * One unit of an area. A sector of the unit must carry a sequence between
 * `acked` and `issued`: less is a lost write, more was never written.
 */
struct cell {
    _Atomic uint32_t issued;
    _Atomic uint32_t acked;
};

enum verdict { SECTOR_GOOD, SECTOR_LOST, SECTOR_FUTURE, SECTOR_BAD };

/*
 * Both are drawn at start. `generation` is in each sector and tells this
 * run's from those of earlier ones; a table that is loaded brings its own.
 */
extern uint64_t generation, boot_id;

void stamp_init(void);
void stamp_prepare(uint8_t *buffer, size_t size, uint32_t unit,
                   uint32_t disk);
void stamp_number(uint8_t *buffer, size_t size, uint64_t first_sector,
                  uint32_t sequence);
enum verdict stamp_judge(const uint8_t *sector, uint32_t disk,
                         uint64_t number, uint32_t index_in_unit,
                         uint32_t acked_before, uint32_t issued_after);

/* ---- disk.c -------------------------------------------------------- */

/* A range of a disk whose writes are remembered, one cell per unit. */
struct area {
    uint64_t start, span;
    uint32_t unit;
    uint64_t units;
    struct cell *cells;
};

struct disk {
    char name[8];
    uint32_t index;             /* vda is 0; stamped into each sector */
    int fd;                     /* O_RDWR | O_DIRECT, -1: not opened */
    uint64_t size;
    uint64_t reserved;          /* the boot file system at the start */
    struct area areas[MAX_AREAS];
    _Atomic int area_count;
    _Atomic uint32_t sequence;
    _Atomic uint64_t issued_bytes, acked_bytes, acked_writes, errors;
    _Atomic uint64_t worst_ns;  /* since the last tick */
};

extern struct disk disks[MAX_DISKS];
extern const char *config_drive;    /* for example /dev/sr0, or NULL */

bool disk_is_present(uint32_t index);
struct disk *disk_open(const char *name, char *why, size_t room);
struct area *area_at(struct disk *disk, uint64_t start, uint64_t span,
                     uint32_t unit, uint32_t block, char *why, size_t room);
void disks_forget(void);

/* ---- writer.c ------------------------------------------------------ */

enum pattern { SEQUENTIAL, UNIFORM, HOT_SET };

struct write_order {
    enum pattern pattern;
    uint32_t block;
    uint64_t rate;              /* bytes per second, 0: as fast as it goes */
    uint32_t threads;
    uint32_t sync_every;        /* fdatasync after so many writes, 0: never */
    uint64_t start, span;
};

int writer_start(struct disk *disk, struct area *area,
                 const struct write_order *order, char *why, size_t room);
void writer_stop(int slot);     /* -1: all; returns before they ended */
int writer_threads(int slot);   /* how many still run, -1: of all */
bool writer_overlaps(const struct disk *disk, uint64_t start, uint64_t span);
uint64_t writer_oldest_ns(const struct disk *disk, uint64_t now);

/* ---- job.c --------------------------------------------------------- */

enum job_kind { JOB_VERIFY, JOB_ZERO, JOB_DISCARD, JOB_DIGEST };

struct job_order {
    enum job_kind kind;
    struct disk *disk;          /* NULL: all, for verify */
    struct area *area;          /* for zero and discard, may be NULL */
    uint64_t start, span;
};

int job_start(const struct job_order *order, char *why, size_t room);
bool job_running(void);
bool job_is_clearing(void);
/* False: the job failed, or the number is not the last job's. */
bool job_report(int number, char *text, size_t room);

/* ---- tick.c -------------------------------------------------------- */

void tick_subscribe(const struct sockaddr_in *who, uint32_t interval_ms,
                    uint32_t lease_s);
void tick_start(int socket_fd);

/* ---- verbs.c ------------------------------------------------------- */

#define MAX_ARGUMENTS 24

struct request {
    char *client, *number, *verb;
    char *keys[MAX_ARGUMENTS], *values[MAX_ARGUMENTS];
    int count;
    struct sockaddr_in from;
};

bool verb_act(const struct request *request, char *text, size_t room);

/* ---- control.c ----------------------------------------------------- */

void control_loop(int socket_fd) __attribute__((noreturn));

/* ---- workload.c ---------------------------------------------------- */

uint64_t now_ns(void);
void console(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* ---- sha256.c ------------------------------------------------------ */

struct sha256 {
    uint32_t state[8];
    uint64_t length;
    uint8_t block[64];
};

void sha256_begin(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const uint8_t *data, size_t size);
void sha256_end(struct sha256 *hash, char hex[65]);

#endif
