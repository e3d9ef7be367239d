/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "redis/link.h"

#include <string.h>

/* What a Redis server sends. What is taken for a whole reply, hiredis takes, too, and what it makes
 * of it is within the bounds; and it makes no difference in which pieces it came. */

static size_t count(const redisReply *r, unsigned depth)
{
    size_t n = 1;

    CM_ASSERT(depth <= REDIS_DEPTH_MAX);
    switch (r->type) {
    case REDIS_REPLY_ARRAY:
        for (size_t i = 0; i < r->elements; i++)
            n += count(r->element[i], depth + 1);
        break;
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:
        CM_ASSERT((size_t)r->len <= REDIS_BULK_MAX && r->str[r->len] == '\0');
        break;
    default:
        CM_ASSERT(r->type == REDIS_REPLY_INTEGER || r->type == REDIS_REPLY_NIL);
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct redis_sieve at_once = { 0 };
    struct redis_sieve slow = { 0 };
    struct cm_err err = CM_ERR_INIT;
    cm_status rc = CM_E_AGAIN;
    size_t len = 0, slow_len = 0;
    redisReply *reply = NULL;

    cm_status want = redis_sieve_look(&at_once, (struct cm_span){ data, size }, &len, &err);
    for (size_t n = 1; n <= size && rc == CM_E_AGAIN; n++) {
        uint8_t *piece = cm_calloc(1, n); /* its end is where ASan watches */

        CM_ASSERT(piece != NULL);
        memcpy(piece, data, n);
        rc = redis_sieve_look(&slow, (struct cm_span){ piece, n }, &slow_len, NULL);
        free(piece);
    }
    CM_ASSERT(rc == want && len == slow_len);
    if (want == CM_E_PARSE || want == CM_E_LIMIT)
        CM_ASSERT(err.status == want && err.msg[0] != '\0');
    if (want != CM_OK) {
        CM_ASSERT(want == CM_E_AGAIN || want == CM_E_PARSE || want == CM_E_LIMIT);
        return 0;
    }
    fuzz_reached();
    CM_ASSERT(len > 0 && len <= size);
    CM_ASSERT(redis_reply_read((struct cm_span){ data, len }, &reply, &err) == CM_OK);
    CM_ASSERT(count(reply, 0) <= at_once.elements + 1);
    (void)redis_is_error(reply, "MOVED");
    freeReplyObject(reply);
    return 0;
}
