/* SPDX-License-Identifier: Apache-2.0 */
#include "history.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* What those who make a history and those who look at it share. */

cm_status history_open(const struct history_plan *plan, struct cm_storage **ret, struct cm_err *err)
{
    return plan->open != NULL ? plan->open(ret, err) : cm_storage_open(plan->url, NULL, ret, err);
}

int64_t history_now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * CM_NS_PER_S + ts.tv_nsec;
}

uint64_t history_random(uint64_t *state, uint64_t below)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15); /* splitmix64 */

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (z ^ (z >> 31)) % below;
}

void history_lock_name(unsigned lock, char *out, size_t size)
{
    (void)snprintf(out, size, "history_%u", lock);
}

void history_key(unsigned lock, unsigned i, char *out, size_t size)
{
    (void)snprintf(out, size, "history/%u/%c", lock, (char)('a' + i));
}

int64_t history_ttl_ns(const struct history_plan *plan, unsigned lock)
{
    return lock % 2 == 0 || plan->leases_only ? plan->ttl_ns : 10 * CM_NS_PER_S;
}

/* "<id> <turn>"; 0 0 when absent. */
static cm_status read_key(struct cm_storage *st, unsigned lock, unsigned i, uint64_t *ret_id,
                          uint64_t *ret_turn, struct cm_err *err)
{
    struct cm_buf value = CM_BUF_INIT(256);
    char key[64];
    cm_status rc;

    history_key(lock, i, key, sizeof key);
    rc = cm_storage_load(st, NULL, key, &value, err);
    *ret_id = 0;
    *ret_turn = 0;
    if (rc == CM_OK && sscanf(cm_buf_str(&value), "%" SCNu64 " %" SCNu64, ret_id, ret_turn) != 2)
        rc = cm_fail(err, CM_E_PARSE, "'%s' holds '%s'", key, cm_buf_str(&value));
    cm_buf_free(&value);
    return rc == CM_E_NOTFOUND ? CM_OK : rc;
}

cm_status history_read_all(struct cm_storage *st, unsigned lock, uint64_t *ret_id,
                           uint64_t *ret_turn, bool *ret_torn, struct cm_err *err)
{
    cm_status rc = read_key(st, lock, 0, ret_id, ret_turn, err);

    *ret_torn = false;
    for (unsigned i = 1; i <= HISTORY_KEYS && rc == CM_OK; i++) {
        uint64_t id = 0;
        uint64_t turn = 0;
        /* Of an even turn the last key was removed. */
        uint64_t want = i < HISTORY_KEYS || *ret_turn % 2 == 1 ? *ret_id : 0;

        rc = read_key(st, lock, i, &id, &turn, err);
        if (id != want)
            *ret_torn = true;
    }
    return rc;
}

void history_log(int fd, uint64_t who, const char *event, const struct history_event *e)
{
    char line[200];
    int n =
        snprintf(line, sizeof line,
                 "%" PRId64 " %" PRIu64 " %s %u %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                 history_now_ns(), who, event, e->lock, e->fence, e->id, e->prev, e->extra);

    if (n <= 0 || n >= (int)sizeof line || write(fd, line, (size_t)n) != n) {
        perror("history: cannot write the history");
        _exit(3);
    }
}
