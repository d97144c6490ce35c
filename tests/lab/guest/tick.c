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
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "workload.h"

#define MAX_SUBSCRIBERS 8
#define TICK_MAGIC 0x544d5853u
#define TICK_VERSION 1
/* With nobody to send to, look for subscribers this often. */
#define IDLE_INTERVAL_MS 200u
#define SECOND_NS 1000000000ull
/* So many ticks `worst_recent_us` looks back: it outlives lost packets. */
#define RECENT 128

/* Little endian, packed; tests/lab/guest/protocol.py reads it. */
struct tick_disk {
    uint32_t index, errors;
    uint64_t acked_bytes;
    uint32_t worst_us, oldest_us;
} __attribute__((packed));

struct tick {
    uint32_t magic;
    uint16_t version, disk_count;
    uint64_t boot_id, number, guest_us;
    uint64_t acked_bytes, acked_writes, issued_bytes;
    uint32_t errors, threads;
    uint32_t worst_us, worst_recent_us, oldest_us;
    struct tick_disk disks[MAX_DISKS];
} __attribute__((packed));

struct subscriber {
    struct sockaddr_in address;
    uint32_t interval_ms;
    uint64_t until;
};

static struct subscriber subscribers[MAX_SUBSCRIBERS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool same_address(const struct sockaddr_in *a,
                         const struct sockaddr_in *b)
{
    return a->sin_addr.s_addr == b->sin_addr.s_addr
        && a->sin_port == b->sin_port;
}

/* Renew or add; with no room the one that ends first gives way. */
void tick_subscribe(const struct sockaddr_in *who, uint32_t interval_ms,
                    uint32_t lease_s)
{
    struct subscriber *place = &subscribers[0];

    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_SUBSCRIBERS; i++) {
        if (same_address(&subscribers[i].address, who)) {
            place = &subscribers[i];
            break;
        }
        if (subscribers[i].until < place->until)
            place = &subscribers[i];
    }
    place->address = *who;
    place->interval_ms = interval_ms;
    place->until = now_ns() + lease_s * SECOND_NS;
    pthread_mutex_unlock(&lock);
}

static uint32_t microseconds(uint64_t ns)
{
    return ns / 1000 > UINT32_MAX ? UINT32_MAX : (uint32_t)(ns / 1000);
}

static uint32_t worst_recent(uint64_t number, uint32_t worst)
{
    static uint32_t recent[RECENT];
    uint32_t most = 0;

    recent[number % RECENT] = worst;
    for (int i = 0; i < RECENT; i++)
        if (recent[i] > most)
            most = recent[i];
    return most;
}

/* Returns the size to send: disks that were never written are left out. */
static size_t tick_fill(struct tick *tick, uint64_t number)
{
    uint64_t now = now_ns();

    memset(tick, 0, sizeof(*tick));
    tick->magic = TICK_MAGIC;
    tick->version = TICK_VERSION;
    tick->boot_id = boot_id;
    tick->number = number;
    tick->guest_us = now / 1000;
    tick->threads = (uint32_t)writer_threads(-1);
    for (int i = 0; i < MAX_DISKS; i++) {
        struct disk *disk = &disks[i];
        struct tick_disk *entry = &tick->disks[tick->disk_count];

        if (disk->issued_bytes == 0)
            continue;
        entry->index = disk->index;
        entry->errors = (uint32_t)disk->errors;
        entry->acked_bytes = disk->acked_bytes;
        entry->worst_us = microseconds(
            atomic_exchange(&disk->worst_ns, 0));
        entry->oldest_us = microseconds(writer_oldest_ns(disk, now));
        tick->acked_bytes += entry->acked_bytes;
        tick->acked_writes += disk->acked_writes;
        tick->issued_bytes += disk->issued_bytes;
        tick->errors += entry->errors;
        if (entry->worst_us > tick->worst_us)
            tick->worst_us = entry->worst_us;
        if (entry->oldest_us > tick->oldest_us)
            tick->oldest_us = entry->oldest_us;
        tick->disk_count++;
    }
    tick->worst_recent_us = worst_recent(number, tick->worst_us);
    return offsetof(struct tick, disks)
        + tick->disk_count * sizeof(struct tick_disk);
}

/* Send to all who still listen; returns the interval that they want. */
static uint32_t tick_send(int fd, const struct tick *tick, size_t size)
{
    uint32_t interval_ms = 0;
    uint64_t now = now_ns();

    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_SUBSCRIBERS; i++) {
        struct subscriber *one = &subscribers[i];

        if (one->until < now)
            continue;
        /* A tick that cannot be sent is lost, as one in the network is. */
        sendto(fd, tick, size, MSG_DONTWAIT,
               (struct sockaddr *)&one->address, sizeof(one->address));
        if (interval_ms == 0 || one->interval_ms < interval_ms)
            interval_ms = one->interval_ms;
    }
    pthread_mutex_unlock(&lock);
    return interval_ms ? interval_ms : IDLE_INTERVAL_MS;
}

static void *tick_on(void *argument)
{
    int fd = *(int *)argument;
    uint64_t number = 0, next = now_ns();
    struct tick tick;

    for (;;) {
        size_t size = tick_fill(&tick, number++);
        uint32_t interval_ms = tick_send(fd, &tick, size);
        struct timespec until;

        next += interval_ms * 1000000ull;
        if (next < now_ns())    /* late: no burst to make up for it */
            next = now_ns() + interval_ms * 1000000ull;
        until.tv_sec = (time_t)(next / SECOND_NS);
        until.tv_nsec = (long)(next % SECOND_NS);
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
    return NULL;
}

/* Ticks run before all else: a gap must mean that the guest stood still. */
void tick_start(int socket_fd)
{
    static int fd;
    struct sched_param priority = {.sched_priority = 50};
    pthread_attr_t attributes;
    pthread_t handle;

    fd = socket_fd;
    pthread_attr_init(&attributes);
    pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy(&attributes, SCHED_FIFO);
    pthread_attr_setschedparam(&attributes, &priority);
    if (pthread_create(&handle, &attributes, tick_on, &fd)
        && pthread_create(&handle, NULL, tick_on, &fd))
        console("no ticks: cannot start a thread");
}
