/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <stdio.h>
#include <string.h>

/* Listing: the names come from the index, and for each one is asked whether there is anything
 * behind it, since a peer that died between index and value leaves a name alone. Of values only the
 * end is fetched, where their size and time are. */

#define BATCH 128u

struct walk {
    struct redis_storage *rs;
    const struct cm_op *op;
    const char *after; /* NULL: all */
    cm_list_fn each;
    void *user;
    bool recursive;
};

/* One child, before it is handed out. */
struct child {
    char key[CM_STORAGE_KEY_MAX + 1];
    char *name; /* NULL: nothing that may be shown */
    bool directory;
    bool asked; /* about what is behind the name */
    struct rds_args args;
    redisReply *reply;
};

static cm_status child_make(const struct walk *w, const char *dir, const struct rds_member *m,
                            struct child *c, struct cm_err *err)
{
    char name[RDS_NAME_MAX];
    int n = snprintf(c->key, sizeof c->key, "%s%s%s", dir, dir[0] != '\0' ? "/" : "", m->name);

    memset(&c->args, 0, sizeof c->args);
    c->directory = m->directory;
    c->asked = false;
    if (n <= 0 || (size_t)n >= sizeof c->key ||
        (w->after != NULL && storage_list_skips(w->after, c->key, c->directory, w->recursive)) ||
        cm_storage_key_check(c->key, false, NULL) != CM_OK ||
        rds_name(w->rs, c->key, name, NULL) != CM_OK)
        return CM_OK;
    c->name = cm_strdup(name);
    if (c->name == NULL)
        return cm_fail_nomem(err);
    if (c->directory && w->recursive)
        return CM_OK;
    c->asked = true;
    rds_arg(&c->args, c->directory ? "ZREVRANGE" : "GETRANGE");
    rds_arg(&c->args, c->name);
    rds_arg(&c->args, c->directory ? "0" : "-200");
    rds_arg(&c->args, c->directory ? "0" : "-1");
    if (c->directory)
        rds_arg(&c->args, "WITHSCORES");
    return CM_OK;
}

static void child_clear(struct child *c)
{
    rds_reply_free(c->reply);
    free(c->name);
    c->reply = NULL;
    c->name = NULL;
}

_Static_assert(RDS_FACTS_TAIL == 200, "child_make() asks for as much");

/* Ask about all of them; names of several slots cannot be asked about at once. */
static cm_status ask(const struct walk *w, struct child *c, size_t n, struct cm_err *err)
{
    struct redis_command commands[BATCH];
    redisReply *replies[BATCH];
    size_t at[BATCH];
    size_t from = 0;

    while (from < n) {
        size_t m = 0;

        for (; from < n && (w->rs->scripted || m == 0); from++)
            if (c[from].asked) {
                at[m] = from;
                commands[m++] = rds_command(&c[from].args);
            }
        if (m == 0)
            break;
        cm_status rc =
            redis_call(w->rs->link, w->op, c[at[0]].name, true, commands, m, replies, err);
        if (rc != CM_OK)
            return rc;
        for (size_t i = 0; i < m; i++)
            c[at[i]].reply = replies[i];
    }
    return CM_OK;
}

static cm_status facts_of(const struct walk *w, const struct child *c, struct rds_facts *ret,
                          struct cm_err *err)
{
    struct cm_span tail = { (const uint8_t *)c->reply->str, c->reply->len };
    struct cm_key_info info;

    if (rds_value_tail_facts(tail, ret))
        return CM_OK;
    cm_status rc = rds_stat(&w->rs->base, w->op, c->key, &info, err);
    if (rc == CM_E_PARSE) { /* damaged, but there: whoever loads it learns why */
        *ret = (struct rds_facts){ 0, 0 };
        return CM_OK;
    }
    if (rc == CM_OK)
        *ret = (struct rds_facts){ info.modified_ns, info.size };
    return rc;
}

static cm_status show_value(const struct walk *w, const struct child *c, struct cm_err *err)
{
    struct cm_key_info info = { .key = c->key, .terminal = true };
    struct rds_facts facts;

    if (c->reply->type == REDIS_REPLY_ERROR && !rds_is_error(c->reply, "WRONGTYPE"))
        return rds_refused(c->reply, "list", err);
    if (c->reply->type != REDIS_REPLY_STRING || c->reply->len == 0)
        return CM_OK;
    cm_status rc = facts_of(w, c, &facts, err);
    if (rc == CM_E_NOTFOUND) /* gone since */
        return CM_OK;
    if (rc != CM_OK)
        return rc;
    info.modified_ns = facts.modified_ns;
    info.size = facts.size;
    return w->each(w->user, &info, err);
}

static cm_status show_directory(const struct walk *w, const struct child *c, struct cm_err *err)
{
    struct cm_key_info info = { .key = c->key };
    const redisReply *r = c->reply;

    if (r->type == REDIS_REPLY_ERROR && !rds_is_error(r, "WRONGTYPE"))
        return rds_refused(r, "list", err);
    if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
        r->element[1]->type != REDIS_REPLY_STRING)
        return CM_OK;
    double s = strtod(r->element[1]->str, NULL);
    info.modified_ns = s > 0 && s < 9e9 ? (int64_t)s * CM_NS_PER_S : 0;
    return w->each(w->user, &info, err);
}

static cm_status walk_dir(const struct walk *w, const char *dir, struct cm_err *err);

static cm_status show(const struct walk *w, struct child *c, size_t n, struct cm_err *err)
{
    cm_status rc = ask(w, c, n, err);

    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        if (c[i].name == NULL)
            continue;
        rc = cm_op_check(w->op, err);
        if (rc == CM_OK && !c[i].directory)
            rc = show_value(w, &c[i], err);
        else if (rc == CM_OK && w->recursive)
            rc = walk_dir(w, c[i].key, err);
        else if (rc == CM_OK)
            rc = show_directory(w, &c[i], err);
    }
    for (size_t i = 0; i < n; i++)
        child_clear(&c[i]);
    return rc;
}

static cm_status members_of(const struct walk *w, const char *dir, struct rds_members *ret,
                            struct cm_err *err)
{
    char name[RDS_NAME_MAX];
    cm_status rc = rds_name(w->rs, dir, name, err);

    return rc == CM_OK ? rds_members(w->rs, w->op, name, ret, err) : rc;
}

/* As deep as a key has components; so what each level holds is kept small. */
static cm_status walk_dir(const struct walk *w, const char *dir, struct cm_err *err)
{
    struct rds_members m = { .n = 0 };
    struct child *batch = NULL;
    size_t size;
    cm_status rc = members_of(w, dir, &m, err);

    size = m.n < BATCH ? m.n : BATCH;
    if (rc == CM_OK && size > 0) {
        batch = cm_calloc(size, sizeof *batch);
        if (batch == NULL)
            rc = cm_fail_nomem(err);
    }
    for (size_t at = 0; at < m.n && rc == CM_OK;) {
        size_t n = 0;

        for (; rc == CM_OK && n < size && at < m.n; at++)
            rc = child_make(w, dir, &m.at[at], &batch[n++], err);
        if (rc == CM_OK)
            rc = show(w, batch, n, err);
    }
    for (size_t i = 0; batch != NULL && i < size; i++)
        child_clear(&batch[i]);
    free(batch);
    rds_members_free(&m);
    return rc;
}

cm_status rds_list(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                   bool recursive, cm_list_fn each, void *user, struct cm_err *err)
{
    return rds_list_after(st, op, prefix, NULL, recursive, each, user, err);
}

cm_status rds_list_after(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                         const char *after, bool recursive, cm_list_fn each, void *user,
                         struct cm_err *err)
{
    struct redis_storage *rs = rds_of(st);
    struct walk w = { rs, op, after, each, user, recursive };

    return walk_dir(&w, prefix, err);
}
