/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <string.h>

/* Many values in few round trips: pipelines of GET. How many go into one follows from how large the
 * last ones were, also those of the call before, so that what is under way stays in the order of
 * BYTES_AIM. In a cluster a pipeline holds what lies in one slot. */

#define BATCH_MAX   256u
#define BATCH_FIRST 8u
#define BYTES_AIM   (4u * 1024 * 1024)

struct many {
    struct redis_storage *rs;
    const struct cm_op *op;
    const char *const *keys;
    cm_load_fn each;
    void *user;
};

/* Keys in the order in which they are asked for. */
struct turn {
    size_t index;
    unsigned slot;
};

static int by_slot(const void *a, const void *b)
{
    const struct turn *x = a;
    const struct turn *y = b;

    if (x->slot != y->slot)
        return x->slot < y->slot ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static cm_status value_of(const struct many *m, const char *key, const redisReply *r,
                          struct cm_buf *out, struct cm_err *why)
{
    if (r->type == REDIS_REPLY_NIL)
        return cm_fail(why, CM_E_NOTFOUND, "there is no value at '%s'", key);
    if (rds_is_error(r, "WRONGTYPE")) /* rare: asked once more, by itself */
        return rds_load(&m->rs->base, m->op, key, out, why);
    if (r->type == REDIS_REPLY_ERROR)
        return rds_refused(r, key, why);
    if (r->type != REDIS_REPLY_STRING)
        return rds_odd(key, why);
    return rds_value_decode(&m->rs->codec, key, (struct cm_span){ (const uint8_t *)r->str, r->len },
                            out, why);
}

static cm_status hand_out(const struct many *m, size_t index, const redisReply *r,
                          struct cm_buf *value, struct cm_err *err)
{
    struct cm_err why = CM_ERR_INIT;
    cm_status rc = cm_op_check(m->op, err);

    if (rc != CM_OK)
        return rc;
    cm_buf_reset(value);
    rc = value_of(m, m->keys[index], r, value, &why);
    return m->each(m->user, index, rc, rc == CM_OK ? cm_buf_span(value) : (struct cm_span){ 0 },
                   &why, err);
}

/* GET for each; what they point at is in @names. */
static cm_status put_commands(const struct many *m, const struct turn *turns, size_t n,
                              struct cm_buf *names, struct rds_args *args,
                              struct redis_command *commands, struct cm_err *err)
{
    size_t at[BATCH_MAX];
    char name[RDS_NAME_MAX];
    cm_status rc = CM_OK;

    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        at[i] = names->len;
        rc = rds_name(m->rs, m->keys[turns[i].index], name, err);
        if (rc == CM_OK)
            rc = cm_buf_append(names, name, strlen(name) + 1, err);
    }
    for (size_t i = 0; i < n && rc == CM_OK; i++) { /* it stays where it is from here on */
        rds_arg(&args[i], "GET");
        rds_arg(&args[i], cm_buf_str(names) + at[i]);
        commands[i] = rds_command(&args[i]);
    }
    return rc;
}

static cm_status batch(const struct many *m, const struct turn *turns, size_t n, size_t *ret_bytes,
                       bool *ret_handed, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf value = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
    CM_AUTO_BUF struct cm_buf names = CM_BUF_INIT(BATCH_MAX * RDS_NAME_MAX);
    CM_AUTO_FREE struct rds_args *args = cm_calloc(n, sizeof *args);
    struct redis_command commands[BATCH_MAX];
    redisReply *replies[BATCH_MAX];
    cm_status rc = CM_OK;

    if (args == NULL)
        return cm_fail_nomem(err);
    rc = put_commands(m, turns, n, &names, args, commands, err);
    if (rc == CM_OK)
        rc = redis_call(m->rs->link, m->op, cm_buf_str(&names), true, commands, n, replies, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "load '%s' and %zu more", m->keys[turns[0].index], n - 1);
    *ret_bytes = 0;
    *ret_handed = true;
    for (size_t i = 0; i < n; i++) {
        *ret_bytes += replies[i]->len;
        if (rc == CM_OK)
            rc = hand_out(m, turns[i].index, replies[i], &value, err);
        rds_reply_free(replies[i]);
    }
    return rc;
}

static size_t next_size(size_t n, size_t bytes)
{
    size_t each = bytes / n + 1;
    size_t fits = BYTES_AIM / each;

    if (fits > 2 * n)
        fits = 2 * n;
    return fits < 1 ? 1 : fits > BATCH_MAX ? BATCH_MAX : fits;
}

cm_status rds_load_many(struct cm_storage *st, const struct cm_op *op, const char *const *keys,
                        size_t n, cm_load_fn each, void *user, struct cm_err *err)
{
    struct many m = { rds_of(st), op, keys, each, user };
    CM_AUTO_FREE struct turn *turns = cm_calloc(n, sizeof *turns);
    size_t size = atomic_load(&m.rs->batch);
    char name[RDS_NAME_MAX];
    cm_status rc = CM_OK;

    if (turns == NULL)
        return cm_fail_nomem(err);
    if (size == 0)
        size = BATCH_FIRST;
    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        turns[i].index = i;
        rc = m.rs->scripted ? CM_OK : rds_name(m.rs, keys[i], name, err);
        if (rc == CM_OK && !m.rs->scripted)
            turns[i].slot = redis_slot(name, strlen(name));
    }
    if (rc == CM_OK && !m.rs->scripted)
        qsort(turns, n, sizeof *turns, by_slot);
    for (size_t at = 0; at < n && rc == CM_OK;) {
        size_t take = 1;
        size_t bytes = 0;
        bool handed = false;

        while (take < size && at + take < n && turns[at + take].slot == turns[at].slot)
            take++;
        rc = batch(&m, turns + at, take, &bytes, &handed, err);
        if (rc == CM_E_LIMIT && !handed && take > 1) { /* more than a reply may have: fewer */
            size = take / 2;
            rc = CM_OK;
            continue;
        }
        if (rc == CM_OK)
            size = next_size(take, bytes) > size || take == size ? next_size(take, bytes) : size;
        at += take;
    }
    if (rc == CM_OK)
        atomic_store(&m.rs->batch, (unsigned)size);
    return rc;
}
