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

/* workload [--config-drive DEVICE] [--port PORT]: see workload.h */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "workload.h"

/* Do not wait for the kernel's entropy: early in a boot it takes long. */
#define GRND_INSECURE_FLAG 4

/* assemble.sh makes it. This program overwrites whatever disks it finds. */
#define LAB_GUEST_MARK "/lab-guest"

uint64_t now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000ull + (uint64_t)time.tv_nsec;
}

void console(const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    printf("SXM: %.3f %s\n", (double)now_ns() / 1e9, text);
    fflush(stdout);
}

static uint64_t draw(void)
{
    uint64_t value;

    if (getrandom(&value, sizeof(value), GRND_INSECURE_FLAG)
        != sizeof(value))
        value = now_ns();
    return value | 1;           /* never 0 */
}

static int open_socket(uint16_t port)
{
    struct sockaddr_in any = {
        .sin_family = AF_INET, .sin_port = htons(port),
    };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0) {
        console("UDP port %u: %s", port, strerror(errno));
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config-drive", required_argument, NULL, 'c'},
        {"port", required_argument, NULL, 'p'},
        {0},
    };
    uint16_t port = CONTROL_PORT;
    int option, fd;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'c')
            config_drive = optarg;
        else if (option == 'p')
            port = (uint16_t)atoi(optarg);
        else
            return 2;
    }
    if (access(LAB_GUEST_MARK, F_OK) != 0) {
        fprintf(stderr, "there is no %s: this is no lab guest, and its"
                " disks are not mine to write to\n", LAB_GUEST_MARK);
        return 1;
    }
    boot_id = generation = draw();
    stamp_init();
    fd = open_socket(port);
    tick_start(fd);
    console("ready on port %u, config drive %s", port,
            config_drive ? config_drive : "none");
    control_loop(fd);
}
