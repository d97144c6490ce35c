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
 * Requests: "SXM1 CLIENT NUMBER VERB key=value ...", replies: "SXM1 CLIENT
 * NUMBER ok key=value ..." or "... error TEXT", one datagram each. A client
 * repeats a request until it is answered, so the last replies are kept and
 * a request that was answered before is answered the same and not done
 * again.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "workload.h"

#define KEPT 64
#define TAG "SXM1"

struct kept_reply {
    char client[24], number[24];
    size_t size;
    char text[REPLY_MAX];
};

static struct kept_reply kept[KEPT];

/* Split in place; false if it is no request of ours. */
static bool parse(char *line, struct request *request)
{
    char *rest, *word = strtok_r(line, " \n", &rest);

    if (!word || strcmp(word, TAG) != 0)
        return false;
    request->client = strtok_r(NULL, " \n", &rest);
    request->number = strtok_r(NULL, " \n", &rest);
    request->verb = strtok_r(NULL, " \n", &rest);
    request->count = 0;
    while ((word = strtok_r(NULL, " \n", &rest))
           && request->count < MAX_ARGUMENTS) {
        char *equals = strchr(word, '=');

        if (!equals)
            return false;
        *equals = 0;
        request->keys[request->count] = word;
        request->values[request->count++] = equals + 1;
    }
    return request->client && request->number && request->verb
        && strlen(request->client) < sizeof(kept[0].client)
        && strlen(request->number) < sizeof(kept[0].number);
}

static struct kept_reply *kept_for(const struct request *request)
{
    for (int i = 0; i < KEPT; i++)
        if (kept[i].size && strcmp(kept[i].client, request->client) == 0
            && strcmp(kept[i].number, request->number) == 0)
            return &kept[i];
    return NULL;
}

static void act(const struct request *request, struct kept_reply *reply)
{
    char text[REPLY_MAX - 128] = "";
    bool good = verb_act(request, text, sizeof(text));

    strcpy(reply->client, request->client);
    strcpy(reply->number, request->number);
    reply->size = (size_t)snprintf(
        reply->text, sizeof(reply->text), TAG " %s %s %s %s",
        request->client, request->number, good ? "ok" : "error", text);
}

void control_loop(int socket_fd)
{
    static char line[REQUEST_MAX + 1];
    unsigned next = 0;

    for (;;) {
        struct request request;
        struct kept_reply *reply;
        socklen_t length = sizeof(request.from);
        ssize_t got = recvfrom(socket_fd, line, REQUEST_MAX, 0,
                               (struct sockaddr *)&request.from, &length);

        if (got <= 0)
            continue;
        line[got] = 0;
        if (!parse(line, &request))
            continue;
        reply = kept_for(&request);
        if (!reply) {
            reply = &kept[next++ % KEPT];
            act(&request, reply);
        }
        sendto(socket_fd, reply->text, reply->size, 0,
               (struct sockaddr *)&request.from, length);
    }
}
